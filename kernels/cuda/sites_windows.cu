/* sites, window by window: what slices summed becomes class logits, the loss, and the factors of
 * the backward pass; the evidence, which is a sum over a window's tokens. All sums over windows are
 * in double and in a fixed order. */
#include "kernels/cuda/gelu.cuh"
#include "kernels/cuda/sites.cuh"

#define EVIDENCE_SHARE 0.125 /* kernels/ops.h: e is a sum over tokens / 8 */

static __device__ inline int64_t tokens_of(const int32_t *count, int64_t L, int64_t b)
{
    return count ? count[b] : L;
}

/* w (B, sums) += the slices' sums. */
KERNEL(sites_fold)
(int64_t n, int sums, int slices, const double *__restrict__ part, double *__restrict__ w)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const int64_t window = i / sums, c = i % sums;
    double sum = w[i];
    for (int s = 0; s < slices; s++)
        sum += part[(window * slices + s) * sums + c];
    w[i] = sum;
}

/* What the evidence's kernels know. Block: window * H + i. */
typedef struct {
    int64_t L, H, b0, t0, columns, all; /* all: columns of the whole chunk, pre's row stride */
    const int32_t *count;
    const float *eh;
} evidence_chunk;

/* A block's window, its part of a row, and how many of its columns are tokens. */
typedef struct {
    int64_t b, i, at, tokens;
} evidence_row;

static __device__ inline evidence_row evidence_row_of(const evidence_chunk *k)
{
    evidence_row own;
    own.i = blockIdx.x % k->H;
    const int64_t window = blockIdx.x / k->H;
    own.b = k->b0 + window;
    own.at = own.i * k->all + window * k->columns;
    const int64_t n = tokens_of(k->count, k->L, own.b);
    own.tokens = (n < k->L ? n : k->L) - k->t0;
    return own;
}

KERNEL(sites_evidence)
(evidence_chunk k, const float *__restrict__ pre, double *__restrict__ hidden)
{
    SHARED(double, warp);
    const evidence_row own = evidence_row_of(&k);
    const float bias = k.eh[own.i];
    float sum = 0.0f;
    for (int64_t j = threadIdx.x; j < k.columns && j < own.tokens; j += blockDim.x)
        sum += gelu(pre[own.at + j] + bias);
    const double total = block_sum((double)sum, warp);
    if (threadIdx.x == 0)
        hidden[own.b * k.H + own.i] += total;
}

KERNEL(sites_evidence_back)
(evidence_chunk k, float *__restrict__ pre, const float *__restrict__ dhidden,
 double *__restrict__ deh)
{
    SHARED(double, warp);
    const evidence_row own = evidence_row_of(&k);
    const float bias = k.eh[own.i], g = dhidden[own.b * k.H + own.i];
    float sum = 0.0f;
    for (int64_t j = threadIdx.x; j < k.columns; j += blockDim.x) {
        float slope = 0.0f;
        if (j < own.tokens)
            gelu_both(pre[own.at + j] + bias, &slope);
        pre[own.at + j] = g * slope;
        sum += g * slope;
    }
    const double total = block_sum((double)sum, warp);
    if (threadIdx.x == 0)
        deh[own.b * k.H + own.i] += total;
}

/* What the windows' own kernels know. */
typedef struct {
    int64_t B, L, H;
    int classes;
    double site_weight;
    const float *Eo, *eo, *scale;
    const int32_t *count, *labels;
    const int64_t *start;
    sites_windows w;
} windows_args;

static __device__ inline double site_share(const windows_args *k, int64_t b)
{
    const int64_t n = k->start[b + 1] - k->start[b];
    return n > 0 ? k->site_weight / (double)n : 0.0;
}

static __device__ double class_logit(const windows_args *k, int64_t b, int c)
{
    const double *hidden = k->w.hidden + b * k->H;
    const double scale = k->scale ? (double)*k->scale : 1.0;
    double e = k->H > 0 ? (double)tokens_of(k->count, k->L, b) * (double)k->eo[c] : 0.0;
    for (int64_t i = 0; i < k->H; i++)
        e += (double)k->Eo[c * k->H + i] * hidden[i];
    return scale * k->w.w[b * (k->classes + 2) + c] + EVIDENCE_SHARE * e;
}

/* The window's likelihood and its part of the loss, by one thread. logits (classes). */
static __device__ void window_loss(const windows_args *k, int64_t b, const double *logits,
                                   double top, double sum, double *sequence_nll)
{
    const int64_t label = k->labels ? k->labels[b] : -1;
    const double *own = k->w.w + b * (k->classes + 2);
    const double nll = k->labels ? -own[label < 0 ? 0 : label] : own[k->classes] - own[0];
    double loss = 0, count = 0;
    if (!k->labels) {
        loss = nll;
        count = own[k->classes + 1];
    } else if (label >= 0) {
        loss = log(sum) + (top - logits[label]) + site_share(k, b) * nll;
        count = 1;
    }
    if (sequence_nll)
        sequence_nll[b] = nll;
    k->w.loss[2 * b] = loss;
    k->w.loss[2 * b + 1] = count;
}

/* A block a window, a thread a class. */
KERNEL(sites_windows_outputs)
(windows_args k, float *__restrict__ class_logits, double *__restrict__ sequence_nll, int backward)
{
    SHARED(double, x); /* (SITES_CLASSES) logits, then (SITES_CLASSES) gradients */
    const int64_t b = blockIdx.x, label = k.labels ? k.labels[b] : -1;
    const int c = (int)threadIdx.x;
    double *g = x + SITES_CLASSES;
    if (c < k.classes)
        x[c] = class_logit(&k, b, c);
    __syncthreads();
    double top = x[0], sum = 0;
    for (int i = 1; i < k.classes; i++)
        top = x[i] > top ? x[i] : top;
    if (c < k.classes)
        g[c] = exp(x[c] - top);
    __syncthreads();
    for (int i = 0; i < k.classes; i++)
        sum += g[i];
    if (c < k.classes && class_logits)
        class_logits[b * k.classes + c] = (float)x[c];
    if (c == 0)
        window_loss(&k, b, x, top, sum, sequence_nll);
    if (!backward)
        return;
    __syncthreads();
    if (c < k.classes) {
        const double scale = k.scale ? (double)*k.scale : 1.0;
        const double own = label < 0 ? 0.0 : g[c] / sum - (c == label);
        double dw = scale * own - (c == label ? site_share(&k, b) : 0.0);
        if (!k.labels)
            dw = c == 0 ? -1.0 : 0.0;
        k.w.dw[b * k.classes + c] = (float)dw;
        k.w.g[b * k.classes + c] = g[c] = own;
    }
    __syncthreads();
    for (int64_t i = c; i < k.H; i += blockDim.x) {
        double d = 0;
        for (int l = 0; l < k.classes; l++)
            d += g[l] * (double)k.Eo[l * k.H + i];
        k.w.dhidden[b * k.H + i] = (float)(EVIDENCE_SHARE * d);
    }
}

/* One block. */
KERNEL(sites_scale)(windows_args k, float *__restrict__ dscale)
{
    SHARED(double, warp);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < k.B * k.classes; i += blockDim.x)
        sum += k.w.g[i] * k.w.w[i / k.classes * (k.classes + 2) + i % k.classes];
    sum = block_sum(sum, warp);
    if (threadIdx.x == 0)
        *dscale = (float)((double)*dscale + sum);
}

/* A thread an element of dEo (classes, H), deo (classes), deh (H), in this order. */
KERNEL(sites_parameters)
(windows_args k, float *__restrict__ dEo, float *__restrict__ deo, float *__restrict__ deh)
{
    const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, wide = k.classes * k.H;
    if (at >= wide + k.classes + k.H)
        return;
    double sum = 0;
    float *to = deh + (at - wide - k.classes);
    if (at < wide) {
        const int64_t c = at / k.H, i = at % k.H;
        for (int64_t b = 0; b < k.B; b++)
            sum += EVIDENCE_SHARE * k.w.g[b * k.classes + c] * k.w.hidden[b * k.H + i];
        to = dEo + at;
    } else if (at < wide + k.classes) {
        const int64_t c = at - wide;
        for (int64_t b = 0; b < k.B; b++)
            sum += EVIDENCE_SHARE * k.w.g[b * k.classes + c] * (double)tokens_of(k.count, k.L, b);
        to = deo + c;
    } else {
        for (int64_t b = 0; b < k.B; b++)
            sum += k.w.deh[b * k.H + (at - wide - k.classes)];
    }
    *to = (float)((double)*to + sum);
}

static windows_args windows_args_of(const sites_args *a, const sites_windows *w)
{
    windows_args k;
    memset(&k, 0, sizeof k);
    k.B = a->s.B;
    k.L = a->s.L;
    k.H = a->H;
    k.classes = (int)a->classes;
    k.site_weight = a->site_weight;
    k.Eo = a->Eo;
    k.eo = a->eo;
    k.scale = a->scale;
    k.count = a->count;
    k.labels = a->labels;
    k.start = a->start;
    k.w = *w;
    return k;
}

static evidence_chunk evidence_chunk_of(const sites_chunk *k, const sites_args *a)
{
    evidence_chunk e;
    memset(&e, 0, sizeof e);
    e.L = a->s.L;
    e.H = a->H;
    e.b0 = k->b0;
    e.t0 = k->t0;
    e.columns = k->columns;
    e.all = k->windows * k->columns;
    e.count = a->count;
    e.eh = a->eh;
    return e;
}

status sites_fold_cuda(device *dev, const sites_chunk *k, const double *part,
                       const sites_windows *w)
{
    const int sums = k->classes + 2;
    const int64_t n = k->windows * sums;
    return LAUNCH(sites_fold, blocks_of(n, BLOCK_THREADS), BLOCK_THREADS, 0, cuda_of(dev)->stream,
                  n, sums, k->slices, part, w->w + k->b0 * sums);
}

#define WARPS_BYTES (SITES_THREADS / WARP * sizeof(double))

status sites_evidence_cuda(device *dev, const sites_chunk *k, const sites_args *a, const float *pre,
                           const sites_windows *w)
{
    return LAUNCH(sites_evidence, (unsigned)(k->windows * a->H), SITES_THREADS, WARPS_BYTES,
                  cuda_of(dev)->stream, evidence_chunk_of(k, a), pre, w->hidden);
}

status sites_evidence_backward_cuda(device *dev, const sites_chunk *k, const sites_args *a,
                                    float *pre, const sites_windows *w)
{
    return LAUNCH(sites_evidence_back, (unsigned)(k->windows * a->H), SITES_THREADS, WARPS_BYTES,
                  cuda_of(dev)->stream, evidence_chunk_of(k, a), pre, w->dhidden, w->deh);
}

status sites_windows_cuda(device *dev, const sites_args *a, const sites_windows *w,
                          float *class_logits, double *sequence_nll, bool backward)
{
    return LAUNCH(sites_windows_outputs, (unsigned)a->s.B, SITES_CLASSES,
                  2 * SITES_CLASSES * sizeof(double), cuda_of(dev)->stream, windows_args_of(a, w),
                  class_logits, sequence_nll, backward);
}

status sites_parameters_cuda(device *dev, const sites_args *a, const sites_windows *w,
                             const sites_grads *grads)
{
    const int64_t n = a->classes * a->H + a->classes + a->H;
    cudaStream_t stream = cuda_of(dev)->stream;
    const windows_args k = windows_args_of(a, w);
    if (a->scale)
        TRY(LAUNCH(sites_scale, 1, BLOCK_THREADS, BLOCK_THREADS / WARP * sizeof(double), stream, k,
                   grads->scale));
    if (a->H == 0)
        return STATUS_OK;
    return LAUNCH(sites_parameters, blocks_of(n, BLOCK_THREADS), BLOCK_THREADS, 0, stream, k,
                  grads->Eo, grads->eo, grads->eh);
}
