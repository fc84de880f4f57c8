/* norm_squares: sums of squares in fp64. The numbers are cut into parts that depend on n alone, a
 * block sums a part in a fixed order, one block adds up the parts: the same bits on every run. The
 * result is a note. */
#include "kernels/cuda/launch.cuh"

#define PARTS 1024      /* blocks at most: seven for each SM of the largest GPU */
#define PART_LEAST 4096 /* elements: a shorter part is not worth a block */

KERNEL(norm_parts)(const float *__restrict__ x, int64_t n, double *__restrict__ part)
{
    SHARED(double, warp);
    const int64_t from = n * blockIdx.x / gridDim.x, to = n * (blockIdx.x + 1) / gridDim.x;
    double sum = 0;
    for (int64_t i = from + threadIdx.x; i < to; i += blockDim.x)
        sum += (double)x[i] * (double)x[i];
    sum = block_sum(sum, warp);
    if (threadIdx.x == 0)
        part[blockIdx.x] = sum;
}

/* One block; everything in device memory. */
KERNEL(norm_total)(const double *__restrict__ part, int parts, double *__restrict__ total)
{
    SHARED(double, warp);
    double sum = 0;
    for (int i = (int)threadIdx.x; i < parts; i += (int)blockDim.x)
        sum += part[i];
    sum = block_sum(sum, warp);
    if (threadIdx.x == 0)
        *total = sum;
}

extern "C" status norm_squares_cuda(device *dev, const float *x, int64_t n, double *sum, arena *ws)
{
    (void)ws; /* the sums of the parts stand in the device's scratch */
    *sum = 0;
    if (n == 0)
        return STATUS_OK;
    cuda_state *c = cuda_of(dev);
    const size_t shared = BLOCK_THREADS / WARP * sizeof(double);
    const int64_t wanted = (n + PART_LEAST - 1) / PART_LEAST;
    const int parts = (int)(wanted < PARTS ? wanted : PARTS);
    double *part = (double *)c->scratch, *total = part + PARTS;
    TRY(LAUNCH(norm_parts, parts, BLOCK_THREADS, shared, c->stream, x, n, part));
    TRY(LAUNCH(norm_total, 1, BLOCK_THREADS, shared, c->stream, part, parts, total));
    return cuda_note_take(c, sum, total, sizeof *sum);
}
