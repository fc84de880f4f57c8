/* ranges on the CPU: a running sum a column; ranges do not overlap, so each row is read once. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#define USUAL_K 32 /* compiled with this constant, and once more for any other */
#define COLUMNS 64 /* columns a share of a thread */

VMATH void sums_of_ranges(const ranges_args *a, int64_t first, int64_t end, float *out,
                          const int64_t k)
{
    for (int64_t c = first; c < end; c++) {
        float *restrict sum = out + c * k;
        memset(sum, 0, (size_t)k * sizeof *sum);
        for (int64_t i = a->start[c]; i < a->start[c + 1]; i++) {
            if (a->slot[i] < 0)
                continue;
            const float *restrict row = a->A + a->slot[i] * k;
#pragma omp simd
            for (int64_t r = 0; r < k; r++)
                sum[r] += row[r];
        }
    }
}

KERNEL_CLONES
static void ranges_share(const ranges_args *a, int64_t first, int64_t end, float *out)
{
    if (a->k == USUAL_K)
        sums_of_ranges(a, first, end, out, USUAL_K);
    else
        sums_of_ranges(a, first, end, out, a->k);
}

status ranges_forward_cpu(device *dev, const ranges_args *a, float *out, arena *ws)
{
    (void)ws;
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic, 1)
    for (int64_t c = 0; c < a->columns; c += COLUMNS)
        ranges_share(a, c, least(c + COLUMNS, a->columns), out);
    return STATUS_OK;
}
