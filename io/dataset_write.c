/* Writing a data set collectively: see dataset_write.h. Each rank hands its stretch of the long
 * columns to the ranks that own the chunks, so that no chunk has two writers (the library's own
 * exchange of shared chunks is the least tested part of it), then all write whole chunks in rounds
 * of bounded memory. */
#include "io/dataset_write.h"

#include "io/dataset_format.h"
#include "io/h5.h"
#include "io/reserve.h"
#include "io/seal.h"

#include <mpi.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFLATE_LEVEL 4 /* 6 gains 2 % of size and takes 1.5 times as long; docs/formats.md */
#define ROUND_CHUNKS 16 /* chunks a rank compresses at once: 64 MiB of /position */
#define SMALL 512       /* a table of fewer elements is stored as it is */

typedef struct {
    char path[1100]; /* of the temporary file */
    comm *c;
    hid_t file;
    const dataset_part *part;
} writer;

/* ---- one column ---- */

/* Layout of a column of n rows of `width` elements: whole, or in chunks with the three filters. */
static status layout_make(const writer *w, int ndim, int64_t rows, int64_t width, bool table,
                          int64_t *chunk_rows, hid_t *plist)
{
    status st = STATUS_OK;
    hsize_t chunk[2] = {0, (hsize_t)width};
    TRY_H5(STATUS_INTERNAL, w->path, *plist = H5Pcreate(H5P_DATASET_CREATE));
    TRY_H5_GOTO(failed, STATUS_INTERNAL, w->path, H5Pset_obj_track_times(*plist, 0));
    *chunk_rows = rows;
    if (rows == 0 || (table && rows * width < SMALL))
        return STATUS_OK;
    int64_t most = DATASET_CHUNK / width > 0 ? DATASET_CHUNK / width : 1;
    *chunk_rows = rows < most ? rows : most;
    chunk[0] = (hsize_t)*chunk_rows;
    TRY_H5_GOTO(failed, STATUS_INTERNAL, w->path, H5Pset_chunk(*plist, ndim, chunk));
    TRY_H5_GOTO(failed, STATUS_INTERNAL, w->path, H5Pset_shuffle(*plist));
    TRY_H5_GOTO(failed, STATUS_INTERNAL, w->path, H5Pset_deflate(*plist, DEFLATE_LEVEL));
    TRY_H5_GOTO(failed, STATUS_INTERNAL, w->path, H5Pset_fletcher32(*plist));
    TRY_H5_GOTO(failed, STATUS_INTERNAL, w->path, H5Pset_fill_time(*plist, H5D_FILL_TIME_NEVER));
    return STATUS_OK;
failed:
    h5_close(plist);
    return st;
}

/* One collective write of rows [first, first + count) of a column; count 0 takes part without data.
 */
static status rows_write(const writer *w, hid_t set, hid_t type, int ndim, int64_t width,
                         int64_t first, int64_t count, const void *data)
{
    status st = STATUS_OK;
    hid_t space = H5_NONE, memory = H5_NONE, transfer = H5_NONE;
    hsize_t at[2] = {(hsize_t)first, 0}, n[2] = {(hsize_t)count, (hsize_t)width};
    static const char nothing[8];
    TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, space = H5Dget_space(set));
    TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, memory = H5Screate_simple(ndim, n, NULL));
    TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, transfer = H5Pcreate(H5P_DATASET_XFER));
    if (comm_size(w->c) > 1)
        TRY_H5_GOTO(done, STATUS_INTERNAL, w->path,
                    H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE));
    if (count > 0) {
        TRY_H5_GOTO(done, STATUS_INTERNAL, w->path,
                    H5Sselect_hyperslab(space, H5S_SELECT_SET, at, NULL, n, NULL));
    } else {
        TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, H5Sselect_none(space));
        TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, H5Sselect_none(memory));
    }
    TRY_H5_GOTO(done, STATUS_RESOURCE, w->path,
                H5Dwrite(set, type, memory, space, transfer, data ? data : nothing));
done:
    h5_close(&transfer);
    h5_close(&memory);
    h5_close(&space);
    return st;
}

/* Chunks that a rank owns: [chunks * rank / size, chunks * (rank + 1) / size). */
static int64_t owned_from(int64_t chunks, int64_t rank, int64_t size)
{
    return chunks * rank / size;
}

/* Creates a column of `rows` rows of `width` elements and writes it: each rank its rows [first,
 * first + count), which begin and end where its chunks do (or it has none, or there is one writer).
 */
static status column_write(const writer *w, const char *name, hid_t type, int ndim, int64_t rows,
                           int64_t width, bool table, int64_t first, int64_t count,
                           const void *data)
{
    status st = STATUS_OK;
    hid_t space = H5_NONE, plist = H5_NONE, set = H5_NONE;
    hsize_t dims[2] = {(hsize_t)rows, (hsize_t)width};
    int64_t chunk_rows = 1;
    size_t row_bytes = H5Tget_size(type) * (size_t)width;
    TRY_GOTO(done, layout_make(w, ndim, rows, width, table, &chunk_rows, &plist));
    TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, space = H5Screate_simple(ndim, dims, NULL));
    TRY_H5_GOTO(done, STATUS_RESOURCE, w->path,
                set = H5Dcreate2(w->file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT));
    if (rows == 0)
        goto done;
    int64_t step = chunk_rows * ROUND_CHUNKS, rounds = (count + step - 1) / step;
    TRY_GOTO(done, comm_max_i64(w->c, &rounds, 1));
    for (int64_t i = 0; i < rounds; i++) {
        int64_t left = count - i * step, n = left < 0 ? 0 : left < step ? left : step;
        const char *from = n > 0 ? (const char *)data + (size_t)(i * step) * row_bytes : NULL;
        st = rows_write(w, set, type, ndim, width, n > 0 ? first + i * step : 0, n, from);
        TRY_GOTO(done, comm_agree(w->c, st));
    }
done:
    h5_close(&set);
    h5_close(&space);
    h5_close(&plist);
    return comm_agree(w->c, st);
}

/* A table that every rank has: the first writes it. */
static status table_write(const writer *w, const char *name, hid_t type, int64_t rows,
                          const void *data)
{
    bool mine = comm_rank(w->c) == 0;
    return column_write(w, name, type, 1, rows, 1, true, 0, mine ? rows : 0, mine ? data : NULL);
}

/* How much of [a, b) lies in [c, d), and where it begins. */
static int64_t overlap(int64_t a, int64_t b, int64_t c, int64_t d, int64_t *from)
{
    int64_t low = a > c ? a : c, high = b < d ? b : d;
    *from = low;
    return high > low ? high - low : 0;
}

/* begin[r] .. begin[r + 1]: where each rank's stretch of a column lies. */
static status stretches(const writer *w, int64_t mine, int64_t **begin)
{
    int size = comm_size(w->c);
    int64_t *count = malloc((size_t)(2 * size + 1) * sizeof *count);
    status st = count ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->path);
    TRY_GOTO(failed, comm_agree(w->c, st));
    TRY_GOTO(failed, comm_allgather(w->c, &mine, sizeof mine, count + size + 1));
    count[0] = 0;
    for (int r = 0; r < size; r++)
        count[r + 1] = count[r] + count[size + 1 + r];
    *begin = count;
    return STATUS_OK;
failed:
    free(count);
    return st;
}

/* A column of which each rank holds a stretch [begin[rank], begin[rank + 1]): to the owners of its
 * chunks, then written. */
static status spread_write(const writer *w, const char *name, hid_t type, const int64_t *begin,
                           const void *data)
{
    int size = comm_size(w->c), rank = comm_rank(w->c);
    int64_t total = begin[size], element = (int64_t)H5Tget_size(type);
    int64_t chunk = total < DATASET_CHUNK ? (total ? total : 1) : DATASET_CHUNK;
    int64_t chunks = (total + chunk - 1) / chunk;
    size_t *plan = calloc((size_t)size * 4, sizeof *plan);
    size_t *send = plan, *send_at = plan + size, *recv = plan + 2 * size,
           *recv_at = plan + 3 * size;
    int64_t first = owned_from(chunks, rank, size) * chunk, after;
    after = owned_from(chunks, rank + 1, size) * chunk;
    if (first > total)
        first = total;
    if (after > total)
        after = total;
    char *own = malloc((size_t)((after - first) * element) + 1);
    status st = plan && own ? STATUS_OK
                            : fail(STATUS_MEMORY, "%s: no memory to write %s; use more ranks",
                                   w->path, name);
    TRY_GOTO(done, comm_agree(w->c, st));
    for (int r = 0; r < size; r++) {
        int64_t theirs = owned_from(chunks, r, size) * chunk, from;
        int64_t end = owned_from(chunks, r + 1, size) * chunk;
        int64_t n = overlap(begin[rank], begin[rank + 1], theirs, end, &from);
        send[r] = (size_t)(n * element);
        send_at[r] = n > 0 ? (size_t)((from - begin[rank]) * element) : 0;
        n = overlap(begin[r], begin[r + 1], first, after, &from);
        recv[r] = (size_t)(n * element);
        recv_at[r] = n > 0 ? (size_t)((from - first) * element) : 0;
    }
    TRY_GOTO(done, comm_agree(w->c, comm_alltoallv(w->c, data, send, send_at, own, recv, recv_at)));
    st = column_write(w, name, type, 1, total, 1, false, first, after - first, own);
done:
    free(own);
    free(plan);
    return st;
}

/* ---- the parts of the file ---- */

static status texts_write(const writer *w, const char *name, int64_t count,
                          const char *(*text)(const dataset_part *, int64_t))
{
    size_t size = 1;
    hid_t type = H5_NONE;
    for (int64_t i = 0; i < count; i++) {
        size_t n = strlen(text(w->part, i));
        size = n > size ? n : size;
    }
    char *block = calloc((size_t)count + 1, size);
    status st = block ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->path);
    TRY_GOTO(done, comm_agree(w->c, st));
    for (int64_t i = 0; i < count; i++)
        memcpy(block + (size_t)i * size, text(w->part, i), strlen(text(w->part, i)));
    TRY_GOTO(done, h5_text_type(w->path, size, &type));
    st = table_write(w, name, type, count, block);
done:
    h5_close(&type);
    free(block);
    return st;
}

static const char *person_id(const dataset_part *p, int64_t i)
{
    return p->people[i].id;
}

static const char *person_population(const dataset_part *p, int64_t i)
{
    return p->people[i].population;
}

static const char *person_superpopulation(const dataset_part *p, int64_t i)
{
    return p->people[i].superpopulation;
}

static const char *person_family(const dataset_part *p, int64_t i)
{
    return p->people[i].family;
}

static const char *chromosome_name(const dataset_part *p, int64_t i)
{
    return p->chromosomes[i].name;
}

static const char *label_name(const dataset_part *p, int64_t i)
{
    return p->labels[i];
}

static status groups_make(const writer *w)
{
    static const char *const names[] = {"/individual", "/chromosome", "/label",
                                        "/site",       "/run",        "/missing"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hid_t group = H5_NONE;
        TRY_H5(STATUS_RESOURCE, w->path,
               group = H5Gcreate2(w->file, names[i], H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        h5_close(&group);
    }
    return STATUS_OK;
}

static status head_write(const writer *w, int64_t entries, int64_t missing_runs)
{
    const dataset_part *p = w->part;
    TRY(h5_put_text(w->file, w->path, "program", DATASET_PROGRAM));
    TRY(h5_put_text(w->file, w->path, "kind", DATASET_KIND));
    TRY(h5_put_i64(w->file, w->path, "version", DATASET_VERSION));
    TRY(h5_put_text(w->file, w->path, "assembly", p->assembly));
    TRY(h5_put_text(w->file, w->path, "split_hash", p->split_hash));
    TRY(h5_put_i64(w->file, w->path, "phased", p->phased));
    TRY(h5_put_i64(w->file, w->path, "seed", (int64_t)p->seed));
    TRY(h5_put_i64(w->file, w->path, "people", p->n_people));
    TRY(h5_put_i64(w->file, w->path, "chromosomes", p->n_chromosomes));
    TRY(h5_put_i64(w->file, w->path, "sites", p->n_sites));
    TRY(h5_put_i64(w->file, w->path, "entries", entries));
    TRY(h5_put_i64(w->file, w->path, "labels", p->n_labels));
    TRY(h5_put_i64(w->file, w->path, "shards", p->n_shards));
    TRY(h5_put_i64(w->file, w->path, "missing_runs", missing_runs));
    return STATUS_OK;
}

static status people_write(const writer *w)
{
    const dataset_part *p = w->part;
    int64_t n = p->n_people;
    int32_t *wide = malloc((size_t)n * 2 * sizeof *wide);
    uint8_t *narrow = malloc((size_t)n * 2);
    status st =
        wide && narrow ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->path);
    TRY_GOTO(done, comm_agree(w->c, st));
    for (int64_t i = 0; i < n; i++) {
        wide[i] = p->people[i].label;
        wide[n + i] = p->people[i].shard;
        narrow[i] = (uint8_t)p->people[i].sex;
        narrow[n + i] = (uint8_t)p->people[i].split;
    }
    TRY_GOTO(done, texts_write(w, "/individual/id", n, person_id));
    TRY_GOTO(done, texts_write(w, "/individual/population", n, person_population));
    TRY_GOTO(done, texts_write(w, "/individual/superpopulation", n, person_superpopulation));
    TRY_GOTO(done, texts_write(w, "/individual/family", n, person_family));
    TRY_GOTO(done, table_write(w, "/individual/label", H5T_STD_I32LE, n, wide));
    TRY_GOTO(done, table_write(w, "/individual/shard", H5T_STD_I32LE, n, wide + n));
    TRY_GOTO(done, table_write(w, "/individual/sex", H5T_STD_U8LE, n, narrow));
    TRY_GOTO(done, table_write(w, "/individual/split", H5T_STD_U8LE, n, narrow + n));
    st = texts_write(w, "/label/name", p->n_labels, label_name);
done:
    free(wide);
    free(narrow);
    return st;
}

static status chromosomes_write(const writer *w)
{
    const dataset_part *p = w->part;
    int64_t n = p->n_chromosomes;
    int64_t *column = malloc((size_t)n * 3 * sizeof *column);
    status st = column ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->path);
    TRY_GOTO(done, comm_agree(w->c, st));
    for (int64_t i = 0; i < n; i++) {
        column[i] = p->chromosomes[i].length;
        column[n + i] = p->chromosomes[i].site0;
        column[2 * n + i] = p->chromosomes[i].sites;
    }
    TRY_GOTO(done, texts_write(w, "/chromosome/name", n, chromosome_name));
    TRY_GOTO(done, table_write(w, "/chromosome/length", H5T_STD_I64LE, n, column));
    TRY_GOTO(done, table_write(w, "/chromosome/site_offset", H5T_STD_I64LE, n, column + n));
    st = table_write(w, "/chromosome/site_count", H5T_STD_I64LE, n, column + 2 * n);
done:
    free(column);
    return st;
}

static status sites_write(const writer *w)
{
    const dataset_part *p = w->part;
    int64_t n = p->n_sites;
    int32_t *position = malloc(((size_t)n + 1) * sizeof *position);
    uint8_t *base = malloc(2 * (size_t)n + 1);
    status st =
        position && base ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->path);
    TRY_GOTO(done, comm_agree(w->c, st));
    for (int64_t i = 0; i < n; i++) {
        position[i] = p->sites[i].position;
        base[i] = p->sites[i].ref;
        base[n + i] = p->sites[i].alts;
    }
    TRY_GOTO(done, table_write(w, "/site/position", H5T_STD_I32LE, n, position));
    TRY_GOTO(done, table_write(w, "/site/ref", H5T_STD_U8LE, n, base));
    st = table_write(w, "/site/alts", H5T_STD_U8LE, n, base + n);
done:
    free(position);
    free(base);
    return st;
}

/* (people, chromosomes) of offset and count: gathered to the first rank, which writes both. */
static status runs_write(const writer *w, const char *offset_name, const char *count_name,
                         const int64_t *run)
{
    const dataset_part *p = w->part;
    int size = comm_size(w->c), rank = comm_rank(w->c);
    int64_t chromosomes = p->n_chromosomes, mine = p->mine * chromosomes;
    int64_t all = p->n_people * chromosomes, *begin = NULL;
    int64_t *own = malloc(((size_t)mine + 1) * sizeof *own);
    int64_t *count = rank == 0 ? malloc((size_t)all * 2 * sizeof *count) : NULL;
    size_t *bytes = calloc((size_t)size, sizeof *bytes);
    status st = own && bytes && (count || rank)
                    ? STATUS_OK
                    : fail(STATUS_MEMORY, "%s: no memory; use more", w->path);
    TRY_GOTO(done, comm_agree(w->c, st));
    TRY_GOTO(done, stretches(w, mine, &begin));
    for (int64_t r = 0; r < mine; r++)
        own[r] = run[r + 1] - run[r];
    for (int r = 0; r < size; r++)
        bytes[r] = (size_t)(begin[r + 1] - begin[r]) * sizeof *own;
    TRY_GOTO(done, comm_agree(
                       w->c, comm_gatherv(w->c, own, (size_t)mine * sizeof *own, count, bytes, 0)));
    int64_t next = 0, rows = rank == 0 ? p->n_people : 0;
    for (int64_t r = 0; count && r < all; r++) {
        count[all + r] = next;
        next += count[r];
    }
    TRY_GOTO(done, column_write(w, offset_name, H5T_STD_I64LE, 2, p->n_people, chromosomes, true, 0,
                                rows, count ? count + all : NULL));
    st = column_write(w, count_name, H5T_STD_I64LE, 2, p->n_people, chromosomes, true, 0, rows,
                      count);
done:
    free(begin);
    free(own);
    free(count);
    free(bytes);
    return st;
}

static status missing_write(const writer *w, const int64_t *begin)
{
    const dataset_part *p = w->part;
    int64_t n = begin[comm_rank(w->c) + 1] - begin[comm_rank(w->c)];
    int32_t *column = malloc((2 * (size_t)n + 1) * sizeof *column);
    status st = column ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->path);
    TRY_GOTO(done, comm_agree(w->c, st));
    for (int64_t i = 0; i < n; i++) {
        column[i] = p->missing[i].first;
        column[n + i] = p->missing[i].count;
    }
    TRY_GOTO(done, runs_write(w, "/missing/run_offset", "/missing/run_count", p->missing_run_of));
    TRY_GOTO(done, spread_write(w, "/missing/first", H5T_STD_I32LE, begin, column));
    st = spread_write(w, "/missing/count", H5T_STD_I32LE, begin, column + n);
done:
    free(column);
    return st;
}

static status entries_write(const writer *w, const int64_t *begin)
{
    const dataset_part *p = w->part;
    int64_t n = begin[comm_rank(w->c) + 1] - begin[comm_rank(w->c)];
    int32_t *position = malloc(((size_t)n + 1) * sizeof *position);
    uint8_t *packed = malloc((size_t)n + 1);
    status st = position && packed
                    ? STATUS_OK
                    : fail(STATUS_MEMORY, "%s: no memory to write; use more ranks", w->path);
    TRY_GOTO(done, comm_agree(w->c, st));
    for (int64_t i = 0; i < n; i++) {
        position[i] = p->sites[p->entries[i].site].position;
        packed[i] = dataset_pack(p->entries[i].allele, p->entries[i].mask);
    }
    TRY_GOTO(done, runs_write(w, "/run/offset", "/run/count", p->run));
    TRY_GOTO(done, spread_write(w, "/position", H5T_STD_I32LE, begin, position));
    st = spread_write(w, "/allele", H5T_STD_U8LE, begin, packed);
done:
    free(position);
    free(packed);
    return st;
}

/* ---- the file ---- */

/* Bytes that the file will hardly exceed: `an_entry` for each entry, tables and library's own as
 * they are. */
static int64_t room_for(const dataset_part *p, int64_t entries, int64_t missing_runs,
                        double an_entry)
{
    int64_t names = 4 * p->n_labels;
    for (int64_t i = 0; i < p->n_people; i++)
        names += 64 + (int64_t)(strlen(p->people[i].id) + strlen(p->people[i].population) +
                                strlen(p->people[i].superpopulation) + strlen(p->people[i].family));
    return (int64_t)((double)entries * an_entry) + 8 * missing_runs + 6 * p->n_sites + names +
           32 * p->n_people * p->n_chromosomes + (256 << 10);
}

static status file_reserve(const writer *w)
{
    const dataset_part *p = w->part;
    int64_t runs = p->mine * p->n_chromosomes;
    int64_t n[2] = {p->run[runs], p->missing_run_of[runs]};
    TRY(comm_sum_i64(w->c, n, 2));
    status st = STATUS_OK;
    if (comm_rank(w->c) == 0)
        st = reserve_room(w->path, room_for(p, n[0], n[1], 2.2), room_for(p, n[0], n[1], 5.1));
    return comm_agree(w->c, st);
}

static status file_create(writer *w)
{
    status st = STATUS_OK;
    hid_t access = H5_NONE;
    MPI_Comm handle = *(MPI_Comm *)comm_mpi(w->c);
    h5_quiet();
    if (comm_rank(w->c) == 0) { /* the system's reason, which MPI-IO would hide */
        int fd = open(w->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (fd < 0)
            st = fail(STATUS_RESOURCE, "%s: %s; choose a folder that can be written", w->path,
                      strerror(errno));
        else
            close(fd);
    }
    TRY(comm_agree(w->c, st));
    TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, access = H5Pcreate(H5P_FILE_ACCESS));
    /* one process writes without MPI-IO, which would leave files of its own in the session folder
     */
    if (comm_size(w->c) > 1)
        TRY_H5_GOTO(done, STATUS_INTERNAL, w->path,
                    H5Pset_fapl_mpio(access, handle, MPI_INFO_NULL));
    TRY_H5_GOTO(done, STATUS_RESOURCE, w->path,
                w->file = H5Fcreate(w->path, H5F_ACC_TRUNC, H5P_DEFAULT, access));
done:
    h5_close(&access);
    TRY(comm_agree(w->c, st));
    return file_reserve(w); /* creating has cut the file: only now does a reservation stay */
}

static status parts_write(const writer *w)
{
    const dataset_part *p = w->part;
    int size = comm_size(w->c);
    int64_t runs = p->mine * p->n_chromosomes, *entries = NULL, *missing = NULL;
    status st = STATUS_OK;
    TRY_GOTO(done, stretches(w, p->run[runs], &entries));
    TRY_GOTO(done, stretches(w, p->missing_run_of[runs], &missing));
    TRY_GOTO(done, comm_agree(w->c, head_write(w, entries[size], missing[size])));
    TRY_GOTO(done, comm_agree(w->c, groups_make(w)));
    TRY_GOTO(done, people_write(w));
    TRY_GOTO(done, chromosomes_write(w));
    TRY_GOTO(done, sites_write(w));
    TRY_GOTO(done, entries_write(w, entries));
    st = missing_write(w, missing);
done:
    free(entries);
    free(missing);
    return st;
}

/* The finished file gets its name; the folder is synced so that the name outlives a power cut. */
static status rename_synced(const char *from, const char *to)
{
    char folder[1100];
    snprintf(folder, sizeof folder, "%s", to);
    if (rename(from, to) != 0)
        return fail(STATUS_RESOURCE, "%s: %s; choose a folder that can be written", to,
                    strerror(errno));
    int fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) { /* some file systems cannot sync a folder: then there is nothing to wait for */
        fsync(fd);
        close(fd);
    }
    return STATUS_OK;
}

static status file_bytes_of(const char *path, int64_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (fd >= 0)
        close(fd);
    *bytes = (int64_t)end;
    return end >= 0 ? STATUS_OK
                    : fail(STATUS_RESOURCE, "%s: %s; look at the folder", path, strerror(errno));
}

status dataset_write(const char *path, comm *c, const dataset_part *part, int64_t *file_bytes)
{
    writer w = {.c = c, .file = H5_NONE, .part = part};
    status st = STATUS_OK;
    if (strlen(path) > sizeof w.path - 8)
        return fail(STATUS_USAGE, "%.80s...: the path is too long; choose a shorter one", path);
    snprintf(w.path, sizeof w.path, "%s.tmp", path);
    st = file_create(&w);
    if (st == STATUS_OK)
        st = parts_write(&w);
    if (w.file >= 0 && H5Fclose(w.file) < 0 && st == STATUS_OK)
        st = h5_fail_at(__FILE__, __LINE__, STATUS_RESOURCE, w.path, "H5Fclose");
    w.file = H5_NONE;
    TRY_GOTO(done, comm_agree(c, st));
    TRY_GOTO(done, comm_agree(c, comm_rank(c) == 0 ? reserve_end(w.path) : STATUS_OK));
    TRY_GOTO(done, seal_write(w.path, c, DATASET_VERSION));
    int64_t bytes = 0;
    if (comm_rank(c) == 0)
        st = file_bytes_of(w.path, &bytes);
    if (comm_rank(c) == 0 && st == STATUS_OK)
        st = rename_synced(w.path, path);
    TRY_GOTO(done, comm_agree(c, st));
    st = comm_bcast(c, &bytes, sizeof bytes, 0);
    if (file_bytes)
        *file_bytes = bytes;
    return st;
done:
    if (comm_rank(c) == 0)
        unlink(w.path);
    return st;
}
