/* LayerNorm over the channels of a tile of columns, and small passes over tiles that several
 * operations share. Statistics belong to columns, so that every loop runs along positions. */
#ifndef CROCUTA_KERNELS_CPU_LAYERNORM_H
#define CROCUTA_KERNELS_CPU_LAYERNORM_H

#include <stdbool.h>
#include <stdint.h>

#define LN_EPSILON 1e-5f

/* x (d, T) row stride ldx -> xhat = (x - mean) rstd and n = xhat w + b, both row stride ld; rstd
 * (T). xhat may be n where only n is wanted: it then holds n at the end. T <= LN_COLUMNS. */
#define LN_COLUMNS 512
void ln_forward(int64_t d, int64_t T, const float *x, int64_t ldx, const float *w, const float *b,
                float *xhat, float *n, int64_t ld, float *rstd);

/* dn (d, T) row stride lddn is overwritten with dn * w; xhat row stride ldh;
 * dx (row stride lddx) is added to (add) or written;  dw, db (d) are added to.
 *   dx = rstd (dn w - mean_c(dn w) - xhat mean_c(dn w xhat)) */
void ln_backward(int64_t d, int64_t T, float *dn, int64_t lddn, const float *xhat, int64_t ldh,
                 const float *w, const float *rstd, float *dx, int64_t lddx, bool add, float *dw,
                 float *db);

/* sums[r] += sum over the T columns of row r. */
void rows_sum(int64_t rows, int64_t T, const float *x, int64_t ld, float *sums);

/* (rows, T) from row stride ldx to row stride ld. */
void tile_copy(int64_t rows, int64_t T, const float *x, int64_t ldx, float *to, int64_t ld);

/* out = x + tile + bias, rows of `out` and `x` at stride n, of the tile at ld. out may be x. */
void tile_residual(int64_t rows, int64_t T, const float *x, const float *tile, int64_t ld,
                   const float *bias, float *out, int64_t n);

#endif
