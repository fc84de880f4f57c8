/* ranks: 1
 * mixout: forward and every gradient against a naive evaluation in double and its central
 * differences. */
#include "tests/oracle.h"

enum { GATE, Y, RESIDUAL, W, BIAS, TENSORS };

typedef struct {
    batch_shape s;
    int64_t d;
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

static void run(mixout_case *k, int threads, double *const want[TENSORS])
{
    const mixout_args a = {k->s, k->d, k->t[W].f, k->t[BIAS].f};
    const int64_t n = k->s.B * k->s.Lp, d = k->d;
    buffers all = {0};
    bench b;
    rng r = rng_at(9, RNG_TEST, 0, 0);
    bench_device(&b, threads);
    const op_cost cost = mixout_cost(b.dev, &a);
    bench_workspace(&b, cost.workspace);
    float *out = buffer_floats(&all, d * n), *gate = k->t[GATE].f, *y = k->t[Y].f;
    OK(mixout_forward(b.dev, &a, gate, y, k->t[RESIDUAL].f, out, &b.ws));
    expect_close("out", out, k->out, d * n, 2e-6);
    expect_pads_zero("out", out, d, k->s);
    bench_poison(&b);
    memcpy(out, k->t[RESIDUAL].f, (size_t)(d * n) * sizeof(float)); /* out may be residual */
    OK(mixout_forward(b.dev, &a, gate, y, out, out, &b.ws));
    expect_close("out in place", out, k->out, d * n, 2e-6);

    bench_poison(&b);
    float *dgate = buffer_floats(&all, d * n), *dy = buffer_floats(&all, d * n);
    tensor dW0 = tensor_random(&all, &r, d * d, 1.0), db0 = tensor_random(&all, &r, d, 1.0);
    float *dW = buffer_floats(&all, d * d), *db = buffer_floats(&all, d);
    memcpy(dW, dW0.f, (size_t)(d * d) * sizeof(float));
    memcpy(db, db0.f, (size_t)d * sizeof(float));
    OK(mixout_backward(b.dev, &a, gate, y, k->coefficient.f, dgate, dy, dW, db, &b.ws));
    expect_gradient("gate", dgate, NULL, want[GATE], d * n, 5e-6);
    expect_gradient("y", dy, NULL, want[Y], d * n, 5e-6);
    expect_gradient("residual", k->coefficient.f, NULL, want[RESIDUAL], d * n, 5e-6);
    expect_gradient("W", dW, dW0.f, want[W], d * d, 5e-6);
    expect_gradient("b", db, db0.f, want[BIAS], d, 5e-6);
    expect_pads_zero("dgate", dgate, d, k->s);
    expect_pads_zero("dy", dy, d, k->s);
    bench_close(&b, cost.workspace);
    buffers_close(&all);
}

static void one_shape(int64_t B, int64_t L, int64_t d)
{
    buffers all = {0};
    rng r = rng_at(3, RNG_TEST, (uint64_t)L, (uint32_t)d);
    mixout_case k = {.s = shape_of(B, L), .d = d};
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
    for (int threads = 1; threads <= 3; threads++)
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
