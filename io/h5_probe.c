/* Written together, read back by everybody: see h5_probe.h. */
#include "io/h5_probe.h"

#include "io/h5_write.h"
#include "runtime/core/log.h"

#include <stdlib.h>
#include <unistd.h>

#define TURNS 4
#define ROUND                                                                                      \
    768 /* numbers of a block of every rank and turn: MPI-IO reads over gaps below 4 KiB */
#define PROBE_VERSION 1 /* of the seal; nobody else reads the file */

typedef struct {
    int64_t block, gap; /* numbers of a block, and behind it of what nobody writes */
    int64_t blocks;     /* of a rank and turn */
    int64_t rows;       /* of the gapped column */
    int64_t mine;       /* rows of the chunked column that are this rank's */
} probe_shape;

/* Never zero, which a hole reads as. */
static int32_t number_at(int64_t i)
{
    return (int32_t)((i * 2654435761u >> 3 & 0x3fffffff) + 1);
}

/* Where the i-th block of this rank's turn begins. */
static int64_t block_at(const comm *c, const probe_shape *s, int turn, int64_t i)
{
    return ((i * TURNS + turn) * comm_size(c) + comm_rank(c)) * (s->block + s->gap);
}

static status write_turn(const h5_writer *w, hid_t set, const probe_shape *s, int turn,
                         int32_t *data)
{
    status st = STATUS_OK;
    hid_t space = H5_NONE, memory = H5_NONE, transfer = H5_NONE;
    const hsize_t start = (hsize_t)block_at(w->c, s, turn, 0), block = (hsize_t)s->block,
                  stride = (hsize_t)(TURNS * comm_size(w->c) * (s->block + s->gap)),
                  count = (hsize_t)s->blocks, numbers = (hsize_t)(s->blocks * s->block);
    for (int64_t i = 0; i < s->blocks; i++)
        for (int64_t j = 0; j < s->block; j++)
            data[i * s->block + j] = number_at(block_at(w->c, s, turn, i) + j);
    TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, space = H5Dget_space(set));
    TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, memory = H5Screate_simple(1, &numbers, NULL));
    TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, transfer = H5Pcreate(H5P_DATASET_XFER));
    if (comm_size(w->c) > 1)
        TRY_H5_GOTO(done, STATUS_INTERNAL, w->path,
                    H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE));
    TRY_H5_GOTO(done, STATUS_INTERNAL, w->path,
                H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, &stride, &count, &block));
    TRY_H5_GOTO(done, STATUS_RESOURCE, w->path,
                H5Dwrite(set, H5T_NATIVE_INT32, memory, space, transfer, data));
done:
    h5_close(&transfer);
    h5_close(&memory);
    h5_close(&space);
    return comm_agree(w->c, st);
}

static status write_gapped(const h5_writer *w, const probe_shape *s, int32_t *data)
{
    status st = STATUS_OK;
    hid_t set = H5_NONE, space = H5_NONE;
    const hsize_t rows = (hsize_t)s->rows;
    TRY_H5_GOTO(done, STATUS_INTERNAL, w->path, space = H5Screate_simple(1, &rows, NULL));
    TRY_H5_GOTO(done, STATUS_RESOURCE, w->path,
                set = H5Dcreate2(w->file, "gapped", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT,
                                 H5P_DEFAULT));
    for (int turn = 0; turn < TURNS; turn++)
        TRY_GOTO(done, write_turn(w, set, s, turn, data));
done:
    h5_close(&space);
    h5_close(&set);
    return comm_agree(w->c, st);
}

static status write_chunked(const h5_writer *w, const probe_shape *s, int32_t *data)
{
    int64_t *begin = NULL;
    TRY(h5_write_stretches(w, s->mine, &begin));
    for (int64_t i = 0; i < s->mine; i++)
        data[i] = number_at(begin[comm_rank(w->c)] + i);
    const status st = h5_write_spread(w, "chunked", H5T_NATIVE_INT32, begin, data);
    free(begin);
    return st;
}

static status differs(const char *path, const char *what, int64_t at)
{
    return fail(STATUS_DATA,
                "%s: number %lld of the %s part is not what a rank wrote there; do not write with "
                "several ranks here",
                path, (long long)at, what);
}

/* All of both columns, by this rank alone. */
static status read_back(const char *path, const comm *c, const probe_shape *s)
{
    hid_t file = H5_NONE;
    const int64_t rows = comm_size(c) * s->mine, most = rows > s->rows ? rows : s->rows;
    int32_t *back = malloc((size_t)most * sizeof *back);
    status st = back ? h5_open_read(path, &file)
                     : fail(STATUS_MEMORY, "%s: no memory to read it back; free some", path);
    if (st == STATUS_OK)
        st = h5_read_column(file, path, "/chunked", H5T_NATIVE_INT32, 1, &rows, back);
    for (int64_t i = 0; st == STATUS_OK && i < rows; i++)
        if (back[i] != number_at(i))
            st = differs(path, "chunked", i);
    if (st == STATUS_OK)
        st = h5_read_column(file, path, "/gapped", H5T_NATIVE_INT32, 1, &s->rows, back);
    for (int64_t i = 0; st == STATUS_OK && i < s->rows; i++)
        if (back[i] != (i % (s->block + s->gap) < s->block ? number_at(i) : 0))
            st = differs(path, "gapped", i);
    h5_close(&file);
    free(back);
    return st;
}

status h5_probe(const char *path, comm *c, int64_t bytes, double *seconds)
{
    const double start_s = clock_monotonic_s();
    probe_shape s = {.mine = bytes / (int64_t)sizeof(int32_t) + 1};
    s.block = ROUND / (TURNS * comm_size(c)) + 1;
    s.gap = s.block / 8 + 1;
    s.blocks = s.mine / (TURNS * s.block) + 1;
    s.rows = s.blocks * TURNS * comm_size(c) * (s.block + s.gap);
    h5_writer w;
    int32_t *data = malloc((size_t)(s.mine + s.blocks * s.block) * sizeof *data);
    status st = comm_agree(c, data ? STATUS_OK
                                   : fail(STATUS_MEMORY, "%s: no memory for it; free some", path));
    if (st == STATUS_OK)
        st = h5_write_open(path, c, 0, 0, &w);
    if (st == STATUS_OK) {
        st = write_gapped(&w, &s, data);
        if (st == STATUS_OK)
            st = write_chunked(&w, &s, data);
        st = h5_write_end(&w, path, PROBE_VERSION, st, NULL);
    }
    free(data);
    TRY(st);
    st = comm_agree(c, read_back(path, c, &s));
    if (comm_rank(c) == 0)
        unlink(path);
    *seconds = clock_monotonic_s() - start_s;
    return st;
}
