/* sites, entry by entry: the loops that meet one row of the table each. Everything of an entry is
 * contiguous (its row, its token's query, its run's product), and ranks of 32, the usual one, have
 * their own code: two AVX-512 or four AVX2 registers a row. */
#include "kernels/cpu/sites.h"
#include "kernels/cpu/vmath.h"

#define AHEAD 6 /* entries */
#define RANK 32 /* compiled with this constant, and once more for any other */

/* The row of an entry some places ahead: rows are anywhere in the table. */
VMATH void row_prefetch(const sites_args *a, int64_t i, int64_t end, int64_t width)
{
    const int32_t slot = a->slot[least(i + AHEAD, end - 1)];
    const char *row = (const char *)(a->rows + (slot < 0 ? 0 : slot) * width);
    for (int64_t byte = 0; byte < width * (int64_t)sizeof(float); byte += 64)
        __builtin_prefetch(row + byte);
}

VMATH void runs_of(const sites_args *a, sites_chunk *c, int64_t b, int64_t c0, const int64_t rank)
{
    const int64_t width = 2 * rank + a->classes;
    float *restrict sum = c->sum;
    int64_t runs = 0;
    sites_piece p = {.b = b, .i1 = c->first};
    while (sites_piece_next(a, c->first + c->n, &p)) {
        for (int64_t i = p.i0; i < p.i1; i++) {
            const int64_t j = i - c->first;
            const int32_t slot = a->slot[i], t = a->token[i];
            row_prefetch(a, i, c->first + c->n, width);
            const float *row = slot < 0 ? c->zeros : a->rows + slot * width;
            const float *restrict add = row + rank;
            const bool begins = t < 0 || i == a->start[p.b] || a->token[i - 1] != t;
            float *restrict to = begins ? c->waste : c->R + runs * rank;
            const float keep = begins ? 0.0f : 1.0f;
            c->row[j] = row;
            c->column[j] = t < 0 ? SITES_NOWHERE : (int32_t)(p.b * a->s.Lp + t - c0);
            c->run[j] = begins ? -1 : (int32_t)runs;
            runs += !begins;
#pragma omp simd
            for (int64_t r = 0; r < rank; r++) {
                const float before = keep * sum[r];
                to[r] = before;
                sum[r] = before + add[r];
            }
        }
    }
    c->runs = runs;
}

KERNEL_CLONES
void sites_runs(const sites_args *a, sites_chunk *c, int64_t b, int64_t c0)
{
    if (a->rank == RANK)
        runs_of(a, c, b, c0, RANK);
    else
        runs_of(a, c, b, c0, a->rank);
}

VMATH void logits_of(const sites_args *a, const sites_chunk *c, const float *q, const int64_t rank)
{
    const int64_t classes = a->classes, CR = classes * rank;
    for (int64_t j = 0; j < c->n; j++) {
        const float *restrict G = c->row[j], *restrict bias = G + 2 * rank;
        const float *restrict own = q + c->column[j] * CR;
        const float *restrict run = c->run[j] < 0 ? c->zeros : c->P + c->run[j] * CR;
        const bool carried = a->carried[c->first + j] != 0;
        for (int64_t k = 0; k < classes; k++) {
            float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
            for (int64_t r = 0; r < rank; r++)
                dot += (own[k * rank + r] + run[k * rank + r]) * G[r];
            dot += bias[k];
            c->z[j * classes + k] = carried ? dot : -dot;
        }
    }
}

KERNEL_CLONES
void sites_logits(const sites_args *a, const sites_chunk *c, const float *q)
{
    if (a->rank == RANK)
        logits_of(a, c, q, RANK);
    else
        logits_of(a, c, q, a->rank);
}

/* log sigma(z) = min(z, 0) - log1p(u), u = e^-|z|: exact in both tails. */
KERNEL_CLONES
void sites_log_sigmoid(int64_t n, const float *restrict z, float *restrict logp,
                       float *restrict slope)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float u = v_exp(-fabsf(z[i])), s = 1.0f / (1.0f + u);
        logp[i] = (z[i] < 0.0f ? z[i] : 0.0f) - v_log1p(u);
        slope[i] = z[i] < 0.0f ? s : u * s;
    }
}

void sites_logit_gradients(const sites_args *a, const sites_chunk *c, int64_t b, const float *dw)
{
    const int64_t classes = a->classes;
    sites_piece p = {.b = b, .i1 = c->first};
    while (sites_piece_next(a, c->first + c->n, &p)) {
        const float *of = dw + p.b * classes;
        for (int64_t i = p.i0; i < p.i1; i++) {
            float *slope = c->slope + (i - c->first) * classes;
            float sign = a->carried[i] ? 1.0f : -1.0f;
            if (!a->labels && a->token[i] < 0)
                sign = 0.0f; /* outside the loss */
            for (int64_t k = 0; k < classes; k++)
                slope[k] *= sign * of[k];
        }
    }
}

VMATH void gradients_of(const sites_args *a, const sites_chunk *c, const float *q, float *dq,
                        float *drows, const int64_t rank)
{
    const int64_t classes = a->classes, CR = classes * rank, width = 2 * rank + classes;
    for (int64_t j = 0; j < c->n; j++) {
        const float *restrict G = c->row[j], *restrict g = c->slope + j * classes;
        const float *restrict own = q + c->column[j] * CR;
        const int64_t at = (int64_t)c->run[j] * CR;
        const float *run = at < 0 ? c->zeros : c->P + at; /* read, then written in place */
        float *drun = at < 0 ? c->waste : c->P + at;
        float *restrict down = dq + c->column[j] * CR;
        float *restrict dG = drows + (c->first + j - a->start[0]) * width;
        memset(dG, 0, (size_t)rank * sizeof(float));
        for (int64_t k = 0; k < classes; k++) {
            const float gk = g[k];
#pragma omp simd
            for (int64_t r = 0; r < rank; r++) {
                const float d = gk * G[r];
                dG[r] += gk * (own[k * rank + r] + run[k * rank + r]);
                down[k * rank + r] += d;
                drun[k * rank + r] = d;
            }
            dG[2 * rank + k] = gk;
        }
    }
}

KERNEL_CLONES
void sites_entry_gradients(const sites_args *a, const sites_chunk *c, const float *q, float *dq,
                           float *drows)
{
    if (a->rank == RANK)
        gradients_of(a, c, q, dq, drows, RANK);
    else
        gradients_of(a, c, q, dq, drows, a->rank);
}

void sites_place_runs(const sites_args *a, const sites_chunk *c, float *drows)
{
    const int64_t rank = a->rank, width = 2 * rank + a->classes;
    for (int64_t j = 0; j < c->n; j++) {
        float *to = drows + (c->first + j - a->start[0]) * width + rank;
        if (c->run[j] < 0)
            memset(to, 0, (size_t)rank * sizeof *to);
        else
            memcpy(to, c->dR + c->run[j] * rank, (size_t)rank * sizeof *to);
    }
}

/* An entry whose run is empty has zeros there, and the sum begins anew with the entry before it:
 * that one is the last of another token. */
VMATH void suffix_of(const sites_args *a, int64_t first, int64_t end, float *restrict sum,
                     float *drows, const int64_t rank)
{
    const int64_t width = 2 * rank + a->classes, start = a->start[0];
    memset(sum, 0, (size_t)rank * sizeof *sum);
    for (int64_t i = end - 1; i >= first; i--) {
        float *restrict row = drows + (i - start) * width, *restrict run = row + rank;
        const bool begins = i == first || a->token[i] < 0 || a->token[i - 1] != a->token[i];
        const float keep = begins ? 0.0f : 1.0f;
#pragma omp simd
        for (int64_t r = 0; r < rank; r++) {
            const float own = run[r];
            run[r] = sum[r];
            sum[r] = keep * (sum[r] + own);
        }
        if (a->slot[i] < 0)
            memset(row, 0, (size_t)width * sizeof *row);
    }
}

KERNEL_CLONES
void sites_run_gradients(const sites_args *a, int64_t first, int64_t end, float *sum, float *drows)
{
    if (a->rank == RANK)
        suffix_of(a, first, end, sum, drows, RANK);
    else
        suffix_of(a, first, end, sum, drows, a->rank);
}
