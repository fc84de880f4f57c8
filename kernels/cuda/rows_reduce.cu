/* rows_reduce on the GPU: a stable radix sort of (slot, place), 8 bits a pass, then sums over equal
 * slots in the order of their places, in fp64. Each pass counts the digits of every tile, turns the
 * counts into places, and lets each warp put its keys down in order. How many passes the largest
 * slot needs is known on the GPU only: a pass that it does not need ends at once, and whoever comes
 * later finds the keys where the last real one left them. */
#include "kernels/cuda/columns.h"
#include "kernels/cuda/launch.cuh"

#include <string.h>

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

/* What the kernels of one call share, in the device's scratch. */
typedef struct {
    unsigned total[DIGITS]; /* keys of each digit, in this pass */
    int most;               /* the largest slot; -1: none */
    int64_t rows, live;     /* unique slots, keys that are not left out */
} sort_state;

typedef struct {
    uint64_t *even, *odd; /* keys after an even and an odd number of passes */
    unsigned *count;      /* (DIGITS, tiles); later (tiles) */
    sort_state *state;
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
    return 2 * arena_round((size_t)n * sizeof(uint64_t)) +
           arena_round((size_t)(tiles_of(n) * DIGITS) * sizeof(unsigned));
}

static __device__ inline uint64_t *keys_after(const sort_room *s, int passes)
{
    return passes % 2 ? s->odd : s->even;
}

/* ---- keys: slot in the upper half, place in the lower; what is left out sorts behind the largest
 * slot ---- */

KERNEL(largest_slot)(int64_t n, const int32_t *__restrict__ slot, sort_state *state)
{
    const int64_t first = (int64_t)blockIdx.x * TILE + threadIdx.x;
    int most = -1;
    for (int i = 0; i < SORT_ROUNDS; i++)
        if (first + i * BLOCK_THREADS < n)
            most = max(most, slot[first + i * BLOCK_THREADS]);
    for (int step = WARP / 2; step > 0; step /= 2)
        most = max(most, __shfl_down_sync(FULL_WARP, most, step));
    if (threadIdx.x % WARP == 0 && most >= 0)
        atomicMax(&state->most, most);
}

KERNEL(keys_make)(sort_room s, const int32_t *__restrict__ slot)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= s.n)
        return;
    const unsigned out = (unsigned)s.state->most + 1;
    s.even[i] = (uint64_t)(slot[i] < 0 ? out : (unsigned)slot[i]) << 32 | (uint64_t)i;
}

/* Passes that a largest key of `out` needs: as many as it has bytes. */
static __device__ inline int passes_of(const sort_state *state)
{
    const unsigned out = (unsigned)state->most + 1;
    int passes = 0;
    while (passes < PASSES && out >> (BITS * passes))
        passes++;
    return passes;
}

/* ---- one pass ---- */

static __device__ inline unsigned digit_of(uint64_t key, int pass)
{
    return (unsigned)(key >> (32 + BITS * pass)) % DIGITS;
}

KERNEL(digits_count)(sort_room s, int pass)
{
    SHARED(unsigned, count); /* (DIGITS) */
    if (pass >= passes_of(s.state))
        return;
    const uint64_t *keys = keys_after(&s, pass);
    const int64_t first = (int64_t)blockIdx.x * TILE + threadIdx.x;
    count[threadIdx.x] = 0;
    __syncthreads();
    for (int i = 0; i < SORT_ROUNDS; i++)
        if (first + i * BLOCK_THREADS < s.n)
            atomicAdd(&count[digit_of(keys[first + i * BLOCK_THREADS], pass)], 1u);
    __syncthreads();
    s.count[(int64_t)blockIdx.x * DIGITS + threadIdx.x] = count[threadIdx.x];
}

/* The sum of what the threads before this one have; *all: of all threads. `part`: one number a
 * warp, free again after the next __syncthreads(). */
static __device__ inline unsigned block_before(unsigned x, unsigned *part, unsigned *all)
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
    *all = 0;
    for (unsigned w = 0; w < WARPS; w++) {
        before += w < warp ? part[w] : 0;
        *all += part[w];
    }
    return before + sum - x;
}

/* Counts become sums of those of the tiles before. A block has 32 digits, one a lane, a warp its
 * share of the tiles. */
KERNEL(digits_before)(sort_room s, int pass)
{
    SHARED(unsigned, part); /* (WARPS, WARP) */
    if (pass >= passes_of(s.state))
        return;
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
        s.state->total[blockIdx.x * WARP + lane] = all;
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
    if (pass >= passes_of(s.state))
        return;
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int64_t first = (int64_t)blockIdx.x * TILE + warp * SORT_ROUNDS * WARP,
                  left = s.n - first;
    const uint64_t *from = keys_after(&s, pass) + first;
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
    unsigned all;
    unsigned at = block_before(s.state->total[threadIdx.x], part, &all); /* a barrier, too */
    at += s.count[(int64_t)blockIdx.x * DIGITS + threadIdx.x];
    for (int w = 0; w < WARPS; w++) {
        const unsigned own = place[w * DIGITS + threadIdx.x];
        place[w * DIGITS + threadIdx.x] = at;
        at += own;
    }
    __syncthreads();
    keys_put(key, left, pass, place + warp * DIGITS, keys_after(&s, pass + 1));
}

/* ---- unique slots: the first key of each ---- */

static __device__ inline const uint64_t *sorted_keys(const sort_room *s)
{
    return keys_after(s, passes_of(s->state));
}

/* Where each unique slot's keys begin: in the buffer that the keys are not in. */
static __device__ inline uint64_t *begins_of(const sort_room *s)
{
    return keys_after(s, passes_of(s->state) + 1);
}

static __device__ inline bool is_first(const uint64_t *key, int64_t i, unsigned out)
{
    const unsigned slot = (unsigned)(key[i] >> 32);
    return slot != out && (i == 0 || slot != (unsigned)(key[i - 1] >> 32));
}

/* Thread t has keys t SORT_ROUNDS .. of its tile. */
static __device__ inline unsigned firsts_of(const sort_room *s, const uint64_t *key, int64_t first)
{
    const unsigned out = (unsigned)s->state->most + 1;
    unsigned bits = 0;
    for (int i = 0; i < SORT_ROUNDS; i++)
        if (first + i < s->n && is_first(key, first + i, out))
            bits |= 1u << i;
    return bits;
}

KERNEL(firsts_count)(sort_room s)
{
    SHARED(unsigned, part);
    const int64_t first = (int64_t)blockIdx.x * TILE + threadIdx.x * SORT_ROUNDS;
    unsigned all;
    block_before((unsigned)__popc(firsts_of(&s, sorted_keys(&s), first)), part, &all);
    if (threadIdx.x == 0)
        s.count[blockIdx.x] = all;
}

/* One block: the tiles' counts become sums of those before. */
KERNEL(firsts_before)(sort_room s)
{
    SHARED(unsigned, part);
    unsigned carry = 0, all;
    for (int64_t t0 = 0; t0 < s.tiles; t0 += BLOCK_THREADS) {
        const int64_t t = t0 + threadIdx.x;
        const unsigned before = block_before(t < s.tiles ? s.count[t] : 0, part, &all);
        if (t < s.tiles)
            s.count[t] = carry + before;
        carry += all;
        __syncthreads();
    }
    if (threadIdx.x == 0)
        s.state->rows = carry;
}

/* Also finds where the keys that are left out begin. */
KERNEL(firsts_write)(sort_room s, int32_t *unique)
{
    SHARED(unsigned, part);
    const uint64_t *key = sorted_keys(&s);
    const unsigned out = (unsigned)s.state->most + 1;
    const int64_t first = (int64_t)blockIdx.x * TILE + threadIdx.x * SORT_ROUNDS;
    const unsigned bits = firsts_of(&s, key, first);
    unsigned all;
    unsigned row = s.count[blockIdx.x] + block_before((unsigned)__popc(bits), part, &all);
    for (int i = 0; i < SORT_ROUNDS && first + i < s.n; i++) {
        const unsigned slot = (unsigned)(key[first + i] >> 32);
        if (bits >> i & 1) {
            unique[row] = (int32_t)slot;
            begins_of(&s)[row++] = (uint64_t)(first + i);
        }
        const bool last = first + i == s.n - 1;
        if (slot != out && (last || (unsigned)(key[first + i + 1] >> 32) == out))
            s.state->live = first + i + 1;
    }
}

/* ---- sums: `lanes` lanes a row and piece of `lanes` elements ---- */

KERNEL(rows_sum)
(sort_room s, int64_t rows, int64_t k, int lanes, const int32_t *__restrict__ of,
 const float *__restrict__ grad, float *__restrict__ sum)
{
    const int64_t pieces = (k + lanes - 1) / lanes;
    const int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t row = thread / lanes / pieces;
    const int64_t e = thread / lanes % pieces * lanes + thread % lanes;
    if (row >= rows || e >= k)
        return;
    const uint64_t *key = sorted_keys(&s), *begin = begins_of(&s);
    const int64_t end = row + 1 < rows ? (int64_t)begin[row + 1] : s.state->live;
    double total = 0;
    for (int64_t i = (int64_t)begin[row]; i < end; i += AHEAD) {
        float x[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            const int64_t place = i + a < end ? (int64_t)(unsigned)key[i + a] : -1;
            x[a] = place < 0 ? 0.0f : grad[(of ? of[place] : place) * k + e];
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
            total += (double)x[a];
    }
    sum[row * k + e] = (float)total;
}

/* ---- the operation ---- */

static status keys_sort(cudaStream_t stream, const sort_room *s, const int32_t *slot)
{
    const dim3 tiles((unsigned)s->tiles);
    const size_t part = WARPS * sizeof(unsigned), digits = DIGITS * sizeof(unsigned);
    TRY_CUDA(cudaMemsetAsync(&s->state->most, 0xFF, sizeof s->state->most, stream)); /* -1 */
    TRY(LAUNCH(largest_slot, tiles, BLOCK_THREADS, 0, stream, s->n, slot, s->state));
    TRY(LAUNCH(keys_make, blocks_of(s->n, BLOCK_THREADS), BLOCK_THREADS, 0, stream, *s, slot));
    for (int pass = 0; pass < PASSES; pass++) {
        TRY(LAUNCH(digits_count, tiles, BLOCK_THREADS, digits, stream, *s, pass));
        TRY(LAUNCH(digits_before, DIGITS / WARP, BLOCK_THREADS, digits, stream, *s, pass));
        TRY(LAUNCH(keys_move, tiles, BLOCK_THREADS, WARPS * digits + part, stream, *s, pass));
    }
    return STATUS_OK;
}

/* The host waits here: for the number of unique slots. */
static status firsts_find(cuda_state *c, const sort_room *s, int32_t *unique, int64_t *count)
{
    const dim3 tiles((unsigned)s->tiles);
    const size_t part = WARPS * sizeof(unsigned);
    TRY(LAUNCH(firsts_count, tiles, BLOCK_THREADS, part, c->stream, *s));
    TRY(LAUNCH(firsts_before, 1, BLOCK_THREADS, part, c->stream, *s));
    TRY(LAUNCH(firsts_write, tiles, BLOCK_THREADS, part, c->stream, *s, unique));
    TRY_CUDA(cudaMemcpyAsync(c->host, &s->state->rows, sizeof *count, cudaMemcpyDeviceToHost,
                             c->stream));
    TRY_CUDA(cudaStreamSynchronize(c->stream));
    memcpy(count, c->host, sizeof *count);
    return STATUS_OK;
}

static status sums_make(cudaStream_t stream, const sort_room *s, int64_t rows, int64_t k,
                        const int32_t *of, const float *grad, float *sum)
{
    int lanes = 1;
    while (lanes < WARP && lanes < k)
        lanes *= 2;
    const int64_t threads = rows * ((k + lanes - 1) / lanes) * lanes;
    return LAUNCH(rows_sum, blocks_of(threads, BLOCK_THREADS), BLOCK_THREADS, 0, stream, *s, rows,
                  k, lanes, of, grad, sum);
}

extern "C" status rows_reduce_cuda(device *dev, int64_t n, int64_t k, const int32_t *slot,
                                   const int32_t *of, const float *grad, int32_t *unique,
                                   float *sum, int64_t *count, arena *ws)
{
    *count = 0;
    if (n <= 0)
        return STATUS_OK;
    if (n > INT32_MAX)
        return fail(STATUS_USAGE, "rows: %lld positions at once; lower train.micro_batch",
                    (long long)n);
    cuda_state *c = cuda_of(dev);
    const size_t mark = arena_mark(ws), keys = (size_t)n * sizeof(uint64_t);
    sort_room s = {};
    s.n = n;
    s.tiles = tiles_of(n);
    s.state = (sort_state *)c->scratch;
    s.even = (uint64_t *)arena_take(ws, keys);
    s.odd = (uint64_t *)arena_take(ws, keys);
    s.count = (unsigned *)arena_take(ws, (size_t)(s.tiles * DIGITS) * sizeof *s.count);
    status st = STATUS_OK;
    if (!s.even || !s.odd || !s.count) {
        st = cuda_workspace_short("rows", ws);
        goto done;
    }
    TRY_GOTO(done, keys_sort(c->stream, &s, slot));
    TRY_GOTO(done, firsts_find(c, &s, unique, count));
    if (*count > 0 && k > 0)
        TRY_GOTO(done, sums_make(c->stream, &s, *count, k, of, grad, sum));
done:
    arena_release(ws, mark);
    return st;
}
