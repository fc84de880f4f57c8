/* ranks: 1   on: cuda
 * mlp: forward and every gradient against a naive evaluation in double and its central differences;
 * odd lengths, several sequences, tiles that cross sequences, 1 to 3 threads, poisoned outputs,
 * pads and workspace. */
#include "tests/oracle.h"

enum { X, LN_W, LN_B, W1, B1, W2, B2, TENSORS };
static const char *const names[] = {"x", "ln_w", "ln_b", "W1", "b1", "W2", "b2"};

typedef struct {
    batch_shape s;
    int64_t d, inner;
    buffers *all; /* of the tensors */
    tensor t[TENSORS], coefficient;
    double *h, *out;
} mlp_case;

/* sum of coefficient * out; fills out and h. */
static double oracle(void *context)
{
    mlp_case *k = context;
    const int64_t n = k->s.B * k->s.Lp, d = k->d, inner = k->inner;
    double column[64], wide[256], sum = 0;
    for (int64_t j = 0; j < n; j++) {
        if (j % k->s.Lp >= k->s.L)
            continue;
        ln_oracle(d, k->t[X].d + j, n, k->t[LN_W].d, k->t[LN_B].d, column);
        for (int64_t r = 0; r < inner; r++) {
            double h = k->t[B1].d[r];
            for (int64_t c = 0; c < d; c++)
                h += k->t[W1].d[r * d + c] * column[c];
            k->h[r * n + j] = h;
            wide[r] = gelu_oracle(h);
        }
        for (int64_t c = 0; c < d; c++) {
            double y = k->t[X].d[c * n + j] + k->t[B2].d[c];
            for (int64_t r = 0; r < inner; r++)
                y += k->t[W2].d[c * inner + r] * wide[r];
            k->out[c * n + j] = y;
            sum += y * k->coefficient.d[c * n + j];
        }
    }
    return sum;
}

static void forward(const mlp_case *k, bench *b, const mlp_args *a, float *h, bool in_place)
{
    const int64_t n = k->s.B * k->s.Lp;
    buffers *all = k->all;
    float *out = buffer_floats(all, k->d * n);
    if (in_place)
        memcpy(out, k->t[X].f, (size_t)(k->d * n) * sizeof(float));
    float *to = bench_on(b, all, out);
    bench_poison(b);
    OK(mlp_forward(b->dev, a, in_place ? to : bench_on(b, all, k->t[X].f), bench_on(b, all, h), to,
                   &b->ws));
    bench_back(b);
    expect_close(in_place ? "out in place" : "out", out, k->out, k->d * n, 2e-6);
    expect_pads_zero("out", out, k->d, k->s);
    if (!h)
        return;
    expect_close("h", h, k->h, k->inner * n, 2e-6);
    expect_pads_zero("h", h, k->inner, k->s);
}

static void backward(const mlp_case *k, bench *b, const mlp_args *a, const float *h,
                     double *const want[TENSORS])
{
    buffers *all = k->all;
    float *grad[TENSORS], *before[TENSORS] = {0}, *on[TENSORS];
    rng r = rng_at(9, RNG_TEST, 0, 0);
    for (int i = 0; i < TENSORS; i++) {
        grad[i] = buffer_floats(all, k->t[i].n);
        if (i != X) /* gradients are added */
            before[i] = tensor_random(all, &r, k->t[i].n, 1.0).f;
        memcpy(grad[i], i == X ? k->coefficient.f : before[i], (size_t)k->t[i].n * sizeof(float));
        on[i] = bench_on(b, all, grad[i]);
    }
    bench_poison(b);
    const mlp_grads g = {on[LN_W], on[LN_B], on[W1], on[B1], on[W2], on[B2]};
    OK(mlp_backward(b->dev, a, bench_on(b, all, k->t[X].f), bench_on(b, all, h), on[X], &g,
                    &b->ws));
    bench_back(b);
    for (int i = 0; i < TENSORS; i++)
        expect_gradient(names[i], grad[i], before[i], want[i], k->t[i].n, 5e-6);
    expect_pads_zero("dx", grad[X], k->d, k->s);
}

/* Forward and backward with `threads`, keeping h or not; want holds the differences. */
static void run(mlp_case *k, int threads, bool keep, double *const want[TENSORS])
{
    const int64_t n = k->s.B * k->s.Lp;
    const float *p[TENSORS];
    bench b;
    bench_device(&b, threads);
    for (int i = 0; i < TENSORS; i++)
        p[i] = bench_on(&b, k->all, k->t[i].f);
    const mlp_args a = {k->s, k->d, k->inner, p[LN_W], p[LN_B], p[W1], p[B1], p[W2], p[B2], false};
    const op_cost cost = mlp_cost(b.dev, &a, keep ? KEEP_ALL : KEEP_SELECTED);
    assert_int_equal(cost.kept, keep ? k->inner * n * 4 : 0);
    bench_workspace(&b, cost.workspace);
    float *h = keep ? buffer_floats(k->all, k->inner * n) : NULL;
    forward(k, &b, &a, h, false);
    if (!keep)
        forward(k, &b, &a, NULL, true); /* out may be x */
    backward(k, &b, &a, h, want);
    bench_close(&b, cost.workspace);
}

static void one_shape(int64_t B, int64_t L, int64_t d, int64_t inner)
{
    buffers all = {0};
    rng r = rng_at(1, RNG_TEST, (uint64_t)L, (uint32_t)d);
    mlp_case k = {.s = shape_of(B, L), .d = d, .inner = inner, .all = &all};
    const int64_t n = B * k.s.Lp, counts[] = {0, d, d, inner * d, inner, d * inner, d};
    k.t[X] = tensor_columns(&all, &r, d, k.s, 1.5);
    for (int i = LN_W; i < TENSORS; i++)
        k.t[i] = tensor_random(&all, &r, counts[i], i == W1 || i == W2 ? 0.5 : 0.7);
    k.coefficient = tensor_columns(&all, &r, d, k.s, 1.0);
    k.h = calloc((size_t)(inner * n), sizeof(double));
    k.out = calloc((size_t)(d * n), sizeof(double));
    double *want[TENSORS];
    for (int i = 0; i < TENSORS; i++)
        want[i] = differences(oracle, &k, k.t[i].d, k.t[i].n, i == X ? 29 : 1 + k.t[i].n / 64);
    oracle(&k);
    for (int threads = 1; threads <= BENCH_THREADS; threads++) {
        run(&k, threads, false, want);
        run(&k, threads, true, want);
    }
    for (int i = 0; i < TENSORS; i++)
        free(want[i]);
    free(k.h);
    free(k.out);
    buffers_close(&all);
}

static void shapes(void **state)
{
    (void)state;
    one_shape(2, 37, 8, 32);
    one_shape(3, 129, 12, 30); /* tiles of 256 columns cross sequences of 192 */
    one_shape(1, 600, 6, 12);
    one_shape(1, 1, 8, 16);
    one_shape(2, 64, 7, 9); /* odd channels, no pads */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
