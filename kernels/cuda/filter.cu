/* filter: the implicit filter, a span of positions at a time. The layers of a span are products by
 * cuBLAS with a pass for the sines between them, which at the usual widths stay in the GPU's cache;
 * backward computes them again. Weight gradients are fp32 products over tiles of 512 positions, all
 * tiles of a span in one batched call, and tiles are summed in fp64 in their order. What a pass
 * reads and writes stands at its kernel, in floats a position and row. */
#include "kernels/cuda/columns.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/launch.cuh"

#include <math.h>

#define LAYERS 3     /* sines */
#define TILE 512     /* positions: fp32 sums this long lose less than 1e-6, as on the CPU */
#define CHANNELS 128 /* channels of dk at a time */
#define ITEMS 4      /* elements a thread, a block apart */
#define SUMMERS 64   /* threads of a tile's sums: the shortest tile, and few steps at the end */

/* One (F, span) array: 65536 positions at 64 units, 128 tiles, so that a batched product has a
 * block for every SM. There are nine of them in backward. */
#ifndef FILTER_SPAN_BYTES
#define FILTER_SPAN_BYTES ((int64_t)16 << 20)
#endif

/* Where the parts of the sums in fp64 begin; grads in the same order: W0 b0 W2 b2 W4 b4 freq W6. */
#define PARTS (2 * LAYERS + 2)
typedef struct {
    int64_t begin[PARTS + 1];
    float *to[PARTS];
} filter_sums;

/* The encoding and the modulation of all positions. */
typedef struct {
    int64_t bands;
    double first, step; /* frequency of a band: first + step band */
    double turn, tau;   /* of a position: 2 pi / l_max, 1 / (l_max - 1) */
    double slow, rate;  /* exponent of a channel: (slow + rate channel) position */
    float shift;
} filter_grid;

typedef struct {
    const filter_args *a;
    filter_grid grid;
    int64_t tile, tiles, span; /* span: positions, a multiple of tile */
    int64_t channels;          /* at most, of dk at a time */
    /* taken from the workspace */
    float *z; /* (emb, span) */
    float *u[LAYERS],
        *h[LAYERS]; /* (F, span): W x, and its sine; forward has two arrays in turns */
    float *dh;      /* (channels, span) */
    float *d[2];    /* (F, span): gradients of h and u in turns */
    float *product; /* (span / tile, rows, inputs): a weight's gradient, tile by tile */
    double *part;   /* (span / tile, 2 F): bias and freq */
    double *sums;
} filter_plan;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static const float *weight_of(const filter_args *a, int layer)
{
    return layer == 0 ? a->W0 : layer == 1 ? a->W2 : a->W4;
}

static const float *bias_of(const filter_args *a, int layer)
{
    return layer == 0 ? a->b0 : layer == 1 ? a->b2 : a->b4;
}

static int64_t inputs_of(const filter_args *a, int layer)
{
    return layer == 0 ? a->emb : a->F;
}

/* f = linspace(1e-4, bands - 1, bands); delta = linspace(ln(0.01) / 1.5, ln(0.01) / 0.3) over all
 * channels. */
static filter_grid grid_of(const filter_args *a)
{
    filter_grid g = {};
    g.bands = (a->emb - 1) / 2;
    g.first = 1e-4;
    g.step = g.bands > 1 ? ((double)(g.bands - 1) - g.first) / (double)(g.bands - 1) : 0.0;
    g.tau = a->l_max > 1 ? 1.0 / (double)(a->l_max - 1) : 0.0;
    g.turn = 2 * M_PI / (double)a->l_max;
    const double slow = log(0.01) / 1.5, fast = log(0.01) / 0.3;
    g.slow = slow * g.tau;
    g.rate = a->channels > 1 ? (fast - slow) * g.tau / (double)(a->channels - 1) : 0.0;
    g.shift = (float)a->shift;
    return g;
}

static int64_t sums_size(const filter_args *a)
{
    int64_t n = a->F + a->dc * a->F;
    for (int l = 0; l < LAYERS; l++)
        n += a->F * (inputs_of(a, l) + 1);
    return n;
}

/* Tiles and spans from the length and the width alone: every run sums in the same order. */
static filter_plan plan_of(const filter_args *a)
{
    filter_plan p = {};
    p.a = a;
    p.grid = grid_of(a);
    p.tile = a->L < TILE ? length_padded(a->L) : TILE;
    p.tiles = (a->L + p.tile - 1) / p.tile;
    const int64_t fit = FILTER_SPAN_BYTES / (a->F * p.tile * (int64_t)sizeof(float));
    const int64_t most = fit < 1 ? 1 : fit, spans = (p.tiles + most - 1) / most;
    p.span = (p.tiles + spans - 1) / spans * p.tile;
    p.channels = least(a->dc, CHANNELS);
    return p;
}

static int64_t product_size(const filter_plan *p)
{
    const filter_args *a = p->a;
    const int64_t wide = a->F > a->emb ? a->F : a->emb;
    return p->span / p->tile * a->F * (wide > p->channels ? wide : p->channels);
}

extern "C" size_t filter_workspace_cuda(const device *dev, const filter_args *a)
{
    (void)dev;
    const filter_plan p = plan_of(a);
    return floats_size(a->emb * p.span) + (2 * LAYERS + 2) * floats_size(a->F * p.span) +
           floats_size(p.channels * p.span) + floats_size(product_size(&p)) +
           doubles_size(p.span / p.tile * 2 * a->F) + doubles_size(sums_size(a));
}

/* The arrays of a plan; the arena is released by the caller. */
static status arrays_take(filter_plan *p, bool backward, arena *ws)
{
    const filter_args *a = p->a;
    bool all = (p->z = take_floats(ws, a->emb * p->span)) != NULL;
    for (int l = 0; l < LAYERS; l++) {
        p->u[l] = backward || l < 2 ? take_floats(ws, a->F * p->span) : p->u[0];
        p->h[l] = backward ? take_floats(ws, a->F * p->span) : p->u[l];
        all = all && p->u[l] && p->h[l];
    }
    if (backward) {
        p->dh = take_floats(ws, p->channels * p->span);
        for (int i = 0; i < 2; i++)
            all = (p->d[i] = take_floats(ws, a->F * p->span)) != NULL && all;
        p->product = take_floats(ws, product_size(p));
        p->part = take_doubles(ws, p->span / p->tile * 2 * a->F);
        p->sums = take_doubles(ws, sums_size(a));
        all = all && p->dh && p->product && p->part && p->sums;
    }
    return all ? STATUS_OK : cuda_workspace_short("filter", ws);
}

/* Blocks for rows of n elements, ITEMS a thread, all of them in x; `per_row` each. */
static dim3 blocks_for(int64_t rows, int64_t n, unsigned *per_row)
{
    *per_row = (unsigned)((n + BLOCK_THREADS * ITEMS - 1) / (BLOCK_THREADS * ITEMS));
    return dim3((unsigned)(rows * *per_row));
}

static __device__ inline int64_t first_of(unsigned per_row)
{
    return (int64_t)(blockIdx.x % per_row) * ITEMS * BLOCK_THREADS + threadIdx.x;
}

/* z of positions [i0, i0 + n), rows ld apart: a block's row is the time (0) or a band, which writes
 * a cosine and a sine. Angles in fp64: freq magnifies what an fp32 angle would lose. Writes 1. */
KERNEL(filter_encode)
(filter_grid g, unsigned per_row, int64_t i0, int64_t n, float *__restrict__ z, int64_t ld)
{
    const int64_t row = blockIdx.x / per_row, first = first_of(per_row);
    for (int i = 0; i < ITEMS; i++) {
        const int64_t j = first + i * BLOCK_THREADS;
        if (j >= n)
            return;
        if (row == 0) {
            z[j] = (float)((double)(i0 + j) * g.tau);
            continue;
        }
        const double angle = (g.first + g.step * (double)(row - 1)) * (g.turn * (double)(i0 + j));
        z[row * ld + j] = (float)cos(angle);
        z[(g.bands + row) * ld + j] = (float)-sin(angle);
    }
}

/* h = sin(freq (u + b)), rows ld apart; h may be u. sinf reduces its argument in full (beyond 1e5
 * by a slower path that no trained filter takes): two units in the last place. Reads 1, writes 1.
 */
KERNEL(filter_sine)
(unsigned per_row, int64_t n, int64_t ld, const float *__restrict__ b,
 const float *__restrict__ freq, const float *u, float *h)
{
    const int64_t row = blockIdx.x / per_row, first = first_of(per_row);
    const float bias = b[row], rate = freq[row];
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t j = first + i * BLOCK_THREADS;
        if (j < n)
            h[row * ld + j] = sinf(rate * (u[row * ld + j] + bias));
    }
}

/* d: gradient of h in, of u out: du = dh freq cos(freq (u + b)). A block has a tile of a row, in x,
 * tile by tile, and leaves the tile's sums of du and of dh cos(..) (u + b) in fp64. Reads 2, writes
 * 1. */
KERNEL(filter_sine_backward)
(int64_t F, int64_t tile, int64_t ld, const float *__restrict__ b, const float *__restrict__ freq,
 const float *__restrict__ u, float *__restrict__ d, double *__restrict__ part)
{
    SHARED(double, warps);
    const int64_t of = blockIdx.x / F, row = blockIdx.x % F, at = row * ld + of * tile;
    const float bias = b[row], rate = freq[row];
    double db = 0, dfreq = 0;
    for (int64_t j = threadIdx.x; j < tile; j += SUMMERS) {
        const float x = u[at + j] + bias, slope = d[at + j] * cosf(rate * x);
        d[at + j] = rate * slope;
        db += (double)(rate * slope);
        dfreq += (double)slope * (double)x;
    }
    db = block_sum(db, warps);
    dfreq = block_sum(dfreq, warps + SUMMERS / WARP);
    if (threadIdx.x == 0) {
        part[of * 2 * F + row] = db;
        part[of * 2 * F + F + row] = dfreq;
    }
}

/* to = from (exp(-tau |delta|) + shift) at n positions from i0 on, for channels c0 and on; zeros up
 * to `width`. The exponent is formed in fp64, where a position is exact. to may be from. Reads 1,
 * writes 1. */
KERNEL(filter_modulate)
(filter_grid g, unsigned per_row, int64_t c0, int64_t i0, int64_t n, int64_t width,
 const float *from, int64_t from_ld, float *to, int64_t to_ld)
{
    const int64_t row = blockIdx.x / per_row, first = first_of(per_row);
    const double exponent = g.slow + g.rate * (double)(c0 + row);
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t j = first + i * BLOCK_THREADS;
        if (j >= width)
            return;
        float value = 0.0f;
        if (j < n) {
            const float decay = expf((float)(exponent * (double)(i0 + j))) + g.shift;
            value = from[row * from_ld + j] * decay;
        }
        to[row * to_ld + j] = value;
    }
}

/* sums[e] += product (tiles, n) over the tiles, an element a thread. Reads a product once. */
KERNEL(filter_add_products)
(int64_t n, int64_t tiles, const float *__restrict__ product, double *__restrict__ sums)
{
    const int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= n)
        return;
    double sum = sums[e];
#pragma unroll 8
    for (int64_t i = 0; i < tiles; i++)
        sum += (double)product[i * n + e];
    sums[e] = sum;
}

/* The same for bias and freq, part (tiles, 2 F). */
KERNEL(filter_add_parts)
(int64_t F, int64_t tiles, const double *__restrict__ part, double *__restrict__ db,
 double *__restrict__ dfreq)
{
    const int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= 2 * F)
        return;
    double *to = e < F ? db + e : dfreq + e - F;
    double sum = *to;
    for (int64_t i = 0; i < tiles; i++)
        sum += part[i * 2 * F + e];
    *to = sum;
}

/* Gradients += sums, rounded once. */
KERNEL(filter_deliver)(filter_sums s, const double *__restrict__ sums)
{
    const int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= s.begin[PARTS])
        return;
    int part = 0;
    while (e >= s.begin[part + 1])
        part++;
    s.to[part][e - s.begin[part]] += (float)sums[e];
}

/* The three sine layers at `width` positions from i0 on. */
static status hidden(device *dev, const filter_plan *p, int64_t i0, int64_t width)
{
    const filter_args *a = p->a;
    cudaStream_t stream = cuda_of(dev)->stream;
    unsigned per_row;
    dim3 grid = blocks_for(1 + p->grid.bands, width, &per_row);
    TRY(LAUNCH(filter_encode, grid, BLOCK_THREADS, 0, stream, p->grid, per_row, i0, width, p->z,
               p->span));
    const float *in = p->z;
    for (int l = 0; l < LAYERS; l++) {
        const int64_t K = inputs_of(a, l);
        TRY(gemm_cuda(dev, false, false, a->F, width, K, weight_of(a, l), K, in, p->span, 0.0f,
                      p->u[l], p->span));
        grid = blocks_for(a->F, width, &per_row);
        TRY(LAUNCH(filter_sine, grid, BLOCK_THREADS, 0, stream, per_row, width, p->span,
                   bias_of(a, l), a->freq, (const float *)p->u[l], p->h[l]));
        in = p->h[l];
    }
    return STATUS_OK;
}

static status modulate(device *dev, const filter_plan *p, int64_t c0, int64_t rows, int64_t i0,
                       int64_t n, int64_t width, const float *from, int64_t from_ld, float *to,
                       int64_t to_ld)
{
    unsigned per_row;
    const dim3 grid = blocks_for(rows, width, &per_row);
    return LAUNCH(filter_modulate, grid, BLOCK_THREADS, 0, cuda_of(dev)->stream, p->grid, per_row,
                  p->a->c0 + c0, i0, n, width, from, from_ld, to, to_ld);
}

/* Chunks of channels: what a product has written is modulated while the cache holds it. */
static status span_forward(device *dev, const filter_plan *p, int64_t i0, float *k,
                           int64_t k_stride)
{
    const filter_args *a = p->a;
    const int64_t n = least(p->span, a->L - i0);
    TRY(hidden(dev, p, i0, n));
    for (int64_t c = 0; c < a->dc; c += p->channels) {
        const int64_t rows = least(p->channels, a->dc - c);
        float *to = k + c * k_stride + i0;
        TRY(gemm_cuda(dev, false, false, rows, n, a->F, a->W6 + (a->c0 + c) * a->F, a->F,
                      p->h[LAYERS - 1], p->span, 0.0f, to, k_stride));
        TRY(modulate(dev, p, c, rows, i0, n, n, to, k_stride, to, k_stride));
    }
    return STATUS_OK;
}

extern "C" status filter_forward_cuda(device *dev, const filter_args *a, float *k, int64_t k_stride,
                                      arena *ws)
{
    filter_plan p = plan_of(a);
    const size_t mark = arena_mark(ws);
    status st = arrays_take(&p, false, ws);
    for (int64_t i0 = 0; i0 < a->L && st == STATUS_OK; i0 += p.span)
        st = span_forward(dev, &p, i0, k, k_stride);
    arena_release(ws, mark);
    return st;
}

/* sums += the product of d (M, tile) and in (K, tile) transposed, over `tiles` tiles. */
static status weight_gradient(device *dev, const filter_plan *p, int64_t tiles, int64_t M,
                              int64_t K, const float *d, const float *in, double *sums)
{
    TRY(gemm_batched_cuda(dev, false, true, M, K, p->tile, d, p->span, p->tile, in, p->span,
                          p->tile, 0.0f, p->product, K, M * K, tiles));
    return LAUNCH(filter_add_products, blocks_of(M * K, WARP), WARP, 0, cuda_of(dev)->stream, M * K,
                  tiles, (const float *)p->product, sums);
}

/* Gradient of the last sine, and of W6. */
static status output_backward(device *dev, const filter_plan *p, int64_t i0, int64_t width,
                              const float *dk, int64_t k_stride, double *sums)
{
    const filter_args *a = p->a;
    const int64_t n = least(width, a->L - i0);
    for (int64_t c = 0; c < a->dc; c += p->channels) {
        const int64_t rows = least(p->channels, a->dc - c);
        TRY(modulate(dev, p, c, rows, i0, n, width, dk + c * k_stride + i0, k_stride, p->dh,
                     p->span));
        TRY(gemm_cuda(dev, true, false, a->F, width, rows, a->W6 + (a->c0 + c) * a->F, a->F, p->dh,
                      p->span, c > 0 ? 1.0f : 0.0f, p->d[0], p->span));
        TRY(weight_gradient(dev, p, width / p->tile, rows, a->F, p->dh, p->h[LAYERS - 1],
                            sums + c * a->F));
    }
    return STATUS_OK;
}

/* d: the gradient of layer l's sine in, of its product out; the sums of its bias and of freq. */
static status sine_backward(device *dev, const filter_plan *p, int l, int64_t tiles, float *d,
                            double *db, double *dfreq)
{
    const filter_args *a = p->a;
    cudaStream_t stream = cuda_of(dev)->stream;
    const size_t shared = 2 * (SUMMERS / WARP) * sizeof(double);
    TRY(LAUNCH(filter_sine_backward, (unsigned)(tiles * a->F), SUMMERS, shared, stream, a->F,
               p->tile, p->span, bias_of(a, l), a->freq, (const float *)p->u[l], d, p->part));
    return LAUNCH(filter_add_parts, blocks_of(2 * a->F, WARP), WARP, 0, stream, a->F, tiles,
                  (const double *)p->part, db, dfreq);
}

/* Whole tiles throughout: beyond L gradients are zero, and the layers are finite. */
static status span_backward(device *dev, const filter_plan *p, const filter_sums *s, int64_t i0,
                            const float *dk, int64_t k_stride)
{
    const filter_args *a = p->a;
    const int64_t tiles = (least(p->span, a->L - i0) + p->tile - 1) / p->tile;
    const int64_t width = tiles * p->tile;
    TRY(hidden(dev, p, i0, width));
    TRY(output_backward(dev, p, i0, width, dk, k_stride, p->sums + s->begin[PARTS - 1]));
    float *d = p->d[0], *before = p->d[1];
    for (int l = LAYERS - 1; l >= 0; l--) {
        const int64_t K = inputs_of(a, l);
        TRY(sine_backward(dev, p, l, tiles, d, p->sums + s->begin[2 * l + 1],
                          p->sums + s->begin[2 * LAYERS]));
        TRY(weight_gradient(dev, p, tiles, a->F, K, d, l > 0 ? p->h[l - 1] : p->z,
                            p->sums + s->begin[2 * l]));
        if (l == 0)
            break;
        TRY(gemm_cuda(dev, true, false, a->F, width, a->F, weight_of(a, l), a->F, d, p->span, 0.0f,
                      before, p->span));
        float *swap = d;
        d = before;
        before = swap;
    }
    return STATUS_OK;
}

static filter_sums sums_lay(const filter_args *a, const filter_grads *g)
{
    filter_sums s = {};
    float *const to[PARTS] = {g->W0, g->b0, g->W2,   g->b2,
                              g->W4, g->b4, g->freq, g->W6 + a->c0 * a->F};
    const int64_t size[PARTS] = {a->F * a->emb, a->F, a->F * a->F, a->F,
                                 a->F * a->F,   a->F, a->F,        a->dc * a->F};
    for (int i = 0; i < PARTS; i++) {
        s.to[i] = to[i];
        s.begin[i + 1] = s.begin[i] + size[i];
    }
    return s;
}

extern "C" status filter_backward_cuda(device *dev, const filter_args *a, const float *dk,
                                       int64_t k_stride, const filter_grads *grads, arena *ws)
{
    filter_plan p = plan_of(a);
    const filter_sums s = sums_lay(a, grads);
    const int64_t n = s.begin[PARTS];
    const size_t mark = arena_mark(ws);
    status st = arrays_take(&p, true, ws);
    if (st == STATUS_OK)
        st = clear_cuda(dev, p.sums, (size_t)n * sizeof *p.sums);
    for (int64_t i0 = 0; i0 < a->L && st == STATUS_OK; i0 += p.span)
        st = span_backward(dev, &p, &s, i0, dk, k_stride);
    if (st == STATUS_OK)
        st = LAUNCH(filter_deliver, blocks_of(n, BLOCK_THREADS), BLOCK_THREADS, 0,
                    cuda_of(dev)->stream, s, (const double *)p.sums);
    arena_release(ws, mark);
    return st;
}
