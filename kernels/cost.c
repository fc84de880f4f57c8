/* What the tile operations cost, before anything runs. FLOPs count products only; bytes count every
 * tensor that must move once. (The costs of filter and conv stand with those operations.) */
#include "kernels/ops.h"

#define F32 ((int64_t)sizeof(float))
#define WIDE(mixed)                                                                                \
    ((mixed) ? (int64_t)sizeof(uint16_t) : F32) /* bytes of a wide intermediate's                  \
                                                 */

op_cost embed_cost(const device *dev, const embed_args *a)
{
    const int64_t n = a->s.B * a->s.Lp, residual = n * a->d * F32;
    int64_t k = 0;
    for (int l = 0; l < a->n_levels; l++)
        k += a->level[l].k;
    const int64_t read = n + n * (k + a->n_levels) * F32 + (a->added ? residual : 0);
    return (op_cost){
        .kept = 0,
        .workspace = (int64_t)dev->ops->embed_workspace(dev, a),
        .flops_forward = 2 * n * k * a->d,
        .flops_backward =
            2 * n * (2 * k + a->V) * a->d, /* dA, dBm, and dE as a product with one-hot columns */
        .bytes_forward = read + residual,
        .bytes_backward = read + residual + n * k * F32,
    };
}

op_cost mixin_cost(const device *dev, const mixin_args *a, keep_level keep)
{
    const int64_t n = a->s.B * a->s.Lp, column = n * F32, wide = n * WIDE(a->mixed);
    const int64_t d = a->d, N = a->order;
    const int64_t product = 2 * n * (N + 1) * d * d;
    const bool kept = keep != KEEP_INPUT;
    const int64_t u = (N + 1) * d * wide, out = N * d * wide; /* gates and g */
    return (op_cost){
        .kept = kept ? u : 0,
        .workspace = (int64_t)dev->ops->mixin_workspace(dev, a, kept),
        .flops_forward = product,
        .flops_backward = (kept ? 2 : 3) * product,
        .bytes_forward = d * column + out + (kept ? u : 0),
        .bytes_backward = 3 * d * column + out + (kept ? u : 0),
    };
}

op_cost mixout_cost(const device *dev, const mixout_args *a)
{
    const int64_t n = a->s.B * a->s.Lp, tensor = n * a->d * F32;
    const int64_t wide = n * a->d * WIDE(a->mixed);
    return (op_cost){
        .kept = 0,
        .workspace = (int64_t)dev->ops->mixout_workspace(dev, a),
        .flops_forward = 2 * n * a->d * a->d,
        .flops_backward = 4 * n * a->d * a->d,
        .bytes_forward = 2 * tensor + 2 * wide,
        .bytes_backward = tensor + 4 * wide,
    };
}

op_cost mlp_cost(const device *dev, const mlp_args *a, keep_level keep)
{
    const int64_t n = a->s.B * a->s.Lp, tensor = n * a->d * F32;
    const int64_t product = 2 * n * a->d * a->inner;
    const bool kept = keep == KEEP_ALL;
    const int64_t h = kept ? n * a->inner * WIDE(a->mixed) : 0;
    return (op_cost){
        .kept = h,
        .workspace = (int64_t)dev->ops->mlp_workspace(dev, a, kept),
        .flops_forward = 2 * product,
        .flops_backward = (kept ? 4 : 5) * product,
        .bytes_forward = 2 * tensor + h,
        .bytes_backward = 3 * tensor + h,
    };
}

op_cost head_cost(const device *dev, const head_args *a)
{
    const int64_t n = a->s.B * a->s.Lp, tensor = n * a->d * F32;
    return (op_cost){
        .kept = 0,
        .workspace = (int64_t)dev->ops->head_workspace(dev, a),
        .flops_forward = 2 * n * a->d * a->V,
        .flops_backward = 6 * n * a->d * a->V,
        .bytes_forward = tensor + n,
        .bytes_backward = 2 * tensor + n,
    };
}

op_cost classify_cost(const device *dev, const classify_args *a)
{
    const int64_t tensor = a->s.B * a->s.Lp * a->d * F32;
    const int64_t hidden = a->H > 0 ? a->H : a->d;
    const int64_t product = 2 * a->s.B * ((a->H > 0 ? a->d * a->H : 0) + hidden * a->classes);
    return (op_cost){
        .kept = 0,
        .workspace = (int64_t)dev->ops->classify_workspace(dev, a),
        .flops_forward = product,
        .flops_backward = 3 * product,
        .bytes_forward = a->last ? a->s.B * a->d * F32 : tensor,
        .bytes_backward = 2 * tensor,
    };
}

op_cost ranges_cost(const device *dev, const ranges_args *a, int64_t entries)
{
    (void)dev; /* no workspace on any device */
    const int64_t row = a->k * F32;
    return (op_cost){
        .flops_forward = entries * a->k,
        .bytes_forward = entries * (row + (int64_t)sizeof(int32_t)) + a->columns * row,
    };
}

op_cost sites_cost(const device *dev, const sites_args *a, int64_t n)
{
    const int64_t columns = a->s.B * a->s.Lp, tensor = columns * a->d * F32;
    const int64_t CR = a->classes * a->rank, row = (2 * a->rank + a->classes) * F32;
    const int64_t columns_products = 2 * columns * a->d * (CR + a->H);
    const int64_t entries_products = 2 * n * CR * (a->rank + 1); /* V R, and the dot with G */
    const int64_t index = n * (int64_t)(2 * sizeof(int32_t) + 1);
    return (op_cost){
        .kept = 0,
        .workspace = (int64_t)dev->ops->sites_workspace(dev, a),
        .flops_forward = columns_products + entries_products,
        .flops_backward = 3 * (columns_products + entries_products),
        .bytes_forward = tensor + n * row + index,
        .bytes_backward = 2 * tensor + 2 * n * row + index,
    };
}

size_t rows_reduce_workspace(const device *dev, int64_t n, int64_t k)
{
    return dev->ops->rows_reduce_workspace(dev, n, k);
}
