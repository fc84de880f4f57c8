/* cuBLAS behind one call. cuBLAS is column-major: a row-major C is its C transposed, so that the
 * operands change places and keep their forms. */
#include "kernels/cuda/gemm.h"

#include <cublas_v2.h>

/* NVIDIA's recommendation for Hopper; less makes some products slower, never wrong. */
#define GEMM_WORKSPACE ((size_t)32 << 20)

static status gemm_status(cublasStatus_t error, const char *call, const char *source, int line)
{
    if (error == CUBLAS_STATUS_SUCCESS)
        return STATUS_OK;
    return fail_at(source, line,
                   error == CUBLAS_STATUS_ALLOC_FAILED ? STATUS_MEMORY : STATUS_DEVICE,
                   "%.*s: cuBLAS says %d; see whether nvidia-smi shows a healthy GPU, run it again",
                   (int)strcspn(call, "("), call, (int)error);
}

#define TRY_CUBLAS(call) TRY(gemm_status((call), #call, __FILE__, __LINE__))

extern "C" status gemm_open_cuda(cuda_state *c)
{
    TRY_CUDA(cudaMalloc(&c->gemm_workspace, GEMM_WORKSPACE));
    cublasHandle_t handle = NULL;
    TRY_CUBLAS(cublasCreate(&handle));
    c->gemm = handle;
    /* The stream first: cublasSetStream goes back to a workspace of cuBLAS' own. */
    TRY_CUBLAS(cublasSetStream(handle, c->stream));
    TRY_CUBLAS(cublasSetWorkspace(handle, c->gemm_workspace, GEMM_WORKSPACE));
    /* Parts of a sum are added in fp32, also where the result is bf16. */
    TRY_CUBLAS(cublasSetMathMode(handle, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
    return STATUS_OK;
}

extern "C" void gemm_close_cuda(cuda_state *c)
{
    if (c->gemm)
        cublasDestroy((cublasHandle_t)c->gemm);
    if (c->gemm_workspace)
        cudaFree(c->gemm_workspace);
    c->gemm = c->gemm_workspace = NULL;
}

extern "C" status gemm_batched_cuda(device *dev, bool trans_a, bool trans_b, int64_t M, int64_t N,
                                    int64_t K, const float *A, int64_t lda, int64_t stride_a,
                                    const float *B, int64_t ldb, int64_t stride_b, float beta,
                                    float *C, int64_t ldc, int64_t stride_c, int64_t batch)
{
    if (M == 0 || N == 0 || batch == 0)
        return STATUS_OK;
    const cuda_state *c = cuda_of(dev);
    const float one = 1.0f;
    TRY_CUBLAS(cublasGemmStridedBatchedEx(
        (cublasHandle_t)c->gemm, trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
        trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, (int)N, (int)M, (int)K, &one, B, CUDA_R_32F, (int)ldb,
        stride_b, A, CUDA_R_32F, (int)lda, stride_a, &beta, C, CUDA_R_32F, (int)ldc, stride_c,
        (int)batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    return STATUS_OK;
}

extern "C" status gemm_cuda(device *dev, bool trans_a, bool trans_b, int64_t M, int64_t N,
                            int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                            float beta, float *C, int64_t ldc)
{
    return gemm_batched_cuda(dev, trans_a, trans_b, M, N, K, A, lda, 0, B, ldb, 0, beta, C, ldc, 0,
                             1);
}

extern "C" status gemm_mixed_cuda(device *dev, bool trans_a, bool trans_b, int64_t M, int64_t N,
                                  int64_t K, const void *A, int64_t lda, const void *B, int64_t ldb,
                                  float beta, void *C, int64_t ldc, bool narrow)
{
    if (M == 0 || N == 0)
        return STATUS_OK;
    const float one = 1.0f;
    TRY_CUBLAS(cublasGemmEx((cublasHandle_t)cuda_of(dev)->gemm, trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                            trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, (int)N, (int)M, (int)K, &one, B,
                            CUDA_R_16BF, (int)ldb, A, CUDA_R_16BF, (int)lda, &beta, C,
                            narrow ? CUDA_R_16BF : CUDA_R_32F, (int)ldc, CUBLAS_COMPUTE_32F,
                            CUBLAS_GEMM_DEFAULT));
    return STATUS_OK;
}
