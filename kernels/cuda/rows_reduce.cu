/* rows_reduce on the GPU: a stable radix sort of (slot, position), 8 bits a pass, then sums over
 * equal slots in the order of their positions, in fp64. Each pass counts the digits of every tile,
 * turns the counts into places, and lets each warp put its keys down in order. How many slots there
 * are is known to the host, so that nothing comes back to it. And rows_gather. */
#include "kernels/cuda/columns.h"
#include "kernels/cuda/launch.cuh"

/* Keys a thread. Tests make it small, so that there are many tiles. */
#ifndef SORT_ROUNDS
#define SORT_ROUNDS 8
#endif

#define WARPS (BLOCK_THREADS / WARP)
#define BITS 8
#define DIGITS 256 /* one a thread */
#define PASSES 4
#define TILE (SORT_ROUNDS * BLOCK_THREADS) /* keys of a block, in order */
#define AHEAD 8                            /* loads on their way while a sum goes on */

typedef struct {
    uint64_t *from, *to; /* keys before and after a pass */
    unsigned *count;     /* (DIGITS, tiles) */
    unsigned *total;     /* (DIGITS) keys of each digit, in this pass */
    int64_t n, tiles;
} sort_room;

static int64_t tiles_of(int64_t n)
{
    return (n + TILE - 1) / TILE;
}

extern "C" size_t rows_reduce_workspace_cuda(const device *dev, int64_t n, int64_t k)
{
    (void)dev;
    (void)k;
    return 2 * arena_round((size_t)(n + 1) * sizeof(uint64_t)) +
           arena_round((size_t)(tiles_of(n) * DIGITS) * sizeof(unsigned));
}

/* ---- keys: slot in the upper half, position in the lower; what is left out has slot `out`, behind
 * all ---- */

KERNEL(keys_make)
(int64_t n, unsigned out, const int32_t *__restrict__ slot, uint64_t *__restrict__ key)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        key[i] = (uint64_t)(slot[i] < 0 ? out : (unsigned)slot[i]) << 32 | (uint64_t)i;
}

/* ---- one pass ---- */

static __device__ inline unsigned digit_of(uint64_t key, int pass)
{
    return (unsigned)(key >> (32 + BITS * pass)) % DIGITS;
}

KERNEL(digits_count)(sort_room s, int pass)
{
    SHARED(unsigned, count); /* (DIGITS) */
    const int64_t first = (int64_t)blockIdx.x * TILE + threadIdx.x;
    count[threadIdx.x] = 0;
    __syncthreads();
    for (int i = 0; i < SORT_ROUNDS; i++)
        if (first + i * BLOCK_THREADS < s.n)
            atomicAdd(&count[digit_of(s.from[first + i * BLOCK_THREADS], pass)], 1u);
    __syncthreads();
    s.count[(int64_t)blockIdx.x * DIGITS + threadIdx.x] = count[threadIdx.x];
}

/* The sum of what the threads before this one have. `part`: one number a warp, free again after the
 * next __syncthreads(). */
static __device__ inline unsigned block_before(unsigned x, unsigned *part)
{
    const unsigned warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    unsigned sum = x;
    for (unsigned step = 1; step < WARP; step *= 2) {
        const unsigned left = __shfl_up_sync(FULL_WARP, sum, step);
        sum += lane >= step ? left : 0;
    }
    if (lane == WARP - 1)
        part[warp] = sum;
    __syncthreads();
    unsigned before = 0;
    for (unsigned w = 0; w < warp; w++)
        before += part[w];
    return before + sum - x;
}

/* Counts become sums of those of the tiles before. A block has 32 digits, one a lane, a warp its
 * share of the tiles. */
KERNEL(digits_before)(sort_room s)
{
    SHARED(unsigned, part); /* (WARPS, WARP) */
    const int64_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int64_t first = s.tiles * warp / WARPS, end = s.tiles * (warp + 1) / WARPS;
    unsigned *count = s.count + blockIdx.x * WARP + lane;
    unsigned sum = 0, before = 0, all = 0;
#pragma unroll 8
    for (int64_t t = first; t < end; t++)
        sum += count[t * DIGITS];
    part[threadIdx.x] = sum;
    __syncthreads();
    for (int64_t w = 0; w < WARPS; w++) {
        before += w < warp ? part[w * WARP + lane] : 0;
        all += part[w * WARP + lane];
    }
    for (int64_t t = first; t < end; t += AHEAD) {
        unsigned own[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            own[i] = t + i < end ? count[(t + i) * DIGITS] : 0;
#pragma unroll
        for (int i = 0; i < AHEAD; i++, before += own[i - 1])
            if (t + i < end)
                count[(t + i) * DIGITS] = before;
    }
    if (warp == 0)
        s.total[blockIdx.x * WARP + lane] = all;
}

/* Lanes of the warp with the same digit; those that are not `live` have none. */
static __device__ inline unsigned same_digit(unsigned digit, bool live)
{
    unsigned same = __ballot_sync(FULL_WARP, live);
    for (int bit = 0; bit < BITS; bit++) {
        const unsigned yes = __ballot_sync(FULL_WARP, digit >> bit & 1);
        same &= digit >> bit & 1 ? yes : ~yes;
    }
    return same;
}

/* A warp's keys go to place[digit], in order; place[digit] goes on. */
static __device__ inline void keys_put(const uint64_t *key, int64_t left, int pass, unsigned *place,
                                       uint64_t *to)
{
    const unsigned lane = threadIdx.x % WARP;
#pragma unroll
    for (int i = 0; i < SORT_ROUNDS; i++) {
        if (i * WARP >= left)
            return;
        const bool live = i * WARP + (int64_t)lane < left;
        const unsigned digit = live ? digit_of(key[i], pass) : 0;
        const unsigned same = same_digit(digit, live), before = same & ((1u << lane) - 1);
        if (live)
            to[place[digit] + (unsigned)__popc(before)] = key[i];
        __syncwarp();
        if (live && before == 0)
            place[digit] += (unsigned)__popc(same);
        __syncwarp();
    }
}

KERNEL(keys_move)(sort_room s, int pass)
{
    SHARED(unsigned, place); /* (WARPS, DIGITS): first counts, then places */
    unsigned *part = place + WARPS * DIGITS;
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int64_t first = (int64_t)blockIdx.x * TILE + warp * SORT_ROUNDS * WARP,
                  left = s.n - first;
    const uint64_t *from = s.from + first;
    uint64_t key[SORT_ROUNDS];
    for (int w = 0; w < WARPS; w++)
        place[w * DIGITS + threadIdx.x] = 0;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < SORT_ROUNDS; i++) {
        key[i] = i * WARP + lane < left ? from[i * WARP + lane] : 0;
        if (i * WARP + lane < left)
            atomicAdd(&place[warp * DIGITS + digit_of(key[i], pass)], 1u);
    }
    unsigned at = block_before(s.total[threadIdx.x], part); /* a barrier, too */
    at += s.count[(int64_t)blockIdx.x * DIGITS + threadIdx.x];
    for (int w = 0; w < WARPS; w++) {
        const unsigned own = place[w * DIGITS + threadIdx.x];
        place[w * DIGITS + threadIdx.x] = at;
        at += own;
    }
    __syncthreads();
    keys_put(key, left, pass, place + warp * DIGITS, s.to);
}

/* ---- sums ---- */

/* Where the keys of each slot begin, and those that are left out (or the end): thread i has the
 * slots behind key i - 1's, up to key i's. */
KERNEL(begins_find)
(int64_t n, int64_t slots, const uint64_t *__restrict__ key, uint64_t *__restrict__ begin)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i > n)
        return;
    const int64_t end = i < n ? (int64_t)(key[i] >> 32) : slots;
    for (int64_t s = i > 0 ? (int64_t)(key[i - 1] >> 32) + 1 : 0; s <= end; s++)
        begin[s] = (uint64_t)i;
}

/* `lanes` lanes a slot and piece of `lanes` elements. */
KERNEL(rows_sum)
(int64_t slots, int64_t k, int lanes, const uint64_t *__restrict__ key,
 const uint64_t *__restrict__ begin, const int32_t *__restrict__ of, const float *__restrict__ grad,
 const int32_t *__restrict__ place, float *__restrict__ to)
{
    const int64_t pieces = (k + lanes - 1) / lanes;
    const int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t slot = thread / lanes / pieces;
    const int64_t e = thread / lanes % pieces * lanes + thread % lanes;
    if (slot >= slots || e >= k)
        return;
    const int64_t first = (int64_t)begin[slot], end = (int64_t)begin[slot + 1];
    if (first == end)
        return;
    double total = 0;
    for (int64_t i = first; i < end; i += AHEAD) {
        float x[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            const int64_t at = i + a < end ? (int64_t)(unsigned)key[i + a] : -1;
            x[a] = at < 0 ? 0.0f : grad[(of ? of[at] : at) * k + e];
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
            total += (double)x[a];
    }
    to[place[slot] * k + e] += (float)total;
}

KERNEL(rows_take)
(int64_t count, int64_t k, const int32_t *__restrict__ index, const float *__restrict__ from,
 float *__restrict__ out)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count * k)
        out[i] = from[index[i / k] * k + i % k];
}

/* ---- the operations ---- */

/* Keys in order at s->from. */
static status keys_sort(cudaStream_t stream, sort_room *s, unsigned out, const int32_t *slot)
{
    const dim3 tiles((unsigned)s->tiles);
    const size_t part = WARPS * sizeof(unsigned), digits = DIGITS * sizeof(unsigned);
    TRY(LAUNCH(keys_make, blocks_of(s->n, BLOCK_THREADS), BLOCK_THREADS, 0, stream, s->n, out, slot,
               s->from));
    for (int pass = 0; pass < PASSES && out >> (BITS * pass); pass++) {
        TRY(LAUNCH(digits_count, tiles, BLOCK_THREADS, digits, stream, *s, pass));
        TRY(LAUNCH(digits_before, DIGITS / WARP, BLOCK_THREADS, digits, stream, *s));
        TRY(LAUNCH(keys_move, tiles, BLOCK_THREADS, WARPS * digits + part, stream, *s, pass));
        uint64_t *const swap = s->from;
        s->from = s->to;
        s->to = swap;
    }
    return STATUS_OK;
}

static status sums_add(cudaStream_t stream, const sort_room *s, int64_t slots, int64_t k,
                       const int32_t *of, const float *grad, const int32_t *place, float *total)
{
    int lanes = 1;
    while (lanes < WARP && lanes < k)
        lanes *= 2;
    const int64_t threads = slots * ((k + lanes - 1) / lanes) * lanes;
    TRY(LAUNCH(begins_find, blocks_of(s->n + 1, BLOCK_THREADS), BLOCK_THREADS, 0, stream, s->n,
               slots, s->from, s->to));
    return LAUNCH(rows_sum, blocks_of(threads, BLOCK_THREADS), BLOCK_THREADS, 0, stream, slots, k,
                  lanes, s->from, s->to, of, grad, place, total);
}

extern "C" status rows_reduce_cuda(device *dev, int64_t n, int64_t slots, int64_t k,
                                   const int32_t *slot, const int32_t *of, const float *grad,
                                   const int32_t *place, float *total, arena *ws)
{
    if (n <= 0 || slots <= 0 || k <= 0)
        return STATUS_OK;
    if (n >= INT32_MAX)
        return fail(STATUS_USAGE, "rows: %lld positions at once; lower train.micro_batch",
                    (long long)n);
    cuda_state *c = cuda_of(dev);
    const size_t mark = arena_mark(ws), keys = (size_t)(n + 1) * sizeof(uint64_t);
    sort_room s = {};
    s.n = n;
    s.tiles = tiles_of(n);
    s.total = (unsigned *)c->scratch;
    s.from = (uint64_t *)arena_take(ws, keys);
    s.to = (uint64_t *)arena_take(ws, keys);
    s.count = (unsigned *)arena_take(ws, (size_t)(s.tiles * DIGITS) * sizeof *s.count);
    status st = STATUS_OK;
    if (!s.from || !s.to || !s.count) {
        st = cuda_workspace_short("rows", ws);
        goto done;
    }
    TRY_GOTO(done, keys_sort(c->stream, &s, (unsigned)slots, slot));
    st = sums_add(c->stream, &s, slots, k, of, grad, place, total);
done:
    arena_release(ws, mark);
    return st;
}

extern "C" status rows_gather_cuda(device *dev, int64_t count, int64_t k, const int32_t *index,
                                   const float *from, float *out)
{
    if (count * k == 0)
        return STATUS_OK;
    return LAUNCH(rows_take, blocks_of(count * k, BLOCK_THREADS), BLOCK_THREADS, 0,
                  cuda_of(dev)->stream, count, k, index, from, out);
}
