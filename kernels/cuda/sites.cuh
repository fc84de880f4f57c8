/* sites on a GPU: what its files share. Columns are taken in chunks (whole windows, or a part of
 * one), and a window's entries in a chunk in slices of a block each; a slice walks tiles of 64
 * entries whose rows stand in shared memory, one element of the rank after the other. How many
 * entries there are the host never knows: the index arrays lie on the device, so that grids and
 * workspace depend on the shape alone and blocks find their entries themselves. */
#ifndef CROCUTA_KERNELS_CUDA_SITES_CUH
#define CROCUTA_KERNELS_CUDA_SITES_CUH

#include "kernels/cuda/launch.cuh"

#include <math.h>

#define SITES_CLASSES 64   /* most classes */
#define SITES_THREADS 128  /* a block: 16 groups of 8 threads */
#define SITES_GROUP 8      /* threads that share entries; each has 4 of 32 elements */
#define SITES_ELEMENTS 32  /* elements of the rank that meet a product at once */
#define SITES_WIDE_RANK 96 /* up to here a thread has 4 entries, above it 1: shared memory */

/* A chunk of columns as its kernels know it, by value. */
typedef struct {
    int64_t Lp;
    int64_t b0, windows; /* windows [b0, b0 + windows) */
    int64_t t0, columns; /* positions [t0, t0 + columns) of each; several windows: all of them */
    int classes, rank;
    int slices; /* of each window */
    int labelled;
    const float *rows;
    const int64_t *start;
    const int64_t *first; /* (B, Lp + 1) first entry whose token is t or later */
    const int32_t *slot, *token;
    const uint8_t *carried;
} sites_chunk;

static inline __host__ __device__ int sites_padded(int rank)
{
    return (rank + SITES_ELEMENTS - 1) / SITES_ELEMENTS * SITES_ELEMENTS;
}

static inline __host__ __device__ int sites_tile(int rank) /* entries */
{
    return rank <= SITES_WIDE_RANK ? 64 : 16;
}

static inline __host__ __device__ int sites_stride(int rank) /* of an element's entries */
{
    return rank <= SITES_WIDE_RANK ? 68 : 16;
}

static inline __host__ __device__ int64_t sites_width(const sites_chunk *k)
{
    return 2 * (int64_t)k->rank + k->classes;
}

/* Entries [from, to) of a block, all of window b. */
typedef struct {
    int64_t b, from, to;
} sites_slice;

static __device__ inline int64_t sites_begin(const sites_chunk *k, int64_t b)
{
    return k->t0 == 0 ? k->start[b] : k->first[b * (k->Lp + 1) + k->t0];
}

static __device__ inline int64_t sites_end(const sites_chunk *k, int64_t b)
{
    return k->first[b * (k->Lp + 1) + k->t0 + k->columns];
}

static __device__ inline sites_slice sites_slice_of(const sites_chunk *k, int64_t block)
{
    const int64_t b = k->b0 + block / k->slices, s = block % k->slices, tile = sites_tile(k->rank);
    const int64_t low = sites_begin(k, b), high = sites_end(k, b);
    const int64_t each = ((high - low + k->slices - 1) / k->slices + tile - 1) / tile * tile;
    sites_slice own = {b, low + s * each, low + (s + 1) * each};
    own.from = own.from < high ? own.from : high;
    own.to = own.to < high ? own.to : high;
    return own;
}

/* Has entry i an empty run? */
static __device__ inline bool sites_run_empty(const sites_chunk *k, int64_t b, int64_t i)
{
    return k->token[i] < 0 || i == k->start[b] || k->token[i - 1] != k->token[i];
}

/* log sigma(z), exact in both tails; and sigma(-z). */
static __device__ inline float sites_log_sigmoid(float z)
{
    return (z < 0.0f ? z : 0.0f) - log1pf(expf(-fabsf(z)));
}

static __device__ inline float sites_slope(float z)
{
    const float u = expf(-fabsf(z)), s = 1.0f / (1.0f + u);
    return z < 0.0f ? s : u * s;
}

/* A tile in shared memory. Elements first: element r of entry e stands at r * stride + e. */
typedef struct {
    float *G, *R; /* (padded, stride) */
    float *v;     /* (32, 32) of V */
    float *z;     /* (classes, tile + 1) */
    float *carry; /* (padded) sum over a run, on its way from tile to tile */
    int *token, *slot, *empty;
} sites_shared;

static inline __host__ __device__ size_t sites_shared_bytes(int classes, int rank)
{
    const size_t padded = (size_t)sites_padded(rank), tile = (size_t)sites_tile(rank);
    const size_t floats = 2 * padded * (size_t)sites_stride(rank) +
                          SITES_ELEMENTS * SITES_ELEMENTS + (size_t)classes * (tile + 1) + padded;
    return floats * sizeof(float) + 3 * tile * sizeof(int);
}

static __device__ inline sites_shared sites_shared_cut(const sites_chunk *k, float *at)
{
    const int padded = sites_padded(k->rank), tile = sites_tile(k->rank);
    sites_shared s;
    s.G = at;
    s.R = s.G + padded * sites_stride(k->rank);
    s.v = s.R + padded * sites_stride(k->rank);
    s.carry = s.v + SITES_ELEMENTS * SITES_ELEMENTS;
    s.token = (int *)(s.carry + padded);
    s.slot = s.token + tile;
    s.empty = s.slot + tile;
    s.z = (float *)(s.empty + tile);
    return s;
}

/* Entries [i0, i0 + n): index arrays, G, and into R what stands at `second` of the row of each
 * (`by_slot`: of rows, otherwise of drows). Synchronises before and after. */
static __device__ inline void sites_tile_load(const sites_chunk *k, const sites_shared *s,
                                              int64_t b, int64_t i0, int n, const float *second,
                                              bool by_slot)
{
    const int tile = sites_tile(k->rank), ld = sites_stride(k->rank);
    const int padded = sites_padded(k->rank), lane = (int)threadIdx.x % WARP;
    const int64_t width = sites_width(k);
    __syncthreads();
    for (int e = (int)threadIdx.x; e < tile; e += (int)blockDim.x) {
        s->token[e] = e < n ? k->token[i0 + e] : -1;
        s->slot[e] = e < n ? k->slot[i0 + e] : -1;
        s->empty[e] = e >= n || sites_run_empty(k, b, i0 + e);
    }
    __syncthreads();
#pragma unroll 4
    for (int e = (int)threadIdx.x / WARP; e < tile; e += (int)blockDim.x / WARP) {
        const int64_t slot = s->slot[e];
        const int64_t from = by_slot ? slot : e < n ? i0 + e - k->start[0] : -1;
        for (int r = lane; r < padded; r += WARP) {
            s->G[r * ld + e] = slot >= 0 && r < k->rank ? k->rows[slot * width + r] : 0.0f;
            s->R[r * ld + e] = from >= 0 && r < k->rank ? second[from * width + k->rank + r] : 0.0f;
        }
    }
    __syncthreads();
}

/* Rows [row, row + 32) and as many columns of a (rank, rank) matrix, zeros outside. */
static __device__ inline void sites_block_load(const float *__restrict__ from, int rank, int row,
                                               int column, float *v)
{
    for (int i = (int)threadIdx.x; i < SITES_ELEMENTS * SITES_ELEMENTS; i += (int)blockDim.x) {
        const int r = row + i / SITES_ELEMENTS, c = column + i % SITES_ELEMENTS;
        v[i] = r < rank && c < rank ? from[(int64_t)r * rank + c] : 0.0f;
    }
}

/* sum[m][j] += sum over 32 elements of `a` (32, ld), at the thread's entries, times v (32, 32), at
 * its columns. M is 4 or 1, a constant wherever this is called. */
static __device__ __forceinline__ void sites_product(const int M, const float *a, int ld,
                                                     const float *v, float sum[4][4])
{
    const float *own = a + (int)threadIdx.x / SITES_GROUP * M;
    const float *column = v + (int)threadIdx.x % SITES_GROUP * 4;
#pragma unroll 8
    for (int i = 0; i < SITES_ELEMENTS; i++) {
        const float4 w = *(const float4 *)(column + i * SITES_ELEMENTS);
        float x[4];
        if (M == 4) {
            const float4 four = *(const float4 *)(own + i * ld);
            x[0] = four.x;
            x[1] = four.y;
            x[2] = four.z;
            x[3] = four.w;
        } else {
            x[0] = own[i * ld];
        }
#pragma unroll
        for (int m = 0; m < M; m++) {
            sum[m][0] = fmaf(x[m], w.x, sum[m][0]);
            sum[m][1] = fmaf(x[m], w.y, sum[m][1]);
            sum[m][2] = fmaf(x[m], w.z, sum[m][2]);
            sum[m][3] = fmaf(x[m], w.w, sum[m][3]);
        }
    }
}

/* The query of an entry's token at element r of class c, without the run; 0 where there is no
 * token. */
static __device__ inline float sites_query(const sites_chunk *k, int64_t b, int token, int c, int r,
                                           const float *__restrict__ q,
                                           const float *__restrict__ bias)
{
    if (token < 0 || r >= k->rank)
        return 0.0f;
    const int64_t CR = (int64_t)k->classes * k->rank, at = (int64_t)c * k->rank + r;
    return q[((b - k->b0) * k->columns + token - k->t0) * CR + at] + bias[at];
}

/* ---- launches (sites_entries.cu, sites_gradients.cu, sites_windows.cu) ---- */

/* What belongs to windows, all in device memory. */
typedef struct {
    double *w;      /* (B, classes + 2): by class; log p_0 of entries without token; carried ones */
    double *hidden; /* (B, H) sums of gelu over tokens */
    double *loss;   /* (B, 2) sum and count */
    double *g;      /* (B, classes) gradient of the class logits */
    double *deh;    /* (B, H) */
    float *dw;      /* (B, classes) gradient of w */
    float *dhidden; /* (B, H) */
    loss_sum *total;
} sites_windows;

/* first of all windows. */
status sites_first_cuda(device *dev, const sites_args *a, int64_t *first);
/* part (windows * slices, classes + 2); site_logits and drows may be NULL. drows keeps the logits
 * where the gradient of the bias belongs and R where that of run does. */
status sites_logits_cuda(device *dev, const sites_chunk *k, const sites_args *a, const float *q,
                         float *site_logits, float *drows, double *part);

/* Room of a backward pass over entries. */
typedef struct {
    float *turned; /* (classes * rank, rank) V with every class' matrix transposed */
    float *dV;     /* (parts, classes * rank, rank) */
    float *db;     /* (sites_row_parts, classes * rank) */
    float *head;   /* (windows * slices, rank) */
    int *whole;    /* (windows * slices) */
    int parts;
} sites_scratch;
int64_t sites_row_parts(int64_t columns);
status sites_turn_cuda(device *dev, const sites_args *a, float *turned);
/* Of a chunk that has been forward, with turned: drows is finished, q becomes its own gradient, dV
 * and db are added to. */
status sites_gradients_cuda(device *dev, const sites_chunk *k, const sites_args *a,
                            const sites_windows *w, const sites_scratch *x, float *q, float *drows,
                            float *dV, float *db);

/* Adds a chunk's parts to the windows. */
status sites_fold_cuda(device *dev, const sites_chunk *k, const double *part,
                       const sites_windows *w);
/* pre (H, columns of the chunk): gelu(pre + eh) over a window's tokens is added to hidden. */
status sites_evidence_cuda(device *dev, const sites_chunk *k, const sites_args *a, const float *pre,
                           const sites_windows *w);
/* pre becomes its own gradient, summed into deh. */
status sites_evidence_backward_cuda(device *dev, const sites_chunk *k, const sites_args *a,
                                    float *pre, const sites_windows *w);
/* Outputs (NULL: not wanted), each window's loss, and with `backward` the gradients of windows. */
status sites_windows_cuda(device *dev, const sites_args *a, const sites_windows *w,
                          float *class_logits, double *sequence_nll, bool backward);
/* dscale, dEo, deo and deh, after the last chunk. */
status sites_parameters_cuda(device *dev, const sites_args *a, const sites_windows *w,
                             const sites_grads *grads);

#endif
