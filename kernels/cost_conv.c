/* What filter and conv cost, before anything runs. FLOPs count products and transforms; a
 * transform of M complex points counts 5 M log2 M. */
#include "kernels/ops.h"

#include <math.h>

#define F32 ((int64_t)sizeof(float))

op_cost filter_cost(const device *dev, const filter_args *a)
{
    const int64_t hidden = a->F * (a->emb + 2 * a->F), out = a->dc * a->F;
    const int64_t forward = 2 * a->L * (hidden + out), k = a->dc * a->L * F32;
    return (op_cost){
        .kept = 0,
        .workspace = (int64_t)dev->ops->filter_workspace(dev, a),
        .flops_forward = forward,
        /* the layers again, the gradient of every weight, the gradient of every input but z */
        .flops_backward = 2 * a->L * (3 * hidden - a->F * a->emb + 2 * out),
        .bytes_forward = k,
        .bytes_backward = k,
    };
}

op_cost conv_cost(const device *dev, const conv_args *a)
{
    const int64_t M = conv_points(dev, a->s.L) / 2;
    const double transform = 5.0 * (double)M * log2((double)M);
    const int64_t element = a->mixed ? (int64_t)sizeof(uint16_t) : F32;
    const int64_t tensor = a->dc * a->s.B * a->s.Lp * element, k = a->dc * a->s.L * F32;
    return (op_cost){
        .kept = 0,
        .workspace = (int64_t)dev->ops->conv_workspace(dev, a),
        .flops_forward = (int64_t)(transform * (double)(a->dc * (1 + 2 * a->s.B))),
        .flops_backward = (int64_t)(transform * (double)(a->dc * (2 + 3 * a->s.B))),
        .bytes_forward = 2 * tensor + k,
        .bytes_backward = 3 * tensor + 2 * k,
    };
}

int64_t conv_points(const device *dev, int64_t L)
{
    return dev->ops->conv_points(L);
}
