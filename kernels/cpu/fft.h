/* Convolution of real sequences by complex transforms of half the length: FFTW in single precision
 * behind two functions.
 *
 * A linear convolution of sequences of L <= M numbers needs N = 2M real points. Weighting with
 * w^n, w = exp(-i pi / (2M)), evaluates x(z) = sum x_n z^n at the M roots of z^M = -i instead of
 * the M roots of 1; products of such spectra are products modulo z^M + i, so that what wraps
 * around, being real, lands in the imaginary part ("right-angle convolution", Nussbaumer, Fast
 * Fourier Transform and Convolution Algorithms, chapter 8). Hence one complex transform of M = N/2
 * points a sequence, no packing by symmetry, and with L = M no zero padding:
 *
 *     spectrum   X = F(x_n w^n)            x_n = Re( w^-n F^-1(X)_n ) / M
 *     sum_s k_{n-s} x_s   from  K X        sum_t x_t k_{t-n}   from  X conj(K)     (0 <= n < M)
 */
#ifndef CROCUTA_KERNELS_CPU_FFT_H
#define CROCUTA_KERNELS_CPU_FFT_H

#include "kernels/device.h"

#include <stdint.h>

typedef struct fft_plan {
    int64_t points;      /* M */
    const float *weight; /* (M, 2) w^n, real and imaginary part in turns */
    void *forward, *inverse;
    struct fft_plan *next;
} fft_plan;

/* The plan for M points, made at the first call and kept by the device. */
status fft_plan_get(device *dev, int64_t points, const fft_plan **out);

/* F and its unscaled inverse, from z to Z (M complex numbers each, aligned to 64 bytes, disjoint).
 * Any number of threads may run the same plan. */
void fft_forward(const fft_plan *p, const float *z, float *Z);
void fft_inverse(const fft_plan *p, const float *Z, float *z);

/* Frees the plans of a device's state. */
void fft_plans_free(void **state);

#endif
