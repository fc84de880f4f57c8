/* norm_squares: the sum of squares in fp64 over parts that depend on n alone, added up in order,
 * so that any number of threads gives the same bits. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#define BLOCK 4096
#define PARTS 256

KERNEL_CLONES
static double block_squares(const float *x, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

status norm_squares_cpu(device *dev, const float *x, int64_t n, double *sum, arena *ws)
{
    (void)ws; /* 256 sums stand on the stack */
    const int64_t blocks = (n + BLOCK - 1) / BLOCK, parts = least(blocks, PARTS);
    double part[PARTS];
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t p = 0; p < parts; p++) {
        part[p] = 0;
        for (int64_t b = blocks * p / parts; b < blocks * (p + 1) / parts; b++)
            part[p] += block_squares(x + b * BLOCK, least(BLOCK, n - b * BLOCK));
    }
    *sum = 0;
    for (int64_t p = 0; p < parts; p++)
        *sum += part[p];
    return STATUS_OK;
}
