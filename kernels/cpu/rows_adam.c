/* rows_adam and rows_catch_up: Adam on the rows of a table that a step touched. A row that sat out
 * n steps had zero gradients there; those updates are replayed from its moments, and the result is
 * dense Adam's to rounding.
 *
 * At the j-th step sat out, step s (t = s + 1), with m, v the row's moments before the pause:
 *     u_j = lr_s (b1^j m / (1 - b1^t)) / (sqrt(b2^j v / (1 - b2^t)) + eps)         p -= u_j
 * so that one square root an element serves all steps, and m, v become b1^n m, b2^n v.
 *
 * The replay ends early. Let a_j = |u_j| / lr_s and S(b) = 1 + b + .. + b^t. Then
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

/* Elements [e0, e0 + width) of a row in lanes; those beyond it stand still. */
static void lanes_load(int64_t width, const float *from, float *lanes)
{
    memcpy(lanes, from, (size_t)width * sizeof *lanes);
    memset(lanes + width, 0, (size_t)(LANES - width) * sizeof *lanes);
}

/* p of a row after steps [first, end) without gradient, into out (may be p). */
static void replay_row(const replay_terms *r, int64_t k, int64_t first, int64_t end, const float *m,
                       const float *v, const float *p, float *out)
{
    for (int64_t e0 = 0; e0 < k; e0 += LANES) {
        const int64_t width = least(LANES, k - e0);
        float lm[LANES], lv[LANES], lp[LANES];
        lanes_load(width, m + e0, lm);
        lanes_load(width, v + e0, lv);
        lanes_load(width, p + e0, lp);
        if (first < end)
            replay_lanes(r, first, end, lm, lv, lp);
        memcpy(out + e0, lp, (size_t)width * sizeof *out);
    }
}

/* The step itself. fade: b^(steps sat out). */
static void step_row(const rows_adam_args *a, int64_t k, double fade1, double fade2,
                     const float *grad, float *p, float *m, float *v)
{
    const double t = (double)a->step + 1;
    const double rate = (double)a->lr_of_step[a->step] / (1 - pow(a->b1, t));
    const double root = 1 / sqrt(1 - pow(a->b2, t));
    for (int64_t e = 0; e < k; e++) {
        const double g = a->scale * (double)grad[e];
        const double me = a->b1 * fade1 * (double)m[e] + (1 - a->b1) * g;
        const double ve = a->b2 * fade2 * (double)v[e] + (1 - a->b2) * g * g;
        m[e] = (float)me;
        v[e] = (float)ve;
        p[e] = (float)((double)p[e] - rate * me / (sqrt(ve) * root + a->eps));
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
    const replay_terms r = replay_prepare(a);
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic, 64)
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = unique[i], at = row * k;
        const int64_t pause = a->step - 1 - last[row];
        replay_row(&r, k, last[row] + 1, a->step, m + at, v + at, p + at, p + at);
        step_row(a, k, pow(a->b1, (double)pause), pow(a->b2, (double)pause), sum + i * k, p + at,
                 m + at, v + at);
        last[row] = a->step;
    }
    return STATUS_OK;
}

status rows_catch_up_cpu(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                         const int32_t *unique, const float *p, const float *m, const float *v,
                         const int64_t *last, float *out)
{
    const replay_terms r = replay_prepare(a);
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic, 64)
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = unique ? unique[i] : i, at = row * k;
        replay_row(&r, k, last[row] + 1, a->step + 1, m + at, v + at, p + at, out + i * k);
    }
    return STATUS_OK;
}
