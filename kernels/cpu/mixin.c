/* mixin on the CPU: LayerNorm, in_proj, three-tap convolution and gate on one tile. The convolution
 * looks two columns to the left, its backward pass two to the right; a tile computes these columns
 * again (1 % of the product) instead of waiting for its neighbours. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/layernorm.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <omp.h>

#define REACH 2          /* columns that the taps reach beyond a tile */
#define WIDE (TILE + 16) /* row stride of tiles with REACH columns on either side */

/* One thread's tiles. Column REACH of the wide ones is the tile's first. */
typedef struct {
    float *xhat, *n; /* (d, WIDE) */
    float *u;        /* ((N+1)d, WIDE) */
    float *du;       /* ((N+1)d, TILE) */
    float *dn;       /* (d, TILE) */
    float *rstd;     /* (WIDE) */
} mixin_tiles;

/* What belongs to the columns left of the shard, for all sequences; NULL without halo. */
typedef struct {
    float *xhat, *n, *dn; /* (d, 2B) */
    float *u, *du;        /* ((N+1)d, 2B) */
    float *rstd;          /* (2B), rounded up to LN_COLUMNS pieces by the loops */
} mixin_halo;

enum { SUM_LN_W, SUM_LN_B, SUM_W, SUM_B, SUM_TAPS, SUM_TAP_B };

static mixin_tiles tiles_carve(carve *c, const mixin_args *a, bool backward, bool kept)
{
    const int64_t rows = (a->order + 1) * a->d;
    mixin_tiles t = {0};
    t.n = carve_floats(c, a->d * WIDE);
    t.xhat = backward ? carve_floats(c, a->d * WIDE) : t.n;
    t.u = backward && kept ? NULL : carve_floats(c, rows * WIDE);
    t.du = backward ? carve_floats(c, rows * TILE) : NULL;
    t.dn = backward ? carve_floats(c, a->d * TILE) : NULL;
    t.rstd = carve_floats(c, WIDE);
    return t;
}

static mixin_halo halo_carve(carve *c, const mixin_args *a, bool backward)
{
    const int64_t rows = (a->order + 1) * a->d, columns = REACH * a->s.B;
    mixin_halo h = {0};
    if (!a->halo)
        return h;
    h.n = carve_floats(c, a->d * columns);
    h.xhat = backward ? carve_floats(c, a->d * columns) : h.n;
    h.u = carve_floats(c, rows * columns);
    h.rstd = carve_floats(c, columns);
    h.dn = backward ? carve_floats(c, a->d * columns) : NULL;
    h.du = backward ? carve_floats(c, rows * columns) : NULL;
    return h;
}

static thread_sums sums_layout(const mixin_args *a, const mixin_grads *g)
{
    const int64_t rows = (a->order + 1) * a->d;
    thread_sums s = {0};
    sums_part(&s, g ? g->ln_w : NULL, a->d);
    sums_part(&s, g ? g->ln_b : NULL, a->d);
    sums_part(&s, g ? g->W : NULL, rows * a->d);
    sums_part(&s, g ? g->b : NULL, rows);
    sums_part(&s, g ? g->taps : NULL, rows * 3);
    sums_part(&s, g ? g->tap_b : NULL, rows);
    return s;
}

static size_t bytes_needed(const mixin_args *a, int threads, bool backward, bool kept)
{
    carve c = {0};
    thread_sums s = sums_layout(a, NULL);
    halo_carve(&c, a, backward);
    if (backward)
        sums_carve(&s, &c, threads);
    for (int i = 0; i < threads; i++)
        tiles_carve(&c, a, backward, kept);
    return c.used;
}

size_t mixin_workspace_cpu(const device *dev, const mixin_args *a, bool kept)
{
    const size_t forward = bytes_needed(a, dev->threads, false, kept);
    const size_t backward = bytes_needed(a, dev->threads, true, kept);
    return forward > backward ? forward : backward;
}

/* u of the halo columns (stride 2B), bias included. */
static void halo_forward(const mixin_args *a, const mixin_halo *h)
{
    const int64_t columns = REACH * a->s.B, rows = (a->order + 1) * a->d;
    for (int64_t j = 0; j < columns; j += LN_COLUMNS)
        ln_forward(a->d, least(LN_COLUMNS, columns - j), a->halo + j, columns, a->ln_w, a->ln_b,
                   h->xhat + j, h->n + j, columns, h->rstd + j);
    gemm_f32(false, false, rows, columns, a->d, a->W, a->d, h->n, columns, 0.0f, h->u, columns);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < columns; j++)
            h->u[r * columns + j] += a->b[r];
}

/* The two values left of a sequence for row r: halo columns, or zeros. */
static void left_of(const mixin_args *a, const mixin_halo *h, int64_t r, int64_t b, float left[2])
{
    const int64_t columns = REACH * a->s.B;
    left[0] = h->u ? h->u[r * columns + REACH * b] : 0.0f;
    left[1] = h->u ? h->u[r * columns + REACH * b + 1] : 0.0f;
}

/* u = W LN(x) without bias in columns [from, to) of the tile that begins at c0; columns outside of
 * the tensor are not written. */
static void product_tile(const mixin_args *a, const mixin_tiles *t, int64_t c0, int64_t from,
                         int64_t to, const float *residual)
{
    const int64_t n = columns_of(a->s), rows = (a->order + 1) * a->d;
    const int64_t j0 = c0 + from < 0 ? -c0 : from, j1 = least(to, n - c0);
    ln_forward(a->d, j1 - j0, residual + c0 + j0, n, a->ln_w, a->ln_b, t->xhat + REACH + j0,
               t->n + REACH + j0, WIDE, t->rstd + REACH + j0);
    gemm_f32(false, false, rows, j1 - j0, a->d, a->W, a->d, t->n + REACH + j0, WIDE, 0.0f,
             t->u + REACH + j0, WIDE);
}

KERNEL_CLONES
static void add_bias(float *row, int64_t n, float bias)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        row[j] += bias;
}

/* uc[j] = bias + sum_k taps[k] u[j-2+k] over one segment; pads become zero. left: the two values
 * before t = 0. */
KERNEL_CLONES
static void taps_row(const segment *g, const float *restrict u, const float left[2],
                     const float taps[3], float bias, float *restrict uc)
{
    const float k0 = taps[0], k1 = taps[1], k2 = taps[2];
    int64_t j = g->j0;
    for (int64_t t = g->t; t < REACH && j < g->live; t++, j++) /* a sequence's first columns */
        uc[j] = bias + k0 * left[t] + k1 * (t == 0 ? left[1] : u[j - 1]) + k2 * u[j];
#pragma omp simd
    for (int64_t i = j; i < g->live; i++)
        uc[i] = fmaf(k0, u[i - 2], fmaf(k1, u[i - 1], fmaf(k2, u[i], bias)));
    for (int64_t i = g->live; i < g->j1; i++)
        uc[i] = 0.0f;
}

KERNEL_CLONES
static void multiply_row(int64_t n, const float *restrict a, const float *restrict b,
                         float *restrict out)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        out[j] = a[j] * b[j];
}

/* uc of row r in columns [0, width) of a tile; u points at the row's column 0. */
static void taps_tile_row(const mixin_args *a, const mixin_halo *h, int64_t r, int64_t c0,
                          int64_t width, const float *u, float *uc)
{
    segment g = {0};
    while (segment_next(a->s, c0, width, &g)) {
        float left[2];
        left_of(a, h, r, g.b, left);
        taps_row(&g, u, left, a->taps + 3 * r, a->tap_b[r], uc);
    }
}

/* gates and g of a tile from u (row stride ldu, column 0 is c0, bias included). */
static void gate_tile(const mixin_args *a, const mixin_halo *h, int64_t c0, int64_t T,
                      const float *u, int64_t ldu, float *gates, float *g)
{
    const int64_t n = columns_of(a->s), d = a->d, N = a->order;
    float x[TILE] __attribute__((aligned(64))), v[TILE] __attribute__((aligned(64)));
    for (int64_t r = 0; r < (N - 1) * d; r++)
        taps_tile_row(a, h, r, c0, T, u + r * ldu, gates + r * n + c0);
    for (int64_t c = 0; c < d; c++) {
        taps_tile_row(a, h, (N - 1) * d + c, c0, T, u + ((N - 1) * d + c) * ldu, x);
        taps_tile_row(a, h, N * d + c, c0, T, u + (N * d + c) * ldu, v);
        multiply_row(T, x, v, g + c * n + c0);
    }
}

static void forward_tile(const mixin_args *a, const mixin_tiles *t, const mixin_halo *h, int64_t c0,
                         const float *residual, float *u, float *gates, float *g)
{
    const int64_t n = columns_of(a->s), T = least(TILE, n - c0), rows = (a->order + 1) * a->d;
    product_tile(a, t, c0, -REACH, T, residual);
    for (int64_t r = 0; r < rows; r++) {
        add_bias(t->u + r * WIDE, T + REACH, a->b[r]);
        if (u)
            memcpy(u + r * n + c0, t->u + r * WIDE + REACH, (size_t)T * sizeof(float));
    }
    if (u)
        zero_pads(a->s, c0, T, rows, u + c0, n);
    gate_tile(a, h, c0, T, t->u + REACH, WIDE, gates, g);
}

status mixin_forward_cpu(device *dev, const mixin_args *a, const float *residual, void *u,
                         void *gates, void *g, arena *ws)
{
    TRY(fp32_alone(a->mixed, "mixin"));
    const size_t bytes = bytes_needed(a, dev->threads, false, u != NULL), mark = arena_mark(ws);
    carve all = {arena_take(ws, bytes), 0};
    if (!all.base)
        return workspace_short("mixin", bytes, ws);
    const mixin_halo h = halo_carve(&all, a, false);
    if (h.u)
        halo_forward(a, &h);
    const size_t each = (bytes - all.used) / (size_t)dev->threads;
    const int64_t tiles = tiles_of(a->s);
#pragma omp parallel num_threads(dev->threads)
    {
        const int thread = omp_get_thread_num();
        const tile_share mine = share_of(tiles, omp_get_num_threads(), thread);
        carve c = {all.base, all.used + each * (size_t)thread};
        const mixin_tiles t = tiles_carve(&c, a, false, u != NULL);
        for (int64_t i = mine.first; i < mine.end; i++)
            forward_tile(a, &t, &h, i * TILE, residual, u, gates, g);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

status mixin_regate_cpu(device *dev, const mixin_args *a, const void *u, void *gates, void *g,
                        arena *ws)
{
    TRY(fp32_alone(a->mixed, "mixin"));
    carve count = {0};
    halo_carve(&count, a, false);
    const size_t mark = arena_mark(ws);
    carve all = {arena_take(ws, count.used), 0};
    if (!all.base)
        return workspace_short("mixin", count.used, ws);
    const mixin_halo h = halo_carve(&all, a, false);
    if (h.u)
        halo_forward(a, &h);
    const int64_t tiles = tiles_of(a->s), n = columns_of(a->s);
    const float *kept = u;
#pragma omp parallel num_threads(dev->threads)
    {
        const tile_share mine = share_of(tiles, omp_get_num_threads(), omp_get_thread_num());
        for (int64_t i = mine.first; i < mine.end; i++)
            gate_tile(a, &h, i * TILE, least(TILE, n - i * TILE), kept + i * TILE, n, gates, g);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

/* One row of the convolution's gradients over a tile: duc has REACH columns beyond the tile's T. */
typedef struct {
    float taps[3], bias, du_sum;
} row_sums;

/* du[j] = taps[2] duc[j] + taps[1] duc[j+1] + taps[0] duc[j+2] within a sequence (it ends at `end`,
 * in tile columns), and the sums over j in the segment that are the gradients of taps and biases.
 */
KERNEL_CLONES
static void taps_backward_row(const segment *g, int64_t end, const float *restrict duc,
                              const float *restrict u, const float left[2], const float taps[3],
                              float *restrict du, row_sums *s)
{
    const float k0 = taps[0], k1 = taps[1], k2 = taps[2];
    int64_t inner = g->live > end - REACH ? end - REACH : g->live;
    inner = inner < g->j0 ? g->j0 : inner;
    float sum = 0.0f, bias = 0.0f, s0 = 0.0f, s1 = 0.0f, s2 = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = g->j0; j < inner; j++) {
        const float e = fmaf(k0, duc[j + 2], fmaf(k1, duc[j + 1], k2 * duc[j]));
        du[j] = e;
        sum += e;
    }
    for (int64_t j = inner; j < g->live; j++) { /* the sequence's last columns */
        du[j] = k2 * duc[j] + (j + 1 < end ? k1 * duc[j + 1] : 0.0f);
        sum += du[j];
    }
    for (int64_t j = g->live; j < g->j1; j++)
        du[j] = 0.0f;
    int64_t j = g->j0;
    for (int64_t t = g->t; t < REACH && j < g->live; t++, j++) {
        s0 += duc[j] * left[t];
        s1 += duc[j] * (t == 0 ? left[1] : u[j - 1]);
        s2 += duc[j] * u[j];
        bias += duc[j];
    }
#pragma omp simd reduction(+ : s0, s1, s2, bias)
    for (int64_t i = j; i < g->live; i++) {
        s0 += duc[i] * u[i - 2];
        s1 += duc[i] * u[i - 1];
        s2 += duc[i] * u[i];
        bias += duc[i];
    }
    s->taps[0] += s0;
    s->taps[1] += s1;
    s->taps[2] += s2;
    s->bias += bias;
    s->du_sum += sum;
}

/* Where a sequence begins in a tile: the gradient of u in the two halo columns. A shard of one
 * column passes duc[j+1] = 0, a pad. */
static void halo_du(const mixin_args *a, const mixin_halo *h, int64_t r, const segment *g,
                    const float *duc)
{
    if (!h->du || g->t != 0)
        return;
    float *du = h->du + r * REACH * a->s.B + REACH * g->b;
    const float next = a->s.L > 1 ? duc[g->j0 + 1] : 0.0f;
    du[0] = a->taps[3 * r] * duc[g->j0];
    du[1] = a->taps[3 * r + 1] * duc[g->j0] + a->taps[3 * r] * next;
}

/* Gradients through the convolution of row r of a tile. */
static void taps_backward_tile_row(const mixin_args *a, const mixin_halo *h, int64_t r, int64_t c0,
                                   int64_t T, const float *duc, const float *u, float *du,
                                   const thread_sums *sums, int thread)
{
    row_sums s = {0};
    segment g = {0};
    while (segment_next(a->s, c0, T, &g)) {
        float left[2];
        left_of(a, h, r, g.b, left);
        taps_backward_row(&g, g.j0 - g.t + a->s.L, duc, u, left, a->taps + 3 * r, du, &s);
        halo_du(a, h, r, &g, duc);
    }
    float *taps = sums_of(sums, thread, SUM_TAPS) + 3 * r;
    for (int k = 0; k < 3; k++)
        taps[k] += s.taps[k];
    sums_of(sums, thread, SUM_TAP_B)[r] += s.bias;
    sums_of(sums, thread, SUM_B)[r] += s.du_sum;
}

/* du of a whole tile from dgates and dg. u: column 0 is c0, bias included, row stride ldu. `reach`
 * columns right of the tile exist in the tensor. */
static void ungate_tile(const mixin_args *a, const mixin_halo *h, int64_t c0, int64_t T,
                        int64_t reach, const float *u, int64_t ldu, const float *dgates,
                        const float *dg, float *du, const thread_sums *sums, int thread)
{
    const int64_t n = columns_of(a->s), d = a->d, N = a->order, W = T + reach;
    float x[WIDE] __attribute__((aligned(64))), v[WIDE] __attribute__((aligned(64)));
    float dx[WIDE] __attribute__((aligned(64))), dv[WIDE] __attribute__((aligned(64)));
    for (int64_t r = 0; r < (N - 1) * d; r++)
        taps_backward_tile_row(a, h, r, c0, T, dgates + r * n + c0, u + r * ldu, du + r * TILE,
                               sums, thread);
    for (int64_t c = 0; c < d; c++) {
        const int64_t rx = (N - 1) * d + c, rv = N * d + c;
        const float *e = dg + c * n + c0;
        taps_tile_row(a, h, rx, c0, W, u + rx * ldu, x);
        taps_tile_row(a, h, rv, c0, W, u + rv * ldu, v);
        multiply_row(W, e, v, dx);
        multiply_row(W, e, x, dv);
        taps_backward_tile_row(a, h, rx, c0, T, dx, u + rx * ldu, du + rx * TILE, sums, thread);
        taps_backward_tile_row(a, h, rv, c0, T, dv, u + rv * ldu, du + rv * TILE, sums, thread);
    }
}

static void backward_tile(const mixin_args *a, const mixin_tiles *t, const mixin_halo *h,
                          const thread_sums *s, int thread, int64_t c0, const float *residual,
                          const float *u, const float *dgates, const float *dg, float *dresidual)
{
    const int64_t n = columns_of(a->s), d = a->d, rows = (a->order + 1) * d;
    const int64_t T = least(TILE, n - c0), reach = least(REACH, n - c0 - T);
    const float *ut = u ? u + c0 : t->u + REACH;
    if (u) {
        ln_forward(d, T, residual + c0, n, a->ln_w, a->ln_b, t->xhat + REACH, t->n + REACH, WIDE,
                   t->rstd + REACH);
    } else {
        product_tile(a, t, c0, -REACH, T + reach, residual);
        for (int64_t r = 0; r < rows; r++)
            add_bias(t->u + r * WIDE, T + REACH + reach, a->b[r]);
    }
    ungate_tile(a, h, c0, T, reach, ut, u ? n : WIDE, dgates, dg, t->du, s, thread);
    gemm_f32(false, true, rows, d, T, t->du, TILE, t->n + REACH, WIDE, 1.0f,
             sums_of(s, thread, SUM_W), d);
    gemm_f32(true, false, d, T, rows, a->W, d, t->du, TILE, 0.0f, t->dn, TILE);
    ln_backward(d, T, t->dn, TILE, t->xhat + REACH, WIDE, a->ln_w, t->rstd + REACH, dresidual + c0,
                n, true, sums_of(s, thread, SUM_LN_W), sums_of(s, thread, SUM_LN_B));
}

/* The halo's own columns: their part of the parameter gradients, and dhalo. One thread, after all
 * tiles. */
static void halo_backward(const mixin_args *a, const mixin_halo *h, const mixin_grads *grads,
                          float *dhalo)
{
    const int64_t columns = REACH * a->s.B, rows = (a->order + 1) * a->d, d = a->d;
    gemm_f32(false, true, rows, d, columns, h->du, columns, h->n, columns, 1.0f, grads->W, d);
    rows_sum(rows, columns, h->du, columns, grads->b);
    gemm_f32(true, false, d, columns, rows, a->W, d, h->du, columns, 0.0f, h->dn, columns);
    for (int64_t j = 0; j < columns; j += LN_COLUMNS)
        ln_backward(d, least(LN_COLUMNS, columns - j), h->dn + j, columns, h->xhat + j, columns,
                    a->ln_w, h->rstd + j, dhalo + j, columns, false, grads->ln_w, grads->ln_b);
}

status mixin_backward_cpu(device *dev, const mixin_args *a, const float *residual, const void *u,
                          const void *dgates, const void *dg, float *dresidual, float *dhalo,
                          const mixin_grads *grads, arena *ws)
{
    TRY(fp32_alone(a->mixed, "mixin"));
    const size_t bytes = bytes_needed(a, dev->threads, true, u != NULL), mark = arena_mark(ws);
    carve all = {arena_take(ws, bytes), 0};
    if (!all.base)
        return workspace_short("mixin", bytes, ws);
    const mixin_halo h = halo_carve(&all, a, true);
    if (h.u)
        halo_forward(a, &h);
    thread_sums sums = sums_layout(a, grads);
    sums_carve(&sums, &all, dev->threads);
    const size_t each = (bytes - all.used) / (size_t)dev->threads;
    const int64_t tiles = tiles_of(a->s);
#pragma omp parallel num_threads(dev->threads)
    {
        const int team = omp_get_num_threads(), thread = omp_get_thread_num();
        const tile_share mine = share_of(tiles, team, thread);
        carve c = {all.base, all.used + each * (size_t)thread};
        const mixin_tiles t = tiles_carve(&c, a, true, u != NULL);
        sums_clear(&sums, thread);
        for (int64_t i = mine.first; i < mine.end; i++)
            backward_tile(a, &t, &h, &sums, thread, i * TILE, residual, u, dgates, dg, dresidual);
#pragma omp barrier
        sums_reduce(&sums, team, thread);
    }
    if (h.u)
        halo_backward(a, &h, grads, dhalo);
    arena_release(ws, mark);
    return STATUS_OK;
}
