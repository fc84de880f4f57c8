/* ranks: 1   labels: slow   on: gpu
 * filter and conv together at 2^20 positions, with filters that do not decay: y, the gradients of g
 * and of k, and through them every gradient of the implicit filter, stay within 1e-5 of double. */
#include "tests/filter_oracle.h"

#include <complex.h>

#define LENGTH (1 << 20)
#define CHANNELS 4
#define BOUND 1e-5

/* In place, of a power of two; sign -1 forward, +1 back (not divided by n). */
static void transform(int64_t n, double complex *x, double sign)
{
    for (int64_t i = 1, j = 0; i < n; i++) {
        int64_t bit = n / 2;
        for (; j & bit; bit /= 2)
            j ^= bit;
        j ^= bit;
        if (i < j) {
            const double complex swap = x[i];
            x[i] = x[j];
            x[j] = swap;
        }
    }
    for (int64_t half = 1; half < n; half *= 2)
        for (int64_t k = 0; k < half; k++) {
            const double complex turn = cexp(sign * I * M_PI * (double)k / (double)half);
            for (int64_t i = k; i < n; i += 2 * half) {
                const double complex odd = turn * x[i + half];
                x[i + half] = x[i] - odd;
                x[i] += odd;
            }
        }
}

/* Spectrum of x[0 .. LENGTH) followed by as many zeros; to be freed. */
static double complex *spectrum_of(const double *x)
{
    double complex *s = calloc(2 * LENGTH, sizeof *s);
    assert_non_null(s);
    for (int64_t i = 0; i < LENGTH; i++)
        s[i] = x[i];
    transform(2 * LENGTH, s, -1);
    return s;
}

/* to[t] = sum of a[s] b[t - s], or of a[s] b[s - t] (`against`); a is overwritten. */
static void product_back(double complex *a, const double complex *b, bool against, double *to)
{
    for (int64_t i = 0; i < 2 * LENGTH; i++)
        a[i] *= against ? conj(b[i]) : b[i];
    transform(2 * LENGTH, a, 1);
    for (int64_t i = 0; i < LENGTH; i++)
        to[i] = creal(a[i]) / (2.0 * LENGTH);
}

typedef struct {
    tensor g, dy, D;
    double *y, *dg; /* what is right */
} columns;

/* y, dg and dk of one channel in double. */
static void channel_oracle(const columns *x, const double *k, int64_t c, double *dk)
{
    const int64_t at = c * LENGTH;
    double complex *K = spectrum_of(k), *dY = spectrum_of(x->dy.d + at);
    double complex *G = spectrum_of(x->g.d + at), *of = spectrum_of(x->dy.d + at);
    product_back(of, G, true, dk); /* before G is overwritten */
    product_back(G, K, false, x->y + at);
    product_back(dY, K, true, x->dg + at);
    for (int64_t t = 0; t < LENGTH; t++) {
        x->y[at + t] += x->D.d[c] * x->g.d[at + t];
        x->dg[at + t] += x->D.d[c] * x->dy.d[at + t];
    }
    free(K);
    free(dY);
    free(G);
    free(of);
}

static void expect_rows(const char *what, const float *got, int64_t stride, const double *want,
                        int64_t want_stride)
{
    double worst = 0, scale = 1e-30;
    for (int64_t c = 0; c < CHANNELS; c++)
        for (int64_t t = 0; t < LENGTH; t++) {
            const double right = want[c * want_stride + t];
            const double e = fabs((double)got[c * stride + t] - right);
            if (!(e <= worst))
                worst = isnan(e) ? INFINITY : e;
            scale = fmax(scale, fabs(right));
        }
    printf("  %s %.1e", what, worst / scale);
    if (!(worst / scale < BOUND))
        fail_msg("%s: relative error %.2e, allowed %.1e", what, worst / scale, BOUND);
}

/* k into the convolution and dk out of it, on a device; dk (CHANNELS, k_stride) to be read. */
static float *convolve(const columns *x, const float *k, int64_t k_stride, buffers *all,
                       const filter_case *q, const double *dk)
{
    bench b;
    bench_device(&b, 2);
    const conv_args a = {.s = shape_of(1, LENGTH), .dc = CHANNELS, .k_stride = k_stride};
    const op_cost cost = conv_cost(b.dev, &a);
    bench_workspace(&b, cost.workspace);
    float *y = buffer_floats(all, x->g.n), *dg = buffer_floats(all, x->g.n);
    float *got = buffer_floats(all, CHANNELS * k_stride), *dD = buffer_floats(all, CHANNELS);
    memset(dD, 0, CHANNELS * sizeof *dD);
    const float *on_k = bench_on(&b, all, k), *D = bench_on(&b, all, x->D.f);
    const float *g = bench_on(&b, all, x->g.f), *dy = bench_on(&b, all, x->dy.f);
    OK(conv_forward(b.dev, &a, on_k, D, g, NULL, bench_on(&b, all, y), &b.ws));
    bench_poison(&b);
    OK(conv_backward(b.dev, &a, on_k, D, g, NULL, dy, bench_on(&b, all, dg), NULL,
                     bench_on(&b, all, got), bench_on(&b, all, dD), &b.ws));
    bench_back(&b);
    bench_close(&b, cost.workspace);
    expect_rows("y", y, LENGTH, x->y, LENGTH);
    expect_rows("dg", dg, LENGTH, x->dg, LENGTH);
    expect_rows("dk", got, k_stride, dk, q->k_stride);
    printf("  ");
    return got;
}

static void a_million_positions(void **state)
{
    (void)state;
    buffers all = {0};
    filter_case q;
    filter_case_million(&q, &all, 1.0); /* the last position weighs as the first */
    rng r = rng_at(12, RNG_TEST, 0, 0);
    columns x = {.g = tensor_random(&all, &r, CHANNELS * LENGTH, 1.0),
                 .dy = tensor_random(&all, &r, CHANNELS * LENGTH, 1.0),
                 .D = tensor_random(&all, &r, CHANNELS, 1.0),
                 .y = filter_zeros(CHANNELS * LENGTH),
                 .dg = filter_zeros(CHANNELS * LENGTH)};
    filter_oracle(&q, false); /* k */
    for (int64_t c = 0; c < CHANNELS; c++)
        channel_oracle(&x, q.k + c * q.k_stride, c, q.dk.d + c * q.k_stride);
    filter_oracle(&q, true);
    float *k = buffer_floats(&all, CHANNELS * q.k_stride);
    for (int64_t i = 0; i < CHANNELS * q.k_stride; i++)
        k[i] = i % q.k_stride < LENGTH ? (float)q.k[i] : NAN;
    q.dk.f = convolve(&x, k, q.k_stride, &all, &q, q.dk.d);
    filter_results o = filter_run(&q, 2, 0.0f, &all);
    filter_expect(&q, &o, 0.0f, BOUND, BOUND, true);
    free(x.y);
    free(x.dg);
    filter_case_free(&q);
    buffers_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_million_positions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
