/* The kernels of planted.h: what goes wrong in them is what a test must see. */
#include "tests/hostcuda/planted.h"

#include "kernels/cuda/launch.cuh"

KERNEL(shift)(int n, int past, const float *x, float *y)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n)
        y[i] = x[i + past];
}

status planted_shift(cudaStream_t s, int n, int past, const float *x, float *y)
{
    return LAUNCH(shift, blocks_of(n, 32), 32, 0, s, n, past, x, y);
}

KERNEL(flip)(int n, int barrier, const float *x, float *y)
{
    SHARED(float, tile);
    const int i = (int)threadIdx.x;
    tile[i] = x[i];
    if (barrier)
        __syncthreads();
    y[i] = tile[n - 1 - i];
}

status planted_flip(cudaStream_t s, int n, bool barrier, const float *x, float *y)
{
    return LAUNCH(flip, 1, (unsigned)n, (size_t)n * sizeof(float), s, n, (int)barrier, x, y);
}

KERNEL(sums)(int barrier, float *y)
{
    SHARED(double, part);
    const double one = block_sum(1.0, part);
    if (barrier)
        __syncthreads();
    const double two = block_sum(2.0, part);
    if (threadIdx.x == 0) {
        y[0] = (float)one;
        y[1] = (float)two;
    }
}

status planted_sums(cudaStream_t s, bool barrier, float *y)
{
    return LAUNCH(sums, 1, 2 * WARP, 2 * sizeof(double), s, (int)barrier, y);
}

KERNEL(chain)(float *y)
{
    if (threadIdx.x == 0)
        y[blockIdx.x] = blockIdx.x ? y[blockIdx.x - 1] + 1 : 0.0f;
}

status planted_chain(cudaStream_t s, int blocks, float *y)
{
    return LAUNCH(chain, (unsigned)blocks, 1, 0, s, y);
}

KERNEL(divergence)(int which, float *y)
{
    const int i = (int)threadIdx.x;
    float v = (float)i;
    if (which == 0 && i >= 40)
        return;
    if (which == 1) {
        if (i < 40)
            __syncthreads();
        else
            __syncthreads();
    }
    if (which == 2 && i % WARP < 31)
        v = __shfl_down_sync(FULL_WARP, v, 1);
    if (which == 3)
        v += __shfl_down_sync(FULL_WARP, v, 1);
    __syncthreads();
    y[i] = v;
}

status planted_divergence(cudaStream_t s, int which, float *y)
{
    return LAUNCH(divergence, 1, 64, 0, s, which, y);
}

KERNEL(shared_end)(int at, float *y)
{
    SHARED(float, tile);
    if (threadIdx.x == 0) {
        tile[at] = (float)(at + 1) * sizeof(float);
        y[0] = tile[at];
    }
}

status planted_shared(cudaStream_t s, unsigned threads, unsigned blocks, size_t bytes, int past,
                      float *y)
{
    return LAUNCH(shared_end, blocks, threads, bytes, s, (int)(bytes / sizeof(float)) - 1 + past,
                  y);
}

status planted_allow_shared(size_t bytes)
{
    return ALLOW_SHARED(shared_end, bytes);
}

KERNEL(from_struct)(planted_args a, float *y)
{
    y[threadIdx.x] = a.x[threadIdx.x];
}

status planted_struct(cudaStream_t s, planted_args a, float *y)
{
    return LAUNCH(from_struct, 1, (unsigned)a.n, 0, s, a, y);
}

KERNEL(warp)(float *y)
{
    const int lane = (int)threadIdx.x;
    float down = (float)lane, across = (float)lane, up = (float)lane;
    for (int step = WARP / 2; step > 0; step /= 2) {
        down += __shfl_down_sync(FULL_WARP, down, step);
        across += __shfl_xor_sync(FULL_WARP, across, step);
    }
    for (int step = 1; step < WARP; step *= 2) {
        const float left = __shfl_up_sync(FULL_WARP, up, step);
        up += lane >= step ? left : 0.0f;
    }
    const unsigned odd = __ballot_sync(FULL_WARP, lane % 2);
    const float third = __shfl_sync(FULL_WARP, (float)(lane * lane), 3);
    const int all = __all_sync(FULL_WARP, 1), any = __any_sync(FULL_WARP, lane == 9);
    atomicAdd(&y[7], 1.0f);
    __syncwarp();
    if (lane == 0) {
        y[0] = down;
        y[1] = across;
        y[3] = odd == 0xaaaaaaaau;
        y[4] = third;
        y[5] = (float)(all + any);
    }
    if (lane == 31) {
        y[2] = up;
        y[6] = across;
    }
}

status planted_warp(cudaStream_t s, float *y)
{
    return LAUNCH(warp, 1, WARP, 0, s, y);
}
