/* Every product of the CUDA backend: row by row as kernels/cpu/gemm.h, queued on the device's
 * stream; fp32 throughout (without the TF32 that cuBLAS has to be asked for), or bf16 operands.
 * Sums are fp32 in any case. */
#ifndef CROCUTA_KERNELS_CUDA_GEMM_H
#define CROCUTA_KERNELS_CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The handle with its workspace and stream; device_open_cuda and device_close_cuda call them. */
status gemm_open_cuda(cuda_state *c);
void gemm_close_cuda(cuda_state *c);

/* C (M, N) = op(A) op(B) + beta C, where op(A) is (M, K) and op(B) is (K, N), rows lda, ldb, ldc
 * apart as they lie in memory. beta 0: C is not read. M or N of 0 is allowed, K of 0 is not. */
status gemm_cuda(device *dev, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                 const float *A, int64_t lda, const float *B, int64_t ldb, float beta, float *C,
                 int64_t ldc);

/* `batch` such products, the operands of the next one stride_a, stride_b, stride_c floats on (0:
 * the same one). */
status gemm_batched_cuda(device *dev, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                         const float *A, int64_t lda, int64_t stride_a, const float *B, int64_t ldb,
                         int64_t stride_b, float beta, float *C, int64_t ldc, int64_t stride_c,
                         int64_t batch);

/* The first with A and B in bf16, and C in fp32 or, where `narrow`, in bf16, rounded once. */
status gemm_mixed_cuda(device *dev, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                       const void *A, int64_t lda, const void *B, int64_t ldb, float beta, void *C,
                       int64_t ldc, bool narrow);

#ifdef __cplusplus
}
#endif

#endif
