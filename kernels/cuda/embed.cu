/* embed on the GPU: everything forward in one kernel; backward reads the gradient once for the sums
 * over columns (dE and every dBm as one product with stacked rows, of which a token's row is a 1 in
 * the place of its id) and once for each level's dA. Four neighbouring columns go together: one
 * load, and one call of the generator for their dropout. */
#include "kernels/cuda/columns.h"
#include "kernels/cuda/launch.cuh"

extern "C" {
#include "runtime/core/rng.h"
}

#define WARPS (BLOCK_THREADS / WARP)
#define CHANNELS 64 /* of a block */

/* ---- dropout: the mask of kernels/cpu/embed.c, word for word ---- */

typedef struct {
    bool on;
    uint32_t limit; /* a word below it drops its value */
    float scale;
    uint32_t key[2], step[2];
    uint64_t first; /* column of the whole; from a sequence to the next */
    int64_t Lp, skip;
} drop_terms;

static drop_terms drop_prepare(const embed_args *a)
{
    drop_terms t = {};
    t.on = a->dropout > 0;
    if (!t.on)
        return t;
    t.limit = (uint32_t)(a->dropout * 4294967296.0);
    t.scale = (float)(1.0 / (1.0 - a->dropout));
    t.key[0] = (uint32_t)a->seed;
    t.key[1] = (uint32_t)(a->seed >> 32) ^ (RNG_DROPOUT * 0x9E3779B9u);
    t.step[0] = (uint32_t)a->step;
    t.step[1] = (uint32_t)(a->step >> 32);
    t.first = (uint64_t)a->first_column;
    t.Lp = a->s.Lp;
    t.skip = a->stride - a->s.Lp;
    return t;
}

/* rng_words (runtime/core/rng.c) of channel c and four columns. */
static __device__ inline uint4 drop_words(const drop_terms *t, int64_t c, uint64_t group)
{
    uint32_t x0 = t->step[0], x1 = t->step[1], k0 = t->key[0], k1 = t->key[1];
    uint32_t x2 = (uint32_t)c | (uint32_t)(group >> 32) << 20, x3 = (uint32_t)group;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32_t y0 = __umulhi(0xCD9E8D57u, x2) ^ x1 ^ k0;
        const uint32_t y2 = __umulhi(0xD2511F53u, x0) ^ x3 ^ k1;
        x1 = 0xCD9E8D57u * x2;
        x3 = 0xD2511F53u * x0;
        x0 = y0;
        x2 = y2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return make_uint4(x0, x1, x2, x3);
}

/* Columns j .. j + 3 of channel c behind the mask. Where the shard begins within a group of four
 * (the same for all threads), the words of two groups are needed. */
static __device__ inline float4 drop_four(const drop_terms *t, int64_t c, int64_t j, float4 x)
{
    if (!t->on)
        return x;
    const uint64_t before = t->skip ? (uint64_t)(j / t->Lp * t->skip) : 0;
    const uint64_t column = t->first + (uint64_t)j + before;
    const unsigned skip = (unsigned)(column % 4);
    uint4 w = drop_words(t, c, column / 4);
    if (skip) {
        uint4 next = drop_words(t, c, column / 4 + 1);
        if (skip & 2) {
            w = make_uint4(w.z, w.w, next.x, next.y);
            next.x = next.z;
        }
        if (skip & 1)
            w = make_uint4(w.y, w.z, w.w, next.x);
    }
    x.x = w.x < t->limit ? 0.0f : x.x * t->scale;
    x.y = w.y < t->limit ? 0.0f : x.y * t->scale;
    x.z = w.z < t->limit ? 0.0f : x.z * t->scale;
    x.w = w.w < t->limit ? 0.0f : x.w * t->scale;
    return x;
}

static __device__ inline void add_product(float4 *sum, float a, float4 x)
{
    sum->x = fmaf(a, x.x, sum->x);
    sum->y = fmaf(a, x.y, sum->y);
    sum->z = fmaf(a, x.z, sum->z);
    sum->w = fmaf(a, x.w, sum->w);
}

/* ---- forward: a block has 64 channels of TILES tiles of columns; a warp 8 of the channels, a lane
 * 4 neighbouring columns of the tile ---- */

#define TILE (4 * WARP)
#define TILES 2  /* a block: the token rows are loaded once for them */
#define RANKS 16 /* at a time */
#define EACH (CHANNELS / WARPS)
#define ROWS_LD (TILE + 4)      /* float4 in each row, rows four banks apart */
#define TOKEN_LD (CHANNELS + 1) /* lanes with different ids read different banks */

typedef struct {
    float *rows;  /* (RANKS, ROWS_LD): ranks of the rows that the columns use */
    float *Bm;    /* (RANKS, CHANNELS) */
    float *token; /* (V, TOKEN_LD) */
} forward_tiles;

static size_t forward_shared(int64_t V)
{
    return (size_t)(RANKS * (ROWS_LD + CHANNELS) + V * TOKEN_LD) * sizeof(float);
}

static __device__ void level_load(const embed_level *level, int64_t n, int64_t d, int64_t j0,
                                  int64_t c0, int64_t r0, const forward_tiles *t)
{
    const int64_t ranks = min((int64_t)RANKS, level->k - r0);
    for (int i = (int)threadIdx.x; i < RANKS * TILE; i += BLOCK_THREADS) {
        const int r = i % RANKS, j = i / RANKS;
        const int32_t slot = j0 + j < n && r < ranks ? level->slot[j0 + j] : -1;
        t->rows[r * ROWS_LD + j] = slot < 0 ? 0.0f : level->A[slot * level->k + r0 + r];
    }
    for (int i = (int)threadIdx.x; i < RANKS * CHANNELS; i += BLOCK_THREADS) {
        const int r = i / CHANNELS, c = i % CHANNELS;
        t->Bm[i] = r < ranks && c0 + c < d ? level->Bm[(r0 + r) * d + c0 + c] : 0.0f;
    }
}

/* x[i] += what these ranks give to channel i of the warp. */
static __device__ inline void level_add(const forward_tiles *t, float4 *x)
{
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
#pragma unroll 4
    for (int r = 0; r < RANKS; r++) {
        const float4 a = *(const float4 *)(t->rows + r * ROWS_LD + 4 * lane);
        const float4 *b = (const float4 *)(t->Bm + r * CHANNELS + warp * EACH);
        for (int i = 0; i < EACH / 4; i++) {
            const float4 four = b[i];
            add_product(&x[4 * i], four.x, a);
            add_product(&x[4 * i + 1], four.y, a);
            add_product(&x[4 * i + 2], four.z, a);
            add_product(&x[4 * i + 3], four.w, a);
        }
    }
}

/* Token, mask, fixed encoding and pads of channel c, columns j .. j + 3. */
static __device__ inline float4 finish_four(const embed_args *a, const drop_terms *drop,
                                            const float *token, uchar4 id, int64_t c, int64_t j,
                                            float4 x)
{
    const int64_t n = a->s.B * a->s.Lp, live = a->s.L - j % a->s.Lp;
    x.x += token[id.x * TOKEN_LD];
    x.y += token[id.y * TOKEN_LD];
    x.z += token[id.z * TOKEN_LD];
    x.w += token[id.w * TOKEN_LD];
    x = drop_four(drop, c, j, x);
    if (a->added) {
        const float4 added = *(const float4 *)(a->added + c * n + j);
        x = make_float4(x.x + added.x, x.y + added.y, x.z + added.z, x.w + added.w);
    }
    return make_float4(live > 0 ? x.x : 0.0f, live > 1 ? x.y : 0.0f, live > 2 ? x.z : 0.0f,
                       live > 3 ? x.w : 0.0f);
}

KERNEL(embed_columns)(embed_args a, drop_terms drop, float *residual)
{
    SHARED(float, rows);
    const forward_tiles t = {rows, rows + RANKS * ROWS_LD, rows + RANKS * (ROWS_LD + CHANNELS)};
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int64_t n = a.s.B * a.s.Lp, c0 = (int64_t)blockIdx.y * CHANNELS;
    for (int i = (int)threadIdx.x; i < (int)a.V * CHANNELS; i += BLOCK_THREADS) {
        const int v = i / CHANNELS, c = i % CHANNELS;
        t.token[v * TOKEN_LD + c] = c0 + c < a.d ? a.E[v * a.d + c0 + c] : 0.0f;
    }
    __syncthreads();
    for (int tile = 0; tile < TILES; tile++) {
        const int64_t j0 = ((int64_t)blockIdx.x * TILES + tile) * TILE, j = j0 + 4 * lane;
        float4 x[EACH] = {};
        for (int l = 0; l < a.n_levels; l++)
            for (int64_t r0 = 0; r0 < a.level[l].k; r0 += RANKS) {
                level_load(&a.level[l], n, a.d, j0, c0, r0, &t);
                __syncthreads();
                level_add(&t, x);
                __syncthreads();
            }
        if (j >= n)
            continue;
        const uchar4 id = *(const uchar4 *)(a.ids + j);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int own = warp * EACH + i;
            const int64_t c = c0 + own;
            if (c < a.d)
                *(float4 *)(residual + c * n + j) =
                    finish_four(&a, &drop, t.token + own, id, c, j, x[i]);
        }
    }
}

static unsigned channel_blocks(const embed_args *a)
{
    return (unsigned)((a->d + CHANNELS - 1) / CHANNELS);
}

extern "C" status embed_forward_cuda(device *dev, const embed_args *a, float *residual, arena *ws)
{
    (void)ws;
    const int64_t n = a->s.B * a->s.Lp;
    const size_t shared = forward_shared(a->V);
    if (shared > SHARED_PLAIN)
        TRY(ALLOW_SHARED(embed_columns, shared));
    const dim3 grid(blocks_of(n, TILE * TILES).x, channel_blocks(a));
    return LAUNCH(embed_columns, grid, BLOCK_THREADS, shared, cuda_of(dev)->stream, *a,
                  drop_prepare(a), residual);
}

/* ---- sums over columns: G (rows, n) times the gradient behind the mask, where G has the one-hot
 * rows of the tokens (V) and, below them, the ranks of each level's rows. A block has PIECE rows of
 * G, 64 channels and a part of the columns, a warp its share of each strip; a lane keeps 8 x 8
 * sums. ---- */

#define PIECE WARP
#define STRIP 64             /* columns between two barriers: a batch's columns are a multiple */
#define STRIP_LD (STRIP + 1) /* neighbouring channels in different banks */
#define PARTS 512            /* strips are dealt to so many parts, */
#define STRIPS_LEAST 2       /* of two strips at least, */
#define STRIPS_MOST 64       /* and as many as fp32 may sum */
#define SIDE 8
#define SUMS_LD (CHANNELS + 1)

static int64_t rows_of(const embed_args *a)
{
    int64_t rows = a->V;
    for (int l = 0; l < a->n_levels; l++)
        rows += a->level[l].k;
    return rows;
}

/* Columns of a part. */
static int64_t part_width(int64_t n)
{
    int64_t strips = (n / STRIP + PARTS - 1) / PARTS;
    strips = strips < STRIPS_LEAST ? STRIPS_LEAST : strips > STRIPS_MOST ? STRIPS_MOST : strips;
    return strips * STRIP;
}

static int64_t parts_of(int64_t n)
{
    return (n + part_width(n) - 1) / part_width(n);
}

extern "C" size_t embed_workspace_cuda(const device *dev, const embed_args *a)
{
    (void)dev;
    return floats_size(parts_of(a->s.B * a->s.Lp) * rows_of(a) * a->d);
}

/* Where a row of G comes from: a token's id, or rank A[.][0] of the rows in `slot`. */
typedef struct {
    int64_t id; /* -1: none */
    const float *A;
    const int32_t *slot;
    int64_t k;
} row_source;

static __device__ row_source source_of(const embed_args *a, int64_t row)
{
    row_source s = {-1, NULL, NULL, 0};
    if (row < a->V) {
        s.id = row;
        return s;
    }
    row -= a->V;
    for (int l = 0; l < a->n_levels; row -= a->level[l].k, l++)
        if (row < a->level[l].k) {
            s.A = a->level[l].A + row;
            s.slot = a->level[l].slot;
            s.k = a->level[l].k;
            return s;
        }
    return s;
}

static __device__ inline float source_value(const row_source *s, const uint8_t *ids, int64_t j)
{
    if (!s->A)
        return ids[j] == s->id ? 1.0f : 0.0f;
    const int32_t slot = s->slot[j];
    return slot < 0 ? 0.0f : s->A[slot * s->k];
}

/* x (CHANNELS, STRIP_LD): the gradient of columns j0 .. behind the mask. */
static __device__ inline void strip_load(const embed_args *a, const drop_terms *drop,
                                         const float *dresidual, int64_t c0, int64_t j0, float *x)
{
    const int64_t n = a->s.B * a->s.Lp;
#pragma unroll
    for (int i = (int)threadIdx.x; i < CHANNELS * STRIP / 4; i += BLOCK_THREADS) {
        const int own = i / (STRIP / 4), j = i % (STRIP / 4) * 4;
        const int64_t c = c0 + own;
        float4 four = make_float4(0, 0, 0, 0);
        if (c < a->d)
            four = drop_four(drop, c, j0 + j, *(const float4 *)(dresidual + c * n + j0 + j));
        float *to = x + own * STRIP_LD + j;
        to[0] = four.x;
        to[1] = four.y;
        to[2] = four.z;
        to[3] = four.w;
    }
}

/* A lane's sums: rows 8 (lane / 8) .., channels lane % 8, + 8, + 16 .. */
static __device__ inline void strip_add(const float *x, const float *g, float sum[SIDE][SIDE])
{
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const float *own = x + lane % SIDE * STRIP_LD;
#pragma unroll 2
    for (int j = warp * (STRIP / WARPS); j < (warp + 1) * (STRIP / WARPS); j++) {
        const float4 *four = (const float4 *)(g + j * PIECE + lane / SIDE * SIDE);
        const float4 low = four[0], high = four[1];
        const float row[SIDE] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int i = 0; i < SIDE; i++) {
            const float value = own[i * SIDE * STRIP_LD + j];
#pragma unroll
            for (int r = 0; r < SIDE; r++)
                sum[r][i] = fmaf(row[r], value, sum[r][i]);
        }
    }
}

/* all (PIECE, SUMS_LD) = the warps' sums, warp by warp. */
static __device__ inline void sums_join(float *all, float sum[SIDE][SIDE])
{
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    float *own = all + lane / SIDE * SIDE * SUMS_LD + lane % SIDE;
    for (int w = 0; w < WARPS; w++) {
        __syncthreads();
        if (warp != w)
            continue;
#pragma unroll
        for (int r = 0; r < SIDE; r++)
#pragma unroll
            for (int i = 0; i < SIDE; i++) {
                float *at = own + r * SUMS_LD + i * SIDE;
                *at = w ? *at + sum[r][i] : sum[r][i];
            }
    }
    __syncthreads();
}

/* part (parts, rows, d) */
KERNEL(__launch_bounds__(BLOCK_THREADS, 2) embed_sums)
(embed_args a, drop_terms drop, const float *__restrict__ dresidual, int64_t rows, int64_t width,
 float *part)
{
    SHARED(float, g); /* (STRIP, PIECE) */
    float *x = g + STRIP * PIECE;
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int64_t c0 = (int64_t)blockIdx.y * CHANNELS, row0 = (int64_t)blockIdx.z * PIECE;
    const int64_t n = a.s.B * a.s.Lp, end = min(n, (blockIdx.x + 1) * width);
    const row_source source = source_of(&a, row0 + lane);
    float sum[SIDE][SIDE] = {};
    for (int64_t j0 = blockIdx.x * width; j0 < end; j0 += STRIP) {
        __syncthreads();
        strip_load(&a, &drop, dresidual, c0, j0, x);
        for (int j = warp; j < STRIP; j += WARPS)
            g[j * PIECE + lane] = source_value(&source, a.ids, j0 + j);
        __syncthreads();
        strip_add(x, g, sum);
    }
    sums_join(x, sum);
    for (int i = (int)threadIdx.x; i < PIECE * CHANNELS; i += BLOCK_THREADS) {
        const int64_t row = row0 + i / CHANNELS, c = c0 + i % CHANNELS;
        if (row < rows && c < a.d)
            part[(blockIdx.x * rows + row) * a.d + c] = x[i / CHANNELS * SUMS_LD + i % CHANNELS];
    }
}

typedef struct {
    float *dE, *dBm[EMBED_LEVELS];
} sum_targets;

/* Adds the parts to dE and dBm: a block has a row and 32 channels, a warp every eighth part. */
KERNEL(embed_fold)
(embed_args a, const float *__restrict__ part, int64_t parts, int64_t rows, const sum_targets to)
{
    SHARED(double, share); /* (WARPS, WARP) */
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int64_t c = (int64_t)blockIdx.x * WARP + lane;
    int64_t row = blockIdx.y;
    double sum = 0;
#pragma unroll 8
    for (int64_t p = warp; c < a.d && p < parts; p += WARPS)
        sum += (double)part[(p * rows + row) * a.d + c];
    share[threadIdx.x] = sum;
    __syncthreads();
    if (warp > 0 || c >= a.d)
        return;
    for (int w = 1; w < WARPS; w++)
        sum += share[w * WARP + lane];
    float *out = to.dE;
    if (row >= a.V) {
        int l = 0;
        for (row -= a.V; row >= a.level[l].k; l++)
            row -= a.level[l].k;
        out = to.dBm[l];
    }
    out[row * a.d + c] = (float)((double)out[row * a.d + c] + sum);
}

static status sums_of_columns(device *dev, const embed_args *a, const float *dresidual,
                              const sum_targets *to, arena *ws)
{
    const int64_t n = a->s.B * a->s.Lp, rows = rows_of(a), parts = parts_of(n);
    const size_t mark = arena_mark(ws);
    const cudaStream_t stream = cuda_of(dev)->stream;
    float *part = take_floats(ws, parts * rows * a->d);
    if (!part)
        return cuda_workspace_short("embed", ws);
    const size_t shared = (STRIP * PIECE + CHANNELS * STRIP_LD) * sizeof(float);
    const dim3 grid((unsigned)parts, channel_blocks(a), (unsigned)((rows + PIECE - 1) / PIECE));
    TRY(LAUNCH(embed_sums, grid, BLOCK_THREADS, shared, stream, *a, drop_prepare(a), dresidual,
               rows, part_width(n), part));
    const dim3 fold(blocks_of(a->d, WARP).x, (unsigned)rows);
    TRY(LAUNCH(embed_fold, fold, BLOCK_THREADS, BLOCK_THREADS * sizeof(double), stream, *a, part,
               parts, rows, *to));
    arena_release(ws, mark);
    return STATUS_OK;
}

/* ---- dA: a lane has 4 columns and 16 ranks, a warp every fourth channel ---- */

#define ROW_WARPS 4
#define ROW_THREADS (ROW_WARPS * WARP)
#define BM_LD (RANKS + 4) /* float4 in each row */

/* Bm (CHANNELS, BM_LD) of ranks r0 .. and channels c0 .., turned. */
static __device__ inline void base_load(const embed_level *level, int64_t d, int64_t c0, int64_t r0,
                                        float *Bm)
{
    for (int i = (int)threadIdx.x; i < RANKS * CHANNELS; i += ROW_THREADS) {
        const int r = i / CHANNELS, c = i % CHANNELS;
        Bm[c * BM_LD + r] =
            r0 + r < level->k && c0 + c < d ? level->Bm[(r0 + r) * d + c0 + c] : 0.0f;
    }
}

KERNEL(embed_row_gradients)
(embed_level level, int64_t n, int64_t d, drop_terms drop, const float *__restrict__ dresidual,
 float *dA)
{
    SHARED(float, all); /* (ROW_WARPS, RANKS, ROWS_LD): the warps' sums */
    float *Bm = all + ROW_WARPS * RANKS * ROWS_LD;
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int64_t j0 = (int64_t)blockIdx.x * TILE, j = j0 + 4 * lane;
    const int64_t r0 = (int64_t)blockIdx.y * RANKS;
    float4 sum[RANKS] = {};
    for (int64_t c0 = 0; c0 < d; c0 += CHANNELS) {
        __syncthreads();
        base_load(&level, d, c0, r0, Bm);
        __syncthreads();
#pragma unroll 2
        for (int own = warp; j < n && c0 + own < d && own < CHANNELS; own += ROW_WARPS) {
            const int64_t c = c0 + own;
            const float4 x = drop_four(&drop, c, j, *(const float4 *)(dresidual + c * n + j));
#pragma unroll
            for (int r = 0; r < RANKS; r += 4) {
                const float4 b = *(const float4 *)(Bm + own * BM_LD + r);
                add_product(&sum[r], b.x, x);
                add_product(&sum[r + 1], b.y, x);
                add_product(&sum[r + 2], b.z, x);
                add_product(&sum[r + 3], b.w, x);
            }
        }
    }
#pragma unroll
    for (int r = 0; r < RANKS; r++)
        *(float4 *)(all + (warp * RANKS + r) * ROWS_LD + 4 * lane) = sum[r];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < RANKS * TILE; i += ROW_THREADS) {
        const int r = i % RANKS, own = i / RANKS;
        if (j0 + own >= n || r0 + r >= level.k)
            continue;
        float total = 0;
        for (int w = 0; w < ROW_WARPS; w++)
            total += all[(w * RANKS + r) * ROWS_LD + own];
        dA[(j0 + own) * level.k + r0 + r] = level.slot[j0 + own] < 0 ? 0.0f : total;
    }
}

extern "C" status embed_backward_cuda(device *dev, const embed_args *a, const float *dresidual,
                                      float *dE, float *const *dA, float *const *dBm, arena *ws)
{
    const int64_t n = a->s.B * a->s.Lp;
    sum_targets to = {dE, {}};
    for (int l = 0; l < a->n_levels; l++)
        to.dBm[l] = dBm[l];
    TRY(sums_of_columns(dev, a, dresidual, &to, ws));
    const size_t shared = (ROW_WARPS * RANKS * ROWS_LD + CHANNELS * BM_LD) * sizeof(float);
    for (int l = 0; l < a->n_levels; l++) {
        const dim3 grid(blocks_of(n, TILE).x, blocks_of(a->level[l].k, RANKS).x);
        TRY(LAUNCH(embed_row_gradients, grid, ROW_THREADS, shared, cuda_of(dev)->stream,
                   a->level[l], n, a->d, drop_prepare(a), dresidual, dA[l]));
    }
    return STATUS_OK;
}
