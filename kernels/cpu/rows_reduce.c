/* rows_reduce: a stable radix sort of (slot, place), then sums over equal slots in the order of
 * their places, in fp64. The sort has one right answer, so any number of threads gives the same
 * bits. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <omp.h>

#define DIGITS 256
#define SORT_THREADS 64 /* counts of so many threads stand on the stack: 64 KB */
#define LANES 32        /* elements of a row at a time: four registers of doubles */
#define SHARE 64        /* rows of sums a share of a thread */

size_t rows_reduce_workspace_cpu(const device *dev, int64_t n, int64_t k)
{
    (void)dev;
    (void)k;
    return 2 * arena_round((size_t)n * sizeof(uint64_t));
}

/* slot in the upper half, place in the lower; what is left out sorts behind the largest slot. */
static uint32_t keys_make(int64_t n, const int32_t *slot, uint64_t *key, int threads)
{
    int32_t most = -1;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(max : most)
    for (int64_t i = 0; i < n; i++)
        most = slot[i] > most ? slot[i] : most;
    const uint32_t out = (uint32_t)most + 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        key[i] = (uint64_t)(slot[i] < 0 ? out : (uint32_t)slot[i]) << 32 | (uint64_t)i;
    return out;
}

/* Counts of each thread's share become the places where it puts its keys: digits in order, within
 * a digit threads in order. */
static void counts_to_places(uint32_t (*count)[DIGITS], int team)
{
    uint32_t at = 0;
    for (int d = 0; d < DIGITS; d++)
        for (int t = 0; t < team; t++) {
            const uint32_t n = count[t][d];
            count[t][d] = at;
            at += n;
        }
}

static void sort_pass(int64_t n, int shift, const uint64_t *from, uint64_t *to, int threads)
{
    uint32_t count[SORT_THREADS][DIGITS];
#pragma omp parallel num_threads((int)least(threads, SORT_THREADS))
    {
        const int team = omp_get_num_threads(), thread = omp_get_thread_num();
        const tile_share own = share_of(n, team, thread);
        uint32_t *mine = count[thread];
        memset(mine, 0, sizeof count[thread]);
        for (int64_t i = own.first; i < own.end; i++)
            mine[from[i] >> shift & (DIGITS - 1)]++;
#pragma omp barrier
#pragma omp single
        counts_to_places(count, team);
        for (int64_t i = own.first; i < own.end; i++)
            to[mine[from[i] >> shift & (DIGITS - 1)]++] = from[i];
    }
}

/* sum (k) = sum of the rows of grad that keys [first, end) name, in order. */
VMATH void row_sum(int64_t k, const uint64_t *key, int64_t first, int64_t end, const int32_t *of,
                   const float *grad, float *restrict sum)
{
    for (int64_t e0 = 0; e0 < k; e0 += LANES) {
        const int64_t width = least(LANES, k - e0);
        double total[LANES] = {0};
        for (int64_t i = first; i < end; i++) {
            const int64_t place = (int64_t)(uint32_t)key[i];
            const float *restrict row = grad + (of ? of[place] : place) * k + e0;
            if (width == LANES)
                for (int64_t e = 0; e < LANES; e++)
                    total[e] += (double)row[e];
            else
                for (int64_t e = 0; e < width; e++)
                    total[e] += (double)row[e];
        }
        for (int64_t e = 0; e < width; e++)
            sum[e0 + e] = (float)total[e];
    }
}

/* Rows [r0, r1) of the sums. begin: where each of the `rows` rows' keys begin; live: keys in all.
 */
KERNEL_CLONES
static void rows_sum_share(int64_t k, int64_t r0, int64_t r1, int64_t rows, int64_t live,
                           const uint64_t *begin, const uint64_t *key, const int32_t *of,
                           const float *grad, float *sum)
{
    for (int64_t r = r0; r < r1; r++) {
        const int64_t end = r + 1 < rows ? (int64_t)begin[r + 1] : live;
        row_sum(k, key, (int64_t)begin[r], end, of, grad, sum + r * k);
    }
}

status rows_reduce_cpu(device *dev, int64_t n, int64_t k, const int32_t *slot, const int32_t *of,
                       const float *grad, int32_t *unique, float *sum, int64_t *count, arena *ws)
{
    *count = 0;
    if (n <= 0)
        return STATUS_OK;
    if (n > INT32_MAX)
        return fail(STATUS_USAGE, "rows: %lld positions at once; lower train.micro_batch",
                    (long long)n);
    const size_t mark = arena_mark(ws);
    uint64_t *key = arena_take(ws, (size_t)n * sizeof *key);
    uint64_t *other = arena_take(ws, (size_t)n * sizeof *other);
    if (!key || !other) {
        arena_release(ws, mark);
        return workspace_short("rows", rows_reduce_workspace_cpu(dev, n, k), ws);
    }
    const uint32_t out = keys_make(n, slot, key, dev->threads);
    for (int shift = 32; shift < 64 && out >> (shift - 32); shift += 8) {
        sort_pass(n, shift, key, other, dev->threads);
        uint64_t *swap = key;
        key = other;
        other = swap;
    }
    int64_t rows = 0, live = 0; /* other: where each row's keys begin */
    for (; live < n && key[live] >> 32 != out; live++)
        if (live == 0 || key[live] >> 32 != key[live - 1] >> 32) {
            unique[rows] = (int32_t)(key[live] >> 32);
            other[rows++] = (uint64_t)live;
        }
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic, 1)
    for (int64_t r = 0; r < rows; r += SHARE)
        rows_sum_share(k, r, least(r + SHARE, rows), rows, live, other, key, of, grad, sum);
    *count = rows;
    arena_release(ws, mark);
    return STATUS_OK;
}
