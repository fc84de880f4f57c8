/* sites, forward over entries. A block walks its slice tile by tile: rows into shared memory, a
 * running sum over run rows that begins anew at each token, then for each class the product of V
 * with the tile's G (V R . G = R . V'G, so that V is read as it lies), and from it logits and
 * log-likelihoods. Nothing of size entries x classes x rank exists anywhere. */
#include "kernels/cuda/sites.cuh"

/* The first entry with token t or a later one, for every t of every window. */
KERNEL(sites_first)
(int64_t B, int64_t Lp, const int64_t *__restrict__ start, const int32_t *__restrict__ token,
 int64_t *__restrict__ first)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= B * (Lp + 1))
        return;
    const int64_t b = i / (Lp + 1), t = i % (Lp + 1);
    int64_t low = start[b], high = start[b + 1];
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (token[middle] < t)
            low = middle + 1;
        else
            high = middle;
    }
    first[i] = low;
}

/* carry = the sum of run rows of entry i0's token before i0. Rows beyond `part` (4, padded) are not
 * touched. Entries of a token follow each other: a warp looks at 32 of them at once. */
static __device__ void run_before(const sites_chunk *k, int64_t b, int64_t i0, int64_t end,
                                  float *part, float *carry)
{
    const int padded = sites_padded(k->rank), lane = (int)threadIdx.x % WARP;
    const int warp = (int)threadIdx.x / WARP, warps = (int)blockDim.x / WARP;
    const int64_t width = sites_width(k), begin = k->start[b];
    int64_t from = i0;
    if (i0 < end && !sites_run_empty(k, b, i0)) {
        const int32_t t = k->token[i0];
        int found = WARP;
        while (found == WARP) {
            const int64_t i = from - 1 - lane;
            found = __popc(__ballot_sync(FULL_WARP, i >= begin && k->token[i] == t));
            from -= found;
        }
    }
    for (int r = lane; r < padded; r += WARP) {
        float sum = 0.0f;
        for (int64_t i = from + warp; i < i0; i += warps) {
            const int64_t slot = k->slot[i];
            sum += slot >= 0 && r < k->rank ? k->rows[slot * width + k->rank + r] : 0.0f;
        }
        part[warp * padded + r] = sum;
    }
    __syncthreads();
    for (int r = (int)threadIdx.x; r < padded; r += (int)blockDim.x) {
        float sum = 0.0f;
        for (int i = 0; i < warps; i++)
            sum += part[i * padded + r];
        carry[r] = sum;
    }
    __syncthreads();
}

/* R from the tile's run rows, in place. */
static __device__ void runs_of(const sites_chunk *k, const sites_shared *s, int n)
{
    const int ld = sites_stride(k->rank), padded = sites_padded(k->rank);
    for (int r = (int)threadIdx.x; r < padded; r += (int)blockDim.x) {
        float sum = s->carry[r], *row = s->R + r * ld;
#pragma unroll 8
        for (int e = 0; e < n; e++) {
            const float own = row[e];
            sum = s->empty[e] ? 0.0f : sum;
            row[e] = sum;
            sum += own;
        }
        s->carry[r] = sum;
    }
}

/* The elements of a block of 32 of a thread's entry: R . V'G + query . G. */
static __device__ __forceinline__ float
entry_dot(const sites_chunk *k, const sites_shared *s, int64_t b, int c, int r0, int e,
          const float *__restrict__ q, const float *__restrict__ bias, const float product[4])
{
    const int ld = sites_stride(k->rank);
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int r = r0 + (int)threadIdx.x % SITES_GROUP * 4 + j;
        sum = fmaf(product[j], s->R[r * ld + e], sum);
        sum = fmaf(sites_query(k, b, s->token[e], c, r, q, bias), s->G[r * ld + e], sum);
    }
    return sum;
}

/* Adds to z, which holds the biases. */
static __device__ __forceinline__ void
logits_of(const int M, const sites_chunk *k, const sites_shared *s, int64_t b,
          const float *__restrict__ V, const float *__restrict__ q, const float *__restrict__ bias)
{
    const int rank = k->rank, ld = sites_stride(rank), lde = sites_tile(rank) + 1;
    const int e0 = (int)threadIdx.x / SITES_GROUP * M;
    for (int c = 0; c < k->classes; c++) {
        const float *own = V + (int64_t)c * rank * rank;
        float dot[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (int r0 = 0; r0 < rank; r0 += SITES_ELEMENTS) {
            float product[4][4] = {{0.0f}};
            for (int i0 = 0; i0 < rank; i0 += SITES_ELEMENTS) {
                __syncthreads();
                sites_block_load(own, rank, i0, r0, s->v);
                __syncthreads();
                sites_product(M, s->G + i0 * ld, ld, s->v, product);
            }
#pragma unroll
            for (int m = 0; m < M; m++)
                dot[m] += entry_dot(k, s, b, c, r0, e0 + m, q, bias, product[m]);
        }
#pragma unroll
        for (int m = 0; m < M; m++) {
            for (int step = SITES_GROUP / 2; step > 0; step /= 2)
                dot[m] += __shfl_xor_sync(FULL_WARP, dot[m], step);
            if (threadIdx.x % SITES_GROUP == 0)
                s->z[c * lde + e0 + m] += dot[m];
        }
    }
    __syncthreads();
}

static __device__ void biases_load(const sites_chunk *k, const sites_shared *s)
{
    const int tile = sites_tile(k->rank);
    for (int i = (int)threadIdx.x; i < tile * k->classes; i += (int)blockDim.x) {
        const int e = i / k->classes, c = i % k->classes;
        const int64_t slot = s->slot[e];
        s->z[c * (tile + 1) + e] =
            slot >= 0 ? k->rows[slot * sites_width(k) + 2 * k->rank + c] : 0.0f;
    }
}

/* Logits to where they are wanted; z becomes log p. */
static __device__ void logits_out(const sites_chunk *k, const sites_shared *s, int64_t i0, int n,
                                  float *__restrict__ site_logits, float *__restrict__ drows)
{
    const int lde = sites_tile(k->rank) + 1, ld = sites_stride(k->rank);
    const int64_t at = i0 - k->start[0], width = sites_width(k);
    for (int i = (int)threadIdx.x; i < n * k->classes; i += (int)blockDim.x) {
        const int e = i / k->classes, c = i % k->classes;
        const float logit = s->z[c * lde + e];
        if (site_logits)
            site_logits[(at + e) * k->classes + c] = logit;
        if (drows)
            drows[(at + e) * width + 2 * k->rank + c] = logit;
        s->z[c * lde + e] = sites_log_sigmoid(k->carried[i0 + e] ? logit : -logit);
    }
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    for (int e = warp; drows && e < n; e += (int)blockDim.x / WARP)
        for (int r = lane; r < k->rank; r += WARP)
            drows[(at + e) * width + k->rank + r] = s->R[r * ld + e];
    __syncthreads();
}

/* A warp a sum: by class, then what stands outside of the loss, then carried entries. */
static __device__ void tile_sums(const sites_chunk *k, const sites_shared *s, int64_t i0, int n,
                                 double *sum)
{
    const int lde = sites_tile(k->rank) + 1, lane = (int)threadIdx.x % WARP;
    for (int c = (int)threadIdx.x / WARP; c < k->classes + 2; c += (int)blockDim.x / WARP) {
        double x = 0;
        for (int e = lane; e < n; e += WARP) {
            if (c < k->classes)
                x += (double)s->z[c * lde + e];
            else if (c == k->classes)
                x += s->token[e] < 0 ? (double)s->z[e] : 0.0;
            else
                x += s->token[e] >= 0 && k->carried[i0 + e];
        }
        for (int step = WARP / 2; step > 0; step /= 2)
            x += __shfl_down_sync(FULL_WARP, x, step);
        if (lane == 0)
            sum[c] += x;
    }
}

KERNEL(sites_logits)
(sites_chunk k, const float *__restrict__ V, const float *__restrict__ bias,
 const float *__restrict__ q, float *__restrict__ site_logits, float *__restrict__ drows,
 double *__restrict__ part)
{
    SHARED(double, sum); /* classes + 2, an even number of them */
    const int sums = k.classes + 2, tile = sites_tile(k.rank);
    const sites_shared s = sites_shared_cut(&k, (float *)(sum + (sums + 1) / 2 * 2));
    const sites_slice own = sites_slice_of(&k, blockIdx.x);
    for (int c = (int)threadIdx.x; c < sums; c += (int)blockDim.x)
        sum[c] = 0;
    run_before(&k, own.b, own.from, own.to, s.R, s.carry);
    for (int64_t i0 = own.from; i0 < own.to; i0 += tile) {
        const int n = (int)(own.to - i0 < tile ? own.to - i0 : tile);
        sites_tile_load(&k, &s, own.b, i0, n, k.rows, true);
        biases_load(&k, &s);
        runs_of(&k, &s, n);
        if (k.rank <= SITES_WIDE_RANK)
            logits_of(4, &k, &s, own.b, V, q, bias);
        else
            logits_of(1, &k, &s, own.b, V, q, bias);
        logits_out(&k, &s, i0, n, site_logits, drows);
        tile_sums(&k, &s, i0, n, sum);
    }
    __syncthreads();
    for (int c = (int)threadIdx.x; c < sums; c += (int)blockDim.x)
        part[(int64_t)blockIdx.x * sums + c] = sum[c];
}

status sites_first_cuda(device *dev, const sites_args *a, int64_t *first)
{
    return LAUNCH(sites_first, blocks_of(a->s.B * (a->s.Lp + 1), BLOCK_THREADS), BLOCK_THREADS, 0,
                  cuda_of(dev)->stream, a->s.B, a->s.Lp, a->start, a->token, first);
}

status sites_logits_cuda(device *dev, const sites_chunk *k, const sites_args *a, const float *q,
                         float *site_logits, float *drows, double *part)
{
    const size_t sums = (size_t)(k->classes + 3) / 2 * 2;
    const size_t bytes = sums * sizeof(double) + sites_shared_bytes(k->classes, k->rank);
    if (bytes > SHARED_PLAIN)
        TRY(ALLOW_SHARED(sites_logits, bytes));
    return LAUNCH(sites_logits, (unsigned)(k->windows * k->slices), SITES_THREADS, bytes,
                  cuda_of(dev)->stream, *k, a->V, a->b, q, site_logits, drows, part);
}
