/* head on a GPU: final LayerNorm, tied logits and cross entropy on a chunk of columns, so that the
 * hidden states and logits of long sequences never exist at once. Logits of a column are few: one
 * thread has them all. */
#include "kernels/cuda/columns.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layernorm.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/loss.h"

#include <math.h>

/* Columns a block: every chunk is a multiple of it, so that parts of the loss count columns. */
#define HEAD_THREADS LENGTH_ALIGN

typedef struct {
    int64_t columns; /* of a chunk at most */
    float *n;        /* (d, columns) */
    float *logits;   /* (V, columns) logits, then their gradient */
    float *mean, *rstd;
    double *part; /* (all columns / HEAD_THREADS, 2) */
    loss_sum *total;
} head_space;

static head_space space_lay(layout *l, const head_args *a, bool backward)
{
    head_space s;
    const int64_t n = a->s.B * a->s.Lp;
    s.columns = chunk_columns(a->d + a->V, n);
    s.n = lay_floats(l, a->d * s.columns);
    s.logits = lay_floats(l, a->V * s.columns);
    s.mean = backward ? lay_floats(l, s.columns) : NULL;
    s.rstd = backward ? lay_floats(l, s.columns) : NULL;
    s.part = lay_doubles(l, 2 * n / HEAD_THREADS);
    s.total = (loss_sum *)lay(l, sizeof(loss_sum));
    return s;
}

extern "C" size_t head_workspace_cuda(const device *dev, const head_args *a)
{
    (void)dev;
    layout l = {NULL, 0};
    const head_space s = space_lay(&l, a, true);
    return l.used + ln_backward_workspace_cuda(a->d, s.columns);
}

static status space_open(const head_args *a, bool backward, arena *ws, head_space *s)
{
    layout l = {NULL, 0};
    *s = space_lay(&l, a, backward);
    TRY(layout_take(&l, "head", ws));
    *s = space_lay(&l, a, backward);
    return STATUS_OK;
}

/* A column a thread: token = logsumexp - logit of the target (NULL: not wanted); with `gradient`
 * the logits become softmax - one_hot(target). Columns without a target: zeros. part: two a block.
 */
KERNEL(head_losses)
(int64_t V, float *__restrict__ logits, int64_t ld, const uint8_t *__restrict__ targets,
 int gradient, float *__restrict__ token, double *__restrict__ part)
{
    SHARED(double, warp);
    const int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t target = targets[j];
    const bool live = target != TARGET_NONE;
    float *own = logits + j, top = own[0], sum = 0.0f;
#pragma unroll 4
    for (int64_t v = 1; v < V; v++)
        top = fmaxf(top, own[v * ld]);
#pragma unroll 4
    for (int64_t v = 0; v < V; v++)
        sum += expf(own[v * ld] - top);
    const float loss = live ? top + logf(sum) - own[target * ld] : 0.0f;
    if (token)
        token[j] = loss;
    const float share = live ? 1.0f / sum : 0.0f;
#pragma unroll 4
    for (int64_t v = 0; gradient && v < V; v++)
        own[v * ld] = expf(own[v * ld] - top) * share - (v == target ? 1.0f : 0.0f);
    const double total = block_sum((double)loss, warp);
    __syncthreads();
    const double count = block_sum(live ? 1.0 : 0.0, warp);
    if (threadIdx.x > 0)
        return;
    part[2 * blockIdx.x] = total;
    part[2 * blockIdx.x + 1] = count;
}

static status losses(device *dev, const head_args *a, const head_space *s, int64_t c0, int64_t T,
                     float *logits, int64_t ld, bool gradient, float *token_loss)
{
    return LAUNCH(head_losses, (unsigned)(T / HEAD_THREADS), HEAD_THREADS,
                  HEAD_THREADS / WARP * sizeof(double), cuda_of(dev)->stream, a->V, logits, ld,
                  a->targets + c0, gradient, token_loss ? token_loss + c0 : NULL,
                  s->part + 2 * (c0 / HEAD_THREADS));
}

/* Outputs that the caller wants are made where they belong. */
static status forward_chunk(device *dev, const head_args *a, const head_space *s, int64_t c0,
                            const float *residual, float *hidden, float *logits, float *token_loss)
{
    const int64_t n = a->s.B * a->s.Lp, T = n - c0 < s->columns ? n - c0 : s->columns;
    float *h = hidden ? hidden + c0 : s->n, *out = logits ? logits + c0 : s->logits;
    const int64_t ldh = hidden ? n : T, ld = logits ? n : T;
    TRY(ln_forward_cuda(dev, a->d, T, residual + c0, n, a->ln_w, a->ln_b, h, ldh, NULL, NULL));
    if (logits || a->targets)
        TRY(gemm_cuda(dev, false, false, a->V, T, a->d, a->E, a->d, h, ldh, 0.0f, out, ld));
    if (a->targets)
        TRY(losses(dev, a, s, c0, T, out, ld, false, token_loss));
    else if (token_loss)
        TRY(clear_cuda(dev, token_loss + c0, (size_t)T * sizeof *token_loss));
    if (hidden)
        TRY(pads_clear_cuda(dev, a->s, c0, T, a->d, h, n));
    return logits ? pads_clear_cuda(dev, a->s, c0, T, a->V, out, n) : STATUS_OK;
}

static int64_t loss_parts(const head_args *a)
{
    return a->targets ? a->s.B * a->s.Lp / HEAD_THREADS : 0;
}

extern "C" status head_forward_cuda(device *dev, const head_args *a, const float *residual,
                                    float *hidden, float *logits, float *token_loss, loss_sum *loss,
                                    arena *ws)
{
    head_space s;
    const size_t mark = arena_mark(ws);
    TRY(space_open(a, false, ws, &s));
    for (int64_t c0 = 0; c0 < a->s.B * a->s.Lp; c0 += s.columns)
        TRY(forward_chunk(dev, a, &s, c0, residual, hidden, logits, token_loss));
    TRY(loss_out_cuda(dev, loss_parts(a), s.part, s.total, loss));
    arena_release(ws, mark);
    return STATUS_OK;
}

/* The gradient of the normalised values is made in dresidual and becomes dresidual there. */
static status backward_chunk(device *dev, const head_args *a, const head_space *s, int64_t c0,
                             const float *residual, float *dresidual, float *dln_w, float *dln_b,
                             float *dE, arena *ws)
{
    const int64_t n = a->s.B * a->s.Lp, T = n - c0 < s->columns ? n - c0 : s->columns;
    const int64_t d = a->d, V = a->V;
    float *dn = dresidual + c0;
    TRY(ln_forward_cuda(dev, d, T, residual + c0, n, a->ln_w, a->ln_b, s->n, T, s->mean, s->rstd));
    TRY(gemm_cuda(dev, false, false, V, T, d, a->E, d, s->n, T, 0.0f, s->logits, T));
    TRY(losses(dev, a, s, c0, T, s->logits, T, true, NULL));
    TRY(gemm_cuda(dev, false, true, V, d, T, s->logits, T, s->n, T, 1.0f, dE, d));
    TRY(gemm_cuda(dev, true, false, d, T, V, a->E, d, s->logits, T, 0.0f, dn, n));
    return ln_backward_cuda(dev, d, T, dn, n, residual + c0, n, s->mean, s->rstd, a->ln_w, dn, n,
                            false, dln_w, dln_b, ws);
}

extern "C" status head_backward_cuda(device *dev, const head_args *a, const float *residual,
                                     loss_sum *loss, float *dresidual, float *dln_w, float *dln_b,
                                     float *dE, arena *ws)
{
    head_space s;
    const size_t mark = arena_mark(ws);
    if (!a->targets)
        return fail(STATUS_INTERNAL,
                    "head: a gradient without targets was asked for; this is a fault");
    TRY(space_open(a, true, ws, &s));
    for (int64_t c0 = 0; c0 < a->s.B * a->s.Lp; c0 += s.columns)
        TRY(backward_chunk(dev, a, &s, c0, residual, dresidual, dln_w, dln_b, dE, ws));
    TRY(loss_out_cuda(dev, loss_parts(a), s.part, s.total, loss));
    arena_release(ws, mark);
    return STATUS_OK;
}
