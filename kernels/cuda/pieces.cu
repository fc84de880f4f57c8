/* pieces_copy and pieces_add on the GPU: a thread an element, so that loads and stores coalesce
 * along the rows. */
#include "kernels/cuda/launch.cuh"

#define TILE_ELEMENTS 1024 /* of a row, by one block */

template <typename T, bool ADD>
static __device__ inline void piece(const pieces_args *a, const T *from, T *to)
{
    const int64_t tiles = (a->n + TILE_ELEMENTS - 1) / TILE_ELEMENTS;
    const int64_t row = blockIdx.x / tiles, begin = blockIdx.x % tiles * TILE_ELEMENTS;
    const int64_t end = begin + TILE_ELEMENTS < a->n ? begin + TILE_ELEMENTS : a->n;
    from += row * a->from_stride;
    to += row * a->to_stride;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
        to[i] = ADD ? (T)(to[i] + from[i]) : from[i];
}

KERNEL(pieces_copy_words)(pieces_args a, const uint32_t *from, uint32_t *to)
{
    piece<uint32_t, false>(&a, from, to);
}

KERNEL(pieces_copy_halves)(pieces_args a, const uint16_t *from, uint16_t *to)
{
    piece<uint16_t, false>(&a, from, to);
}

KERNEL(pieces_add_floats)(pieces_args a, const float *from, float *to)
{
    piece<float, true>(&a, from, to);
}

static int64_t blocks_for(const pieces_args *a)
{
    return a->rows * ((a->n + TILE_ELEMENTS - 1) / TILE_ELEMENTS);
}

static status check(const pieces_args *a)
{
    if (blocks_for(a) <= GRID_X_MAX)
        return STATUS_OK;
    return fail(STATUS_USAGE, "pieces: %lld rows of %lld at once; lower train.micro_batch",
                (long long)a->rows, (long long)a->n);
}

extern "C" status pieces_copy_cuda(device *dev, const pieces_args *a, const void *from, void *to)
{
    const int64_t blocks = blocks_for(a);
    TRY(check(a));
    if (blocks == 0)
        return STATUS_OK;
    cudaStream_t stream = cuda_of(dev)->stream;
    if (a->element == 2)
        return LAUNCH(pieces_copy_halves, (unsigned)blocks, BLOCK_THREADS, 0, stream, *a,
                      (const uint16_t *)from, (uint16_t *)to);
    return LAUNCH(pieces_copy_words, (unsigned)blocks, BLOCK_THREADS, 0, stream, *a,
                  (const uint32_t *)from, (uint32_t *)to);
}

extern "C" status pieces_add_cuda(device *dev, const pieces_args *a, const float *from, float *to)
{
    const int64_t blocks = blocks_for(a);
    TRY(check(a));
    if (blocks == 0)
        return STATUS_OK;
    return LAUNCH(pieces_add_floats, (unsigned)blocks, BLOCK_THREADS, 0, cuda_of(dev)->stream, *a,
                  from, to);
}
