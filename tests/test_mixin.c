/* ranks: 1   on: cuda
 * mixin: forward, regate and every gradient (halo included) against a naive evaluation in double
 * and its central differences; orders 2 and 3, odd lengths, tiles that cross sequences, kept and
 * recomputed product. */
#include "tests/oracle.h"

enum { X, HALO, LN_W, LN_B, W, BIAS, TAPS, TAP_B, TENSORS };
static const char *const names[] = {"residual", "halo", "ln_w", "ln_b", "W", "b", "taps", "tap_b"};

typedef struct {
    batch_shape s;
    int64_t d, order;
    bool halo;
    buffers *all; /* of the tensors */
    tensor t[TENSORS], cgates, cg;
    double *u, *gates, *g, *uc;
} mixin_case;

/* u of one column: x (d) at stride step. */
static void product(const mixin_case *k, const double *x, int64_t step, double *u)
{
    double column[64];
    ln_oracle(k->d, x, step, k->t[LN_W].d, k->t[LN_B].d, column);
    for (int64_t r = 0; r < (k->order + 1) * k->d; r++) {
        u[r] = k->t[BIAS].d[r];
        for (int64_t c = 0; c < k->d; c++)
            u[r] += k->t[W].d[r * k->d + c] * column[c];
    }
}

/* sum of coefficients * (gates, g); fills u, gates, g. */
static double oracle(void *context)
{
    mixin_case *k = context;
    const int64_t n = k->s.B * k->s.Lp, d = k->d, N = k->order, rows = (N + 1) * d;
    double left[3][256] = {{0}}, sum = 0;
    for (int64_t b = 0; b < k->s.B; b++) {
        memset(left, 0, sizeof left);
        for (int64_t t = k->halo ? -2 : 0; t < k->s.L; t++) {
            const int64_t j = b * k->s.Lp + t;
            memcpy(left[0], left[1], sizeof left[0]);
            memcpy(left[1], left[2], sizeof left[1]);
            if (t < 0) {
                product(k, k->t[HALO].d + 2 * b + t + 2, 2 * k->s.B, left[2]);
                continue;
            }
            product(k, k->t[X].d + j, n, left[2]);
            for (int64_t r = 0; r < rows; r++) {
                k->u[r * n + j] = left[2][r];
                k->uc[r] = k->t[TAP_B].d[r];
                for (int i = 0; i < 3; i++)
                    k->uc[r] += k->t[TAPS].d[3 * r + i] * left[i][r];
            }
            for (int64_t r = 0; r < (N - 1) * d; r++) {
                k->gates[r * n + j] = k->uc[r];
                sum += k->uc[r] * k->cgates.d[r * n + j];
            }
            for (int64_t c = 0; c < d; c++) {
                k->g[c * n + j] = k->uc[(N - 1) * d + c] * k->uc[N * d + c];
                sum += k->g[c * n + j] * k->cg.d[c * n + j];
            }
        }
    }
    return sum;
}

static void forward(const mixin_case *k, bench *b, const mixin_args *a, float *u)
{
    const int64_t n = k->s.B * k->s.Lp, ng = (k->order - 1) * k->d, rows = (k->order + 1) * k->d;
    buffers *all = k->all;
    for (int again = 0; again < (u ? 2 : 1); again++) {
        float *gates = buffer_floats(all, ng * n), *g = buffer_floats(all, k->d * n);
        float *on_gates = bench_on(b, all, gates), *on_g = bench_on(b, all, g);
        bench_poison(b);
        if (again)
            OK(mixin_regate(b->dev, a, bench_on(b, all, u), on_gates, on_g, &b->ws));
        else
            OK(mixin_forward(b->dev, a, bench_on(b, all, k->t[X].f), bench_on(b, all, u), on_gates,
                             on_g, &b->ws));
        bench_back(b);
        expect_close("gates", gates, k->gates, ng * n, 2e-6);
        expect_close("g", g, k->g, k->d * n, 3e-6);
        expect_pads_zero("gates", gates, ng, k->s);
        expect_pads_zero("g", g, k->d, k->s);
    }
    if (!u)
        return;
    expect_close("u", u, k->u, rows * n, 2e-6);
    expect_pads_zero("u", u, rows, k->s);
}

static void backward(const mixin_case *k, bench *b, const mixin_args *a, const float *u,
                     double *const want[TENSORS])
{
    buffers *all = k->all;
    float *grad[TENSORS], *before[TENSORS] = {0}, *on[TENSORS];
    rng r = rng_at(9, RNG_TEST, 0, 0);
    for (int i = 0; i < TENSORS; i++) {
        grad[i] = buffer_floats(all, k->t[i].n);
        if (i == X)
            before[i] = tensor_columns(all, &r, k->d, k->s, 1.0).f;
        else if (i != HALO) /* written, not added to */
            before[i] = tensor_random(all, &r, k->t[i].n, 1.0).f;
        if (before[i])
            memcpy(grad[i], before[i], (size_t)k->t[i].n * sizeof(float));
        on[i] = bench_on(b, all, grad[i]);
    }
    bench_poison(b);
    const mixin_grads g = {on[LN_W], on[LN_B], on[W], on[BIAS], on[TAPS], on[TAP_B]};
    OK(mixin_backward(b->dev, a, bench_on(b, all, k->t[X].f), bench_on(b, all, u),
                      bench_on(b, all, k->cgates.f), bench_on(b, all, k->cg.f), on[X],
                      k->halo ? on[HALO] : NULL, &g, &b->ws));
    bench_back(b);
    for (int i = 0; i < TENSORS; i++)
        if (i != HALO || k->halo)
            expect_gradient(names[i], grad[i], before[i], want[i], k->t[i].n, 5e-6);
    expect_pads_zero("dresidual", grad[X], k->d, k->s);
}

static void run(mixin_case *k, int threads, bool keep, double *const want[TENSORS])
{
    const float *p[TENSORS];
    bench b;
    bench_device(&b, threads);
    for (int i = 0; i < TENSORS; i++)
        p[i] = bench_on(&b, k->all, k->t[i].f);
    const mixin_args a = {k->s, k->d,    k->order, p[LN_W],  p[LN_B],
                          p[W], p[BIAS], p[TAPS],  p[TAP_B], k->halo ? p[HALO] : NULL,
                          false};
    const op_cost cost = mixin_cost(b.dev, &a, keep ? KEEP_SELECTED : KEEP_INPUT);
    bench_workspace(&b, cost.workspace);
    float *u = keep ? buffer_floats(k->all, (k->order + 1) * k->d * k->s.B * k->s.Lp) : NULL;
    forward(k, &b, &a, u);
    backward(k, &b, &a, u, want);
    bench_close(&b, cost.workspace);
}

static void one_shape(int64_t B, int64_t L, int64_t d, int64_t order, bool halo)
{
    buffers all = {0};
    rng r = rng_at(2, RNG_TEST, (uint64_t)L, (uint32_t)d);
    mixin_case k = {.s = shape_of(B, L), .d = d, .order = order, .halo = halo, .all = &all};
    const int64_t n = B * k.s.Lp, rows = (order + 1) * d;
    const int64_t counts[] = {0, 2 * d * B, d, d, rows * d, rows, 3 * rows, rows};
    k.t[X] = tensor_columns(&all, &r, d, k.s, 1.5);
    for (int i = HALO; i < TENSORS; i++)
        k.t[i] = tensor_random(&all, &r, counts[i], i == W ? 0.5 : 0.7);
    k.cgates = tensor_columns(&all, &r, (order - 1) * d, k.s, 1.0);
    k.cg = tensor_columns(&all, &r, d, k.s, 1.0);
    k.u = calloc((size_t)(rows * n), sizeof(double));
    k.gates = calloc((size_t)(rows * n), sizeof(double));
    k.g = calloc((size_t)(d * n), sizeof(double));
    k.uc = calloc((size_t)rows, sizeof(double));
    double *want[TENSORS];
    for (int i = 0; i < TENSORS;
         i++) /* residual: an odd stride meets every kind of column; tile edges below */
        want[i] =
            differences(oracle, &k, k.t[i].d, k.t[i].n, i == X ? 7 + n / 64 : 1 + k.t[i].n / 128);
    oracle(&k);
    for (int threads = 1; threads <= BENCH_THREADS; threads++) {
        run(&k, threads, false, want);
        run(&k, threads, true, want);
    }
    for (int i = 0; i < TENSORS; i++)
        free(want[i]);
    free(k.u);
    free(k.gates);
    free(k.g);
    free(k.uc);
    buffers_close(&all);
}

static void shapes(void **state)
{
    (void)state;
    for (int halo = 0; halo < 2; halo++) {
        one_shape(2, 37, 8, 2, halo);
        one_shape(2, 64, 5, 2, halo);  /* no pads: sequences touch */
        one_shape(3, 127, 4, 3, halo); /* one pad only */
        one_shape(3, 1, 6, 2, halo);   /* shorter than the taps */
        one_shape(2, 2, 6, 3, halo);
        one_shape(1, 577, 4, 2, halo); /* several tiles in a sequence */
        one_shape(5, 192, 3, 3,
                  halo); /* tiles that end inside, at and just before a sequence's end */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
