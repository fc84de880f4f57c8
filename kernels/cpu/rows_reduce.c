/* rows_reduce: a stable radix sort of (slot, position), then sums over equal slots in the order of
 * their positions, in fp64. The sort has one right answer, so any number of threads gives the same
 * bits. And rows_gather. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <omp.h>

#define DIGITS 256
#define SORT_THREADS 64 /* counts of so many threads stand on the stack: 64 KB */
#define LANES 32        /* elements of a row at a time: four registers of doubles */
#define SHARE 64        /* slots a share of a thread */

size_t rows_reduce_workspace_cpu(const device *dev, int64_t n, int64_t k)
{
    (void)dev;
    (void)k;
    return 2 * arena_round((size_t)(n + 1) * sizeof(uint64_t));
}

/* slot in the upper half, position in the lower; what is left out has slot `out`, behind all. */
static void keys_make(int64_t n, uint32_t out, const int32_t *slot, uint64_t *key, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        key[i] = (uint64_t)(slot[i] < 0 ? out : (uint32_t)slot[i]) << 32 | (uint64_t)i;
}

/* Where the keys of each slot begin, and those that are left out. */
static void begins_find(int64_t n, int64_t slots, const uint64_t *key, uint64_t *begin)
{
    int64_t s = 0;
    for (int64_t i = 0; i < n; i++)
        while (s <= (int64_t)(key[i] >> 32))
            begin[s++] = (uint64_t)i;
    while (s <= slots)
        begin[s++] = (uint64_t)n;
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

/* sum (k) += sum of the rows of grad that keys [first, end) name, in order. */
VMATH void row_sum(int64_t k, const uint64_t *key, int64_t first, int64_t end, const int32_t *of,
                   const float *grad, float *restrict sum)
{
    for (int64_t e0 = 0; e0 < k; e0 += LANES) {
        const int64_t width = least(LANES, k - e0);
        double total[LANES] = {0};
        for (int64_t i = first; i < end; i++) {
            const int64_t at = (int64_t)(uint32_t)key[i];
            const float *restrict row = grad + (of ? of[at] : at) * k + e0;
            if (width == LANES)
                for (int64_t e = 0; e < LANES; e++)
                    total[e] += (double)row[e];
            else
                for (int64_t e = 0; e < width; e++)
                    total[e] += (double)row[e];
        }
        for (int64_t e = 0; e < width; e++)
            sum[e0 + e] += (float)total[e];
    }
}

/* Slots [s0, s1). */
KERNEL_CLONES
static void slots_share(int64_t k, int64_t s0, int64_t s1, const uint64_t *begin,
                        const uint64_t *key, const int32_t *of, const float *grad,
                        const int32_t *place, float *total)
{
    for (int64_t s = s0; s < s1; s++) {
        const int64_t first = (int64_t)begin[s], end = (int64_t)begin[s + 1];
        if (first < end)
            row_sum(k, key, first, end, of, grad, total + place[s] * k);
    }
}

status rows_reduce_cpu(device *dev, int64_t n, int64_t slots, int64_t k, const int32_t *slot,
                       const int32_t *of, const float *grad, const int32_t *place, float *total,
                       arena *ws)
{
    if (n <= 0 || slots <= 0)
        return STATUS_OK;
    if (n >= INT32_MAX)
        return fail(STATUS_USAGE, "rows: %lld positions at once; lower train.micro_batch",
                    (long long)n);
    const size_t mark = arena_mark(ws);
    uint64_t *key = arena_take(ws, (size_t)(n + 1) * sizeof *key);
    uint64_t *other = arena_take(ws, (size_t)(n + 1) * sizeof *other);
    if (!key || !other) {
        arena_release(ws, mark);
        return workspace_short("rows", rows_reduce_workspace_cpu(dev, n, k), ws);
    }
    const uint32_t out = (uint32_t)slots;
    keys_make(n, out, slot, key, dev->threads);
    for (int shift = 32; shift < 64 && out >> (shift - 32); shift += 8) {
        sort_pass(n, shift, key, other, dev->threads);
        uint64_t *swap = key;
        key = other;
        other = swap;
    }
    begins_find(n, slots, key, other);
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic, 1)
    for (int64_t s = 0; s < slots; s += SHARE)
        slots_share(k, s, least(s + SHARE, slots), other, key, of, grad, place, total);
    arena_release(ws, mark);
    return STATUS_OK;
}

status rows_gather_cpu(device *dev, int64_t count, int64_t k, const int32_t *index,
                       const float *from, float *out)
{
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < count; i++)
        memcpy(out + i * k, from + index[i] * k, (size_t)k * sizeof *out);
    return STATUS_OK;
}
