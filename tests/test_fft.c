/* ranks: 1
 * fft: spectra against sums at the roots of z^M = -i in double, the way back, products and
 * correlations of spectra, for one row and for rows and columns; plans are kept, and the same
 * whatever was planned before. */
#include "kernels/cpu/fft.h"

#include "tests/oracle.h"

#include <complex.h>

static const int64_t lengths[] = {1, 4, 7, 12, 48, 100, 127, 400, 1000, 2048, 2049, 4099, 5000};
#define LENGTHS (int)(sizeof lengths / sizeof lengths[0])

typedef struct {
    float *z, *X, *scratch; /* loaded, transformed */
} spectrum;

static spectrum spectrum_take(buffers *all, const fft_plan *p)
{
    const int64_t n = fft_spectrum_floats(&p->s);
    return (spectrum){buffer_floats(all, n), buffer_floats(all, n),
                      buffer_floats(all, fft_scratch_floats(&p->s))};
}

static void transform(const fft_plan *p, int64_t L, const float *x, const float *gate, spectrum *s)
{
    fft_load(p, L, x, gate, s->z, s->scratch);
    for (int64_t r = 0; r < p->s.rows; r++)
        fft_forward(p, s->z + 2 * r * p->s.stride, s->X + 2 * r * p->s.stride);
}

static void transform_back(const fft_plan *p, int64_t L, spectrum *s, const fft_output *o)
{
    for (int64_t r = 0; r < p->s.rows; r++)
        fft_inverse(p, s->X + 2 * r * p->s.stride, s->z + 2 * r * p->s.stride);
    fft_store(p, L, s->z, o, s->scratch);
}

/* X_j = x(z_j), z_j = e^(-i pi (4j + 1) / (2M)); j = k1 + R k2 stands in row k1, column k2. */
static void expect_spectrum(const fft_plan *p, int64_t L, const double *x, const float *X)
{
    const int64_t M = p->s.points;
    double worst = 0, scale = 0;
    for (int64_t k1 = 0; k1 < p->s.rows; k1++)
        for (int64_t k2 = 0; k2 < p->s.length; k2 += 1 + p->s.rows / 8) {
            const int64_t j = k1 + p->s.rows * k2, at = 2 * (k1 * p->s.stride + k2);
            double complex sum = 0;
            for (int64_t n = 0; n < L; n++) {
                const double turns = (double)((4 * j + 1) * n % (4 * M)) / (double)(4 * M);
                sum += x[n] * cexp(-2 * I * 3.14159265358979323846 * turns);
            }
            worst = fmax(worst, cabs(sum - ((double)X[at] + I * (double)X[at + 1])));
            scale = fmax(scale, cabs(sum));
        }
    if (!(worst < 2e-6 * scale))
        fail_msg("spectrum of %lld: relative error %.2e", (long long)L, worst / scale);
}

static void there_and_back(void **state)
{
    (void)state;
    bench b;
    bench_device(&b, 2);
    for (int i = 0; i < LENGTHS; i++) {
        const int64_t L = lengths[i];
        buffers all = {0};
        rng r = rng_at(1, RNG_TEST, (uint64_t)L, 0);
        tensor x = tensor_random(&all, &r, L, 1.0);
        float *back = buffer_floats(&all, L);
        const fft_plan *p = NULL;
        OK(fft_plan_get(b.dev, L, &p));
        assert_true(p->s.points >= L && p->s.points == p->s.rows * p->s.length);
        assert_true(2 * p->s.points == conv_points(b.dev, L));
        spectrum s = spectrum_take(&all, p);
        transform(p, L, x.f, NULL, &s);
        expect_spectrum(p, L, x.d, s.X);
        transform_back(p, L, &s, &(fft_output){.y = back});
        expect_close("there and back", back, x.d, L, 2e-6);
        buffers_close(&all);
    }
    device_close(&b.dev);
}

/* Gates and skip as they are declared. */
static void outputs(void **state)
{
    (void)state;
    bench b;
    bench_device(&b, 1);
    for (int i = 0; i < LENGTHS; i++) {
        const int64_t L = lengths[i];
        buffers all = {0};
        rng r = rng_at(5, RNG_TEST, (uint64_t)L, 0);
        tensor x = tensor_random(&all, &r, L, 1.0), gate = tensor_random(&all, &r, L, 1.0);
        float *y = buffer_floats(&all, L);
        double *want = buffer_take(&all, (size_t)L * sizeof(double));
        const fft_plan *p = NULL;
        OK(fft_plan_get(b.dev, L, &p));
        spectrum s = spectrum_take(&all, p);
        for (int kind = 0; kind < 3; kind++) {
            const bool inner = kind & 1, outer = kind & 2;
            transform(p, L, x.f, gate.f, &s);
            transform_back(p, L, &s,
                           &(fft_output){.D = 0.5f,
                                         .x = x.f,
                                         .inner = inner ? gate.f : NULL,
                                         .outer = outer ? gate.f : NULL,
                                         .y = y});
            for (int64_t n = 0; n < L; n++)
                want[n] = (x.d[n] * gate.d[n] + 0.5 * x.d[n] * (inner ? gate.d[n] : 1)) *
                          (outer ? gate.d[n] : 1);
            expect_close("output", y, want, L, 2e-6);
        }
        buffers_close(&all);
    }
    device_close(&b.dev);
}

/* Both are the definitions: nothing wraps around into the real part. */
static void products(void **state)
{
    (void)state;
    bench b;
    bench_device(&b, 1);
    for (int i = 0; i < LENGTHS; i++) {
        const int64_t L = lengths[i];
        buffers all = {0};
        rng r = rng_at(2, RNG_TEST, (uint64_t)L, 0);
        tensor x = tensor_random(&all, &r, L, 1.0), k = tensor_random(&all, &r, L, 1.0);
        float *out = buffer_floats(&all, L);
        double *want = buffer_take(&all, (size_t)L * sizeof(double));
        const fft_plan *p = NULL;
        OK(fft_plan_get(b.dev, L, &p));
        spectrum sx = spectrum_take(&all, p), sk = spectrum_take(&all, p);
        for (int conj = 0; conj < 2; conj++) {
            transform(p, L, x.f, NULL, &sx);
            transform(p, L, k.f, NULL, &sk);
            for (int64_t j = 0; j < p->s.points; j++) {
                const int64_t at = 2 * (j / p->s.length * p->s.stride + j % p->s.length);
                const double complex q =
                    ((double)sx.X[at] + I * (double)sx.X[at + 1]) *
                    ((double)sk.X[at] + I * (conj ? -1 : 1) * (double)sk.X[at + 1]);
                sx.X[at] = (float)creal(q);
                sx.X[at + 1] = (float)cimag(q);
            }
            transform_back(p, L, &sx, &(fft_output){.y = out});
            for (int64_t n = 0; n < L; n++) {
                want[n] = 0;
                for (int64_t s = 0; conj ? s + n < L : s <= n; s++)
                    want[n] += conj ? x.d[s + n] * k.d[s] : x.d[s] * k.d[n - s];
            }
            expect_close(conj ? "correlation" : "convolution", out, want, L, 2e-6);
        }
        buffers_close(&all);
    }
    device_close(&b.dev);
}

static void plans_are_kept_and_alike(void **state)
{
    (void)state;
    const int64_t L = 5000, other = 9408;
    buffers all = {0};
    rng r = rng_at(3, RNG_TEST, 0, 0);
    tensor x = tensor_random(&all, &r, L, 1.0);
    const fft_plan *p = NULL, *q = NULL;
    bench b;
    bench_device(&b, 1);
    OK(fft_plan_get(b.dev, L, &p));
    OK(fft_plan_get(b.dev, other, &q));
    assert_ptr_not_equal(p, q);
    spectrum first = spectrum_take(&all, p), second = spectrum_take(&all, p);
    memset(first.X, 0, (size_t)fft_spectrum_floats(&p->s) * sizeof(float));
    memset(second.X, 0, (size_t)fft_spectrum_floats(&p->s) * sizeof(float));
    transform(p, L, x.f, NULL, &first);
    OK(fft_plan_get(b.dev, L - 1, &q));
    assert_ptr_equal(p, q);
    device_close(&b.dev);

    bench_device(&b, 1);
    OK(fft_plan_get(b.dev, 2 * other, &q));
    OK(fft_plan_get(b.dev, 70, &q));
    OK(fft_plan_get(b.dev, L, &p));
    transform(p, L, x.f, NULL, &second);
    assert_memory_equal(first.X, second.X, (size_t)fft_spectrum_floats(&p->s) * sizeof(float));
    device_close(&b.dev);
    buffers_close(&all);
}

/* One plan, several threads, disjoint arrays. */
static void threads_share_a_plan(void **state)
{
    (void)state;
    enum { ROWS = 24 };
    const int64_t C = 640;
    buffers all = {0};
    rng r = rng_at(4, RNG_TEST, 0, 0);
    tensor x = tensor_random(&all, &r, ROWS * 2 * C, 1.0);
    float *alone = buffer_floats(&all, ROWS * 2 * C), *together = buffer_floats(&all, ROWS * 2 * C);
    const fft_plan *p = NULL;
    bench b;
    bench_device(&b, 3);
    OK(fft_plan_get(b.dev, C, &p));
    for (int64_t i = 0; i < ROWS; i++)
        fft_forward(p, x.f + i * 2 * C, alone + i * 2 * C);
#pragma omp parallel for num_threads(3) schedule(dynamic, 1)
    for (int64_t i = 0; i < ROWS; i++)
        fft_forward(p, x.f + i * 2 * C, together + i * 2 * C);
    assert_memory_equal(alone, together, (size_t)(ROWS * 2 * C) * sizeof(float));
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

/* At most this much longer than the sequence: what lies between two fast lengths. */
static void shapes(void **state)
{
    (void)state;
    for (int64_t L = 1; L < 20000000; L += 1 + L / 97) {
        const fft_shape s = fft_shape_of(L);
        assert_true(s.points == s.rows * s.length && s.points >= L && s.stride >= s.length);
        if (L > 4096)
            assert_true(s.rows >= 48 && s.rows <= 2048 && s.length % 16 == 0);
        if (L > 4096 && L <= 2048 * 2048)
            assert_true((double)s.points <= 1.281 * (double)L);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(outputs),
        cmocka_unit_test(products),
        cmocka_unit_test(plans_are_kept_and_alike),
        cmocka_unit_test(threads_share_a_plan),
        cmocka_unit_test(impossible_sizes),
        cmocka_unit_test(shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
