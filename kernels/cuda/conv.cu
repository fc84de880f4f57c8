/* conv by real transforms, a chunk of channels at a time. All rows of a chunk (its filters, then
 * its sequences) go through one forward transform, spectra are multiplied where they stand, and one
 * inverse transform brings them back; gate, skip, pads and the sums for D ride along with the loads
 * and stores. What a pass reads and writes stands at its kernel, in floats a position (L), a point
 * of the transform (N, about 2 L) or a complex number of a spectrum (N / 2). */
#include "kernels/cuda/fft.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/wide.cuh"

/* Workspace of a chunk, or one channel where that is more: enough work for every SM at any length,
 * little beside the activations. */
#ifndef CONV_CHUNK_BYTES
#define CONV_CHUNK_BYTES ((int64_t)256 << 20)
#endif
#define ITEMS                                                                                      \
    4 /* elements a thread, a block apart: enough loads under way to fill the memory bus */
#define BLOCK_MOST 256

/* The widest step between neighbours is a fifth; where three small factors would come closer, cuFFT
 * takes longer than the points that they save. */
static const int64_t FACTOR[] = {1, 3, 5, 7, 9};

extern "C" int64_t conv_points_cuda(int64_t L)
{
    int64_t best = INT64_MAX;
    for (size_t i = 0; i < sizeof FACTOR / sizeof FACTOR[0]; i++) {
        int64_t n = 2 * FACTOR[i];
        while (n < 2 * L - 1)
            n *= 2;
        best = n < best ? n : best;
    }
    return best;
}

/* A chunk as kernels see it. */
typedef struct {
    int64_t channels, B, L, Lp, k_stride;
    int64_t N, F; /* points, complex numbers of a spectrum */
} conv_chunk;

/* Its buffers, bytes from the first: real rows (rows, N), spectra (rows, F), cuFFT's work area, and
 * the parts of dD. */
typedef struct {
    conv_chunk s;
    int64_t rows, threads, tiles; /* a row of (B, Lp) is stored by `tiles` blocks of `threads` */
    size_t spectra, work, skip, end;
} conv_plan;

typedef struct {
    float *real, *spectra;
    void *work;
    double *skip; /* (channels, B, tiles) */
} conv_buffers;

#define BUFFER_ALIGN 256 /* bytes, as cudaMalloc gives: rows begin on memory's own lines */

static size_t aligned(int64_t bytes)
{
    return ((size_t)bytes + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
}

/* `sides`: rows for each sequence: 1 forward (g), 2 backward (dy gate, g). */
static conv_plan plan_of(const conv_args *a, int64_t channels, int sides)
{
    conv_plan p = {};
    p.s.channels = channels;
    p.s.B = a->s.B;
    p.s.L = a->s.L;
    p.s.Lp = a->s.Lp;
    p.s.k_stride = a->k_stride;
    p.s.N = conv_points_cuda(a->s.L);
    p.s.F = fft_spectrum(p.s.N);
    p.rows = channels * (1 + sides * a->s.B);
    p.threads = a->s.Lp < BLOCK_MOST ? a->s.Lp : BLOCK_MOST; /* both multiples of a warp */
    p.tiles = (a->s.Lp + p.threads * ITEMS - 1) / (p.threads * ITEMS);
    p.spectra = aligned(p.rows * p.s.N * (int64_t)sizeof(float));
    p.work = p.spectra + aligned(p.rows * p.s.F * (int64_t)sizeof(float2));
    p.skip = p.work + fft_work_bytes(p.s.N, p.rows);
    p.end =
        p.skip + (sides == 1 ? 0 : aligned(channels * a->s.B * p.tiles * (int64_t)sizeof(double)));
    return p;
}

/* Channels of a chunk: as many as fit, in equal parts where a number near it divides them all, so
 * that one set of transforms serves every chunk. */
static conv_plan plan_chunk(const conv_args *a, int sides)
{
    int64_t most = CONV_CHUNK_BYTES / (int64_t)plan_of(a, 1, sides).end;
    most = most < 1 ? 1 : most > a->dc ? a->dc : most;
    for (int64_t n = most; n > most / 2; n--)
        if (a->dc % n == 0)
            return plan_of(a, n, sides);
    const int64_t chunks = (a->dc + most - 1) / most;
    return plan_of(a, (a->dc + chunks - 1) / chunks, sides);
}

extern "C" size_t conv_workspace_cuda(const device *dev, const conv_args *a)
{
    (void)dev;
    const size_t forward = plan_chunk(a, 1).end, backward = plan_chunk(a, 2).end;
    return (forward > backward ? forward : backward) + BUFFER_ALIGN;
}

static status buffers_take(const conv_plan *p, arena *ws, conv_buffers *out)
{
    const size_t bytes = p->end + BUFFER_ALIGN; /* an arena aligns to less */
    char *base = (char *)arena_take(ws, bytes);
    if (!base)
        return cuda_workspace_short("conv", ws);
    base += (BUFFER_ALIGN - (uintptr_t)base % BUFFER_ALIGN) % BUFFER_ALIGN;
    out->real = (float *)base;
    out->spectra = (float *)(base + p->spectra);
    out->work = base + p->work;
    out->skip = (double *)(base + p->skip);
    return STATUS_OK;
}

/* Blocks for `rows` rows of n elements, ITEMS a thread; `per_row` of them each. All in x: rows may
 * be more than the other axes of a grid take. */
static dim3 grid_of(int64_t rows, int64_t n, int64_t threads, unsigned *per_row)
{
    *per_row = (unsigned)((n + threads * ITEMS - 1) / (threads * ITEMS));
    return dim3((unsigned)(rows * *per_row));
}

/* Where this thread begins in its row; the next element is a block further on. */
static __device__ inline int64_t first_of(unsigned per_row)
{
    return (int64_t)(blockIdx.x % per_row) * ITEMS * blockDim.x + threadIdx.x;
}

/* Rows of N points, L of them and zeros: filters (channels), x gate (channels, B), and other
 * (channels, B) where there are rows left for it. Reads L, 2 L with gates; writes N. */
template <typename T>
KERNEL(conv_load)
(conv_chunk s, unsigned per_row, const float *__restrict__ k, const T *__restrict__ x,
 const T *__restrict__ gate, const T *__restrict__ other, float *__restrict__ real)
{
    const int64_t row = blockIdx.x / per_row, pairs = s.channels * s.B, pair = row - s.channels;
    const float *filter = pair < 0 ? k + row * s.k_stride : NULL;
    const T *from = pair < 0       ? NULL
                    : pair < pairs ? x + pair * s.Lp
                                   : other + (pair - pairs) * s.Lp;
    const T *times = gate && pair >= 0 && pair < pairs ? gate + pair * s.Lp : NULL;
    const int64_t first = first_of(per_row);
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t t = first + i * (int64_t)blockDim.x;
        if (t >= s.N)
            return;
        float value = 0.0f;
        if (t < s.L)
            value = filter ? filter[t] : number(from[t]) * (times ? number(times[t]) : 1.0f);
        real[row * s.N + t] = value;
    }
}

static __device__ inline float2 scaled(float2 a, float by)
{
    return make_float2(a.x * by, a.y * by);
}

static __device__ inline float2 product(float2 a, float2 b)
{
    return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

/* a conj(b) */
static __device__ inline float2 correlation(float2 a, float2 b)
{
    return make_float2(a.x * b.x + a.y * b.y, a.y * b.x - a.x * b.y);
}

/* X *= K / N for every sequence of a channel, a frequency a thread, so that K is read once. Reads
 * and writes each spectrum once. */
KERNEL(conv_multiply)(conv_chunk s, unsigned per_row, float scale, float2 *__restrict__ spectra)
{
    const int64_t c = blockIdx.x / per_row, first = first_of(per_row);
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t f = first + i * (int64_t)blockDim.x;
        if (f >= s.F)
            return;
        const float2 k = scaled(spectra[c * s.F + f], scale);
        float2 *at = spectra + (s.channels + c * s.B) * s.F + f;
        for (int64_t b = 0; b < s.B; b++, at += s.F)
            *at = product(*at, k);
    }
}

/* Spectra of k, of dy gate (Y) and of g (G) become those of dk, summed over the batch in its order,
 * of dg, and, where it is `open` to a gate, of the value before the gate. Reads and writes each
 * once. */
KERNEL(conv_correlate)
(conv_chunk s, unsigned per_row, float scale, bool open, float2 *__restrict__ spectra)
{
    const int64_t c = blockIdx.x / per_row, first = first_of(per_row);
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t f = first + i * (int64_t)blockDim.x;
        if (f >= s.F)
            return;
        float2 *filter = spectra + c * s.F + f, sum = make_float2(0.0f, 0.0f);
        const float2 k = scaled(*filter, scale);
        float2 *Y = spectra + (s.channels + c * s.B) * s.F + f, *G = Y + s.channels * s.B * s.F;
        for (int64_t b = 0; b < s.B; b++, Y += s.F, G += s.F) {
            const float2 y = *Y, g = *G, term = correlation(y, g);
            sum = make_float2(sum.x + term.x, sum.y + term.y);
            *Y = correlation(y, k);
            if (open)
                *G = product(g, k);
        }
        *filter = scaled(sum, scale);
    }
}

/* y = (convolution + D g) gate, pads zero. Reads 2 L, 3 L with gates; writes L. */
template <typename T>
KERNEL(conv_store)
(conv_chunk s, unsigned per_row, const float *__restrict__ D, const float *__restrict__ real,
 const T *__restrict__ g, const T *__restrict__ gate, T *__restrict__ y)
{
    const int64_t row = blockIdx.x / per_row, at = row * s.Lp, first = first_of(per_row);
    const float skip = D[row / s.B];
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t t = first + i * (int64_t)blockDim.x;
        if (t >= s.Lp)
            break;
        float value = 0.0f;
        if (t < s.L)
            value = (real[row * s.N + t] + skip * number(g[at + t])) *
                    (gate ? number(gate[at + t]) : 1.0f);
        put(y + at + t, value);
    }
}

/* The tensors of the pass that ends backward, from the chunk's first channel on. */
template <typename T> struct conv_gradients {
    const float *D, *real; /* real: of Y's rows; G's follow */
    const T *g, *gate, *dy;
    T *dg, *dgate;
    double *skip;
};

/* dg = correlation + D dy gate; dgate = (convolution + D g) dy; a block's part of dD = sum of dy
 * gate g, in fp64. Pads zero. Reads 3 L and writes L; with gates reads 5 L and writes 2 L. */
template <typename T>
KERNEL(conv_store_gradients)
(conv_chunk s, unsigned per_row, conv_gradients<T> a)
{
    SHARED(double, warp);
    const int64_t row = blockIdx.x / per_row, at = row * s.Lp, first = first_of(per_row);
    const float skip = a.D[row / s.B];
    const float *closed = a.real + row * s.N, *open = closed + s.channels * s.B * s.N;
    double sum = 0;
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t t = first + i * (int64_t)blockDim.x;
        if (t >= s.Lp)
            break;
        float dg = 0.0f, dgate = 0.0f;
        if (t < s.L) {
            const float dy = number(a.dy[at + t]), g = number(a.g[at + t]);
            const float inner = a.gate ? dy * number(a.gate[at + t]) : dy;
            dg = closed[t] + skip * inner;
            dgate = a.gate ? (open[t] + skip * g) * dy : 0.0f;
            sum += (double)inner * (double)g;
        }
        put(a.dg + at + t, dg);
        if (a.gate)
            put(a.dgate + at + t, dgate);
    }
    sum = block_sum(sum, warp);
    if (threadIdx.x == 0)
        a.skip[blockIdx.x] = sum;
}

/* Reads and writes L a filter. */
KERNEL(conv_store_filter)
(conv_chunk s, unsigned per_row, const float *__restrict__ real, float *__restrict__ dk)
{
    const int64_t row = blockIdx.x / per_row, first = first_of(per_row);
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t t = first + i * (int64_t)blockDim.x;
        if (t < s.L)
            dk[row * s.k_stride + t] = real[row * s.N + t];
    }
}

/* A plan for `channels` of them, which are what is left at the end. */
static conv_plan plan_part(const conv_args *a, const conv_plan *p, int64_t done, int sides)
{
    const int64_t left = a->dc - done;
    return left < p->s.channels ? plan_of(a, left, sides) : *p;
}

template <typename T>
static status load_rows(device *dev, const conv_plan *p, const float *k, const T *x, const T *gate,
                        const T *other, float *real)
{
    unsigned per_row;
    const dim3 grid = grid_of(p->rows, p->s.N, BLOCK_MOST, &per_row);
    return LAUNCH(conv_load<T>, grid, BLOCK_MOST, 0, cuda_of(dev)->stream, p->s, per_row, k, x,
                  gate, other, real);
}

template <typename T>
static status chunk_forward(device *dev, const conv_plan *p, const conv_buffers *w, const float *k,
                            const float *D, const T *g, const T *gate, T *y)
{
    const conv_chunk *s = &p->s;
    const int64_t pairs = s->channels * s->B;
    const size_t work = p->skip - p->work;
    cudaStream_t stream = cuda_of(dev)->stream;
    unsigned per_row;
    TRY(load_rows<T>(dev, p, k, g, NULL, NULL, w->real));
    TRY(fft_run_cuda(dev, FFT_FORWARD, s->N, p->rows, w->real, w->spectra, w->work, work));
    dim3 grid = grid_of(s->channels, s->F, BLOCK_MOST, &per_row);
    TRY(LAUNCH(conv_multiply, grid, BLOCK_MOST, 0, stream, *s, per_row, 1.0f / (float)s->N,
               (float2 *)w->spectra));
    TRY(fft_run_cuda(dev, FFT_INVERSE, s->N, pairs, w->real, w->spectra + s->channels * s->F * 2,
                     w->work, work));
    grid = grid_of(pairs, s->Lp, p->threads, &per_row);
    return LAUNCH(conv_store<T>, grid, (unsigned)p->threads, 0, stream, *s, per_row, D,
                  (const float *)w->real, g, gate, y);
}

template <typename T>
static status forward(device *dev, const conv_args *a, const float *k, const float *D, const T *g,
                      const T *gate, T *y, arena *ws)
{
    const conv_plan p = plan_chunk(a, 1);
    const size_t mark = arena_mark(ws);
    conv_buffers w = {};
    TRY(buffers_take(&p, ws, &w));
    status st = STATUS_OK;
    for (int64_t c = 0; c < a->dc && st == STATUS_OK; c += p.s.channels) {
        const conv_plan part = plan_part(a, &p, c, 1);
        const int64_t at = c * a->s.B * a->s.Lp;
        st = chunk_forward(dev, &part, &w, k + c * a->k_stride, D + c, g + at,
                           gate ? gate + at : NULL, y + at);
    }
    arena_release(ws, mark);
    return st;
}

/* t: the tensors from the chunk's first channel on; its `real` and `skip` are filled in here. */
template <typename T>
static status chunk_backward(device *dev, const conv_plan *p, const conv_buffers *w, const float *k,
                             conv_gradients<T> t, float *dk, float *dD)
{
    const conv_chunk *s = &p->s;
    const int64_t pairs = s->channels * s->B, back = t.gate ? p->rows : s->channels + pairs;
    const size_t work = p->skip - p->work, shared = BLOCK_MOST / WARP * sizeof(double);
    cudaStream_t stream = cuda_of(dev)->stream;
    unsigned per_row;
    t.real = w->real + s->channels * s->N;
    t.skip = w->skip;
    TRY(load_rows(dev, p, k, t.dy, t.gate, t.g, w->real));
    TRY(fft_run_cuda(dev, FFT_FORWARD, s->N, p->rows, w->real, w->spectra, w->work, work));
    dim3 grid = grid_of(s->channels, s->F, BLOCK_MOST, &per_row);
    TRY(LAUNCH(conv_correlate, grid, BLOCK_MOST, 0, stream, *s, per_row, 1.0f / (float)s->N,
               t.gate != NULL, (float2 *)w->spectra));
    TRY(fft_run_cuda(dev, FFT_INVERSE, s->N, back, w->real, w->spectra, w->work, work));
    grid = grid_of(s->channels, s->L, BLOCK_MOST, &per_row);
    TRY(LAUNCH(conv_store_filter, grid, BLOCK_MOST, 0, stream, *s, per_row, (const float *)w->real,
               dk));
    grid = grid_of(pairs, s->Lp, p->threads, &per_row);
    TRY(LAUNCH(conv_store_gradients<T>, grid, (unsigned)p->threads, shared, stream, *s, per_row,
               t));
    return parts_add_cuda(dev, s->channels, s->B * p->tiles, w->skip, dD);
}

extern "C" status conv_forward_cuda(device *dev, const conv_args *a, const float *k, const float *D,
                                    const void *g, const void *gate, void *y, arena *ws)
{
    return a->mixed ? forward(dev, a, k, D, (const bf16 *)g, (const bf16 *)gate, (bf16 *)y, ws)
                    : forward(dev, a, k, D, (const float *)g, (const float *)gate, (float *)y, ws);
}

/* t: the tensors of the whole call. */
template <typename T>
static status backward(device *dev, const conv_args *a, const float *k, conv_gradients<T> t,
                       float *dk, float *dD, arena *ws)
{
    const conv_plan p = plan_chunk(a, 2);
    const size_t mark = arena_mark(ws);
    conv_buffers w = {};
    TRY(buffers_take(&p, ws, &w));
    status st = STATUS_OK;
    for (int64_t c = 0; c < a->dc && st == STATUS_OK; c += p.s.channels) {
        const conv_plan part = plan_part(a, &p, c, 2);
        const int64_t at = c * a->s.B * a->s.Lp;
        const conv_gradients<T> from = {t.D + c,
                                        NULL,
                                        t.g + at,
                                        t.gate ? t.gate + at : NULL,
                                        t.dy + at,
                                        t.dg + at,
                                        t.gate ? t.dgate + at : NULL,
                                        NULL};
        st =
            chunk_backward(dev, &part, &w, k + c * a->k_stride, from, dk + c * a->k_stride, dD + c);
    }
    arena_release(ws, mark);
    return st;
}

extern "C" status conv_backward_cuda(device *dev, const conv_args *a, const float *k,
                                     const float *D, const void *g, const void *gate,
                                     const void *dy, void *dg, void *dgate, float *dk, float *dD,
                                     arena *ws)
{
    if (a->mixed) {
        const conv_gradients<bf16> t = {D,
                                        NULL,
                                        (const bf16 *)g,
                                        (const bf16 *)gate,
                                        (const bf16 *)dy,
                                        (bf16 *)dg,
                                        (bf16 *)dgate,
                                        NULL};
        return backward(dev, a, k, t, dk, dD, ws);
    }
    const conv_gradients<float> t = {D,
                                     NULL,
                                     (const float *)g,
                                     (const float *)gate,
                                     (const float *)dy,
                                     (float *)dg,
                                     (float *)dgate,
                                     NULL};
    return backward(dev, a, k, t, dk, dD, ws);
}
