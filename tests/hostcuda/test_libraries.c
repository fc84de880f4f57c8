/* cuFFT and cuBLAS of hostcuda against naive sums in double: batches, strides, types, queued on
 * streams; and what they insist on: work areas, bounds, errors to order. */
#include "tests/hostcuda/fixture.h"

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cufft.h>
#include <signal.h>

#define PI 3.14159265358979323846

/* R2C of `batch` rows of n numbers `dist` apart, then C2R back. */
static void transforms(void **state)
{
    (void)state;
    const int sizes[] = {1, 2, 7, 12, 30};
    const int batch = 3;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int n = sizes[i], m = n / 2 + 1, dist = n + 3;
        cudaStream_t s = stream_new();
        float host[3 * 33], got[2 * 3 * 16], back[3 * 33];
        for (int k = 0; k < batch * dist; k++)
            host[k] = (float)((k * 37 % 101) - 50) / 50;
        float *x = device_floats(s, batch * dist, host), *y = device_floats(s, 2 * batch * m, NULL);
        cufftHandle plan[2];
        void *work = NULL;
        for (int back_way = 0; back_way < 2; back_way++) {
            size_t bytes = 0;
            int *real = &dist, *half = &m;
            assert_int_equal(cufftCreate(&plan[back_way]), CUFFT_SUCCESS);
            assert_int_equal(cufftSetAutoAllocation(plan[back_way], 0), CUFFT_SUCCESS);
            assert_int_equal(cufftMakePlanMany(plan[back_way], 1, &n, back_way ? half : real, 1,
                                               back_way ? m : dist, back_way ? real : half, 1,
                                               back_way ? dist : m,
                                               back_way ? CUFFT_C2R : CUFFT_R2C, batch, &bytes),
                             CUFFT_SUCCESS);
            if (!work)
                OK(CUDA(cudaMalloc(&work, bytes)));
            assert_int_equal(cufftSetWorkArea(plan[back_way], work), CUFFT_SUCCESS);
            assert_int_equal(cufftSetStream(plan[back_way], s), CUFFT_SUCCESS);
        }
        assert_int_equal(cufftExecR2C(plan[0], x, (cufftComplex *)y), CUFFT_SUCCESS);
        host_floats(s, 2 * batch * m, got, y);
        for (int b = 0; b < batch; b++)
            for (int f = 0; f < m; f++) {
                double re = 0, im = 0;
                for (int t = 0; t < n; t++) {
                    re += (double)host[b * dist + t] * cos(2 * PI * f * t / n);
                    im -= (double)host[b * dist + t] * sin(2 * PI * f * t / n);
                }
                assert_true(fabs(re - (double)got[2 * (b * m + f)]) < 1e-5);
                assert_true(fabs(im - (double)got[2 * (b * m + f) + 1]) < 1e-5);
            }
        OK(CUDA(cudaMemsetAsync(x, 0, sizeof(float) * (size_t)(batch * dist), s)));
        assert_int_equal(cufftExecC2R(plan[1], (cufftComplex *)y, x), CUFFT_SUCCESS);
        host_floats(s, batch * dist, back, x);
        for (int k = 0; k < batch * dist; k++) /* not normalised; between the rows nothing */
            assert_true(fabsf(back[k] - (k % dist < n ? (float)n * host[k] : 0.0f)) < 1e-4f);
        assert_int_equal(cufftDestroy(plan[0]), CUFFT_SUCCESS);
        assert_int_equal(cufftDestroy(plan[1]), CUFFT_SUCCESS);
        void *memory[] = {x, y, work};
        for (int k = 0; k < 3; k++)
            OK(CUDA(cudaFree(memory[k])));
        OK(CUDA(cudaStreamDestroy(s)));
    }
    assert_int_equal(hostcuda_left(), 0);
}

static void transform_with(bool work_area, int64_t reals)
{
    cudaStream_t s = stream_new();
    int n = 8, m = 5;
    size_t bytes;
    cufftHandle plan;
    void *work;
    float *x = device_floats(s, reals, NULL), *y = device_floats(s, 2 * m, NULL);
    cufftCreate(&plan);
    cufftSetAutoAllocation(plan, 0);
    cufftMakePlanMany(plan, 1, &n, &n, 1, n, &m, 1, m, CUFFT_R2C, 1, &bytes);
    cufftSetStream(plan, s);
    OK(CUDA(cudaMalloc(&work, bytes)));
    if (work_area)
        cufftSetWorkArea(plan, work);
    cufftExecR2C(plan, x, (cufftComplex *)y);
}

static void no_work_area(void)
{
    transform_with(false, 8);
}

static void too_short(void)
{
    transform_with(true, 7);
}

static void transforms_insist(void **state)
{
    (void)state;
    expect_end(no_work_area, SIGABRT, 0, WORDS("cuFFT: a transform without its work area"));
    expect_end(too_short, SIGABRT, 0, WORDS("cuFFT: the real side: 32 bytes where 28 are left"));
    cufftHandle plan;
    hostcuda_fail(HOSTCUDA_CUFFT, 1, CUFFT_ALLOC_FAILED);
    assert_int_equal(cufftCreate(&plan), CUFFT_ALLOC_FAILED);
    assert_int_equal(hostcuda_left(), 0);
}

/* Columns of C (m, n) = alpha op(A) op(B) + beta C, batch b `stride` further on. */
typedef struct {
    cublasOperation_t ta, tb;
    int m, n, k, batch;
    bool bf16;
    float alpha, beta;
} product;

static double element(const product *p, const float *A, const float *B, int b, int i, int j)
{
    double sum = 0;
    for (int l = 0; l < p->k; l++) {
        const int a = p->ta == CUBLAS_OP_N ? l * p->m + i : i * p->k + l;
        const int at = p->tb == CUBLAS_OP_N ? j * p->k + l : l * p->n + j;
        sum += (double)A[b * p->m * p->k + a] * (double)B[b * p->k * p->n + at];
    }
    return (double)p->alpha * sum;
}

/* bf16 by cutting: the numbers used here have no more bits. */
static void *upload(cudaStream_t s, const float *x, int n, bool bf16)
{
    uint16_t cut[512];
    for (int i = 0; i < n; i++)
        memcpy(&cut[i], (const char *)&x[i] + 2, 2);
    void *at = NULL;
    OK(CUDA(cudaMalloc(&at, (size_t)n * (bf16 ? 2 : 4))));
    OK(CUDA(cudaMemcpyAsync(at, bf16 ? (const void *)cut : x, (size_t)n * (bf16 ? 2 : 4),
                            cudaMemcpyHostToDevice, s)));
    OK(CUDA(cudaStreamSynchronize(s)));
    return at;
}

static void one_product(cublasHandle_t handle, cudaStream_t s, const product *p)
{
    float A[512], B[512], C[512], got[512];
    const int na = p->batch * p->m * p->k, nb = p->batch * p->k * p->n, nc = p->batch * p->m * p->n;
    for (int i = 0; i < 512; i++) {
        A[i] = (float)(i * 7 % 13 - 6);
        B[i] = (float)(i * 5 % 11 - 5) / 4;
        C[i] = p->beta != 0 ? (float)(i % 3) : NAN; /* not read where beta is 0 */
    }
    void *a = upload(s, A, na, p->bf16), *b = upload(s, B, nb, p->bf16);
    float *c = upload(s, C, nc, false);
    const cudaDataType type = p->bf16 ? CUDA_R_16BF : CUDA_R_32F;
    assert_int_equal(cublasGemmStridedBatchedEx(
                         handle, p->ta, p->tb, p->m, p->n, p->k, &p->alpha, a, type,
                         p->ta == CUBLAS_OP_N ? p->m : p->k, p->m * p->k, b, type,
                         p->tb == CUBLAS_OP_N ? p->k : p->n, p->k * p->n, &p->beta, c, CUDA_R_32F,
                         p->m, p->m * p->n, p->batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_SUCCESS);
    host_floats(s, nc, got, c);
    for (int e = 0; e < p->batch; e++)
        for (int j = 0; j < p->n; j++)
            for (int i = 0; i < p->m; i++) {
                const int at = e * p->m * p->n + j * p->m + i;
                const double before = p->beta != 0 ? (double)(p->beta * C[at]) : 0;
                assert_true(fabs(element(p, A, B, e, i, j) + before - (double)got[at]) < 1e-4);
            }
    void *memory[] = {a, b, c};
    for (int i = 0; i < 3; i++)
        OK(CUDA(cudaFree(memory[i])));
}

static void products(void **state)
{
    (void)state;
    cudaStream_t s = stream_new();
    cublasHandle_t handle;
    void *work = NULL;
    OK(CUDA(cudaMalloc(&work, 4096)));
    assert_int_equal(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasSetStream(handle, s), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasSetWorkspace(handle, work, 4096), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasSetMathMode(handle, CUBLAS_DEFAULT_MATH), CUBLAS_STATUS_SUCCESS);
    for (int form = 0; form < 16; form++) {
        const product p = {form & 1 ? CUBLAS_OP_T : CUBLAS_OP_N,
                           form & 2 ? CUBLAS_OP_T : CUBLAS_OP_N,
                           5,
                           9,
                           7,
                           3,
                           form & 4,
                           1.5f,
                           form & 8 ? 0.5f : 0.0f};
        one_product(handle, s, &p);
    }
    hostcuda_fail(HOSTCUDA_CUBLAS, 1, CUBLAS_STATUS_EXECUTION_FAILED);
    float one = 1, *x = device_floats(s, 4, NULL);
    assert_int_equal(
        cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, x, 2, x, 2, &one, x, 2),
        CUBLAS_STATUS_EXECUTION_FAILED);
    assert_int_equal(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
    OK(CUDA(cudaFree(x)));
    OK(CUDA(cudaFree(work)));
    OK(CUDA(cudaStreamDestroy(s)));
    assert_int_equal(hostcuda_left(), 0);
}

/* A product of 2 x 2 matrices in memory for `numbers` numbers. */
static void product_in(bool workspace, int64_t numbers)
{
    cudaStream_t s = stream_new();
    cublasHandle_t handle;
    float one = 1, *x = device_floats(s, numbers, NULL);
    cublasCreate(&handle);
    cublasSetStream(handle, s);
    if (workspace)
        cublasSetWorkspace(handle, device_floats(s, 64, NULL), 256);
    cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, x, 2, x, 2, &one, x, 2);
}

static void no_workspace(void)
{
    product_in(false, 4);
}

static void too_small(void)
{
    product_in(true, 3);
}

static void products_insist(void **state)
{
    (void)state;
    expect_end(no_workspace, SIGABRT, 0, WORDS("cuBLAS: a product without cublasSetWorkspace"));
    expect_end(too_small, SIGABRT, 0, WORDS("cuBLAS: A: 16 bytes where 12 are left"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transforms), cmocka_unit_test(transforms_insist),
        cmocka_unit_test(products), cmocka_unit_test(products_insist)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
