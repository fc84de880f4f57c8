/* sites on a GPU: the way through the chunks of columns. LayerNorm and the products of columns
 * (queries, the evidence's hidden layer) make a chunk; its entries follow. A window's likelihood
 * must be complete before its backward pass: one sweep over all chunks sums the windows and leaves
 * logits and sums of runs in drows, a second one takes the gradients. Where all columns fit in one
 * chunk, the second sweep finds it as the first left it. */
#include "kernels/cuda/columns.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/layernorm.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/loss.h"
#include "kernels/cuda/sites.cuh"

#define SITES_BLOCKS 1536         /* slices of a chunk at least: blocks that fill the largest GPU */
#define SITES_SLICE 16            /* columns a slice at least, with some hundred entries */
#define SITES_RUN_FLOATS 0x400000 /* of all parts of dV */
#define SITES_RUN_PARTS 256

/* Everything in the workspace. Sizes depend on the shape alone. */
typedef struct {
    int64_t windows, columns; /* of a chunk at most */
    int slices;
    int64_t *first;
    sites_windows w;
    double *part;           /* (windows * slices, classes + 2) */
    float *h, *mean, *rstd; /* (d, columns), (columns): with norm only */
    float *q;               /* (columns, classes * rank) */
    float *pre;             /* (H, columns) */
    sites_scratch x;
} sites_space;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void chunk_shape(const sites_args *a, sites_space *s)
{
    const int64_t rows = a->d + a->classes * a->rank + a->H;
    const int64_t fit = chunk_columns(rows, a->s.B * a->s.Lp);
    s->windows = least(most(fit / a->s.Lp, 1), a->s.B);
    s->columns = least(fit, a->s.Lp);
    const int64_t wanted = (SITES_BLOCKS + s->windows - 1) / s->windows;
    s->slices = (int)least(wanted, most(s->columns / SITES_SLICE, 1));
}

static void windows_lay(layout *l, const sites_args *a, bool backward, sites_windows *w)
{
    const int64_t B = a->s.B;
    w->w = lay_doubles(l, B * (a->classes + 2));
    w->hidden = lay_doubles(l, B * a->H);
    w->deh = lay_doubles(l, backward ? B * a->H : 0);
    w->loss = lay_doubles(l, 2 * B);
    w->g = lay_doubles(l, backward ? B * a->classes : 0);
    w->dw = lay_floats(l, backward ? B * a->classes : 0);
    w->dhidden = lay_floats(l, backward ? B * a->H : 0);
    w->total = (loss_sum *)lay(l, sizeof(loss_sum));
}

static sites_space space_lay(layout *l, const sites_args *a, bool backward)
{
    sites_space s;
    memset(&s, 0, sizeof s);
    chunk_shape(a, &s);
    const int64_t T = s.windows * s.columns, CR = a->classes * a->rank;
    const int64_t blocks = s.windows * s.slices;
    s.first = (int64_t *)lay(l, a->s.B * (a->s.Lp + 1) * (int64_t)sizeof(int64_t));
    windows_lay(l, a, backward, &s.w);
    s.part = lay_doubles(l, blocks * (a->classes + 2));
    if (a->ln_w) {
        s.h = lay_floats(l, a->d * T);
        s.mean = lay_floats(l, T);
        s.rstd = lay_floats(l, T);
    }
    s.q = lay_floats(l, T * CR);
    s.pre = lay_floats(l, a->H * T);
    if (!backward)
        return s;
    s.x.parts =
        (int)least(most(SITES_RUN_FLOATS / (CR * a->rank), 1), least(blocks, SITES_RUN_PARTS));
    s.x.turned = lay_floats(l, CR * a->rank);
    s.x.dV = lay_floats(l, s.x.parts * CR * a->rank);
    s.x.db = lay_floats(l, sites_row_parts(T) * CR);
    s.x.head = lay_floats(l, blocks * a->rank);
    s.x.whole = (int *)lay(l, blocks * (int64_t)sizeof(int));
    return s;
}

extern "C" size_t sites_workspace_cuda(const device *dev, const sites_args *a)
{
    (void)dev;
    layout l = {NULL, 0};
    const sites_space s = space_lay(&l, a, true);
    return l.used + (a->ln_w ? ln_backward_workspace_cuda(a->d, s.windows * s.columns) : 0);
}

static status args_check(const sites_args *a)
{
    if (a->classes < 1 || a->classes > SITES_CLASSES)
        return fail(STATUS_INTERNAL, "sites: %lld classes, 1 to %d are possible; this is a fault",
                    (long long)a->classes, SITES_CLASSES);
    return STATUS_OK;
}

/* Room, cleared sums, and where the tokens' entries begin. */
static status space_open(device *dev, const sites_args *a, bool backward, arena *ws, sites_space *s)
{
    TRY(args_check(a));
    layout l = {NULL, 0};
    *s = space_lay(&l, a, backward);
    TRY(layout_take(&l, "sites", ws));
    *s = space_lay(&l, a, backward);
    const size_t sums = (size_t)(a->s.B * (a->classes + 2)) * sizeof(double);
    const size_t hidden = (size_t)(a->s.B * a->H) * sizeof(double);
    TRY(clear_cuda(dev, s->w.w, sums));
    TRY(clear_cuda(dev, s->w.hidden, hidden));
    if (backward)
        TRY(clear_cuda(dev, s->w.deh, hidden));
    return sites_first_cuda(dev, a, s->first);
}

/* The chunk after `k`; the first one where k has no windows yet. False: there is none. */
static bool chunk_next(const sites_args *a, const sites_space *s, sites_chunk *k)
{
    if (k->windows == 0) {
        k->Lp = a->s.Lp;
        k->classes = (int)a->classes;
        k->rank = (int)a->rank;
        k->slices = s->slices;
        k->labelled = a->labels != NULL;
        k->rows = a->rows;
        k->start = a->start;
        k->first = s->first;
        k->slot = a->slot;
        k->token = a->token;
        k->carried = a->carried;
    } else {
        k->t0 += k->columns;
        if (k->t0 >= a->s.Lp) {
            k->t0 = 0;
            k->b0 += k->windows;
        }
    }
    k->windows = least(s->windows, a->s.B - k->b0);
    k->columns = least(s->columns, a->s.Lp - k->t0);
    return k->b0 < a->s.B;
}

/* h of a chunk: LayerNorm's, or the residual itself, with its row stride. */
static const float *chunk_h(const sites_args *a, const sites_space *s, const sites_chunk *k,
                            const float *residual, int64_t *ld)
{
    *ld = a->ln_w ? k->windows * k->columns : a->s.B * a->s.Lp;
    return a->ln_w ? s->h : residual + k->b0 * a->s.Lp + k->t0;
}

/* h, queries, and the product of the evidence's hidden layer. */
static status chunk_open(device *dev, const sites_args *a, const sites_space *s,
                         const sites_chunk *k, const float *residual)
{
    const int64_t n = a->s.B * a->s.Lp, T = k->windows * k->columns, CR = a->classes * a->rank;
    int64_t ld;
    const float *h = chunk_h(a, s, k, residual, &ld);
    if (a->ln_w)
        TRY(ln_forward_cuda(dev, a->d, T, residual + k->b0 * a->s.Lp + k->t0, n, a->ln_w, a->ln_b,
                            s->h, T, s->mean, s->rstd));
    TRY(gemm_cuda(dev, true, true, T, CR, a->d, h, ld, a->W, a->d, 0.0f, s->q, CR));
    if (a->H > 0)
        TRY(gemm_cuda(dev, false, false, a->H, T, a->d, a->Eh, a->d, h, ld, 0.0f, s->pre, T));
    return STATUS_OK;
}

/* Adds all chunks' sums to the windows'. */
static status windows_sum(device *dev, const sites_args *a, const sites_space *s,
                          const float *residual, float *site_logits, float *drows)
{
    sites_chunk k;
    memset(&k, 0, sizeof k);
    while (chunk_next(a, s, &k)) {
        TRY(chunk_open(dev, a, s, &k, residual));
        TRY(sites_logits_cuda(dev, &k, a, s->q, site_logits, drows, s->part));
        TRY(sites_fold_cuda(dev, &k, s->part, &s->w));
        if (a->H > 0)
            TRY(sites_evidence_cuda(dev, &k, a, s->pre, &s->w));
    }
    return STATUS_OK;
}

extern "C" status sites_forward_cuda(device *dev, const sites_args *a, const float *residual,
                                     float *class_logits, float *site_logits, double *sequence_nll,
                                     loss_sum *loss, arena *ws)
{
    sites_space s;
    const size_t mark = arena_mark(ws);
    TRY(space_open(dev, a, false, ws, &s));
    TRY(windows_sum(dev, a, &s, residual, site_logits, NULL));
    TRY(sites_windows_cuda(dev, a, &s.w, class_logits, sequence_nll, false));
    TRY(loss_out_cuda(dev, a->s.B, s.w.loss, s.w.total, loss));
    arena_release(ws, mark);
    return STATUS_OK;
}

/* From the gradients of queries and windows to those of columns and their parameters. */
static status columns_backward(device *dev, const sites_args *a, const sites_space *s,
                               const sites_chunk *k, const float *residual, float *dresidual,
                               const sites_grads *grads, arena *ws)
{
    const int64_t n = a->s.B * a->s.Lp, T = k->windows * k->columns, CR = a->classes * a->rank;
    const int64_t d = a->d, c0 = k->b0 * a->s.Lp + k->t0;
    int64_t ld;
    const float *h = chunk_h(a, s, k, residual, &ld);
    float *dh = dresidual + c0;
    TRY(gemm_cuda(dev, true, true, CR, d, T, s->q, CR, h, ld, 1.0f, grads->W, d));
    TRY(gemm_cuda(dev, true, true, d, T, CR, a->W, d, s->q, CR, 0.0f, dh, n));
    if (a->H > 0) {
        TRY(sites_evidence_backward_cuda(dev, k, a, s->pre, &s->w));
        TRY(gemm_cuda(dev, false, true, a->H, d, T, s->pre, T, h, ld, 1.0f, grads->Eh, d));
        TRY(gemm_cuda(dev, true, false, d, T, a->H, a->Eh, d, s->pre, T, 1.0f, dh, n));
    }
    if (!a->ln_w)
        return STATUS_OK;
    return ln_backward_cuda(dev, d, T, dh, n, residual + c0, n, s->mean, s->rstd, a->ln_w, dh, n,
                            false, grads->ln_w, grads->ln_b, ws);
}

extern "C" status sites_backward_cuda(device *dev, const sites_args *a, const float *residual,
                                      loss_sum *loss, float *dresidual, const sites_grads *grads,
                                      float *drows, arena *ws)
{
    sites_space s;
    sites_chunk k;
    const size_t mark = arena_mark(ws);
    memset(&k, 0, sizeof k);
    TRY(space_open(dev, a, true, ws, &s));
    const bool once = s.windows == a->s.B && s.columns == a->s.Lp;
    TRY(windows_sum(dev, a, &s, residual, NULL, drows));
    TRY(sites_windows_cuda(dev, a, &s.w, NULL, NULL, true));
    TRY(loss_out_cuda(dev, a->s.B, s.w.loss, s.w.total, loss));
    TRY(sites_turn_cuda(dev, a, s.x.turned));
    while (chunk_next(a, &s, &k)) {
        if (!once)
            TRY(chunk_open(dev, a, &s, &k, residual));
        TRY(sites_gradients_cuda(dev, &k, a, &s.w, &s.x, s.q, drows, grads->V, grads->b));
        TRY(columns_backward(dev, a, &s, &k, residual, dresidual, grads, ws));
    }
    TRY(sites_parameters_cuda(dev, a, &s.w, grads));
    arena_release(ws, mark);
    return STATUS_OK;
}
