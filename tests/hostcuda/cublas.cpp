/* cuBLAS' products behind CBLAS: fp32 or bf16 operands, fp32 sums, alpha and beta from the host,
 * column-major as in cuBLAS. Both ends of the workspace are overwritten at every product. */
#include "tests/hostcuda/core.h"

#include <cblas.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <vector>

struct cublasContext {
    cudaStream_t stream = nullptr;
    void *workspace = nullptr;
    size_t bytes = 0;
};

namespace
{

std::set<cublasHandle_t> &handles = *new std::set<cublasHandle_t>;

void check(cublasHandle_t handle)
{
    if (!handles.count(handle))
        hostcuda::fault("cuBLAS: a handle that is not there");
}

/* One operand as it lies in memory: `columns` columns of `rows` numbers, `ld` apart. */
struct matrix {
    void *at;
    cudaDataType type;
    int rows, columns, ld;
    long long stride;
    size_t size() const
    {
        return type == CUDA_R_32F ? sizeof(float) : sizeof(__nv_bfloat16);
    }
    size_t span() const
    {
        return rows && columns ? (size_t)(columns - 1) * (size_t)ld + (size_t)rows : 0;
    }
    char *of(int batch) const
    {
        return (char *)at + (long long)size() * stride * batch;
    }
    /* fp32 with the same layout. */
    std::vector<float> read(int batch) const
    {
        std::vector<float> out(span());
        const char *from = of(batch);
        for (int c = 0; c < columns; c++)
            for (int r = 0; r < rows; r++) {
                const size_t i = (size_t)c * (size_t)ld + (size_t)r;
                out[i] = type == CUDA_R_32F ? ((const float *)from)[i]
                                            : __bfloat162float(((const __nv_bfloat16 *)from)[i]);
            }
        return out;
    }
    void write(int batch, const std::vector<float> &values) const
    {
        char *to = of(batch);
        for (int c = 0; c < columns; c++)
            for (int r = 0; r < rows; r++) {
                const size_t i = (size_t)c * (size_t)ld + (size_t)r;
                if (type == CUDA_R_32F)
                    ((float *)to)[i] = values[i];
                else
                    ((__nv_bfloat16 *)to)[i] = __float2bfloat16_rn(values[i]);
            }
    }
};

struct product {
    cublasOperation_t ta, tb;
    int m, n, k, batch;
    float alpha, beta;
    matrix A, B, C;
};

void compute(const product &p, void *workspace, size_t bytes)
{
    const size_t end = std::min(bytes, (size_t)1 << 14); /* all of it takes longer than products */
    memset(workspace, 0xFF, end);
    memset((char *)workspace + bytes - end, 0xFF, end);
    for (int b = 0; b < p.batch; b++) {
        const std::vector<float> A = p.A.read(b), B = p.B.read(b);
        std::vector<float> C =
            p.beta != 0 ? p.C.read(b) : std::vector<float>(p.C.span(), 0.0f); /* C is not read */
        cblas_sgemm(CblasColMajor, p.ta == CUBLAS_OP_N ? CblasNoTrans : CblasTrans,
                    p.tb == CUBLAS_OP_N ? CblasNoTrans : CblasTrans, p.m, p.n, p.k, p.alpha,
                    A.data(), p.A.ld, B.data(), p.B.ld, p.beta, C.data(), p.C.ld);
        p.C.write(b, C);
    }
}

bool known(cudaDataType type)
{
    return type == CUDA_R_32F || type == CUDA_R_16BF;
}

cublasStatus_t run(cublasHandle_t handle, const product &p)
{
    check(handle);
    if (const int error = hostcuda::injected(HOSTCUDA_CUBLAS))
        return (cublasStatus_t)error;
    if (p.m < 0 || p.n < 0 || p.k < 0 || p.batch < 0 || p.A.ld < p.A.rows || p.B.ld < p.B.rows ||
        p.C.ld < p.C.rows)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!known(p.A.type) || p.A.type != p.B.type || !known(p.C.type) || p.ta == CUBLAS_OP_C ||
        p.tb == CUBLAS_OP_C)
        hostcuda::fault("cuBLAS: types or forms of a product that are not known here");
    if (!handle->workspace)
        hostcuda::fault("cuBLAS: a product without cublasSetWorkspace: it would allocate");
    static const char *const name[] = {"cuBLAS: A", "cuBLAS: B", "cuBLAS: C"};
    const matrix *each[] = {&p.A, &p.B, &p.C};
    for (int i = 0; i < 3; i++)
        for (int b = 0; b < p.batch; b++)
            hostcuda::memory_inside(each[i]->of(b), each[i]->span() * each[i]->size(), name[i]);
    hostcuda::enqueue(handle->stream, "cuBLAS",
                      [p, workspace = handle->workspace, bytes = handle->bytes] {
                          compute(p, workspace, bytes);
                      });
    return CUBLAS_STATUS_SUCCESS;
}

matrix operand(const void *at, cudaDataType type, cublasOperation_t form, int rows, int columns,
               int ld, long long stride)
{
    if (form != CUBLAS_OP_N)
        std::swap(rows, columns);
    return {(void *)at, type, rows, columns, ld, stride};
}

} // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle)
{
    if (const int error = hostcuda::injected(HOSTCUDA_CUBLAS))
        return (cublasStatus_t)error;
    *handle = new cublasContext;
    handles.insert(*handle);
    hostcuda::handles_left++;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
    check(handle);
    handles.erase(handle);
    delete handle;
    hostcuda::handles_left--;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream)
{
    check(handle);
    handle->stream = stream;
    handle->workspace = nullptr; /* cuBLAS goes back to its own workspace here */
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t bytes)
{
    check(handle);
    hostcuda::memory_inside(workspace, bytes, "cuBLAS: the workspace");
    handle->workspace = workspace;
    handle->bytes = bytes;
    return CUBLAS_STATUS_SUCCESS;
}

/* fp32 stays fp32 here, whatever is allowed. */
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    (void)mode;
    check(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t ta,
                                          cublasOperation_t tb, int m, int n, int k,
                                          const void *alpha, const void *A, cudaDataType Atype,
                                          int lda, long long int strideA, const void *B,
                                          cudaDataType Btype, int ldb, long long int strideB,
                                          const void *beta, void *C, cudaDataType Ctype, int ldc,
                                          long long int strideC, int batch,
                                          cublasComputeType_t compute_type, cublasGemmAlgo_t algo)
{
    (void)algo;
    if (compute_type != CUBLAS_COMPUTE_32F && compute_type != CUBLAS_COMPUTE_32F_FAST_TF32)
        hostcuda::fault("cuBLAS: sums of a type that is not known here");
    const product p = {ta,
                       tb,
                       m,
                       n,
                       k,
                       batch,
                       *(const float *)alpha,
                       *(const float *)beta,
                       operand(A, Atype, ta, m, k, lda, strideA),
                       operand(B, Btype, tb, k, n, ldb, strideB),
                       operand(C, Ctype, CUBLAS_OP_N, m, n, ldc, strideC)};
    return run(handle, p);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb,
                            int m, int n, int k, const void *alpha, const void *A,
                            cudaDataType Atype, int lda, const void *B, cudaDataType Btype, int ldb,
                            const void *beta, void *C, cudaDataType Ctype, int ldc,
                            cublasComputeType_t compute_type, cublasGemmAlgo_t algo)
{
    return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, A, Atype, lda, 0, B, Btype,
                                      ldb, 0, beta, C, Ctype, ldc, 0, 1, compute_type, algo);
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb,
                              int m, int n, int k, const float *alpha, const float *A, int lda,
                              const float *B, int ldb, const float *beta, float *C, int ldc)
{
    return cublasGemmEx(handle, ta, tb, m, n, k, alpha, A, CUDA_R_32F, lda, B, CUDA_R_32F, ldb,
                        beta, C, CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}
}
