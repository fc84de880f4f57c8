/* Wide intermediates: fp32, or bf16 where an operation is `mixed`. A kernel and what launches it
 * are written once, for elements of type T; numbers are computed in fp32 and rounded once, to
 * nearest even, where they are stored. Both operands of a product are of one type: what is fp32 in
 * any case (weights, the gradient of the residual) gets a bf16 copy for it. */
#ifndef CROCUTA_KERNELS_CUDA_WIDE_CUH
#define CROCUTA_KERNELS_CUDA_WIDE_CUH

#include "kernels/cuda/columns.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/layernorm.h"

#include <cuda_bf16.h>

typedef __nv_bfloat16 bf16;

static __device__ inline float number(float x)
{
    return x;
}

static __device__ inline float number(bf16 x)
{
    return __bfloat162float(x);
}

static __device__ inline void put(float *at, float x)
{
    *at = x;
}

static __device__ inline void put(bf16 *at, float x)
{
    *at = __float2bfloat16_rn(x);
}

/* n elements of a workspace; what they count for in a plan. */
template <typename T> static inline T *take_wide(arena *ws, int64_t n)
{
    return (T *)arena_take(ws, (size_t)n * sizeof(T));
}

template <typename T> static inline size_t wide_size(int64_t n)
{
    return arena_round((size_t)n * sizeof(T));
}

/* ---- products and LayerNorm, by the type of what they read or write */

static inline status gemm(device *dev, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                          const float *A, int64_t lda, const float *B, int64_t ldb, float beta,
                          float *C, int64_t ldc)
{
    return gemm_cuda(dev, trans_a, trans_b, M, N, K, A, lda, B, ldb, beta, C, ldc);
}

static inline status gemm(device *dev, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                          const bf16 *A, int64_t lda, const bf16 *B, int64_t ldb, float beta,
                          float *C, int64_t ldc)
{
    return gemm_mixed_cuda(dev, trans_a, trans_b, M, N, K, A, lda, B, ldb, beta, C, ldc, false);
}

static inline status gemm(device *dev, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                          const bf16 *A, int64_t lda, const bf16 *B, int64_t ldb, float beta,
                          bf16 *C, int64_t ldc)
{
    return gemm_mixed_cuda(dev, trans_a, trans_b, M, N, K, A, lda, B, ldb, beta, C, ldc, true);
}

static inline status ln_forward(device *dev, int64_t d, int64_t columns, const float *x,
                                int64_t ldx, const float *w, const float *b, float *n, int64_t ldn,
                                float *mean, float *rstd)
{
    return ln_forward_cuda(dev, d, columns, x, ldx, w, b, n, ldn, mean, rstd);
}

static inline status ln_forward(device *dev, int64_t d, int64_t columns, const float *x,
                                int64_t ldx, const float *w, const float *b, bf16 *n, int64_t ldn,
                                float *mean, float *rstd)
{
    return ln_forward_mixed_cuda(dev, d, columns, x, ldx, w, b, n, ldn, mean, rstd);
}

static inline status ln_backward(device *dev, int64_t d, int64_t columns, const float *dn,
                                 int64_t lddn, const float *x, int64_t ldx, const float *mean,
                                 const float *rstd, const float *w, float *dx, int64_t lddx,
                                 bool add, float *dw, float *db, arena *ws)
{
    return ln_backward_cuda(dev, d, columns, dn, lddn, x, ldx, mean, rstd, w, dx, lddx, add, dw, db,
                            ws);
}

static inline status ln_backward(device *dev, int64_t d, int64_t columns, const bf16 *dn,
                                 int64_t lddn, const float *x, int64_t ldx, const float *mean,
                                 const float *rstd, const float *w, float *dx, int64_t lddx,
                                 bool add, float *dw, float *db, arena *ws)
{
    return ln_backward_mixed_cuda(dev, d, columns, dn, lddn, x, ldx, mean, rstd, w, dx, lddx, add,
                                  dw, db, ws);
}

/* ---- fp32 as an operand: itself, or a bf16 copy in `room` */

template <typename T> struct operand {
    const T *at;
    int64_t ld;
};

template <typename T> static inline int64_t room_of(int64_t n) /* elements */
{
    return sizeof(T) == sizeof(float) ? 0 : n;
}

static inline bool room_take(arena *ws, int64_t n, float **room)
{
    (void)ws;
    (void)n;
    *room = NULL;
    return true;
}

static inline bool room_take(arena *ws, int64_t n, bf16 **room)
{
    *room = take_wide<bf16>(ws, n);
    return *room != NULL;
}

/* to (rows, columns) = x, rounded. */
status narrow_cuda(device *dev, int64_t rows, int64_t columns, const float *x, int64_t ldx,
                   bf16 *to, int64_t ld);

/* Of x (rows, columns); room: as many elements, row by row. */
static inline status operand_of(device *dev, int64_t rows, int64_t columns, const float *x,
                                int64_t ldx, float *room, operand<float> *out)
{
    (void)dev, (void)rows, (void)columns, (void)room;
    *out = operand<float>{x, ldx};
    return STATUS_OK;
}

static inline status operand_of(device *dev, int64_t rows, int64_t columns, const float *x,
                                int64_t ldx, bf16 *room, operand<bf16> *out)
{
    *out = operand<bf16>{room, columns};
    return narrow_cuda(dev, rows, columns, x, ldx, room, columns);
}

#endif
