/* Small kernels, each with one fault (or with it mended), for test_planted.c. Counts are elements.
 */
#ifndef CROCUTA_TESTS_HOSTCUDA_PLANTED_H
#define CROCUTA_TESTS_HOSTCUDA_PLANTED_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y[i] = x[i + past], n threads. */
status planted_shift(cudaStream_t s, int n, int past, const float *x, float *y);
/* y[i] = x[n - 1 - i] through shared memory, one block of n threads; `barrier`: as it should be. */
status planted_flip(cudaStream_t s, int n, bool barrier, const float *x, float *y);
/* y[0], y[1]: sums of 1 and of 2 over a block of 64 threads through the same shared memory;
 * `barrier`: between the two, as it should be. */
status planted_sums(cudaStream_t s, bool barrier, float *y);
/* As planted_flip in blocks that each take what the block before has written: an order that CUDA
 * does not promise. y (blocks): y[b] = y[b - 1] + 1. */
status planted_chain(cudaStream_t s, int blocks, float *y);
/* A barrier that some threads do not reach (0), that they reach on another line (1), a shuffle that
 * some lanes miss (2), and the same without a fault (3). One block of 64. */
status planted_divergence(cudaStream_t s, int which, float *y);
/* Writes y[0] = bytes through the last float of the block's shared memory, or of the one behind. */
status planted_shared(cudaStream_t s, unsigned threads, unsigned blocks, size_t bytes, int past,
                      float *y);
status planted_allow_shared(size_t bytes);
/* A structure by value that holds a pointer. */
typedef struct {
    int64_t n;
    const float *x;
} planted_args;
status planted_struct(cudaStream_t s, planted_args a, float *y);
/* Sum over a warp by every kind of shuffle and vote, and atomics: y[0..7], 32 threads. */
status planted_warp(cudaStream_t s, float *y);

#ifdef __cplusplus
}
#endif

#endif
