/* What the tests of operations share: tensors in float and in double, poisoned and guarded buffers,
 * a device with a poisoned workspace of exactly the planned size, and central differences of a
 * naive evaluation in double. */
#ifndef CROCUTA_TESTS_ORACLE_H
#define CROCUTA_TESTS_ORACLE_H

#include "kernels/ops.h"
#include "runtime/core/rng.h"
#ifdef TEST_CUDA
#include "kernels/cuda/cuda.h"
#endif

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- buffers: 64 guard bytes on either side, NaN inside until something is written ---- */

#define GUARD 64 /* bytes */
#define GUARD_BYTE 0xA5
#define BUFFERS 512

typedef struct {
    unsigned char *base[BUFFERS];
    size_t bytes[BUFFERS];
    int count;
} buffers;

static inline void *buffer_take(buffers *all, size_t bytes)
{
    const size_t body = arena_round(bytes ? bytes : 1);
    unsigned char *base = aligned_alloc(ARENA_ALIGN, body + 2 * GUARD);
    assert_non_null(base);
    assert_true(all->count < BUFFERS);
    memset(base, GUARD_BYTE, body + 2 * GUARD);
    memset(base + GUARD, 0xFF, bytes); /* a NaN in every float */
    all->base[all->count] = base;
    all->bytes[all->count++] = bytes;
    return base + GUARD;
}

static inline float *buffer_floats(buffers *all, int64_t n)
{
    return buffer_take(all, (size_t)n * sizeof(float));
}

/* Nothing was written outside of any buffer; all are given back. */
static inline void buffers_close(buffers *all)
{
    for (int i = 0; i < all->count; i++) {
        const size_t body = arena_round(all->bytes[i] ? all->bytes[i] : 1);
        for (size_t k = 0; k < GUARD; k++)
            assert_int_equal(all->base[i][k], GUARD_BYTE);
        for (size_t k = GUARD + all->bytes[i]; k < body + 2 * GUARD; k++)
            assert_int_equal(all->base[i][k], GUARD_BYTE);
        free(all->base[i]);
    }
    all->count = 0;
}

/* ---- tensors ---- */

typedef struct {
    int64_t n;
    float *f;
    double *d;
} tensor;

static inline tensor tensor_random(buffers *all, rng *r, int64_t n, double scale)
{
    tensor t = {n, buffer_floats(all, n), buffer_take(all, (size_t)n * sizeof(double))};
    for (int64_t i = 0; i < n; i++) {
        t.f[i] = (float)(scale * rng_normal(r));
        t.d[i] = (double)t.f[i];
    }
    return t;
}

/* (rows, B, Lp) with zero pads. */
static inline tensor tensor_columns(buffers *all, rng *r, int64_t rows, batch_shape s, double scale)
{
    tensor t = tensor_random(all, r, rows * s.B * s.Lp, scale);
    for (int64_t i = 0; i < t.n; i++)
        if (i % s.Lp >= s.L)
            t.d[i] = t.f[i] = 0.0f;
    return t;
}

static inline batch_shape shape_of(int64_t B, int64_t L)
{
    return (batch_shape){B, L, length_padded(L)};
}

/* Largest error relative to the largest magnitude; a NaN is infinite. */
static inline double error_of(const float *got, const double *want, int64_t n)
{
    double worst = 0, scale = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        const double e = fabs((double)got[i] - want[i]);
        if (!(e <= worst))
            worst = isnan(e) ? INFINITY : e;
        scale = fmax(scale, fabs(want[i]));
    }
    return worst / scale;
}

static inline void expect_close(const char *what, const float *got, const double *want, int64_t n,
                                double bound)
{
    const double e = error_of(got, want, n);
    if (!(e < bound))
        fail_msg("%s: relative error %.2e, allowed %.1e", what, e, bound);
}

/* Pads of a written tensor are exactly zero. */
static inline void expect_pads_zero(const char *what, const float *x, int64_t rows, batch_shape s)
{
    for (int64_t i = 0; i < rows * s.B * s.Lp; i++)
        if (i % s.Lp >= s.L && x[i] != 0.0f)
            fail_msg("%s: pad at row %lld is %g", what, (long long)(i / (s.B * s.Lp)),
                     (double)x[i]);
}

/* ---- gradients ---- */

typedef double (*objective)(void *context);

/* Central differences of `f` in every `stride`-th element of x; NaN in the others. To be freed. */
static inline double *differences(objective f, void *context, double *x, int64_t n, int64_t stride)
{
    double *out = malloc((size_t)n * sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < n; i++) {
        out[i] = NAN;
        if (i % stride)
            continue;
        const double at = x[i], h = 1e-4 * fmax(1.0, fabs(at));
        x[i] = at + h;
        const double up = f(context);
        x[i] = at - h;
        const double down = f(context);
        x[i] = at;
        out[i] = (up - down) / (2 * h);
    }
    return out;
}

/* grad - before (NULL: zeros) against differences, where there are any. */
static inline void expect_gradient(const char *what, const float *grad, const float *before,
                                   const double *want, int64_t n, double bound)
{
    double worst = 0, scale = 1e-8;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(grad[i]))
            fail_msg("%s: NaN at element %lld", what, (long long)i);
        if (isnan(want[i]))
            continue;
        worst = fmax(worst, fabs((double)grad[i] - (before ? (double)before[i] : 0.0) - want[i]));
        scale = fmax(scale, fabs(want[i]));
    }
    if (!(worst / scale < bound))
        fail_msg("%s: relative error %.2e, allowed %.1e", what, worst / scale, bound);
}

/* ---- device and workspace ---- */

/* Thread counts that a test tries: 1 .. BENCH_THREADS. A GPU has one. */
#ifdef TEST_CUDA
#define BENCH_THREADS 1
#else
#define BENCH_THREADS 3
#endif

/* A test's buffer in the device's memory. */
typedef struct {
    unsigned char *host;
    void *on;
    size_t bytes;
    bool lent; /* since the last bench_back */
} bench_twin;

typedef struct {
    device *dev;
    arena ws;
    bench_twin twin[BUFFERS];
    int twins;
} bench;

/* `threads` must be set before the cost is asked for: costs answer for the device opened last.
 * TEST_CUDA: the same test on a GPU (or on what stands in for one); skipped where there is none. */
static inline void bench_device(bench *b, int threads)
{
    memset(b, 0, sizeof *b);
#ifdef TEST_CUDA
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
        printf("skipped: no GPU here\n");
        exit(77);
    }
    if (device_open_cuda(0, threads, &b->dev) != STATUS_OK)
        fail_msg("%s", failure_last()->text);
#else
    if (device_open(DEVICE_CPU, threads, &b->dev) != STATUS_OK)
        fail_msg("%s", failure_last()->text);
#endif
}

/* Where the device's operations find `host`, which lies in a buffer of `all`: there on a CPU, in a
 * copy of the whole buffer elsewhere, uploaded at the first call after a bench_back. NULL stays
 * NULL. What operations wrote comes back with bench_back. */
static inline void *bench_on(bench *b, buffers *all, const void *host)
{
    if (!host || b->dev->kind == DEVICE_CPU)
        return (void *)host;
    int i = 0;
    const unsigned char *at = host;
    while (i < all->count && !(at >= all->base[i] + GUARD &&
                               at < all->base[i] + GUARD + (all->bytes[i] ? all->bytes[i] : 1)))
        i++;
    if (i == all->count)
        fail_msg("bench_on: a pointer outside of every buffer");
    unsigned char *begin = all->base[i] + GUARD;
    bench_twin *t = b->twin;
    while (t < b->twin + b->twins && t->host != begin)
        t++;
    if (t == b->twin + b->twins) {
        assert_true(b->twins < BUFFERS);
        *t = (bench_twin){.host = begin, .bytes = all->bytes[i]};
        if (device_memory_take(b->dev, t->bytes, &t->on) != STATUS_OK)
            fail_msg("%s", failure_last()->text);
        b->twins++;
    }
    if (!t->lent && device_upload(b->dev, t->on, t->host, t->bytes) != STATUS_OK)
        fail_msg("%s", failure_last()->text);
    t->lent = true;
    return (char *)t->on + (at - begin);
}

/* What the operations wrote into lent buffers, in the test's own; waits for them. */
static inline void bench_back(bench *b)
{
    if (b->dev->kind != DEVICE_CPU && device_wait(b->dev) != STATUS_OK)
        fail_msg("%s", failure_last()->text);
    for (bench_twin *t = b->twin; t < b->twin + b->twins; t++) {
        if (t->lent && device_download(b->dev, t->host, t->on, t->bytes) != STATUS_OK)
            fail_msg("%s", failure_last()->text);
        t->lent = false;
    }
}

static inline void bench_forget(bench *b) /* all copies are given back */
{
    while (b->twins)
        device_memory_give(b->dev, b->twin[--b->twins].on);
}

static inline void bench_poison(bench *b)
{
    if (b->dev && b->dev->kind != DEVICE_CPU) {
        void *nan = malloc(b->ws.size);
        assert_non_null(nan);
        memset(nan, 0xFF, b->ws.size);
        if (device_upload(b->dev, b->ws.base, nan, b->ws.size) != STATUS_OK ||
            device_wait(b->dev) != STATUS_OK)
            fail_msg("%s", failure_last()->text);
        free(nan);
        return;
    }
    memset(b->ws.base, 0xFF, b->ws.size);
}

static inline void bench_workspace(bench *b, int64_t bytes)
{
    assert_int_equal(device_arena_open(b->dev, &b->ws, "workspace", (size_t)bytes), STATUS_OK);
    bench_poison(b);
}

/* The plan was kept: nothing left taken, and at most 5 % of what was planned never used. */
static inline void bench_close(bench *b, int64_t planned)
{
    assert_int_equal(b->ws.used, 0);
    assert_true(b->ws.high <= (size_t)planned);
    if ((double)b->ws.high < 0.95 * (double)planned)
        fail_msg("workspace: planned %lld bytes, used %zu", (long long)planned, b->ws.high);
    bench_forget(b);
    device_arena_close(b->dev, &b->ws);
    device_close(&b->dev);
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s", failure_last()->text);                                                  \
    } while (0)

/* ---- formulas that several operations share, on one column: x (d) at stride `step` ---- */

static inline void ln_oracle(int64_t d, const double *x, int64_t step, const double *w,
                             const double *b, double *out)
{
    double mean = 0, var = 0;
    for (int64_t c = 0; c < d; c++)
        mean += x[c * step] / (double)d;
    for (int64_t c = 0; c < d; c++)
        var += (x[c * step] - mean) * (x[c * step] - mean) / (double)d;
    for (int64_t c = 0; c < d; c++) {
        const double hat = (x[c * step] - mean) / sqrt(var + 1e-5);
        out[c] = w ? hat * w[c] + b[c] : hat;
    }
}

static inline double gelu_oracle(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

/* -log softmax(logits)[target] */
static inline double cross_entropy_oracle(int64_t n, const double *logits, int64_t target)
{
    double top = logits[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        top = fmax(top, logits[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp(logits[i] - top);
    return top + log(sum) - logits[target];
}

#endif
