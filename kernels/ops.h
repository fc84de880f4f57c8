/* The table of operations. An operation ends only where bytes may travel between ranks or where a
 * tensor is kept for backward; whatever lies between is fused inside it. Each is declared once,
 * here, with formula, shapes and source, and implemented under the same name in cpu/NAME.c (and
 * cuda/NAME.cu).
 *
 * Tensors are channel-major: (d, B, Lp), channel, sequence, position, Lp = L rounded up to 64. Pads
 * (positions L..Lp-1) are zero in residuals and in everything written by an operation; gradients
 * are zero there as well. A "column" is one (sequence, position) pair; there are B * Lp of them.
 *
 * Parameter gradients are ADDED to; activation gradients are written unless a comment says added.
 * All pointers are to fp32 unless said otherwise, aligned to 64 bytes, disjoint unless said
 * otherwise. Wide intermediates are `void *`: fp32, or bf16 where the arguments say `mixed`, which
 * a CPU refuses (docs/gpu.md). Workspace is taken from `ws` (mark and release inside); its peak is
 * what the cost query says. */
#ifndef CROCUTA_KERNELS_OPS_H
#define CROCUTA_KERNELS_OPS_H

#include "kernels/device.h"

#include <stddef.h>

#define LENGTH_ALIGN 64
#define TARGET_NONE 255 /* a target id that takes no part in the loss */

static inline int64_t length_padded(int64_t L)
{
    return (L + LENGTH_ALIGN - 1) / LENGTH_ALIGN * LENGTH_ALIGN;
}

/* What the forward pass leaves for the backward pass of a block, floats a column:
 *   INPUT     residual into the block (d): the rest is computed again
 *   SELECTED  + in_proj's product (N+1)d, the convolution's result (N-1)d, residual into the MLP
 * (d) ALL       + fc1's product (d_inner) */
typedef enum { KEEP_INPUT, KEEP_SELECTED, KEEP_ALL } keep_level;

/* What one call costs, before anything runs. `plan` sums this, `bench` divides by it. */
typedef struct {
    int64_t kept;                          /* bytes kept between forward and backward */
    int64_t workspace;                     /* bytes, peak of forward and backward */
    int64_t flops_forward, flops_backward; /* of products and transforms */
    int64_t bytes_forward, bytes_backward; /* that must move, each tensor once */
} op_cost;

/* B sequences of L positions. */
typedef struct {
    int64_t B, L, Lp;
} batch_shape;

/* ---- embed
 * -------------------------------------------------------------------------------------------
 * residual[c,b,t] = drop( E[ids[b,t], c] + sum_levels sum_r A[slot[b,t], r] Bm[r, c] ) +
 * added[c,b,t]
 *
 *   ids    (B, Lp) uint8        E    (V, d)          residual (d, B, Lp), pads written zero
 *   level: slot (B, Lp) int32, -1 adds nothing;  A (slots, k) row by row;  Bm (k, d)      FPE: E(p)
 * = A[row(p)] B added  (d, B, Lp) or NULL: a fixed encoding of the positions drop keeps a value
 * with probability 1 - dropout and scales it by 1 / (1 - dropout); the mask is a pure function of
 * (seed, step, column of the whole, c), so that backward and other ranks see the same: position t
 * of sequence b is column first_column + b * stride + t; stride is a multiple of 4. */
#define EMBED_LEVELS 12
typedef struct {
    const int32_t *slot;
    const float *A, *Bm;
    int64_t k;
} embed_level;
typedef struct {
    batch_shape s;
    int64_t d, V;
    const uint8_t *ids;
    const float *E;
    embed_level level[EMBED_LEVELS];
    int n_levels;
    const float *added;
    double dropout;
    uint64_t seed, step;
    int64_t first_column, stride;
} embed_args;
status embed_forward(device *dev, const embed_args *a, float *residual, arena *ws);
/* dE (V, d) and dBm[l] (k, d) are added to; dA[l] (B * Lp, k) is written: the gradient of the row
 * that each column used (rows_reduce sums duplicates). */
status embed_backward(device *dev, const embed_args *a, const float *dresidual, float *dE,
                      float *const *dA, float *const *dBm, arena *ws);
op_cost embed_cost(const device *dev, const embed_args *a);

/* ---- mixin: LayerNorm -> in_proj -> 3-tap convolution -> gate
 * ------------------------------------------ n = LN(residual) (eps 1e-5);  u = W n + b,  ((N+1)d);
 * uc[c,t] = bs[c] + sum_{j<3} ws[c,j] u[c, t-2+j] slices x_0 .. x_{N-1}, v of d channels each (v
 * last);  g = x_{N-1} * v;  gates x_0 .. x_{N-2}. (Poli et al. 2023, section 3; hyenadna
 * short_filter: tap 2 multiplies the current position, zero left pad.)
 *
 *   residual (d, B, Lp)  halo (d, B, 2) or NULL: the two columns left of this shard (NULL: zeros in
 * u) W ((N+1)d, d)  b ((N+1)d)  taps ((N+1)d, 3)  tap_b ((N+1)d) u ((N+1)d, B, Lp) or NULL: kept
 * product;  gates ((N-1)d, B, Lp);  g (d, B, Lp) */
typedef struct {
    batch_shape s;
    int64_t d, order;
    const float *ln_w, *ln_b, *W, *b, *taps, *tap_b;
    const float *halo;
    bool mixed; /* u, gates, g and their gradients are bf16; u is kept without b */
} mixin_args;
typedef struct {
    float *ln_w, *ln_b, *W, *b, *taps, *tap_b;
} mixin_grads;
status mixin_forward(device *dev, const mixin_args *a, const float *residual, void *u, void *gates,
                     void *g, arena *ws);
/* gates and g again from a kept u: what backward needs before the convolution's own backward. */
status mixin_regate(device *dev, const mixin_args *a, const void *u, void *gates, void *g,
                    arena *ws);
/* dresidual (d, B, Lp) is ADDED to; dhalo (d, B, 2) written (NULL where halo is NULL). u NULL:
 * computed again. */
status mixin_backward(device *dev, const mixin_args *a, const float *residual, const void *u,
                      const void *dgates, const void *dg, float *dresidual, float *dhalo,
                      const mixin_grads *grads, arena *ws);
op_cost mixin_cost(const device *dev, const mixin_args *a, keep_level keep);

/* ---- filter: the implicit filter of a chunk of channels
 * -------------------------------------------------- k[c,i] = h[i,c] (exp(-tau[i] |delta_c|) +
 * shift), h a sine MLP of the positions; see docs/model.md (Poli et al. 2023, section 3.3; hyenadna
 * HyenaFilter). The grid is built for l_max and cut to L: tau = i / (l_max - 1), w = 2 pi i /
 * l_max, z = [tau, cos(f0 w), cos(f1 w) .., -sin(f0 w), -sin(f1 w) ..], f = linspace(1e-4, (emb -
 * 1) / 2 - 1, (emb - 1) / 2); delta_c = linspace over ALL channels. For order N there are (N-1) d
 * filter channels; channel c of convolution o is o * d + c of W6, and its delta is that of channel
 * o * d + c of linspace(.., (N-1) d).
 *
 *   W0 (F, emb) b0 (F)  freq (F)  W2 (F, F) b2 (F)  W4 (F, F) b4 (F)  W6 (channels, F)      k (dc,
 * L) stride k_stride */
typedef struct {
    int64_t channels, c0, dc; /* all filter channels, and the chunk [c0, c0 + dc) */
    int64_t F, emb, l_max, L;
    double shift;
    const float *W0, *b0, *freq, *W2, *b2, *W4, *b4, *W6;
} filter_args;
typedef struct {
    float *W0, *b0, *freq, *W2, *b2, *W4, *b4, *W6;
} filter_grads;
status filter_forward(device *dev, const filter_args *a, float *k, int64_t k_stride, arena *ws);
/* Gradients are ADDED to. Sums over positions: fp32 products per tile, tiles summed in fp64, so
 * that the error stays below 1e-5 at a million positions. */
status filter_backward(device *dev, const filter_args *a, const float *dk, int64_t k_stride,
                       const filter_grads *grads, arena *ws);
op_cost filter_cost(const device *dev, const filter_args *a);

/* ---- conv: causal long convolution with skip, the heart of the Hyena operator (Poli et al. 2023,
 * eq. 7) -- y[c,b,t] = ( sum_{s<=t} k[c,t-s] g[c,b,s]  +  D[c] g[c,b,t] ) * gate[c,b,t] k (dc, L)
 * stride k_stride   D (dc)   g, y (dc, B, Lp)   gate (dc, B, Lp) or NULL: no gate
 *
 * Transforms of N >= 2L - 1 points, even, 2,3,5,7-smooth, of a kind that is fast. */
typedef struct {
    batch_shape s;
    int64_t dc, k_stride;
    bool mixed; /* g, gate, y and their gradients are bf16, k is not */
} conv_args;
status conv_forward(device *dev, const conv_args *a, const float *k, const float *D, const void *g,
                    const void *gate, void *y, arena *ws);
/* dg and dgate (NULL without gate) are written, dD added; dk (dc, L) stride k_stride is written,
 * summed over the batch before the inverse transform. */
status conv_backward(device *dev, const conv_args *a, const float *k, const float *D, const void *g,
                     const void *gate, const void *dy, void *dg, void *dgate, float *dk, float *dD,
                     arena *ws);
op_cost conv_cost(const device *dev, const conv_args *a);
int64_t conv_points(const device *dev, int64_t L); /* N */

/* ---- mixout: out_proj of the gated convolution, plus residual
 * -------------------------------------------- out = residual + W (gate * y) + b            gate,
 * y, residual, out (d, B, Lp); out may be residual */
typedef struct {
    batch_shape s;
    int64_t d;
    const float *W, *b;
    bool mixed; /* gate, y and their gradients are bf16 */
} mixout_args;
status mixout_forward(device *dev, const mixout_args *a, const void *gate, const void *y,
                      const float *residual, float *out, arena *ws);
/* dgate, dy written; dW (d, d), db (d) added. The residual's own gradient is dout itself. */
status mixout_backward(device *dev, const mixout_args *a, const void *gate, const void *y,
                       const float *dout, void *dgate, void *dy, float *dW, float *db, arena *ws);
op_cost mixout_cost(const device *dev, const mixout_args *a);

/* ---- mlp: LayerNorm -> fc1 -> tanh-GELU -> fc2, plus residual
 * --------------------------------------------- out = x + W2 gelu(W1 LN(x) + b1) + b2      W1
 * (inner, d)  W2 (d, inner);  out may be x h (inner, B, Lp) or NULL: kept W1 LN(x) + b1 */
typedef struct {
    batch_shape s;
    int64_t d, inner;
    const float *ln_w, *ln_b, *W1, *b1, *W2, *b2;
    bool mixed; /* h is bf16 */
} mlp_args;
typedef struct {
    float *ln_w, *ln_b, *W1, *b1, *W2, *b2;
} mlp_grads;
status mlp_forward(device *dev, const mlp_args *a, const float *x, void *h, float *out, arena *ws);
/* dresidual (d, B, Lp): in, the gradient of out; out, the gradient of x. */
status mlp_backward(device *dev, const mlp_args *a, const float *x, const void *h, float *dresidual,
                    const mlp_grads *grads, arena *ws);
op_cost mlp_cost(const device *dev, const mlp_args *a, keep_level keep);

/* ---- head: final LayerNorm, tied logits and cross entropy, tile by tile
 * ----------------------------------- hidden = LN(residual);  logits = E hidden (V columns, pads of
 * the vocabulary NOT masked); loss = sum over columns with a target of (logsumexp(logits) -
 * logits[target]) targets (B, Lp) uint8, TARGET_NONE: no target (pads too) outputs, each may be
 * NULL: hidden (d, B, Lp), logits (V, B, Lp), token_loss (B, Lp) */
typedef struct {
    batch_shape s;
    int64_t d, V;
    const float *ln_w, *ln_b, *E;
    const uint8_t *targets; /* NULL: no loss */
} head_args;
typedef struct {
    double sum;    /* nats */
    int64_t count; /* tokens with a target */
} loss_sum;        /* written by an operation, not added to; there after device_wait */
status head_forward(device *dev, const head_args *a, const float *residual, float *hidden,
                    float *logits, float *token_loss, loss_sum *loss, arena *ws);
/* Loss and the gradient of its SUM in one pass: dresidual written; dln_w, dln_b, dE added. */
status head_backward(device *dev, const head_args *a, const float *residual, loss_sum *loss,
                     float *dresidual, float *dln_w, float *dln_b, float *dE, arena *ws);
op_cost head_cost(const device *dev, const head_args *a);

/* ---- classify: final LayerNorm (or none), pool over positions, small MLP, cross entropy
 * --------------------- pooled[b] = mean over t < L, or position L-1, of LN(residual[:, b, t]);
 * ln_w NULL: no norm H > 0:  logits = Wo gelu(Wh pooled + bh) + bo;   H = 0: logits = Wo pooled +
 * bo      (classes <= 64) labels (B) int32, -1: no label. logits (B, classes) and pooled (B, d) may
 * be NULL. */
typedef struct {
    batch_shape s;
    int64_t d, H, classes;
    int last; /* 0: mean, 1: last position */
    const float *ln_w, *ln_b, *Wh, *bh, *Wo, *bo;
    const int32_t *labels;
} classify_args;
typedef struct {
    float *ln_w, *ln_b, *Wh, *bh, *Wo, *bo;
} classify_grads;
status classify_forward(device *dev, const classify_args *a, const float *residual, float *pooled,
                        float *logits, loss_sum *loss, arena *ws);
status classify_backward(device *dev, const classify_args *a, const float *residual, loss_sum *loss,
                         float *dresidual, const classify_grads *grads, arena *ws);
op_cost classify_cost(const device *dev, const classify_args *a);

/* ---- ranges: sums of table rows over the sites that a token skipped
 * out[col, r] = sum over i in [start[col], start[col + 1]) of A[slot[i], r]
 *
 *   start (columns + 1) ascending    slot (start[columns]) int32, -1 adds nothing    A (rows, k)
 *   out (columns, k) row by row; an empty range gives zeros.
 *
 * The ranges of a window do not overlap, so a running sum reads each row once: the work of a
 * prefix sum over the site axis without its cancellation. Backward is rows_reduce with `of`: entry
 * i has the gradient of its column. */
typedef struct {
    int64_t columns, k;
    const int64_t *start;
    const int32_t *slot;
    const float *A;
} ranges_args;
status ranges_forward(device *dev, const ranges_args *a, float *out, arena *ws);
op_cost ranges_cost(const device *dev, const ranges_args *a, int64_t entries);

/* ---- sites: class-conditional next-site head, ragged over the sites of each window's span
 * (docs/model.md) h = LN(residual);  for site j after token t (the last carried one before j), with
 * R(j) the sum of `run` rows of the sites strictly between t and j:
 *
 *   query_c(j) = W_c h[t] + b_c + V_c R(j)                     (rank); token -1: query 0
 *   logit_c(j) = bias_c[j] + < query_c(j), G[j] >
 *   w_c  = sum over the sites of the window of log sigma(carried ? logit_c(j) : -logit_c(j))
 *   e_c  = sum over the tokens t < count of ( Eo gelu(Eh h[t] + eh) + eo )_c / 8
 *   class logit_c = scale * w_c + e_c
 *
 *   rows (unique, 2 rank + classes): G, run, bias, one after the other;  slot -1: a row of zeros
 *   W (classes * rank, d)  b (classes * rank)  V (classes * rank, rank)
 *   Eh (H, d) eh (H) Eo (classes, H) eo (classes): H 0: no evidence, e = 0;  scale (1), NULL: 1
 *   entries [start[b], start[b + 1]) of slot, token, carried are the sites of sequence b,
 *   ascending by site; token (..) int32 position t in the sequence, -1 before the first carried
 *   site. All index arrays are addressed by start's own values (start[0] need not be 0), and
 *   start[B] - start[0] is n.
 *
 * Loss with labels (classes > 1): over sequences with a label y, cross entropy of the class logits
 * plus site_weight times the mean over the sequence's sites of -log p_y(j); count: those
 * sequences. Without labels (labels NULL): the sum over sites with token >= 0 of -log p_0(j);
 * count: carried ones among them. */
typedef struct {
    batch_shape s;
    int64_t d, classes, rank, H;
    const float *ln_w, *ln_b; /* NULL: no norm */
    const float *W, *b, *V, *Eh, *eh, *Eo, *eo, *scale;
    const float *rows;
    const int64_t *start;   /* (B + 1) */
    const int32_t *slot;    /* (n) into rows */
    const int32_t *token;   /* (n) */
    const uint8_t *carried; /* (n) 0, 1 */
    const int32_t *count;   /* (B) tokens of each sequence; NULL: all L */
    const int32_t *labels;  /* (B), -1: none; NULL: unconditional */
    double site_weight;
} sites_args;
typedef struct {
    float *ln_w, *ln_b, *W, *b, *V, *Eh, *eh, *Eo, *eo, *scale;
} sites_grads;
/* Each output may be NULL: class_logits (B, classes), site_logits (n, classes) from entry start[0]
 * on, sequence_nll (B): -log p summed over the sites, of the label's class (class 0 without a
 * label); labels NULL: over the sites of the loss, those with token >= 0. */
status sites_forward(device *dev, const sites_args *a, const float *residual, float *class_logits,
                     float *site_logits, double *sequence_nll, loss_sum *loss, arena *ws);
/* dresidual written; grads added; drows (n, 2 rank + classes) written: the gradient of each entry's
 * row, zero where slot is -1 (rows_reduce sums duplicates). */
status sites_backward(device *dev, const sites_args *a, const float *residual, loss_sum *loss,
                      float *dresidual, const sites_grads *grads, float *drows, arena *ws);
/* The entries' own arrays aside; n: entries expected. */
op_cost sites_cost(const device *dev, const sites_args *a, int64_t n);

/* ---- optimizer
 * ---------------------------------------------------------------------------------------------
 * norm: sum of squares of n numbers, in fp64, the same for any number of threads. NaN and infinity
 * come through. Like a loss, *sum is there after device_wait. */
status norm_squares(device *dev, const float *x, int64_t n, double *sum, arena *ws);

/* adamw (Loshchilov & Hutter 2019, decoupled decay as in PyTorch): with g' = scale * g,
 *   p -= lr decay p;  m = b1 m + (1-b1) g';  v = b2 v + (1-b2) g'^2;
 *   p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)            t = step + 1, step counted
 * from 0 */
typedef struct {
    double lr, b1, b2, eps, decay, scale;
    int64_t step;
} adamw_args;
status adamw_update(device *dev, const adamw_args *a, int64_t n, float *p, const float *g, float *m,
                    float *v);

/* rows_reduce: sums the gradients of equal slots in a fixed order, and adds the sums to rows of a
 * larger array.
 *   slot (n) int32 below `slots` <= n, negative ones are left out;  of (n) int32 or NULL: entry i
 *   has row of[i] of grad (.., k), or row i;  place (slots) int32, all different
 *   -> total[place[s]] += sum over the entries of slot s;  a slot without entries adds nothing
 * Sums are fp64, in the order of the positions, rounded once before they are added. */
size_t rows_reduce_workspace(const device *dev, int64_t n, int64_t k); /* bytes */
status rows_reduce(device *dev, int64_t n, int64_t slots, int64_t k, const int32_t *slot,
                   const int32_t *of, const float *grad, const int32_t *place, float *total,
                   arena *ws);

/* rows_gather: out (count, k), row i is row index[i] of `from`. */
status rows_gather(device *dev, int64_t count, int64_t k, const int32_t *index, const float *from,
                   float *out);

/* rows_adam: Adam without decay on the given rows, exactly as if every row had been updated at
 * every step: the steps that a row sat out (zero gradient, moments decaying, learning rate of each
 * step) are replayed first. unique (count) slots, sum (count, k) gradients times `scale`; tables p,
 * m, v (slots, k); last (slots) int64: the last step applied to the row, -1 for none; lr_of_step
 * (step + 1) learning rates, in the device's memory like every other array. A row that had this
 * step, or a later one, is STATUS_INTERNAL: at once and with nothing changed on a CPU; on a GPU
 * that row stays as it is, and the next device_wait says so. */
typedef struct {
    double b1, b2, eps, scale;
    int64_t step;
    const float *lr_of_step;
} rows_adam_args;
status rows_adam(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                 const int32_t *unique, const float *sum, float *p, float *m, float *v,
                 int64_t *last);

/* rows_catch_up: replays rows up to and including `step` (zero gradients) into out (count, k)
 * without changing the tables: what a forward pass must see. unique may be NULL: rows 0 .. count-1.
 * step -1 (lr_of_step NULL): rows as they are. */
status rows_catch_up(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                     const int32_t *unique, const float *p, const float *m, const float *v,
                     const int64_t *last, float *out);

/* ---- pieces: rows between tensors whose rows have other lengths, on the way to and from ranks
 * that share a sequence (model/context.h) to[r * to_stride + i] = (or, add: +=) from[r *
 * from_stride + i],  r < rows, i < n; what lies between the rows of `to` stays. Numbers count
 * elements of `element` bytes, 2 or 4. */
typedef struct {
    int64_t rows, n, from_stride, to_stride;
    int64_t element;
} pieces_args;
status pieces_copy(device *dev, const pieces_args *a, const void *from, void *to);
status pieces_add(device *dev, const pieces_args *a, const float *from, float *to);

/* ---- the table: one pointer an operation
 * ---------------------------------------------------------------- */
struct ops_table {
    const char *name;
    /* What kernels/device.h declares as device_NAME. */
    void (*close)(device *);
    status (*memory_take)(device *, size_t, void **);
    void (*memory_give)(device *, void *);
    status (*upload)(device *, void *, const void *, size_t);
    status (*upload_wait)(device *);
    status (*download)(device *, void *, const void *, size_t);
    status (*wait)(device *);
    void (*drain)(device *, bool abandon);
    status (*clear)(device *, void *, size_t);
    status (*copy)(device *, void *, const void *, size_t);
    status (*host_take)(device *, size_t, void **);
    void (*host_give)(device *, void *);
    /* Graphs: NULL where there are none. gone of NULL: there are none, after all. */
    status (*graph_begin)(device *);
    status (*graph_end)(device *, device_graph **);
    status (*graph_run)(device *, device_graph *, const void *, void *);
    bool (*graph_gone)(const device *, const device_graph *);
    void (*graph_free)(device *, device_graph *);
    status (*room)(device *, device_room *);
    status (*measure)(device *, int64_t, bool, double *, double *);
    /* Bytes of workspace, the larger of forward and backward; what NAME_cost reports. `kept`: the
     * tensor that KEEP_SELECTED (mixin) or KEEP_ALL (mlp) keeps is there. */
    size_t (*embed_workspace)(const device *, const embed_args *);
    size_t (*mixin_workspace)(const device *, const mixin_args *, bool kept);
    size_t (*filter_workspace)(const device *, const filter_args *);
    size_t (*conv_workspace)(const device *, const conv_args *);
    size_t (*mixout_workspace)(const device *, const mixout_args *);
    size_t (*mlp_workspace)(const device *, const mlp_args *, bool kept);
    size_t (*head_workspace)(const device *, const head_args *);
    size_t (*classify_workspace)(const device *, const classify_args *);
    size_t (*sites_workspace)(const device *, const sites_args *);
    size_t (*rows_reduce_workspace)(const device *, int64_t n, int64_t k);
    int64_t (*conv_points)(int64_t L);
    status (*embed_forward)(device *, const embed_args *, float *, arena *);
    status (*embed_backward)(device *, const embed_args *, const float *, float *, float *const *,
                             float *const *, arena *);
    status (*mixin_forward)(device *, const mixin_args *, const float *, void *, void *, void *,
                            arena *);
    status (*mixin_regate)(device *, const mixin_args *, const void *, void *, void *, arena *);
    status (*mixin_backward)(device *, const mixin_args *, const float *, const void *,
                             const void *, const void *, float *, float *, const mixin_grads *,
                             arena *);
    status (*filter_forward)(device *, const filter_args *, float *, int64_t, arena *);
    status (*filter_backward)(device *, const filter_args *, const float *, int64_t,
                              const filter_grads *, arena *);
    status (*conv_forward)(device *, const conv_args *, const float *, const float *, const void *,
                           const void *, void *, arena *);
    status (*conv_backward)(device *, const conv_args *, const float *, const float *, const void *,
                            const void *, const void *, void *, void *, float *, float *, arena *);
    status (*mixout_forward)(device *, const mixout_args *, const void *, const void *,
                             const float *, float *, arena *);
    status (*mixout_backward)(device *, const mixout_args *, const void *, const void *,
                              const float *, void *, void *, float *, float *, arena *);
    status (*mlp_forward)(device *, const mlp_args *, const float *, void *, float *, arena *);
    status (*mlp_backward)(device *, const mlp_args *, const float *, const void *, float *,
                           const mlp_grads *, arena *);
    status (*head_forward)(device *, const head_args *, const float *, float *, float *, float *,
                           loss_sum *, arena *);
    status (*head_backward)(device *, const head_args *, const float *, loss_sum *, float *,
                            float *, float *, float *, arena *);
    status (*classify_forward)(device *, const classify_args *, const float *, float *, float *,
                               loss_sum *, arena *);
    status (*classify_backward)(device *, const classify_args *, const float *, loss_sum *, float *,
                                const classify_grads *, arena *);
    status (*ranges_forward)(device *, const ranges_args *, float *, arena *);
    status (*sites_forward)(device *, const sites_args *, const float *, float *, float *, double *,
                            loss_sum *, arena *);
    status (*sites_backward)(device *, const sites_args *, const float *, loss_sum *, float *,
                             const sites_grads *, float *, arena *);
    status (*norm_squares)(device *, const float *, int64_t, double *, arena *);
    status (*adamw_update)(device *, const adamw_args *, int64_t, float *, const float *, float *,
                           float *);
    status (*rows_reduce)(device *, int64_t, int64_t, int64_t, const int32_t *, const int32_t *,
                          const float *, const int32_t *, float *, arena *);
    status (*rows_gather)(device *, int64_t, int64_t, const int32_t *, const float *, float *);
    status (*rows_adam)(device *, const rows_adam_args *, int64_t, int64_t, const int32_t *,
                        const float *, float *, float *, float *, int64_t *);
    status (*rows_catch_up)(device *, const rows_adam_args *, int64_t, int64_t, const int32_t *,
                            const float *, const float *, const float *, const int64_t *, float *);
    status (*pieces_copy)(device *, const pieces_args *, const void *, void *);
    status (*pieces_add)(device *, const pieces_args *, const float *, float *);
};

extern const ops_table ops_cpu;

#endif
