/* ranks: 1   on: cuda
 * Products of both backends in all four forms against a plain loop in double: odd sizes, rows that
 * are longer than the product, batches with and without a stride, C added to or not read. */
#include "tests/oracle.h"
#ifdef TEST_CUDA
#include "kernels/cuda/gemm.h"
#define TRIALS 64
#else
#include "kernels/cpu/gemm.h"
#define TRIALS 200
#endif

typedef struct {
    bool ta, tb, add;
    int64_t M, N, K, lda, ldb, ldc, batch, stride_a, stride_b, stride_c;
    tensor A, B, C;
} product;

static void oracle(product *p)
{
    for (int64_t i = 0; i < p->batch; i++) {
        const double *A = p->A.d + i * p->stride_a, *B = p->B.d + i * p->stride_b;
        for (int64_t m = 0; m < p->M; m++)
            for (int64_t n = 0; n < p->N; n++) {
                const int64_t at = i * p->stride_c + m * p->ldc + n;
                double sum = p->add ? p->C.d[at] : 0.0;
                for (int64_t k = 0; k < p->K; k++)
                    sum += A[p->ta ? k * p->lda + m : m * p->lda + k] *
                           B[p->tb ? n * p->ldb + k : k * p->ldb + n];
                p->C.d[at] = sum;
                if (!p->add)
                    p->C.f[at] = NAN; /* must not be read */
            }
    }
}

static void compute(bench *b, buffers *all, const product *p)
{
    const float beta = p->add ? 1.0f : 0.0f;
    float *A = bench_on(b, all, p->A.f), *B = bench_on(b, all, p->B.f),
          *C = bench_on(b, all, p->C.f);
#ifdef TEST_CUDA
    if (p->batch == 1)
        OK(gemm_cuda(b->dev, p->ta, p->tb, p->M, p->N, p->K, A, p->lda, B, p->ldb, beta, C,
                     p->ldc));
    else
        OK(gemm_batched_cuda(b->dev, p->ta, p->tb, p->M, p->N, p->K, A, p->lda, p->stride_a, B,
                             p->ldb, p->stride_b, beta, C, p->ldc, p->stride_c, p->batch));
#else
    for (int64_t i = 0; i < p->batch; i++)
        gemm_f32(p->ta, p->tb, p->M, p->N, p->K, A + i * p->stride_a, p->lda, B + i * p->stride_b,
                 p->ldb, beta, C + i * p->stride_c, p->ldc);
#endif
    bench_back(b);
    bench_forget(b);
}

static void products(void **state)
{
    (void)state;
    rng r = rng_at(1, RNG_TEST, 0, 0);
    bench b;
    bench_device(&b, 1);
    for (int trial = 0; trial < TRIALS; trial++) {
        const int64_t extra = (int64_t)rng_below(&r, 5), apart = (int64_t)rng_below(&r, 9);
        product p = {.ta = trial & 1, .tb = trial & 2, .add = trial & 4, .batch = 1};
        p.M = 1 + (int64_t)rng_below(&r, 70);
        p.N = 1 + (int64_t)rng_below(&r, 270);
        p.K = 1 + (int64_t)rng_below(&r, 90);
        p.lda = (p.ta ? p.M : p.K) + extra;
        p.ldb = (p.tb ? p.K : p.N) + extra;
        p.ldc = p.N + extra;
        if (trial & 8) {
            p.batch = 2 + (int64_t)rng_below(&r, 3);
            p.stride_a = trial & 16 ? 0 : (p.ta ? p.K : p.M) * p.lda + apart; /* 0: one for all */
            p.stride_b = trial & 32 ? 0 : (p.tb ? p.N : p.K) * p.ldb + apart;
            p.stride_c = p.M * p.ldc + apart;
        }
        buffers all = {0};
        p.A = tensor_random(&all, &r, (p.batch - 1) * p.stride_a + (p.ta ? p.K : p.M) * p.lda, 1.0);
        p.B = tensor_random(&all, &r, (p.batch - 1) * p.stride_b + (p.tb ? p.N : p.K) * p.ldb, 1.0);
        p.C = tensor_random(&all, &r, (p.batch - 1) * p.stride_c + p.M * p.ldc, 1.0);
        oracle(&p);
        compute(&b, &all, &p);
        expect_close("product", p.C.f, p.C.d, p.C.n, 2e-6); /* what lies between rows too */
        buffers_close(&all);
    }
    device_close(&b.dev);
}

/* No rows or no columns: nothing is written. */
static void empty(void **state)
{
    (void)state;
    rng r = rng_at(2, RNG_TEST, 0, 0);
    bench b;
    bench_device(&b, 1);
    for (int rows = 0; rows < 2; rows++) {
        buffers all = {0};
        product p = {.M = rows ? 5 : 0, .N = rows ? 0 : 7, .K = 3, .lda = 3, .ldb = 7, .ldc = 7};
        p.batch = 1;
        p.A = tensor_random(&all, &r, 15, 1.0);
        p.B = tensor_random(&all, &r, 21, 1.0);
        p.C = tensor_random(&all, &r, 35, 1.0);
        compute(&b, &all, &p);
        expect_close("C", p.C.f, p.C.d, 35, 1e-30);
        buffers_close(&all);
    }
    device_close(&b.dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products), cmocka_unit_test(empty)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
