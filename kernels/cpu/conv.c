/* conv: one channel a thread. Rows are weighted as they are loaded and unweighted as they are
 * stored (kernels/cpu/fft.h), so gates, skip and pads cost no pass of their own; spectra are
 * multiplied row by row between the two transforms. Channels do not meet, and a channel's batch is
 * summed in order: any number of threads gives the same bits. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/fft.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <omp.h>

/* One thread's buffers; forward has no G and no S. */
typedef struct {
    float *K, *Y, *G, *S; /* (R, stride) complex */
    float *row[2];        /* C complex */
    float *scratch;
} spectra;

static spectra spectra_carve(const fft_shape *s, bool backward, carve *c)
{
    const int64_t n = fft_spectrum_floats(s);
    spectra b = {.K = carve_floats(c, n), .Y = carve_floats(c, n)};
    b.G = backward ? carve_floats(c, n) : NULL;
    b.S = backward ? carve_floats(c, n) : NULL;
    b.row[0] = carve_floats(c, fft_row_floats(s));
    b.row[1] = backward ? carve_floats(c, fft_row_floats(s)) : NULL;
    b.scratch = carve_floats(c, fft_scratch_floats(s));
    return b;
}

static size_t thread_bytes(const fft_shape *s, bool backward)
{
    carve c = {0};
    spectra_carve(s, backward, &c);
    return c.used;
}

static spectra spectra_of(const fft_shape *s, bool backward, char *base)
{
    carve c = {.base = base + (size_t)omp_get_thread_num() * thread_bytes(s, backward)};
    return spectra_carve(s, backward, &c);
}

static int threads_used(const conv_args *a, int threads)
{
    return (int)least(a->dc, threads);
}

size_t conv_workspace_cpu(const device *dev, const conv_args *a)
{
    const fft_shape s = fft_shape_of(a->s.L);
    return (size_t)threads_used(a, dev->threads) * thread_bytes(&s, true);
}

/* X *= K */
KERNEL_CLONES
static void row_multiply(int64_t n, const float *restrict K, float *restrict X)
{
    for (int64_t j = 0; j < n; j++) {
        const float re = X[2 * j], im = X[2 * j + 1];
        X[2 * j] = re * K[2 * j] - im * K[2 * j + 1];
        X[2 * j + 1] = re * K[2 * j + 1] + im * K[2 * j];
    }
}

/* S += Y conj(G), Y *= conj(K): one pass over all four. */
KERNEL_CLONES
static void row_correlate(int64_t n, const float *restrict K, const float *restrict G,
                          float *restrict Y, float *restrict S)
{
    for (int64_t j = 0; j < n; j++) {
        const float yr = Y[2 * j], yi = Y[2 * j + 1];
        const float gr = G[2 * j], gi = G[2 * j + 1], kr = K[2 * j], ki = K[2 * j + 1];
        S[2 * j] += yr * gr + yi * gi;
        S[2 * j + 1] += yi * gr - yr * gi;
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

/* K from k (L), through Y. */
static void filter_spectrum(const fft_plan *p, int64_t L, const float *k, const spectra *w)
{
    fft_load(p, L, k, NULL, w->Y, w->scratch);
    for (int64_t r = 0; r < p->s.rows; r++)
        fft_forward(p, w->Y + 2 * r * p->s.stride, w->K + 2 * r * p->s.stride);
}

static void channel_forward(const conv_args *a, const fft_plan *p, int64_t c, const float *k,
                            float D, const float *g, const float *gate, float *y, const spectra *w)
{
    const int64_t L = a->s.L, C = p->s.length;
    filter_spectrum(p, L, k + c * a->k_stride, w);
    for (int64_t b = 0; b < a->s.B; b++) {
        const int64_t at = (c * a->s.B + b) * a->s.Lp;
        fft_load(p, L, g + at, NULL, w->Y, w->scratch);
        for (int64_t r = 0; r < p->s.rows; r++) {
            float *Y = w->Y + 2 * r * p->s.stride;
            fft_forward(p, Y, w->row[0]);
            row_multiply(C, w->K + 2 * r * p->s.stride, w->row[0]);
            fft_inverse(p, w->row[0], Y);
        }
        fft_store(p, L, w->Y,
                  &(fft_output){.D = D, .x = g + at, .outer = gate ? gate + at : NULL, .y = y + at},
                  w->scratch);
        pad_clear(y + at, &a->s);
    }
}

/* The tensors of one call of backward. */
typedef struct {
    const float *k, *D, *g, *gate, *dy;
    float *dg, *dgate, *dk, *dD;
} backward_tensors;

/* Spectra of g and of dy gate, in G and Y, become those of the value before the gate (where `open`)
 * and of dg; S grows by that of dk. */
static void rows_backward(const fft_plan *p, bool first, bool open, const spectra *w)
{
    const int64_t C = p->s.length;
    for (int64_t r = 0; r < p->s.rows; r++) {
        const int64_t at = 2 * r * p->s.stride;
        if (first)
            memset(w->S + at, 0, (size_t)C * 2 * sizeof(float));
        fft_forward(p, w->G + at, w->row[0]);
        fft_forward(p, w->Y + at, w->row[1]);
        row_correlate(C, w->K + at, w->row[0], w->row[1], w->S + at);
        fft_inverse(p, w->row[1], w->Y + at);
        if (!open)
            continue;
        row_multiply(C, w->K + at, w->row[0]);
        fft_inverse(p, w->row[0], w->G + at);
    }
}

static void channel_backward(const conv_args *a, const fft_plan *p, int64_t c,
                             const backward_tensors *t, const spectra *w)
{
    const int64_t L = a->s.L;
    const float D = t->D[c];
    double dD = 0;
    filter_spectrum(p, L, t->k + c * a->k_stride, w);
    for (int64_t b = 0; b < a->s.B; b++) {
        const int64_t at = (c * a->s.B + b) * a->s.Lp;
        const float *g = t->g + at, *dy = t->dy + at, *gate = t->gate ? t->gate + at : NULL;
        fft_load(p, L, g, NULL, w->G, w->scratch);
        fft_load(p, L, dy, gate, w->Y, w->scratch);
        rows_backward(p, b == 0, gate != NULL, w);
        fft_store(p, L, w->Y, &(fft_output){.D = D, .x = dy, .inner = gate, .y = t->dg + at},
                  w->scratch);
        pad_clear(t->dg + at, &a->s);
        dD += skip_gradient(L, dy, gate, g);
        if (!gate)
            continue;
        fft_store(p, L, w->G, &(fft_output){.D = D, .x = g, .outer = dy, .y = t->dgate + at},
                  w->scratch);
        pad_clear(t->dgate + at, &a->s);
    }
    for (int64_t r = 0; r < p->s.rows; r++)
        fft_inverse(p, w->S + 2 * r * p->s.stride, w->Y + 2 * r * p->s.stride);
    fft_store(p, L, w->Y, &(fft_output){.y = t->dk + c * a->k_stride}, w->scratch);
    t->dD[c] += (float)dD;
}

static status buffers_take(arena *ws, const conv_args *a, int threads, bool backward,
                           const fft_plan *p, char **out)
{
    const size_t bytes = (size_t)threads_used(a, threads) * thread_bytes(&p->s, backward);
    *out = arena_take(ws, bytes);
    return *out ? STATUS_OK : workspace_short("conv", bytes, ws);
}

status conv_forward_cpu(device *dev, const conv_args *a, const float *k, const float *D,
                        const void *g, const void *gate, void *y, arena *ws)
{
    TRY(fp32_alone(a->mixed, "conv"));
    const fft_plan *p = NULL;
    TRY(fft_plan_get(dev, a->s.L, &p));
    const size_t mark = arena_mark(ws);
    char *buffers = NULL;
    TRY(buffers_take(ws, a, dev->threads, false, p, &buffers));
#pragma omp parallel num_threads(threads_used(a, dev->threads))
    {
        const spectra w = spectra_of(&p->s, false, buffers);
#pragma omp for schedule(dynamic, 1)
        for (int64_t c = 0; c < a->dc; c++)
            channel_forward(a, p, c, k, D[c], g, gate, y, &w);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

status conv_backward_cpu(device *dev, const conv_args *a, const float *k, const float *D,
                         const void *g, const void *gate, const void *dy, void *dg, void *dgate,
                         float *dk, float *dD, arena *ws)
{
    TRY(fp32_alone(a->mixed, "conv"));
    const fft_plan *p = NULL;
    TRY(fft_plan_get(dev, a->s.L, &p));
    const size_t mark = arena_mark(ws);
    char *buffers = NULL;
    TRY(buffers_take(ws, a, dev->threads, true, p, &buffers));
    const backward_tensors t = {k, D, g, gate, dy, dg, dgate, dk, dD};
#pragma omp parallel num_threads(threads_used(a, dev->threads))
    {
        const spectra w = spectra_of(&p->s, true, buffers);
#pragma omp for schedule(dynamic, 1)
        for (int64_t c = 0; c < a->dc; c++)
            channel_backward(a, p, c, &t, &w);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}
