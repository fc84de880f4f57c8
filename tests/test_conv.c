/* ranks: 1   on: cuda
 * conv: forward and backward against direct O(L^2) sums in double: odd and prime lengths, B > 1,
 * with and without gates, filters at a stride longer than L, pads of every input poisoned. */
#include "tests/oracle.h"

/* A GPU's threads are not ours to choose: twice the same there. */
#ifdef TEST_CUDA
#define RUNS 2
#define SHORT_STEP 3
#else
#define RUNS 3
#define SHORT_STEP 1
#endif

enum { G, GATE, DY, COLUMNS }; /* (dc, B, Lp) */

typedef struct {
    conv_args a;
    bool gated;
    tensor t[COLUMNS], k, D;
    double *y, *dg, *dgate, *dk, *dD; /* what is right */
} conv_case;

/* y = (k * g + D g) gate and its gradients along dy, by their definitions. */
static void channel_oracle(conv_case *q, int64_t c, int64_t b)
{
    const int64_t L = q->a.s.L, at = (c * q->a.s.B + b) * q->a.s.Lp;
    const double *k = q->k.d + c * q->a.k_stride, *g = q->t[G].d + at, *dy = q->t[DY].d + at;
    double *dk = q->dk + c * q->a.k_stride;
    for (int64_t t = 0; t < L; t++) {
        const double gate = q->gated ? q->t[GATE].d[at + t] : 1, d = dy[t] * gate;
        double open = q->D.d[c] * g[t];
        q->dg[at + t] += q->D.d[c] * d;
        q->dD[c] += d * g[t];
        for (int64_t s = 0; s <= t; s++) {
            open += k[t - s] * g[s];
            q->dg[at + s] += k[t - s] * d;
            dk[t - s] += g[s] * d;
        }
        q->y[at + t] = open * gate;
        q->dgate[at + t] = open * dy[t];
    }
}

static double *zeros(int64_t n)
{
    double *x = calloc((size_t)n, sizeof *x);
    assert_non_null(x);
    return x;
}

static void case_make(conv_case *q, buffers *all, int64_t dc, int64_t B, int64_t L, bool gated)
{
    rng r = rng_at(5, RNG_TEST, (uint64_t)L, (uint32_t)(dc + B));
    *q = (conv_case){.a = {shape_of(B, L), dc, L + (L > 3 ? 9 : 0)}, .gated = gated};
    const int64_t n = dc * B * q->a.s.Lp, nk = dc * q->a.k_stride;
    for (int i = 0; i < COLUMNS; i++) {
        q->t[i] = tensor_random(all, &r, n, 1.0);
        for (int64_t j = 0; j < n; j++)
            if (j % q->a.s.Lp >= L)
                q->t[i].f[j] = NAN; /* pads of inputs must not matter */
    }
    q->k = tensor_random(all, &r, nk, 1.0);
    for (int64_t j = 0; j < nk; j++) {
        const int64_t lag = j % q->a.k_stride;
        q->k.f[j] = lag < L ? q->k.f[j] * expf(-3.0f * (float)lag / (float)L) : NAN;
        q->k.d[j] = (double)q->k.f[j];
    }
    q->D = tensor_random(all, &r, dc, 1.0);
    q->y = zeros(n);
    q->dg = zeros(n);
    q->dgate = zeros(n);
    q->dk = zeros(nk);
    q->dD = zeros(dc);
    for (int64_t c = 0; c < dc; c++)
        for (int64_t b = 0; b < B; b++)
            channel_oracle(q, c, b);
}

static void case_free(conv_case *q)
{
    free(q->y);
    free(q->dg);
    free(q->dgate);
    free(q->dk);
    free(q->dD);
}

typedef struct {
    float *y, *dg, *dgate, *dk, *dD;
} results;

static void run(const conv_case *q, int threads, buffers *all, results *out)
{
    const conv_args *a = &q->a;
    const int64_t n = a->dc * a->s.B * a->s.Lp, nk = a->dc * a->k_stride;
    bench b;
    bench_device(&b, threads);
    const op_cost cost = conv_cost(b.dev, a);
    bench_workspace(&b, cost.workspace);
    *out = (results){buffer_floats(all, n), buffer_floats(all, n),
                     q->gated ? buffer_floats(all, n) : NULL, buffer_floats(all, nk),
                     buffer_floats(all, a->dc)};
    for (int64_t c = 0; c < a->dc; c++)
        out->dD[c] = 2.5f; /* added to */
    const float *k = bench_on(&b, all, q->k.f), *D = bench_on(&b, all, q->D.f);
    const float *g = bench_on(&b, all, q->t[G].f), *dy = bench_on(&b, all, q->t[DY].f);
    const float *gate = q->gated ? bench_on(&b, all, q->t[GATE].f) : NULL;
    OK(conv_forward(b.dev, a, k, D, g, gate, bench_on(&b, all, out->y), &b.ws));
    bench_poison(&b);
    OK(conv_backward(b.dev, a, k, D, g, gate, dy, bench_on(&b, all, out->dg),
                     bench_on(&b, all, out->dgate), bench_on(&b, all, out->dk),
                     bench_on(&b, all, out->dD), &b.ws));
    bench_back(&b);
    bench_close(&b, cost.workspace);
}

/* Positions below L of each row of length `row` against what is right. */
static void expect_rows(const char *what, const float *got, const double *want, int64_t rows,
                        int64_t row, int64_t L, double bound)
{
    double worst = 0, scale = 1e-30;
    for (int64_t i = 0; i < rows * row; i++) {
        if (i % row >= L)
            continue;
        const double e = fabs((double)got[i] - want[i]);
        if (!(e <= worst))
            worst = isnan(e) ? INFINITY : e;
        scale = fmax(scale, fabs(want[i]));
    }
    if (!(worst / scale < bound))
        fail_msg("%s, L %lld: relative error %.2e", what, (long long)L, worst / scale);
}

static void expect_same(const char *what, const float *a, const float *b, int64_t n)
{
    if (memcmp(a, b, (size_t)n * sizeof *a) != 0)
        fail_msg("%s depends on the number of threads", what);
}

static void one_shape(int64_t dc, int64_t B, int64_t L, bool gated)
{
    buffers all = {0};
    conv_case q;
    case_make(&q, &all, dc, B, L, gated);
    const batch_shape s = q.a.s;
    const int64_t n = dc * B * s.Lp, rows = dc * B;
    const double bound = 2e-6;
    results first = {0};
    for (int threads = 1; threads <= RUNS; threads++) {
        results o;
        run(&q, threads, &all, &o);
        expect_rows("y", o.y, q.y, rows, s.Lp, L, bound);
        expect_rows("dg", o.dg, q.dg, rows, s.Lp, L, bound);
        expect_rows("dk", o.dk, q.dk, dc, q.a.k_stride, L, bound);
        expect_pads_zero("y", o.y, dc, s);
        expect_pads_zero("dg", o.dg, dc, s);
        if (gated) {
            expect_rows("dgate", o.dgate, q.dgate, rows, s.Lp, L, bound);
            expect_pads_zero("dgate", o.dgate, dc, s);
        }
        for (int64_t c = 0; c < dc; c++) {
            const double scale = fmax(fabs(q.dD[c]), sqrt((double)(B * L)));
            assert_true(fabs((double)o.dD[c] - 2.5 - q.dD[c]) < bound * scale);
        }
        for (int64_t j = 0; j < dc * q.a.k_stride; j++)
            if (j % q.a.k_stride >= L)
                assert_true(isnan(o.dk[j])); /* what lies between rows of dk is not ours */
        if (threads == 1) {
            first = o;
            continue;
        }
        expect_same("y", o.y, first.y, n);
        expect_same("dg", o.dg, first.dg, n);
        expect_same("dD", o.dD, first.dD, dc);
        for (int64_t c = 0; c < dc; c++)
            expect_same("dk", o.dk + c * q.a.k_stride, first.dk + c * q.a.k_stride, L);
        if (gated)
            expect_same("dgate", o.dgate, first.dgate, n);
    }
    case_free(&q);
    buffers_close(&all);
}

static void short_lengths(void **state)
{
    (void)state;
    for (int64_t L = 1; L <= 20; L += SHORT_STEP) {
        one_shape(2, 1, L, false);
        one_shape(1, 3, L, true);
    }
}

static void odd_and_prime_lengths(void **state)
{
    (void)state;
    one_shape(5, 2, 37, true);
    one_shape(3, 3, 127, false);
    one_shape(2, 4, 128, true);
    one_shape(4, 2, 129, true);
    one_shape(3, 1, 251, false);
    one_shape(7, 1, 600, true);
    one_shape(5, 2, 1021, true);
    one_shape(7, 1, 1021, false);
}

static void long_lengths(void **state)
{
    (void)state;
    one_shape(2, 1, 2049, false);
    one_shape(2, 1, 5121, true);
    one_shape(3, 2, 4099, true);
    one_shape(1, 2, 8192, true);
}

/* N: even, nothing beyond 7 divides it, at least 2L - 1. */
static void points(void **state)
{
    (void)state;
    bench b;
    bench_device(&b, 1);
    for (int64_t L = 1; L < 3000000; L += 1 + L / 7) {
        int64_t n = conv_points(b.dev, L), rest = n;
        assert_true(n % 2 == 0 && n >= 2 * L - 1);
        for (int64_t p = 2; p <= 7; p++)
            while (rest % p == 0)
                rest /= p;
        assert_int_equal(rest, 1);
    }
    device_close(&b.dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_lengths),
        cmocka_unit_test(odd_and_prime_lengths),
        cmocka_unit_test(long_lengths),
        cmocka_unit_test(points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
