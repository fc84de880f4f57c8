/* What a model makes of pieces of sequences, as one HDF5 data set (n, L, C) or (n, C): a row a
 * piece, beside it names, starts and lengths. Rows are written one by one, so that only one need be
 * in memory. */
#ifndef CROCUTA_IO_SCORE_FILE_H
#define CROCUTA_IO_SCORE_FILE_H

#include "runtime/core/status.h"

#include <stdint.h>

typedef struct score_file score_file;

/* Under a temporary name until score_file_close. L 0: (n, C). Behind a piece's end stands NaN. */
status score_file_open(const char *path, const char *set, int64_t n, int64_t L, int64_t C,
                       score_file **out);
/* The next row: x (length, C), or (C). start is from 0. */
status score_file_row(score_file *f, const char *name, int64_t start, int64_t length,
                      const float *x);
/* Writes /name /start (from 1) /length and renames where so_far is STATUS_OK, removes otherwise. */
status score_file_close(score_file **f, status so_far);

#endif
