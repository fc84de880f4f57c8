/* Reading the table of sequences: see sequence_map.h. */
#include "io/sequence_map.h"

#include "io/dataset.h"
#include "io/dataset_format.h"
#include "io/labels_text.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NAME, LABEL, SPLIT, LOCUS, COLUMNS };

typedef struct {
    char separator;
    int at[COLUMNS]; /* -1: there is none */
    int fields;      /* of a line */
} layout;

static int column_of(const char *word)
{
    static const struct {
        const char *word;
        int column;
    } known[] = {{"sequence", NAME}, {"name", NAME},   {"chromosome", NAME}, {"label", LABEL},
                 {"species", LABEL}, {"split", SPLIT}, {"locus", LOCUS}};
    if (*word == '#')
        word++;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(word, known[i].word) == 0)
            return known[i].column;
    return -1;
}

/* Finds the columns by the first line; *header: it names them. */
static status layout_find(const sequence_map *m, const char *line, int64_t number, layout *l,
                          bool *header)
{
    char *fields[LABEL_FIELDS], *copy = strdup(line);
    int n = 0;
    if (!copy)
        return fail(STATUS_MEMORY, "%s: no memory for a line; free some memory", m->path);
    l->separator = strchr(line, '\t')  ? '\t'
                   : strchr(line, ';') ? ';'
                   : strchr(line, ',') ? ','
                                       : ' ';
    status st = labels_text_fields(m->path, number, copy, l->separator, fields, &n);
    if (st == STATUS_OK && n > 0 && strcasecmp(fields[0], "sample") == 0)
        st = fail(STATUS_DATA,
                  "%s:%lld: is a table of people, and the files are FASTA; give a table of "
                  "sequences (sequence<TAB>label<TAB>split)",
                  m->path, (long long)number);
    for (int k = 0; k < COLUMNS; k++)
        l->at[k] = -1;
    *header = st == STATUS_OK && n > 0 && n <= LABEL_FIELDS && column_of(fields[0]) >= 0 &&
              (n == 1 || column_of(fields[1]) >= 0);
    if (*header)
        for (int i = 0; i < n; i++)
            if (column_of(fields[i]) >= 0 && l->at[column_of(fields[i])] < 0)
                l->at[column_of(fields[i])] = i;
    if (st == STATUS_OK && *header && l->at[NAME] < 0)
        st = fail(STATUS_DATA, "%s:%lld: no column is called sequence; name it", m->path,
                  (long long)number);
    if (st == STATUS_OK && !*header && n > COLUMNS)
        st = fail(STATUS_DATA,
                  "%s:%lld: %d columns and no header; write sequence<TAB>label<TAB>split", m->path,
                  (long long)number, n);
    for (int k = 0; !*header && k < n && k < COLUMNS; k++)
        l->at[k] = k;
    l->fields = n;
    free(copy);
    return st;
}

static status split_of(const sequence_map *m, int64_t number, const char *word, int *split)
{
    static const struct {
        const char *word;
        int split;
    } known[] = {{"train", SPLIT_TRAIN},      {"training", SPLIT_TRAIN}, {"valid", SPLIT_VALID},
                 {"validation", SPLIT_VALID}, {"val", SPLIT_VALID},      {"dev", SPLIT_VALID},
                 {"test", SPLIT_TEST}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(word, known[i].word) == 0) {
            *split = known[i].split;
            return STATUS_OK;
        }
    return fail(STATUS_DATA, "%s:%lld: %s is no split; write train, valid or test", m->path,
                (long long)number, *word ? word : "nothing");
}

/* NAME:from-to with 1 <= from <= to; other names are names. */
static void region_find(sequence_row *row)
{
    const char *colon = strrchr(row->name, ':');
    if (!colon || colon == row->name || strspn(colon + 1, "0123456789-") != strlen(colon + 1))
        return;
    char *end = NULL;
    const long long from = strtoll(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '-' || !end[1] || end[1] == '-')
        return;
    const long long to = strtoll(end + 1, &end, 10);
    if (*end || from < 1 || to < from || to == LLONG_MAX)
        return;
    row->stem = colon - row->name;
    row->from = from;
    row->to = to;
}

static status row_add(sequence_map *m, const layout *l, int64_t number, char **fields)
{
    sequence_row row = {
        .name = fields[l->at[NAME]], .label = "", .locus = "", .split = -1, .line = number};
    int64_t already;
    if (l->at[LABEL] >= 0)
        row.label = fields[l->at[LABEL]];
    if (l->at[LOCUS] >= 0)
        row.locus = fields[l->at[LOCUS]];
    if (l->at[SPLIT] >= 0)
        TRY(split_of(m, number, fields[l->at[SPLIT]], &row.split));
    if (!*row.name)
        return fail(STATUS_DATA, "%s:%lld: the sequence has no name; complete the line", m->path,
                    (long long)number);
    if (strlen(row.label) > DATASET_TEXT_MOST)
        return fail(STATUS_DATA, "%s:%lld: a label of %zu bytes; shorten it", m->path,
                    (long long)number, strlen(row.label));
    if (l->at[LABEL] >= 0 && !*row.label)
        return fail(STATUS_DATA, "%s:%lld: %s has no label; complete the line or leave it out",
                    m->path, (long long)number, row.name);
    if (m->n_rows == m->room) {
        const int64_t room = m->room ? 2 * m->room : 256;
        sequence_row *more = realloc(m->rows, (size_t)room * sizeof *more);
        if (!more)
            return fail(STATUS_MEMORY, "%s: no memory for %lld rows; free some memory", m->path,
                        (long long)room);
        m->rows = more;
        m->room = room;
    }
    TRY(name_table_add(&m->by_name, row.name, m->n_rows, &already));
    if (already >= 0)
        return fail(STATUS_DATA,
                    "%s:%lld: %s is in the table twice, first in line %lld; leave one "
                    "of them",
                    m->path, (long long)number, row.name, (long long)m->rows[already].line);
    region_find(&row);
    m->n_regions += row.stem > 0;
    m->rows[m->n_rows++] = row;
    return STATUS_OK;
}

/* ---- regions ---- */

/* A name against the NAME of a region's row. */
static int stem_compare(const char *name, size_t length, const sequence_row *r)
{
    const size_t stem = (size_t)r->stem, n = length < stem ? length : stem;
    const int order = memcmp(name, r->name, n);
    return order != 0 ? order : length < stem ? -1 : length > stem;
}

static int by_region(const void *a, const void *b, void *rows)
{
    const sequence_row *x = (sequence_row *)rows + *(const int64_t *)a,
                       *y = (sequence_row *)rows + *(const int64_t *)b;
    const int order = stem_compare(x->name, (size_t)x->stem, y);
    return order != 0 ? order : x->from < y->from ? -1 : x->from > y->from;
}

static status regions_sort(sequence_map *m)
{
    int64_t n = 0;
    if (m->n_regions == 0)
        return STATUS_OK;
    m->regions = malloc((size_t)m->n_regions * sizeof *m->regions);
    if (!m->regions)
        return fail(STATUS_MEMORY, "%s: no memory for %lld regions; free some memory", m->path,
                    (long long)m->n_regions);
    for (int64_t i = 0; i < m->n_rows; i++)
        if (m->rows[i].stem > 0)
            m->regions[n++] = i;
    qsort_r(m->regions, (size_t)n, sizeof *m->regions, by_region, m->rows);
    return STATUS_OK;
}

/* First region whose NAME is not below `name` (above: not at or below). */
static int64_t regions_from(const sequence_map *m, const char *name, bool above)
{
    int64_t low = 0, high = m->n_regions;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        const int order = stem_compare(name, strlen(name), &m->rows[m->regions[middle]]);
        if (order > 0 || (above && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static status overlap(const sequence_map *m, const sequence_row *a, const sequence_row *b)
{
    const sequence_row *late = a->line > b->line ? a : b, *early = late == a ? b : a;
    return fail(STATUS_DATA,
                "%s:%lld: %s overlaps %s of line %lld; parts of a sequence must lie apart, correct "
                "one of them",
                m->path, (long long)late->line, late->name, early->name, (long long)early->line);
}

status sequence_map_find(const sequence_map *m, const char *name, const char *description,
                         sequence_row **whole, int64_t *first, int64_t *n)
{
    const size_t a = strlen(name), b = strlen(description);
    char *line = malloc(a + b + 2);
    if (!line)
        return fail(STATUS_MEMORY, "%s: no memory for a name; free some memory", m->path);
    memcpy(line, name, a + 1);
    if (b) {
        line[a] = ' ';
        memcpy(line + a + 1, description, b + 1);
    }
    int64_t i = name_table_find(&m->by_name, line);
    if (i < 0)
        i = name_table_find(&m->by_name, name);
    free(line);
    *whole = i < 0 ? NULL : &m->rows[i];
    *first = regions_from(m, name, false);
    *n = regions_from(m, name, true) - *first;
    const int64_t *r = m->regions + *first;
    if (*whole && *n > 0)
        return overlap(m, *whole, &m->rows[r[0]]);
    for (int64_t k = 1; k < *n; k++)
        if (m->rows[r[k]].from <= m->rows[r[k - 1]].to)
            return overlap(m, &m->rows[r[k]], &m->rows[r[k - 1]]);
    return STATUS_OK;
}

status sequence_map_read(const char *path, sequence_map *m)
{
    memset(m, 0, sizeof *m);
    strncpy(m->path, path, sizeof m->path - 1);
    TRY(labels_text_read(path, &m->text));
    layout l = {0};
    int64_t number = 0;
    char *fields[LABEL_FIELDS];
    for (char *line = m->text, *next; line && *line; line = next) {
        int n;
        bool header = false;
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        number++;
        if (line[strspn(line, " \t\r\v\f;,\"")] == '\0')
            continue;
        if (!l.separator) {
            TRY(layout_find(m, line, number, &l, &header));
            m->has_split = l.at[SPLIT] >= 0;
            m->has_locus = l.at[LOCUS] >= 0;
            if (header)
                continue;
        }
        TRY(labels_text_fields(path, number, line, l.separator, fields, &n));
        if (n != l.fields)
            return fail(STATUS_DATA,
                        "%s:%lld: %d columns where the first line has %d; correct the line "
                        "(separated by tabs, sequence names may hold blanks)",
                        path, (long long)number, n, l.fields);
        TRY(row_add(m, &l, number, fields));
    }
    if (m->n_rows == 0)
        return fail(STATUS_DATA,
                    "%s: the table names no sequence; write sequence<TAB>label<TAB>split", path);
    return regions_sort(m);
}

void sequence_map_close(sequence_map *m)
{
    free(m->text);
    free(m->rows);
    free(m->regions);
    name_table_close(&m->by_name);
    memset(m, 0, sizeof *m);
}
