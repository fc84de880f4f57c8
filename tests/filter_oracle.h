/* The implicit filter in double, position by position, with its gradient by hand: what
 * kernels/ops.h declares as `filter`, written without tiles, and a case with random weights. */
#ifndef CROCUTA_TESTS_FILTER_ORACLE_H
#define CROCUTA_TESTS_FILTER_ORACLE_H

#include "tests/oracle.h"

enum { FW0, FB0, FREQ, FW2, FB2, FW4, FB4, FW6, FILTER_PARTS };
static const char *const filter_part_name[] = {"W0", "b0", "freq", "W2", "b2", "W4", "b4", "W6"};

typedef struct {
    filter_args a;
    tensor w[FILTER_PARTS];
    int64_t k_stride;
    tensor dk;                  /* (dc, k_stride) */
    double *k;                  /* (dc, k_stride), what is right */
    double *grad[FILTER_PARTS]; /* what is right */
} filter_case;

typedef struct {
    double *z, *u[3], *a[3], *d, *before;
} filter_column;

static inline double *filter_zeros(int64_t n)
{
    double *x = calloc((size_t)n, sizeof *x);
    assert_non_null(x);
    return x;
}

static inline filter_column column_open(const filter_args *a)
{
    filter_column c = {.z = filter_zeros(a->emb)};
    for (int l = 0; l < 3; l++) {
        c.u[l] = filter_zeros(a->F);
        c.a[l] = filter_zeros(a->F);
    }
    c.d = filter_zeros(a->F);
    c.before = filter_zeros(a->F);
    return c;
}

static inline void column_close(filter_column *c)
{
    free(c->z);
    for (int l = 0; l < 3; l++) {
        free(c->u[l]);
        free(c->a[l]);
    }
    free(c->d);
    free(c->before);
}

static inline double filter_decay(const filter_args *a, int64_t c, int64_t i)
{
    const double slow = log(0.01) / 1.5, fast = log(0.01) / 0.3;
    const double delta =
        slow +
        (a->channels > 1 ? (fast - slow) * (double)(a->c0 + c) / (double)(a->channels - 1) : 0);
    return exp(-(double)i / (double)(a->l_max - 1) * fabs(delta)) + a->shift;
}

static inline void column_encode(const filter_args *a, int64_t i, double *z)
{
    const int64_t bands = (a->emb - 1) / 2;
    const double w = 2 * 3.14159265358979323846 * (double)i / (double)a->l_max;
    z[0] = (double)i / (double)(a->l_max - 1);
    for (int64_t b = 0; b < bands; b++) {
        const double step = bands > 1 ? ((double)(bands - 1) - 1e-4) / (double)(bands - 1) : 0;
        const double f = 1e-4 + step * (double)b;
        z[1 + b] = cos(f * w);
        z[1 + bands + b] = -sin(f * w);
    }
}

static inline void column_forward(const filter_case *q, int64_t i, filter_column *c)
{
    const filter_args *a = &q->a;
    static const int W[3] = {FW0, FW2, FW4}, B[3] = {FB0, FB2, FB4};
    column_encode(a, i, c->z);
    for (int l = 0; l < 3; l++) {
        const int64_t K = l == 0 ? a->emb : a->F;
        const double *in = l == 0 ? c->z : c->a[l - 1];
        for (int64_t f = 0; f < a->F; f++) {
            double u = q->w[B[l]].d[f];
            for (int64_t k = 0; k < K; k++)
                u += q->w[W[l]].d[f * K + k] * in[k];
            c->u[l][f] = u;
            c->a[l][f] = sin(q->w[FREQ].d[f] * u);
        }
    }
}

static inline void column_backward(const filter_case *q, int64_t i, filter_column *c,
                                   double *const grad[FILTER_PARTS])
{
    const filter_args *a = &q->a;
    static const int W[3] = {FW0, FW2, FW4}, B[3] = {FB0, FB2, FB4};
    memset(c->d, 0, (size_t)a->F * sizeof *c->d);
    for (int64_t r = 0; r < a->dc; r++) {
        const double dh = q->dk.d[r * q->k_stride + i] * filter_decay(a, r, i);
        const double *W6 = q->w[FW6].d + (a->c0 + r) * a->F;
        double *dW6 = grad[FW6] + (a->c0 + r) * a->F;
        for (int64_t f = 0; f < a->F; f++) {
            dW6[f] += dh * c->a[2][f];
            c->d[f] += dh * W6[f];
        }
    }
    for (int l = 2; l >= 0; l--) {
        const int64_t K = l == 0 ? a->emb : a->F;
        const double *in = l == 0 ? c->z : c->a[l - 1];
        memset(c->before, 0, (size_t)a->F * sizeof *c->before);
        for (int64_t f = 0; f < a->F; f++) {
            const double freq = q->w[FREQ].d[f], slope = c->d[f] * cos(freq * c->u[l][f]);
            grad[FREQ][f] += slope * c->u[l][f];
            grad[B[l]][f] += slope * freq;
            for (int64_t k = 0; k < K; k++)
                grad[W[l]][f * K + k] += slope * freq * in[k];
            for (int64_t k = 0; l > 0 && k < K; k++)
                c->before[k] += slope * freq * q->w[W[l]].d[f * K + k];
        }
        memcpy(c->d, c->before, (size_t)a->F * sizeof *c->d);
    }
}

/* Fills k, and grad where `backward`; returns sum k dk. */
static inline double filter_oracle(filter_case *q, bool backward)
{
    const filter_args *a = &q->a;
    double total = 0;
#pragma omp parallel reduction(+ : total)
    {
        filter_column c = column_open(a);
        double *own[FILTER_PARTS];
        for (int p = 0; p < FILTER_PARTS; p++)
            own[p] = filter_zeros(q->w[p].n);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < a->L; i++) {
            column_forward(q, i, &c);
            for (int64_t r = 0; r < a->dc; r++) {
                double h = 0;
                for (int64_t f = 0; f < a->F; f++)
                    h += q->w[FW6].d[(a->c0 + r) * a->F + f] * c.a[2][f];
                q->k[r * q->k_stride + i] = h * filter_decay(a, r, i);
                total += q->k[r * q->k_stride + i] * q->dk.d[r * q->k_stride + i];
            }
            if (backward)
                column_backward(q, i, &c, own);
        }
        for (int p = 0; p < FILTER_PARTS; p++) {
#pragma omp critical
            for (int64_t i = 0; backward && i < q->w[p].n; i++)
                q->grad[p][i] += own[p][i];
            free(own[p]);
        }
        column_close(&c);
    }
    return total;
}

static inline void filter_case_make(filter_case *q, buffers *all, filter_args a, double scale)
{
    rng r = rng_at(11, RNG_TEST, (uint64_t)a.L, (uint32_t)(a.F + a.dc));
    *q = (filter_case){.a = a, .k_stride = a.L + 7};
    const int64_t size[FILTER_PARTS] = {a.F * a.emb, a.F,       a.F, a.F * a.F,
                                        a.F,         a.F * a.F, a.F, a.channels * a.F};
    for (int p = 0; p < FILTER_PARTS; p++) {
        q->w[p] = tensor_random(all, &r, size[p], scale);
        q->grad[p] = filter_zeros(size[p]);
    }
    for (int64_t f = 0; f < a.F; f++) {
        q->w[FREQ].f[f] += 10.0f;
        q->w[FREQ].d[f] = (double)q->w[FREQ].f[f];
    }
    q->dk = tensor_random(all, &r, a.dc * q->k_stride, 1.0);
    for (int64_t i = 0; i < q->dk.n; i++)
        if (i % q->k_stride >= a.L)
            q->dk.f[i] = NAN; /* between the rows of dk */
    q->k = filter_zeros(a.dc * q->k_stride);
    q->a.W0 = q->w[FW0].f;
    q->a.b0 = q->w[FB0].f;
    q->a.freq = q->w[FREQ].f;
    q->a.W2 = q->w[FW2].f;
    q->a.b2 = q->w[FB2].f;
    q->a.W4 = q->w[FW4].f;
    q->a.b4 = q->w[FB4].f;
    q->a.W6 = q->w[FW6].f;
}

/* 2^20 positions of a published model's filters: four channels of its 256. */
static inline void filter_case_million(filter_case *q, buffers *all, double shift)
{
    filter_case_make(q, all,
                     (filter_args){.channels = 256,
                                   .c0 = 0,
                                   .dc = 4,
                                   .F = 64,
                                   .emb = 5,
                                   .l_max = (1 << 20) + 2,
                                   .L = 1 << 20,
                                   .shift = shift},
                     0.05);
}

static inline void filter_case_free(filter_case *q)
{
    free(q->k);
    for (int p = 0; p < FILTER_PARTS; p++)
        free(q->grad[p]);
}

typedef struct {
    float *k, *grad[FILTER_PARTS];
} filter_results;

/* Both directions on a device with `threads`, workspace poisoned and as large as planned; gradients
 * begin at `begin`. */
static inline filter_results filter_run(const filter_case *q, int threads, float begin,
                                        buffers *all)
{
    bench b;
    bench_device(&b, threads);
    const op_cost cost = filter_cost(b.dev, &q->a);
    bench_workspace(&b, cost.workspace);
    filter_results o = {.k = buffer_floats(all, q->a.dc * q->k_stride)};
    for (int p = 0; p < FILTER_PARTS; p++) {
        o.grad[p] = buffer_floats(all, q->w[p].n);
        for (int64_t i = 0; i < q->w[p].n; i++)
            o.grad[p][i] = begin;
    }
    filter_args a = q->a;
    a.W0 = bench_on(&b, all, a.W0);
    a.b0 = bench_on(&b, all, a.b0);
    a.freq = bench_on(&b, all, a.freq);
    a.W2 = bench_on(&b, all, a.W2);
    a.b2 = bench_on(&b, all, a.b2);
    a.W4 = bench_on(&b, all, a.W4);
    a.b4 = bench_on(&b, all, a.b4);
    a.W6 = bench_on(&b, all, a.W6);
    float *g[FILTER_PARTS];
    for (int p = 0; p < FILTER_PARTS; p++)
        g[p] = bench_on(&b, all, o.grad[p]);
    const filter_grads grads = {g[FW0], g[FB0], g[FREQ], g[FW2], g[FB2], g[FW4], g[FB4], g[FW6]};
    OK(filter_forward(b.dev, &a, bench_on(&b, all, o.k), q->k_stride, &b.ws));
    bench_poison(&b);
    OK(filter_backward(b.dev, &a, bench_on(&b, all, q->dk.f), q->k_stride, &grads, &b.ws));
    bench_back(&b);
    bench_close(&b, cost.workspace);
    return o;
}

/* Relative to the largest element: k below L, gradients less `begin`. */
static inline void filter_expect(const filter_case *q, const filter_results *o, float begin,
                                 double bound_k, double bound_grad, bool print)
{
    double worst = 0, scale = 1e-30;
    for (int64_t i = 0; i < q->a.dc * q->k_stride; i++) {
        if (i % q->k_stride >= q->a.L) {
            assert_true(isnan(o->k[i])); /* between the rows of k */
            continue;
        }
        const double e = fabs((double)o->k[i] - q->k[i]);
        if (!(e <= worst))
            worst = isnan(e) ? INFINITY : e;
        scale = fmax(scale, fabs(q->k[i]));
    }
    if (print)
        printf("L %lld  k %.1e", (long long)q->a.L, worst / scale);
    if (!(worst / scale < bound_k))
        fail_msg("k: relative error %.2e, allowed %.1e", worst / scale, bound_k);
    for (int p = 0; p < FILTER_PARTS; p++) {
        double e = 0, size = 1e-30;
        for (int64_t i = 0; i < q->w[p].n; i++) {
            const double d = fabs((double)o->grad[p][i] - (double)begin - q->grad[p][i]);
            if (!(d <= e))
                e = isnan(d) ? INFINITY : d;
            size = fmax(size, fabs(q->grad[p][i]));
        }
        if (print)
            printf("  %s %.1e", filter_part_name[p], e / size);
        if (!(e / size < bound_grad))
            fail_msg("gradient of %s: relative error %.2e, allowed %.1e", filter_part_name[p],
                     e / size, bound_grad);
    }
    if (print)
        printf("\n");
}

#endif
