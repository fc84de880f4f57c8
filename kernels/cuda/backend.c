/* The backend's front: how many GPUs there are, and what the program finds of it (kernels/gpu.h).
 */
#include "kernels/cuda/cuda.h"
#include "kernels/gpu.h"

#include <stdio.h>

static int count_cuda(char *why, size_t size)
{
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0)
        return count;
    cudaGetLastError(); /* told here: the next launch must not tell it again */
    if (why && size)
        snprintf(why, size, "no GPU can be used here (%s); %s",
                 cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error),
                 cuda_advice(error == cudaSuccess ? cudaErrorNoDevice : error));
    return 0;
}

const gpu_backend GPU_BACKEND = {.ops = &ops_cuda, .count = count_cuda, .open = device_open_cuda};
