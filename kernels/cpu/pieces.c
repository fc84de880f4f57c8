/* pieces_copy and pieces_add: rows between tensors whose rows have other lengths. */
#include "kernels/cpu/cpu.h"

#include <string.h>

status pieces_copy_cpu(device *dev, const pieces_args *a, const void *from, void *to)
{
    const size_t bytes = (size_t)a->n * (size_t)a->element;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t r = 0; r < a->rows; r++)
        memcpy((char *)to + r * a->to_stride * a->element,
               (const char *)from + r * a->from_stride * a->element, bytes);
    return STATUS_OK;
}

status pieces_add_cpu(device *dev, const pieces_args *a, const float *from, float *to)
{
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t i = 0; i < a->n; i++)
            to[r * a->to_stride + i] += from[r * a->from_stride + i];
    return STATUS_OK;
}
