/* Reading a data set's tables: see dataset_index.h. Every type, length, range and link is checked
 * before anything is believed, although the seal has already said that no byte changed: a file that
 * another writer sealed must not crash this program either. */
#include "io/dataset_index.h"

#include "io/dataset_format.h"
#include "io/h5.h"

#include <stdlib.h>
#include <string.h>

#define MOST_PEOPLE (INT64_C(1) << 24)
#define MOST_SITES (INT64_C(1) << 30)

static size_t place(size_t *end, int64_t count, size_t size)
{
    size_t at = (*end + 63) / 64 * 64;
    *end = at + (size_t)count * size;
    return at;
}

static int64_t texts_of(const index_head *h, int which)
{
    return which == TEXT_CHROMOSOME ? h->n_chromosomes
           : which == TEXT_LABEL    ? h->n_labels
                                    : h->n_people;
}

void index_layout_of(const index_head *h, index_layout *l)
{
    size_t own = 0, shared = 0;
    int64_t runs = h->n_people * h->n_chromosomes + 1;
    for (int i = 0; i < TEXTS; i++)
        l->text[i] = place(&own, texts_of(h, i), (size_t)h->stride[i]);
    l->person = place(&own, h->n_people, sizeof(person_numbers));
    l->chromosome = place(&own, h->n_chromosomes, sizeof(chromosome_numbers));
    l->chunk = place(&own, h->n_chunks, sizeof(chunk_place));
    l->own_bytes = own + 1;
    l->sites = place(&shared, h->n_sites, sizeof(site));
    l->run = place(&shared, runs, sizeof(int64_t));
    l->missing = place(&shared, h->n_missing, sizeof(missing_run));
    l->missing_run_of = place(&shared, runs, sizeof(int64_t));
    l->entries = place(&shared, h->n_entries, sizeof(entry));
    l->shared_bytes = shared + 1;
}

static status wrong(const char *path, const char *what)
{
    return fail(STATUS_DATA, "%s: %s; the file is damaged or not ours: import it again", path,
                what);
}

static status head_read(hid_t file, const char *path, index_head *h)
{
    char text[64];
    int64_t version = 0;
    TRY(h5_get_text(file, path, "program", text, sizeof text));
    if (strcmp(text, DATASET_PROGRAM))
        return wrong(path, "written by another program");
    TRY(h5_get_text(file, path, "kind", text, sizeof text));
    if (strcmp(text, SEQUENCES_KIND) == 0)
        return fail(STATUS_DATA,
                    "%s: holds sequences, and genotypes are wanted here; import a VCF, or set "
                    "data.tokens: nucleotide where a model is trained",
                    path);
    if (strcmp(text, DATASET_KIND))
        return wrong(path, "not a data set (another kind of file of this program)");
    TRY(h5_get_i64(file, path, "version", &version));
    if (version != DATASET_VERSION)
        return fail(STATUS_DATA,
                    "%s: data set version %lld, this program reads %d; import it again", path,
                    (long long)version, DATASET_VERSION);
    TRY(h5_get_text(file, path, "assembly", h->assembly, sizeof h->assembly));
    TRY(h5_get_text(file, path, "split_hash", h->split_hash, sizeof h->split_hash));
    TRY(h5_get_i64(file, path, "phased", &h->phased));
    TRY(h5_get_i64(file, path, "seed", &h->seed));
    TRY(h5_get_i64(file, path, "people", &h->n_people));
    TRY(h5_get_i64(file, path, "chromosomes", &h->n_chromosomes));
    TRY(h5_get_i64(file, path, "sites", &h->n_sites));
    TRY(h5_get_i64(file, path, "entries", &h->n_entries));
    TRY(h5_get_i64(file, path, "labels", &h->n_labels));
    TRY(h5_get_i64(file, path, "shards", &h->n_shards));
    TRY(h5_get_i64(file, path, "missing_runs", &h->n_missing));
    if (h->n_people < 1 || h->n_people > MOST_PEOPLE || h->n_chromosomes < 1 ||
        h->n_chromosomes > MOST_SITES / h->n_people || h->n_sites < 0 || h->n_sites > MOST_SITES ||
        h->n_labels < 0 || h->n_labels > MOST_PEOPLE || h->n_shards < 1 ||
        h->n_shards > h->n_people || h->n_entries < 0 || h->n_missing < 0 ||
        h->n_entries > 4 * h->n_people * (h->n_sites + 1) ||
        h->n_missing > h->n_people * (h->n_sites + 1) || (h->phased & ~INT64_C(1)))
        return wrong(path, "impossible counts in its head");
    return STATUS_OK;
}

/* ---- people, chromosomes, labels ---- */

static const char *const text_name[TEXTS] = {
    "/individual/id",     "/individual/population", "/individual/superpopulation",
    "/individual/family", "/chromosome/name",       "/label/name"};

static status people_read(hid_t file, const char *path, const index_head *h, person_numbers *to)
{
    int64_t n = h->n_people;
    int32_t *label = malloc((size_t)n * 2 * sizeof *label), *shard = label ? label + n : NULL;
    uint8_t *sex = malloc((size_t)n * 2), *split = sex ? sex + n : NULL;
    status st = STATUS_OK;
    if (!label || !sex) {
        st = fail(STATUS_MEMORY, "%s: no memory for its people; use more memory", path);
        goto done;
    }
    TRY_GOTO(done, h5_read_column(file, path, "/individual/label", H5T_STD_I32LE, 1, &n, label));
    TRY_GOTO(done, h5_read_column(file, path, "/individual/shard", H5T_STD_I32LE, 1, &n, shard));
    TRY_GOTO(done, h5_read_column(file, path, "/individual/sex", H5T_STD_U8LE, 1, &n, sex));
    TRY_GOTO(done, h5_read_column(file, path, "/individual/split", H5T_STD_U8LE, 1, &n, split));
    for (int64_t i = 0; i < n; i++) {
        bool train = split[i] == SPLIT_TRAIN;
        if (sex[i] > SEX_FEMALE || split[i] > SPLIT_TEST || label[i] < -1 ||
            label[i] >= h->n_labels || shard[i] < -1 || shard[i] >= h->n_shards ||
            (shard[i] >= 0) != train) {
            st = wrong(path, "a person with an impossible sex, split, label or shard");
            goto done;
        }
        to[i] = (person_numbers){label[i], shard[i], sex[i], split[i], {0, 0}};
    }
done:
    free(label);
    free(sex);
    return st;
}

static status chromosomes_read(hid_t file, const char *path, const index_head *h,
                               chromosome_numbers *to)
{
    int64_t n = h->n_chromosomes, next = 0;
    int64_t *column = malloc((size_t)n * 3 * sizeof *column);
    if (!column)
        return fail(STATUS_MEMORY, "%s: no memory for its chromosomes; use more memory", path);
    status st = STATUS_OK;
    TRY_GOTO(done, h5_read_column(file, path, "/chromosome/length", H5T_STD_I64LE, 1, &n, column));
    TRY_GOTO(done, h5_read_column(file, path, "/chromosome/site_offset", H5T_STD_I64LE, 1, &n,
                                  column + n));
    TRY_GOTO(done, h5_read_column(file, path, "/chromosome/site_count", H5T_STD_I64LE, 1, &n,
                                  column + 2 * n));
    for (int64_t i = 0; i < n; i++) {
        to[i] = (chromosome_numbers){column[i], column[n + i], column[2 * n + i]};
        if (to[i].length < 0 || to[i].length > INT32_MAX || to[i].site0 != next ||
            to[i].sites < 0 || to[i].sites > h->n_sites - next) {
            st = wrong(path, "a chromosome with an impossible length or range of sites");
            goto done;
        }
        next += to[i].sites;
    }
    if (next != h->n_sites)
        st = wrong(path, "sites that belong to no chromosome");
done:
    free(column);
    return st;
}

/* ---- sites, index, missing calls ---- */

static status sites_read(hid_t file, const char *path, const index_head *h,
                         const chromosome_numbers *chromosomes, site *to)
{
    int64_t n = h->n_sites;
    int32_t *position = malloc(((size_t)n + 1) * sizeof *position);
    uint8_t *ref = malloc(2 * (size_t)n + 1), *alts = ref ? ref + n : NULL;
    status st = STATUS_OK;
    if (!position || !ref) {
        st = fail(STATUS_MEMORY, "%s: no memory for its sites; use more memory", path);
        goto done;
    }
    TRY_GOTO(done, h5_read_column(file, path, "/site/position", H5T_STD_I32LE, 1, &n, position));
    TRY_GOTO(done, h5_read_column(file, path, "/site/ref", H5T_STD_U8LE, 1, &n, ref));
    TRY_GOTO(done, h5_read_column(file, path, "/site/alts", H5T_STD_U8LE, 1, &n, alts));
    for (int64_t c = 0; c < h->n_chromosomes; c++) {
        const chromosome_numbers *k = &chromosomes[c];
        int64_t before = 0, most = k->length ? k->length : INT32_MAX;
        for (int64_t s = k->site0; s < k->site0 + k->sites; s++) {
            if (position[s] <= before || position[s] > most || ref[s] > 3 || alts[s] > 15 ||
                (alts[s] >> ref[s] & 1)) {
                st = wrong(path, "a site out of order or with impossible alleles");
                goto done;
            }
            before = position[s];
            to[s] = (site){position[s], ref[s], alts[s]};
        }
    }
done:
    free(position);
    free(ref);
    return st;
}

/* offset[r + 1] = offset[r] + count[r] must fill `total` without holes; written as one ascending
 * array. */
static status runs_read(hid_t file, const char *path, const index_head *h, const char *offset_name,
                        const char *count_name, int64_t total, int64_t *to)
{
    int64_t dims[2] = {h->n_people, h->n_chromosomes}, n = h->n_people * h->n_chromosomes;
    int64_t *count = malloc((size_t)n * sizeof *count);
    if (!count)
        return fail(STATUS_MEMORY, "%s: no memory for its index; use more memory", path);
    status st = STATUS_OK;
    TRY_GOTO(done, h5_read_column(file, path, offset_name, H5T_STD_I64LE, 2, dims, to));
    TRY_GOTO(done, h5_read_column(file, path, count_name, H5T_STD_I64LE, 2, dims, count));
    int64_t next = 0;
    for (int64_t r = 0; r < n; r++) {
        if (to[r] != next || count[r] < 0 || count[r] > total - next) {
            st = wrong(path, "an index with holes or overlaps");
            goto done;
        }
        next += count[r];
    }
    to[n] = next;
    if (next != total)
        st = wrong(path, "an index that does not reach the end of its column");
done:
    free(count);
    return st;
}

static status missing_read(hid_t file, const char *path, const index_head *h,
                           const chromosome_numbers *chromosomes, const int64_t *run_of,
                           missing_run *to)
{
    int64_t n = h->n_missing;
    int32_t *first = malloc((2 * (size_t)n + 1) * sizeof *first), *count = first ? first + n : NULL;
    if (!first)
        return fail(STATUS_MEMORY, "%s: no memory for its missing calls; use more memory", path);
    status st = STATUS_OK;
    TRY_GOTO(done, h5_read_column(file, path, "/missing/first", H5T_STD_I32LE, 1, &n, first));
    TRY_GOTO(done, h5_read_column(file, path, "/missing/count", H5T_STD_I32LE, 1, &n, count));
    for (int64_t r = 0; r < h->n_people * h->n_chromosomes; r++) {
        const chromosome_numbers *k = &chromosomes[r % h->n_chromosomes];
        int64_t next = k->site0, end = k->site0 + k->sites;
        for (int64_t i = run_of[r]; i < run_of[r + 1]; i++) {
            if (first[i] < next || count[i] < 1 || first[i] + (int64_t)count[i] > end) {
                st = wrong(path, "missing calls out of order or beyond a chromosome");
                goto done;
            }
            next = first[i] + (int64_t)count[i];
            to[i] = (missing_run){first[i], count[i]};
        }
    }
done:
    free(first);
    return st;
}

/* ---- where the long columns lie ---- */

static status pipeline_check(hid_t set, const char *path, int64_t *chunk)
{
    static const H5Z_filter_t want[STAGES] = {H5Z_FILTER_SHUFFLE, H5Z_FILTER_DEFLATE,
                                              H5Z_FILTER_FLETCHER32};
    status st = STATUS_OK;
    hsize_t dims[1] = {0};
    hid_t plist = H5_NONE;
    TRY_H5_GOTO(done, STATUS_DATA, path, plist = H5Dget_create_plist(set));
    if (H5Pget_layout(plist) != H5D_CHUNKED || H5Pget_chunk(plist, 1, dims) != 1 ||
        H5Pget_nfilters(plist) != STAGES || dims[0] < 1 || dims[0] > (hsize_t)DATASET_CHUNK) {
        st = wrong(path, "a column with other chunks than this program writes");
        goto done;
    }
    for (unsigned i = 0; i < STAGES; i++) {
        unsigned flags = 0, config = 0;
        size_t n = 0;
        if (H5Pget_filter2(plist, i, &flags, &n, NULL, 0, NULL, &config) != want[i])
            st = wrong(path, "a column with other filters than this program writes");
    }
    *chunk = (int64_t)dims[0];
done:
    h5_close(&plist);
    return st;
}

static status chunks_read(hid_t set, const char *path, const index_head *h, int which,
                          int64_t file_bytes, chunk_place *to)
{
    for (int64_t i = 0; i < h->n_chunks; i++) {
        hsize_t first = (hsize_t)(i * h->chunk_entries), bytes = 0;
        haddr_t at = HADDR_UNDEF;
        unsigned skipped = 0;
        TRY_H5(STATUS_DATA, path, H5Dget_chunk_info_by_coord(set, &first, &skipped, &at, &bytes));
        if (at == HADDR_UNDEF || bytes < 1 || bytes > (hsize_t)file_bytes ||
            at > (haddr_t)file_bytes - bytes)
            return wrong(path, "a column with a chunk that is not in the file");
        to[i].at[which] = (int64_t)at;
        to[i].bytes[which] = (int64_t)bytes;
        to[i].skipped[which] = skipped;
    }
    return STATUS_OK;
}

/* Opens both columns and finds the number of chunks: needed before the layout is known. */
static status columns_open(hid_t file, const char *path, index_head *h, hid_t set[2])
{
    int64_t chunk[2] = {0, 0};
    TRY(h5_open_column(file, path, "/position", H5T_STD_I32LE, 1, &h->n_entries, &set[0], NULL));
    TRY(h5_open_column(file, path, "/allele", H5T_STD_U8LE, 1, &h->n_entries, &set[1], NULL));
    if (h->n_entries == 0)
        return STATUS_OK;
    TRY(pipeline_check(set[0], path, &chunk[0]));
    TRY(pipeline_check(set[1], path, &chunk[1]));
    if (chunk[0] != chunk[1])
        return wrong(path, "columns with chunks of different lengths");
    h->chunk_entries = chunk[0];
    h->n_chunks = (h->n_entries + chunk[0] - 1) / chunk[0];
    return STATUS_OK;
}

/* Everything whose place in memory the layout gives. */
static status parts_read(hid_t file, const char *path, const index_head *h, char *const text[TEXTS],
                         const hid_t column[2], char *own, char *tables)
{
    index_layout l;
    index_layout_of(h, &l);
    for (int i = 0; i < TEXTS; i++)
        if (texts_of(h, i) > 0) /* a set without labels has no text of them */
            memcpy(own + l.text[i], text[i], (size_t)(texts_of(h, i) * h->stride[i]));
    chromosome_numbers *chromosomes = (chromosome_numbers *)(own + l.chromosome);
    int64_t *run_of = (int64_t *)(tables + l.missing_run_of);
    TRY(people_read(file, path, h, (person_numbers *)(own + l.person)));
    TRY(chromosomes_read(file, path, h, chromosomes));
    TRY(sites_read(file, path, h, chromosomes, (site *)(tables + l.sites)));
    TRY(runs_read(file, path, h, "/run/offset", "/run/count", h->n_entries,
                  (int64_t *)(tables + l.run)));
    TRY(runs_read(file, path, h, "/missing/run_offset", "/missing/run_count", h->n_missing,
                  run_of));
    TRY(missing_read(file, path, h, chromosomes, run_of, (missing_run *)(tables + l.missing)));
    hsize_t bytes = 0;
    TRY_H5(STATUS_DATA, path, H5Fget_filesize(file, &bytes));
    for (int which = 0; which < 2; which++)
        TRY(chunks_read(column[which], path, h, which, (int64_t)bytes,
                        (chunk_place *)(own + l.chunk)));
    return STATUS_OK;
}

status index_read(const char *path, index_head *h, char **own, char **tables)
{
    status st = STATUS_OK;
    hid_t file = H5_NONE, column[2] = {H5_NONE, H5_NONE};
    char *text[TEXTS] = {NULL};
    index_layout l;
    memset(h, 0, sizeof *h);
    *own = *tables = NULL;
    TRY_GOTO(done, h5_open_read(path, &file));
    TRY_GOTO(done, head_read(file, path, h));
    for (int i = 0; i < TEXTS; i++) {
        size_t stride = 1;
        if (texts_of(h, i) > 0)
            TRY_GOTO(done,
                     h5_read_texts(file, path, text_name[i], texts_of(h, i), &text[i], &stride));
        h->stride[i] = (int64_t)stride;
    }
    TRY_GOTO(done, columns_open(file, path, h, column));
    index_layout_of(h, &l);
    *own = calloc(1, l.own_bytes);
    *tables = calloc(1, l.entries + 1);
    if (!*own || !*tables) {
        st = fail(STATUS_MEMORY, "%s: no memory for its tables; use more memory", path);
        goto done;
    }
    st = parts_read(file, path, h, text, column, *own, *tables);
done:
    for (int i = 0; i < TEXTS; i++)
        free(text[i]);
    h5_close(&column[0]);
    h5_close(&column[1]);
    h5_close(&file);
    if (st != STATUS_OK) {
        free(*own);
        free(*tables);
        *own = *tables = NULL;
    }
    return st;
}
