/* Products of row-major matrices, one thread each: the operations call them on tiles from inside
 * their own parallel loops. The library behind them is chosen when the program is built
 * (kernels/cpu/gemm.c). */
#ifndef CROCUTA_KERNELS_CPU_GEMM_H
#define CROCUTA_KERNELS_CPU_GEMM_H

#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

/* oneDNN 2.6.3 keeps data below the stack pointer, further than a signal handler's frame leaves
 * alone: on a thread that calls these, signals with handlers must be blocked
 * (runtime/train/signals.h). */

/* C = op(A) op(B) + beta C;   op(A) (M, K), op(B) (K, N), C (M, N), row-major with row strides lda,
 * ldb, ldc of the matrices as stored (A is (K, M) where trans_a, B is (N, K) where trans_b). With
 * beta 0, C is not read. */
void gemm_f32(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, const float *A,
              int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc);

/* Tells the library that threads are ours, and checks products of the model's kinds against plain
 * loops. */
status gemm_open(void);

/* "oneDNN 2.6.3" or "OpenBLAS SkylakeX ...": for --version and doctor. */
void gemm_library(char *text, int size);

#endif
