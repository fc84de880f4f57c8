/* The sum of a loss' parts: one block, every thread a fixed share of them. */
#include "kernels/cuda/loss.h"

#include "kernels/cuda/launch.cuh"

KERNEL(loss_total)(int64_t n, const double *__restrict__ part, loss_sum *__restrict__ total)
{
    SHARED(double, warp);
    double sum = 0, count = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        sum += part[2 * i];
        count += part[2 * i + 1];
    }
    sum = block_sum(sum, warp);
    __syncthreads();
    count = block_sum(count, warp);
    if (threadIdx.x > 0)
        return;
    total->sum = sum;
    total->count = (int64_t)count;
}

extern "C" status loss_out_cuda(device *dev, int64_t n, const double *part, loss_sum *total,
                                loss_sum *loss)
{
    cuda_state *c = cuda_of(dev);
    if (!loss)
        return STATUS_OK;
    TRY(LAUNCH(loss_total, 1, BLOCK_THREADS, BLOCK_THREADS / WARP * sizeof(double), c->stream, n,
               part, total));
    return cuda_note_take(c, loss, total, sizeof *loss);
}
