/* mlp on the CPU: a tile of columns goes through LayerNorm, fc1, GELU, fc2 and the residual while
 * it lies in cache; the wide intermediate exists as one tile a thread, unless the caller keeps it.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/layernorm.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <omp.h>

/* One thread's tiles. */
typedef struct {
    float *xhat, *n, *out; /* (d, TILE); out: fc2's product, or dout */
    float *wide, *dwide;   /* (inner, TILE) */
    float *rstd;           /* (TILE) */
} mlp_tiles;

static mlp_tiles tiles_carve(carve *c, const mlp_args *a, bool backward)
{
    mlp_tiles t = {0};
    t.n = carve_floats(c, a->d * TILE);
    t.xhat = backward ? carve_floats(c, a->d * TILE) : t.n;
    t.out = carve_floats(c, a->d * TILE);
    t.wide = carve_floats(c, a->inner * TILE);
    t.dwide = backward ? carve_floats(c, a->inner * TILE) : NULL;
    t.rstd = carve_floats(c, TILE);
    return t;
}

/* Parts of the gradient sums, in this order. */
enum { SUM_LN_W, SUM_LN_B, SUM_W1, SUM_B1, SUM_W2, SUM_B2 };

static thread_sums sums_layout(const mlp_args *a, const mlp_grads *g)
{
    thread_sums s = {0};
    sums_part(&s, g ? g->ln_w : NULL, a->d);
    sums_part(&s, g ? g->ln_b : NULL, a->d);
    sums_part(&s, g ? g->W1 : NULL, a->inner * a->d);
    sums_part(&s, g ? g->b1 : NULL, a->inner);
    sums_part(&s, g ? g->W2 : NULL, a->d * a->inner);
    sums_part(&s, g ? g->b2 : NULL, a->d);
    return s;
}

static size_t forward_bytes(const mlp_args *a, int threads)
{
    carve c = {0};
    for (int i = 0; i < threads; i++)
        tiles_carve(&c, a, false);
    return c.used;
}

static size_t backward_bytes(const mlp_args *a, int threads)
{
    carve c = {0};
    thread_sums s = sums_layout(a, NULL);
    sums_carve(&s, &c, threads);
    for (int i = 0; i < threads; i++)
        tiles_carve(&c, a, true);
    return c.used;
}

size_t mlp_workspace_cpu(const device *dev, const mlp_args *a, bool kept)
{
    (void)kept; /* backward reads a kept h into the same tile */
    const size_t forward = forward_bytes(a, dev->threads),
                 backward = backward_bytes(a, dev->threads);
    return forward > backward ? forward : backward;
}

/* tile = gelu(tile + bias); the sum is stored at h (stride n) where the caller keeps it. */
KERNEL_CLONES
static void bias_gelu(int64_t rows, int64_t T, float *tile, const float *bias, float *h, int64_t n)
{
    for (int64_t r = 0; r < rows; r++) {
        float *restrict row = tile + r * TILE;
        const float b = bias[r];
        if (h) {
            float *restrict keep = h + r * n;
#pragma omp simd
            for (int64_t j = 0; j < T; j++) {
                const float x = row[j] + b;
                keep[j] = x;
                row[j] = v_gelu(x);
            }
        } else {
#pragma omp simd
            for (int64_t j = 0; j < T; j++)
                row[j] = v_gelu(row[j] + b);
        }
    }
}

/* h (stride ldh) + bias (NULL: none) -> act = gelu, dwide *= gelu'; db1 += rows of dwide. act may
 * be h. */
KERNEL_CLONES
static void gelu_backward(int64_t rows, int64_t T, const float *h, int64_t ldh, const float *bias,
                          float *act, float *dwide, float *db1)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *from = h + r * ldh;
        float *to = act + r * TILE, *restrict dw = dwide + r * TILE;
        const float b = bias ? bias[r] : 0.0f;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < T; j++) {
            float value, slope;
            v_gelu_both(from[j] + b, &value, &slope);
            to[j] = value;
            const float e = dw[j] * slope;
            dw[j] = e;
            sum += e;
        }
        db1[r] += sum;
    }
}

static void forward_tile(const mlp_args *a, const mlp_tiles *t, int64_t c0, const float *x,
                         float *h, float *out)
{
    const int64_t n = columns_of(a->s), T = least(TILE, n - c0);
    ln_forward(a->d, T, x + c0, n, a->ln_w, a->ln_b, t->xhat, t->n, TILE, t->rstd);
    gemm_f32(false, false, a->inner, T, a->d, a->W1, a->d, t->n, TILE, 0.0f, t->wide, TILE);
    bias_gelu(a->inner, T, t->wide, a->b1, h ? h + c0 : NULL, n);
    if (h)
        zero_pads(a->s, c0, T, a->inner, h + c0, n);
    gemm_f32(false, false, a->d, T, a->inner, a->W2, a->inner, t->wide, TILE, 0.0f, t->out, TILE);
    tile_residual(a->d, T, x + c0, t->out, TILE, a->b2, out + c0, n);
    zero_pads(a->s, c0, T, a->d, out + c0, n);
}

status mlp_forward_cpu(device *dev, const mlp_args *a, const float *x, void *h, float *out,
                       arena *ws)
{
    TRY(fp32_alone(a->mixed, "mlp"));
    const size_t bytes = forward_bytes(a, dev->threads), mark = arena_mark(ws);
    char *base = arena_take(ws, bytes);
    if (!base)
        return workspace_short("mlp", bytes, ws);
    const int64_t tiles = tiles_of(a->s);
#pragma omp parallel num_threads(dev->threads)
    {
        const int team = omp_get_num_threads(), thread = omp_get_thread_num();
        const tile_share mine = share_of(tiles, team, thread);
        carve c = {base, bytes / (size_t)dev->threads * (size_t)thread};
        const mlp_tiles t = tiles_carve(&c, a, false);
        for (int64_t i = mine.first; i < mine.end; i++)
            forward_tile(a, &t, i * TILE, x, h, out);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

/* dout, the gradient of the tile's output, is zero at pads, and so is everything that is multiplied
 * by it. */
static void backward_tile(const mlp_args *a, const mlp_tiles *t, const thread_sums *s, int thread,
                          int64_t c0, const float *x, const float *h, float *dresidual)
{
    const int64_t n = columns_of(a->s), T = least(TILE, n - c0), d = a->d, inner = a->inner;
    ln_forward(d, T, x + c0, n, a->ln_w, a->ln_b, t->xhat, t->n, TILE, t->rstd);
    if (!h)
        gemm_f32(false, false, inner, T, d, a->W1, d, t->n, TILE, 0.0f, t->wide, TILE);
    tile_copy(d, T, dresidual + c0, n, t->out, TILE);
    gemm_f32(true, false, inner, T, d, a->W2, inner, t->out, TILE, 0.0f, t->dwide, TILE);
    gelu_backward(inner, T, h ? h + c0 : t->wide, h ? n : TILE, h ? NULL : a->b1, t->wide, t->dwide,
                  sums_of(s, thread, SUM_B1));
    gemm_f32(false, true, d, inner, T, t->out, TILE, t->wide, TILE, 1.0f,
             sums_of(s, thread, SUM_W2), inner);
    rows_sum(d, T, t->out, TILE, sums_of(s, thread, SUM_B2));
    gemm_f32(false, true, inner, d, T, t->dwide, TILE, t->n, TILE, 1.0f, sums_of(s, thread, SUM_W1),
             d);
    gemm_f32(true, false, d, T, inner, a->W1, d, t->dwide, TILE, 0.0f, t->out, TILE);
    ln_backward(d, T, t->out, TILE, t->xhat, TILE, a->ln_w, t->rstd, dresidual + c0, n, true,
                sums_of(s, thread, SUM_LN_W), sums_of(s, thread, SUM_LN_B));
}

status mlp_backward_cpu(device *dev, const mlp_args *a, const float *x, const void *h,
                        float *dresidual, const mlp_grads *grads, arena *ws)
{
    TRY(fp32_alone(a->mixed, "mlp"));
    const size_t bytes = backward_bytes(a, dev->threads), mark = arena_mark(ws);
    carve all = {arena_take(ws, bytes), 0};
    if (!all.base)
        return workspace_short("mlp", bytes, ws);
    thread_sums sums = sums_layout(a, grads);
    sums_carve(&sums, &all, dev->threads);
    const size_t each = (bytes - all.used) / (size_t)dev->threads;
    const int64_t tiles = tiles_of(a->s);
#pragma omp parallel num_threads(dev->threads)
    {
        const int team = omp_get_num_threads(), thread = omp_get_thread_num();
        const tile_share mine = share_of(tiles, team, thread);
        carve c = {all.base, all.used + each * (size_t)thread};
        const mlp_tiles t = tiles_carve(&c, a, true);
        sums_clear(&sums, thread);
        for (int64_t i = mine.first; i < mine.end; i++)
            backward_tile(a, &t, &sums, thread, i * TILE, x, h, dresidual);
#pragma omp barrier
        sums_reduce(&sums, team, thread);
    }
    arena_release(ws, mark);
    return STATUS_OK;
}
