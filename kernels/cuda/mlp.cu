/* mlp: chunks of columns go through LayerNorm, fc1, GELU and fc2; the wide intermediate exists for
 * one chunk, unless the caller keeps it. Bias and GELU are one pass over it, GELU's gradient and
 * the bias gradient another. The residual and fc2's bias stand in `out` before the product is added
 * to them. */
#include "kernels/cuda/gelu.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/layernorm.h"
#include "kernels/cuda/segment.cuh"

typedef struct {
    int64_t wide;       /* columns of a chunk, and row stride of what follows */
    float *n;           /* (d): LN(x), at last its gradient */
    float *act, *dact;  /* (inner): fc1's product, then gelu; gradients of them */
    float *mean, *rstd; /* one row */
    double *part;       /* (inner, segments): the bias gradient */
} mlp_chunk;

/* act = gelu(h + bias), zero at pads. h is act, or what the caller keeps: then it gets its bias. */
KERNEL(bias_gelu)
(batch_shape s, int64_t first, int64_t columns, int64_t segments, const float *__restrict__ bias,
 float *h, int64_t ldh, float *act, int64_t ld)
{
    const segment g = segment_of(s, first, columns, segments);
    const float b = bias[g.row];
    int64_t t = g.t;
#pragma unroll 4
    for (int64_t j = g.from; j < g.to; j += BLOCK_THREADS) {
        const float x = t < s.L ? h[g.row * ldh + j] + b : 0.0f;
        if (h != act)
            h[g.row * ldh + j] = x;
        act[g.row * ld + j] = gelu(x);
        t = segment_step(s, &g, t);
    }
}

/* h (bias NULL: it has it) -> act = gelu, dact *= gelu'; part: sums of dact. act may be h. dact is
 * zero at pads. */
KERNEL(gelu_backward)
(int64_t columns, int64_t segments, const float *__restrict__ bias, const float *h, int64_t ldh,
 float *act, float *__restrict__ dact, int64_t ld, double *__restrict__ part)
{
    SHARED(double, warp);
    const int64_t r = blockIdx.x / segments, begin = blockIdx.x % segments * SEGMENT;
    const int64_t to = begin + SEGMENT < columns ? begin + SEGMENT : columns;
    const float b = bias ? bias[r] : 0.0f;
    float sum = 0.0f;
#pragma unroll 4
    for (int64_t j = begin + threadIdx.x; j < to; j += BLOCK_THREADS) {
        float slope;
        act[r * ld + j] = gelu_both(h[r * ldh + j] + b, &slope);
        const float e = dact[r * ld + j] * slope;
        dact[r * ld + j] = e;
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

extern "C" size_t mlp_workspace_cuda(const device *dev, const mlp_args *a, bool kept)
{
    (void)dev;
    (void)kept; /* gelu of a kept h stands where h would */
    const int64_t wide = chunk_columns(a->inner, columns_of(a));
    return floats_size(a->d * wide) + 2 * floats_size(a->inner * wide) + 2 * floats_size(wide) +
           doubles_size(a->inner * segments_of(wide)) + sums_size(a, wide);
}

static bool chunk_take(const mlp_args *a, bool backward, mlp_chunk *k, arena *ws)
{
    k->wide = chunk_columns(a->inner, columns_of(a));
    k->n = take_floats(ws, a->d * k->wide);
    k->act = take_floats(ws, a->inner * k->wide);
    k->dact = k->mean = k->rstd = NULL;
    k->part = NULL;
    if (!backward)
        return k->n && k->act;
    k->dact = take_floats(ws, a->inner * k->wide);
    k->mean = take_floats(ws, k->wide);
    k->rstd = take_floats(ws, k->wide);
    k->part = take_doubles(ws, a->inner * segments_of(k->wide));
    return k->n && k->act && k->dact && k->mean && k->rstd && k->part;
}

static status forward_chunk(device *dev, const mlp_args *a, const mlp_chunk *k, int64_t c0,
                            int64_t T, const float *x, float *h, float *out)
{
    const int64_t n = columns_of(a), d = a->d, inner = a->inner, segments = segments_of(T);
    float *product = h ? h + c0 : k->act;
    const int64_t ld = h ? n : k->wide;
    TRY(ln_forward_cuda(dev, d, T, x + c0, n, a->ln_w, a->ln_b, k->n, k->wide, NULL, NULL));
    TRY(gemm_cuda(dev, false, false, inner, T, d, a->W1, d, k->n, k->wide, 0.0f, product, ld));
    TRY(LAUNCH(bias_gelu, (unsigned)(inner * segments), BLOCK_THREADS, 0, cuda_of(dev)->stream,
               a->s, c0, T, segments, a->b1, product, ld, k->act, k->wide));
    TRY(residual_bias_cuda(dev, a->s, c0, T, d, x + c0, a->b2, out + c0, n));
    return gemm_cuda(dev, false, false, d, T, inner, a->W2, inner, k->act, k->wide, 1.0f, out + c0,
                     n);
}

extern "C" status mlp_forward_cuda(device *dev, const mlp_args *a, const float *x, float *h,
                                   float *out, arena *ws)
{
    const int64_t n = columns_of(a);
    const size_t mark = arena_mark(ws);
    status st = STATUS_OK;
    mlp_chunk k;
    if (!chunk_take(a, false, &k, ws)) {
        st = cuda_workspace_short("mlp", ws);
        goto done;
    }
    for (int64_t c0 = 0; c0 < n; c0 += k.wide) {
        const int64_t T = c0 + k.wide < n ? k.wide : n - c0;
        TRY_GOTO(done, forward_chunk(dev, a, &k, c0, T, x, h, out));
    }
done:
    arena_release(ws, mark);
    return st;
}

/* dout, the gradient of the output, is zero at pads, and so is everything that is multiplied by it.
 */
static status backward_chunk(device *dev, const mlp_args *a, const mlp_chunk *k, int64_t c0,
                             int64_t T, const float *x, const float *h, float *dresidual,
                             const mlp_grads *grads, arena *ws)
{
    const int64_t n = columns_of(a), d = a->d, inner = a->inner, w = k->wide;
    const int64_t segments = segments_of(T);
    const size_t shared = BLOCK_THREADS / WARP * sizeof(double);
    float *dout = dresidual + c0;
    TRY(ln_forward_cuda(dev, d, T, x + c0, n, a->ln_w, a->ln_b, k->n, w, k->mean, k->rstd));
    if (!h)
        TRY(gemm_cuda(dev, false, false, inner, T, d, a->W1, d, k->n, w, 0.0f, k->act, w));
    TRY(gemm_cuda(dev, true, false, inner, T, d, a->W2, inner, dout, n, 0.0f, k->dact, w));
    TRY(LAUNCH(gelu_backward, (unsigned)(inner * segments), BLOCK_THREADS, shared,
               cuda_of(dev)->stream, T, segments, h ? NULL : a->b1, h ? h + c0 : k->act, h ? n : w,
               k->act, k->dact, w, k->part));
    TRY(parts_add_cuda(dev, inner, segments, k->part, grads->b1));
    TRY(gemm_cuda(dev, false, true, d, inner, T, dout, n, k->act, w, 1.0f, grads->W2, inner));
    TRY(rows_sum_cuda(dev, d, T, dout, n, grads->b2, ws));
    TRY(gemm_cuda(dev, false, true, inner, d, T, k->dact, w, k->n, w, 1.0f, grads->W1, d));
    TRY(gemm_cuda(dev, true, false, d, T, inner, a->W1, d, k->dact, w, 0.0f, k->n, w));
    return ln_backward_cuda(dev, d, T, k->n, w, x + c0, n, k->mean, k->rstd, a->ln_w, dout, n, true,
                            grads->ln_w, grads->ln_b, ws);
}

extern "C" status mlp_backward_cuda(device *dev, const mlp_args *a, const float *x, const float *h,
                                    float *dresidual, const mlp_grads *grads, arena *ws)
{
    const int64_t n = columns_of(a);
    const size_t mark = arena_mark(ws);
    status st = STATUS_OK;
    mlp_chunk k;
    if (!chunk_take(a, true, &k, ws)) {
        st = cuda_workspace_short("mlp", ws);
        goto done;
    }
    for (int64_t c0 = 0; c0 < n; c0 += k.wide) {
        const int64_t T = c0 + k.wide < n ? k.wide : n - c0;
        TRY_GOTO(done, backward_chunk(dev, a, &k, c0, T, x, h, dresidual, grads, ws));
    }
done:
    arena_release(ws, mark);
    return st;
}
