/* The table of the GPU's operations, in the order of kernels/ops.h. Tests open it through
 * device_open_cuda and use those that are there; the program's `--device cuda` needs them all. */
#include "kernels/cuda/cuda.h"

const ops_table ops_cuda = {
    .name = "cuda",
    .close = device_close_cuda,
    .memory_take = memory_take_cuda,
    .memory_give = memory_give_cuda,
    .host_take = host_take_cuda,
    .host_give = host_give_cuda,
    .room = room_cuda,
    .upload = upload_cuda,
    .download = download_cuda,
    .wait = device_wait_cuda,
    .clear = clear_cuda,
    .copy = copy_cuda,
    .filter_workspace = filter_workspace_cuda,
    .conv_workspace = conv_workspace_cuda,
    .mixout_workspace = mixout_workspace_cuda,
    .mlp_workspace = mlp_workspace_cuda,
    .conv_points = conv_points_cuda,
    .filter_forward = filter_forward_cuda,
    .filter_backward = filter_backward_cuda,
    .conv_forward = conv_forward_cuda,
    .conv_backward = conv_backward_cuda,
    .mixout_forward = mixout_forward_cuda,
    .mixout_backward = mixout_backward_cuda,
    .mlp_forward = mlp_forward_cuda,
    .mlp_backward = mlp_backward_cuda,
    .norm_squares = norm_squares_cuda,
    .adamw_update = adamw_update_cuda,
};
