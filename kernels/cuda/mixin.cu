/* mixin: LayerNorm and in_proj make u of a chunk of columns, without its bias; the kernels below
 * read it through a window of a few columns, add the bias on the way and go through taps and gate.
 * A chunk is made with a margin of columns on either side, so that windows never leave it. */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/layernorm.h"
#include "kernels/cuda/segment.cuh"

#define REACH 2             /* columns that the taps look back */
#define MARGIN LENGTH_ALIGN /* keeps the products' operands aligned */
#define SUMS 5              /* a row's gradients: three taps, their bias, the bias of u */

/* The columns that a launch works on, and u of them. `u` (rows, ..) has column `u_first` of the
 * batch in front; `biased` (0, 1): it has the bias b already. `left` (rows, 2B): u of the halo
 * columns, without bias, or NULL. */
typedef struct {
    batch_shape s;
    int64_t d, order, first, columns, segments, u_first, ldu, biased;
    const float *u, *b, *taps, *tap_b, *left;
} mixin_view;

/* One row of it. */
typedef struct {
    const float *u; /* at column `first` */
    const float *left;
    float b, missing, taps[3], tap_b; /* missing: what u lacks of its bias */
} mixin_row;

static __device__ inline mixin_row row_of(const mixin_view *v, int64_t r)
{
    mixin_row w;
    w.u = v->u + r * v->ldu + (v->first - v->u_first);
    w.left = v->left ? v->left + r * REACH * v->s.B : NULL;
    w.b = v->b[r];
    w.missing = v->biased ? 0.0f : w.b;
    for (int k = 0; k < 3; k++)
        w.taps[k] = v->taps[3 * r + k];
    w.tap_b = v->tap_b[r];
    return w;
}

/* u left of a sequence (t < 0), whose first column is column j - t of the chunk. */
static __device__ inline float halo_value(const mixin_view *v, const mixin_row *w, int64_t j,
                                          int64_t t)
{
    if (!w->left)
        return 0.0f;
    return w->left[REACH * ((v->first + j - t) / v->s.Lp) + REACH + t] + w->b;
}

/* u[0 .. count) = the columns from j - REACH on of a row; j is at position t. Zeros right of the
 * sequence. */
static __device__ inline void window(const mixin_view *v, const mixin_row *w, int64_t j, int64_t t,
                                     int count, float *u)
{
#pragma unroll
    for (int i = 0; i < count; i++) {
        const int64_t at = t + i - REACH, k = j + i - REACH;
        if (at < 0)
            u[i] = halo_value(v, w, k, at);
        else
            u[i] = at < v->s.L ? w->u[k] + w->missing : 0.0f;
    }
}

static __device__ inline float tapped(const mixin_row *w, const float *u)
{
    return fmaf(w->taps[0], u[0], fmaf(w->taps[1], u[1], fmaf(w->taps[2], u[2], w->tap_b)));
}

/* The taps' result at column j; keep (NULL: not wanted): u of it. Zeros at pads. */
static __device__ inline float tap_column(const mixin_view *v, const mixin_row *w, int64_t j,
                                          int64_t t, float *keep)
{
    float u[REACH + 1] = {0.0f, 0.0f, 0.0f}, result = 0.0f;
    if (t < v->s.L) {
        window(v, w, j, t, REACH + 1, u);
        result = tapped(w, u);
    }
    if (keep)
        *keep = u[REACH];
    return result;
}

/* Tensors of the whole batch begin at the chunk's first column here, rows n apart. Row r < (N-1)d
 * of the grid is gate row r, the others are the channels of g: slices x and v meet there. */
KERNEL(mixin_gate)
(mixin_view v, int64_t n, float *__restrict__ keep, float *__restrict__ gates,
 float *__restrict__ g)
{
    const segment at = segment_of(v.s, v.first, v.columns, v.segments);
    const int64_t r = at.row, ng = (v.order - 1) * v.d;
    const mixin_row x = row_of(&v, r), y = row_of(&v, r < ng ? r : r + v.d);
    float *keep_x = keep ? keep + r * n : NULL, *keep_y = keep ? keep + (r + v.d) * n : NULL;
    float *out = r < ng ? gates + r * n : g + (r - ng) * n;
    int64_t t = at.t;
#pragma unroll 2
    for (int64_t j = at.from; j < at.to; j += BLOCK_THREADS) {
        float value = tap_column(&v, &x, j, t, keep ? keep_x + j : NULL);
        if (r >= ng)
            value *= tap_column(&v, &y, j, t, keep ? keep_y + j : NULL);
        out[j] = value;
        t = segment_step(v.s, &at, t);
    }
}

/* Gradients of one row at column j: e[0 .. REACH] those of the taps' results there and to the
 * right, u[0 .. REACH] what the taps saw there. */
static __device__ inline void row_backward(const mixin_view *v, const mixin_row *w, int64_t r,
                                           int64_t j, int64_t t, const float *e, const float *u,
                                           float *du, float *dleft, float *sums)
{
    const float *k = w->taps;
    const float sum = fmaf(k[0], e[2], fmaf(k[1], e[1], k[2] * e[0]));
    du[j] = sum;
    for (int i = 0; i < 3; i++)
        sums[i] = fmaf(e[0], u[i], sums[i]);
    sums[3] += e[0];
    sums[4] += sum;
    if (t != 0 || !dleft)
        return;
    float *to = dleft + REACH * (r * v->s.B + (v->first + j) / v->s.Lp);
    to[0] = k[0] * e[0];
    to[1] = fmaf(k[1], e[0], k[0] * e[1]);
}

/* A row's sums over the block -> part, (rows of the gradients, segments): taps (rows, 3), then
 * their biases, then u's. shared: SUMS numbers a warp. */
static __device__ inline void row_sums(const mixin_view *v, int64_t r, int64_t number,
                                       const float *sums, double *shared, double *__restrict__ part)
{
    const int warps = BLOCK_THREADS / WARP, warp = (int)threadIdx.x / WARP, i = (int)threadIdx.x;
    for (int k = 0; k < SUMS; k++) {
        double x = (double)sums[k];
        for (int step = WARP / 2; step > 0; step /= 2)
            x += __shfl_down_sync(FULL_WARP, x, step);
        if (threadIdx.x % WARP == 0)
            shared[k * warps + warp] = x;
    }
    __syncthreads();
    if (i >= SUMS)
        return;
    double sum = 0;
    for (int k = 0; k < warps; k++)
        sum += shared[i * warps + k];
    const int64_t rows = (v->order + 1) * v->d;
    part[(i < 3 ? 3 * r + i : i * rows + r) * v->segments + number] = sum;
}

/* Gate row r < (N-1)d of the grid: du from dgates. du (rows, ld_du) is the chunk's own. */
KERNEL(mixin_ungate_gates)
(mixin_view v, int64_t n, const float *__restrict__ dgates, float *__restrict__ du, int64_t ld_du,
 float *__restrict__ dleft, double *__restrict__ part)
{
    SHARED(double, shared);
    const segment at = segment_of(v.s, v.first, v.columns, v.segments);
    const int64_t r = at.row;
    const mixin_row w = row_of(&v, r);
    const float *d = dgates + r * n;
    float sums[SUMS] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    int64_t t = at.t;
#pragma unroll 2
    for (int64_t j = at.from; j < at.to; j += BLOCK_THREADS) {
        float e[REACH + 1] = {0.0f, 0.0f, 0.0f}, u[REACH + 1] = {0.0f, 0.0f, 0.0f};
        for (int i = 0; i <= REACH; i++)
            e[i] = t + i < v.s.L ? d[j + i] : 0.0f;
        if (t < v.s.L)
            window(&v, &w, j, t, REACH + 1, u);
        row_backward(&v, &w, r, j, t, e, u, du + r * ld_du, dleft, sums);
        t = segment_step(v.s, &at, t);
    }
    row_sums(&v, r, at.number, sums, shared, part);
}

/* Channel c of the grid: du of its rows in the slices x and v from dg. */
KERNEL(mixin_ungate_g)
(mixin_view v, int64_t n, const float *__restrict__ dg, float *__restrict__ du, int64_t ld_du,
 float *__restrict__ dleft, double *__restrict__ part)
{
    SHARED(double, shared);
    const segment at = segment_of(v.s, v.first, v.columns, v.segments);
    const int64_t rx = at.row + (v.order - 1) * v.d, ry = rx + v.d;
    const mixin_row x = row_of(&v, rx), y = row_of(&v, ry);
    const float *d = dg + at.row * n;
    float sums_x[SUMS] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f},
          sums_y[SUMS] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    int64_t t = at.t;
    for (int64_t j = at.from; j < at.to; j += BLOCK_THREADS) {
        float ux[2 * REACH + 1] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f},
                             uy[2 * REACH + 1] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
        float ex[REACH + 1], ey[REACH + 1];
        if (t < v.s.L) {
            window(&v, &x, j, t, 2 * REACH + 1, ux);
            window(&v, &y, j, t, 2 * REACH + 1, uy);
        }
        for (int i = 0; i <= REACH; i++) {
            const float e = t + i < v.s.L ? d[j + i] : 0.0f;
            ex[i] = e * tapped(&y, uy + i);
            ey[i] = e * tapped(&x, ux + i);
        }
        row_backward(&v, &x, rx, j, t, ex, ux, du + rx * ld_du, dleft, sums_x);
        row_backward(&v, &y, ry, j, t, ey, uy, du + ry * ld_du, dleft, sums_y);
        t = segment_step(v.s, &at, t);
    }
    row_sums(&v, rx, at.number, sums_x, shared, part);
    row_sums(&v, ry, at.number, sums_y, shared + SUMS * BLOCK_THREADS / WARP, part);
}

/* ---- host */

static int64_t columns_of(const mixin_args *a)
{
    return a->s.B * a->s.Lp;
}

static int64_t rows_of(const mixin_args *a)
{
    return (a->order + 1) * a->d;
}

/* The columns left of the shard, for all sequences: (.., 2B); NULL without halo. */
typedef struct {
    float *n, *u, *du; /* (d), later its gradient; (rows) */
    float *mean, *rstd;
} mixin_halo;

/* What there is of a chunk. */
typedef struct {
    int64_t wide, ld; /* columns, and row stride of n and u: with margins where u is made here */
    float *n, *u;     /* (d), at last its gradient; (rows), NULL where u is kept */
    float *mean, *rstd;
    float *du;    /* (rows, wide) */
    double *part; /* (SUMS rows, segments) */
} mixin_chunk;

static size_t halo_size(const mixin_args *a, bool backward)
{
    const int64_t columns = REACH * a->s.B;
    if (!a->halo)
        return 0;
    return floats_size(a->d * columns) + (backward ? 2 : 1) * floats_size(rows_of(a) * columns) +
           (backward ? 2 * floats_size(columns) : 0);
}

static bool halo_take(const mixin_args *a, bool backward, mixin_halo *h, arena *ws)
{
    const int64_t columns = REACH * a->s.B;
    *h = mixin_halo{NULL, NULL, NULL, NULL, NULL};
    if (!a->halo)
        return true;
    h->n = take_floats(ws, a->d * columns);
    h->u = take_floats(ws, rows_of(a) * columns);
    if (!backward)
        return h->n && h->u;
    h->du = take_floats(ws, rows_of(a) * columns);
    h->mean = take_floats(ws, columns);
    h->rstd = take_floats(ws, columns);
    return h->n && h->u && h->du && h->mean && h->rstd;
}

static size_t chunk_size(const mixin_args *a, bool backward, bool kept)
{
    const int64_t rows = rows_of(a), wide = chunk_columns(rows, columns_of(a));
    const int64_t ld = backward && kept ? wide : wide + 2 * MARGIN;
    const size_t n = floats_size(a->d * ld), u = backward && kept ? 0 : floats_size(rows * ld);
    if (!backward)
        return n + u;
    return n + u + 2 * floats_size(ld) + floats_size(rows * wide) +
           doubles_size(SUMS * rows * segments_of(wide));
}

static bool chunk_take(const mixin_args *a, bool backward, bool kept, mixin_chunk *k, arena *ws)
{
    const int64_t rows = rows_of(a);
    k->wide = chunk_columns(rows, columns_of(a));
    k->ld = backward && kept ? k->wide : k->wide + 2 * MARGIN;
    k->n = take_floats(ws, a->d * k->ld);
    k->u = backward && kept ? NULL : take_floats(ws, rows * k->ld);
    k->mean = k->rstd = k->du = NULL;
    k->part = NULL;
    if (!k->n || (!k->u && !(backward && kept)))
        return false;
    if (!backward)
        return true;
    k->mean = take_floats(ws, k->ld);
    k->rstd = take_floats(ws, k->ld);
    k->du = take_floats(ws, rows * k->wide);
    k->part = take_doubles(ws, SUMS * rows * segments_of(k->wide));
    return k->mean && k->rstd && k->du && k->part;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* What sums take beside a chunk and the halo: one at a time. */
static size_t sums_size(const mixin_args *a)
{
    const int64_t wide = chunk_columns(rows_of(a), columns_of(a)), halo = REACH * a->s.B;
    const size_t norm = ln_backward_workspace_cuda(a->d, wide);
    if (!a->halo)
        return norm;
    return larger(norm, larger(ln_backward_workspace_cuda(a->d, halo),
                               rows_sum_workspace_cuda(rows_of(a), halo)));
}

extern "C" size_t mixin_workspace_cuda(const device *dev, const mixin_args *a, bool kept)
{
    (void)dev;
    const size_t forward = halo_size(a, false) + chunk_size(a, false, kept);
    const size_t backward = halo_size(a, true) + chunk_size(a, true, kept) + sums_size(a);
    return larger(forward, backward);
}

/* n and, where there is a place for it, u of columns [from, to); statistics where there is. */
static status product(device *dev, const mixin_args *a, const float *x, int64_t ldx,
                      int64_t columns, float *n, float *u, int64_t ld, float *mean, float *rstd)
{
    TRY(ln_forward_cuda(dev, a->d, columns, x, ldx, a->ln_w, a->ln_b, n, ld, mean, rstd));
    if (!u)
        return STATUS_OK;
    return gemm_cuda(dev, false, false, rows_of(a), columns, a->d, a->W, a->d, n, ld, 0.0f, u, ld);
}

static status halo_forward(device *dev, const mixin_args *a, const mixin_halo *h)
{
    const int64_t columns = REACH * a->s.B;
    if (!a->halo)
        return STATUS_OK;
    return product(dev, a, a->halo, columns, columns, h->n, h->u, columns, h->mean, h->rstd);
}

/* Columns [first, first + columns) of the batch, whose u begins with column u_first. */
static mixin_view view_of(const mixin_args *a, const mixin_halo *h, int64_t first, int64_t columns,
                          const float *u, int64_t ldu, int64_t u_first, bool biased)
{
    return mixin_view{a->s,     a->d, a->order, first, columns, segments_of(columns),
                      u_first,  ldu,  biased,   u,     a->b,    a->taps,
                      a->tap_b, h->u};
}

static status gate_launch(device *dev, const mixin_args *a, const mixin_view *v, float *keep,
                          float *gates, float *g)
{
    return LAUNCH(mixin_gate, (unsigned)(a->order * a->d * v->segments), BLOCK_THREADS, 0,
                  cuda_of(dev)->stream, *v, columns_of(a), keep ? keep + v->first : NULL,
                  gates + v->first, g + v->first);
}

static status forward_chunk(device *dev, const mixin_args *a, const mixin_halo *h,
                            const mixin_chunk *k, int64_t c0, const float *residual, float *u,
                            float *gates, float *g)
{
    const int64_t n = columns_of(a), T = c0 + k->wide < n ? k->wide : n - c0;
    const int64_t from = c0 < MARGIN ? 0 : c0 - MARGIN;
    TRY(product(dev, a, residual + from, n, c0 + T - from, k->n, k->u, k->ld, NULL, NULL));
    const mixin_view v = view_of(a, h, c0, T, k->u, k->ld, from, false);
    return gate_launch(dev, a, &v, u, gates, g);
}

extern "C" status mixin_forward_cuda(device *dev, const mixin_args *a, const float *residual,
                                     float *u, float *gates, float *g, arena *ws)
{
    const size_t mark = arena_mark(ws);
    status st = STATUS_OK;
    mixin_halo h;
    mixin_chunk k;
    if (!halo_take(a, false, &h, ws) || !chunk_take(a, false, u != NULL, &k, ws)) {
        st = cuda_workspace_short("mixin", ws);
        goto done;
    }
    TRY_GOTO(done, halo_forward(dev, a, &h));
    for (int64_t c0 = 0; c0 < columns_of(a); c0 += k.wide)
        TRY_GOTO(done, forward_chunk(dev, a, &h, &k, c0, residual, u, gates, g));
done:
    arena_release(ws, mark);
    return st;
}

extern "C" status mixin_regate_cuda(device *dev, const mixin_args *a, const float *u, float *gates,
                                    float *g, arena *ws)
{
    const size_t mark = arena_mark(ws);
    const int64_t n = columns_of(a);
    status st = STATUS_OK;
    mixin_halo h;
    mixin_view v;
    if (!halo_take(a, false, &h, ws)) {
        st = cuda_workspace_short("mixin", ws);
        goto done;
    }
    TRY_GOTO(done, halo_forward(dev, a, &h));
    v = view_of(a, &h, 0, n, u, n, 0, true);
    st = gate_launch(dev, a, &v, NULL, gates, g);
done:
    arena_release(ws, mark);
    return st;
}

/* du of a chunk, and the gradients of taps and biases. */
static status ungate(device *dev, const mixin_args *a, const mixin_view *v, const mixin_chunk *k,
                     const float *dgates, const float *dg, float *dleft, const mixin_grads *grads)
{
    const cudaStream_t stream = cuda_of(dev)->stream;
    const int64_t n = columns_of(a), rows = rows_of(a), parts = v->segments;
    const int64_t gate_rows = (a->order - 1) * a->d;
    const size_t shared = SUMS * BLOCK_THREADS / WARP * sizeof(double);
    if (gate_rows)
        TRY(LAUNCH(mixin_ungate_gates, (unsigned)(gate_rows * parts), BLOCK_THREADS, shared, stream,
                   *v, n, dgates + v->first, k->du, k->wide, dleft, k->part));
    TRY(LAUNCH(mixin_ungate_g, (unsigned)(a->d * parts), BLOCK_THREADS, 2 * shared, stream, *v, n,
               dg + v->first, k->du, k->wide, dleft, k->part));
    TRY(parts_add_cuda(dev, 3 * rows, parts, k->part, grads->taps));
    TRY(parts_add_cuda(dev, rows, parts, k->part + 3 * rows * parts, grads->tap_b));
    return parts_add_cuda(dev, rows, parts, k->part + 4 * rows * parts, grads->b);
}

/* From du (rows, columns) through in_proj and LayerNorm; n becomes its own gradient. */
static status product_backward(device *dev, const mixin_args *a, int64_t columns, const float *du,
                               int64_t ld_du, float *n, int64_t ld, const float *x, int64_t ldx,
                               const float *mean, const float *rstd, float *dx, bool add,
                               const mixin_grads *grads, arena *ws)
{
    const int64_t d = a->d, rows = rows_of(a);
    TRY(gemm_cuda(dev, false, true, rows, d, columns, du, ld_du, n, ld, 1.0f, grads->W, d));
    TRY(gemm_cuda(dev, true, false, d, columns, rows, a->W, d, du, ld_du, 0.0f, n, ld));
    return ln_backward_cuda(dev, d, columns, n, ld, x, ldx, mean, rstd, a->ln_w, dx, ldx, add,
                            grads->ln_w, grads->ln_b, ws);
}

static status backward_chunk(device *dev, const mixin_args *a, const mixin_halo *h,
                             const mixin_chunk *k, int64_t c0, const float *residual,
                             const float *u, const float *dgates, const float *dg, float *dresidual,
                             const mixin_grads *grads, arena *ws)
{
    const int64_t n = columns_of(a), T = c0 + k->wide < n ? k->wide : n - c0, end = c0 + T;
    const int64_t margin = u ? 0 : MARGIN;
    const int64_t from = c0 < margin ? 0 : c0 - margin, to = end + margin < n ? end + margin : n;
    TRY(product(dev, a, residual + from, n, to - from, k->n, k->u, k->ld, k->mean, k->rstd));
    const mixin_view v =
        u ? view_of(a, h, c0, T, u, n, 0, true) : view_of(a, h, c0, T, k->u, k->ld, from, false);
    TRY(ungate(dev, a, &v, k, dgates, dg, h->du, grads));
    return product_backward(dev, a, T, k->du, k->wide, k->n + (c0 - from), k->ld, residual + c0, n,
                            k->mean + (c0 - from), k->rstd + (c0 - from), dresidual + c0, true,
                            grads, ws);
}

/* The halo's own columns: their part of the parameter gradients, and dhalo. */
static status halo_backward(device *dev, const mixin_args *a, const mixin_halo *h, float *dhalo,
                            const mixin_grads *grads, arena *ws)
{
    const int64_t columns = REACH * a->s.B;
    TRY(rows_sum_cuda(dev, rows_of(a), columns, h->du, columns, grads->b, ws));
    return product_backward(dev, a, columns, h->du, columns, h->n, columns, a->halo, columns,
                            h->mean, h->rstd, dhalo, false, grads, ws);
}

extern "C" status mixin_backward_cuda(device *dev, const mixin_args *a, const float *residual,
                                      const float *u, const float *dgates, const float *dg,
                                      float *dresidual, float *dhalo, const mixin_grads *grads,
                                      arena *ws)
{
    const size_t mark = arena_mark(ws);
    status st = STATUS_OK;
    mixin_halo h;
    mixin_chunk k;
    if (!halo_take(a, true, &h, ws) || !chunk_take(a, true, u != NULL, &k, ws)) {
        st = cuda_workspace_short("mixin", ws);
        goto done;
    }
    TRY_GOTO(done, halo_forward(dev, a, &h));
    for (int64_t c0 = 0; c0 < columns_of(a); c0 += k.wide)
        TRY_GOTO(done,
                 backward_chunk(dev, a, &h, &k, c0, residual, u, dgates, dg, dresidual, grads, ws));
    if (a->halo)
        TRY_GOTO(done, halo_backward(dev, a, &h, dhalo, grads, ws));
done:
    arena_release(ws, mark);
    return st;
}
