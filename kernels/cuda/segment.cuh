/* How a kernel walks the rows of a chunk of columns: a block takes SEGMENT columns of one row, its
 * threads step through them side by side and know the position of each column in its sequence
 * without a division. */
#ifndef CROCUTA_KERNELS_CUDA_SEGMENT_CUH
#define CROCUTA_KERNELS_CUDA_SEGMENT_CUH

#include "kernels/cuda/columns.h"
#include "kernels/cuda/launch.cuh"

/* This thread's columns of the chunk: from, from + BLOCK_THREADS, .. below to; t: the position of
 * `from` in its sequence. */
typedef struct {
    int64_t row, number; /* number: which segment of the row */
    int64_t from, to, t, stride;
} segment;

/* `first`: column of the batch where the chunk begins. */
static __device__ inline segment segment_of(batch_shape s, int64_t first, int64_t columns,
                                            int64_t segments)
{
    segment g;
    g.row = blockIdx.x / segments;
    g.number = blockIdx.x % segments;
    const int64_t begin = g.number * SEGMENT, end = begin + SEGMENT;
    g.from = begin + threadIdx.x;
    g.to = end < columns ? end : columns;
    g.t = (first + g.from) % s.Lp;
    g.stride = BLOCK_THREADS % s.Lp;
    return g;
}

/* The position of the thread's next column. */
static __device__ inline int64_t segment_step(batch_shape s, const segment *g, int64_t t)
{
    t += g->stride;
    return t < s.Lp ? t : t - s.Lp;
}

#endif
