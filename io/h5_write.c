/* Writing columns collectively: see h5_write.h. Each rank hands its stretch of the long columns to
 * the ranks that own the chunks, so that no chunk has two writers (the library's own exchange of
 * shared chunks is the least tested part of it), then all write whole chunks in rounds of bounded
 * memory. */
#include "io/h5_write.h"

#include "io/dataset_format.h"
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

/* ---- one column ---- */

/* Layout of a column of n rows of `width` elements: whole, or in chunks with the three filters. */
static status layout(const h5_writer *w, int ndim, int64_t rows, int64_t width, bool table,
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

status h5_write_create(const h5_writer *w, const char *name, hid_t type, int ndim, int64_t rows,
                       int64_t width, bool table, int64_t *chunk_rows, hid_t *set)
{
    status st = STATUS_OK;
    hid_t space = H5_NONE, plist = H5_NONE;
    const hsize_t dims[2] = {(hsize_t)rows, (hsize_t)width};
    TRY_GOTO(done, layout(w, ndim, rows, width, table, chunk_rows, &plist));
    TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, space = H5Screate_simple(ndim, dims, NULL));
    TRY_H5_GOTO(done, STATUS_RESOURCE, w->path,
                *set = H5Dcreate2(w->file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT));
done:
    h5_close(&space);
    h5_close(&plist);
    return st;
}

/* One collective write of rows [first, first + count) of a column; count 0 takes part without data.
 */
status h5_write_rows(const h5_writer *w, hid_t set, hid_t type, int ndim, int64_t width,
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
status h5_write_column(const h5_writer *w, const char *name, hid_t type, int ndim, int64_t rows,
                       int64_t width, bool table, int64_t first, int64_t count, const void *data)
{
    status st = STATUS_OK;
    hid_t set = H5_NONE;
    int64_t chunk_rows = 1;
    size_t row_bytes = H5Tget_size(type) * (size_t)width;
    TRY_GOTO(done, h5_write_create(w, name, type, ndim, rows, width, table, &chunk_rows, &set));
    if (rows == 0)
        goto done;
    int64_t step = chunk_rows * ROUND_CHUNKS, rounds = (count + step - 1) / step;
    TRY_GOTO(done, comm_max_i64(w->c, &rounds, 1));
    for (int64_t i = 0; i < rounds; i++) {
        int64_t left = count - i * step, n = left < 0 ? 0 : left < step ? left : step;
        const char *from = n > 0 ? (const char *)data + (size_t)(i * step) * row_bytes : NULL;
        st = h5_write_rows(w, set, type, ndim, width, n > 0 ? first + i * step : 0, n, from);
        TRY_GOTO(done, comm_agree(w->c, st));
    }
done:
    h5_close(&set);
    return comm_agree(w->c, st);
}

/* A table that every rank has: the first writes it. */
status h5_write_table(const h5_writer *w, const char *name, hid_t type, int64_t rows,
                      const void *data)
{
    bool mine = comm_rank(w->c) == 0;
    return h5_write_column(w, name, type, 1, rows, 1, true, 0, mine ? rows : 0, mine ? data : NULL);
}

/* How much of [a, b) lies in [c, d), and where it begins. */
static int64_t overlap(int64_t a, int64_t b, int64_t c, int64_t d, int64_t *from)
{
    int64_t low = a > c ? a : c, high = b < d ? b : d;
    *from = low;
    return high > low ? high - low : 0;
}

/* begin[r] .. begin[r + 1]: where each rank's stretch of a column lies. */
status h5_write_stretches(const h5_writer *w, int64_t mine, int64_t **begin)
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
status h5_write_spread(const h5_writer *w, const char *name, hid_t type, const int64_t *begin,
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
    st = h5_write_column(w, name, type, 1, total, 1, false, first, after - first, own);
done:
    free(own);
    free(plan);
    return st;
}

status h5_write_texts(const h5_writer *w, const char *name, int64_t count,
                      const char *(*text)(const void *, int64_t), const void *of)
{
    size_t size = 1;
    hid_t type = H5_NONE;
    for (int64_t i = 0; i < count; i++) {
        size_t n = strlen(text(of, i));
        size = n > size ? n : size;
    }
    char *block = calloc((size_t)count + 1, size);
    status st = block ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->path);
    TRY_GOTO(done, comm_agree(w->c, st));
    for (int64_t i = 0; i < count; i++)
        memcpy(block + (size_t)i * size, text(of, i), strlen(text(of, i)));
    TRY_GOTO(done, h5_text_type(w->path, size, &type));
    st = h5_write_table(w, name, type, count, block);
done:
    h5_close(&type);
    free(block);
    return st;
}

status h5_write_groups(const h5_writer *w, const char *const *names, int n)
{
    for (int i = 0; i < n; i++) {
        hid_t group = H5_NONE;
        TRY_H5(STATUS_RESOURCE, w->path,
               group = H5Gcreate2(w->file, names[i], H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        h5_close(&group);
    }
    return STATUS_OK;
}

/* ---- the file ---- */

static status file_create(h5_writer *w, int64_t least, int64_t best)
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
    /* creating has cut the file: only now does a reservation stay */
    if (comm_rank(w->c) == 0)
        st = reserve_room(w->path, least, best);
    return comm_agree(w->c, st);
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

status h5_write_open(const char *path, comm *c, int64_t least, int64_t best, h5_writer *w)
{
    *w = (h5_writer){.c = c, .file = H5_NONE};
    if (strlen(path) > sizeof w->path - 8)
        return fail(STATUS_USAGE, "%.80s...: the path is too long; choose a shorter one", path);
    snprintf(w->path, sizeof w->path, "%s.tmp", path);
    return file_create(w, least, best);
}

status h5_write_end(h5_writer *w, const char *path, int version, status st, int64_t *file_bytes)
{
    if (w->file >= 0 && H5Fclose(w->file) < 0 && st == STATUS_OK)
        st = h5_fail_at(__FILE__, __LINE__, STATUS_RESOURCE, w->path, "H5Fclose");
    w->file = H5_NONE;
    TRY_GOTO(done, comm_agree(w->c, st));
    TRY_GOTO(done, comm_agree(w->c, comm_rank(w->c) == 0 ? reserve_end(w->path) : STATUS_OK));
    TRY_GOTO(done, seal_write(w->path, w->c, version));
    int64_t bytes = 0;
    if (comm_rank(w->c) == 0)
        st = file_bytes_of(w->path, &bytes);
    if (comm_rank(w->c) == 0 && st == STATUS_OK)
        st = rename_synced(w->path, path);
    TRY_GOTO(done, comm_agree(w->c, st));
    st = comm_bcast(w->c, &bytes, sizeof bytes, 0);
    if (file_bytes)
        *file_bytes = bytes;
    return st;
done:
    if (comm_rank(w->c) == 0 && w->path[0])
        unlink(w->path);
    return st;
}
