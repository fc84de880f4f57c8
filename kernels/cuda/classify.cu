/* classify on a GPU. The pass over positions reads the residual once for LayerNorm's statistics and
 * once for the sums of normalised values; what follows is a few small products of all sequences at
 * once. Backward of a mean needs no tensor of its own: the gradient of a normalised value belongs
 * to its sequence and channel alone. Pooling the last position works on those columns, gathered. */
#include "kernels/cuda/columns.h"
#include "kernels/cuda/gelu.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layernorm.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/loss.h"

/* Rows are sequences: (B, .) row by row. */
typedef struct {
    float *mean, *rstd;      /* of all columns, or of the B that are last */
    float *last, *dlast;     /* (d, B) gathered columns, and their gradient */
    double *part;            /* (B * d, segments) sums over positions */
    float *flat;             /* (B, d) pooled before LayerNorm's scale and shift */
    float *pooled, *dpooled; /* (B, d) */
    float *pre, *hidden;     /* (B, H) before and after GELU, then dhidden and dpre */
    float *logits;           /* (B, classes), then their gradient */
    double *loss;            /* (B, 2) */
    loss_sum *total;
} class_space;

static class_space space_lay(layout *l, const classify_args *a, bool backward)
{
    class_space s;
    memset(&s, 0, sizeof s);
    const int64_t B = a->s.B, d = a->d, columns = a->last ? B : B * a->s.Lp;
    s.mean = lay_floats(l, a->ln_w ? columns : 0);
    s.rstd = lay_floats(l, a->ln_w ? columns : 0);
    s.last = lay_floats(l, a->last ? d * B : 0);
    s.dlast = lay_floats(l, a->last ? d * B : 0);
    s.part = lay_doubles(l, a->last ? 0 : B * d * segments_of(a->s.L));
    s.flat = lay_floats(l, a->last ? 0 : B * d);
    s.pooled = lay_floats(l, B * d);
    s.dpooled = lay_floats(l, backward ? B * d : 0);
    s.pre = lay_floats(l, B * a->H);
    s.hidden = a->H > 0 ? lay_floats(l, B * a->H) : s.pooled;
    s.logits = lay_floats(l, B * a->classes);
    s.loss = lay_doubles(l, 2 * B);
    s.total = (loss_sum *)lay(l, sizeof(loss_sum));
    return s;
}

extern "C" size_t classify_workspace_cuda(const device *dev, const classify_args *a)
{
    (void)dev;
    layout l = {NULL, 0};
    space_lay(&l, a, true);
    return l.used + (a->last && a->ln_w ? ln_backward_workspace_cuda(a->d, a->s.B) : 0);
}

static status space_open(const classify_args *a, bool backward, arena *ws, class_space *s)
{
    layout l = {NULL, 0};
    *s = space_lay(&l, a, backward);
    TRY(layout_take(&l, "classify", ws));
    *s = space_lay(&l, a, backward);
    return STATUS_OK;
}

/* ---- pooling ---- */

/* A block a segment of one channel of one sequence: the sum of (x - mean) rstd. */
KERNEL(pool_segments)
(batch_shape s, int64_t d, int64_t segments, const float *__restrict__ x,
 const float *__restrict__ mean, const float *__restrict__ rstd, double *__restrict__ part)
{
    SHARED(double, warp);
    const int64_t row = blockIdx.x / segments, b = row / d, c = row % d;
    const int64_t from = blockIdx.x % segments * SEGMENT,
                  to = from + SEGMENT < s.L ? from + SEGMENT : s.L;
    const float *own = x + (c * s.B + b) * s.Lp;
    float sum = 0.0f;
#pragma unroll 4
    for (int64_t t = from + threadIdx.x; t < to; t += BLOCK_THREADS)
        sum += mean ? (own[t] - mean[b * s.Lp + t]) * rstd[b * s.Lp + t] : own[t];
    const double total = block_sum((double)sum, warp);
    if (threadIdx.x == 0)
        part[blockIdx.x] = total;
}

/* flat = sums / L;  pooled = flat w + b (w NULL: flat) */
KERNEL(pool_finish)
(int64_t n, int64_t d, int64_t segments, double share, const double *__restrict__ part,
 const float *__restrict__ w, const float *__restrict__ b, float *__restrict__ flat,
 float *__restrict__ pooled)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    double sum = 0;
    for (int64_t s = 0; s < segments; s++)
        sum += part[i * segments + s];
    const float own = (float)(sum * share);
    flat[i] = own;
    pooled[i] = w ? fmaf(own, w[i % d], b[i % d]) : own;
}

/* (d, B) from column t of every sequence. */
KERNEL(last_gather)
(batch_shape s, int64_t d, const float *__restrict__ x, float *__restrict__ last)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < d * s.B)
        last[i] = x[i * s.Lp + s.L - 1];
}

/* And back: column t of a tensor that is zero elsewhere. */
KERNEL(last_scatter)
(batch_shape s, int64_t d, const float *__restrict__ last, float *__restrict__ x)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < d * s.B)
        x[i * s.Lp + s.L - 1] = last[i];
}

/* (rows, columns) -> (columns, rows) */
KERNEL(turn)(int64_t rows, int64_t columns, const float *__restrict__ x, float *__restrict__ out)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < rows * columns)
        out[i] = x[i % rows * columns + i / rows];
}

static status pool_last(device *dev, const classify_args *a, const class_space *s,
                        const float *residual)
{
    const int64_t B = a->s.B, d = a->d;
    const dim3 blocks = blocks_of(d * B, BLOCK_THREADS);
    cudaStream_t stream = cuda_of(dev)->stream;
    TRY(LAUNCH(last_gather, blocks, BLOCK_THREADS, 0, stream, a->s, d, residual, s->last));
    if (a->ln_w) /* dlast holds the normalised columns for a moment */
        TRY(ln_forward_cuda(dev, d, B, s->last, B, a->ln_w, a->ln_b, s->dlast, B, s->mean,
                            s->rstd));
    return LAUNCH(turn, blocks, BLOCK_THREADS, 0, stream, d, B, a->ln_w ? s->dlast : s->last,
                  s->pooled);
}

static status pool_mean(device *dev, const classify_args *a, const class_space *s,
                        const float *residual)
{
    const int64_t n = a->s.B * a->s.Lp, rows = a->s.B * a->d, segments = segments_of(a->s.L);
    cudaStream_t stream = cuda_of(dev)->stream;
    if (a->ln_w)
        TRY(ln_forward_cuda(dev, a->d, n, residual, n, NULL, NULL, NULL, 0, s->mean, s->rstd));
    TRY(LAUNCH(pool_segments, (unsigned)(rows * segments), BLOCK_THREADS,
               BLOCK_THREADS / WARP * sizeof(double), stream, a->s, a->d, segments, residual,
               a->ln_w ? s->mean : NULL, s->rstd, s->part));
    return LAUNCH(pool_finish, blocks_of(rows, BLOCK_THREADS), BLOCK_THREADS, 0, stream, rows, a->d,
                  segments, 1.0 / (double)a->s.L, s->part, a->ln_w, a->ln_b, s->flat, s->pooled);
}

/* ---- what follows, all sequences at once ---- */

KERNEL(hidden_forward)
(int64_t n, int64_t H, const float *__restrict__ bias, float *__restrict__ pre,
 float *__restrict__ hidden)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const float x = pre[i] + bias[i % H];
    pre[i] = x;
    hidden[i] = gelu(x);
}

/* pre becomes its gradient; hidden holds that of its value. */
KERNEL(hidden_backward)(int64_t n, const float *__restrict__ dhidden, float *__restrict__ pre)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    float slope;
    gelu_both(pre[i], &slope);
    pre[i] = dhidden[i] * slope;
}

/* A sequence a thread: adds the bias, its loss; with `gradient` logits become their gradient. */
KERNEL(class_losses)
(int64_t B, int64_t classes, const float *__restrict__ bias, const int32_t *__restrict__ labels,
 float *__restrict__ logits, int gradient, double *__restrict__ loss)
{
    const int64_t b = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (b >= B)
        return;
    float *own = logits + b * classes, top = -INFINITY;
    const int64_t label = labels ? labels[b] : -1;
    double sum = 0;
    for (int64_t k = 0; k < classes; k++) {
        own[k] += bias[k];
        top = fmaxf(top, own[k]);
    }
    for (int64_t k = 0; k < classes; k++)
        sum += exp((double)(own[k] - top));
    loss[2 * b] = label < 0 ? 0.0 : log(sum) + (double)(top - own[label]);
    loss[2 * b + 1] = label < 0 ? 0.0 : 1.0;
    for (int64_t k = 0; gradient && k < classes; k++)
        own[k] = label < 0 ? 0.0f : (float)(exp((double)(own[k] - top)) / sum - (k == label));
}

/* out[i] += sum over b of x[b][i] (times y[b][i], NULL: ones): a thread a column. */
KERNEL(sequences_add)
(int64_t B, int64_t n, const float *__restrict__ x, const float *__restrict__ y,
 float *__restrict__ out)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    double sum = 0;
    for (int64_t b = 0; b < B; b++)
        sum += (double)x[b * n + i] * (y ? (double)y[b * n + i] : 1.0);
    out[i] = (float)((double)out[i] + sum);
}

static status sequences(device *dev, int64_t B, int64_t n, const float *x, const float *y,
                        float *out)
{
    return LAUNCH(sequences_add, blocks_of(n, WARP), WARP, 0, cuda_of(dev)->stream, B, n, x, y,
                  out);
}

/* Pooled, logits and losses. */
static status forward_all(device *dev, const classify_args *a, const class_space *s, bool gradient,
                          const float *residual)
{
    const int64_t B = a->s.B, H = a->H, d = a->d, K = H > 0 ? H : d;
    cudaStream_t stream = cuda_of(dev)->stream;
    TRY(a->last ? pool_last(dev, a, s, residual) : pool_mean(dev, a, s, residual));
    if (H > 0) {
        TRY(gemm_cuda(dev, false, true, B, H, d, s->pooled, d, a->Wh, d, 0.0f, s->pre, H));
        TRY(LAUNCH(hidden_forward, blocks_of(B * H, BLOCK_THREADS), BLOCK_THREADS, 0, stream, B * H,
                   H, a->bh, s->pre, s->hidden));
    }
    TRY(gemm_cuda(dev, false, true, B, a->classes, K, s->hidden, K, a->Wo, K, 0.0f, s->logits,
                  a->classes));
    return LAUNCH(class_losses, blocks_of(B, WARP), WARP, 0, stream, B, a->classes, a->bo,
                  a->labels, s->logits, gradient, s->loss);
}

extern "C" status classify_forward_cuda(device *dev, const classify_args *a, const float *residual,
                                        float *pooled, float *logits, loss_sum *loss, arena *ws)
{
    class_space s;
    const size_t mark = arena_mark(ws), row = (size_t)a->s.B * sizeof(float);
    TRY(space_open(a, false, ws, &s));
    TRY(forward_all(dev, a, &s, false, residual));
    if (pooled)
        TRY(copy_cuda(dev, pooled, s.pooled, row * (size_t)a->d));
    if (logits)
        TRY(copy_cuda(dev, logits, s.logits, row * (size_t)a->classes));
    TRY(loss_out_cuda(dev, a->s.B, s.loss, s.total, loss));
    arena_release(ws, mark);
    return STATUS_OK;
}

/* From the gradient of the logits to that of pooled; parameter gradients are added. */
static status layers_backward(device *dev, const classify_args *a, const class_space *s,
                              const classify_grads *g)
{
    const int64_t B = a->s.B, H = a->H, C = a->classes, d = a->d, K = H > 0 ? H : d;
    TRY(gemm_cuda(dev, true, false, C, K, B, s->logits, C, s->hidden, K, 1.0f, g->Wo, K));
    TRY(sequences(dev, B, C, s->logits, NULL, g->bo));
    if (H == 0)
        return gemm_cuda(dev, false, false, B, d, C, s->logits, C, a->Wo, d, 0.0f, s->dpooled, d);
    TRY(gemm_cuda(dev, false, false, B, H, C, s->logits, C, a->Wo, H, 0.0f, s->hidden, H));
    TRY(LAUNCH(hidden_backward, blocks_of(B * H, BLOCK_THREADS), BLOCK_THREADS, 0,
               cuda_of(dev)->stream, B * H, s->hidden, s->pre));
    TRY(sequences(dev, B, H, s->pre, NULL, g->bh));
    TRY(gemm_cuda(dev, true, false, H, d, B, s->pre, H, s->pooled, d, 1.0f, g->Wh, d));
    return gemm_cuda(dev, false, false, B, d, H, s->pre, H, a->Wh, d, 0.0f, s->dpooled, d);
}

/* A block has 32 columns of one sequence, one a lane, and its warps share the channels. With a_c =
 * dpooled_c w_c / L:  dx = rstd (a_c - mean_c(a) - xhat mean_c(a xhat)); without norm dx = a. */
#define MEAN_WARPS (BLOCK_THREADS / WARP)
KERNEL(mean_backward)
(batch_shape s, int64_t d, float share, const float *__restrict__ x, const float *__restrict__ mean,
 const float *__restrict__ rstd, const float *__restrict__ w, const float *__restrict__ dpooled,
 float *__restrict__ dx)
{
    SHARED(float, part); /* (2, MEAN_WARPS, WARP) */
    const int64_t n = s.B * s.Lp, j = (int64_t)blockIdx.x * WARP + threadIdx.x % WARP;
    const int64_t b = j / s.Lp;
    const int warp = (int)threadIdx.x / WARP;
    const bool live = j % s.Lp < s.L;
    const float m = w ? mean[j] : 0.0f, r = w ? rstd[j] : 0.0f;
    float of_a = 0.0f, of_hat = 0.0f;
#pragma unroll 4
    for (int64_t c = warp; w && c < d; c += MEAN_WARPS) {
        const float a = dpooled[b * d + c] * w[c] * share;
        of_a += a;
        of_hat = fmaf(a, (x[c * n + j] - m) * r, of_hat);
    }
    part[threadIdx.x] = of_a;
    part[BLOCK_THREADS + threadIdx.x] = of_hat;
    __syncthreads();
    of_a = of_hat = 0.0f;
    for (int i = 0; i < MEAN_WARPS; i++) {
        of_a += part[i * WARP + threadIdx.x % WARP];
        of_hat += part[BLOCK_THREADS + i * WARP + threadIdx.x % WARP];
    }
    of_a /= (float)d;
    of_hat /= (float)d;
#pragma unroll 4
    for (int64_t c = warp; c < d; c += MEAN_WARPS) {
        const float a = dpooled[b * d + c] * share;
        const float inner = w ? r * (a * w[c] - of_a - (x[c * n + j] - m) * r * of_hat) : a;
        dx[c * n + j] = live ? inner : 0.0f;
    }
}

/* The gradient of pooled spread over the columns that were pooled. */
static status mean_back(device *dev, const classify_args *a, const class_space *s,
                        const float *residual, float *dresidual, const classify_grads *g)
{
    if (a->ln_w) {
        TRY(sequences(dev, a->s.B, a->d, s->dpooled, s->flat, g->ln_w));
        TRY(sequences(dev, a->s.B, a->d, s->dpooled, NULL, g->ln_b));
    }
    return LAUNCH(mean_backward, blocks_of(a->s.B * a->s.Lp, WARP), BLOCK_THREADS,
                  2 * BLOCK_THREADS * sizeof(float), cuda_of(dev)->stream, a->s, a->d,
                  1.0f / (float)a->s.L, residual, s->mean, s->rstd, a->ln_w, s->dpooled, dresidual);
}

static status last_back(device *dev, const classify_args *a, const class_space *s, float *dresidual,
                        const classify_grads *g, arena *ws)
{
    const int64_t B = a->s.B, d = a->d;
    const dim3 blocks = blocks_of(d * B, BLOCK_THREADS);
    cudaStream_t stream = cuda_of(dev)->stream;
    TRY(LAUNCH(turn, blocks, BLOCK_THREADS, 0, stream, B, d, s->dpooled, s->dlast));
    if (a->ln_w)
        TRY(ln_backward_cuda(dev, d, B, s->dlast, B, s->last, B, s->mean, s->rstd, a->ln_w,
                             s->dlast, B, false, g->ln_w, g->ln_b, ws));
    TRY(clear_cuda(dev, dresidual, (size_t)(d * B * a->s.Lp) * sizeof *dresidual));
    return LAUNCH(last_scatter, blocks, BLOCK_THREADS, 0, stream, a->s, d, s->dlast, dresidual);
}

extern "C" status classify_backward_cuda(device *dev, const classify_args *a, const float *residual,
                                         loss_sum *loss, float *dresidual,
                                         const classify_grads *grads, arena *ws)
{
    class_space s;
    const size_t mark = arena_mark(ws);
    TRY(space_open(a, true, ws, &s));
    TRY(forward_all(dev, a, &s, true, residual));
    TRY(loss_out_cuda(dev, a->s.B, s.loss, s.total, loss));
    TRY(layers_backward(dev, a, &s, grads));
    if (a->last)
        TRY(last_back(dev, a, &s, dresidual, grads, ws));
    else
        TRY(mean_back(dev, a, &s, residual, dresidual, grads));
    arena_release(ws, mark);
    return STATUS_OK;
}
