/* rows_adam and rows_catch_up on the GPU: the closed loop of kernels/cpu/rows_adam.c, where the
 * formulas are derived. One kernel makes the formulas of all short pauses (the learning rates are
 * on the device, too), another takes rows, half a warp each. Half a warp replays what has no
 * formula: each lane makes the factors of one step for all of them. */
#include "kernels/cuda/launch.cuh"

#include <math.h>

#define LANES 16       /* of a row: elements at a time, steps of a replay at a time */
#define PAUSES 512     /* longest pause with a formula */
#define TERMS 8        /* of the series */
#define REST_MOST 5e-8 /* what it may leave */
#define RATE_BLOCKS 64 /* for the largest learning rate */

/* What the pauses of one length share. */
typedef struct {
    int formula;
    float term[TERMS]; /* (-1)^k D_k */
    float rho;
    float fade1, fade2; /* b1^n, b2^n */
} pause_terms;

/* What the rows of a call share, in the device's scratch. */
typedef struct {
    int refused; /* the largest row that had this step already; -1: none */
    int lr_most; /* the bits of the largest learning rate: they are in order where it is not < 0 */
    float rate;  /* of the step itself */
    double b1_to[LANES + 1], b2_to[LANES + 1]; /* powers */
    pause_terms of[PAUSES + 1];
} rows_call;

/* The same, as far as the host knows it. */
typedef struct {
    double b1, b2, tail;
    double left1; /* 1 - b1^(step + 1) */
    float scale, eps, root;
    int64_t step, end, longest; /* steps before `end` are replayed; longest pause with a formula */
    const float *lr_of_step;
    rows_call *call;
} rows_terms;

static rows_terms terms_of(const cuda_state *c, const rows_adam_args *a, int64_t end)
{
    const double t = (double)a->step + 1, ratio = sqrt(a->b1);
    rows_terms r = {};
    r.b1 = a->b1;
    r.b2 = a->b2;
    r.tail = a->b1 <= a->b2 && ratio < 1 ? ratio / (1 - ratio) : (double)INFINITY;
    r.left1 = 1 - pow(a->b1, t);
    r.root = (float)(1 / sqrt(1 - pow(a->b2, t)));
    r.scale = (float)a->scale;
    r.eps = (float)a->eps;
    r.step = a->step;
    r.end = end;
    if (a->b1 > 0 && a->b2 > 0 && a->eps > 0)
        r.longest = end < PAUSES ? end : PAUSES;
    r.lr_of_step = a->lr_of_step;
    r.call = (rows_call *)c->scratch;
    return r;
}

/* ---- the formulas ---- */

/* From moments M_-1 .. M_(TERMS-1). */
static __device__ void pause_series(const double *moment, pause_terms *of)
{
    double x[TERMS + 1];
    const double rho = moment[2] / moment[1];
    double power = 1 / rho;
#pragma unroll
    for (int i = 0; i <= TERMS; i++, power *= rho)
        x[i] = moment[i] / power;
    const double whole = x[1];
#pragma unroll
    for (int k = 0; k < TERMS; k++) { /* k-th differences: D_k stands in x[1] */
        of->term[k] = (float)(k % 2 ? -x[1] : x[1]);
#pragma unroll
        for (int i = 0; i < TERMS - k; i++)
            x[i] = x[i + 1] - x[i];
    }
    of->rho = (float)rho;
    of->formula = fabs(x[0]) <= REST_MOST * whole; /* not for NaN */
}

/* What the first step of a pause of n steps adds to its moments, which are then sums over n; a
 * thread for each moment. moment (longest, TERMS + 1) is shared. */
static __device__ void moments_make(const rows_terms *t, double *moment)
{
    const double fade = sqrt(t->b2);
    for (int64_t n = 1 + threadIdx.x; n <= t->longest; n += blockDim.x) {
        const double left = (double)(t->end - n + 1);
        const double root = 1 / sqrt(1 - pow(t->b2, left));
        const double rate = (double)t->lr_of_step[t->end - n] / (1 - pow(t->b1, left));
        double own = rate / root * t->b1 / fade;
        for (int i = 0; i <= TERMS; i++, own *= root * fade)
            moment[(n - 1) * (TERMS + 1) + i] = own;
    }
    __syncthreads();
    if (threadIdx.x <= TERMS) {
        double f = t->b1 / fade, sum = 0;
        for (unsigned i = 0; i < threadIdx.x; i++)
            f *= fade;
        double *own = moment + threadIdx.x;
#pragma unroll 8
        for (int64_t n = 0; n < t->longest; n++) {
            sum = fma(f, sum, own[n * (TERMS + 1)]);
            own[n * (TERMS + 1)] = sum;
        }
    }
    __syncthreads();
}

/* Block 0: the formulas. The others: the largest learning rate. */
KERNEL(rows_prepare)(rows_terms t)
{
    SHARED(double, moment);
    rows_call *call = t.call;
    if (blockIdx.x > 0) {
        int most = 0;
        for (int64_t s = (blockIdx.x - 1) * (int64_t)blockDim.x + threadIdx.x; s <= t.step;
             s += (gridDim.x - 1) * (int64_t)blockDim.x)
            most = max(most, __float_as_int(t.lr_of_step[s]));
        for (int step = WARP / 2; step > 0; step /= 2)
            most = max(most, __shfl_down_sync(FULL_WARP, most, step));
        if (threadIdx.x % WARP == 0)
            atomicMax(&call->lr_most, most);
        return;
    }
    moments_make(&t, moment);
    for (int64_t n = 1 + threadIdx.x; n <= t.longest; n += blockDim.x) {
        pause_series(moment + (n - 1) * (TERMS + 1), &call->of[n]);
        call->of[n].fade1 = (float)pow(t.b1, (double)n);
        call->of[n].fade2 = (float)pow(t.b2, (double)n);
    }
    if (threadIdx.x <= LANES) {
        call->b1_to[threadIdx.x] = pow(t.b1, (double)threadIdx.x);
        call->b2_to[threadIdx.x] = pow(t.b2, (double)threadIdx.x);
    }
    if (threadIdx.x == 0 && t.step >= 0)
        call->rate = (float)((double)t.lr_of_step[t.step] / t.left1);
}

static status call_prepare(cuda_state *c, const rows_terms *t)
{
    int64_t blocks = (t->step + BLOCK_THREADS) / BLOCK_THREADS;
    if (blocks > RATE_BLOCKS)
        blocks = RATE_BLOCKS;
    rows_call *call = t->call;
    const size_t shared = (size_t)(t->longest * (TERMS + 1)) * sizeof(double);
    TRY_CUDA(cudaMemsetAsync(&call->refused, 0xFF, sizeof call->refused, c->stream)); /* -1 */
    TRY_CUDA(cudaMemsetAsync(&call->lr_most, 0, sizeof call->lr_most, c->stream));
    return LAUNCH(rows_prepare, (unsigned)(1 + blocks), BLOCK_THREADS, shared, c->stream, *t);
}

/* ---- rows ---- */

/* The lanes of this thread's row. */
static __device__ inline unsigned row_lanes(void)
{
    return 0xFFFFu << (threadIdx.x % WARP / LANES * LANES);
}

static __device__ inline float pause_formula(const pause_terms *of, float eps, float p, float m,
                                             float v)
{
    const float root = of->rho * sqrtf(v), inverse = 1.0f / (root + eps), w = root * inverse;
    float sum = fmaf(of->term[7], w, of->term[6]);
    sum = fmaf(sum, w, of->term[5]);
    sum = fmaf(sum, w, of->term[4]);
    sum = fmaf(sum, w, of->term[3]);
    sum = fmaf(sum, w, of->term[2]);
    sum = fmaf(sum, w * w, of->term[0]);
    return p - m * inverse * sum;
}

/* Steps [first, end) without gradient, sixteen at a time: summed in fp32 over these few, in fp64
 * over all. Ends early where nothing that is left can change any element of the row's lanes. */
static __device__ float replay(const rows_terms *t, int64_t first, float p, float m, float v)
{
    const rows_call *call = t->call;
    const unsigned lanes = row_lanes();
    const int lane = (int)threadIdx.x % LANES;
    if (!__any_sync(lanes, m != 0))
        return p;
    const float sqrt_v = sqrtf(v);
    const double own1 = call->b1_to[lane], own2 = call->b2_to[lane];
    const double all1 = call->b1_to[LANES], all2 = call->b2_to[LANES];
    const double tail = t->tail * (double)__int_as_float(call->lr_most) * fabs((double)m);
    double exact = (double)p, q1 = t->b1, q2 = t->b2; /* q: b^j, e: b^(s+1) */
    double e1 = pow(t->b1, (double)first + 1), e2 = pow(t->b2, (double)first + 1);
    for (int64_t s = first; s < t->end; s += LANES) {
        const int n = (int)min((int64_t)LANES, t->end - s);
        const double whole = q1 * own1 / (1 - e1 * own1);
        const float lr = lane < n ? t->lr_of_step[s + lane] : 0.0f;
        const float own_rate = (float)((double)lr * whole);
        const float own_root = (float)sqrt(q2 * own2 / (1 - e2 * own2));
        float drop = 0, root = 0;
        for (int i = 0; i < n; i++) {
            root = __shfl_sync(lanes, own_root, i, LANES);
            drop += __shfl_sync(lanes, own_rate, i, LANES) * m / fmaf(root, sqrt_v, t->eps);
        }
        exact -= (double)drop;
        const double left = tail * __shfl_sync(lanes, whole, n - 1, LANES);
        const bool over =
            m == 0 || left <= 0x1p-26 * fabs(exact) * (double)fmaf(root, sqrt_v, t->eps);
        if (__all_sync(lanes, over) || q1 < 0x1p-149)
            break;
        q1 *= all1;
        e1 *= all1;
        q2 *= all2;
        e2 *= all2;
    }
    return (float)exact;
}

/* p of an element after a pause; all lanes of the row come here. */
static __device__ inline float rest(const rows_terms *t, int64_t pause, float p, float m, float v)
{
    if (pause <= 0)
        return p;
    if (pause <= t->longest && t->call->of[pause].formula)
        return pause_formula(&t->call->of[pause], t->eps, p, m, v);
    return replay(t, t->end - pause, p, m, v);
}

KERNEL(rows_step)
(rows_terms t, int64_t count, int64_t k, const int32_t *__restrict__ unique,
 const float *__restrict__ sum, float *p, float *m, float *v, int64_t *last)
{
    const int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    const int lane = (int)threadIdx.x % LANES;
    if (i >= count)
        return;
    const int64_t row = unique[i], pause = t.step - 1 - last[row];
    if (pause < 0) {
        if (lane == 0)
            atomicMax(&t.call->refused, (int)row);
        return;
    }
    float fade1 = 1, fade2 = 1;
    if (pause > 0) {
        const bool known = pause <= t.longest;
        fade1 = known ? t.call->of[pause].fade1 : (float)pow(t.b1, (double)pause);
        fade2 = known ? t.call->of[pause].fade2 : (float)pow(t.b2, (double)pause);
    }
    const float keep1 = (float)t.b1 * fade1, keep2 = (float)t.b2 * fade2;
    const float take1 = (float)(1 - t.b1), take2 = (float)(1 - t.b2), rate = t.call->rate;
    for (int64_t e = lane; e - lane < k; e += LANES) {
        const int64_t at = row * k + e;
        const bool live = e < k;
        const float me = live ? m[at] : 0.0f, ve = live ? v[at] : 0.0f;
        const float rested = rest(&t, pause, live ? p[at] : 0.0f, me, ve);
        if (!live)
            continue;
        const float g = t.scale * sum[i * k + e];
        const float m1 = fmaf(keep1, me, take1 * g), v1 = fmaf(keep2, ve, take2 * g * g);
        m[at] = m1;
        v[at] = v1;
        p[at] = rested - rate * m1 / fmaf(sqrtf(v1), t.root, t.eps);
    }
    __syncwarp(row_lanes()); /* all have read it */
    if (lane == 0)
        last[row] = t.step;
}

KERNEL(rows_rest)
(rows_terms t, int64_t count, int64_t k, const int32_t *__restrict__ unique,
 const float *__restrict__ p, const float *__restrict__ m, const float *__restrict__ v,
 const int64_t *__restrict__ last, float *__restrict__ out)
{
    const int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    const int lane = (int)threadIdx.x % LANES;
    if (i >= count)
        return;
    const int64_t row = unique ? unique[i] : i, pause = t.end - 1 - last[row];
    for (int64_t e = lane; e - lane < k; e += LANES) {
        const int64_t at = row * k + e;
        const bool live = e < k;
        const float rested =
            rest(&t, pause, live ? p[at] : 0.0f, live ? m[at] : 0.0f, live ? v[at] : 0.0f);
        if (live)
            out[i * k + e] = rested;
    }
}

extern "C" status rows_adam_cuda(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                                 const int32_t *unique, const float *sum, float *p, float *m,
                                 float *v, int64_t *last)
{
    if (count == 0)
        return STATUS_OK;
    cuda_state *c = cuda_of(dev);
    const rows_terms t = terms_of(c, a, a->step);
    TRY(call_prepare(c, &t));
    TRY(LAUNCH(rows_step, blocks_of(count * LANES, BLOCK_THREADS), BLOCK_THREADS, 0, c->stream, t,
               count, k, unique, sum, p, m, v, last));
    return cuda_note_take(c, &c->refused_row, &t.call->refused, sizeof c->refused_row);
}

extern "C" status rows_catch_up_cuda(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                                     const int32_t *unique, const float *p, const float *m,
                                     const float *v, const int64_t *last, float *out)
{
    if (count == 0)
        return STATUS_OK;
    cuda_state *c = cuda_of(dev);
    const rows_terms t = terms_of(c, a, a->step + 1);
    TRY(call_prepare(c, &t));
    return LAUNCH(rows_rest, blocks_of(count * LANES, BLOCK_THREADS), BLOCK_THREADS, 0, c->stream,
                  t, count, k, unique, p, m, v, last, out);
}
