/* Sums over columns and zeros at pads. Sums go in two steps: every block leaves one number a
 * segment, then a warp a row adds them up; both orders depend on the shape alone. */
#include "kernels/cuda/columns.h"
#include "kernels/cuda/segment.cuh"

#define ROWS_BLOCK (BLOCK_THREADS / WARP) /* rows of a block of row_of_parts: a warp each */

extern "C" status cuda_workspace_short(const char *operation, const arena *ws)
{
    return fail(STATUS_MEMORY, "%s: %zu bytes of workspace are too few; plan for this shape",
                operation, ws->size);
}

KERNEL(row_of_parts)
(int64_t rows, int64_t parts, const double *__restrict__ part, float *__restrict__ out)
{
    const int64_t r = (int64_t)blockIdx.x * ROWS_BLOCK + threadIdx.x / WARP;
    const int64_t lane = threadIdx.x % WARP;
    double sum = 0;
    if (r >= rows)
        return; /* a whole warp */
    for (int64_t p = lane; p < parts; p += WARP)
        sum += part[r * parts + p];
    for (int step = WARP / 2; step > 0; step /= 2)
        sum += __shfl_down_sync(FULL_WARP, sum, step);
    if (lane == 0)
        out[r] += (float)sum;
}

extern "C" status parts_add_cuda(device *dev, int64_t rows, int64_t parts, const double *part,
                                 float *out)
{
    if (rows == 0)
        return STATUS_OK;
    return LAUNCH(row_of_parts, blocks_of(rows, ROWS_BLOCK), BLOCK_THREADS, 0, cuda_of(dev)->stream,
                  rows, parts, part, out);
}

KERNEL(segment_sums)
(int64_t columns, int64_t segments, const float *__restrict__ x, int64_t ld,
 double *__restrict__ part)
{
    SHARED(double, warp);
    const int64_t r = blockIdx.x / segments, from = blockIdx.x % segments * SEGMENT;
    const int64_t to = from + SEGMENT < columns ? from + SEGMENT : columns;
    float sum = 0;
#pragma unroll 4
    for (int64_t j = from + threadIdx.x; j < to; j += BLOCK_THREADS)
        sum += x[r * ld + j];
    const double total = block_sum((double)sum, warp);
    if (threadIdx.x == 0)
        part[blockIdx.x] = total;
}

extern "C" size_t rows_sum_workspace_cuda(int64_t rows, int64_t columns)
{
    return doubles_size(rows * segments_of(columns));
}

extern "C" status rows_sum_cuda(device *dev, int64_t rows, int64_t columns, const float *x,
                                int64_t ld, float *sums, arena *ws)
{
    if (rows == 0 || columns == 0)
        return STATUS_OK;
    const size_t mark = arena_mark(ws), shared = BLOCK_THREADS / WARP * sizeof(double);
    const int64_t segments = segments_of(columns);
    double *part = take_doubles(ws, rows * segments);
    if (!part)
        return cuda_workspace_short("sums over columns", ws);
    status st = STATUS_OK;
    TRY_GOTO(done, LAUNCH(segment_sums, (unsigned)(rows * segments), BLOCK_THREADS, shared,
                          cuda_of(dev)->stream, columns, segments, x, ld, part));
    st = parts_add_cuda(dev, rows, segments, part, sums);
done:
    arena_release(ws, mark);
    return st;
}

/* A thread a pad: `pads` of them in every sequence; those outside of the chunk are left alone. */
KERNEL(pads_zero)
(batch_shape s, int64_t first, int64_t columns, int64_t from, int64_t n, int64_t rows, float *x,
 int64_t ld)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, pads = s.Lp - s.L;
    if (i >= rows * n)
        return;
    const int64_t r = i / n, k = i % n;
    const int64_t j = (from + k / pads) * s.Lp + s.L + k % pads - first;
    if (j >= 0 && j < columns)
        x[r * ld + j] = 0.0f;
}

extern "C" status pads_clear_cuda(device *dev, batch_shape s, int64_t first, int64_t columns,
                                  int64_t rows, float *x, int64_t ld)
{
    if (s.L == s.Lp || rows == 0 || columns == 0)
        return STATUS_OK;
    const int64_t from = first / s.Lp, to = (first + columns + s.Lp - 1) / s.Lp; /* sequences */
    const int64_t n = (to - from) * (s.Lp - s.L);
    return LAUNCH(pads_zero, blocks_of(rows * n, BLOCK_THREADS), BLOCK_THREADS, 0,
                  cuda_of(dev)->stream, s, first, columns, from, n, rows, x, ld);
}

KERNEL(residual_bias)
(batch_shape s, int64_t first, int64_t columns, int64_t segments, const float *x,
 const float *__restrict__ bias, float *out, int64_t ld)
{
    const segment g = segment_of(s, first, columns, segments);
    const float b = bias[g.row];
    int64_t t = g.t;
#pragma unroll 4
    for (int64_t j = g.from; j < g.to; j += BLOCK_THREADS) {
        out[g.row * ld + j] = t < s.L ? x[g.row * ld + j] + b : 0.0f;
        t = segment_step(s, &g, t);
    }
}

extern "C" status residual_bias_cuda(device *dev, batch_shape s, int64_t first, int64_t columns,
                                     int64_t rows, const float *x, const float *bias, float *out,
                                     int64_t ld)
{
    const int64_t segments = segments_of(columns);
    return LAUNCH(residual_bias, (unsigned)(rows * segments), BLOCK_THREADS, 0,
                  cuda_of(dev)->stream, s, first, columns, segments, x, bias, out, ld);
}
