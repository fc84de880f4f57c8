/* mixout: the residual and the bias stand in `out` before the product is added to them, so that the
 * product is written once; backward works in the gradients' own memory. */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/segment.cuh"

/* out = x v, a row stride each. */
KERNEL(gate_rows)
(int64_t columns, int64_t segments, const float *__restrict__ x, const float *__restrict__ v,
 int64_t ld, float *__restrict__ out, int64_t ld_out)
{
    const int64_t r = blockIdx.x / segments, begin = blockIdx.x % segments * SEGMENT;
    const int64_t to = begin + SEGMENT < columns ? begin + SEGMENT : columns;
#pragma unroll 4
    for (int64_t j = begin + threadIdx.x; j < to; j += BLOCK_THREADS)
        out[r * ld_out + j] = x[r * ld + j] * v[r * ld + j];
}

static status gate_launch(device *dev, int64_t rows, int64_t columns, const float *gate,
                          const float *y, int64_t ld, float *out, int64_t ld_out)
{
    const int64_t segments = segments_of(columns);
    return LAUNCH(gate_rows, (unsigned)(rows * segments), BLOCK_THREADS, 0, cuda_of(dev)->stream,
                  columns, segments, gate, y, ld, out, ld_out);
}

/* dgate holds the gradient of gate * y: dy = it gate, dgate = it y. */
KERNEL(ungate_elements)
(int64_t n, const float *__restrict__ gate, const float *__restrict__ y, float *__restrict__ dgate,
 float *__restrict__ dy)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const float e = dgate[i];
    dy[i] = e * gate[i];
    dgate[i] = e * y[i];
}

extern "C" size_t mixout_workspace_cuda(const device *dev, const mixout_args *a)
{
    (void)dev;
    const int64_t n = a->s.B * a->s.Lp;
    const size_t forward = floats_size(a->d * chunk_columns(a->d, n));
    const size_t backward = rows_sum_workspace_cuda(a->d, n);
    return forward > backward ? forward : backward;
}

extern "C" status mixout_forward_cuda(device *dev, const mixout_args *a, const float *gate,
                                      const float *y, const float *residual, float *out, arena *ws)
{
    const int64_t d = a->d, n = a->s.B * a->s.Lp, wide = chunk_columns(d, n);
    const size_t mark = arena_mark(ws);
    status st = STATUS_OK;
    float *gated = take_floats(ws, d * wide);
    if (!gated)
        return cuda_workspace_short("mixout", ws);
    for (int64_t c0 = 0; c0 < n; c0 += wide) {
        const int64_t T = c0 + wide < n ? wide : n - c0;
        TRY_GOTO(done, gate_launch(dev, d, T, gate + c0, y + c0, n, gated, wide));
        TRY_GOTO(done, residual_bias_cuda(dev, a->s, c0, T, d, residual + c0, a->b, out + c0, n));
        TRY_GOTO(done,
                 gemm_cuda(dev, false, false, d, T, d, a->W, d, gated, wide, 1.0f, out + c0, n));
    }
done:
    arena_release(ws, mark);
    return st;
}

/* dy holds gate * y until W's gradient is made of it. */
extern "C" status mixout_backward_cuda(device *dev, const mixout_args *a, const float *gate,
                                       const float *y, const float *dout, float *dgate, float *dy,
                                       float *dW, float *db, arena *ws)
{
    const int64_t d = a->d, n = a->s.B * a->s.Lp;
    TRY(rows_sum_cuda(dev, d, n, dout, n, db, ws));
    TRY(gate_launch(dev, d, n, gate, y, n, dy, n));
    TRY(gemm_cuda(dev, false, true, d, d, n, dout, n, dy, n, 1.0f, dW, d));
    TRY(gemm_cuda(dev, true, false, d, n, d, a->W, d, dout, n, 0.0f, dgate, n));
    return LAUNCH(ungate_elements, blocks_of(d * n, BLOCK_THREADS), BLOCK_THREADS, 0,
                  cuda_of(dev)->stream, d * n, gate, y, dgate, dy);
}
