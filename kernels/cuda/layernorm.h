/* LayerNorm over the channels of a chunk of columns. A tensor is given by its first column in the
 * chunk and its row stride; statistics are one number a column. Any number of columns is allowed.
 */
#ifndef CROCUTA_KERNELS_CUDA_LAYERNORM_H
#define CROCUTA_KERNELS_CUDA_LAYERNORM_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LN_EPSILON 1e-5f

/* n = xhat w + b, xhat = (x - mean) rstd;  x, n (d, columns). w and b NULL: n = xhat. n NULL: only
 * the statistics. mean, rstd (columns): both NULL where backward does not follow. At pads n is b:
 * pads_clear_cuda (columns.h) where it must be zero. */
status ln_forward_cuda(device *dev, int64_t d, int64_t columns, const float *x, int64_t ldx,
                       const float *w, const float *b, float *n, int64_t ldn, float *mean,
                       float *rstd);

/* dn (d, columns), the gradient of n ->
 *   dx = rstd (dn w - mean_c(dn w) - xhat mean_c(dn w xhat)), written, or added where `add`;
 *   dw[c] += sum_j dn xhat, db[c] += sum_j dn (both NULL: left out; w NULL: ones).
 * dx may be dn (not with `add`). Sums over columns: fp32 in tiles of 32, fp64 from there on. */
size_t ln_backward_workspace_cuda(int64_t d, int64_t columns); /* bytes, with dw and db */
status ln_backward_cuda(device *dev, int64_t d, int64_t columns, const float *dn, int64_t lddn,
                        const float *x, int64_t ldx, const float *mean, const float *rstd,
                        const float *w, float *dx, int64_t lddx, bool add, float *dw, float *db,
                        arena *ws);

/* Both with n, or dn, in bf16. */
status ln_forward_mixed_cuda(device *dev, int64_t d, int64_t columns, const float *x, int64_t ldx,
                             const float *w, const float *b, void *n, int64_t ldn, float *mean,
                             float *rstd);
status ln_backward_mixed_cuda(device *dev, int64_t d, int64_t columns, const void *dn, int64_t lddn,
                              const float *x, int64_t ldx, const float *mean, const float *rstd,
                              const float *w, float *dx, int64_t lddx, bool add, float *dw,
                              float *db, arena *ws);

#ifdef __cplusplus
}
#endif

#endif
