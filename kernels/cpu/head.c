/* head on the CPU: final LayerNorm, tied logits and cross entropy on one tile, so that the logits
 * of a long sequence never exist at once. Losses are summed in double, one sum a thread, in thread
 * order. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/layernorm.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <omp.h>

/* One thread's tiles; the loss stands here too, so that threads do not share a cache line. */
typedef struct {
    float *xhat, *n, *dn; /* (d, TILE) */
    float *logits;        /* (V, TILE): logits, then their gradient */
    float *rstd, *token;  /* (TILE) */
    loss_sum *loss;
} head_tiles;

enum { SUM_LN_W, SUM_LN_B, SUM_E };

static head_tiles tiles_carve(carve *c, const head_args *a, bool backward)
{
    head_tiles t = {0};
    t.n = carve_floats(c, a->d * TILE);
    t.xhat = backward ? carve_floats(c, a->d * TILE) : t.n;
    t.dn = backward ? carve_floats(c, a->d * TILE) : NULL;
    t.logits = carve_floats(c, a->V * TILE);
    t.rstd = carve_floats(c, TILE);
    t.token = carve_floats(c, TILE);
    t.loss = carve_bytes(c, sizeof(loss_sum));
    return t;
}

static thread_sums sums_layout(const head_args *a, float *dln_w, float *dln_b, float *dE)
{
    thread_sums s = {0};
    sums_part(&s, dln_w, a->d);
    sums_part(&s, dln_b, a->d);
    sums_part(&s, dE, a->V * a->d);
    return s;
}

static size_t bytes_needed(const head_args *a, int threads, bool backward)
{
    carve c = {0};
    thread_sums s = sums_layout(a, NULL, NULL, NULL);
    if (backward)
        sums_carve(&s, &c, threads);
    for (int i = 0; i < threads; i++)
        tiles_carve(&c, a, backward);
    return c.used;
}

size_t head_workspace_cpu(const device *dev, const head_args *a)
{
    return bytes_needed(a, dev->threads, true);
}

/* token[j] = logsumexp over V of column j - logits[target]; with `gradient` the logits become
 * softmax - one_hot(target). Columns without a target: 0 and zeros. */
KERNEL_CLONES
static void cross_entropy(int64_t V, int64_t T, float *logits, const uint8_t *targets,
                          bool gradient, float *token)
{
    float top[TILE] __attribute__((aligned(64))), sum[TILE] __attribute__((aligned(64)));
    for (int64_t j = 0; j < T; j++) {
        const uint8_t v = targets[j];
        top[j] = logits[j];
        sum[j] = 0.0f;
        token[j] = v == TARGET_NONE ? 0.0f : logits[v * TILE + j];
    }
    for (int64_t v = 1; v < V; v++)
        for (int64_t j = 0; j < T; j++)
            top[j] = logits[v * TILE + j] > top[j] ? logits[v * TILE + j] : top[j];
    for (int64_t v = 0; v < V; v++) {
        float *row = logits + v * TILE;
#pragma omp simd
        for (int64_t j = 0; j < T; j++) {
            const float e = v_exp(row[j] - top[j]);
            sum[j] += e;
            row[j] = gradient ? e : row[j];
        }
    }
    for (int64_t j = 0; j < T; j++)
        token[j] = targets[j] == TARGET_NONE ? 0.0f : top[j] + logf(sum[j]) - token[j];
    if (!gradient)
        return;
    for (int64_t j = 0; j < T; j++)
        sum[j] = targets[j] == TARGET_NONE ? 0.0f : 1.0f / sum[j];
    for (int64_t v = 0; v < V; v++) {
        float *row = logits + v * TILE;
#pragma omp simd
        for (int64_t j = 0; j < T; j++)
            row[j] = row[j] * sum[j] - (targets[j] == v ? 1.0f : 0.0f);
    }
}

static void loss_add(loss_sum *loss, int64_t T, const float *token, const uint8_t *targets)
{
    for (int64_t j = 0; j < T; j++) {
        loss->sum += (double)token[j];
        loss->count += targets[j] != TARGET_NONE;
    }
}

/* LayerNorm and logits of a tile. */
static void logits_tile(const head_args *a, const head_tiles *t, int64_t c0, int64_t T,
                        const float *residual)
{
    const int64_t n = columns_of(a->s);
    ln_forward(a->d, T, residual + c0, n, a->ln_w, a->ln_b, t->xhat, t->n, TILE, t->rstd);
    gemm_f32(false, false, a->V, T, a->d, a->E, a->d, t->n, TILE, 0.0f, t->logits, TILE);
}

/* A tile's outputs, each where the caller wants it. */
static void forward_tile(const head_args *a, const head_tiles *t, int64_t c0, const float *residual,
                         float *hidden, float *logits, float *token_loss)
{
    const int64_t n = columns_of(a->s), T = least(TILE, n - c0);
    logits_tile(a, t, c0, T, residual);
    if (hidden) {
        tile_copy(a->d, T, t->n, TILE, hidden + c0, n);
        zero_pads(a->s, c0, T, a->d, hidden + c0, n);
    }
    if (logits) {
        tile_copy(a->V, T, t->logits, TILE, logits + c0, n);
        zero_pads(a->s, c0, T, a->V, logits + c0, n);
    }
    if (!a->targets) {
        if (token_loss)
            memset(token_loss + c0, 0, (size_t)T * sizeof(float));
        return;
    }
    cross_entropy(a->V, T, t->logits, a->targets + c0, false, t->token);
    loss_add(t->loss, T, t->token, a->targets + c0);
    if (token_loss)
        memcpy(token_loss + c0, t->token, (size_t)T * sizeof(float));
}

static void backward_tile(const head_args *a, const head_tiles *t, const thread_sums *s, int thread,
                          int64_t c0, const float *residual, float *dresidual)
{
    const int64_t n = columns_of(a->s), T = least(TILE, n - c0), d = a->d, V = a->V;
    logits_tile(a, t, c0, T, residual);
    cross_entropy(V, T, t->logits, a->targets + c0, true, t->token);
    loss_add(t->loss, T, t->token, a->targets + c0);
    gemm_f32(false, true, V, d, T, t->logits, TILE, t->n, TILE, 1.0f, sums_of(s, thread, SUM_E), d);
    gemm_f32(true, false, d, T, V, a->E, d, t->logits, TILE, 0.0f, t->dn, TILE);
    ln_backward(d, T, t->dn, TILE, t->xhat, TILE, a->ln_w, t->rstd, dresidual + c0, n, false,
                sums_of(s, thread, SUM_LN_W), sums_of(s, thread, SUM_LN_B));
}

/* The losses of all threads, in thread order: `each` bytes of layout lie between them. */
static void loss_total(loss_sum *loss, const head_tiles *first, size_t each, int team)
{
    if (!loss)
        return;
    *loss = (loss_sum){0};
    for (int i = 0; i < team; i++) {
        const loss_sum *own = (const loss_sum *)((const char *)first->loss + each * (size_t)i);
        loss->sum += own->sum;
        loss->count += own->count;
    }
}

status head_forward_cpu(device *dev, const head_args *a, const float *residual, float *hidden,
                        float *logits, float *token_loss, loss_sum *loss, arena *ws)
{
    const size_t bytes = bytes_needed(a, dev->threads, false), mark = arena_mark(ws);
    const size_t each = bytes / (size_t)dev->threads;
    char *base = arena_take(ws, bytes);
    if (!base)
        return workspace_short("head", bytes, ws);
    const int64_t tiles = tiles_of(a->s);
    int team = 1;
#pragma omp parallel num_threads(dev->threads)
    {
        const int thread = omp_get_thread_num();
        const tile_share mine = share_of(tiles, omp_get_num_threads(), thread);
        carve c = {base, each * (size_t)thread};
        const head_tiles t = tiles_carve(&c, a, false);
        if (thread == 0)
            team = omp_get_num_threads();
        *t.loss = (loss_sum){0};
        for (int64_t i = mine.first; i < mine.end; i++)
            forward_tile(a, &t, i * TILE, residual, hidden, logits, token_loss);
    }
    carve c = {base, 0};
    const head_tiles first = tiles_carve(&c, a, false);
    loss_total(loss, &first, each, team);
    arena_release(ws, mark);
    return STATUS_OK;
}

status head_backward_cpu(device *dev, const head_args *a, const float *residual, loss_sum *loss,
                         float *dresidual, float *dln_w, float *dln_b, float *dE, arena *ws)
{
    if (!a->targets)
        return fail(STATUS_INTERNAL,
                    "head: a gradient without targets was asked for; this is a fault");
    const size_t bytes = bytes_needed(a, dev->threads, true), mark = arena_mark(ws);
    carve all = {arena_take(ws, bytes), 0};
    if (!all.base)
        return workspace_short("head", bytes, ws);
    thread_sums sums = sums_layout(a, dln_w, dln_b, dE);
    sums_carve(&sums, &all, dev->threads);
    const size_t each = (bytes - all.used) / (size_t)dev->threads;
    const int64_t tiles = tiles_of(a->s);
    int team = 1;
#pragma omp parallel num_threads(dev->threads)
    {
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
        const tile_share mine = share_of(tiles, threads, thread);
        carve c = {all.base, all.used + each * (size_t)thread};
        const head_tiles t = tiles_carve(&c, a, true);
        if (thread == 0)
            team = threads;
        *t.loss = (loss_sum){0};
        sums_clear(&sums, thread);
        for (int64_t i = mine.first; i < mine.end; i++)
            backward_tile(a, &t, &sums, thread, i * TILE, residual, dresidual);
#pragma omp barrier
        sums_reduce(&sums, threads, thread);
    }
    carve c = all;
    const head_tiles first = tiles_carve(&c, a, true);
    loss_total(loss, &first, each, team);
    arena_release(ws, mark);
    return STATUS_OK;
}
