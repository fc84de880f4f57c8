/* ranks: 1   on: cuda
 * LayerNorm of both backends, as the operations call it: against a naive evaluation in double and
 * its central differences; odd numbers of channels and columns, chunks inside of wider tensors, a
 * large mean, added and written gradients. */
#include "tests/oracle.h"
#ifdef TEST_CUDA
#include "kernels/cuda/columns.h"
#include "kernels/cuda/layernorm.h"
#else
#include "kernels/cpu/layernorm.h"
#endif

enum { X, LN_W, LN_B, TENSORS };

/* Columns [from, from + T) of tensors with ld columns. */
typedef struct {
    int64_t d, T, ld, from;
    bool plain; /* without w and b and their gradients, on CUDA only */
    tensor t[TENSORS], coefficient;
    double *n;
} ln_case;

static double oracle(void *context)
{
    ln_case *k = context;
    double column[64], sum = 0;
    for (int64_t j = k->from; j < k->from + k->T; j++) {
        ln_oracle(k->d, k->t[X].d + j, k->ld, k->plain ? NULL : k->t[LN_W].d, k->t[LN_B].d, column);
        for (int64_t c = 0; c < k->d; c++) {
            k->n[c * k->ld + j] = column[c];
            sum += column[c] * k->coefficient.d[c * k->ld + j];
        }
    }
    return sum;
}

/* n, then dx, dw and db, all in buffers of `all`. */
static void compute(const ln_case *k, buffers *all, float *n, float *dx, bool add, float *dw,
                    float *db)
{
    const int64_t from = k->from, d = k->d, T = k->T, ld = k->ld;
    bench b;
    bench_device(&b, 1);
#ifdef TEST_CUDA
    const size_t bytes = ln_backward_workspace_cuda(d, T);
    bench_workspace(&b, (int64_t)bytes);
    float *mean = buffer_floats(all, T), *rstd = buffer_floats(all, T);
    float *m = bench_on(&b, all, mean), *r = bench_on(&b, all, rstd);
    const float *x = bench_on(&b, all, k->t[X].f + from), *w = NULL, *bias = NULL;
    const float *dn = bench_on(&b, all, k->coefficient.f + from);
    if (!k->plain) {
        w = bench_on(&b, all, k->t[LN_W].f);
        bias = bench_on(&b, all, k->t[LN_B].f);
    }
    OK(ln_forward_cuda(b.dev, d, T, x, ld, w, bias, bench_on(&b, all, n + from), ld, m, r));
    float *on_dw = k->plain ? NULL : bench_on(&b, all, dw),
          *on_db = k->plain ? NULL : bench_on(&b, all, db);
    OK(ln_backward_cuda(b.dev, d, T, dn, ld, x, ld, m, r, w, bench_on(&b, all, dx + from), ld, add,
                        on_dw, on_db, &b.ws));
    bench_back(&b);
    bench_close(&b, k->plain ? 0 : (int64_t)bytes);
#else
    float *dn = buffer_floats(all, d * ld), *xhat = buffer_floats(all, d * ld),
          *rstd = buffer_floats(all, T);
    memcpy(dn, k->coefficient.f, (size_t)(d * ld) * sizeof(float));
    bench_workspace(&b, 64);
    ln_forward(d, T, k->t[X].f + from, ld, k->t[LN_W].f, k->t[LN_B].f, xhat, n + from, ld, rstd);
    ln_backward(d, T, dn + from, ld, xhat, ld, k->t[LN_W].f, rstd, dx + from, ld, add, dw, db);
    bench_close(&b, 0);
#endif
}

static void one_case(int64_t d, int64_t T, int64_t ld, int64_t from, double mean, bool plain)
{
    buffers all = {0};
    rng r = rng_at(4, RNG_TEST, (uint64_t)T, (uint32_t)d);
    ln_case k = {.d = d, .T = T, .ld = ld, .from = from, .plain = plain};
    k.t[X] = tensor_random(&all, &r, d * ld, 1.5);
    for (int64_t i = 0; i < d * ld; i++)
        k.t[X].d[i] = k.t[X].f[i] += (float)mean;
    k.t[LN_W] = tensor_random(&all, &r, d, 0.7);
    k.t[LN_B] = tensor_random(&all, &r, d, 0.7);
    k.coefficient = tensor_random(&all, &r, d * ld, 1.0);
    k.n = buffer_take(&all, (size_t)(d * ld) * sizeof(double));
    double *want[TENSORS];
    for (int i = 0; i < TENSORS; i++)
        want[i] = differences(oracle, &k, k.t[i].d, k.t[i].n, i == X ? 3 : 1);
    oracle(&k);
    for (int add = 0; add < 2; add++) {
        float *n = buffer_floats(&all, d * ld), *dx = buffer_floats(&all, d * ld);
        float *dw = buffer_floats(&all, d), *db = buffer_floats(&all, d);
        tensor dx0 = tensor_random(&all, &r, d * ld, 1.0), dw0 = tensor_random(&all, &r, d, 1.0);
        memcpy(dw, dw0.f, (size_t)d * sizeof(float));
        memcpy(db, dw0.f, (size_t)d * sizeof(float));
        if (add)
            memcpy(dx, dx0.f, (size_t)(d * ld) * sizeof(float));
        compute(&k, &all, n, dx, add, dw, db);
        const double digits = 1 + fabs(mean) / 10; /* a mean of 100 costs two of x itself */
        for (int64_t i = 0; i < d * ld; i++)       /* outside of the chunk nothing was written */
            if (i % ld < from || i % ld >= from + T) {
                assert_true(isnan(n[i]) && (add ? dx[i] == dx0.f[i] : isnan(dx[i])));
                n[i] = dx[i] = 0.0f;
                k.n[i] = 0;
                want[X][i] = NAN;
            }
        expect_close("n", n, k.n, d * ld, 2e-6 * digits);
        expect_gradient("x", dx, add ? dx0.f : NULL, want[X], d * ld, 5e-6 * digits);
        if (plain)
            continue;
        expect_gradient("w", dw, dw0.f, want[LN_W], d, 2e-6 * digits);
        expect_gradient("b", db, dw0.f, want[LN_B], d, 2e-6 * digits);
    }
    for (int i = 0; i < TENSORS; i++)
        free(want[i]);
    buffers_close(&all);
}

static void cases(void **state)
{
    (void)state;
    one_case(8, 64, 64, 0, 0, false);
    one_case(13, 75, 100, 17, 0, false);
    one_case(7, 1, 3, 1, 0, false); /* fewer channels than warps */
    one_case(5, 33, 33, 0, 0, false);
    one_case(24, 150, 192, 32, 100, false);
#ifdef TEST_CUDA
    one_case(11, 150, 151, 1, 0, true);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
