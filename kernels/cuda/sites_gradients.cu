/* sites, backward over entries: gradients of rows. The logits, which drows has kept, become their
 * gradients; a block then walks its slice from the last tile to the first, so that the sums over
 * later entries of a token, which run rows receive, are there when a tile needs them. What a slice
 * owes the one before it is added by a last, small kernel. */
#include "kernels/cuda/sites.cuh"

/* Of a slice: an element each of n x classes logits. */
KERNEL(sites_slopes)(sites_chunk k, const float *__restrict__ dw, float *__restrict__ drows)
{
    const sites_slice own = sites_slice_of(&k, blockIdx.x);
    const int64_t n = own.to - own.from, width = sites_width(&k), start = k.start[0];
    for (int64_t j = threadIdx.x; j < n * k.classes; j += blockDim.x) {
        const int64_t i = own.from + j / k.classes, c = j % k.classes;
        float *z = drows + (i - start) * width + 2 * k.rank + c;
        const float sign = k.carried[i] ? 1.0f : -1.0f;
        const bool outside = !k.labelled && k.token[i] < 0;
        *z = outside ? 0.0f : sign * sites_slope(sign * *z) * dw[own.b * k.classes + c];
    }
}

/* turned[c][j][i] = V[c][i][j] */
KERNEL(sites_turn)
(int64_t n, int rank, const float *__restrict__ V, float *__restrict__ turned)
{
    const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n)
        return;
    const int64_t square = (int64_t)rank * rank, c = at / square, j = at % square / rank,
                  i = at % rank;
    turned[at] = V[c * square + i * rank + j];
}

/* What sites_back has beside the tile. */
typedef struct {
    float *turned; /* (32, 32) */
    float *out;    /* (32, stride) a block of elements on its way to drows */
} back_shared;

static inline size_t back_bytes(const sites_chunk *k)
{
    const size_t floats =
        SITES_ELEMENTS * SITES_ELEMENTS + SITES_ELEMENTS * (size_t)(sites_stride(k->rank) + 1);
    return sites_shared_bytes(k->classes, k->rank) + floats * sizeof(float);
}

static __device__ inline int back_stride(const sites_chunk *k)
{
    return sites_stride(k->rank) + 1;
}

/* Gradients of a tile's logits into z. */
static __device__ void slopes_load(const sites_chunk *k, const sites_shared *s, int64_t i0, int n,
                                   const float *__restrict__ drows)
{
    const int tile = sites_tile(k->rank);
    const int64_t at = i0 - k->start[0], width = sites_width(k);
    for (int i = (int)threadIdx.x; i < tile * k->classes; i += (int)blockDim.x) {
        const int e = i / k->classes, c = i % k->classes;
        s->z[c * (tile + 1) + e] = e < n ? drows[(at + e) * width + 2 * k->rank + c] : 0.0f;
    }
}

/* dG and dR at elements r0 .. r0 + 31:  dG = sum_c g_c (query_c + V_c R),  dR = sum_c g_c V_c' G */
static __device__ __forceinline__ void
rows_of(const int M, const sites_chunk *k, const sites_shared *s, const back_shared *x, int64_t b,
        int r0, const float *__restrict__ V, const float *__restrict__ turned,
        const float *__restrict__ q, const float *__restrict__ bias, float dG[4][4], float dR[4][4])
{
    const int rank = k->rank, ld = sites_stride(rank), lde = sites_tile(rank) + 1;
    const int e0 = (int)threadIdx.x / SITES_GROUP * M;
    for (int c = 0; c < k->classes; c++) {
        const int64_t own = (int64_t)c * rank * rank;
        float of_R[4][4] = {{0.0f}}, of_G[4][4] = {{0.0f}};
        for (int i0 = 0; i0 < rank; i0 += SITES_ELEMENTS) {
            __syncthreads();
            sites_block_load(V + own, rank, i0, r0, s->v);
            sites_block_load(turned + own, rank, i0, r0, x->turned);
            __syncthreads();
            sites_product(M, s->G + i0 * ld, ld, s->v, of_G);
            sites_product(M, s->R + i0 * ld, ld, x->turned, of_R);
        }
#pragma unroll
        for (int m = 0; m < M; m++) {
            const float g = s->z[c * lde + e0 + m];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int r = r0 + (int)threadIdx.x % SITES_GROUP * 4 + j;
                const float query = of_R[m][j] + sites_query(k, b, s->token[e0 + m], c, r, q, bias);
                dG[m][j] = fmaf(g, query, dG[m][j]);
                dR[m][j] = fmaf(g, of_G[m][j], dR[m][j]);
            }
        }
    }
}

/* A thread's numbers to x->out. */
static __device__ __forceinline__ void stage(const int M, const sites_chunk *k,
                                             const back_shared *x, const float d[4][4])
{
    const int e0 = (int)threadIdx.x / SITES_GROUP * M, ld = back_stride(k);
    __syncthreads();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            x->out[((int)threadIdx.x % SITES_GROUP * 4 + j) * ld + e0 + m] = d[m][j];
    __syncthreads();
}

/* x->out to element `at` and on of the tile's rows of drows; zeros where there is no slot. */
static __device__ void rows_out(const sites_chunk *k, const sites_shared *s, const back_shared *x,
                                int64_t i0, int n, int r0, int64_t at, float *__restrict__ drows)
{
    const int lane = (int)threadIdx.x % WARP, ld = back_stride(k);
    if (r0 + lane >= k->rank)
        return;
    for (int e = (int)threadIdx.x / WARP; e < n; e += (int)blockDim.x / WARP)
        drows[(i0 - k->start[0] + e) * sites_width(k) + at + r0 + lane] =
            s->slot[e] < 0 ? 0.0f : x->out[lane * ld + e];
}

/* dR of each entry becomes the sum over the later ones of its token: what its run row receives. */
static __device__ void runs_back(const sites_chunk *k, const sites_shared *s, const back_shared *x,
                                 int n, int r0)
{
    if (threadIdx.x < SITES_ELEMENTS) {
        float *row = x->out + (int)threadIdx.x * back_stride(k), sum = s->carry[r0 + threadIdx.x];
#pragma unroll 8
        for (int e = n - 1; e >= 0; e--) {
            const float own = row[e];
            row[e] = sum;
            sum = s->empty[e] ? 0.0f : sum + own;
        }
        s->carry[r0 + threadIdx.x] = sum;
    }
    __syncthreads();
}

static __device__ __forceinline__ void
tile_back(const int M, const sites_chunk *k, const sites_shared *s, const back_shared *x, int64_t b,
          int64_t i0, int n, const float *__restrict__ V, const float *__restrict__ turned,
          const float *__restrict__ q, const float *__restrict__ bias, float *drows)
{
    for (int r0 = 0; r0 < k->rank; r0 += SITES_ELEMENTS) {
        float dG[4][4] = {{0.0f}}, dR[4][4] = {{0.0f}};
        rows_of(M, k, s, x, b, r0, V, turned, q, bias, dG, dR);
        stage(M, k, x, dG);
        rows_out(k, s, x, i0, n, r0, 0, drows);
        stage(M, k, x, dR);
        runs_back(k, s, x, n, r0);
        rows_out(k, s, x, i0, n, r0, k->rank, drows);
    }
    for (int i = (int)threadIdx.x; i < n * k->classes; i += (int)blockDim.x)
        if (s->slot[i / k->classes] < 0)
            drows[(i0 - k->start[0] + i / k->classes) * sites_width(k) + 2 * k->rank +
                  i % k->classes] = 0.0f;
}

/* head (slices, rank): what the run rows before a slice receive from it. whole: every entry of it
 * goes on with the run before. */
KERNEL(sites_back)
(sites_chunk k, const float *__restrict__ V, const float *__restrict__ turned,
 const float *__restrict__ bias, const float *__restrict__ q, float *drows,
 float *__restrict__ head, int *__restrict__ whole)
{
    SHARED(float, at);
    const int tile = sites_tile(k.rank), padded = sites_padded(k.rank);
    back_shared x;
    x.turned = at;
    const sites_shared s = sites_shared_cut(&k, at + SITES_ELEMENTS * SITES_ELEMENTS);
    x.out = s.z + k.classes * (tile + 1);
    const sites_slice own = sites_slice_of(&k, blockIdx.x);
    bool all = own.from < own.to;
    for (int r = (int)threadIdx.x; r < padded; r += (int)blockDim.x)
        s.carry[r] = 0.0f;
    for (int64_t j = (own.to - own.from + tile - 1) / tile - 1; j >= 0; j--) {
        const int64_t i0 = own.from + j * tile;
        const int n = (int)(own.to - i0 < tile ? own.to - i0 : tile);
        sites_tile_load(&k, &s, own.b, i0, n, drows, false);
        slopes_load(&k, &s, i0, n, drows);
        if (k.rank <= SITES_WIDE_RANK)
            tile_back(4, &k, &s, &x, own.b, i0, n, V, turned, q, bias, drows);
        else
            tile_back(1, &k, &s, &x, own.b, i0, n, V, turned, q, bias, drows);
        for (int e = 0; e < n; e++)
            all = all && !s.empty[e];
    }
    __syncthreads();
    for (int r = (int)threadIdx.x; r < k.rank; r += (int)blockDim.x)
        head[(int64_t)blockIdx.x * k.rank + r] = s.carry[r];
    if (threadIdx.x == 0)
        whole[blockIdx.x] = all;
}

/* What the slices behind owe a slice's last run. */
KERNEL(sites_join)
(sites_chunk k, const float *__restrict__ head, const int *__restrict__ whole,
 float *__restrict__ drows)
{
    const sites_slice own = sites_slice_of(&k, blockIdx.x);
    const int64_t high = sites_end(&k, own.b), width = sites_width(&k), start = k.start[0];
    if (own.from == own.to || own.to == high || sites_run_empty(&k, own.b, own.to))
        return;
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int64_t last = blockIdx.x - blockIdx.x % k.slices + k.slices;
    int64_t begin = own.to;
    int found = WARP;
    while (found == WARP) {
        const int64_t i = begin - 1 - lane;
        found = __popc(__ballot_sync(FULL_WARP, i >= own.from && k.token[i] == k.token[own.to]));
        begin -= found;
    }
    for (int r = lane; r < k.rank; r += WARP) {
        float sum = 0.0f;
        for (int64_t s = blockIdx.x + 1; s < last; s++) {
            sum += head[s * k.rank + r];
            if (!whole[s])
                break;
        }
        for (int64_t i = begin + warp; i < own.to; i += (int)blockDim.x / WARP)
            if (k.slot[i] >= 0)
                drows[(i - start) * width + k.rank + r] += sum;
    }
}

/* dq of a column, 8 classes a warp: the sum over its entries of g_c G. */
#define TOKEN_CLASSES 8
KERNEL(sites_tokens)(sites_chunk k, const float *__restrict__ drows, float *__restrict__ dq)
{
    const int groups = (k.classes + TOKEN_CLASSES - 1) / TOKEN_CLASSES;
    const int lane = (int)threadIdx.x % WARP;
    const int64_t id = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    const int64_t column = id / groups, width = sites_width(&k), start = k.start[0];
    if (column >= k.windows * k.columns)
        return;
    const int c0 = (int)(id % groups) * TOKEN_CLASSES;
    const int64_t *first =
        k.first + (k.b0 + column / k.columns) * (k.Lp + 1) + k.t0 + column % k.columns;
    for (int r = lane; r < k.rank; r += WARP) {
        float sum[TOKEN_CLASSES] = {0.0f};
        for (int64_t i = first[0]; i < first[1]; i++) {
            const int64_t slot = k.slot[i];
            const float G = slot < 0 ? 0.0f : k.rows[slot * width + r];
            const float *g = drows + (i - start) * width + 2 * k.rank + c0;
#pragma unroll
            for (int c = 0; c < TOKEN_CLASSES; c++)
                sum[c] = c0 + c < k.classes ? fmaf(g[c], G, sum[c]) : 0.0f;
        }
#pragma unroll
        for (int c = 0; c < TOKEN_CLASSES; c++)
            if (c0 + c < k.classes)
                dq[(column * k.classes + c0 + c) * k.rank + r] = sum[c];
    }
}

/* dV of 4 classes at 32 x 32 elements, over a part of the chunk's entries: a thread has 2 x 4
 * elements of each. */
#define RUN_CLASSES 4
#define RUN_TILE 64   /* entries */
#define RUN_STRIDE 36 /* of an entry's elements: a multiple of 4 that spreads the banks */
#define RUN_FLOATS (RUN_TILE * (2 * RUN_STRIDE + RUN_CLASSES))

static __device__ inline void run_tile_load(const sites_chunk *k, int64_t i0, int64_t end, int c0,
                                            int row, int column, const float *__restrict__ drows,
                                            float *G, float *R, float *g)
{
    const int lane = (int)threadIdx.x % WARP;
    const int64_t width = sites_width(k), start = k->start[0];
    __syncthreads();
#pragma unroll 4
    for (int e = (int)threadIdx.x / WARP; e < RUN_TILE; e += (int)blockDim.x / WARP) {
        const int64_t i = i0 + e, slot = i < end ? k->slot[i] : -1;
        const float *own = drows + (i - start) * width;
        G[e * RUN_STRIDE + lane] =
            slot >= 0 && row + lane < k->rank ? k->rows[slot * width + row + lane] : 0.0f;
        R[e * RUN_STRIDE + lane] =
            slot >= 0 && column + lane < k->rank ? own[k->rank + column + lane] : 0.0f;
        if (lane < RUN_CLASSES)
            g[e * RUN_CLASSES + lane] =
                slot >= 0 && c0 + lane < k->classes ? own[2 * k->rank + c0 + lane] : 0.0f;
    }
    __syncthreads();
}

KERNEL(sites_runs)
(sites_chunk k, int blocks, const float *__restrict__ drows, float *__restrict__ dV)
{
    SHARED(float, G);
    float *R = G + RUN_TILE * RUN_STRIDE, *g = R + RUN_TILE * RUN_STRIDE;
    const int group = (int)blockIdx.y / (blocks * blocks), rank = k.rank;
    const int row = (int)blockIdx.y / blocks % blocks * SITES_ELEMENTS;
    const int column = (int)blockIdx.y % blocks * SITES_ELEMENTS, c0 = group * RUN_CLASSES;
    const int64_t low = sites_begin(&k, k.b0), n = sites_end(&k, k.b0 + k.windows - 1) - low;
    const int64_t from = low + n * blockIdx.x / gridDim.x,
                  to = low + n * (blockIdx.x + 1) / gridDim.x;
    const int i = (int)threadIdx.x / 8 * 2, j = (int)threadIdx.x % 8 * 4;
    float sum[RUN_CLASSES][2][4] = {{{0.0f}}};
    for (int64_t at = from; at < to; at += RUN_TILE) {
        run_tile_load(&k, at, to, c0, row, column, drows, G, R, g);
#pragma unroll 4
        for (int e = 0; e < RUN_TILE; e++) {
            const float2 x = *(const float2 *)(G + e * RUN_STRIDE + i);
            const float4 y = *(const float4 *)(R + e * RUN_STRIDE + j);
            const float4 w = *(const float4 *)(g + e * RUN_CLASSES);
            const float of[RUN_CLASSES] = {w.x, w.y, w.z, w.w};
#pragma unroll
            for (int c = 0; c < RUN_CLASSES; c++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const float gx = of[c] * (h ? x.y : x.x);
                    sum[c][h][0] = fmaf(gx, y.x, sum[c][h][0]);
                    sum[c][h][1] = fmaf(gx, y.y, sum[c][h][1]);
                    sum[c][h][2] = fmaf(gx, y.z, sum[c][h][2]);
                    sum[c][h][3] = fmaf(gx, y.w, sum[c][h][3]);
                }
        }
    }
    float *out = dV + (int64_t)blockIdx.x * k.classes * rank * rank;
#pragma unroll
    for (int c = 0; c < RUN_CLASSES; c++)
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int l = 0; l < 4; l++)
                if (c0 + c < k.classes && row + i + h < rank && column + j + l < rank)
                    out[((int64_t)(c0 + c) * rank + row + i + h) * rank + column + j + l] =
                        sum[c][h][l];
}

/* out[i] += sum over p of part[p][i] */
KERNEL(sites_parts)
(int64_t n, int parts, const float *__restrict__ part, float *__restrict__ out)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    double sum = 0;
    for (int p = 0; p < parts; p++)
        sum += (double)part[p * n + i];
    out[i] = (float)((double)out[i] + sum);
}

/* Sums of a part of the rows of x (rows, n): a thread a column. */
#define ROWS_PART 256
KERNEL(sites_rows)
(int64_t rows, int64_t n, const float *__restrict__ x, float *__restrict__ part)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t from = (int64_t)blockIdx.y * ROWS_PART;
    const int64_t to = from + ROWS_PART < rows ? from + ROWS_PART : rows;
    if (i >= n)
        return;
    float sum = 0.0f;
    for (int64_t r = from; r < to; r++)
        sum += x[r * n + i];
    part[(int64_t)blockIdx.y * n + i] = sum;
}

status sites_turn_cuda(device *dev, const sites_args *a, float *turned)
{
    const int64_t n = a->classes * a->rank * a->rank;
    return LAUNCH(sites_turn, blocks_of(n, BLOCK_THREADS), BLOCK_THREADS, 0, cuda_of(dev)->stream,
                  n, (int)a->rank, a->V, turned);
}

static status runs_gradient(device *dev, const sites_chunk *k, const sites_scratch *x,
                            const float *drows, float *dV)
{
    const int blocks = sites_padded(k->rank) / SITES_ELEMENTS;
    const int groups = (k->classes + RUN_CLASSES - 1) / RUN_CLASSES;
    const dim3 grid((unsigned)x->parts, (unsigned)(groups * blocks * blocks));
    const int64_t n = (int64_t)k->classes * k->rank * k->rank;
    cudaStream_t stream = cuda_of(dev)->stream;
    TRY(LAUNCH(sites_runs, grid, SITES_THREADS, RUN_FLOATS * sizeof(float), stream, *k, blocks,
               drows, x->dV));
    return LAUNCH(sites_parts, blocks_of(n, BLOCK_THREADS), BLOCK_THREADS, 0, stream, n, x->parts,
                  x->dV, dV);
}

int64_t sites_row_parts(int64_t columns)
{
    return (columns + ROWS_PART - 1) / ROWS_PART;
}

static status bias_gradient(device *dev, const sites_chunk *k, const sites_scratch *x,
                            const float *dq, float *db)
{
    const int64_t n = (int64_t)k->classes * k->rank, rows = k->windows * k->columns;
    const dim3 blocks = blocks_of(n, SITES_THREADS);
    const dim3 grid(blocks.x, (unsigned)sites_row_parts(rows));
    cudaStream_t stream = cuda_of(dev)->stream;
    TRY(LAUNCH(sites_rows, grid, SITES_THREADS, 0, stream, rows, n, dq, x->db));
    return LAUNCH(sites_parts, blocks, SITES_THREADS, 0, stream, n, (int)grid.y, x->db, db);
}

status sites_gradients_cuda(device *dev, const sites_chunk *k, const sites_args *a,
                            const sites_windows *w, const sites_scratch *x, float *q, float *drows,
                            float *dV, float *db)
{
    cudaStream_t stream = cuda_of(dev)->stream;
    const unsigned slices = (unsigned)(k->windows * k->slices);
    const int64_t groups = (k->classes + TOKEN_CLASSES - 1) / TOKEN_CLASSES;
    const size_t bytes = back_bytes(k);
    TRY(LAUNCH(sites_slopes, slices, SITES_THREADS, 0, stream, *k, w->dw, drows));
    TRY(runs_gradient(dev, k, x, drows, dV)); /* before R makes room for the gradients */
    if (bytes > SHARED_PLAIN)
        TRY(ALLOW_SHARED(sites_back, bytes));
    TRY(LAUNCH(sites_back, slices, SITES_THREADS, bytes, stream, *k, a->V, x->turned, a->b, q,
               drows, x->head, x->whole));
    TRY(LAUNCH(sites_join, slices, SITES_THREADS, 0, stream, *k, x->head, x->whole, drows));
    TRY(LAUNCH(sites_tokens, blocks_of(k->windows * k->columns * groups * WARP, SITES_THREADS),
               SITES_THREADS, 0, stream, *k, drows, q));
    return bias_gradient(dev, k, x, q, db);
}