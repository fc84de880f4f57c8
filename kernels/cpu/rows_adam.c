/* rows_adam and rows_catch_up: Adam on the rows of a table that a step touched. A row that sat out
 * n steps had zero gradients there; those updates are replayed from its moments, and the result is
 * dense Adam's to rounding.
 *
 * At the j-th step sat out, step s (t = s + 1), with m, v the row's moments before the pause:
 *     u_j = lr_s (b1^j m / (1 - b1^t)) / (sqrt(b2^j v / (1 - b2^t)) + eps)         p -= u_j
 * so that one square root an element serves all steps, and m, v become b1^n m, b2^n v.
 *
 * Most pauses take one formula for all their steps. With u_j = rate_j m / (root_j s + eps), s =
 * sqrt(v), let x_j = root_j / rho with rho the mean of root under the weights rate, and
 * w = rho s / (rho s + eps), which is in [0, 1]. Then
 *     sum_j u_j = m / (rho s + eps) sum_j rate_j / (1 + (x_j - 1) w)
 *               = m / (rho s + eps) (sum_(k < TERMS) (-w)^k D_k + rest),   D_k = sum_j rate_j (x_j
 * - 1)^k. TERMS is even, so that the rest is largest at w = 1: sum_j rate_j (x_j - 1)^TERMS / x_j.
 * Where that is below REST_MOST of D_0 the pause has a formula; D and the rest are differences of
 * the moments M_i = sum_j rate_j root_j^i, i = -1 .. TERMS - 1, and a pause one step longer, whose
 * first step is s, has M_i(n) = b1 sqrt(b2)^i (M_i(n-1) + rate_s root_s^i) with rate_s and root_s
 * before their fading. Other pauses are replayed step by step.
 *
 * That replay ends early. Let a_j = |u_j| / lr_s and S(b) = 1 + b + .. + b^t. Then
 *     b (1 - b^t) / (1 - b^(t+1)) = 1 - 1 / S(b) =: f(b),   increasing in b,   f(b) <= b,
 * and, since (x + eps) / (q x + eps) <= 1 / q for q <= 1,
 *     a_(j+1) / a_j <= f(b1) / sqrt(f(b2)) <= sqrt(f(b1)) <= sqrt(b1) =: r      where b1 <= b2.
 * Hence all updates after the j-th sum to at most max(lr) a_j r / (1 - r). Where that is at most
 * 2^-26 |p| for every element of the row, none of them would change p in fp32 (half the distance to
 * a neighbour is at least 2^-25 |p|), and all together are below a quarter of that distance: p is
 * dense Adam's. With b1 = 0.9 this takes about 200 steps at most; only an element that is zero, or
 * b1 > b2, goes on until b1^j vanishes or the pause ends. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#define LANES 16 /* elements of a row at a time: one or two vectors */
#define STEPS 16 /* steps between two looks at the bound */

#define PAUSES 512     /* longest pause with a formula */
#define TERMS 8        /* of the series */
#define REST_MOST 5e-8 /* what it may leave */
#define ELEMENTS 128   /* elements of a row at a time in a formula */
#define SHORT 64       /* longest pause whose steps stand in a table */
#define SHARE 32       /* rows a share of a thread */

/* What the pauses of one length share. */
typedef struct {
    bool formula;
    float term[TERMS]; /* (-1)^k D_k; 1 is left out: rho makes it zero */
    float rho;
    float fade1, fade2; /* b1^n, b2^n */
} pause_terms;

/* What all rows of a call share. */
typedef struct {
    const rows_adam_args *a;
    double b1_to[STEPS + 1], b2_to[STEPS + 1]; /* powers 0 .. STEPS */
    double lr_most, tail; /* tail: r / (1 - r); infinite where the bound does not hold */
} replay_terms;

static replay_terms replay_prepare(const rows_adam_args *a)
{
    replay_terms r = {.a = a, .b1_to = {1}, .b2_to = {1}};
    for (int i = 1; i <= STEPS; i++) {
        r.b1_to[i] = pow(a->b1, i);
        r.b2_to[i] = pow(a->b2, i);
    }
    for (int64_t s = 0; s <= a->step; s++)
        r.lr_most = (double)a->lr_of_step[s] > r.lr_most ? (double)a->lr_of_step[s] : r.lr_most;
    const double ratio = sqrt(a->b1);
    r.tail = a->b1 <= a->b2 && ratio < 1 ? ratio / (1 - ratio) : INFINITY;
    return r;
}

/* Factors of steps [s, s + n), the first of them the j-th of a pause:
 * u = rate m / (root sqrt(v) + eps).  q: b^j, e: b^(s+1). */
KERNEL_CLONES
static void replay_factors(const replay_terms *r, const float *lr, int64_t n, double q1, double e1,
                           double q2, double e2, float *restrict rate, float *restrict root)
{
    for (int64_t i = 0; i < n; i++) {
        rate[i] = (float)((double)lr[i] * q1 * r->b1_to[i] / (1 - e1 * r->b1_to[i]));
        root[i] = (float)sqrt(q2 * r->b2_to[i] / (1 - e2 * r->b2_to[i]));
    }
}

/* p -= the updates of n steps: summed in fp32 over these few, in fp64 over all. */
KERNEL_CLONES
static void replay_steps(int64_t n, const float *rate, const float *root, float eps,
                         const float *restrict m, const float *restrict sqrt_v, double *restrict p)
{
    float drop[LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        for (int e = 0; e < LANES; e++)
            drop[e] += rate[i] * m[e] / (root[i] * sqrt_v[e] + eps);
    for (int e = 0; e < LANES; e++)
        p[e] -= (double)drop[e];
}

/* Is everything after a step below rounding? `most`: rate without its lr, times the largest lr and
 * the tail. */
static bool replay_over(double most, float root, float eps, const float *m, const float *sqrt_v,
                        const double *p)
{
    for (int e = 0; e < LANES; e++) {
        const double left = most * fabs((double)m[e]) / (double)(root * sqrt_v[e] + eps);
        if (m[e] != 0 && !(left <= 0x1p-26 * fabs(p[e])))
            return false;
    }
    return true;
}

/* Steps [first, end) without gradient for LANES elements; m, v are those of step first - 1. */
static void replay_lanes(const replay_terms *r, int64_t first, int64_t end, const float *m,
                         const float *v, float *p)
{
    const rows_adam_args *a = r->a;
    float sqrt_v[LANES], rate[STEPS], root[STEPS];
    double exact[LANES];
    const float eps = (float)a->eps;
    bool moved = false;
    for (int e = 0; e < LANES; e++) {
        sqrt_v[e] = sqrtf(v[e]);
        exact[e] = (double)p[e];
        moved |= m[e] != 0;
    }
    if (!moved)
        return;
    double q1 = a->b1, q2 = a->b2;
    double e1 = pow(a->b1, (double)first + 1), e2 = pow(a->b2, (double)first + 1);
    for (int64_t s = first; s < end; s += STEPS) {
        const int64_t n = least(STEPS, end - s);
        replay_factors(r, a->lr_of_step + s, n, q1, e1, q2, e2, rate, root);
        replay_steps(n, rate, root, eps, m, sqrt_v, exact);
        const double last = q1 * r->b1_to[n - 1] / (1 - e1 * r->b1_to[n - 1]);
        if (q1 < 0x1p-149 ||
            replay_over(r->tail * r->lr_most * last, root[n - 1], eps, m, sqrt_v, exact))
            break;
        q1 *= r->b1_to[STEPS];
        e1 *= r->b1_to[STEPS];
        q2 *= r->b2_to[STEPS];
        e2 *= r->b2_to[STEPS];
    }
    for (int e = 0; e < LANES; e++)
        p[e] = (float)exact[e];
}

/* What the rows of a call share: formulas of its pauses, and what replays the others. */
typedef struct {
    replay_terms replay;
    int64_t end;     /* steps before this one are replayed */
    int64_t longest; /* pause with a formula */
    pause_terms of[PAUSES + 1];
    float rate[SHORT + 1][SHORT], root[SHORT + 1][SHORT]; /* of pauses: their steps in order */
} rows_call;

/* The formula from moments M_-1 .. M_(TERMS-1). */
static void pause_series(const double *moment, pause_terms *of)
{
    double x[TERMS + 1];
    const double rho = moment[2] / moment[1];
    double power = 1 / rho;
    for (int i = 0; i <= TERMS; i++, power *= rho)
        x[i] = moment[i] / power;
    const double whole = x[1];
    for (int k = 0; k < TERMS; k++) { /* k-th differences: D_k stands in x[1] */
        of->term[k] = (float)(k % 2 ? -x[1] : x[1]);
        for (int i = 0; i < TERMS - k; i++)
            x[i] = x[i + 1] - x[i];
    }
    of->rho = (float)rho;
    of->formula = fabs(x[0]) <= REST_MOST * whole; /* not for NaN */
}

/* Pauses of 0 .. longest steps that end before step `end`, one step further back each time. */
static void pauses_prepare(rows_call *call)
{
    const rows_adam_args *a = call->replay.a;
    const double fade = sqrt(a->b2);
    double moment[TERMS + 1] = {0}, fade1 = 1, fade2 = 1;
    double left1 = pow(a->b1, (double)call->end), left2 = pow(a->b2, (double)call->end);
    call->of[0] = (pause_terms){.formula = true, .rho = 1, .fade1 = 1, .fade2 = 1};
    for (int64_t n = 1; n <= call->longest; n++, left1 /= a->b1, left2 /= a->b2) {
        const double root = 1 / sqrt(1 - left2);
        const double rate = (double)a->lr_of_step[call->end - n] / (1 - left1);
        double own = rate / root, f = a->b1 / fade;
        for (int i = 0; i <= TERMS; i++) {
            moment[i] = f * (moment[i] + own);
            own *= root;
            f *= fade;
        }
        pause_series(moment, &call->of[n]);
        call->of[n].fade1 = (float)(fade1 *= a->b1);
        call->of[n].fade2 = (float)(fade2 *= a->b2);
        /* step end - n is the j-th of a pause of n - 1 + j steps */
        double q1 = a->b1 * rate, q2 = fade * root;
        for (int64_t j = 1; n - 1 + j <= least(call->longest, SHORT); j++) {
            call->rate[n - 1 + j][j - 1] = (float)q1;
            call->root[n - 1 + j][j - 1] = (float)q2;
            q1 *= a->b1;
            q2 *= fade;
        }
    }
}

/* out = p after a pause. */
VMATH void pause_formula(const pause_terms *of, float eps, int64_t n, const float *restrict p,
                         const float *restrict m, const float *restrict v, float *restrict out)
{
    const float c0 = of->term[0], c2 = of->term[2], c3 = of->term[3], c4 = of->term[4],
                c5 = of->term[5], c6 = of->term[6], c7 = of->term[7], rho = of->rho;
#pragma omp simd
    for (int64_t e = 0; e < n; e++) {
        const float root = rho * sqrtf(v[e]), inverse = 1.0f / (root + eps), w = root * inverse;
        float sum = fmaf(c7, w, c6);
        sum = fmaf(sum, w, c5);
        sum = fmaf(sum, w, c4);
        sum = fmaf(sum, w, c3);
        sum = fmaf(sum, w, c2);
        sum = fmaf(sum, w * w, c0);
        out[e] = p[e] - m[e] * inverse * sum;
    }
}

/* `width` elements in lanes; those beyond them stand still. */
static void lanes_load(int64_t width, const float *from, float *lanes)
{
    memcpy(lanes, from, (size_t)width * sizeof *lanes);
    memset(lanes + width, 0, (size_t)(LANES - width) * sizeof *lanes);
}

/* p of at most LANES elements after a pause, step by step. */
VMATH void replay_part(const rows_call *c, int64_t pause, int64_t width, const float *m,
                       const float *v, const float *p, float *out)
{
    float lm[LANES], lv[LANES], lp[LANES], drop[LANES] = {0};
    lanes_load(width, m, lm);
    lanes_load(width, v, lv);
    lanes_load(width, p, lp);
    if (pause > least(SHORT, c->longest)) {
        replay_lanes(&c->replay, c->end - pause, c->end, lm, lv, lp);
    } else {
        const float eps = (float)c->replay.a->eps;
        for (int e = 0; e < LANES; e++)
            lv[e] = sqrtf(lv[e]);
        for (int64_t j = 0; j < pause; j++) {
            const float rate = c->rate[pause][j], root = c->root[pause][j];
            for (int e = 0; e < LANES; e++)
                drop[e] += rate * lm[e] / fmaf(root, lv[e], eps);
        }
        for (int e = 0; e < LANES; e++)
            lp[e] -= drop[e];
    }
    memcpy(out, lp, (size_t)width * sizeof *out);
}

/* The step itself, after a pause that left p in `rested`. */
VMATH void step_elements(const rows_adam_args *a, const pause_terms *of, float rate, float root,
                         int64_t n, const float *restrict grad, const float *restrict rested,
                         float *restrict p, float *restrict m, float *restrict v)
{
    const float scale = (float)a->scale, eps = (float)a->eps;
    const float keep1 = (float)a->b1 * of->fade1, keep2 = (float)a->b2 * of->fade2;
    const float take1 = (float)(1 - a->b1), take2 = (float)(1 - a->b2);
#pragma omp simd
    for (int64_t e = 0; e < n; e++) {
        const float g = scale * grad[e];
        const float me = fmaf(keep1, m[e], take1 * g), ve = fmaf(keep2, v[e], take2 * g * g);
        m[e] = me;
        v[e] = ve;
        p[e] = rested[e] - rate * me / fmaf(sqrtf(ve), root, eps);
    }
}

static void call_prepare(rows_call *c, const rows_adam_args *a, int64_t end, int64_t count,
                         const int32_t *unique, const int64_t *last)
{
    int64_t first = end;
    for (int64_t i = 0; i < count; i++)
        first = least(first, last[unique ? unique[i] : i] + 1);
    c->replay = replay_prepare(a);
    c->end = end;
    c->longest = a->b1 > 0 && a->b2 > 0 && a->eps > 0 ? least(end - first, PAUSES) : 0;
    pauses_prepare(c);
}

/* p of elements after a pause of `pause` steps. */
VMATH void rest_elements(const rows_call *c, int64_t pause, int64_t n, const float *p,
                         const float *m, const float *v, float *out)
{
    if (pause <= c->longest && c->of[pause].formula) {
        pause_formula(&c->of[pause], (float)c->replay.a->eps, n, p, m, v, out);
        return;
    }
    for (int64_t e = 0; e < n; e += LANES)
        replay_part(c, pause, least(LANES, n - e), m + e, v + e, p + e, out + e);
}

KERNEL_CLONES
static void adam_share(const rows_call *c, int64_t i0, int64_t i1, int64_t k, const int32_t *unique,
                       const float *sum, float *p, float *m, float *v, int64_t *last)
{
    const rows_adam_args *a = c->replay.a;
    const double t = (double)a->step + 1;
    const float rate = (float)((double)a->lr_of_step[a->step] / (1 - pow(a->b1, t)));
    const float root = (float)(1 / sqrt(1 - pow(a->b2, t)));
    float rested[ELEMENTS] __attribute__((aligned(64)));
    for (int64_t i = i0; i < i1; i++) {
        const int64_t row = unique[i], pause = a->step - 1 - last[row];
        pause_terms fade = c->of[least(pause, c->longest)];
        if (pause > c->longest) {
            fade.fade1 = (float)pow(a->b1, (double)pause);
            fade.fade2 = (float)pow(a->b2, (double)pause);
        }
        for (int64_t e = 0; e < k; e += ELEMENTS) {
            const int64_t n = least(ELEMENTS, k - e), at = row * k + e;
            rest_elements(c, pause, n, p + at, m + at, v + at, rested);
            step_elements(a, &fade, rate, root, n, sum + i * k + e, rested, p + at, m + at, v + at);
        }
        last[row] = a->step;
    }
}

status rows_adam_cpu(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                     const int32_t *unique, const float *sum, float *p, float *m, float *v,
                     int64_t *last)
{
    for (int64_t i = 0; i < count; i++)
        if (last[unique[i]] >= a->step)
            return fail(STATUS_INTERNAL,
                        "rows: row %lld was updated at step %lld already; resume from a checkpoint",
                        (long long)unique[i], (long long)last[unique[i]]);
    rows_call c;
    call_prepare(&c, a, a->step, count, unique, last);
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < count; i += SHARE)
        adam_share(&c, i, least(i + SHARE, count), k, unique, sum, p, m, v, last);
    return STATUS_OK;
}

KERNEL_CLONES
static void catch_up_share(const rows_call *c, int64_t i0, int64_t i1, int64_t k,
                           const int32_t *unique, const float *p, const float *m, const float *v,
                           const int64_t *last, float *out)
{
    for (int64_t i = i0; i < i1; i++) {
        const int64_t row = unique ? unique[i] : i, sat = c->end - 1 - last[row];
        const int64_t pause = sat > 0 ? sat : 0;
        for (int64_t e = 0; e < k; e += ELEMENTS) {
            const int64_t n = least(ELEMENTS, k - e), at = row * k + e;
            rest_elements(c, pause, n, p + at, m + at, v + at, out + i * k + e);
        }
    }
}

status rows_catch_up_cpu(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                         const int32_t *unique, const float *p, const float *m, const float *v,
                         const int64_t *last, float *out)
{
    rows_call c;
    call_prepare(&c, a, a->step + 1, count, unique, last);
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < count; i += SHARE)
        catch_up_share(&c, i, least(i + SHARE, count), k, unique, p, m, v, last, out);
    return STATUS_OK;
}
