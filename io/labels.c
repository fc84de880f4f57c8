/* From fields to people: header or two columns, sex, splits, doubled rows. See labels.h. */
#include "io/labels.h"

#include "io/dataset_format.h"
#include "io/labels_text.h"
#include "runtime/core/log.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef enum { SAMPLE, POPULATION, SUPERPOPULATION, LABEL, SEX, FAMILY, SPLIT, COLUMNS } column;

/* How people head these columns (1000 Genomes, PLINK, spreadsheets), in any case. */
static const struct {
    const char *name;
    column means;
} headings[] = {
    {"sample", SAMPLE},
    {"#sample", SAMPLE},
    {"sample_id", SAMPLE},
    {"sample id", SAMPLE},
    {"sample_name", SAMPLE},
    {"sample name", SAMPLE},
    {"sampleid", SAMPLE},
    {"iid", SAMPLE},
    {"#iid", SAMPLE},
    {"individual", SAMPLE},
    {"population", POPULATION},
    {"pop", POPULATION},
    {"population code", POPULATION},
    {"population_code", POPULATION},
    {"superpopulation", SUPERPOPULATION},
    {"super_population", SUPERPOPULATION},
    {"super population", SUPERPOPULATION},
    {"super_pop", SUPERPOPULATION},
    {"superpop", SUPERPOPULATION},
    {"superpopulation code", SUPERPOPULATION},
    {"superpopulation_code", SUPERPOPULATION},
    {"label", LABEL},
    {"ancestry", LABEL},
    {"sex", SEX},
    {"gender", SEX},
    {"family", FAMILY},
    {"family_id", FAMILY},
    {"family id", FAMILY},
    {"fid", FAMILY},
    {"split", SPLIT},
};

typedef struct {
    char separator;
    bool header;
    int n;           /* columns */
    int at[COLUMNS]; /* index of each, -1: not there */
} layout;

static void layout_name(layout *l, char *const *fields, int n)
{
    l->n = n;
    for (int k = 0; k < COLUMNS; k++)
        l->at[k] = -1;
    for (int i = 0; i < n; i++)
        for (size_t h = 0; h < sizeof headings / sizeof *headings; h++)
            if (strcasecmp(fields[i], headings[h].name) == 0)
                l->at[headings[h].means] = i;
    int known = 0;
    for (int k = 0; k < COLUMNS; k++)
        known += l->at[k] >= 0;
    l->header = l->at[SAMPLE] >= 0 && known > 1;
}

/* A column that is headed twice would be read from one of the two in silence. */
static status layout_check(const label_table *t, const layout *l, char *const *fields, int64_t line)
{
    for (int i = 0; i < l->n; i++)
        for (size_t h = 0; h < sizeof headings / sizeof *headings; h++)
            if (strcasecmp(fields[i], headings[h].name) == 0 && l->at[headings[h].means] != i)
                return fail(STATUS_DATA,
                            "%s:%lld: columns %d and %d both say %s; leave one of them", t->path,
                            (long long)line, i + 1, l->at[headings[h].means] + 1, headings[h].name);
    if (l->at[POPULATION] < 0 && l->at[SUPERPOPULATION] < 0 && l->at[LABEL] < 0)
        return fail(STATUS_DATA,
                    "%s:%lld: no column population or superpopulation; name one in the first line",
                    t->path, (long long)line);
    return STATUS_OK;
}

/* Separator and header from the first line that is not blank. */
static status layout_find(const label_table *t, const char *line, int64_t number, layout *l)
{
    static const char separators[] = "\t;, ";
    char *fields[LABEL_FIELDS];
    int n;
    layout plain = {0};
    for (const char *s = separators; *s; s++) {
        if (!strchr(line, *s))
            continue;
        char *copy = strdup(line);
        if (!copy)
            return fail(STATUS_MEMORY, "%s: no memory for the table; free some memory", t->path);
        status st = labels_text_fields(t->path, number, copy, *s, fields, &n);
        if (st == STATUS_OK) {
            *l = (layout){.separator = *s};
            layout_name(l, fields, n);
            if (l->header)
                st = layout_check(t, l, fields, number);
            else if (!plain.separator && n == 2)
                plain = *l;
        }
        free(copy);
        if (st != STATUS_OK || l->header)
            return st;
        if (*s == '\t') { /* tabs are there: nothing else separates */
            if (n == 2)
                return STATUS_OK;
            return fail(STATUS_DATA,
                        "%s:%lld: no column \"sample\" and a population in the first line, and not "
                        "two columns; write sample<TAB>label, or a header",
                        t->path, (long long)number);
        }
    }
    if (!plain.separator)
        return fail(STATUS_DATA,
                    "%s:%lld: one column, or no column \"sample\", where tabs are expected; write "
                    "sample<TAB>label, or a header",
                    t->path, (long long)number);
    *l = plain;
    return STATUS_OK;
}

/* ---- values ---- */

static bool one_of(const char *text, const char *const *names)
{
    for (; *names; names++)
        if (strcasecmp(text, *names) == 0)
            return true;
    return false;
}

static status sex_parse(const label_table *t, int64_t line, const char *text, sex_kind *sex)
{
    static const char *const male[] = {"male", "m", "1", NULL};
    static const char *const female[] = {"female", "f", "2", NULL};
    static const char *const unknown[] = {"unknown", "u",  "0",  "",    ".",
                                          "-",       "-9", "na", "n/a", NULL};
    *sex = SEX_UNKNOWN;
    if (one_of(text, male))
        *sex = SEX_MALE;
    else if (one_of(text, female))
        *sex = SEX_FEMALE;
    else if (!one_of(text, unknown))
        return fail(STATUS_DATA, "%s:%lld: the sex is %.40s; write male, female or unknown",
                    t->path, (long long)line, text);
    return STATUS_OK;
}

static status split_parse(const label_table *t, int64_t line, const char *text, int *split)
{
    static const char *const train[] = {"train", "training", NULL};
    static const char *const valid[] = {"valid", "validation", "val", "dev", NULL};
    static const char *const test[] = {"test", NULL};
    *split = -1;
    if (one_of(text, train))
        *split = SPLIT_TRAIN;
    else if (one_of(text, valid))
        *split = SPLIT_VALID;
    else if (one_of(text, test))
        *split = SPLIT_TEST;
    else
        return fail(STATUS_DATA, "%s:%lld: the split is \"%.40s\"; write train, valid or test",
                    t->path, (long long)line, text);
    return STATUS_OK;
}

static status row_parse(label_table *t, const layout *l, int64_t line, char *const *fields, int n,
                        label_row *row)
{
    if (n < l->n)
        return fail(STATUS_DATA, "%s:%lld: %d columns, the first line has %d; complete the line",
                    t->path, (long long)line, n, l->n);
    for (int i = l->n; i < n; i++)
        if (*fields[i])
            return fail(STATUS_DATA, "%s:%lld: %d columns, the first line has %d; correct the line",
                        t->path, (long long)line, n, l->n);
    *row = (label_row){.id = fields[0], .family = "", .split = -1, .line = line};
    if (!l->header) {
        row->population = row->superpopulation = fields[1];
    } else {
        const int *at = l->at;
        int narrow = at[POPULATION] >= 0 ? at[POPULATION]
                     : at[LABEL] >= 0    ? at[LABEL]
                                         : at[SUPERPOPULATION];
        int wide = at[SUPERPOPULATION] >= 0 ? at[SUPERPOPULATION]
                   : at[LABEL] >= 0         ? at[LABEL]
                                            : at[POPULATION];
        row->id = fields[at[SAMPLE]];
        row->population = fields[narrow];
        row->superpopulation = fields[wide];
        if (at[FAMILY] >= 0 && strcmp(fields[at[FAMILY]], "0") != 0)
            row->family = fields[at[FAMILY]];
        if (at[SEX] >= 0)
            TRY(sex_parse(t, line, fields[at[SEX]], &row->sex));
        if (at[SPLIT] >= 0)
            TRY(split_parse(t, line, fields[at[SPLIT]], &row->split));
    }
    if (!*row->id)
        return fail(STATUS_DATA, "%s:%lld: the sample has no name; complete the line", t->path,
                    (long long)line);
    const char *const texts[] = {row->id, row->population, row->superpopulation, row->family};
    for (int i = 0; i < 4; i++)
        if (strlen(texts[i]) > DATASET_TEXT_MOST)
            return fail(STATUS_DATA,
                        "%s:%lld: a name or label of %zu bytes, %d are the most; "
                        "shorten %.40s...",
                        t->path, (long long)line, strlen(texts[i]), DATASET_TEXT_MOST, texts[i]);
    if (!*row->population || !*row->superpopulation)
        return fail(STATUS_DATA, "%s:%lld: %s has no label; complete the line or leave it out",
                    t->path, (long long)line, row->id);
    return STATUS_OK;
}

static bool same_row(const label_row *a, const label_row *b)
{
    return strcmp(a->population, b->population) == 0 &&
           strcmp(a->superpopulation, b->superpopulation) == 0 && a->sex == b->sex &&
           a->split == b->split && strcmp(a->family, b->family) == 0;
}

static status row_add(label_table *t, const label_row *row, int64_t *doubled)
{
    if (t->n_rows == t->room) {
        int64_t room = t->room ? 2 * t->room : 256;
        label_row *more = realloc(t->rows, (size_t)room * sizeof *more);
        if (!more)
            return fail(STATUS_MEMORY, "%s: no memory for %lld rows; free some memory", t->path,
                        (long long)room);
        t->rows = more;
        t->room = room;
    }
    int64_t already;
    TRY(name_table_add(&t->by_id, row->id, t->n_rows, &already));
    if (already < 0) {
        t->rows[t->n_rows++] = *row;
        return STATUS_OK;
    }
    if (!same_row(&t->rows[already], row))
        return fail(STATUS_DATA,
                    "%s:%lld: %s is in the table twice with different entries, first "
                    "in line %lld; leave one of them",
                    t->path, (long long)row->line, row->id, (long long)t->rows[already].line);
    if (++*doubled == 1)
        log_warning("%s:%lld: %s is in the table twice, first in line %lld; taken once", t->path,
                    (long long)row->line, row->id, (long long)t->rows[already].line);
    return STATUS_OK;
}

static bool is_blank(const char *line)
{
    return line[strspn(line, " \t\r\v\f;,\"")] == '\0';
}

status labels_read(const char *path, label_table *t)
{
    memset(t, 0, sizeof *t);
    strncpy(t->path, path, sizeof t->path - 1);
    TRY(labels_text_read(path, &t->text));
    layout l = {0};
    int64_t number = 0, doubled = 0;
    char *fields[LABEL_FIELDS];
    for (char *line = t->text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        number++;
        if (is_blank(line))
            continue;
        if (strchr(line, '\r'))
            return fail(STATUS_DATA,
                        "%s:%lld: a line end of another kind inside the line; save the "
                        "table with one kind of line ends",
                        path, (long long)number);
        bool first = l.separator == 0;
        if (first && number == 1 && strncasecmp(line, "sep=", 4) == 0 && strlen(line) == 5)
            continue; /* a spreadsheet's note on its own separator */
        if (first)
            TRY(layout_find(t, line, number, &l));
        if (first && l.header) {
            t->has_split = l.at[SPLIT] >= 0;
            t->has_family = l.at[FAMILY] >= 0;
            continue;
        }
        int n;
        label_row row;
        TRY(labels_text_fields(path, number, line, l.separator, fields, &n));
        TRY(row_parse(t, &l, number, fields, n, &row));
        TRY(row_add(t, &row, &doubled));
    }
    if (number == 0 || l.separator == 0)
        return fail(STATUS_DATA,
                    "%s: the table is empty; write sample<TAB>label, one line a person", path);
    if (t->n_rows == 0)
        return fail(STATUS_DATA, "%s:%lld: the table names nobody; write one line a person", path,
                    (long long)number);
    return STATUS_OK;
}

const label_row *labels_find(const label_table *t, const char *id)
{
    int64_t row = name_table_find(&t->by_id, id);
    return row < 0 ? NULL : &t->rows[row];
}

void labels_close(label_table *t)
{
    free(t->text);
    free(t->rows);
    name_table_close(&t->by_id);
    memset(t, 0, sizeof *t);
}
