/* ranks: 1
 * fft: spectra against sums at the roots of z^M = -i in double, the way back, products and
 * correlations of spectra; plans are kept, and the same whatever was planned before. */
#include "kernels/cpu/fft.h"

#include "tests/oracle.h"

#include <complex.h>

static const int64_t points[] = {1, 4, 12, 28, 60, 128, 144, 400, 1120, 1024};
#define POINTS (int)(sizeof points / sizeof points[0])

static void weigh(const fft_plan *p, const float *x, float *z)
{
    for (int64_t n = 0; n < p->points; n++) {
        z[2 * n] = x[n] * p->weight[2 * n];
        z[2 * n + 1] = x[n] * p->weight[2 * n + 1];
    }
}

/* Re(w^-n z_n) / M */
static void unweigh(const fft_plan *p, const float *z, float *x)
{
    for (int64_t n = 0; n < p->points; n++)
        x[n] =
            (z[2 * n] * p->weight[2 * n] + z[2 * n + 1] * p->weight[2 * n + 1]) / (float)p->points;
}

/* X_j = x(z_j), z_j = e^(-i pi (4j + 1) / (2M)). */
static void spectrum_oracle(int64_t M, const double *x, double *X)
{
    for (int64_t j = 0; j < M; j++) {
        double complex sum = 0;
        for (int64_t n = 0; n < M; n++) {
            const double turns = (double)((4 * j + 1) * n % (4 * M)) / (double)(4 * M);
            sum += x[n] * cexp(-2 * I * 3.14159265358979323846 * turns);
        }
        X[2 * j] = creal(sum);
        X[2 * j + 1] = cimag(sum);
    }
}

static void there_and_back(void **state)
{
    (void)state;
    bench b;
    bench_device(&b, 2);
    for (int i = 0; i < POINTS; i++) {
        const int64_t M = points[i];
        buffers all = {0};
        rng r = rng_at(1, RNG_TEST, (uint64_t)M, 0);
        tensor x = tensor_random(&all, &r, M, 1.0);
        float *z = buffer_floats(&all, 2 * M), *X = buffer_floats(&all, 2 * M);
        float *back = buffer_floats(&all, M);
        double *want = buffer_take(&all, (size_t)M * 2 * sizeof(double));
        const fft_plan *p = NULL;
        OK(fft_plan_get(b.dev, M, &p));
        weigh(p, x.f, z);
        fft_forward(p, z, X);
        spectrum_oracle(M, x.d, want);
        expect_close("spectrum", X, want, 2 * M, 2e-6);
        fft_inverse(p, X, z);
        unweigh(p, z, back);
        expect_close("there and back", back, x.d, M, 2e-6);
        buffers_close(&all);
    }
    fft_plans_free(&b.dev->state);
    device_close(&b.dev);
}

/* Both are the definitions: nothing wraps around into the real part. */
static void products(void **state)
{
    (void)state;
    bench b;
    bench_device(&b, 1);
    for (int i = 0; i < POINTS; i++) {
        const int64_t M = points[i];
        buffers all = {0};
        rng r = rng_at(2, RNG_TEST, (uint64_t)M, 0);
        tensor x = tensor_random(&all, &r, M, 1.0), k = tensor_random(&all, &r, M, 1.0);
        float *z = buffer_floats(&all, 2 * M), *X = buffer_floats(&all, 2 * M);
        float *K = buffer_floats(&all, 2 * M), *P = buffer_floats(&all, 2 * M);
        float *out = buffer_floats(&all, M);
        double *want = buffer_take(&all, (size_t)M * sizeof(double));
        const fft_plan *p = NULL;
        OK(fft_plan_get(b.dev, M, &p));
        weigh(p, x.f, z);
        fft_forward(p, z, X);
        weigh(p, k.f, z);
        fft_forward(p, z, K);
        for (int conj = 0; conj < 2; conj++) {
            for (int64_t j = 0; j < M; j++) {
                const double complex q =
                    ((double)X[2 * j] + I * (double)X[2 * j + 1]) *
                    ((double)K[2 * j] + I * (conj ? -1 : 1) * (double)K[2 * j + 1]);
                P[2 * j] = (float)creal(q);
                P[2 * j + 1] = (float)cimag(q);
            }
            fft_inverse(p, P, z);
            unweigh(p, z, out);
            for (int64_t n = 0; n < M; n++) {
                want[n] = 0;
                for (int64_t s = 0; conj ? s + n < M : s <= n; s++)
                    want[n] += conj ? x.d[s + n] * k.d[s] : x.d[s] * k.d[n - s];
            }
            expect_close(conj ? "correlation" : "convolution", out, want, M, 2e-6);
        }
        buffers_close(&all);
    }
    device_close(&b.dev);
}

static void plans_are_kept_and_alike(void **state)
{
    (void)state;
    const int64_t M = 4704, other = 9408;
    buffers all = {0};
    rng r = rng_at(3, RNG_TEST, 0, 0);
    tensor x = tensor_random(&all, &r, 2 * M, 1.0);
    float *first = buffer_floats(&all, 2 * M), *second = buffer_floats(&all, 2 * M);
    const fft_plan *p = NULL, *q = NULL;
    bench b;
    bench_device(&b, 1);
    OK(fft_plan_get(b.dev, M, &p));
    OK(fft_plan_get(b.dev, other, &q));
    assert_ptr_not_equal(p, q);
    fft_forward(p, x.f, first);
    OK(fft_plan_get(b.dev, M, &q));
    assert_ptr_equal(p, q);
    device_close(&b.dev);

    bench_device(&b, 1);
    OK(fft_plan_get(b.dev, 2 * other, &q));
    OK(fft_plan_get(b.dev, other, &q));
    OK(fft_plan_get(b.dev, M, &p));
    fft_forward(p, x.f, second);
    assert_memory_equal(first, second, (size_t)M * 2 * sizeof(float));
    device_close(&b.dev);
    buffers_close(&all);
}

/* One plan, several threads, disjoint arrays. */
static void threads_share_a_plan(void **state)
{
    (void)state;
    enum { ROWS = 24 };
    const int64_t M = 1120;
    buffers all = {0};
    rng r = rng_at(4, RNG_TEST, 0, 0);
    tensor x = tensor_random(&all, &r, ROWS * 2 * M, 1.0);
    float *alone = buffer_floats(&all, ROWS * 2 * M), *together = buffer_floats(&all, ROWS * 2 * M);
    const fft_plan *p = NULL;
    bench b;
    bench_device(&b, 3);
    OK(fft_plan_get(b.dev, M, &p));
    for (int64_t i = 0; i < ROWS; i++)
        fft_forward(p, x.f + i * 2 * M, alone + i * 2 * M);
#pragma omp parallel for num_threads(3) schedule(dynamic, 1)
    for (int64_t i = 0; i < ROWS; i++)
        fft_forward(p, x.f + i * 2 * M, together + i * 2 * M);
    assert_memory_equal(alone, together, (size_t)(ROWS * 2 * M) * sizeof(float));
    device_close(&b.dev);
    buffers_close(&all);
}

static void impossible_sizes(void **state)
{
    (void)state;
    bench b;
    const fft_plan *p = NULL;
    bench_device(&b, 1);
    assert_int_equal(fft_plan_get(b.dev, 0, &p), STATUS_USAGE);
    assert_int_equal(fft_plan_get(b.dev, (int64_t)1 << 32, &p), STATUS_USAGE);
    assert_null(p);
    device_close(&b.dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),           cmocka_unit_test(products),
        cmocka_unit_test(plans_are_kept_and_alike), cmocka_unit_test(threads_share_a_plan),
        cmocka_unit_test(impossible_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
