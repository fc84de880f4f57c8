/* sites on a tile of columns: LayerNorm, the queries of its tokens as one product, then its entries
 * in chunks whose runs meet V in one product; and all of it backwards. A tile's entries are one
 * stretch: windows follow each other, and a run lies between two tokens' entries. */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/layernorm.h"
#include "kernels/cpu/sites.h"
#include "kernels/cpu/vmath.h"

/* Entries a chunk: the queries of one stay in half a megabyte. */
static int64_t chunk_room(const sites_args *a)
{
    const int64_t fit = (1 << 17) / (a->classes * a->rank) / 16 * 16;
    return fit > 1024 ? 1024 : fit < 128 ? 128 : fit;
}

static sites_chunk chunk_carve(carve *c, const sites_args *a, bool backward)
{
    const int64_t room = chunk_room(a), CR = a->classes * a->rank, width = 2 * a->rank + a->classes;
    sites_chunk k = {.room = room};
    k.row = carve_bytes(c, room * (int64_t)sizeof *k.row);
    k.column = carve_bytes(c, room * (int64_t)sizeof *k.column);
    k.run = carve_bytes(c, room * (int64_t)sizeof *k.run);
    k.R = carve_floats(c, room * a->rank);
    k.P = carve_floats(c, room * CR);
    k.dR = backward ? carve_floats(c, room * a->rank) : NULL;
    k.z = carve_floats(c, room * a->classes);
    k.logp = carve_floats(c, room * a->classes);
    k.slope = carve_floats(c, room * a->classes);
    k.zeros = carve_floats(c, CR + width);
    k.waste = carve_floats(c, CR);
    k.sum = carve_floats(c, a->rank);
    return k;
}

sites_tile sites_tile_carve(carve *c, const sites_args *a, bool backward)
{
    const int64_t CR = a->classes * a->rank;
    sites_tile t = {0};
    t.h = carve_floats(c, a->d * TILE);
    t.xhat = backward && a->ln_w ? carve_floats(c, a->d * TILE) : t.h;
    t.dh = backward ? carve_floats(c, a->d * TILE) : NULL;
    t.rstd = carve_floats(c, TILE);
    t.q = carve_floats(c, (TILE + 1) * CR);
    t.dq = backward ? carve_floats(c, (TILE + 1) * CR) : NULL;
    t.pre = carve_floats(c, a->H * TILE);
    t.dpre = backward ? carve_floats(c, a->H * TILE) : NULL;
    t.chunk = chunk_carve(c, a, backward);
    return t;
}

void sites_tile_clear(const sites_args *a, sites_tile *t)
{
    const int64_t CR = a->classes * a->rank;
    memset(t->q + TILE * CR, 0, (size_t)CR * sizeof(float));
    memset(t->chunk.zeros, 0, (size_t)(CR + 2 * a->rank + a->classes) * sizeof(float));
    memset(t->chunk.sum, 0, (size_t)a->rank * sizeof(float));
}

/* The first entry of column c or a later one. */
static int64_t entry_of(const sites_args *a, int64_t c)
{
    const int64_t b = c / a->s.Lp, t = c % a->s.Lp;
    if (b >= a->s.B)
        return a->start[a->s.B];
    int64_t low = a->start[b], high = t == 0 ? low : a->start[b + 1];
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (a->token[middle] < t)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Rows (T, CR) += b (CR), or b (CR) += rows: a token at a time. */
KERNEL_CLONES
static void bias_spread(int64_t T, int64_t n, const float *restrict b, float *restrict rows)
{
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = 0; i < n; i++)
            rows[t * n + i] += b[i];
}

KERNEL_CLONES
static void bias_gather(int64_t T, int64_t n, const float *restrict rows, float *restrict b)
{
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = 0; i < n; i++)
            b[i] += rows[t * n + i];
}

/* Columns, h, queries, and the product of the evidence's hidden layer. */
static void tile_open(const sites_args *a, sites_tile *t, int64_t c0, const float *residual)
{
    const int64_t n = columns_of(a->s), d = a->d, CR = a->classes * a->rank;
    t->c0 = c0;
    t->T = least(sites_width(a), n - c0);
    t->first = entry_of(a, c0);
    t->end = entry_of(a, c0 + t->T);
    t->whole = false;
    if (a->ln_w)
        ln_forward(d, t->T, residual + c0, n, a->ln_w, a->ln_b, t->xhat, t->h, TILE, t->rstd);
    else
        tile_copy(d, t->T, residual + c0, n, t->h, TILE);
    gemm_f32(true, true, t->T, CR, d, t->h, TILE, a->W, d, 0.0f, t->q, CR);
    bias_spread(t->T, CR, a->b, t->q);
    if (a->H > 0)
        gemm_f32(false, false, a->H, t->T, d, a->Eh, d, t->h, TILE, 0.0f, t->pre, TILE);
}

/* The tile columns [*from, *to) of a piece that are tokens of its window. */
static bool token_columns(const sites_args *a, const segment *g, int64_t *from, int64_t *to)
{
    *from = g->j0;
    *to = least(g->live, g->j0 + sites_count(a, g->b) - g->t);
    return *from < *to;
}

KERNEL_CLONES
static void evidence_sums(int64_t H, int64_t T, const float *pre, const float *eh, double *sums)
{
    for (int64_t i = 0; i < H; i++) {
        const float *row = pre + i * TILE, b = eh[i];
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < T; j++)
            sum += v_gelu(row[j] + b);
        sums[i] += (double)sum;
    }
}

KERNEL_CLONES
static void evidence_gradients(int64_t H, int64_t T, const float *pre, const float *eh,
                               const float *dhidden, float *dpre)
{
    for (int64_t i = 0; i < H; i++) {
        const float *restrict row = pre + i * TILE;
        float *restrict to = dpre + i * TILE;
        const float b = eh[i], g = dhidden[i];
#pragma omp simd
        for (int64_t j = 0; j < T; j++) {
            float value, slope;
            v_gelu_both(row[j] + b, &value, &slope);
            to[j] = g * slope;
        }
    }
}

/* Entries from `first` on: rows, runs, logits, and what follows from them. */
static void chunk_forward(const sites_args *a, sites_tile *t, int64_t first)
{
    sites_chunk *c = &t->chunk;
    const int64_t CR = a->classes * a->rank;
    c->first = first;
    c->n = least(c->room, t->end - first);
    sites_runs(a, c, t->c0 / a->s.Lp, t->c0);
    if (c->runs > 0)
        gemm_f32(false, true, c->runs, CR, a->rank, c->R, a->rank, a->V, a->rank, 0.0f, c->P, CR);
    sites_logits(a, c, t->q);
    sites_log_sigmoid(c->n * a->classes, c->z, c->logp, c->slope);
}

/* Adds the entries' log-likelihoods to their windows, in order. */
static void chunk_sums(const sites_args *a, const sites_tile *t, const sites_windows *w)
{
    const sites_chunk *c = &t->chunk;
    const int64_t classes = a->classes;
    sites_piece p = {.b = t->c0 / a->s.Lp, .i1 = c->first};
    while (sites_piece_next(a, c->first + c->n, &p)) {
        const float *logp = c->logp + (p.i0 - c->first) * classes;
        double *sum = w->w + p.b * classes;
        for (int64_t i = p.i0; i < p.i1; i++, logp += classes) {
            for (int64_t k = 0; k < classes; k++)
                sum[k] += (double)logp[k];
            if (a->token[i] < 0)
                w->outside[p.b] += (double)logp[0];
            else
                w->carried[p.b] += a->carried[i] != 0;
        }
    }
}

static void chunk_logits(const sites_args *a, const sites_chunk *c, float *site_logits)
{
    float *to = site_logits + (c->first - a->start[0]) * a->classes;
    for (int64_t j = 0; j < c->n; j++)
        for (int64_t k = j * a->classes; k < (j + 1) * a->classes; k++)
            to[k] = a->carried[c->first + j] ? c->z[k] : -c->z[k];
}

void sites_tile_sums(const sites_args *a, sites_tile *t, int64_t c0, const float *residual,
                     const sites_windows *w, float *site_logits)
{
    tile_open(a, t, c0, residual);
    segment g = {0};
    int64_t from, to;
    while (a->H > 0 && segment_next(a->s, c0, t->T, &g))
        if (token_columns(a, &g, &from, &to))
            evidence_sums(a->H, to - from, t->pre + from, a->eh, w->hidden + g.b * a->H);
    for (int64_t i = t->first; i < t->end; i += t->chunk.n) {
        chunk_forward(a, t, i);
        chunk_sums(a, t, w);
        if (site_logits)
            chunk_logits(a, &t->chunk, site_logits);
    }
    t->whole = t->end - t->first <= t->chunk.room;
}

/* Of a chunk that has been forward. */
static void chunk_gradients(const sites_args *a, sites_tile *t, const sites_windows *w, float *dV,
                            float *drows)
{
    sites_chunk *c = &t->chunk;
    const int64_t rank = a->rank, CR = a->classes * rank;
    sites_logit_gradients(a, c, t->c0 / a->s.Lp, w->dw);
    sites_entry_gradients(a, c, t->q, t->dq, drows);
    if (c->runs > 0) {
        gemm_f32(true, false, CR, rank, c->runs, c->P, CR, c->R, rank, 1.0f, dV, rank);
        gemm_f32(false, false, c->runs, rank, CR, c->P, CR, a->V, rank, 0.0f, c->dR, rank);
    }
    sites_place_runs(a, c, drows);
}

/* Evidence's part of dh, added; dEh and deh. */
static void evidence_backward(const sites_args *a, const sites_tile *t, const sites_windows *w,
                              float *dEh, float *deh)
{
    const int64_t H = a->H, d = a->d;
    segment g = {0};
    int64_t from, to;
    while (segment_next(a->s, t->c0, t->T, &g)) {
        for (int64_t i = 0; i < H; i++)
            memset(t->dpre + i * TILE + g.j0, 0, (size_t)(g.j1 - g.j0) * sizeof(float));
        if (token_columns(a, &g, &from, &to))
            evidence_gradients(H, to - from, t->pre + from, a->eh, w->dhidden + g.b * H,
                               t->dpre + from);
    }
    rows_sum(H, t->T, t->dpre, TILE, deh);
    gemm_f32(false, true, H, d, t->T, t->dpre, TILE, t->h, TILE, 1.0f, dEh, d);
    gemm_f32(true, false, d, t->T, H, a->Eh, d, t->dpre, TILE, 1.0f, t->dh, TILE);
}

void sites_tile_gradients(const sites_args *a, sites_tile *t, int64_t c0, bool fresh,
                          const float *residual, const sites_windows *w, const thread_sums *sums,
                          int thread, float *dresidual, float *drows)
{
    const int64_t n = columns_of(a->s), d = a->d, CR = a->classes * a->rank;
    if (!fresh)
        tile_open(a, t, c0, residual);
    memset(t->dq, 0, (size_t)((TILE + 1) * CR) * sizeof(float));
    for (int64_t i = t->first; i < t->end; i += t->chunk.n) {
        if (!fresh || !t->whole)
            chunk_forward(a, t, i);
        chunk_gradients(a, t, w, sums_of(sums, thread, SITES_V), drows);
    }
    sites_piece p = {.b = c0 / a->s.Lp, .i1 = t->first};
    while (sites_piece_next(a, t->end, &p))
        sites_run_gradients(a, p.i0, p.i1, t->chunk.sum, drows);
    bias_gather(t->T, CR, t->dq, sums_of(sums, thread, SITES_B));
    gemm_f32(true, true, CR, d, t->T, t->dq, CR, t->h, TILE, 1.0f, sums_of(sums, thread, SITES_W),
             d);
    gemm_f32(true, true, d, t->T, CR, a->W, d, t->dq, CR, 0.0f, t->dh, TILE);
    if (a->H > 0)
        evidence_backward(a, t, w, sums_of(sums, thread, SITES_EH),
                          sums_of(sums, thread, SITES_EB));
    if (a->ln_w)
        ln_backward(d, t->T, t->dh, TILE, t->xhat, TILE, a->ln_w, t->rstd, dresidual + c0, n, false,
                    sums_of(sums, thread, SITES_LN_W), sums_of(sums, thread, SITES_LN_B));
    else
        tile_copy(d, t->T, t->dh, TILE, dresidual + c0, n);
    zero_pads(a->s, c0, t->T, d, dresidual + c0, n);
}
