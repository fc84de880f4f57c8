/* Real transforms by cuFFT behind one call. Rows stand densely: real ones `points` floats, spectra
 * points / 2 + 1 complex numbers, so that (points, batch, direction) is all there is to a plan.
 * Plans are made at first use, kept in the device's state and closed with it. */
#ifndef CROCUTA_KERNELS_CUDA_FFT_H
#define CROCUTA_KERNELS_CUDA_FFT_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { FFT_FORWARD, FFT_INVERSE } fft_direction;

/* Complex numbers of one row's spectrum. */
static inline int64_t fft_spectrum(int64_t points)
{
    return points / 2 + 1;
}

/* Bytes of work area that `batch` transforms are given. cuFFT tells what it needs only once a GPU
 * is there, and a plan of memory is made without one: twice the spectra, where a transform of a
 * smooth size is expected to need about one copy of its data. Where cuFFT asks for more, fewer
 * transforms run at a time. */
static inline size_t fft_work_bytes(int64_t points, int64_t batch)
{
    return ((size_t)batch * (size_t)fft_spectrum(points) * 16 + 255) / 256 * 256;
}

/* FORWARD: spectrum (batch, points / 2 + 1) from real (batch, points), which stays as it is.
 * INVERSE: real from spectrum, which is lost; `points` times what FORWARD began with. `work`:
 * work_bytes of device memory, overwritten. */
status fft_run_cuda(device *dev, fft_direction direction, int64_t points, int64_t batch,
                    float *real, float *spectrum, void *work, size_t work_bytes);
void fft_close_cuda(cuda_state *c);

#ifdef __cplusplus
}
#endif

#endif
