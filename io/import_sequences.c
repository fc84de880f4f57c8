/* FASTA files into packed chunks and tables, and the set's split: see import_sequences.h. Every
 * rank reads all files, and keeps the chunks that it will write. */
#include "io/import_sequences.h"

#include "io/assembly.h"
#include "io/dataset_format.h"
#include "io/name_table.h"
#include "io/sequence_map.h"
#include "io/split.h"
#include "runtime/core/array.h"
#include "runtime/core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMED 3 /* sequences that a warning names */

typedef struct {
    sequence s;
    char *name, *description;
    const sequence_row *row; /* of the table, NULL: there is none */
    int64_t from, to;        /* bases of the file's sequence, from 1, inclusive */
} record;

typedef struct {
    const import_options *o;
    comm *c;
    sequences_report *report;
    const char *path; /* of the file that is being read */
    sequence_map map;
    name_table by_name;
    char **left; /* (n_left) names of sequences that the table lacks */
    int64_t *line_of;
    const char **file_of;
    record *list;
    int64_t n, room, n_left, left_room;

    int64_t current; /* the record that the next letters may belong to; n: none */
    int64_t passed;  /* letters so far of the file's sequence */
    int64_t at;      /* place of the next base */
    uint8_t **chunk; /* this rank's */
    int64_t n_chunks, chunk_room;
    other_letter *other;
    int64_t n_other, other_room;
    uint8_t base_of[256];

    char **labels;
    int64_t n_labels;
    int64_t cut; /* descriptions that were too long */
} work;

static status no_memory(void)
{
    return fail(STATUS_MEMORY, "import: no memory for the sequences; use more ranks or memory");
}

/* A list that is full gets twice the room. */
static bool grow(void *list, int64_t n, int64_t *room, size_t element)
{
    if (n < *room)
        return true;
    const int64_t more = *room ? 2 * *room : 64;
    void *p = realloc(*(void **)list, (size_t)more * element);
    if (!p)
        return false;
    *(void **)list = p;
    *room = more;
    return true;
}

/* ---- reading ---- */

static status leave_out(work *w, const char *name)
{
    if (!grow(&w->left, w->n_left, &w->left_room, sizeof *w->left))
        return no_memory();
    w->left[w->n_left] = strdup(name);
    return w->left[w->n_left++] ? STATUS_OK : no_memory();
}

static bool records_grow(work *w)
{
    const int64_t room = w->room;
    if (!grow(&w->list, w->n, &w->room, sizeof *w->list))
        return false;
    if (w->room == room)
        return true;
    bool ok = true;
    w->line_of = array_resized(w->line_of, w->room, sizeof *w->line_of, &ok);
    w->file_of = array_resized(w->file_of, w->room, sizeof *w->file_of, &ok);
    return ok;
}

/* A sequence of the set: the whole one of the file (row NULL or its own), or a row's part of it. */
static status record_add(work *w, const char *name, const char *description, int64_t line,
                         sequence_row *row, bool part)
{
    int64_t already = -1;
    if (!records_grow(w))
        return no_memory();
    record *r = &w->list[w->n];
    *r = (record){.row = row,
                  .name = strdup(part ? row->name : name),
                  .description = strdup(description),
                  .from = part ? row->from : 1,
                  .to = part ? row->to : INT64_MAX};
    if (!r->name || !r->description) {
        free(r->name);
        free(r->description);
        return no_memory();
    }
    w->line_of[w->n] = line;
    w->file_of[w->n] = w->path;
    if (strlen(description) > DATASET_TEXT_MOST) {
        r->description[DATASET_TEXT_MOST] = '\0';
        w->cut++;
    }
    r->s = (sequence){.name = r->name, .description = r->description, .label = -1};
    w->n++;
    if (strlen(r->name) > DATASET_TEXT_MOST)
        return fail(STATUS_DATA, "%s:%lld: a name of %zu bytes, %d are the most; shorten it",
                    w->path, (long long)line, strlen(r->name), DATASET_TEXT_MOST);
    TRY(name_table_add(&w->by_name, r->name, w->n - 1, &already));
    if (already >= 0)
        return fail(STATUS_DATA,
                    "%s:%lld: %s is there twice, first in %s line %lld; give each sequence a name "
                    "of its own",
                    w->path, (long long)line, r->name, w->file_of[already],
                    (long long)w->line_of[already]);
    if (row)
        row->found = true;
    return STATUS_OK;
}

/* The file's sequence is at its end: was all there that the table asks of it? */
static status sequence_end(const work *w)
{
    if (w->current == w->n || w->list[w->current].to == INT64_MAX)
        return STATUS_OK;
    const sequence_row *row = w->list[w->current].row;
    return fail(STATUS_DATA, "%s:%lld: %s, but %.*s ends with base %lld; end the part there",
                w->map.path, (long long)row->line, row->name, (int)row->stem, row->name,
                (long long)w->passed);
}

static void record_begin(work *w, record *r)
{
    w->at += w->at & 1;
    r->s.first = w->at;
}

static status begin(void *context, const char *name, const char *description, int64_t line)
{
    work *w = context;
    sequence_row *whole = NULL;
    int64_t first = 0, parts = 0;
    TRY(sequence_end(w));
    w->current = w->n;
    w->passed = 0;
    if (w->o->map)
        TRY(sequence_map_find(&w->map, name, description, &whole, &first, &parts));
    for (int64_t i = 0; i < parts; i++)
        TRY(record_add(w, name, description, line, &w->map.rows[w->map.regions[first + i]], true));
    if (parts > 0)
        return STATUS_OK;
    if (w->o->map && !whole)
        return leave_out(w, name);
    TRY(record_add(w, name, description, line, whole, false));
    record_begin(w, &w->list[w->current]);
    return STATUS_OK;
}

/* The chunk that holds a byte, where it is this rank's (NULL: it is not); made when first met. */
static status chunk_of(work *w, int64_t byte, uint8_t **out)
{
    const int64_t k = byte / DATASET_CHUNK, size = comm_size(w->c);
    *out = NULL;
    if (k % size != comm_rank(w->c))
        return STATUS_OK;
    if (k / size >= w->n_chunks) {
        if (!grow(&w->chunk, w->n_chunks, &w->chunk_room, sizeof *w->chunk) ||
            !(w->chunk[w->n_chunks] = calloc(1, DATASET_CHUNK)))
            return no_memory();
        w->n_chunks++;
    }
    *out = w->chunk[k / size];
    return STATUS_OK;
}

/* Letters of a record. */
static status take(work *w, record *r, const char *letters_read, size_t n)
{
    int64_t count[16] = {0};
    for (size_t i = 0; i < n;) {
        const int64_t end = (w->at / (2 * DATASET_CHUNK) + 1) * 2 * DATASET_CHUNK;
        const size_t stop = end - w->at < (int64_t)(n - i) ? i + (size_t)(end - w->at) : n;
        uint8_t *chunk;
        TRY(chunk_of(w, w->at / 2, &chunk));
        for (; i < stop; i++, w->at++) {
            const uint8_t base = w->base_of[(unsigned char)letters_read[i]];
            count[base]++;
            if (chunk)
                chunk[w->at / 2 % DATASET_CHUNK] |= (uint8_t)(base << (w->at & 1 ? 4 : 0));
            if ((base & 7) != BASE_OTHER)
                continue;
            if (!grow(&w->other, w->n_other, &w->other_room, sizeof *w->other))
                return no_memory();
            const char x = letters_read[i];
            w->other[w->n_other++] =
                (other_letter){w->at, base & BASE_MASKED ? (char)(x - 'a' + 'A') : x};
        }
    }
    int64_t *sums[6] = {&r->s.count.a, &r->s.count.c, &r->s.count.g,
                        &r->s.count.t, &r->s.count.n, &r->s.count.other};
    for (int k = 0; k < 6; k++) {
        *sums[k] += count[k] + count[k + BASE_MASKED];
        r->s.count.masked += count[k + BASE_MASKED];
    }
    r->s.length += (int64_t)n;
    return STATUS_OK;
}

/* Letters of the file's sequence: those of its parts are taken, which ascend. */
static status letters(void *context, const char *read, size_t n)
{
    work *w = context;
    while (n > 0 && w->current < w->n) {
        record *r = &w->list[w->current];
        const int64_t left = (int64_t)n, before = r->from - 1 - w->passed;
        int64_t k = before < left ? before : left;
        if (before <= 0) {
            k = r->to - w->passed < left ? r->to - w->passed : left;
            if (before == 0)
                record_begin(w, r);
            TRY(take(w, r, read, (size_t)k));
        }
        read += k;
        n -= (size_t)k;
        w->passed += k;
        w->current += w->passed == r->to;
    }
    return STATUS_OK;
}

static status files_read(work *w)
{
    const fasta_sink sink = {begin, letters, w};
    for (int i = 0; i < 256; i++)
        w->base_of[i] = fasta_base((char)i);
    for (int64_t f = 0; f < w->o->n_files; f++) {
        w->path = w->o->files[f];
        for (int64_t j = 0; j < f; j++)
            if (strcmp(w->o->files[j], w->path) == 0)
                return fail(STATUS_DATA, "%s: is given twice; give it once", w->path);
        TRY(fasta_read(w->path, &sink));
        TRY(sequence_end(w));
        w->current = w->n;
    }
    return STATUS_OK;
}

/* ---- what was left out ---- */

/* "41 WHAT (a, b, c, ...)"; names by number. */
static void warn_of(const work *w, int64_t n, const char *(*name)(const work *, int64_t),
                    const char *what)
{
    char text[512] = "";
    size_t at = 0;
    for (int64_t i = 0; i < n && i < NAMED && at < sizeof text - 1; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%.80s", i ? ", " : "", name(w, i));
    if (n > 0)
        log_warning("%lld sequence%s %s (%s%s)", (long long)n, n == 1 ? "" : "s", what, text,
                    n > NAMED ? ", ..." : "");
}

static const char *left_name(const work *w, int64_t i)
{
    return w->left[i];
}

static const char *unfound_name(const work *w, int64_t i)
{
    for (int64_t r = 0; r < w->map.n_rows; r++)
        if (!w->map.rows[r].found && i-- == 0)
            return w->map.rows[r].name;
    return "";
}

static const char *empty_name(const work *w, int64_t i)
{
    for (int64_t r = 0; r < w->n; r++)
        if (w->list[r].s.length == 0 && i-- == 0)
            return w->list[r].name;
    return "";
}

static status tell_left_out(work *w)
{
    int64_t unfound = 0, bases = 0;
    for (int64_t i = 0; i < w->n; i++) {
        w->report->empty += w->list[i].s.length == 0;
        bases += w->list[i].s.length;
    }
    for (int64_t r = 0; r < w->map.n_rows; r++)
        unfound += !w->map.rows[r].found;
    w->report->left_out = w->n_left;
    if (w->n == 0)
        return fail(STATUS_DATA,
                    "%s: names none of the sequences (%.80s stands in the first file, %.80s in the "
                    "table); correct the names",
                    w->o->map, w->n_left ? w->left[0] : "nothing", w->map.rows[0].name);
    if (bases == 0)
        return fail(STATUS_DATA, "%s: no sequence holds a base; give FASTA with letters",
                    w->o->files[0]);
    warn_of(w, w->n_left, left_name, "not in the table; left out");
    warn_of(w, unfound, unfound_name, "of the table are in no file; ignored");
    warn_of(w, w->report->empty, empty_name,
            "without a base; kept by name, nothing is drawn there");
    if (w->cut > 0)
        log_warning("%lld descriptions were cut to %d bytes", (long long)w->cut, DATASET_TEXT_MOST);
    return STATUS_OK;
}

/* ---- labels, splits, assembly ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static status labels_make(work *w)
{
    w->labels = calloc((size_t)w->n + 1, sizeof *w->labels);
    if (!w->labels)
        return no_memory();
    for (int64_t i = 0; i < w->n; i++)
        if (w->list[i].row && *w->list[i].row->label)
            w->labels[w->n_labels++] = (char *)(uintptr_t)w->list[i].row->label;
    qsort(w->labels, (size_t)w->n_labels, sizeof *w->labels, by_text);
    int64_t kept = 0;
    for (int64_t i = 0; i < w->n_labels; i++)
        if (kept == 0 || strcmp(w->labels[kept - 1], w->labels[i]) != 0)
            w->labels[kept++] = w->labels[i];
    w->n_labels = kept;
    for (int64_t i = 0; i < w->n; i++)
        if (w->list[i].row && *w->list[i].row->label) {
            const char *key = w->list[i].row->label;
            char **at = bsearch(&key, w->labels, (size_t)kept, sizeof *w->labels, by_text);
            w->list[i].s.label = at ? (int32_t)(at - w->labels) : -1;
        }
    return STATUS_OK;
}

static int by_name(const void *a, const void *b, void *list)
{
    const record *r = list;
    return strcmp(r[*(const int64_t *)a].name, r[*(const int64_t *)b].name);
}

/* Sequences of one locus are dealt together, others each by itself. */
static status loci_join(const work *w, const int64_t *order, int32_t *component)
{
    name_table loci = {0};
    status st = STATUS_OK;
    for (int32_t i = 0; i < w->n; i++)
        component[i] = i;
    for (int32_t i = 0; i < w->n && st == STATUS_OK; i++) {
        const record *r = &w->list[order[i]];
        int64_t already = -1;
        if (!r->row || !*r->row->locus)
            continue;
        st = name_table_add(&loci, r->row->locus, i, &already);
        if (st == STATUS_OK && already >= 0)
            split_relate(component, (int32_t)already, i);
    }
    for (int32_t i = 0; i < w->n; i++)
        component[i] = split_component(component, i);
    name_table_close(&loci);
    return st;
}

/* The table's splits; without them --split deals, and without a table all train. */
static status splits_make(work *w)
{
    const size_t n = (size_t)w->n;
    int64_t *order = malloc(n * sizeof *order);
    individual *as_people = calloc(n, sizeof *as_people);
    int32_t *component = malloc(n * sizeof *component);
    int *given = malloc(n * sizeof *given);
    split_result result = {0};
    split_input in = {.n_people = w->n,
                      .people = as_people,
                      .component = component,
                      .given = !w->o->map || w->map.has_split ? given : NULL,
                      .seed = w->o->seed};
    memcpy(in.fraction, w->o->fraction, sizeof in.fraction);
    status st = order && as_people && component && given ? STATUS_OK : no_memory();
    if (st != STATUS_OK)
        goto done;
    for (int64_t i = 0; i < w->n; i++)
        order[i] = i;
    qsort_r(order, n, sizeof *order, by_name, w->list);
    for (int64_t i = 0; i < w->n; i++) {
        const record *r = &w->list[order[i]];
        const char *label = r->row ? r->row->label : "";
        as_people[i] = (individual){.id = r->name,
                                    .population = label,
                                    .superpopulation = label,
                                    .family = "",
                                    .label = r->s.label};
        given[i] = r->row && r->row->split >= 0 ? r->row->split : SPLIT_TRAIN;
    }
    TRY_GOTO(done, loci_join(w, order, component));
    if (in.given) /* as the table says, also where it parts a locus */
        for (int32_t i = 0; i < w->n; i++)
            component[i] = i;
    TRY_GOTO(done, split_people(&in, &result));
    for (int64_t i = 0; i < w->n; i++)
        w->list[order[i]].s.split = result.split[i];
    memcpy(w->report->split_hash, result.hash, sizeof result.hash);
done:
    split_close(&result);
    free(order);
    free(as_people);
    free(component);
    free(given);
    return st;
}

/* The assembly whose lengths all chromosomes have that a name tells; otherwise unknown. */
static void assembly_find_out(work *w)
{
    const char *asked = w->o->assembly;
    unsigned fits = ~0u;
    int seen = 0;
    char *to = w->report->assembly;
    snprintf(to, sizeof w->report->assembly, "unknown");
    if (asked && strcmp(asked, "auto") != 0) {
        const int known = assembly_find(asked);
        snprintf(to, sizeof w->report->assembly, "%s", known >= 0 ? assembly_name(known) : asked);
        return;
    }
    for (int64_t i = 0; i < w->n; i++) {
        const int k = chromosome_identity(w->list[i].name);
        if (k > 0 && k != CHROMOSOME_MT) {
            fits &= assembly_fits(k, w->list[i].s.length);
            seen++;
        }
    }
    for (int a = 0; a < assemblies() && seen > 0; a++)
        if (fits == 1u << a)
            snprintf(to, sizeof w->report->assembly, "%s", assembly_name(a));
}

/* ---- the file ---- */

static status report_fill(work *w)
{
    sequences_report *r = w->report;
    r->n = w->n;
    r->n_labels = w->n_labels;
    r->labels = calloc((size_t)w->n_labels + 1, sizeof *r->labels);
    r->label_bases = calloc((size_t)w->n_labels + 1, sizeof *r->label_bases);
    if (!r->labels || !r->label_bases)
        return no_memory();
    for (int64_t i = 0; i < w->n_labels; i++)
        if (!(r->labels[i] = strdup(w->labels[i])))
            return no_memory();
    for (int64_t i = 0; i < w->n; i++) {
        const sequence *s = &w->list[i].s;
        r->sequences[s->split]++;
        r->bases[s->split] += s->length;
        if (s->label >= 0)
            r->label_bases[s->label] += s->length;
        r->count.a += s->count.a;
        r->count.c += s->count.c;
        r->count.g += s->count.g;
        r->count.t += s->count.t;
        r->count.n += s->count.n;
        r->count.other += s->count.other;
        r->count.masked += s->count.masked;
    }
    return STATUS_OK;
}

static status write_out(work *w)
{
    sequence *list = malloc((size_t)w->n * sizeof *list);
    status st = comm_agree(w->c, list ? STATUS_OK : no_memory());
    if (st == STATUS_OK) {
        for (int64_t i = 0; i < w->n; i++)
            list[i] = w->list[i].s;
        const sequences_part part = {.assembly = w->report->assembly,
                                     .split_hash = w->report->split_hash,
                                     .seed = w->o->seed,
                                     .n = w->n,
                                     .n_labels = w->n_labels,
                                     .n_bytes = (w->at + 1) / 2,
                                     .n_other = w->n_other,
                                     .list = list,
                                     .labels = (const char *const *)w->labels,
                                     .other = w->other,
                                     .chunk = w->chunk};
        st = sequences_write(w->o->output, w->c, &part, &w->report->file_bytes);
    }
    free(list);
    return st;
}

static void work_close(work *w)
{
    for (int64_t i = 0; i < w->n; i++) {
        free(w->list[i].name);
        free(w->list[i].description);
    }
    for (int64_t i = 0; i < w->n_left; i++)
        free(w->left[i]);
    for (int64_t i = 0; i < w->n_chunks; i++)
        free(w->chunk[i]);
    free(w->list);
    free(w->line_of);
    free(w->file_of);
    free(w->left);
    free(w->chunk);
    free(w->other);
    free(w->labels);
    name_table_close(&w->by_name);
    sequence_map_close(&w->map);
}

static status read_all(work *w)
{
    if (w->o->map)
        TRY(sequence_map_read(w->o->map, &w->map));
    TRY(files_read(w));
    TRY(tell_left_out(w));
    TRY(labels_make(w));
    TRY(splits_make(w));
    assembly_find_out(w);
    return report_fill(w);
}

status import_is_fasta(const import_options *o, comm *c, bool *is)
{
    int64_t answer = comm_rank(c) == 0 && o->n_files > 0 && fasta_recognise(o->files[0]);
    TRY(comm_bcast(c, &answer, sizeof answer, 0));
    *is = answer != 0;
    return STATUS_OK;
}

status import_sequences(const import_options *o, comm *c, sequences_report *r)
{
    memset(r, 0, sizeof *r);
    const double started = clock_monotonic_s();
    work w = {.o = o, .c = c, .report = r};
    status st = comm_agree(c, read_all(&w)); /* every rank reads the same: one line */
    if (st == STATUS_OK)
        st = write_out(&w);
    r->seconds = clock_monotonic_s() - started;
    work_close(&w);
    return st;
}
