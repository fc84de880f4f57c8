/* mixout on the CPU: gate, output projection, bias and residual on one tile. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/layernorm.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <omp.h>

/* One thread's tiles, (d, TILE) each: gate * y, and the projection or dout. */
typedef struct {
    float *gated, *out, *dgated;
} mixout_tiles;

enum { SUM_W, SUM_B };

static mixout_tiles tiles_carve(carve *c, const mixout_args *a, bool backward)
{
    mixout_tiles t = {0};
    t.gated = carve_floats(c, a->d * TILE);
    t.out = carve_floats(c, a->d * TILE);
    t.dgated = backward ? carve_floats(c, a->d * TILE) : NULL;
    return t;
}

static thread_sums sums_layout(const mixout_args *a, float *dW, float *db)
{
    thread_sums s = {0};
    sums_part(&s, dW, a->d * a->d);
    sums_part(&s, db, a->d);
    return s;
}

static size_t bytes_needed(const mixout_args *a, int threads, bool backward)
{
    carve c = {0};
    thread_sums s = sums_layout(a, NULL, NULL);
    if (backward)
        sums_carve(&s, &c, threads);
    for (int i = 0; i < threads; i++)
        tiles_carve(&c, a, backward);
    return c.used;
}

size_t mixout_workspace_cpu(const device *dev, const mixout_args *a)
{
    return bytes_needed(a, dev->threads, true); /* forward takes less of the same */
}

/* gated (stride TILE) = gate * y (stride n). */
KERNEL_CLONES
static void gate_tile(int64_t d, int64_t T, const float *gate, const float *y, int64_t n,
                      float *gated)
{
    for (int64_t c = 0; c < d; c++) {
        const float *restrict x = gate + c * n, *restrict v = y + c * n;
        float *restrict to = gated + c * TILE;
#pragma omp simd
        for (int64_t j = 0; j < T; j++)
            to[j] = x[j] * v[j];
    }
}

/* dgate = dgated * y, dy = dgated * gate. */
KERNEL_CLONES
static void ungate_tile(int64_t d, int64_t T, const float *dgated, const float *gate,
                        const float *y, float *dgate, float *dy, int64_t n)
{
    for (int64_t c = 0; c < d; c++) {
        const float *restrict x = gate + c * n, *restrict v = y + c * n;
        const float *restrict e = dgated + c * TILE;
        float *restrict dx = dgate + c * n, *restrict dv = dy + c * n;
#pragma omp simd
        for (int64_t j = 0; j < T; j++) {
            dx[j] = e[j] * v[j];
            dv[j] = e[j] * x[j];
        }
    }
}

status mixout_forward_cpu(device *dev, const mixout_args *a, const void *gate, const void *y,
                          const float *residual, float *out, arena *ws)
{
    TRY(fp32_alone(a->mixed, "mixout"));
    const float *x = gate, *v = y;
    const size_t bytes = bytes_needed(a, dev->threads, false), mark = arena_mark(ws);
    char *base = arena_take(ws, bytes);
    if (!base)
        return workspace_short("mixout", bytes, ws);
    const int64_t tiles = tiles_of(a->s), n = columns_of(a->s), d = a->d;
#pragma omp parallel num_threads(dev->threads)
    {
        const int team = omp_get_num_threads(), thread = omp_get_thread_num();
        const tile_share mine = share_of(tiles, team, thread);
        carve c = {base, bytes / (size_t)dev->threads * (size_t)thread};
        const mixout_tiles t = tiles_carve(&c, a, false);
        for (int64_t i = mine.first; i < mine.end; i++) {
            const int64_t c0 = i * TILE, T = least(TILE, n - c0);
            gate_tile(d, T, x + c0, v + c0, n, t.gated);
            gemm_f32(false, false, d, T, d, a->W, d, t.gated, TILE, 0.0f, t.out, TILE);
            tile_residual(d, T, residual + c0, t.out, TILE, a->b, out + c0, n);
            zero_pads(a->s, c0, T, d, out + c0, n);
        }
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

static void backward_tile(const mixout_args *a, const mixout_tiles *t, const thread_sums *s,
                          int thread, int64_t c0, const float *gate, const float *y,
                          const float *dout, float *dgate, float *dy)
{
    const int64_t n = columns_of(a->s), T = least(TILE, n - c0), d = a->d;
    gate_tile(d, T, gate + c0, y + c0, n, t->gated);
    tile_copy(d, T, dout + c0, n, t->out, TILE);
    gemm_f32(false, true, d, d, T, t->out, TILE, t->gated, TILE, 1.0f, sums_of(s, thread, SUM_W),
             d);
    rows_sum(d, T, t->out, TILE, sums_of(s, thread, SUM_B));
    gemm_f32(true, false, d, T, d, a->W, d, t->out, TILE, 0.0f, t->dgated, TILE);
    ungate_tile(d, T, t->dgated, gate + c0, y + c0, dgate + c0, dy + c0, n);
}

status mixout_backward_cpu(device *dev, const mixout_args *a, const void *gate, const void *y,
                           const float *dout, void *dgate, void *dy, float *dW, float *db,
                           arena *ws)
{
    TRY(fp32_alone(a->mixed, "mixout"));
    const size_t bytes = bytes_needed(a, dev->threads, true), mark = arena_mark(ws);
    carve all = {arena_take(ws, bytes), 0};
    if (!all.base)
        return workspace_short("mixout", bytes, ws);
    thread_sums sums = sums_layout(a, dW, db);
    sums_carve(&sums, &all, dev->threads);
    const size_t each = (bytes - all.used) / (size_t)dev->threads;
    const int64_t tiles = tiles_of(a->s);
#pragma omp parallel num_threads(dev->threads)
    {
        const int team = omp_get_num_threads(), thread = omp_get_thread_num();
        const tile_share mine = share_of(tiles, team, thread);
        carve c = {all.base, all.used + each * (size_t)thread};
        const mixout_tiles t = tiles_carve(&c, a, true);
        sums_clear(&sums, thread);
        for (int64_t i = mine.first; i < mine.end; i++)
            backward_tile(a, &t, &sums, thread, i * TILE, gate, y, dout, dgate, dy);
#pragma omp barrier
        sums_reduce(&sums, team, thread);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}
