/* conv: one channel a thread. Rows are weighted as they are loaded and unweighted as they are
 * stored (kernels/cpu/fft.h), so gates, skip and pads cost no pass of their own. Channels do not
 * meet, and a channel's batch is summed in order: any number of threads gives the same bits. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/fft.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <omp.h>
#include <string.h>

#define BUFFERS_FORWARD 3  /* row, K, X */
#define BUFFERS_BACKWARD 5 /* row, K, G, Y, S */

static int64_t buffer_floats(int64_t points)
{
    return (int64_t)arena_round((size_t)points * 2 * sizeof(float)) / (int64_t)sizeof(float);
}

static int threads_used(const conv_args *a, int threads)
{
    return (int)least(a->dc, threads);
}

size_t conv_workspace_cpu(const conv_args *a, int threads)
{
    const int64_t points = conv_points(a->s.L) / 2;
    return (size_t)(threads_used(a, threads) * BUFFERS_BACKWARD * buffer_floats(points)) *
           sizeof(float);
}

/* z[n] = x[n] w^n, zero from L to M. */
KERNEL_CLONES
static void row_load(const float *restrict x, int64_t L, const fft_plan *p, float *restrict z)
{
    const float *restrict w = p->weight;
    for (int64_t n = 0; n < L; n++) {
        z[2 * n] = x[n] * w[2 * n];
        z[2 * n + 1] = x[n] * w[2 * n + 1];
    }
    memset(z + 2 * L, 0, (size_t)(p->points - L) * 2 * sizeof *z);
}

/* z[n] = x[n] gate[n] w^n. */
KERNEL_CLONES
static void row_load_gated(const float *restrict x, const float *restrict gate, int64_t L,
                           const fft_plan *p, float *restrict z)
{
    const float *restrict w = p->weight;
    for (int64_t n = 0; n < L; n++) {
        const float v = x[n] * gate[n];
        z[2 * n] = v * w[2 * n];
        z[2 * n + 1] = v * w[2 * n + 1];
    }
    memset(z + 2 * L, 0, (size_t)(p->points - L) * 2 * sizeof *z);
}

/* Re(w^-n z[n]) / M: the convolution's value. */
VMATH float value_at(const float *restrict z, const float *restrict w, int64_t n, float scale)
{
    return scale * (z[2 * n] * w[2 * n] + z[2 * n + 1] * w[2 * n + 1]);
}

/* y = value */
KERNEL_CLONES
static void row_store(const float *restrict z, int64_t L, const fft_plan *p, float *restrict y)
{
    const float *restrict w = p->weight;
    const float scale = 1.0f / (float)p->points;
    for (int64_t n = 0; n < L; n++)
        y[n] = value_at(z, w, n, scale);
}

/* y = value + D x */
KERNEL_CLONES
static void row_store_skip(const float *restrict z, int64_t L, const fft_plan *p, float D,
                           const float *restrict x, float *restrict y)
{
    const float *restrict w = p->weight;
    const float scale = 1.0f / (float)p->points;
    for (int64_t n = 0; n < L; n++)
        y[n] = value_at(z, w, n, scale) + D * x[n];
}

/* y = value + D x gate: the gradient of g, x being that of the gated output */
KERNEL_CLONES
static void row_store_skip_gated(const float *restrict z, int64_t L, const fft_plan *p, float D,
                                 const float *restrict x, const float *restrict gate,
                                 float *restrict y)
{
    const float *restrict w = p->weight;
    const float scale = 1.0f / (float)p->points;
    for (int64_t n = 0; n < L; n++)
        y[n] = value_at(z, w, n, scale) + D * (x[n] * gate[n]);
}

/* y = (value + D x) gate */
KERNEL_CLONES
static void row_store_gated(const float *restrict z, int64_t L, const fft_plan *p, float D,
                            const float *restrict x, const float *restrict gate, float *restrict y)
{
    const float *restrict w = p->weight;
    const float scale = 1.0f / (float)p->points;
    for (int64_t n = 0; n < L; n++)
        y[n] = (value_at(z, w, n, scale) + D * x[n]) * gate[n];
}

/* X *= K */
KERNEL_CLONES
static void spectrum_multiply(int64_t M, const float *restrict K, float *restrict X)
{
    for (int64_t j = 0; j < M; j++) {
        const float re = X[2 * j], im = X[2 * j + 1];
        X[2 * j] = re * K[2 * j] - im * K[2 * j + 1];
        X[2 * j + 1] = re * K[2 * j + 1] + im * K[2 * j];
    }
}

/* S = Y conj(G) or S += Y conj(G), then Y *= conj(K): one pass over all four. */
KERNEL_CLONES
static void spectra_correlate(int64_t M, bool add, const float *restrict K, const float *restrict G,
                              float *restrict Y, float *restrict S)
{
    const float keep = add ? 1.0f : 0.0f;
    if (!add)
        memset(S, 0, (size_t)M * 2 * sizeof *S);
    for (int64_t j = 0; j < M; j++) {
        const float yr = Y[2 * j], yi = Y[2 * j + 1];
        const float gr = G[2 * j], gi = G[2 * j + 1], kr = K[2 * j], ki = K[2 * j + 1];
        S[2 * j] = keep * S[2 * j] + yr * gr + yi * gi;
        S[2 * j + 1] = keep * S[2 * j + 1] + yi * gr - yr * gi;
        Y[2 * j] = yr * kr + yi * ki;
        Y[2 * j + 1] = yi * kr - yr * ki;
    }
}

/* sum_t dy[t] gate[t] g[t] (gate may be NULL) in fp64. */
KERNEL_CLONES
static double skip_gradient(int64_t L, const float *restrict dy, const float *restrict gate,
                            const float *restrict g)
{
    double sum = 0;
    if (gate) {
#pragma omp simd reduction(+ : sum)
        for (int64_t t = 0; t < L; t++)
            sum += (double)(dy[t] * gate[t]) * (double)g[t];
        return sum;
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t t = 0; t < L; t++)
        sum += (double)dy[t] * (double)g[t];
    return sum;
}

static void pad_clear(float *row, const batch_shape *s)
{
    memset(row + s->L, 0, (size_t)(s->Lp - s->L) * sizeof *row);
}

static void channel_forward(const conv_args *a, const fft_plan *p, int64_t c, const float *k,
                            float D, const float *g, const float *gate, float *y, float *buffer)
{
    const int64_t L = a->s.L, stride = buffer_floats(p->points);
    float *row = buffer, *K = row + stride, *X = K + stride;
    row_load(k + c * a->k_stride, L, p, row);
    fft_forward(p, row, K);
    for (int64_t b = 0; b < a->s.B; b++) {
        const int64_t at = (c * a->s.B + b) * a->s.Lp;
        row_load(g + at, L, p, row);
        fft_forward(p, row, X);
        spectrum_multiply(p->points, K, X);
        fft_inverse(p, X, row);
        if (gate)
            row_store_gated(row, L, p, D, g + at, gate + at, y + at);
        else
            row_store_skip(row, L, p, D, g + at, y + at);
        pad_clear(y + at, &a->s);
    }
}

/* The tensors of one call of backward. */
typedef struct {
    const float *k, *D, *g, *gate, *dy;
    float *dg, *dgate, *dk, *dD;
} backward_tensors;

static void channel_backward(const conv_args *a, const fft_plan *p, int64_t c,
                             const backward_tensors *t, float *buffer)
{
    const int64_t L = a->s.L, M = p->points, stride = buffer_floats(M);
    float *row = buffer, *K = row + stride, *G = K + stride, *Y = G + stride, *S = Y + stride;
    const float D = t->D[c];
    double dD = 0;
    row_load(t->k + c * a->k_stride, L, p, row);
    fft_forward(p, row, K);
    for (int64_t b = 0; b < a->s.B; b++) {
        const int64_t at = (c * a->s.B + b) * a->s.Lp;
        const float *g = t->g + at, *dy = t->dy + at, *gate = t->gate ? t->gate + at : NULL;
        row_load(g, L, p, row);
        fft_forward(p, row, G);
        if (gate)
            row_load_gated(dy, gate, L, p, row);
        else
            row_load(dy, L, p, row);
        fft_forward(p, row, Y);
        spectra_correlate(M, b > 0, K, G, Y, S);
        fft_inverse(p, Y, row);
        if (gate)
            row_store_skip_gated(row, L, p, D, dy, gate, t->dg + at);
        else
            row_store_skip(row, L, p, D, dy, t->dg + at);
        pad_clear(t->dg + at, &a->s);
        dD += skip_gradient(L, dy, gate, g);
        if (!gate)
            continue;
        spectrum_multiply(M, K, G); /* the value before the gate, again */
        fft_inverse(p, G, row);
        row_store_gated(row, L, p, D, g, dy, t->dgate + at);
        pad_clear(t->dgate + at, &a->s);
    }
    fft_inverse(p, S, row);
    row_store(row, L, p, t->dk + c * a->k_stride);
    t->dD[c] += (float)dD;
}

static status buffers_take(arena *ws, const conv_args *a, int threads, int count, const fft_plan *p,
                           float **out)
{
    const int64_t floats = threads_used(a, threads) * count * buffer_floats(p->points);
    *out = arena_take(ws, (size_t)floats * sizeof(float));
    return *out ? STATUS_OK : workspace_short("conv", (size_t)floats * sizeof(float), ws);
}

status conv_forward_cpu(device *dev, const conv_args *a, const float *k, const float *D,
                        const float *g, const float *gate, float *y, arena *ws)
{
    const fft_plan *p = NULL;
    TRY(fft_plan_get(dev, conv_points(a->s.L) / 2, &p));
    const size_t mark = arena_mark(ws);
    float *buffers = NULL;
    TRY(buffers_take(ws, a, dev->threads, BUFFERS_FORWARD, p, &buffers));
    const int64_t each = BUFFERS_FORWARD * buffer_floats(p->points);
#pragma omp parallel for num_threads(threads_used(a, dev->threads)) schedule(dynamic, 1)
    for (int64_t c = 0; c < a->dc; c++)
        channel_forward(a, p, c, k, D[c], g, gate, y, buffers + omp_get_thread_num() * each);
    arena_release(ws, mark);
    return STATUS_OK;
}

status conv_backward_cpu(device *dev, const conv_args *a, const float *k, const float *D,
                         const float *g, const float *gate, const float *dy, float *dg,
                         float *dgate, float *dk, float *dD, arena *ws)
{
    const fft_plan *p = NULL;
    TRY(fft_plan_get(dev, conv_points(a->s.L) / 2, &p));
    const size_t mark = arena_mark(ws);
    float *buffers = NULL;
    TRY(buffers_take(ws, a, dev->threads, BUFFERS_BACKWARD, p, &buffers));
    const int64_t each = BUFFERS_BACKWARD * buffer_floats(p->points);
    const backward_tensors t = {k, D, g, gate, dy, dg, dgate, dk, dD};
#pragma omp parallel for num_threads(threads_used(a, dev->threads)) schedule(dynamic, 1)
    for (int64_t c = 0; c < a->dc; c++)
        channel_backward(a, p, c, &t, buffers + omp_get_thread_num() * each);
    arena_release(ws, mark);
    return STATUS_OK;
}
