/* fp32 to bf16, rows of a matrix: the copies that products read. */
#include "kernels/cuda/wide.cuh"

#include "kernels/cuda/launch.cuh"

/* A block takes SEGMENT columns of one row. Reads 4 and writes 2 bytes an element. */
KERNEL(narrow_rows)
(int64_t columns, int64_t segments, const float *__restrict__ x, int64_t ldx, bf16 *__restrict__ to,
 int64_t ld)
{
    const int64_t r = blockIdx.x / segments, begin = blockIdx.x % segments * SEGMENT;
    const int64_t end = begin + SEGMENT < columns ? begin + SEGMENT : columns;
#pragma unroll 4
    for (int64_t j = begin + threadIdx.x; j < end; j += BLOCK_THREADS)
        put(to + r * ld + j, x[r * ldx + j]);
}

status narrow_cuda(device *dev, int64_t rows, int64_t columns, const float *x, int64_t ldx,
                   bf16 *to, int64_t ld)
{
    if (ldx == columns && ld == columns) { /* one long row */
        columns *= rows;
        rows = 1;
    }
    if (rows == 0 || columns == 0)
        return STATUS_OK;
    const int64_t segments = segments_of(columns);
    return LAUNCH(narrow_rows, (unsigned)(rows * segments), BLOCK_THREADS, 0, cuda_of(dev)->stream,
                  columns, segments, x, ldx, to, ld);
}
