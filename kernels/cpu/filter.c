/* filter: the implicit filter tile by tile over positions. A tile's hidden layers stand in a
 * thread's workspace and are forgotten; backward computes them again. Gradients are fp32 products
 * over a tile, and tiles are summed in fp64 by groups that depend on the length alone, so that any
 * number of threads gives the same bits. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <omp.h>

#define LAYERS 3       /* sines */
#define TILE_LEAST 128 /* positions */
#define TILE_MOST 512  /* at 64 hidden units the layers of a tile stay in 1 MB */
#define GROUPS_MOST 32 /* partial sums in fp64; at least two tiles each */
#define CHANNELS 64    /* channels of k at a time */

/* Where the parts of a group's sums begin. */
typedef struct {
    int64_t W[LAYERS], b[LAYERS], freq, W6, end;
} sums_layout;

/* One thread's pieces; T columns each. */
typedef struct {
    float *z;                     /* (emb, T) */
    float *u[LAYERS], *a[LAYERS]; /* (F, T): before and after a sine; forward has one of each */
    float *dh;                    /* (CHANNELS, T) */
    float *d[2];                  /* (F, T): gradients of a and u in turns */
    float *product;               /* gradient of one matrix over one tile */
} thread_tiles;

typedef struct {
    const filter_args *a;
    int64_t T, tiles, groups, bands;
    sums_layout at;
    double *turn;  /* (bands, 2, T) cos and sin of f * 2 pi j / l_max */
    double *sums;  /* (groups, at.end) */
    char *threads; /* (threads, thread_bytes) */
    size_t thread_bytes;
} filter_plan;

static const float *weight_of(const filter_args *a, int layer)
{
    return layer == 0 ? a->W0 : layer == 1 ? a->W2 : a->W4;
}

static const float *bias_of(const filter_args *a, int layer)
{
    return layer == 0 ? a->b0 : layer == 1 ? a->b2 : a->b4;
}

/* Inputs of a layer: the encoding for the first, the layer before for the others. */
static int64_t inputs_of(const filter_args *a, int layer)
{
    return layer == 0 ? a->emb : a->F;
}

static thread_tiles tiles_carve(const filter_plan *p, bool backward, carve *c)
{
    const filter_args *a = p->a;
    thread_tiles t = {.z = carve_floats(c, a->emb * p->T)};
    for (int l = 0; l < LAYERS; l++) {
        const bool own = backward || l == 0;
        t.u[l] = own ? carve_floats(c, a->F * p->T) : t.u[0];
        t.a[l] = own ? carve_floats(c, a->F * p->T) : t.a[0];
    }
    if (!backward)
        return t;
    const int64_t wide = a->F > a->emb ? a->F : a->emb;
    t.dh = carve_floats(c, least(CHANNELS, a->dc) * p->T);
    t.d[0] = carve_floats(c, a->F * p->T);
    t.d[1] = carve_floats(c, a->F * p->T);
    t.product = carve_floats(c, a->F * (wide > CHANNELS ? wide : CHANNELS));
    return t;
}

static thread_tiles thread_tiles_of(const filter_plan *p, bool backward, int thread)
{
    carve c = {.base = p->threads + (size_t)thread * p->thread_bytes};
    return tiles_carve(p, backward, &c);
}

static sums_layout sums_lay(const filter_args *a)
{
    sums_layout s = {0};
    int64_t at = 0;
    for (int l = 0; l < LAYERS; l++) {
        s.W[l] = at;
        s.b[l] = at + a->F * inputs_of(a, l);
        at = s.b[l] + a->F;
    }
    s.freq = at;
    s.W6 = at + a->F;
    s.end = (s.W6 + a->dc * a->F + 7) / 8 * 8; /* groups begin on cache lines of their own */
    return s;
}

/* Tile and groups from the length and the width of the layers alone. */
static filter_plan plan_of(const filter_args *a, bool backward)
{
    filter_plan p = {.a = a, .bands = (a->emb - 1) / 2, .at = sums_lay(a)};
    int64_t T = a->L / 8 / 64 * 64, most = TILE_MOST;
    while (most > TILE_LEAST && a->F * most > 64 * TILE_MOST)
        most /= 2;
    T = T < TILE_LEAST ? TILE_LEAST : T;
    p.T = least(T, most);
    p.tiles = (a->L + p.T - 1) / p.T;
    p.groups = p.tiles < 4 ? 1 : least(p.tiles / 2, GROUPS_MOST);
    carve c = {0};
    tiles_carve(&p, backward, &c);
    p.thread_bytes = c.used;
    return p;
}

static size_t plan_carve(filter_plan *p, bool backward, int threads, char *base)
{
    carve c = {.base = base};
    p->turn = carve_bytes(&c, p->bands * 2 * p->T * (int64_t)sizeof(double));
    p->sums = backward ? carve_bytes(&c, p->groups * p->at.end * (int64_t)sizeof(double)) : NULL;
    p->threads = carve_bytes(&c, (int64_t)p->thread_bytes * threads);
    return c.used;
}

size_t filter_workspace_cpu(const device *dev, const filter_args *a)
{
    filter_plan p = plan_of(a, true);
    return plan_carve(&p, true, dev->threads, NULL);
}

/* f = linspace(1e-4, bands - 1, bands) */
static double band_frequency(const filter_plan *p, int64_t band)
{
    const double first = 1e-4, last = (double)(p->bands - 1);
    return p->bands == 1 ? first : first + (last - first) * (double)band / last;
}

static double angle_of(const filter_plan *p, int64_t band, int64_t i)
{
    return band_frequency(p, band) * (2 * M_PI * (double)i / (double)p->a->l_max);
}

static void turn_fill(const filter_plan *p)
{
    for (int64_t b = 0; b < p->bands; b++) {
        double *c = p->turn + b * 2 * p->T, *s = c + p->T;
        for (int64_t j = 0; j < p->T; j++) {
            c[j] = cos(angle_of(p, b, j));
            s[j] = sin(angle_of(p, b, j));
        }
    }
}

/* z (emb, width) of the tile that begins at position i0. cos(x + y) and sin(x + y) in double from
 * the tile's first angle and the table: an fp32 angle would lose digits that freq then magnifies.
 */
static void encode(const filter_plan *p, int64_t i0, int64_t width, float *restrict z)
{
    const double step = p->a->l_max > 1 ? 1.0 / (double)(p->a->l_max - 1) : 0.0;
    for (int64_t j = 0; j < width; j++)
        z[j] = (float)((double)(i0 + j) * step);
    for (int64_t b = 0; b < p->bands; b++) {
        const double *restrict c = p->turn + b * 2 * p->T, *restrict s = c + p->T;
        const double c0 = cos(angle_of(p, b, i0)), s0 = sin(angle_of(p, b, i0));
        float *restrict re = z + (1 + b) * p->T, *restrict im = z + (1 + p->bands + b) * p->T;
        for (int64_t j = 0; j < width; j++) {
            re[j] = (float)(c0 * c[j] - s0 * s[j]);
            im[j] = (float)-(s0 * c[j] + c0 * s[j]);
        }
    }
}

/* u += b, a = sin(freq u) for one unit. */
KERNEL_CLONES
static void sine_row(int64_t n, float b, float freq, float *restrict u, float *restrict a)
{
    for (int64_t j = 0; j < n; j++) {
        u[j] += b;
        a[j] = v_sin(freq * u[j]);
    }
}

/* d: da in, du = da freq cos(freq u) out; sums of du and of da cos(freq u) u. */
KERNEL_CLONES
static void sine_row_backward(int64_t n, float freq, const float *restrict u, float *restrict d,
                              double *db, double *dfreq)
{
    float sum = 0, sum_freq = 0;
#pragma omp simd reduction(+ : sum, sum_freq)
    for (int64_t j = 0; j < n; j++) {
        const float c = d[j] * v_cos(freq * u[j]);
        d[j] = freq * c;
        sum += freq * c;
        sum_freq += c * u[j];
    }
    *db += (double)sum;
    *dfreq += (double)sum_freq;
}

/* to = from (exp(-tau |delta|) + shift) for one channel; to may be from. `base` is the decay at the
 * tile's first position, `rate` its exponent a position. */
KERNEL_CLONES
static void modulate_row(int64_t n, float base, float rate, float shift, const float *from,
                         float *to)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        to[j] = from[j] * (base * v_exp(rate * (float)j) + shift);
}

/* delta = linspace(ln(0.01) / 1.5, ln(0.01) / 0.3) over all channels. */
static void modulate(const filter_args *a, int64_t channel, int64_t i0, int64_t n,
                     const float *from, float *to)
{
    const double slow = -log(0.01) / 1.5, fast = -log(0.01) / 0.3;
    const double part = a->channels > 1 ? (double)channel / (double)(a->channels - 1) : 0.0;
    const double delta = slow + (fast - slow) * part;
    const double rate = a->l_max > 1 ? -delta / (double)(a->l_max - 1) : 0.0;
    modulate_row(n, (float)exp(rate * (double)i0), (float)rate, (float)a->shift, from, to);
}

/* The three sine layers of the tile [i0, i0 + n). */
static void hidden(const filter_plan *p, int64_t i0, int64_t n, const thread_tiles *t)
{
    const filter_args *a = p->a;
    encode(p, i0, n, t->z);
    const float *in = t->z;
    for (int l = 0; l < LAYERS; l++) {
        const int64_t K = inputs_of(a, l);
        gemm_f32(false, false, a->F, n, K, weight_of(a, l), K, in, p->T, 0.0f, t->u[l], p->T);
        for (int64_t f = 0; f < a->F; f++)
            sine_row(n, bias_of(a, l)[f], a->freq[f], t->u[l] + f * p->T, t->a[l] + f * p->T);
        in = t->a[l];
    }
}

static void tile_forward(const filter_plan *p, int64_t tile, float *k, int64_t k_stride,
                         const thread_tiles *t)
{
    const filter_args *a = p->a;
    const int64_t i0 = tile * p->T, n = least(p->T, a->L - i0);
    hidden(p, i0, n, t);
    for (int64_t c0 = 0; c0 < a->dc; c0 += CHANNELS) {
        const int64_t rows = least(CHANNELS, a->dc - c0);
        float *to = k + c0 * k_stride + i0;
        gemm_f32(false, false, rows, n, a->F, a->W6 + (a->c0 + c0) * a->F, a->F, t->a[LAYERS - 1],
                 p->T, 0.0f, to, k_stride);
        for (int64_t c = 0; c < rows; c++)
            modulate(a, a->c0 + c0 + c, i0, n, to + c * k_stride, to + c * k_stride);
    }
}

/* sums += product */
static void sums_add(int64_t n, const float *restrict product, double *restrict sums)
{
    for (int64_t i = 0; i < n; i++)
        sums[i] += (double)product[i];
}

/* Gradient of the last sine's output, and of W6. */
static void output_backward(const filter_plan *p, int64_t i0, int64_t n, const float *dk,
                            int64_t k_stride, const thread_tiles *t, double *sums)
{
    const filter_args *a = p->a;
    for (int64_t c0 = 0; c0 < a->dc; c0 += CHANNELS) {
        const int64_t rows = least(CHANNELS, a->dc - c0);
        for (int64_t c = 0; c < rows; c++)
            modulate(a, a->c0 + c0 + c, i0, n, dk + (c0 + c) * k_stride + i0, t->dh + c * p->T);
        gemm_f32(true, false, a->F, n, rows, a->W6 + (a->c0 + c0) * a->F, a->F, t->dh, p->T,
                 c0 > 0 ? 1.0f : 0.0f, t->d[0], p->T);
        gemm_f32(false, true, rows, a->F, n, t->dh, p->T, t->a[LAYERS - 1], p->T, 0.0f, t->product,
                 a->F);
        sums_add(rows * a->F, t->product, sums + p->at.W6 + c0 * a->F);
    }
}

static void tile_backward(const filter_plan *p, int64_t tile, const float *dk, int64_t k_stride,
                          const thread_tiles *t, double *sums)
{
    const filter_args *a = p->a;
    const int64_t i0 = tile * p->T, n = least(p->T, a->L - i0);
    hidden(p, i0, n, t);
    output_backward(p, i0, n, dk, k_stride, t, sums);
    float *d = t->d[0], *before = t->d[1];
    for (int l = LAYERS - 1; l >= 0; l--) {
        for (int64_t f = 0; f < a->F; f++)
            sine_row_backward(n, a->freq[f], t->u[l] + f * p->T, d + f * p->T,
                              sums + p->at.b[l] + f, sums + p->at.freq + f);
        const int64_t K = inputs_of(a, l);
        gemm_f32(false, true, a->F, K, n, d, p->T, l > 0 ? t->a[l - 1] : t->z, p->T, 0.0f,
                 t->product, K);
        sums_add(a->F * K, t->product, sums + p->at.W[l]);
        if (l == 0)
            break;
        gemm_f32(true, false, a->F, n, a->F, weight_of(a, l), a->F, d, p->T, 0.0f, before, p->T);
        float *swap = d;
        d = before;
        before = swap;
    }
}

/* to += sum over groups, in their order; called by every thread of a team. */
static void sums_deliver(const filter_plan *p, int64_t at, int64_t n, float *to)
{
#pragma omp for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t g = 0; g < p->groups; g++)
            sum += p->sums[g * p->at.end + at + i];
        to[i] += (float)sum;
    }
}

static status workspace_take(filter_plan *p, bool backward, int threads, arena *ws)
{
    const size_t bytes = plan_carve(p, backward, threads, NULL);
    char *base = arena_take(ws, bytes);
    if (!base)
        return workspace_short("filter", bytes, ws);
    plan_carve(p, backward, threads, base);
    turn_fill(p);
    return STATUS_OK;
}

status filter_forward_cpu(device *dev, const filter_args *a, float *k, int64_t k_stride, arena *ws)
{
    const size_t mark = arena_mark(ws);
    filter_plan p = plan_of(a, false);
    TRY(workspace_take(&p, false, dev->threads, ws));
#pragma omp parallel num_threads(dev->threads)
    {
        const thread_tiles t = thread_tiles_of(&p, false, omp_get_thread_num());
#pragma omp for schedule(dynamic, 1)
        for (int64_t tile = 0; tile < p.tiles; tile++)
            tile_forward(&p, tile, k, k_stride, &t);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

status filter_backward_cpu(device *dev, const filter_args *a, const float *dk, int64_t k_stride,
                           const filter_grads *grads, arena *ws)
{
    const size_t mark = arena_mark(ws);
    filter_plan p = plan_of(a, true);
    TRY(workspace_take(&p, true, dev->threads, ws));
    float *const dW[LAYERS] = {grads->W0, grads->W2, grads->W4};
    float *const db[LAYERS] = {grads->b0, grads->b2, grads->b4};
#pragma omp parallel num_threads(dev->threads)
    {
        const thread_tiles t = thread_tiles_of(&p, true, omp_get_thread_num());
#pragma omp for schedule(dynamic, 1)
        for (int64_t g = 0; g < p.groups; g++) {
            double *sums = p.sums + g * p.at.end;
            memset(sums, 0, (size_t)p.at.end * sizeof *sums);
            for (int64_t i = p.tiles * g / p.groups; i < p.tiles * (g + 1) / p.groups; i++)
                tile_backward(&p, i, dk, k_stride, &t, sums);
        }
        for (int l = 0; l < LAYERS; l++) {
            sums_deliver(&p, p.at.W[l], a->F * inputs_of(a, l), dW[l]);
            sums_deliver(&p, p.at.b[l], a->F, db[l]);
        }
        sums_deliver(&p, p.at.freq, a->F, grads->freq);
        sums_deliver(&p, p.at.W6, a->dc * a->F, grads->W6 + a->c0 * a->F);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}
