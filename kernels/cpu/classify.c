/* classify on the CPU: the pass over positions (LayerNorm and pool) runs in tiles over the threads,
 * what follows is a few small products of all sequences at once. The mean is taken of the
 * normalised values and scaled after. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/layernorm.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <omp.h>

/* One thread's tiles. */
typedef struct {
    float *xhat, *dn; /* (d, TILE) */
    float *rstd;      /* (TILE) */
    float *pooled;    /* (B, d) this thread's sums of the normalised values */
} pool_tiles;

/* All sequences: (B, .) row by row. */
typedef struct {
    float *pooled, *dpooled; /* (B, d) */
    float *pre, *hidden;     /* (B, H) before and after GELU; dhidden in place of pre */
    float *logits;           /* (B, classes), then their gradient */
    float *unit;             /* (d) ones, and (d) zeros behind them: LayerNorm without affine */
} class_tensors;

enum { SUM_LN_W, SUM_LN_B };

static pool_tiles tiles_carve(carve *c, const classify_args *a, bool backward)
{
    pool_tiles t = {0};
    t.xhat = carve_floats(c, a->d * TILE);
    t.dn = backward ? carve_floats(c, a->d * TILE) : NULL;
    t.rstd = carve_floats(c, TILE);
    t.pooled = carve_floats(c, a->s.B * a->d);
    return t;
}

static class_tensors tensors_carve(carve *c, const classify_args *a, bool backward)
{
    class_tensors t = {0};
    t.pooled = carve_floats(c, a->s.B * a->d);
    t.dpooled = backward ? carve_floats(c, a->s.B * a->d) : NULL;
    t.pre = a->H > 0 ? carve_floats(c, a->s.B * a->H) : NULL;
    t.hidden = a->H > 0 ? carve_floats(c, a->s.B * a->H) : t.pooled;
    t.logits = carve_floats(c, a->s.B * a->classes);
    t.unit = carve_floats(c, 2 * a->d);
    return t;
}

static thread_sums sums_layout(const classify_args *a, const classify_grads *g)
{
    thread_sums s = {0};
    sums_part(&s, g ? g->ln_w : NULL, a->ln_w ? a->d : 0);
    sums_part(&s, g ? g->ln_b : NULL, a->ln_w ? a->d : 0);
    return s;
}

static size_t bytes_needed(const classify_args *a, int threads, bool backward)
{
    carve c = {0};
    thread_sums s = sums_layout(a, NULL);
    tensors_carve(&c, a, backward);
    if (backward)
        sums_carve(&s, &c, threads);
    for (int i = 0; i < threads; i++)
        tiles_carve(&c, a, backward);
    return c.used;
}

size_t classify_workspace_cpu(const device *dev, const classify_args *a)
{
    return bytes_needed(a, dev->threads, true);
}

/* Positions of a segment that are pooled: [*from, *to) in tile columns. */
static bool pooled_columns(const classify_args *a, const segment *g, int64_t *from, int64_t *to)
{
    const int64_t last = g->j0 + a->s.L - 1 - g->t; /* tile column of position L - 1 */
    *from = a->last ? last : g->j0;
    *to = a->last ? last + 1 : g->live;
    return *from >= g->j0 && *to <= g->live && *from < *to;
}

/* Normalised values of one piece (or the values themselves without norm) into xhat, from column 0.
 */
static void normalise(const classify_args *a, const pool_tiles *t, const class_tensors *all,
                      int64_t c0, int64_t T, const float *residual)
{
    const int64_t n = columns_of(a->s);
    if (a->ln_w)
        ln_forward(a->d, T, residual + c0, n, all->unit, all->unit + a->d, t->xhat, t->xhat, TILE,
                   t->rstd);
    else
        tile_copy(a->d, T, residual + c0, n, t->xhat, TILE);
}

static void pool_tile(const classify_args *a, const pool_tiles *t, const class_tensors *all,
                      int64_t c0, const float *residual)
{
    const int64_t width = least(TILE, columns_of(a->s) - c0);
    segment g = {0};
    int64_t from, to;
    while (segment_next(a->s, c0, width, &g)) {
        if (!pooled_columns(a, &g, &from, &to))
            continue;
        normalise(a, t, all, c0 + from, to - from, residual);
        rows_sum(a->d, to - from, t->xhat, TILE, t->pooled + g.b * a->d);
    }
}

/* pooled of all sequences: the threads' sums in thread order, divided, scaled. */
static void pool_finish(const classify_args *a, const class_tensors *all, const float *first,
                        size_t each, int team)
{
    const float share = a->last ? 1.0f : 1.0f / (float)a->s.L;
    for (int64_t i = 0; i < a->s.B * a->d; i++) {
        float sum = 0.0f;
        for (int thread = 0; thread < team; thread++)
            sum += first[(int64_t)(each / sizeof(float)) * thread + i];
        const int64_t c = i % a->d;
        all->pooled[i] = a->ln_w ? fmaf(sum * share, a->ln_w[c], a->ln_b[c]) : sum * share;
    }
}

static void pool_all(device *dev, const classify_args *a, const class_tensors *all, carve tiles_at,
                     size_t each, bool backward, const float *residual)
{
    for (int64_t c = 0; c < a->d; c++) {
        all->unit[c] = 1.0f;
        all->unit[a->d + c] = 0.0f;
    }
    const int64_t tiles = tiles_of(a->s);
    int team = 1;
#pragma omp parallel num_threads(dev->threads)
    {
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
        const tile_share mine = share_of(tiles, threads, thread);
        carve c = {tiles_at.base, tiles_at.used + each * (size_t)thread};
        const pool_tiles t = tiles_carve(&c, a, backward);
        if (thread == 0)
            team = threads;
        memset(t.pooled, 0, (size_t)(a->s.B * a->d) * sizeof(float));
        for (int64_t i = mine.first; i < mine.end; i++)
            pool_tile(a, &t, all, i * TILE, residual);
    }
    carve c = tiles_at;
    pool_finish(a, all, tiles_carve(&c, a, backward).pooled, each, team);
}

/* Hidden layer and logits of all sequences. */
static void logits_all(const classify_args *a, const class_tensors *all)
{
    const int64_t B = a->s.B, H = a->H, K = H > 0 ? H : a->d;
    if (H > 0) {
        gemm_f32(false, true, B, H, a->d, all->pooled, a->d, a->Wh, a->d, 0.0f, all->pre, H);
        for (int64_t i = 0; i < B * H; i++) {
            all->pre[i] += a->bh[i % H];
            all->hidden[i] = v_gelu(all->pre[i]);
        }
    }
    gemm_f32(false, true, B, a->classes, K, all->hidden, K, a->Wo, K, 0.0f, all->logits,
             a->classes);
    for (int64_t i = 0; i < B * a->classes; i++)
        all->logits[i] += a->bo[i % a->classes];
}

/* Cross entropy of the labelled sequences; with `gradient` the logits become softmax -
 * one_hot(label). */
static loss_sum cross_entropy(const classify_args *a, float *logits, bool gradient)
{
    loss_sum loss = {0};
    for (int64_t b = 0; b < a->s.B; b++) {
        float *row = logits + b * a->classes;
        const int32_t label = a->labels ? a->labels[b] : -1;
        float top = row[0];
        double sum = 0;
        for (int64_t k = 1; k < a->classes; k++)
            top = row[k] > top ? row[k] : top;
        for (int64_t k = 0; k < a->classes; k++)
            sum += exp((double)(row[k] - top));
        if (label >= 0) {
            loss.sum += log(sum) + (double)(top - row[label]);
            loss.count++;
        }
        for (int64_t k = 0; gradient && k < a->classes; k++)
            row[k] = label < 0 ? 0.0f : (float)(exp((double)(row[k] - top)) / sum - (k == label));
    }
    return loss;
}

status classify_forward_cpu(device *dev, const classify_args *a, const float *residual,
                            float *pooled, float *logits, loss_sum *loss, arena *ws)
{
    const size_t bytes = bytes_needed(a, dev->threads, false), mark = arena_mark(ws);
    carve c = {arena_take(ws, bytes), 0};
    if (!c.base)
        return workspace_short("classify", bytes, ws);
    const class_tensors all = tensors_carve(&c, a, false);
    const size_t each = (bytes - c.used) / (size_t)dev->threads;
    pool_all(dev, a, &all, c, each, false, residual);
    logits_all(a, &all);
    if (pooled)
        memcpy(pooled, all.pooled, (size_t)(a->s.B * a->d) * sizeof(float));
    if (logits)
        memcpy(logits, all.logits, (size_t)(a->s.B * a->classes) * sizeof(float));
    const loss_sum total = cross_entropy(a, all.logits, false);
    if (loss)
        *loss = total;
    arena_release(ws, mark);
    return STATUS_OK;
}

/* From the gradient of the logits to that of pooled; parameter gradients are added. */
static void head_backward_all(const classify_args *a, const class_tensors *all,
                              const classify_grads *g)
{
    const int64_t B = a->s.B, H = a->H, C = a->classes, K = H > 0 ? H : a->d, d = a->d;
    gemm_f32(true, false, C, K, B, all->logits, C, all->hidden, K, 1.0f, g->Wo, K);
    for (int64_t i = 0; i < B * C; i++)
        g->bo[i % C] += all->logits[i];
    if (H == 0) {
        gemm_f32(false, false, B, d, C, all->logits, C, a->Wo, d, 0.0f, all->dpooled, d);
        return;
    }
    gemm_f32(false, false, B, H, C, all->logits, C, a->Wo, H, 0.0f, all->hidden, H);
    for (int64_t i = 0; i < B * H; i++) {
        float value, slope;
        v_gelu_both(all->pre[i], &value, &slope);
        all->pre[i] = all->hidden[i] * slope;
        g->bh[i % H] += all->pre[i];
    }
    gemm_f32(true, false, H, d, B, all->pre, H, all->pooled, d, 1.0f, g->Wh, d);
    gemm_f32(false, false, B, d, H, all->pre, H, a->Wh, d, 0.0f, all->dpooled, d);
}

/* The gradient of pooled spread over the columns that were pooled; zero elsewhere. */
static void backward_tile(const classify_args *a, const pool_tiles *t, const class_tensors *all,
                          const thread_sums *s, int thread, int64_t c0, const float *residual,
                          float *dresidual)
{
    const int64_t n = columns_of(a->s), width = least(TILE, n - c0), d = a->d;
    const float share = a->last ? 1.0f : 1.0f / (float)a->s.L;
    segment g = {0};
    int64_t from, to;
    for (int64_t c = 0; c < d; c++)
        memset(dresidual + c * n + c0, 0, (size_t)width * sizeof(float));
    while (segment_next(a->s, c0, width, &g)) {
        if (!pooled_columns(a, &g, &from, &to))
            continue;
        const int64_t T = to - from;
        float *dx = dresidual + c0 + from, *dn = a->ln_w ? t->dn : dx;
        const int64_t ld = a->ln_w ? TILE : n;
        for (int64_t c = 0; c < d; c++)
            for (int64_t j = 0; j < T; j++)
                dn[c * ld + j] = all->dpooled[g.b * d + c] * share;
        if (!a->ln_w)
            continue;
        normalise(a, t, all, c0 + from, T, residual);
        ln_backward(d, T, dn, ld, t->xhat, TILE, a->ln_w, t->rstd, dx, n, false,
                    sums_of(s, thread, SUM_LN_W), sums_of(s, thread, SUM_LN_B));
    }
}

status classify_backward_cpu(device *dev, const classify_args *a, const float *residual,
                             loss_sum *loss, float *dresidual, const classify_grads *grads,
                             arena *ws)
{
    const size_t bytes = bytes_needed(a, dev->threads, true), mark = arena_mark(ws);
    carve c = {arena_take(ws, bytes), 0};
    if (!c.base)
        return workspace_short("classify", bytes, ws);
    const class_tensors all = tensors_carve(&c, a, true);
    thread_sums sums = sums_layout(a, grads);
    sums_carve(&sums, &c, dev->threads);
    const size_t each = (bytes - c.used) / (size_t)dev->threads;
    pool_all(dev, a, &all, c, each, true, residual);
    logits_all(a, &all);
    const loss_sum total = cross_entropy(a, all.logits, true);
    if (loss)
        *loss = total;
    head_backward_all(a, &all, grads);
    const int64_t tiles = tiles_of(a->s);
#pragma omp parallel num_threads(dev->threads)
    {
        const int team = omp_get_num_threads(), thread = omp_get_thread_num();
        const tile_share mine = share_of(tiles, team, thread);
        carve own = {c.base, c.used + each * (size_t)thread};
        const pool_tiles t = tiles_carve(&own, a, true);
        sums_clear(&sums, thread);
        for (int64_t i = mine.first; i < mine.end; i++)
            backward_tile(a, &t, &all, &sums, thread, i * TILE, residual, dresidual);
#pragma omp barrier
        sums_reduce(&sums, team, thread);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}
