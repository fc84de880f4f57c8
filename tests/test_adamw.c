/* ranks: 1   on: cuda
 * adamw: sixty steps against PyTorch's formula in double, from step 0 and from a late one, with
 * clipping, schedule and decay; the same bits for any number of threads. */
#include "tests/oracle.h"

typedef struct {
    double *p, *m, *v;
} moments;

/* torch.optim.AdamW, written out: decay first, then moments, then the corrected quotient. */
static void adamw_oracle(const adamw_args *a, int64_t n, const float *g, moments *x)
{
    const double t = (double)a->step + 1;
    const double c1 = 1 - pow(a->b1, t), c2 = 1 - pow(a->b2, t);
    for (int64_t i = 0; i < n; i++) {
        const double gi = a->scale * (double)g[i];
        x->p[i] *= 1 - a->lr * a->decay;
        x->m[i] += (gi - x->m[i]) * (1 - a->b1);
        x->v[i] = a->b2 * x->v[i] + (1 - a->b2) * gi * gi;
        x->p[i] -= a->lr / c1 * x->m[i] / (sqrt(x->v[i]) / sqrt(c2) + a->eps);
    }
}

static adamw_args args_of(int64_t step, double decay)
{
    return (adamw_args){.lr = 6e-4 * (1 + (double)(step % 20)) / 20,
                        .b1 = 0.9,
                        .b2 = 0.999,
                        .eps = 1e-8,
                        .decay = decay,
                        .scale = step % 3 ? 0.37 : 1.0,
                        .step = step};
}

static void many_steps(int64_t n, int64_t first, double decay)
{
    buffers all = {0};
    rng r = rng_at(1, RNG_TEST, (uint64_t)n, 0);
    tensor start = tensor_random(&all, &r, n, 0.02);
    moments want = {start.d, calloc((size_t)n, sizeof(double)), calloc((size_t)n, sizeof(double))};
    float *g = buffer_floats(&all, n), *p[3], *m[3], *v[3];
    for (int t = 0; t < 3; t++) {
        p[t] = buffer_floats(&all, n);
        m[t] = buffer_floats(&all, n);
        v[t] = buffer_floats(&all, n);
        memcpy(p[t], start.f, (size_t)n * sizeof(float));
        memset(m[t], 0, (size_t)n * sizeof(float));
        memset(v[t], 0, (size_t)n * sizeof(float));
    }
    for (int64_t step = first; step < first + 60; step++) {
        const adamw_args a = args_of(step, decay);
        for (int64_t i = 0; i < n; i++) /* large, small and vanished gradients */
            g[i] = i % 11 == 0 ? 0.0f : (float)(rng_normal(&r) * pow(10, (double)(i % 7) - 6));
        adamw_oracle(&a, n, g, &want);
        for (int t = 0; t < 3; t++) {
            bench b;
            bench_device(&b, t + 1);
            float *const host[] = {p[t], g, m[t], v[t]}, *on[4];
            for (int i = 0; i < 4; i++)
                on[i] = bench_on(&b, &all, host[i]);
            OK(adamw_update(b.dev, &a, n, on[0], on[1], on[2], on[3]));
            bench_back(&b);
            bench_forget(&b);
            device_close(&b.dev);
        }
    }
    expect_close("p", p[0], want.p, n, 2e-6);
    for (int64_t i = 0; i < n; i++) {
        assert_true(fabs((double)m[0][i] - want.m[i]) <= 1e-6 * pow(10, (double)(i % 7) - 6));
        assert_true(fabs((double)v[0][i] - want.v[i]) <= 1e-5 * want.v[i]);
        if (i % 11 == 0) /* only the decay moves it */
            assert_true(fabs((double)p[0][i] - want.p[i]) <= 2e-6 * fabs(want.p[i]));
    }
    for (int t = 1; t < 3; t++) {
        assert_memory_equal(p[t], p[0], (size_t)n * sizeof(float));
        assert_memory_equal(m[t], m[0], (size_t)n * sizeof(float));
        assert_memory_equal(v[t], v[0], (size_t)n * sizeof(float));
    }
    free(want.m);
    free(want.v);
    buffers_close(&all);
}

static void from_the_start(void **state)
{
    (void)state;
    many_steps(10007, 0, 0.1);
    many_steps(3, 0, 0.0);
}

static void from_a_late_step(void **state)
{
    (void)state;
    many_steps(4096, 50000, 0.1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(from_the_start),
                                       cmocka_unit_test(from_a_late_step)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
