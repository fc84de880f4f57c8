/* A loss on its way to the host: parts that blocks have summed are added up in fp64 in an order
 * that depends on their number alone, and arrive with the next device_wait. */
#ifndef CROCUTA_KERNELS_CUDA_LOSS_H
#define CROCUTA_KERNELS_CUDA_LOSS_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* part (n, 2): sum and count of each; total: room for one loss_sum in device memory. n of 0 gives a
 * loss of 0; `loss` NULL: nobody asks. */
status loss_out_cuda(device *dev, int64_t n, const double *part, loss_sum *total, loss_sum *loss);

#ifdef __cplusplus
}
#endif

#endif
