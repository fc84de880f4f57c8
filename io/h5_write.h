/* Columns of an HDF5 file, written collectively by any number of ranks: chunked, shuffled, deflated
 * and checksummed where they are long, whole where they are short. The file has a temporary name
 * until it is complete and sealed. Every chunk has one writer. */
#ifndef CROCUTA_IO_H5_WRITE_H
#define CROCUTA_IO_H5_WRITE_H

#include "comm/comm.h"
#include "io/h5.h"

typedef struct {
    char path[1100]; /* of the temporary file */
    comm *c;
    hid_t file;
} h5_writer;

/* Collective, as all that follows: PATH.tmp, with `best` bytes reserved, or `least` (reserve.h). */
status h5_write_open(const char *path, comm *c, int64_t least, int64_t best, h5_writer *w);
/* Where `st` is STATUS_OK everywhere: closes, seals, syncs, renames to PATH and syncs the folder;
 * otherwise nothing is left. *file_bytes (NULL: not wanted): the size. */
status h5_write_end(h5_writer *w, const char *path, int version, status st, int64_t *file_bytes);

status h5_write_groups(const h5_writer *w, const char *const *names, int n);

/* A column of `rows` rows of `width` elements: each rank its rows [first, first + count), which
 * begin and end where its chunks do (or it has none, or there is one writer). table: short ones
 * stay whole. */
status h5_write_column(const h5_writer *w, const char *name, hid_t type, int ndim, int64_t rows,
                       int64_t width, bool table, int64_t first, int64_t count, const void *data);

/* A table that every rank has: the first writes it. Texts likewise: text(of, i). */
status h5_write_table(const h5_writer *w, const char *name, hid_t type, int64_t rows,
                      const void *data);
status h5_write_texts(const h5_writer *w, const char *name, int64_t count,
                      const char *(*text)(const void *, int64_t), const void *of);

/* begin[r] .. begin[r + 1]: where each rank's stretch of `mine` rows lies; the caller frees. */
status h5_write_stretches(const h5_writer *w, int64_t mine, int64_t **begin);
/* A column of which each rank holds a stretch: to the owners of its chunks, then written. */
status h5_write_spread(const h5_writer *w, const char *name, hid_t type, const int64_t *begin,
                       const void *data);

/* The parts of a column, for a writer that has its own way through it: the data set, collectively
 * (*set to be closed; *chunk_rows a chunk), and one collective write of rows [first, first +
 * count); count 0 takes part without data. */
status h5_write_create(const h5_writer *w, const char *name, hid_t type, int ndim, int64_t rows,
                       int64_t width, bool table, int64_t *chunk_rows, hid_t *set);
status h5_write_rows(const h5_writer *w, hid_t set, hid_t type, int ndim, int64_t width,
                     int64_t first, int64_t count, const void *data);

#endif
