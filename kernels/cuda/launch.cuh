/* The one way into a kernel and the one way to shared memory. nvcc sees the usual syntax; where the
 * same file is compiled for a CPU (tests/hostcuda, which defines HOSTCUDA_LAUNCH and
 * HOSTCUDA_SHARED) the launch becomes a call that copies the arguments and queues them on the
 * stream. Kernels take plain numbers, pointers to device memory and small structures by value. */
#ifndef CROCUTA_KERNELS_CUDA_LAUNCH_CUH
#define CROCUTA_KERNELS_CUDA_LAUNCH_CUH

#include "kernels/cuda/cuda.h"

#define WARP 32            /* threads that run in step, on every GPU so far */
#define BLOCK_THREADS 256  /* eight warps: enough to hide latency, small enough to share an SM */
#define SHARED_PLAIN 49152 /* bytes of dynamic shared memory without ALLOW_SHARED */
#define GRID_X_MAX 2147483647LL /* blocks in x; y and z end at 65535 */
#define FULL_WARP 0xffffffffu

#define KERNEL(name) static __global__ void name

/* A status: TRY(LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)). An empty grid is
 * an error of CUDA: launch nothing for nothing.
 *
 * SHARED(type, name): `name` points to this block's dynamic shared memory, as many bytes as the
 * launch asked for, aligned to 16, unset. Every kernel cuts its own arrays from it: shared memory
 * declared in place would escape the count of bytes. */
#ifdef HOSTCUDA_LAUNCH
#define LAUNCH(kernel, grid, block, shared, stream, ...)                                           \
    (HOSTCUDA_LAUNCH(kernel, #kernel, grid, block, shared, stream, __VA_ARGS__),                   \
     cuda_launched(#kernel, __FILE__, __LINE__))
#define SHARED(type, name) type *name = (type *)HOSTCUDA_SHARED()
#else
#define LAUNCH(kernel, grid, block, shared, stream, ...)                                           \
    (kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__),                                 \
     cuda_launched(#kernel, __FILE__, __LINE__))
#define SHARED(type, name)                                                                         \
    extern __shared__ __align__(16) unsigned char shared_bytes_[];                                 \
    type *name = (type *)shared_bytes_
#endif

/* Blocks that cover n elements, one a thread. */
static inline dim3 blocks_of(int64_t n, int64_t per_block)
{
    return dim3((unsigned)((n + per_block - 1) / per_block));
}

/* The sum of `x` over the block, in an order that depends on the block's size alone; valid in
 * thread 0. The block is a multiple of a warp; `part` is shared memory for one number a warp. Every
 * thread must come here; `part` may be used again after the next __syncthreads(). */
static __device__ inline double block_sum(double x, double *part)
{
    for (int step = WARP / 2; step > 0; step /= 2)
        x += __shfl_down_sync(FULL_WARP, x, step);
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = x;
    __syncthreads();
    double sum = 0;
    if (threadIdx.x == 0)
        for (unsigned w = 0; w < blockDim.x / WARP; w++)
            sum += part[w];
    return sum;
}

#endif
