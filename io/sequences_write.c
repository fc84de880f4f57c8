/* Writing a data set of sequences: tables by the first rank, packed bases chunk by chunk by all. */
#include "io/sequences.h"

#include "io/dataset_format.h"
#include "io/h5_write.h"

#include <stdlib.h>
#include <string.h>

static const char *name_of(const void *part, int64_t i)
{
    return ((const sequences_part *)part)->list[i].name;
}

static const char *description_of(const void *part, int64_t i)
{
    return ((const sequences_part *)part)->list[i].description;
}

static const char *label_of(const void *part, int64_t i)
{
    return ((const sequences_part *)part)->labels[i];
}

static status head_write(const h5_writer *w, const sequences_part *p)
{
    TRY(h5_put_text(w->file, w->path, "program", DATASET_PROGRAM));
    TRY(h5_put_text(w->file, w->path, "kind", SEQUENCES_KIND));
    TRY(h5_put_i64(w->file, w->path, "version", DATASET_VERSION));
    TRY(h5_put_text(w->file, w->path, "assembly", p->assembly));
    TRY(h5_put_text(w->file, w->path, "split_hash", p->split_hash));
    TRY(h5_put_i64(w->file, w->path, "seed", (int64_t)p->seed));
    TRY(h5_put_i64(w->file, w->path, "sequences", p->n));
    TRY(h5_put_i64(w->file, w->path, "labels", p->n_labels));
    TRY(h5_put_i64(w->file, w->path, "bytes", p->n_bytes));
    return h5_put_i64(w->file, w->path, "others", p->n_other);
}

/* /sequence/count, columns as in base_counts. */
static status counts_write(const h5_writer *w, const sequences_part *p)
{
    const int64_t rows = comm_rank(w->c) == 0 ? p->n : 0;
    int64_t(*count)[7] = malloc((size_t)(p->n + 1) * sizeof *count);
    TRY(comm_agree(w->c,
                   count ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->path)));
    for (int64_t i = 0; i < p->n; i++) {
        const base_counts *b = &p->list[i].count;
        memcpy(count[i], (int64_t[]){b->a, b->c, b->g, b->t, b->n, b->other, b->masked},
               sizeof *count);
    }
    status st =
        h5_write_column(w, "/sequence/count", H5T_STD_I64LE, 2, p->n, 7, true, 0, rows, count);
    free(count);
    return st;
}

static status tables_write(const h5_writer *w, const sequences_part *p)
{
    const int64_t n = p->n, room = (n > p->n_other ? n : p->n_other) + 1;
    int64_t *wide = malloc((size_t)room * 2 * sizeof *wide);
    int32_t *label = malloc((size_t)room * sizeof *label);
    uint8_t *narrow = malloc((size_t)room);
    status st = wide && label && narrow ? STATUS_OK
                                        : fail(STATUS_MEMORY, "%s: no memory; use more", w->path);
    TRY_GOTO(done, comm_agree(w->c, st));
    for (int64_t i = 0; i < n; i++) {
        wide[i] = p->list[i].length;
        wide[room + i] = p->list[i].first;
        label[i] = p->list[i].label;
        narrow[i] = (uint8_t)p->list[i].split;
    }
    TRY_GOTO(done, h5_write_texts(w, "/sequence/name", n, name_of, p));
    TRY_GOTO(done, h5_write_texts(w, "/sequence/description", n, description_of, p));
    TRY_GOTO(done, h5_write_table(w, "/sequence/length", H5T_STD_I64LE, n, wide));
    TRY_GOTO(done, h5_write_table(w, "/sequence/first", H5T_STD_I64LE, n, wide + room));
    TRY_GOTO(done, h5_write_table(w, "/sequence/label", H5T_STD_I32LE, n, label));
    TRY_GOTO(done, h5_write_table(w, "/sequence/split", H5T_STD_U8LE, n, narrow));
    TRY_GOTO(done, counts_write(w, p));
    TRY_GOTO(done, h5_write_texts(w, "/label/name", p->n_labels, label_of, p));
    for (int64_t i = 0; i < p->n_other; i++) {
        wide[i] = p->other[i].at;
        narrow[i] = (uint8_t)p->other[i].letter;
    }
    TRY_GOTO(done, h5_write_table(w, "/other/at", H5T_STD_I64LE, p->n_other, wide));
    st = h5_write_table(w, "/other/letter", H5T_STD_U8LE, p->n_other, narrow);
done:
    free(wide);
    free(label);
    free(narrow);
    return st;
}

/* Chunks in turn, one a rank and round. */
static status bases_write(const h5_writer *w, const sequences_part *p)
{
    const int size = comm_size(w->c), rank = comm_rank(w->c);
    const int64_t chunks = (p->n_bytes + DATASET_CHUNK - 1) / DATASET_CHUNK;
    hid_t set = H5_NONE;
    int64_t chunk_rows;
    status st = STATUS_OK;
    TRY_GOTO(done,
             h5_write_create(w, "/base", H5T_STD_U8LE, 1, p->n_bytes, 1, false, &chunk_rows, &set));
    for (int64_t round = 0; round * size < chunks; round++) {
        const int64_t k = round * size + rank, at = k * DATASET_CHUNK;
        const int64_t left = p->n_bytes - at, n = left < 0               ? 0
                                                  : left < DATASET_CHUNK ? left
                                                                         : DATASET_CHUNK;
        st = h5_write_rows(w, set, H5T_STD_U8LE, 1, 1, n > 0 ? at : 0, n,
                           n > 0 ? p->chunk[round] : NULL);
        TRY_GOTO(done, comm_agree(w->c, st));
    }
done:
    h5_close(&set);
    return comm_agree(w->c, st);
}

status sequences_write(const char *path, comm *c, const sequences_part *p, int64_t *file_bytes)
{
    static const char *const groups[] = {"/sequence", "/label", "/other"};
    h5_writer w;
    int64_t names = 256 << 10;
    for (int64_t i = 0; i < p->n; i++)
        names += 128 + (int64_t)(strlen(p->list[i].name) + strlen(p->list[i].description));
    status st =
        h5_write_open(path, c, p->n_bytes / 2 + names, p->n_bytes + 9 * p->n_other + names, &w);
    if (st == STATUS_OK)
        st = comm_agree(c, head_write(&w, p));
    if (st == STATUS_OK)
        st = comm_agree(c, h5_write_groups(&w, groups, 3));
    if (st == STATUS_OK)
        st = tables_write(&w, p);
    if (st == STATUS_OK)
        st = bases_write(&w, p);
    return h5_write_end(&w, path, DATASET_VERSION, st, file_bytes);
}
