/* mixin: LayerNorm and in_proj make u of a chunk of columns, without its bias; the kernels below
 * read it through a window of a few columns, add the bias on the way and go through taps and gate.
 * A chunk is made with a margin of columns on either side, so that windows never leave it. In bf16
 * a kept u stays without its bias, which would round it twice, and is its own chunk. */
#include "kernels/cuda/segment.cuh"
#include "kernels/cuda/wide.cuh"

#define REACH 2             /* columns that the taps look back */
#define MARGIN LENGTH_ALIGN /* keeps the products' operands aligned */
#define SUMS 5              /* a row's gradients: three taps, their bias, the bias of u */

/* The columns that a launch works on, and u of them. `u` (rows, ..) has column `u_first` of the
 * batch in front; `biased` (0, 1): it has the bias b already. `left` (rows, 2B): u of the halo
 * columns, without bias, or NULL. */
template <typename T> struct mixin_view {
    batch_shape s;
    int64_t d, order, first, columns, segments, u_first, ldu, biased;
    const T *u;
    const float *b, *taps, *tap_b;
    const T *left;
};

/* One row of it. */
template <typename T> struct mixin_row {
    const T *u; /* at column `first` */
    const T *left;
    float b, missing, taps[3], tap_b; /* missing: what u lacks of its bias */
};

template <typename T>
static __device__ inline mixin_row<T> row_of(const mixin_view<T> *v, int64_t r)
{
    mixin_row<T> w;
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
template <typename T>
static __device__ inline float halo_value(const mixin_view<T> *v, const mixin_row<T> *w, int64_t j,
                                          int64_t t)
{
    if (!w->left)
        return 0.0f;
    return number(w->left[REACH * ((v->first + j - t) / v->s.Lp) + REACH + t]) + w->b;
}

/* u[0 .. count) = the columns from j - REACH on of a row; j is at position t. Zeros right of the
 * sequence. */
template <typename T>
static __device__ inline void window(const mixin_view<T> *v, const mixin_row<T> *w, int64_t j,
                                     int64_t t, int count, float *u)
{
#pragma unroll
    for (int i = 0; i < count; i++) {
        const int64_t at = t + i - REACH, k = j + i - REACH;
        if (at < 0)
            u[i] = halo_value(v, w, k, at);
        else
            u[i] = at < v->s.L ? number(w->u[k]) + w->missing : 0.0f;
    }
}

template <typename T> static __device__ inline float tapped(const mixin_row<T> *w, const float *u)
{
    return fmaf(w->taps[0], u[0], fmaf(w->taps[1], u[1], fmaf(w->taps[2], u[2], w->tap_b)));
}

/* The taps' result at column j; keep (NULL: not wanted): u of it. Zeros at pads. */
template <typename T>
static __device__ inline float tap_column(const mixin_view<T> *v, const mixin_row<T> *w, int64_t j,
                                          int64_t t, T *keep)
{
    float u[REACH + 1] = {0.0f, 0.0f, 0.0f}, result = 0.0f;
    if (t < v->s.L) {
        window(v, w, j, t, REACH + 1, u);
        result = tapped(w, u);
    }
    if (keep)
        put(keep, u[REACH]);
    return result;
}

/* Tensors of the whole batch begin at the chunk's first column here, rows n apart. Row r < (N-1)d
 * of the grid is gate row r, the others are the channels of g: slices x and v meet there. */
template <typename T>
KERNEL(mixin_gate)
(mixin_view<T> v, int64_t n, T *__restrict__ keep, T *__restrict__ gates, T *__restrict__ g)
{
    const segment at = segment_of(v.s, v.first, v.columns, v.segments);
    const int64_t r = at.row, ng = (v.order - 1) * v.d;
    const mixin_row<T> x = row_of(&v, r), y = row_of(&v, r < ng ? r : r + v.d);
    T *keep_x = keep ? keep + r * n : NULL, *keep_y = keep ? keep + (r + v.d) * n : NULL;
    T *out = r < ng ? gates + r * n : g + (r - ng) * n;
    int64_t t = at.t;
#pragma unroll 2
    for (int64_t j = at.from; j < at.to; j += BLOCK_THREADS) {
        float value = tap_column<T>(&v, &x, j, t, keep ? keep_x + j : NULL);
        if (r >= ng)
            value *= tap_column<T>(&v, &y, j, t, keep ? keep_y + j : NULL);
        put(out + j, value);
        t = segment_step(v.s, &at, t);
    }
}

/* Gradients of one row at column j: e[0 .. REACH] those of the taps' results there and to the
 * right, u[0 .. REACH] what the taps saw there. */
template <typename T>
static __device__ inline void row_backward(const mixin_view<T> *v, const mixin_row<T> *w, int64_t r,
                                           int64_t j, int64_t t, const float *e, const float *u,
                                           T *du, float *dleft, float *sums)
{
    const float *k = w->taps;
    const float sum = fmaf(k[0], e[2], fmaf(k[1], e[1], k[2] * e[0]));
    put(du + j, sum);
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
template <typename T>
static __device__ inline void row_sums(const mixin_view<T> *v, int64_t r, int64_t number,
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
template <typename T>
KERNEL(mixin_ungate_gates)
(mixin_view<T> v, int64_t n, const T *__restrict__ dgates, T *__restrict__ du, int64_t ld_du,
 float *__restrict__ dleft, double *__restrict__ part)
{
    SHARED(double, shared);
    const segment at = segment_of(v.s, v.first, v.columns, v.segments);
    const int64_t r = at.row;
    const mixin_row<T> w = row_of(&v, r);
    const T *d = dgates + r * n;
    float sums[SUMS] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    int64_t t = at.t;
#pragma unroll 2
    for (int64_t j = at.from; j < at.to; j += BLOCK_THREADS) {
        float e[REACH + 1] = {0.0f, 0.0f, 0.0f}, u[REACH + 1] = {0.0f, 0.0f, 0.0f};
        for (int i = 0; i <= REACH; i++)
            e[i] = t + i < v.s.L ? number(d[j + i]) : 0.0f;
        if (t < v.s.L)
            window(&v, &w, j, t, REACH + 1, u);
        row_backward(&v, &w, r, j, t, e, u, du + r * ld_du, dleft, sums);
        t = segment_step(v.s, &at, t);
    }
    row_sums(&v, r, at.number, sums, shared, part);
}

/* Channel c of the grid: du of its rows in the slices x and v from dg. */
template <typename T>
KERNEL(mixin_ungate_g)
(mixin_view<T> v, int64_t n, const T *__restrict__ dg, T *__restrict__ du, int64_t ld_du,
 float *__restrict__ dleft, double *__restrict__ part)
{
    SHARED(double, shared);
    const segment at = segment_of(v.s, v.first, v.columns, v.segments);
    const int64_t rx = at.row + (v.order - 1) * v.d, ry = rx + v.d;
    const mixin_row<T> x = row_of(&v, rx), y = row_of(&v, ry);
    const T *d = dg + at.row * n;
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
            const float e = t + i < v.s.L ? number(d[j + i]) : 0.0f;
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
template <typename T> struct mixin_halo {
    T *n, *u;  /* (d), later its gradient; (rows) */
    float *du; /* (rows) */
    T *copies; /* of it, in bf16 */
    float *mean, *rstd;
};

/* What there is of a chunk. */
template <typename T> struct mixin_chunk {
    int64_t wide, ld; /* columns, and row stride of n and u: with margins where u is made here */
    T *n, *u;         /* (d), at last its gradient; (rows), NULL where u is kept */
    T *weights;       /* of W, in bf16 */
    operand<T> W;
    float *mean, *rstd;
    T *du;        /* (rows, wide) */
    double *part; /* (SUMS rows, segments) */
};

template <typename T> static size_t halo_size(const mixin_args *a, bool backward)
{
    const int64_t columns = REACH * a->s.B, rows = rows_of(a);
    if (!a->halo)
        return 0;
    const size_t forward = wide_size<T>(a->d * columns) + wide_size<T>(rows * columns);
    return forward + (backward
                          ? floats_size(rows * columns) + wide_size<T>(room_of<T>(rows * columns)) +
                                2 * floats_size(columns)
                          : 0);
}

template <typename T>
static bool halo_take(const mixin_args *a, bool backward, mixin_halo<T> *h, arena *ws)
{
    const int64_t columns = REACH * a->s.B, rows = rows_of(a);
    *h = mixin_halo<T>{};
    if (!a->halo)
        return true;
    h->n = take_wide<T>(ws, a->d * columns);
    h->u = take_wide<T>(ws, rows * columns);
    if (!backward)
        return h->n && h->u;
    h->du = take_floats(ws, rows * columns);
    h->mean = take_floats(ws, columns);
    h->rstd = take_floats(ws, columns);
    return h->n && h->u && h->du && h->mean && h->rstd && room_take(ws, rows * columns, &h->copies);
}

/* Has a kept u its bias? Otherwise the product is made where it is kept. */
template <typename T> static constexpr bool biased(void)
{
    return sizeof(T) == sizeof(float);
}

template <typename T> static bool own_u(bool backward, bool kept)
{
    return !kept || (biased<T>() && !backward);
}

template <typename T> static size_t chunk_size(const mixin_args *a, bool backward, bool kept)
{
    const int64_t rows = rows_of(a), wide = chunk_columns(rows, columns_of(a));
    const bool own = own_u<T>(backward, kept);
    const int64_t ld = own ? wide + 2 * MARGIN : wide;
    const size_t n = wide_size<T>(a->d * ld), u = own ? wide_size<T>(rows * ld) : 0;
    const size_t forward = n + u + wide_size<T>(room_of<T>(rows * a->d));
    if (!backward)
        return forward;
    return forward + 2 * floats_size(ld) + wide_size<T>(rows * wide) +
           doubles_size(SUMS * rows * segments_of(wide));
}

/* The chunk's memory, and W as an operand. */
template <typename T>
static status chunk_take(device *dev, const mixin_args *a, bool backward, bool kept,
                         mixin_chunk<T> *k, arena *ws)
{
    const int64_t rows = rows_of(a);
    const bool own = own_u<T>(backward, kept);
    *k = mixin_chunk<T>{};
    k->wide = chunk_columns(rows, columns_of(a));
    k->ld = own ? k->wide + 2 * MARGIN : k->wide;
    k->n = take_wide<T>(ws, a->d * k->ld);
    k->u = own ? take_wide<T>(ws, rows * k->ld) : NULL;
    bool all = k->n && (k->u || !own) && room_take(ws, rows * a->d, &k->weights);
    if (all && backward) {
        k->mean = take_floats(ws, k->ld);
        k->rstd = take_floats(ws, k->ld);
        k->du = take_wide<T>(ws, rows * k->wide);
        k->part = take_doubles(ws, SUMS * rows * segments_of(k->wide));
        all = k->mean && k->rstd && k->du && k->part;
    }
    if (!all)
        return cuda_workspace_short("mixin", ws);
    return operand_of(dev, rows, a->d, a->W, a->d, k->weights, &k->W);
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

template <typename T> static size_t workspace(const mixin_args *a, bool kept)
{
    const size_t forward = halo_size<T>(a, false) + chunk_size<T>(a, false, kept);
    const size_t backward = halo_size<T>(a, true) + chunk_size<T>(a, true, kept) + sums_size(a);
    return larger(forward, backward);
}

extern "C" size_t mixin_workspace_cuda(const device *dev, const mixin_args *a, bool kept)
{
    (void)dev;
    return a->mixed ? workspace<bf16>(a, kept) : workspace<float>(a, kept);
}

/* n and, where there is a place for it, u of columns [from, to); statistics where there is. */
template <typename T>
static status product(device *dev, const mixin_args *a, const operand<T> *W, const float *x,
                      int64_t ldx, int64_t columns, T *n, int64_t ldn, T *u, int64_t ldu,
                      float *mean, float *rstd)
{
    TRY(ln_forward(dev, a->d, columns, x, ldx, a->ln_w, a->ln_b, n, ldn, mean, rstd));
    if (!u)
        return STATUS_OK;
    return gemm(dev, false, false, rows_of(a), columns, a->d, W->at, W->ld, n, ldn, 0.0f, u, ldu);
}

template <typename T>
static status halo_forward(device *dev, const mixin_args *a, const operand<T> *W,
                           const mixin_halo<T> *h)
{
    const int64_t columns = REACH * a->s.B;
    if (!a->halo)
        return STATUS_OK;
    return product(dev, a, W, a->halo, columns, columns, h->n, columns, h->u, columns, h->mean,
                   h->rstd);
}

/* Columns [first, first + columns) of the batch, whose u begins with column u_first. */
template <typename T>
static mixin_view<T> view_of(const mixin_args *a, const mixin_halo<T> *h, int64_t first,
                             int64_t columns, const T *u, int64_t ldu, int64_t u_first, bool biased)
{
    return mixin_view<T>{a->s,     a->d, a->order, first, columns, segments_of(columns),
                         u_first,  ldu,  biased,   u,     a->b,    a->taps,
                         a->tap_b, h->u};
}

template <typename T>
static status gate_launch(device *dev, const mixin_args *a, const mixin_view<T> *v, T *keep,
                          T *gates, T *g)
{
    return LAUNCH(mixin_gate<T>, (unsigned)(a->order * a->d * v->segments), BLOCK_THREADS, 0,
                  cuda_of(dev)->stream, *v, columns_of(a), keep ? keep + v->first : NULL,
                  gates + v->first, g + v->first);
}

template <typename T>
static status forward_chunk(device *dev, const mixin_args *a, const mixin_halo<T> *h,
                            const mixin_chunk<T> *k, int64_t c0, const float *residual, T *u,
                            T *gates, T *g)
{
    const int64_t n = columns_of(a), columns = c0 + k->wide < n ? k->wide : n - c0;
    if (!k->u) { /* columns that the taps look back on are there already */
        TRY(product<T>(dev, a, &k->W, residual + c0, n, columns, k->n, k->ld, u + c0, n, NULL,
                       NULL));
        const mixin_view<T> v = view_of<T>(a, h, c0, columns, u, n, 0, false);
        return gate_launch<T>(dev, a, &v, NULL, gates, g);
    }
    const int64_t from = c0 < MARGIN ? 0 : c0 - MARGIN;
    TRY(product<T>(dev, a, &k->W, residual + from, n, c0 + columns - from, k->n, k->ld, k->u, k->ld,
                   NULL, NULL));
    const mixin_view<T> v = view_of<T>(a, h, c0, columns, k->u, k->ld, from, false);
    return gate_launch(dev, a, &v, u, gates, g);
}

template <typename T>
static status forward(device *dev, const mixin_args *a, const float *residual, T *u, T *gates, T *g,
                      arena *ws)
{
    const size_t mark = arena_mark(ws);
    status st = STATUS_OK;
    mixin_halo<T> h;
    mixin_chunk<T> k;
    if (!halo_take(a, false, &h, ws)) {
        st = cuda_workspace_short("mixin", ws);
        goto done;
    }
    TRY_GOTO(done, chunk_take(dev, a, false, u != NULL, &k, ws));
    TRY_GOTO(done, halo_forward(dev, a, &k.W, &h));
    for (int64_t c0 = 0; c0 < columns_of(a); c0 += k.wide)
        TRY_GOTO(done, forward_chunk(dev, a, &h, &k, c0, residual, u, gates, g));
done:
    arena_release(ws, mark);
    return st;
}

extern "C" status mixin_forward_cuda(device *dev, const mixin_args *a, const float *residual,
                                     void *u, void *gates, void *g, arena *ws)
{
    if (a->mixed)
        return forward(dev, a, residual, (bf16 *)u, (bf16 *)gates, (bf16 *)g, ws);
    return forward(dev, a, residual, (float *)u, (float *)gates, (float *)g, ws);
}

template <typename T>
static status regate(device *dev, const mixin_args *a, const T *u, T *gates, T *g, arena *ws)
{
    const size_t mark = arena_mark(ws);
    const int64_t n = columns_of(a), rows = rows_of(a);
    status st = STATUS_OK;
    mixin_halo<T> h;
    mixin_view<T> v;
    operand<T> W = {};
    T *weights = NULL;
    if (!halo_take(a, false, &h, ws) || (a->halo && !room_take(ws, rows * a->d, &weights))) {
        st = cuda_workspace_short("mixin", ws);
        goto done;
    }
    if (a->halo)
        TRY_GOTO(done, operand_of(dev, rows, a->d, a->W, a->d, weights, &W));
    TRY_GOTO(done, halo_forward(dev, a, &W, &h));
    v = view_of<T>(a, &h, 0, n, u, n, 0, biased<T>());
    st = gate_launch<T>(dev, a, &v, NULL, gates, g);
done:
    arena_release(ws, mark);
    return st;
}

extern "C" status mixin_regate_cuda(device *dev, const mixin_args *a, const void *u, void *gates,
                                    void *g, arena *ws)
{
    if (a->mixed)
        return regate(dev, a, (const bf16 *)u, (bf16 *)gates, (bf16 *)g, ws);
    return regate(dev, a, (const float *)u, (float *)gates, (float *)g, ws);
}

/* du of a chunk, and the gradients of taps and biases. */
template <typename T>
static status ungate(device *dev, const mixin_args *a, const mixin_view<T> *v,
                     const mixin_chunk<T> *k, const T *dgates, const T *dg, float *dleft,
                     const mixin_grads *grads)
{
    const cudaStream_t stream = cuda_of(dev)->stream;
    const int64_t n = columns_of(a), rows = rows_of(a), parts = v->segments;
    const int64_t gate_rows = (a->order - 1) * a->d;
    const size_t shared = SUMS * BLOCK_THREADS / WARP * sizeof(double);
    if (gate_rows)
        TRY(LAUNCH(mixin_ungate_gates<T>, (unsigned)(gate_rows * parts), BLOCK_THREADS, shared,
                   stream, *v, n, dgates + v->first, k->du, k->wide, dleft, k->part));
    TRY(LAUNCH(mixin_ungate_g<T>, (unsigned)(a->d * parts), BLOCK_THREADS, 2 * shared, stream, *v,
               n, dg + v->first, k->du, k->wide, dleft, k->part));
    TRY(parts_add_cuda(dev, 3 * rows, parts, k->part, grads->taps));
    TRY(parts_add_cuda(dev, rows, parts, k->part + 3 * rows * parts, grads->tap_b));
    return parts_add_cuda(dev, rows, parts, k->part + 4 * rows * parts, grads->b);
}

/* From du (rows, columns) through in_proj and LayerNorm; n becomes its own gradient. */
template <typename T>
static status product_backward(device *dev, const mixin_args *a, const operand<T> *W,
                               int64_t columns, const operand<T> *du, T *n, int64_t ld,
                               const float *x, int64_t ldx, const float *mean, const float *rstd,
                               float *dx, bool add, const mixin_grads *grads, arena *ws)
{
    const int64_t d = a->d, rows = rows_of(a);
    TRY(gemm(dev, false, true, rows, d, columns, du->at, du->ld, n, ld, 1.0f, grads->W, d));
    TRY(gemm(dev, true, false, d, columns, rows, W->at, W->ld, du->at, du->ld, 0.0f, n, ld));
    return ln_backward(dev, d, columns, n, ld, x, ldx, mean, rstd, a->ln_w, dx, ldx, add,
                       grads->ln_w, grads->ln_b, ws);
}

template <typename T>
static status backward_chunk(device *dev, const mixin_args *a, const mixin_halo<T> *h,
                             const mixin_chunk<T> *k, int64_t c0, const float *residual, const T *u,
                             const T *dgates, const T *dg, float *dresidual,
                             const mixin_grads *grads, arena *ws)
{
    const int64_t n = columns_of(a), columns = c0 + k->wide < n ? k->wide : n - c0;
    const int64_t margin = u ? 0 : MARGIN, end = c0 + columns;
    const int64_t from = c0 < margin ? 0 : c0 - margin, to = end + margin < n ? end + margin : n;
    TRY(product<T>(dev, a, &k->W, residual + from, n, to - from, k->n, k->ld, k->u, k->ld, k->mean,
                   k->rstd));
    const mixin_view<T> v = u ? view_of<T>(a, h, c0, columns, u, n, 0, biased<T>())
                              : view_of<T>(a, h, c0, columns, k->u, k->ld, from, false);
    TRY(ungate(dev, a, &v, k, dgates, dg, h->du, grads));
    const operand<T> du = {k->du, k->wide};
    return product_backward(dev, a, &k->W, columns, &du, k->n + (c0 - from), k->ld, residual + c0,
                            n, k->mean + (c0 - from), k->rstd + (c0 - from), dresidual + c0, true,
                            grads, ws);
}

/* The halo's own columns: their part of the parameter gradients, and dhalo. */
template <typename T>
static status halo_backward(device *dev, const mixin_args *a, const operand<T> *W,
                            const mixin_halo<T> *h, float *dhalo, const mixin_grads *grads,
                            arena *ws)
{
    const int64_t columns = REACH * a->s.B;
    operand<T> du;
    TRY(rows_sum_cuda(dev, rows_of(a), columns, h->du, columns, grads->b, ws));
    TRY(operand_of(dev, rows_of(a), columns, h->du, columns, h->copies, &du));
    return product_backward(dev, a, W, columns, &du, h->n, columns, a->halo, columns, h->mean,
                            h->rstd, dhalo, false, grads, ws);
}

template <typename T>
static status backward(device *dev, const mixin_args *a, const float *residual, const T *u,
                       const T *dgates, const T *dg, float *dresidual, float *dhalo,
                       const mixin_grads *grads, arena *ws)
{
    const size_t mark = arena_mark(ws);
    status st = STATUS_OK;
    mixin_halo<T> h;
    mixin_chunk<T> k;
    if (!halo_take(a, true, &h, ws)) {
        st = cuda_workspace_short("mixin", ws);
        goto done;
    }
    TRY_GOTO(done, chunk_take(dev, a, true, u != NULL, &k, ws));
    TRY_GOTO(done, halo_forward(dev, a, &k.W, &h));
    for (int64_t c0 = 0; c0 < columns_of(a); c0 += k.wide)
        TRY_GOTO(done,
                 backward_chunk(dev, a, &h, &k, c0, residual, u, dgates, dg, dresidual, grads, ws));
    if (a->halo)
        TRY_GOTO(done, halo_backward(dev, a, &k.W, &h, dhalo, grads, ws));
done:
    arena_release(ws, mark);
    return st;
}

extern "C" status mixin_backward_cuda(device *dev, const mixin_args *a, const float *residual,
                                      const void *u, const void *dgates, const void *dg,
                                      float *dresidual, float *dhalo, const mixin_grads *grads,
                                      arena *ws)
{
    if (a->mixed)
        return backward(dev, a, residual, (const bf16 *)u, (const bf16 *)dgates, (const bf16 *)dg,
                        dresidual, dhalo, grads, ws);
    return backward(dev, a, residual, (const float *)u, (const float *)dgates, (const float *)dg,
                    dresidual, dhalo, grads, ws);
}
