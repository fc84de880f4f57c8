/* Verification of an open data set: see dataset_verify.h. */
#include "io/dataset_verify.h"

#include "io/dataset_format.h"
#include "io/h5.h"

#include <stdlib.h>
#include <string.h>

const char *split_name(split_kind split)
{
    static const char *const names[] = {"train", "valid", "test"};
    return names[split];
}

const char *sex_name(sex_kind sex)
{
    static const char *const names[] = {"unknown", "male", "female"};
    return names[sex];
}

/* One column, a chunk at a time: the library checks each chunk's fletcher32 as it reads. */
static status column_verify(hid_t file, const char *path, const char *name, hid_t type)
{
    status st = STATUS_OK;
    hid_t set = H5_NONE, space = H5_NONE, memory = H5_NONE;
    int64_t length = 0;
    void *buffer = malloc((size_t)DATASET_CHUNK * H5Tget_size(type));
    if (!buffer)
        return fail(STATUS_MEMORY, "%s: no memory to read it; use more memory", path);
    TRY_GOTO(done, h5_open_column(file, path, name, type, 1, NULL, &set, &length));
    TRY_H5_GOTO(done, STATUS_DATA, path, space = H5Dget_space(set));
    for (int64_t at = 0; at < length; at += DATASET_CHUNK) {
        hsize_t first = (hsize_t)at, n = (hsize_t)(length - at);
        n = n < (hsize_t)DATASET_CHUNK ? n : (hsize_t)DATASET_CHUNK;
        TRY_H5_GOTO(done, STATUS_DATA, path,
                    H5Sselect_hyperslab(space, H5S_SELECT_SET, &first, NULL, &n, NULL));
        TRY_H5_GOTO(done, STATUS_DATA, path, memory = H5Screate_simple(1, &n, NULL));
        TRY_H5_GOTO(done, STATUS_DATA, path,
                    H5Dread(set, type, memory, space, H5P_DEFAULT, buffer));
        h5_close(&memory);
    }
done:
    h5_close(&memory);
    h5_close(&space);
    h5_close(&set);
    free(buffer);
    return st;
}

status dataset_verify_chunks(const char *path)
{
    hid_t file = H5_NONE;
    TRY(h5_open_read(path, &file));
    status st = column_verify(file, path, "/position", H5T_STD_I32LE);
    if (st == STATUS_OK)
        st = column_verify(file, path, "/allele", H5T_STD_U8LE);
    h5_close(&file); /* the tables were read through the same filters when the set was opened */
    return st;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

status dataset_verify_people(const dataset *d)
{
    const char **id = malloc((size_t)d->n_people * sizeof *id);
    if (!id)
        return fail(STATUS_MEMORY, "%s: no memory for its people; use more memory", d->path);
    status st = STATUS_OK;
    for (int64_t i = 0; i < d->n_people; i++)
        id[i] = d->people[i].id;
    qsort(id, (size_t)d->n_people, sizeof *id, by_text);
    for (int64_t i = 0; i < d->n_people && st == STATUS_OK; i++)
        if (id[i][0] == 0)
            st = fail(STATUS_DATA, "%s: a person without a name; import it again", d->path);
        else if (i > 0 && strcmp(id[i], id[i - 1]) == 0)
            st = fail(STATUS_DATA, "%s: %s stands in it twice; import it again", d->path, id[i]);
    for (int64_t i = 1; i < d->n_labels && st == STATUS_OK; i++)
        if (strcmp(d->labels[i - 1], d->labels[i]) >= 0)
            st = fail(STATUS_DATA, "%s: labels %s and %s out of order; import it again", d->path,
                      d->labels[i - 1], d->labels[i]);
    free(id);
    return st;
}

static int by_pair(const void *a, const void *b)
{
    const related_pair *p = a, *q = b;
    if (p->a != q->a)
        return p->a < q->a ? -1 : 1;
    return p->b < q->b ? -1 : p->b > q->b;
}

status dataset_relatives(const dataset *d, comm *c, related_pair **pairs, int64_t *n)
{
    int size = comm_size(c);
    genotype_bits g;
    related_pair *mine = NULL, *all = NULL;
    int64_t count = 0, total = 0;
    size_t bytes = 0, *counts = calloc((size_t)size, sizeof *counts);
    *pairs = NULL;
    *n = 0;
    status st = relatives_of_dataset(d, &g);
    if (st == STATUS_OK)
        st = relatives_find(&g, comm_rank(c), size, &mine, &count);
    genotype_bits_close(&g);
    if (st == STATUS_OK && !counts)
        st = fail(STATUS_MEMORY, "%s: no memory; use more", d->path);
    TRY_GOTO(done, comm_agree(c, st));
    bytes = (size_t)count * sizeof *mine;
    TRY_GOTO(done, comm_allgather(c, &bytes, sizeof bytes, counts));
    for (int r = 0; r < size; r++)
        total += (int64_t)(counts[r] / sizeof *all);
    if (comm_rank(c) == 0)
        all = malloc(((size_t)total + 1) * sizeof *all);
    if (comm_rank(c) == 0 && !all)
        st = fail(STATUS_MEMORY, "%s: no memory for related pairs; use more", d->path);
    TRY_GOTO(done, comm_agree(c, st));
    TRY_GOTO(done, comm_agree(c, comm_gatherv(c, mine, bytes, all, counts, 0)));
    if (all)
        qsort(all, (size_t)total, sizeof *all, by_pair);
    *pairs = all;
    *n = total;
    all = NULL;
done:
    free(all);
    free(mine);
    free(counts);
    return st;
}

status dataset_verify_relatives(const dataset *d, const related_pair *pairs, int64_t n)
{
    int64_t straddle = 0, first = -1;
    for (int64_t i = 0; i < n; i++)
        if (d->people[pairs[i].a].split != d->people[pairs[i].b].split) {
            first = first < 0 ? i : first;
            straddle++;
        }
    if (straddle == 0)
        return STATUS_OK;
    const individual *a = &d->people[pairs[first].a], *b = &d->people[pairs[first].b];
    char more[64] = "";
    if (straddle > 1)
        snprintf(more, sizeof more, ", and %lld more pair%s", (long long)straddle - 1,
                 straddle > 2 ? "s" : "");
    return fail(
        STATUS_DATA,
        "%s: %s (%s) and %s (%s) are close relatives (KING %.3f) on two sides of the split%s; "
        "import it again without their `split` column or with a `family` column",
        d->path, a->id, split_name(a->split), b->id, split_name(b->split), pairs[first].kinship,
        more);
}
