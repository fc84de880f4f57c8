/* Small passes over (rows, columns) tensors that several operations share: how wide a chunk of
 * columns may be, sums over columns in a fixed order, zeros at the pads. A chunk of columns is a
 * pointer to its first one and the row stride of the whole. */
#ifndef CROCUTA_KERNELS_CUDA_COLUMNS_H
#define CROCUTA_KERNELS_CUDA_COLUMNS_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Wide intermediates are made a chunk of columns at a time: large enough to fill a GPU with every
 * product, small beside the tensors of a model. Tests make this and the other bounds tiny, so that
 * small shapes have several chunks, segments, tiles a block (launch/cuda.cmake). */
#ifndef CUDA_CHUNK_BYTES
#define CUDA_CHUNK_BYTES ((int64_t)64 << 20)
#endif

/* Columns of a chunk of `rows` rows: a multiple of LENGTH_ALIGN, no more than n rounded up to it.
 */
static inline int64_t chunk_columns(int64_t rows, int64_t n)
{
    const int64_t fit = CUDA_CHUNK_BYTES / (rows * (int64_t)sizeof(float));
    const int64_t columns = fit < LENGTH_ALIGN ? LENGTH_ALIGN : fit / LENGTH_ALIGN * LENGTH_ALIGN;
    return columns < n ? columns : length_padded(n);
}

/* Arrays of n floats or doubles from a workspace; NULL where it is too small. */
static inline float *take_floats(arena *ws, int64_t n)
{
    return (float *)arena_take(ws, (size_t)n * sizeof(float));
}

static inline double *take_doubles(arena *ws, int64_t n)
{
    return (double *)arena_take(ws, (size_t)n * sizeof(double));
}

/* The failure of an operation whose workspace is too small. */
status cuda_workspace_short(const char *operation, const arena *ws);

/* What they count for in a plan. */
static inline size_t floats_size(int64_t n)
{
    return arena_round((size_t)n * sizeof(float));
}

static inline size_t doubles_size(int64_t n)
{
    return arena_round((size_t)n * sizeof(double));
}

/* A block of a kernel that walks rows takes SEGMENT columns of one row; block r * segments + s is
 * segment s of row r. */
#ifndef CUDA_SEGMENT
#define CUDA_SEGMENT 4096
#endif
#define SEGMENT CUDA_SEGMENT
static inline int64_t segments_of(int64_t columns)
{
    return (columns + SEGMENT - 1) / SEGMENT;
}

/* out[r] += sum over p of part[r * parts + p], in fp64, in a fixed order. */
status parts_add_cuda(device *dev, int64_t rows, int64_t parts, const double *part, float *out);

/* sums[r] += sum over the columns of row r of x (rows, columns), rows ld apart: fp32 in a thread,
 * fp64 from there on. */
size_t rows_sum_workspace_cuda(int64_t rows, int64_t columns); /* bytes */
status rows_sum_cuda(device *dev, int64_t rows, int64_t columns, const float *x, int64_t ld,
                     float *sums, arena *ws);

/* Zeros at the pads of a chunk of `columns` columns that begins at column `first` of the batch. */
status pads_clear_cuda(device *dev, batch_shape s, int64_t first, int64_t columns, int64_t rows,
                       float *x, int64_t ld);

/* out = x + bias, a number a row, and zeros at the pads: what a product is then added to. A chunk
 * as above, x and out with rows ld apart; out may be x. */
status residual_bias_cuda(device *dev, batch_shape s, int64_t first, int64_t columns, int64_t rows,
                          const float *x, const float *bias, float *out, int64_t ld);

#ifdef __cplusplus
}
#endif

#endif
