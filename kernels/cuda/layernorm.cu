/* LayerNorm. A block has 32 columns, one a lane, and its warps share the channels; a tile is read
 * from memory once and a second time from the cache. Mean and variance come from one pass that
 * keeps deviations (Welford 1962; parts are joined as in Chan et al. 1979), so that a large mean
 * costs no digits. */
#include "kernels/cuda/layernorm.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/wide.cuh"

#include <math.h>

#define GROUPS (BLOCK_THREADS / WARP) /* warps that share the channels of a tile */
#ifndef CUDA_LN_BLOCKS
#define CUDA_LN_BLOCKS                                                                             \
    512 /* of the backward pass, at most: four for each SM of the largest GPU                      \
         */
#endif

/* Mean and sum of squared deviations of `count` numbers. */
typedef struct {
    float mean, square, count;
} moments;

static __device__ inline void moments_add(moments *m, float x)
{
    m->count += 1.0f;
    const float e = x - m->mean;
    m->mean += e / m->count;
    m->square = fmaf(e, x - m->mean, m->square);
}

static __device__ inline void moments_join(moments *m, moments o)
{
    if (o.count == 0.0f)
        return;
    const float e = o.mean - m->mean, count = m->count + o.count;
    m->mean = fmaf(e, o.count / count, m->mean);
    m->square += fmaf(e * e, m->count * o.count / count, o.square);
    m->count = count;
}

/* The moments of this lane's column from those of all warps. part: 2 GROUPS WARP floats. */
static __device__ inline moments moments_of_block(moments own, int64_t d, float *part)
{
    const int lane = (int)threadIdx.x % WARP;
    part[threadIdx.x] = own.mean;
    part[BLOCK_THREADS + threadIdx.x] = own.square;
    __syncthreads();
    moments all = {0.0f, 0.0f, 0.0f};
    for (int g = 0; g < GROUPS; g++) {
        const int i = g * WARP + lane;
        const moments o = {part[i], part[BLOCK_THREADS + i],
                           (float)((d - g + GROUPS - 1) / GROUPS)};
        moments_join(&all, o);
    }
    return all;
}

template <typename T>
KERNEL(ln_columns)
(int64_t d, int64_t columns, const float *__restrict__ x, int64_t ldx, const float *__restrict__ w,
 const float *__restrict__ b, T *__restrict__ n, int64_t ldn, float *__restrict__ mean,
 float *__restrict__ rstd)
{
    SHARED(float, part);
    const int64_t j = (int64_t)blockIdx.x * WARP + threadIdx.x % WARP;
    const int64_t group = threadIdx.x / WARP;
    const bool inside = j < columns;
    moments m = {0.0f, 0.0f, 0.0f};
    if (inside) {
#pragma unroll 4
        for (int64_t c = group; c < d; c += GROUPS)
            moments_add(&m, x[c * ldx + j]);
    }
    m = moments_of_block(m, d, part);
    const float r = 1.0f / sqrtf(m.square / (float)d + LN_EPSILON);
    if (!inside)
        return;
    if (mean && group == 0) {
        mean[j] = m.mean;
        rstd[j] = r;
    }
    if (!n)
        return;
#pragma unroll 4
    for (int64_t c = group; c < d; c += GROUPS) {
        const float hat = (x[c * ldx + j] - m.mean) * r;
        put(n + c * ldn + j, w ? fmaf(hat, w[c], b[c]) : hat);
    }
}

template <typename T>
static status forward(device *dev, int64_t d, int64_t columns, const float *x, int64_t ldx,
                      const float *w, const float *b, T *n, int64_t ldn, float *mean, float *rstd)
{
    if (columns == 0)
        return STATUS_OK;
    return LAUNCH(ln_columns<T>, blocks_of(columns, WARP), BLOCK_THREADS,
                  2 * BLOCK_THREADS * sizeof(float), cuda_of(dev)->stream, d, columns, x, ldx, w, b,
                  n, ldn, mean, rstd);
}

extern "C" status ln_forward_cuda(device *dev, int64_t d, int64_t columns, const float *x,
                                  int64_t ldx, const float *w, const float *b, float *n,
                                  int64_t ldn, float *mean, float *rstd)
{
    return forward(dev, d, columns, x, ldx, w, b, n, ldn, mean, rstd);
}

extern "C" status ln_forward_mixed_cuda(device *dev, int64_t d, int64_t columns, const float *x,
                                        int64_t ldx, const float *w, const float *b, void *n,
                                        int64_t ldn, float *mean, float *rstd)
{
    return forward(dev, d, columns, x, ldx, w, b, (bf16 *)n, ldn, mean, rstd);
}

/* Sums over the warp of a, in lane 0, and of b, in lane 16: one exchange of halves, then both at
 * once. */
static __device__ inline float pair_sum(float a, float b)
{
    const bool low = threadIdx.x % WARP < WARP / 2;
    float keep = low ? a : b;
    keep += __shfl_xor_sync(FULL_WARP, low ? b : a, WARP / 2);
    for (int step = WARP / 4; step > 0; step /= 2)
        keep += __shfl_xor_sync(FULL_WARP, keep, step);
    return keep;
}

typedef struct {
    int64_t d, columns, lddn, ldx, lddx;
    int64_t add; /* 0, 1; no bool: arguments of kernels have no padding */
    const float *mean, *rstd, *w;
} ln_gradient;

/* This lane's column over the channels of its warp: m1 = sum dn w, m2 = sum dn w xhat; sums (2d,
 * NULL: left out) gets the tile's part of dw and db. Channels belong to one warp alone. */
template <typename T>
static __device__ inline void gradient_sums(const ln_gradient *g, int64_t j, const T *dn,
                                            const float *x, float mean, float rstd, double *sums,
                                            float *m1, float *m2)
{
    const int lane = (int)threadIdx.x % WARP;
    const bool inside = j < g->columns;
    *m1 = *m2 = 0.0f;
#pragma unroll 4
    for (int64_t c = threadIdx.x / WARP; c < g->d; c += GROUPS) {
        const float e = inside ? number(dn[c * g->lddn + j]) : 0.0f;
        const float hat = inside ? (x[c * g->ldx + j] - mean) * rstd : 0.0f;
        const float ew = g->w ? e * g->w[c] : e;
        *m1 += ew;
        *m2 = fmaf(ew, hat, *m2);
        if (!sums)
            continue;
        const float sum = pair_sum(e * hat, e);
        if (lane % (WARP / 2) == 0)
            sums[lane ? g->d + c : c] += (double)sum;
    }
}

/* Over all warps, divided by d. part: 2 GROUPS WARP floats. */
static __device__ inline void gradient_means(int64_t d, float *part, float *m1, float *m2)
{
    const int lane = (int)threadIdx.x % WARP;
    part[threadIdx.x] = *m1;
    part[BLOCK_THREADS + threadIdx.x] = *m2;
    __syncthreads();
    *m1 = *m2 = 0.0f;
    for (int i = lane; i < BLOCK_THREADS; i += WARP) {
        *m1 += part[i];
        *m2 += part[BLOCK_THREADS + i];
    }
    *m1 /= (float)d;
    *m2 /= (float)d;
}

/* Blocks walk over tiles of 32 columns. dn may be dx: a thread reads what it writes. */
template <typename T>
KERNEL(ln_backward_columns)
(ln_gradient g, const T *dn, const float *__restrict__ x, float *dx, double *__restrict__ part)
{
    SHARED(double, shared);
    double *sums = part ? shared : NULL;
    float *means = (float *)(shared + (part ? 2 * g.d : 0));
    const int64_t d = g.d;
    if (sums)
        for (int64_t i = threadIdx.x; i < 2 * d; i += BLOCK_THREADS)
            sums[i] = 0;
    __syncthreads();
    for (int64_t tile = blockIdx.x; tile * WARP < g.columns; tile += gridDim.x) {
        const int64_t j = tile * WARP + threadIdx.x % WARP;
        const bool inside = j < g.columns;
        const float mean = inside ? g.mean[j] : 0.0f, rstd = inside ? g.rstd[j] : 0.0f;
        float m1, m2;
        gradient_sums(&g, j, dn, x, mean, rstd, sums, &m1, &m2);
        gradient_means(d, means, &m1, &m2);
#pragma unroll 4
        for (int64_t c = threadIdx.x / WARP; inside && c < d; c += GROUPS) {
            const float e = number(dn[c * g.lddn + j]), hat = (x[c * g.ldx + j] - mean) * rstd;
            const float v = rstd * ((g.w ? e * g.w[c] : e) - m1 - hat * m2);
            float *to = dx + c * g.lddx + j;
            *to = g.add ? *to + v : v;
        }
        __syncthreads(); /* the means of this tile have been read */
    }
    if (sums)
        for (int64_t i = threadIdx.x; i < 2 * d; i += BLOCK_THREADS)
            part[i * gridDim.x + blockIdx.x] = sums[i];
}

static int64_t backward_blocks(int64_t columns)
{
    const int64_t tiles = (columns + WARP - 1) / WARP;
    return tiles < CUDA_LN_BLOCKS ? tiles : CUDA_LN_BLOCKS;
}

extern "C" size_t ln_backward_workspace_cuda(int64_t d, int64_t columns)
{
    return doubles_size(2 * d * backward_blocks(columns));
}

template <typename T>
static status backward(device *dev, int64_t d, int64_t columns, const T *dn, int64_t lddn,
                       const float *x, int64_t ldx, const float *mean, const float *rstd,
                       const float *w, float *dx, int64_t lddx, bool add, float *dw, float *db,
                       arena *ws)
{
    if (columns == 0)
        return STATUS_OK;
    status st = STATUS_OK;
    const size_t mark = arena_mark(ws);
    const int64_t blocks = backward_blocks(columns);
    const ln_gradient g = {d, columns, lddn, ldx, lddx, add, mean, rstd, w};
    const size_t shared =
        2 * BLOCK_THREADS * sizeof(float) + (dw ? 2 * (size_t)d * sizeof(double) : 0);
    double *part = dw ? take_doubles(ws, 2 * d * blocks) : NULL;
    if (dw && !part)
        return cuda_workspace_short("LayerNorm", ws);
    if (shared > SHARED_PLAIN)
        TRY_GOTO(done, ALLOW_SHARED(ln_backward_columns<T>, shared));
    TRY_GOTO(done, LAUNCH(ln_backward_columns<T>, (unsigned)blocks, BLOCK_THREADS, shared,
                          cuda_of(dev)->stream, g, dn, x, dx, part));
    if (dw) {
        TRY_GOTO(done, parts_add_cuda(dev, d, blocks, part, dw));
        TRY_GOTO(done, parts_add_cuda(dev, d, blocks, part + d * blocks, db));
    }
done:
    arena_release(ws, mark);
    return st;
}

extern "C" status ln_backward_cuda(device *dev, int64_t d, int64_t columns, const float *dn,
                                   int64_t lddn, const float *x, int64_t ldx, const float *mean,
                                   const float *rstd, const float *w, float *dx, int64_t lddx,
                                   bool add, float *dw, float *db, arena *ws)
{
    return backward(dev, d, columns, dn, lddn, x, ldx, mean, rstd, w, dx, lddx, add, dw, db, ws);
}

extern "C" status ln_backward_mixed_cuda(device *dev, int64_t d, int64_t columns, const void *dn,
                                         int64_t lddn, const float *x, int64_t ldx,
                                         const float *mean, const float *rstd, const float *w,
                                         float *dx, int64_t lddx, bool add, float *dw, float *db,
                                         arena *ws)
{
    return backward(dev, d, columns, (const bf16 *)dn, lddn, x, ldx, mean, rstd, w, dx, lddx, add,
                    dw, db, ws);
}
