/* What the two files of the transform share: blocks of columns, and one call of FFTW. */
#ifndef CROCUTA_KERNELS_CPU_FFT_COLUMNS_H
#define CROCUTA_KERNELS_CPU_FFT_COLUMNS_H

#include "kernels/cpu/fft.h"

#define COLUMN_BLOCK 16 /* columns side by side: one line of a real tensor, two of a spectrum */

/* Complex numbers from column to column in the scratch; 8 more than R, or columns of a power of two
 * would fall into the same sets of the cache. */
static inline int64_t column_stride(const fft_shape *s)
{
    return s->rows + 8;
}

void fft_run(void *transform, const float *from, float *to);

#endif
