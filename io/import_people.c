/* Who is in the set: the headers of all files, the table of labels and the samples asked for. What
 * is left out is counted and named. */
#include "io/import_state.h"
#include "io/labels_text.h"
#include "runtime/core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMED 3 /* people whom a warning names */

/* ---- headers ---- */

typedef struct {
    char ***samples; /* (n_files) names of each file */
    int64_t *n_samples;
    vcf_contig **contigs;
    int64_t *n_contigs;
    int64_t n_files;
} headers;

static void headers_close(headers *h)
{
    for (int64_t f = 0; f < h->n_files; f++) {
        for (int64_t i = 0; h->samples && i < h->n_samples[f]; i++)
            free(h->samples[f][i]);
        for (int64_t i = 0; h->contigs && i < h->n_contigs[f]; i++)
            free(h->contigs[f][i].name);
        if (h->samples)
            free(h->samples[f]);
        if (h->contigs)
            free(h->contigs[f]);
    }
    free(h->samples);
    free(h->n_samples);
    free(h->contigs);
    free(h->n_contigs);
    memset(h, 0, sizeof *h);
}

static status no_memory(void)
{
    return fail(STATUS_MEMORY, "import: no memory for the tables of people; free some memory");
}

static status header_copy(headers *h, int64_t f, const vcf_header *from)
{
    h->samples[f] = calloc((size_t)from->n_samples + 1, sizeof **h->samples);
    h->contigs[f] = calloc((size_t)from->n_contigs + 1, sizeof **h->contigs);
    if (!h->samples[f] || !h->contigs[f])
        return no_memory();
    for (int64_t i = 0; i < from->n_samples; i++) {
        if (!(h->samples[f][i] = strdup(from->samples[i])))
            return no_memory();
        h->n_samples[f]++;
    }
    for (int64_t i = 0; i < from->n_contigs; i++) {
        h->contigs[f][i].length = from->contigs[i].length;
        if (!(h->contigs[f][i].name = strdup(from->contigs[i].name)))
            return no_memory();
        h->n_contigs[f]++;
    }
    return STATUS_OK;
}

static status header_read(import_state *s, headers *h, int64_t f)
{
    import_file *file = &s->files[f];
    vcf_file *v = NULL;
    bool any = false;
    file->path = s->o->files[f];
    TRY(vcf_file_open(file->path, &v));
    status st = STATUS_OK;
    if (vcf_content(v) == FILE_FASTA) {
        st = fail(STATUS_DATA,
                  "%s: is FASTA, and the files before it hold genotypes; import them apart",
                  file->path);
        goto done;
    }
    TRY_GOTO(done, vcf_any(v, &any));
    if (vcf_content(v) != FILE_NOTHING && !vcf_header_of(v)->has_format)
        log_warning("%s: the first line is no ##fileformat; read as VCF all the same", file->path);
    file->empty = !any;
    if (any)
        st = header_copy(h, f, vcf_header_of(v));
    else if (s->o->n_files == 1)
        st = fail(STATUS_DATA, "%s: %s; give a file with genotypes", file->path,
                  vcf_content(v) == FILE_NOTHING ? "the file is empty" : "holds no record");
done:
    vcf_file_close(&v);
    return st;
}

/* Two names for one file would tell everything twice. */
static status paths_check(const import_options *o)
{
    for (int64_t i = 0; i < o->n_files; i++)
        for (int64_t j = 0; j < i; j++)
            if (strcmp(o->files[i], o->files[j]) == 0)
                return fail(STATUS_DATA, "%s: is given twice, as file %lld and %lld; give it once",
                            o->files[i], (long long)j + 1, (long long)i + 1);
    return STATUS_OK;
}

static status headers_read(import_state *s, headers *h)
{
    size_t n = (size_t)s->o->n_files;
    h->n_files = s->o->n_files;
    h->samples = calloc(n, sizeof *h->samples);
    h->n_samples = calloc(n, sizeof *h->n_samples);
    h->contigs = calloc(n, sizeof *h->contigs);
    h->n_contigs = calloc(n, sizeof *h->n_contigs);
    s->files = calloc(n, sizeof *s->files);
    if (!h->samples || !h->n_samples || !h->contigs || !h->n_contigs || !s->files)
        return no_memory();
    TRY(paths_check(s->o));
    int64_t empty = 0, one = 0;
    for (int64_t f = 0; f < s->o->n_files; f++) {
        TRY(header_read(s, h, f));
        empty += s->files[f].empty;
        if (s->files[f].empty)
            one = f;
    }
    if (empty == s->o->n_files)
        return fail(STATUS_DATA,
                    "%s: holds no record, like the other %lld files; give files with "
                    "genotypes",
                    s->files[0].path, (long long)empty - 1);
    if (empty == 1)
        log_warning("%s: holds no record; left out", s->files[one].path);
    else if (empty > 1)
        log_warning("%s: holds no record, like %lld other files; left out", s->files[one].path,
                    (long long)empty - 1);
    return STATUS_OK;
}

/* ---- samples asked for ---- */

typedef struct {
    char *text;
    char **name;
    int64_t n;
    bool except; /* ^: all but these */
    bool given;
    name_table table;
    const char *option;
} sample_list;

static void sample_list_close(sample_list *l)
{
    free(l->text);
    free(l->name);
    name_table_close(&l->table);
}

static status sample_list_read(const import_options *o, sample_list *l)
{
    const char *from = o->samples ? o->samples : o->samples_file;
    if (!from)
        return STATUS_OK;
    l->given = true;
    l->option = o->samples ? "-s" : "-S";
    l->except = *from == '^';
    from += l->except;
    if (o->samples)
        l->text = strdup(from);
    else
        TRY(labels_text_read(from, &l->text));
    l->name = calloc(l->text ? strlen(l->text) + 1 : 1, sizeof *l->name);
    if (!l->text || !l->name)
        return no_memory();
    const char separator = o->samples ? ',' : '\n';
    for (char *p = l->text, *next; p; p = next) {
        next = strchr(p, separator);
        if (next)
            *next++ = '\0';
        if (!*p)
            continue;
        if (!o->samples) /* bcftools allows a second column (sex) */
            p[strcspn(p, "\t")] = '\0';
        TRY(name_table_add(&l->table, p, l->n, NULL));
        l->name[l->n++] = p;
    }
    if (l->n == 0)
        return fail(o->samples ? STATUS_USAGE : STATUS_DATA,
                    "%s: names nobody; give names of people", o->samples ? "-s" : from);
    return STATUS_OK;
}

/* ---- who stays ---- */

typedef struct {
    int64_t count;
    const char *name[NAMED];
} left_out;

static void leave_out(left_out *l, const char *name)
{
    if (l->count < NAMED)
        l->name[l->count] = name;
    l->count++;
}

/* "s5, s6" or "a, b, c, ..." */
static const char *names_text(const left_out *l, char text[256])
{
    size_t n = 0;
    text[0] = '\0';
    for (int64_t i = 0; i < l->count && i < NAMED && n < 240; i++)
        n += (size_t)snprintf(text + n, 256 - n, "%s%.64s", i ? ", " : "", l->name[i]);
    if (l->count > NAMED && n < 240)
        snprintf(text + n, 256 - n, ", ...");
    return text;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Every name that a file holds, once, in the order of the files. */
static status everybody(const headers *h, name_table *all, char ***names, int64_t *n)
{
    int64_t most = 0;
    for (int64_t f = 0; f < h->n_files; f++)
        most += h->n_samples[f];
    *names = calloc((size_t)most + 1, sizeof **names);
    *n = 0;
    if (!*names)
        return no_memory();
    for (int64_t f = 0; f < h->n_files; f++)
        for (int64_t i = 0; i < h->n_samples[f]; i++) {
            int64_t already;
            TRY(name_table_add(all, h->samples[f][i], *n, &already));
            if (already < 0)
                (*names)[(*n)++] = h->samples[f][i];
        }
    return STATUS_OK;
}

static status select_people(import_state *s, const headers *h)
{
    name_table all = {0};
    char **names = NULL, text[256];
    sample_list wanted = {0};
    int64_t n = 0;
    left_out unlabelled = {0}, nobody = {0};
    status st;
    TRY_GOTO(done, everybody(h, &all, &names, &n));
    TRY_GOTO(done, sample_list_read(s->o, &wanted));
    for (int64_t i = 0; i < wanted.n; i++)
        if (name_table_find(&all, wanted.name[i]) < 0) {
            st = fail(STATUS_DATA,
                      "%s: %s of %s is not among its people (%s, ...); correct the name",
                      s->files[0].path, wanted.name[i], wanted.option, n ? names[0] : "");
            goto done;
        }
    for (int64_t i = 0; i < s->map.n_rows; i++)
        if (name_table_find(&all, s->map.rows[i].id) < 0)
            leave_out(&nobody, s->map.rows[i].id);
    s->id = calloc((size_t)n + 1, sizeof *s->id);
    if (!s->id) {
        st = no_memory();
        goto done;
    }
    for (int64_t i = 0; i < n; i++) {
        if (wanted.given && (name_table_find(&wanted.table, names[i]) >= 0) == wanted.except)
            continue;
        if (s->o->map && !labels_find(&s->map, names[i])) {
            leave_out(&unlabelled, names[i]);
            continue;
        }
        if (!(s->id[s->n_people++] = strdup(names[i]))) {
            s->n_people--;
            st = no_memory();
            goto done;
        }
    }
    if (s->n_people == 0 && s->o->map)
        st = fail(STATUS_DATA,
                  "%s: none of its people (%s, ...) is in %s (%s, ...); make the names the same",
                  s->files[0].path, unlabelled.count ? unlabelled.name[0] : names[0], s->map.path,
                  nobody.count ? nobody.name[0] : s->map.rows[0].id);
    else if (s->n_people == 0)
        st = fail(STATUS_DATA, "%s: %s leaves nobody; name people to keep", s->files[0].path,
                  wanted.option);
    if (st != STATUS_OK)
        goto done;
    if (unlabelled.count)
        log_warning("%lld people have no label in %s (%s); left out", (long long)unlabelled.count,
                    s->map.path, names_text(&unlabelled, text));
    if (nobody.count)
        log_warning("%s: %lld labels belong to nobody in the files (%s); ignored", s->map.path,
                    (long long)nobody.count, names_text(&nobody, text));
    qsort(s->id, (size_t)s->n_people, sizeof *s->id, by_bytes);
done:
    name_table_close(&all);
    sample_list_close(&wanted);
    free(names);
    return st;
}

/* ---- tables of people, labels and columns ---- */

static status labels_make(import_state *s)
{
    s->labels = calloc((size_t)s->n_people + 1, sizeof *s->labels);
    if (!s->labels)
        return no_memory();
    if (!s->o->map)
        return STATUS_OK;
    char **all = calloc((size_t)s->n_people + 1, sizeof *all);
    if (!all)
        return no_memory();
    for (int64_t i = 0; i < s->n_people; i++)
        all[i] =
            (char *)(s->o->by_population ? s->people[i].population : s->people[i].superpopulation);
    qsort(all, (size_t)s->n_people, sizeof *all, by_bytes);
    for (int64_t i = 0; i < s->n_people; i++)
        if (i == 0 || strcmp(all[i], all[i - 1]) != 0)
            s->labels[s->n_labels++] = all[i];
    for (int64_t i = 0; i < s->n_people; i++) {
        const char *mine =
            s->o->by_population ? s->people[i].population : s->people[i].superpopulation;
        char **at = bsearch(&mine, s->labels, (size_t)s->n_labels, sizeof *s->labels, by_bytes);
        s->people[i].label = (int32_t)(at - s->labels);
    }
    free(all);
    return STATUS_OK;
}

static status people_make(import_state *s)
{
    s->people = calloc((size_t)s->n_people + 1, sizeof *s->people);
    if (!s->people)
        return no_memory();
    for (int64_t i = 0; i < s->n_people; i++) {
        individual *p = &s->people[i];
        *p = (individual){.id = s->id[i],
                          .population = "",
                          .superpopulation = "",
                          .family = "",
                          .label = -1,
                          .shard = -1};
        const label_row *row = s->o->map ? labels_find(&s->map, s->id[i]) : NULL;
        if (!row)
            continue;
        p->population = row->population;
        p->superpopulation = row->superpopulation;
        p->family = row->family;
        p->sex = row->sex;
    }
    int64_t size = comm_size(s->c), rank = comm_rank(s->c);
    s->first = s->n_people * rank / size;
    s->mine = s->n_people * (rank + 1) / size - s->first;
    s->own = calloc((size_t)s->mine + 1, sizeof *s->own);
    if (!s->own)
        return no_memory();
    return labels_make(s);
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static status columns_make(import_state *s, const headers *h)
{
    name_table numbers = {0};
    status st = STATUS_OK;
    for (int64_t i = 0; i < s->n_people && st == STATUS_OK; i++)
        st = name_table_add(&numbers, s->id[i], i, NULL);
    for (int64_t f = 0; f < s->o->n_files && st == STATUS_OK; f++) {
        import_file *file = &s->files[f];
        file->n_columns = h->n_samples[f];
        file->person = calloc((size_t)file->n_columns + 1, sizeof *file->person);
        file->has = calloc((size_t)file->n_columns + 1, sizeof *file->has);
        if (!file->person || !file->has) {
            st = no_memory();
            break;
        }
        for (int64_t i = 0; i < file->n_columns; i++) {
            file->person[i] = (int32_t)name_table_find(&numbers, h->samples[f][i]);
            if (file->person[i] >= 0)
                file->has[file->n_has++] = file->person[i];
        }
        qsort(file->has, (size_t)file->n_has, sizeof *file->has, by_number);
        file->group = -1;
        for (int64_t g = 0; g < f && file->group < 0; g++)
            if (!s->files[g].empty && s->files[g].n_has == file->n_has &&
                memcmp(s->files[g].has, file->has, (size_t)file->n_has * sizeof *file->has) == 0)
                file->group = s->files[g].group;
        if (file->group < 0 && !file->empty)
            file->group = s->n_groups++;
    }
    name_table_close(&numbers);
    return st;
}

status import_people(import_state *s)
{
    headers h = {0};
    status st = STATUS_OK;
    if (s->o->map)
        TRY(labels_read(s->o->map, &s->map));
    TRY_GOTO(done, headers_read(s, &h));
    TRY_GOTO(done, import_assembly(s, h.contigs, h.n_contigs));
    TRY_GOTO(done, select_people(s, &h));
    TRY_GOTO(done, people_make(s));
    TRY_GOTO(done, columns_make(s, &h));
done:
    headers_close(&h);
    return st;
}
