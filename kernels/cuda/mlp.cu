/* mlp: chunks of columns go through LayerNorm, fc1, GELU and fc2; the wide intermediate exists for
 * one chunk, unless the caller keeps it. Bias and GELU are one pass over it, GELU's gradient and
 * the bias gradient another. The residual and fc2's bias stand in `out` before the product is added
 * to them. In bf16 a kept h stays without its bias: adding it would round it twice. */
#include "kernels/cuda/gelu.cuh"
#include "kernels/cuda/segment.cuh"
#include "kernels/cuda/wide.cuh"

template <typename T> struct mlp_chunk {
    int64_t wide;         /* columns of a chunk, and row stride of what follows */
    T *n;                 /* (d): LN(x), at last its gradient */
    T *act, *dact;        /* (inner): fc1's product, then gelu; gradients of them */
    T *rooms[2], *copies; /* bf16: of W1 and W2, (d) of dout */
    operand<T> W1, W2;    /* (inner, d), (d, inner) */
    float *mean, *rstd;   /* one row */
    double *part;         /* (inner, segments): the bias gradient */
};

/* Has a kept h its bias? */
template <typename T> static bool biased(const T *h)
{
    return h && !room_of<T>(1);
}

/* act = gelu(h + bias), zero at pads. h is act, or what the caller keeps: then it gets its bias
 * where `add`. */
template <typename T>
KERNEL(bias_gelu)
(batch_shape s, int64_t first, int64_t columns, int64_t segments, const float *__restrict__ bias,
 int64_t add, T *h, int64_t ldh, T *act, int64_t ld)
{
    const segment g = segment_of(s, first, columns, segments);
    const float b = bias[g.row];
    int64_t t = g.t;
#pragma unroll 4
    for (int64_t j = g.from; j < g.to; j += BLOCK_THREADS) {
        const float x = t < s.L ? number(h[g.row * ldh + j]) + b : 0.0f;
        if (add)
            put(h + g.row * ldh + j, x);
        put(act + g.row * ld + j, gelu(x));
        t = segment_step(s, &g, t);
    }
}

/* h (bias NULL: it has it) -> act = gelu, dact *= gelu'; part: sums of dact. act may be h. dact is
 * zero at pads. */
template <typename T>
KERNEL(gelu_backward)
(int64_t columns, int64_t segments, const float *__restrict__ bias, const T *h, int64_t ldh, T *act,
 T *__restrict__ dact, int64_t ld, double *__restrict__ part)
{
    SHARED(double, warp);
    const int64_t r = blockIdx.x / segments, begin = blockIdx.x % segments * SEGMENT;
    const int64_t to = begin + SEGMENT < columns ? begin + SEGMENT : columns;
    const float b = bias ? bias[r] : 0.0f;
    float sum = 0.0f;
#pragma unroll 4
    for (int64_t j = begin + threadIdx.x; j < to; j += BLOCK_THREADS) {
        float slope;
        put(act + r * ld + j, gelu_both(number(h[r * ldh + j]) + b, &slope));
        const float e = number(dact[r * ld + j]) * slope;
        put(dact + r * ld + j, e);
        sum += e;
    }
    const double total = block_sum((double)sum, warp);
    if (threadIdx.x == 0)
        part[blockIdx.x] = total;
}

static int64_t columns_of(const mlp_args *a)
{
    return a->s.B * a->s.Lp;
}

/* What sums take while a chunk is there: not at once. */
static size_t sums_size(const mlp_args *a, int64_t wide)
{
    const size_t rows = rows_sum_workspace_cuda(a->d, wide);
    const size_t norm = ln_backward_workspace_cuda(a->d, wide);
    return rows > norm ? rows : norm;
}

template <typename T> static size_t workspace(const mlp_args *a)
{
    const int64_t wide = chunk_columns(a->inner, columns_of(a));
    return wide_size<T>(a->d * wide) + 2 * wide_size<T>(a->inner * wide) + 2 * floats_size(wide) +
           2 * wide_size<T>(room_of<T>(a->inner * a->d)) + wide_size<T>(room_of<T>(a->d * wide)) +
           doubles_size(a->inner * segments_of(wide)) + sums_size(a, wide);
}

extern "C" size_t mlp_workspace_cuda(const device *dev, const mlp_args *a, bool kept)
{
    (void)dev;
    (void)kept; /* gelu of a kept h stands where h would */
    return a->mixed ? workspace<bf16>(a) : workspace<float>(a);
}

/* The chunk's memory, and the weights as operands. */
template <typename T>
static status chunk_take(device *dev, const mlp_args *a, bool backward, mlp_chunk<T> *k, arena *ws)
{
    const int64_t d = a->d, inner = a->inner;
    *k = mlp_chunk<T>{};
    k->wide = chunk_columns(inner, columns_of(a));
    k->n = take_wide<T>(ws, d * k->wide);
    k->act = take_wide<T>(ws, inner * k->wide);
    bool all = k->n && k->act && room_take(ws, inner * d, &k->rooms[0]) &&
               room_take(ws, inner * d, &k->rooms[1]);
    if (all && backward) {
        k->dact = take_wide<T>(ws, inner * k->wide);
        k->mean = take_floats(ws, k->wide);
        k->rstd = take_floats(ws, k->wide);
        k->part = take_doubles(ws, inner * segments_of(k->wide));
        all = k->dact && k->mean && k->rstd && k->part && room_take(ws, d * k->wide, &k->copies);
    }
    if (!all)
        return cuda_workspace_short("mlp", ws);
    TRY(operand_of(dev, inner, d, a->W1, d, k->rooms[0], &k->W1));
    return operand_of(dev, d, inner, a->W2, inner, k->rooms[1], &k->W2);
}

template <typename T>
static status forward_chunk(device *dev, const mlp_args *a, const mlp_chunk<T> *k, int64_t c0,
                            int64_t columns, const float *x, T *h, float *out)
{
    const int64_t n = columns_of(a), d = a->d, inner = a->inner, segments = segments_of(columns);
    T *product = h ? h + c0 : k->act;
    const int64_t ld = h ? n : k->wide;
    TRY(ln_forward(dev, d, columns, x + c0, n, a->ln_w, a->ln_b, k->n, k->wide, NULL, NULL));
    TRY(gemm(dev, false, false, inner, columns, d, k->W1.at, k->W1.ld, k->n, k->wide, 0.0f, product,
             ld));
    TRY(LAUNCH(bias_gelu<T>, (unsigned)(inner * segments), BLOCK_THREADS, 0, cuda_of(dev)->stream,
               a->s, c0, columns, segments, a->b1, biased(h), product, ld, k->act, k->wide));
    TRY(residual_bias_cuda(dev, a->s, c0, columns, d, x + c0, a->b2, out + c0, n));
    return gemm(dev, false, false, d, columns, inner, k->W2.at, k->W2.ld, k->act, k->wide, 1.0f,
                out + c0, n);
}

template <typename T>
static status forward(device *dev, const mlp_args *a, const float *x, T *h, float *out, arena *ws)
{
    const int64_t n = columns_of(a);
    const size_t mark = arena_mark(ws);
    mlp_chunk<T> k;
    status st;
    TRY_GOTO(done, chunk_take(dev, a, false, &k, ws));
    for (int64_t c0 = 0; c0 < n; c0 += k.wide) {
        const int64_t columns = c0 + k.wide < n ? k.wide : n - c0;
        TRY_GOTO(done, forward_chunk(dev, a, &k, c0, columns, x, h, out));
    }
done:
    arena_release(ws, mark);
    return st;
}

extern "C" status mlp_forward_cuda(device *dev, const mlp_args *a, const float *x, void *h,
                                   float *out, arena *ws)
{
    return a->mixed ? forward(dev, a, x, (bf16 *)h, out, ws)
                    : forward(dev, a, x, (float *)h, out, ws);
}

/* dout, the gradient of the output, is zero at pads, and so is everything that is multiplied by it.
 */
template <typename T>
static status backward_chunk(device *dev, const mlp_args *a, const mlp_chunk<T> *k, int64_t c0,
                             int64_t columns, const float *x, const T *h, float *dresidual,
                             const mlp_grads *grads, arena *ws)
{
    const int64_t n = columns_of(a), d = a->d, inner = a->inner, w = k->wide;
    const int64_t segments = segments_of(columns);
    const size_t shared = BLOCK_THREADS / WARP * sizeof(double);
    float *dout = dresidual + c0;
    operand<T> e;
    TRY(operand_of(dev, d, columns, dout, n, k->copies, &e));
    TRY(ln_forward(dev, d, columns, x + c0, n, a->ln_w, a->ln_b, k->n, w, k->mean, k->rstd));
    if (!h)
        TRY(gemm(dev, false, false, inner, columns, d, k->W1.at, k->W1.ld, k->n, w, 0.0f, k->act,
                 w));
    TRY(gemm(dev, true, false, inner, columns, d, k->W2.at, k->W2.ld, e.at, e.ld, 0.0f, k->dact,
             w));
    TRY(LAUNCH(gelu_backward<T>, (unsigned)(inner * segments), BLOCK_THREADS, shared,
               cuda_of(dev)->stream, columns, segments, biased(h) ? NULL : a->b1,
               h ? h + c0 : k->act, h ? n : w, k->act, k->dact, w, k->part));
    TRY(parts_add_cuda(dev, inner, segments, k->part, grads->b1));
    TRY(gemm(dev, false, true, d, inner, columns, e.at, e.ld, k->act, w, 1.0f, grads->W2, inner));
    TRY(rows_sum_cuda(dev, d, columns, dout, n, grads->b2, ws));
    TRY(gemm(dev, false, true, inner, d, columns, k->dact, w, k->n, w, 1.0f, grads->W1, d));
    TRY(gemm(dev, true, false, d, columns, inner, k->W1.at, k->W1.ld, k->dact, w, 0.0f, k->n, w));
    return ln_backward(dev, d, columns, k->n, w, x + c0, n, k->mean, k->rstd, a->ln_w, dout, n,
                       true, grads->ln_w, grads->ln_b, ws);
}

template <typename T>
static status backward(device *dev, const mlp_args *a, const float *x, const T *h, float *dresidual,
                       const mlp_grads *grads, arena *ws)
{
    const int64_t n = columns_of(a);
    const size_t mark = arena_mark(ws);
    mlp_chunk<T> k;
    status st;
    TRY_GOTO(done, chunk_take(dev, a, true, &k, ws));
    for (int64_t c0 = 0; c0 < n; c0 += k.wide) {
        const int64_t columns = c0 + k.wide < n ? k.wide : n - c0;
        TRY_GOTO(done, backward_chunk(dev, a, &k, c0, columns, x, h, dresidual, grads, ws));
    }
done:
    arena_release(ws, mark);
    return st;
}

extern "C" status mlp_backward_cuda(device *dev, const mlp_args *a, const float *x, const void *h,
                                    float *dresidual, const mlp_grads *grads, arena *ws)
{
    return a->mixed ? backward(dev, a, x, (const bf16 *)h, dresidual, grads, ws)
                    : backward(dev, a, x, (const float *)h, dresidual, grads, ws);
}
