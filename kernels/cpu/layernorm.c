/* LayerNorm on a tile: the tensor is read once, into the tile; mean and variance are taken there in
 * two passes (centred, so that a large mean costs no digits). */
#include "kernels/cpu/layernorm.h"

#include "kernels/cpu/vmath.h"

KERNEL_CLONES
void ln_forward(int64_t d, int64_t T, const float *x, int64_t ldx, const float *w, const float *b,
                float *xhat, float *n, int64_t ld, float *rstd)
{
    float mean[LN_COLUMNS] __attribute__((aligned(64))),
        square[LN_COLUMNS] __attribute__((aligned(64)));
    const float share = 1.0f / (float)d;
    for (int64_t j = 0; j < T; j++)
        mean[j] = square[j] = 0.0f;
    for (int64_t c = 0; c < d; c++) {
        const float *from = x + c * ldx;
        float *to = xhat + c * ld;
#pragma omp simd
        for (int64_t j = 0; j < T; j++) {
            to[j] = from[j];
            mean[j] += from[j];
        }
    }
    for (int64_t j = 0; j < T; j++)
        mean[j] *= share;
    for (int64_t c = 0; c < d; c++) {
        float *to = xhat + c * ld;
#pragma omp simd
        for (int64_t j = 0; j < T; j++) {
            const float e = to[j] - mean[j];
            to[j] = e;
            square[j] = fmaf(e, e, square[j]);
        }
    }
#pragma omp simd
    for (int64_t j = 0; j < T; j++)
        rstd[j] = 1.0f / sqrtf(square[j] * share + LN_EPSILON);
    for (int64_t c = 0; c < d; c++) {
        float *hat = xhat + c * ld, *to = n + c * ld;
        const float wc = w[c], bc = b[c];
#pragma omp simd
        for (int64_t j = 0; j < T; j++) {
            const float h = hat[j] * rstd[j];
            hat[j] = h;
            to[j] = fmaf(h, wc, bc);
        }
    }
}

KERNEL_CLONES
void ln_backward(int64_t d, int64_t T, float *dn, int64_t lddn, const float *xhat, int64_t ldh,
                 const float *w, const float *rstd, float *dx, int64_t lddx, bool add, float *dw,
                 float *db)
{
    float m1[LN_COLUMNS] __attribute__((aligned(64))), m2[LN_COLUMNS] __attribute__((aligned(64)));
    const float share = 1.0f / (float)d;
    for (int64_t j = 0; j < T; j++)
        m1[j] = m2[j] = 0.0f;
    for (int64_t c = 0; c < d; c++) {
        float *restrict g = dn + c * lddn;
        const float *restrict hat = xhat + c * ldh;
        const float wc = w[c];
        float sw = 0.0f, sb = 0.0f;
#pragma omp simd reduction(+ : sw, sb)
        for (int64_t j = 0; j < T; j++) {
            const float e = g[j], h = hat[j];
            sw += e * h;
            sb += e;
            const float gw = e * wc;
            g[j] = gw;
            m1[j] += gw;
            m2[j] = fmaf(gw, h, m2[j]);
        }
        dw[c] += sw;
        db[c] += sb;
    }
    for (int64_t j = 0; j < T; j++) {
        m1[j] *= share;
        m2[j] *= share;
    }
    for (int64_t c = 0; c < d; c++) {
        const float *restrict g = dn + c * lddn, *restrict hat = xhat + c * ldh;
        float *restrict to = dx + c * lddx;
        if (add) {
#pragma omp simd
            for (int64_t j = 0; j < T; j++)
                to[j] += rstd[j] * (g[j] - m1[j] - hat[j] * m2[j]);
        } else {
#pragma omp simd
            for (int64_t j = 0; j < T; j++)
                to[j] = rstd[j] * (g[j] - m1[j] - hat[j] * m2[j]);
        }
    }
}

KERNEL_CLONES
void rows_sum(int64_t rows, int64_t T, const float *x, int64_t ld, float *sums)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *row = x + r * ld;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < T; j++)
            sum += row[j];
        sums[r] += sum;
    }
}

KERNEL_CLONES
void tile_copy(int64_t rows, int64_t T, const float *x, int64_t ldx, float *to, int64_t ld)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *restrict from = x + r * ldx;
        float *restrict row = to + r * ld;
#pragma omp simd
        for (int64_t j = 0; j < T; j++)
            row[j] = from[j];
    }
}

KERNEL_CLONES
void tile_residual(int64_t rows, int64_t T, const float *x, const float *tile, int64_t ld,
                   const float *bias, float *out, int64_t n)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *from = x + r * n, *restrict add = tile + r * ld;
        float *to = out + r * n;
        const float b = bias[r];
#pragma omp simd
        for (int64_t j = 0; j < T; j++)
            to[j] = from[j] + add[j] + b;
    }
}
