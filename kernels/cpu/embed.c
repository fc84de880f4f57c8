/* embed on the CPU: token rows, factorised position rows (a product of gathered rows with Bm), a
 * fixed encoding and dropout, on one tile. The gradient of E is a product with one-hot columns: no
 * scattered writes, one order of summation. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/layernorm.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"
#include "runtime/core/rng.h"

#include <omp.h>

/* One thread's tiles. */
typedef struct {
    float *x;       /* (d, TILE): the sum, or the gradient behind the mask */
    float *rows;    /* (TILE, k) gathered rows of one level, k the largest */
    float *one_hot; /* (TILE, V) */
} embed_tiles;

static int64_t largest_rank(const embed_args *a)
{
    int64_t k = 0;
    for (int l = 0; l < a->n_levels; l++)
        k = a->level[l].k > k ? a->level[l].k : k;
    return k;
}

static embed_tiles tiles_carve(carve *c, const embed_args *a, bool backward)
{
    embed_tiles t = {0};
    t.x = carve_floats(c, a->d * TILE);
    t.rows = carve_floats(c, largest_rank(a) * TILE);
    t.one_hot = backward ? carve_floats(c, a->V * TILE) : NULL;
    return t;
}

/* Part 0 is dE, part 1 + l is dBm of level l. */
static thread_sums sums_layout(const embed_args *a, float *dE, float *const *dBm)
{
    thread_sums s = {0};
    sums_part(&s, dE, a->V * a->d);
    for (int l = 0; l < a->n_levels; l++)
        sums_part(&s, dBm ? dBm[l] : NULL, a->level[l].k * a->d);
    return s;
}

static size_t bytes_needed(const embed_args *a, int threads, bool backward)
{
    carve c = {0};
    thread_sums s = sums_layout(a, NULL, NULL);
    if (backward)
        sums_carve(&s, &c, threads);
    for (int i = 0; i < threads; i++)
        tiles_carve(&c, a, backward);
    return c.used;
}

size_t embed_workspace_cpu(const device *dev, const embed_args *a)
{
    return bytes_needed(a, dev->threads, true);
}

/* rows (T, k) = A[slot], zeros where a column has no row. */
static void gather_rows(const embed_level *level, int64_t c0, int64_t T, float *rows)
{
    const int64_t k = level->k;
    for (int64_t j = 0; j < T; j++) {
        const int32_t slot = level->slot[c0 + j];
        if (slot < 0)
            memset(rows + j * k, 0, (size_t)k * sizeof(float));
        else
            memcpy(rows + j * k, level->A + (int64_t)slot * k, (size_t)k * sizeof(float));
    }
}

/* Multiplies a tile by the dropout mask. One call of the generator serves four neighbouring columns
 * of a channel: counter (step; channel and high bits of the column group, low bits). */
static void drop_tile(const embed_args *a, int64_t c0, int64_t T, float *x)
{
    if (a->dropout <= 0)
        return;
    const uint32_t limit = (uint32_t)(a->dropout * 4294967296.0);
    const float scale = (float)(1.0 / (1.0 - a->dropout));
    uint64_t of[TILE]; /* columns of the whole */
    for (int64_t j = 0; j < T; j++)
        of[j] = (uint64_t)(a->first_column + (c0 + j) / a->s.Lp * a->stride + (c0 + j) % a->s.Lp);
    for (int64_t c = 0; c < a->d; c++) {
        float *row = x + c * TILE;
        uint32_t word[4];
        for (int64_t j = 0; j < T; j++) {
            const uint64_t column = of[j], group = column / 4;
            if (j == 0 || column % 4 == 0)
                rng_words(a->seed, RNG_DROPOUT, a->step,
                          (uint32_t)c | (uint32_t)(group >> 32) << 20, (uint32_t)group, word);
            row[j] = word[column % 4] < limit ? 0.0f : row[j] * scale;
        }
    }
}

/* x[c, j] += E[ids[j], c]. */
KERNEL_CLONES
static void add_tokens(int64_t d, int64_t T, const uint8_t *ids, const float *E, float *x)
{
    int32_t at[TILE];
    for (int64_t j = 0; j < T; j++)
        at[j] = (int32_t)(ids[j] * d);
    for (int64_t c = 0; c < d; c++) {
        const float *column = E + c;
        float *restrict row = x + c * TILE;
#pragma omp simd
        for (int64_t j = 0; j < T; j++)
            row[j] += column[at[j]];
    }
}

static void forward_tile(const embed_args *a, const embed_tiles *t, int64_t c0, float *residual)
{
    const int64_t n = columns_of(a->s), T = least(TILE, n - c0), d = a->d;
    if (a->n_levels == 0)
        memset(t->x, 0, (size_t)(d * TILE) * sizeof(float));
    for (int l = 0; l < a->n_levels; l++) {
        const embed_level *level = &a->level[l];
        gather_rows(level, c0, T, t->rows);
        gemm_f32(true, true, d, T, level->k, level->Bm, d, t->rows, level->k, l ? 1.0f : 0.0f, t->x,
                 TILE);
    }
    add_tokens(d, T, a->ids + c0, a->E, t->x);
    drop_tile(a, c0, T, t->x);
    for (int64_t c = 0; c < d; c++) {
        float *to = residual + c * n + c0;
        const float *row = t->x + c * TILE, *added = a->added ? a->added + c * n + c0 : NULL;
        for (int64_t j = 0; j < T; j++)
            to[j] = row[j] + (added ? added[j] : 0.0f);
    }
    zero_pads(a->s, c0, T, d, residual + c0, n);
}

status embed_forward_cpu(device *dev, const embed_args *a, float *residual, arena *ws)
{
    const size_t bytes = bytes_needed(a, dev->threads, false), mark = arena_mark(ws);
    char *base = arena_take(ws, bytes);
    if (!base)
        return workspace_short("embed", bytes, ws);
    const int64_t tiles = tiles_of(a->s);
#pragma omp parallel num_threads(dev->threads)
    {
        const int thread = omp_get_thread_num();
        const tile_share mine = share_of(tiles, omp_get_num_threads(), thread);
        carve c = {base, bytes / (size_t)dev->threads * (size_t)thread};
        const embed_tiles t = tiles_carve(&c, a, false);
        for (int64_t i = mine.first; i < mine.end; i++)
            forward_tile(a, &t, i * TILE, residual);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

static void backward_tile(const embed_args *a, const embed_tiles *t, const thread_sums *s,
                          int thread, int64_t c0, const float *dresidual, float *const *dA)
{
    const int64_t n = columns_of(a->s), T = least(TILE, n - c0), d = a->d, V = a->V;
    tile_copy(d, T, dresidual + c0, n, t->x, TILE);
    drop_tile(a, c0, T, t->x);
    memset(t->one_hot, 0, (size_t)(T * V) * sizeof(float));
    for (int64_t j = 0; j < T; j++)
        t->one_hot[j * V + a->ids[c0 + j]] = 1.0f;
    gemm_f32(true, true, V, d, T, t->one_hot, V, t->x, TILE, 1.0f, sums_of(s, thread, 0), d);
    for (int l = 0; l < a->n_levels; l++) {
        const embed_level *level = &a->level[l];
        const int64_t k = level->k;
        gather_rows(level, c0, T, t->rows);
        gemm_f32(true, true, k, d, T, t->rows, k, t->x, TILE, 1.0f, sums_of(s, thread, 1 + l), d);
        float *rows = dA[l] + c0 * k;
        gemm_f32(true, true, T, k, d, t->x, TILE, level->Bm, d, 0.0f, rows, k);
        for (int64_t j = 0; j < T; j++)
            if (level->slot[c0 + j] < 0)
                memset(rows + j * k, 0, (size_t)k * sizeof(float));
    }
}

status embed_backward_cpu(device *dev, const embed_args *a, const float *dresidual, float *dE,
                          float *const *dA, float *const *dBm, arena *ws)
{
    const size_t bytes = bytes_needed(a, dev->threads, true), mark = arena_mark(ws);
    carve all = {arena_take(ws, bytes), 0};
    if (!all.base)
        return workspace_short("embed", bytes, ws);
    thread_sums sums = sums_layout(a, dE, dBm);
    sums_carve(&sums, &all, dev->threads);
    const size_t each = (bytes - all.used) / (size_t)dev->threads;
    const int64_t tiles = tiles_of(a->s);
#pragma omp parallel num_threads(dev->threads)
    {
        const int team = omp_get_num_threads(), thread = omp_get_thread_num();
        const tile_share mine = share_of(tiles, team, thread);
        carve c = {all.base, all.used + each * (size_t)thread};
        const embed_tiles t = tiles_carve(&c, a, true);
        sums_clear(&sums, thread);
        for (int64_t i = mine.first; i < mine.end; i++)
            backward_tile(a, &t, &sums, thread, i * TILE, dresidual, dA);
#pragma omp barrier
        sums_reduce(&sums, team, thread);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}
