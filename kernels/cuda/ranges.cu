/* ranges on the GPU: as many lanes as a row has elements (a power of two, a warp at most) walk the
 * entries of a column, so that a row is read in one piece. AHEAD rows are on their way at once;
 * they are added one by one, in the order of the CPU. */
#include "kernels/cuda/launch.cuh"

#define AHEAD 8

/* Lanes [0, lanes) of column c have elements lane, lane + lanes, .. */
KERNEL(ranges_columns)(ranges_args a, int lanes, float *__restrict__ out)
{
    const int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, c = thread / lanes;
    if (c >= a.columns)
        return;
    const int64_t first = a.start[c], end = a.start[c + 1];
    for (int64_t r = thread % lanes; r < a.k; r += lanes) {
        float sum = 0;
        for (int64_t i = first; i < end; i += AHEAD) {
            float x[AHEAD];
#pragma unroll
            for (int s = 0; s < AHEAD; s++) {
                const int32_t slot = i + s < end ? a.slot[i + s] : -1;
                x[s] = slot < 0 ? 0.0f : a.A[slot * a.k + r];
            }
#pragma unroll
            for (int s = 0; s < AHEAD; s++)
                sum += x[s];
        }
        out[c * a.k + r] = sum;
    }
}

extern "C" status ranges_forward_cuda(device *dev, const ranges_args *a, float *out, arena *ws)
{
    (void)ws;
    if (a->columns == 0)
        return STATUS_OK;
    int lanes = 1;
    while (lanes < WARP && lanes < a->k)
        lanes *= 2;
    return LAUNCH(ranges_columns, blocks_of(a->columns * lanes, BLOCK_THREADS), BLOCK_THREADS, 0,
                  cuda_of(dev)->stream, *a, lanes, out);
}
