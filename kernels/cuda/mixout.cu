/* mixout: the residual and the bias stand in `out` before the product is added to them, so that the
 * product is written once; backward works in the gradients' own memory. */
#include "kernels/cuda/segment.cuh"
#include "kernels/cuda/wide.cuh"

/* out = x v, a row stride each. */
template <typename T>
KERNEL(gate_rows)
(int64_t columns, int64_t segments, const T *__restrict__ x, const T *__restrict__ v, int64_t ld,
 T *__restrict__ out, int64_t ld_out)
{
    const int64_t r = blockIdx.x / segments, begin = blockIdx.x % segments * SEGMENT;
    const int64_t to = begin + SEGMENT < columns ? begin + SEGMENT : columns;
#pragma unroll 4
    for (int64_t j = begin + threadIdx.x; j < to; j += BLOCK_THREADS)
        put(out + r * ld_out + j, number(x[r * ld + j]) * number(v[r * ld + j]));
}

template <typename T>
static status gate_launch(device *dev, int64_t rows, int64_t columns, const T *gate, const T *y,
                          int64_t ld, T *out, int64_t ld_out)
{
    const int64_t segments = segments_of(columns);
    return LAUNCH(gate_rows<T>, (unsigned)(rows * segments), BLOCK_THREADS, 0, cuda_of(dev)->stream,
                  columns, segments, gate, y, ld, out, ld_out);
}

/* dgate holds the gradient of gate * y: dy = it gate, dgate = it y. */
template <typename T>
KERNEL(ungate_elements)
(int64_t n, const T *__restrict__ gate, const T *__restrict__ y, T *__restrict__ dgate,
 T *__restrict__ dy)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const float e = number(dgate[i]);
    put(dy + i, e * number(gate[i]));
    put(dgate + i, e * number(y[i]));
}

/* Columns whose gradients go through the products at once: all where dout itself is the operand. */
template <typename T> static int64_t backward_columns(const mixout_args *a)
{
    const int64_t n = a->s.B * a->s.Lp;
    return room_of<T>(1) ? chunk_columns(a->d, n) : n;
}

template <typename T> static size_t workspace(const mixout_args *a)
{
    const int64_t d = a->d, n = a->s.B * a->s.Lp;
    const size_t weights = wide_size<T>(room_of<T>(d * d));
    const size_t forward = wide_size<T>(d * chunk_columns(d, n));
    const size_t sums = rows_sum_workspace_cuda(d, n);
    const size_t copies = wide_size<T>(room_of<T>(d * backward_columns<T>(a)));
    const size_t backward = sums > copies ? sums : copies;
    return weights + (forward > backward ? forward : backward);
}

extern "C" size_t mixout_workspace_cuda(const device *dev, const mixout_args *a)
{
    (void)dev;
    return a->mixed ? workspace<bf16>(a) : workspace<float>(a);
}

template <typename T>
static status forward(device *dev, const mixout_args *a, const T *gate, const T *y,
                      const float *residual, float *out, arena *ws)
{
    const int64_t d = a->d, n = a->s.B * a->s.Lp, wide = chunk_columns(d, n);
    const size_t mark = arena_mark(ws);
    status st = STATUS_OK;
    operand<T> W;
    T *room, *gated;
    if (!room_take(ws, d * d, &room) || !(gated = take_wide<T>(ws, d * wide))) {
        st = cuda_workspace_short("mixout", ws);
        goto done;
    }
    TRY_GOTO(done, operand_of(dev, d, d, a->W, d, room, &W));
    for (int64_t c0 = 0; c0 < n; c0 += wide) {
        const int64_t columns = c0 + wide < n ? wide : n - c0;
        TRY_GOTO(done, gate_launch(dev, d, columns, gate + c0, y + c0, n, gated, wide));
        TRY_GOTO(done,
                 residual_bias_cuda(dev, a->s, c0, columns, d, residual + c0, a->b, out + c0, n));
        TRY_GOTO(done, gemm(dev, false, false, d, columns, d, W.at, W.ld, gated, wide, 1.0f,
                            out + c0, n));
    }
done:
    arena_release(ws, mark);
    return st;
}

extern "C" status mixout_forward_cuda(device *dev, const mixout_args *a, const void *gate,
                                      const void *y, const float *residual, float *out, arena *ws)
{
    if (a->mixed)
        return forward(dev, a, (const bf16 *)gate, (const bf16 *)y, residual, out, ws);
    return forward(dev, a, (const float *)gate, (const float *)y, residual, out, ws);
}

/* dy holds gate * y until W's gradient is made of it. */
template <typename T>
static status backward(device *dev, const mixout_args *a, const T *gate, const T *y,
                       const float *dout, T *dgate, T *dy, float *dW, float *db, arena *ws)
{
    const int64_t d = a->d, n = a->s.B * a->s.Lp, wide = backward_columns<T>(a);
    const size_t mark = arena_mark(ws);
    status st = STATUS_OK;
    operand<T> W, e;
    T *weights, *copies;
    TRY(rows_sum_cuda(dev, d, n, dout, n, db, ws));
    if (!room_take(ws, d * d, &weights) || !room_take(ws, d * wide, &copies)) {
        st = cuda_workspace_short("mixout", ws);
        goto done;
    }
    TRY_GOTO(done, operand_of(dev, d, d, a->W, d, weights, &W));
    TRY_GOTO(done, gate_launch(dev, d, n, gate, y, n, dy, n));
    for (int64_t c0 = 0; c0 < n; c0 += wide) {
        const int64_t columns = c0 + wide < n ? wide : n - c0;
        TRY_GOTO(done, operand_of(dev, d, columns, dout + c0, n, copies, &e));
        TRY_GOTO(done, gemm(dev, false, true, d, d, columns, e.at, e.ld, dy + c0, n, 1.0f, dW, d));
        TRY_GOTO(done, gemm(dev, true, false, d, columns, d, W.at, W.ld, e.at, e.ld, 0.0f,
                            dgate + c0, n));
    }
    st = LAUNCH(ungate_elements<T>, blocks_of(d * n, BLOCK_THREADS), BLOCK_THREADS, 0,
                cuda_of(dev)->stream, d * n, gate, y, dgate, dy);
done:
    arena_release(ws, mark);
    return st;
}

extern "C" status mixout_backward_cuda(device *dev, const mixout_args *a, const void *gate,
                                       const void *y, const float *dout, void *dgate, void *dy,
                                       float *dW, float *db, arena *ws)
{
    if (a->mixed)
        return backward(dev, a, (const bf16 *)gate, (const bf16 *)y, dout, (bf16 *)dgate,
                        (bf16 *)dy, dW, db, ws);
    return backward(dev, a, (const float *)gate, (const float *)y, dout, (float *)dgate,
                    (float *)dy, dW, db, ws);
}
