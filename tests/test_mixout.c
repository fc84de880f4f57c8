/* ranks: 1   on: cuda
 * mixout: forward and every gradient against a naive evaluation in double and its central
 * differences. */
#include "tests/oracle.h"

enum { GATE, Y, RESIDUAL, W, BIAS, TENSORS };

typedef struct {
    batch_shape s;
    int64_t d;
    buffers *all; /* of the tensors */
    tensor t[TENSORS], coefficient;
    double *out;
} mixout_case;

static double oracle(void *context)
{
    mixout_case *k = context;
    const int64_t n = k->s.B * k->s.Lp, d = k->d;
    double sum = 0;
    for (int64_t j = 0; j < n; j++) {
        if (j % k->s.Lp >= k->s.L)
            continue;
        for (int64_t r = 0; r < d; r++) {
            double v = k->t[RESIDUAL].d[r * n + j] + k->t[BIAS].d[r];
            for (int64_t c = 0; c < d; c++)
                v += k->t[W].d[r * d + c] * k->t[GATE].d[c * n + j] * k->t[Y].d[c * n + j];
            k->out[r * n + j] = v;
            sum += v * k->coefficient.d[r * n + j];
        }
    }
    return sum;
}

/* Forward into a new buffer, or into the residual's own. */
static void forward(const mixout_case *k, bench *b, const mixout_args *a, bool in_place)
{
    const int64_t n = k->s.B * k->s.Lp;
    buffers *all = k->all;
    float *out = buffer_floats(all, k->d * n);
    if (in_place)
        memcpy(out, k->t[RESIDUAL].f, (size_t)(k->d * n) * sizeof(float));
    float *to = bench_on(b, all, out);
    bench_poison(b);
    OK(mixout_forward(b->dev, a, bench_on(b, all, k->t[GATE].f), bench_on(b, all, k->t[Y].f),
                      in_place ? to : bench_on(b, all, k->t[RESIDUAL].f), to, &b->ws));
    bench_back(b);
    expect_close(in_place ? "out in place" : "out", out, k->out, k->d * n, 2e-6);
    expect_pads_zero("out", out, k->d, k->s);
}

static void run(mixout_case *k, int threads, double *const want[TENSORS])
{
    const int64_t n = k->s.B * k->s.Lp, d = k->d;
    buffers *all = k->all;
    bench b;
    rng r = rng_at(9, RNG_TEST, 0, 0);
    bench_device(&b, threads);
    const mixout_args a = {k->s, k->d, bench_on(&b, all, k->t[W].f),
                           bench_on(&b, all, k->t[BIAS].f), false};
    const op_cost cost = mixout_cost(b.dev, &a);
    bench_workspace(&b, cost.workspace);
    forward(k, &b, &a, false);
    forward(k, &b, &a, true);

    bench_poison(&b);
    float *dgate = buffer_floats(all, d * n), *dy = buffer_floats(all, d * n);
    tensor dW0 = tensor_random(all, &r, d * d, 1.0), db0 = tensor_random(all, &r, d, 1.0);
    float *dW = buffer_floats(all, d * d), *db = buffer_floats(all, d);
    memcpy(dW, dW0.f, (size_t)(d * d) * sizeof(float));
    memcpy(db, db0.f, (size_t)d * sizeof(float));
    OK(mixout_backward(b.dev, &a, bench_on(&b, all, k->t[GATE].f), bench_on(&b, all, k->t[Y].f),
                       bench_on(&b, all, k->coefficient.f), bench_on(&b, all, dgate),
                       bench_on(&b, all, dy), bench_on(&b, all, dW), bench_on(&b, all, db), &b.ws));
    bench_back(&b);
    expect_gradient("gate", dgate, NULL, want[GATE], d * n, 5e-6);
    expect_gradient("y", dy, NULL, want[Y], d * n, 5e-6);
    expect_gradient("residual", k->coefficient.f, NULL, want[RESIDUAL], d * n, 5e-6);
    expect_gradient("W", dW, dW0.f, want[W], d * d, 5e-6);
    expect_gradient("b", db, db0.f, want[BIAS], d, 5e-6);
    expect_pads_zero("dgate", dgate, d, k->s);
    expect_pads_zero("dy", dy, d, k->s);
    bench_close(&b, cost.workspace);
}

static void one_shape(int64_t B, int64_t L, int64_t d)
{
    buffers all = {0};
    rng r = rng_at(3, RNG_TEST, (uint64_t)L, (uint32_t)d);
    mixout_case k = {.s = shape_of(B, L), .d = d, .all = &all};
    for (int i = GATE; i <= RESIDUAL; i++)
        k.t[i] = tensor_columns(&all, &r, d, k.s, 1.0);
    k.t[W] = tensor_random(&all, &r, d * d, 0.5);
    k.t[BIAS] = tensor_random(&all, &r, d, 0.5);
    k.coefficient = tensor_columns(&all, &r, d, k.s, 1.0);
    k.out = calloc((size_t)k.coefficient.n, sizeof(double));
    double *want[TENSORS];
    for (int i = 0; i < TENSORS; i++)
        want[i] = differences(oracle, &k, k.t[i].d, k.t[i].n, 1 + k.t[i].n / 200);
    oracle(&k);
    for (int threads = 1; threads <= BENCH_THREADS; threads++)
        run(&k, threads, want);
    for (int i = 0; i < TENSORS; i++)
        free(want[i]);
    free(k.out);
    buffers_close(&all);
}

static void shapes(void **state)
{
    (void)state;
    one_shape(2, 37, 8);
    one_shape(5, 129, 12);
    one_shape(1, 600, 7);
    one_shape(3, 64, 1);
    one_shape(1, 1, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
