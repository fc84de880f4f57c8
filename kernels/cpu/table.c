/* The table of the CPU's operations. */
#include "kernels/cpu/cpu.h"

const ops_table ops_cpu = {
    .name = "cpu",
    .embed_forward = embed_forward_cpu,
    .embed_backward = embed_backward_cpu,
    .mixin_forward = mixin_forward_cpu,
    .mixin_regate = mixin_regate_cpu,
    .mixin_backward = mixin_backward_cpu,
    .filter_forward = filter_forward_cpu,
    .filter_backward = filter_backward_cpu,
    .conv_forward = conv_forward_cpu,
    .conv_backward = conv_backward_cpu,
    .mixout_forward = mixout_forward_cpu,
    .mixout_backward = mixout_backward_cpu,
    .mlp_forward = mlp_forward_cpu,
    .mlp_backward = mlp_backward_cpu,
    .head_forward = head_forward_cpu,
    .head_backward = head_backward_cpu,
    .classify_forward = classify_forward_cpu,
    .classify_backward = classify_backward_cpu,
    .norm_squares = norm_squares_cpu,
    .adamw_update = adamw_update_cpu,
    .rows_reduce = rows_reduce_cpu,
    .rows_adam = rows_adam_cpu,
    .rows_catch_up = rows_catch_up_cpu,
};
