/* Spectra of real sequences by complex transforms of half the length: FFTW in single precision
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
 *
 * Long transforms are M = R C: n = n1 C + n2, columns of R first, then a factor, then rows of C
 * (Bailey 1990, "FFTs in external or hierarchical memory"). Spectra stay in the order that falls
 * out, (R, C): multiplying them needs no other, and a row can be transformed, multiplied and
 * transformed back while it is in the cache. */
#ifndef CROCUTA_KERNELS_CPU_FFT_H
#define CROCUTA_KERNELS_CPU_FFT_H

#include "kernels/device.h"

#include <stdint.h>

typedef struct {
    int64_t points;       /* M = rows * length */
    int64_t rows, length; /* R, C; R = 1 up to 4096 points */
    int64_t stride;       /* complex numbers from row to row */
} fft_shape;

typedef struct fft_plan {
    fft_shape s;
    /* R = 1: w^n (C, 2).  Otherwise w^(n1 C) (R, 2). */
    float *weight;
    /* R > 1: the factor exp(-2 pi i n2 (4 k1 + 1) / 4M) of column n2 = 16 c + j is coarse (C / 16,
     * R, 2) at (c, k1) times fine (R, 16, 2) at (k1, j). */
    float *coarse, *fine;
    void *row[2], *column[2]; /* FFTW's plans: forward, inverse */
    struct fft_plan *next;
} fft_plan;

/* The shape for sequences of L, and floats of a buffer for one spectrum, for one row and for the
 * scratch of the column passes; multiples of 64 bytes. */
fft_shape fft_shape_of(int64_t L);
int64_t fft_spectrum_floats(const fft_shape *s);
int64_t fft_row_floats(const fft_shape *s);
int64_t fft_scratch_floats(const fft_shape *s);

/* The plan for sequences of L, made at the first call and kept by the device. */
status fft_plan_get(device *dev, int64_t L, const fft_plan **out);

/* x (L), times gate (L) unless NULL -> z (R, stride): weighted, columns transformed. */
void fft_load(const fft_plan *p, int64_t L, const float *x, const float *gate, float *z,
              float *scratch);

/* One row of C complex numbers; from and to are disjoint. The inverse is not scaled. */
void fft_forward(const fft_plan *p, const float *from, float *to);
void fft_inverse(const fft_plan *p, const float *from, float *to);

/* z (R, stride), rows transformed back -> y (L) = (value + D x inner) outer; x NULL: the value
 * alone; inner and outer may be NULL, 1, and one of them is. */
typedef struct {
    float D;
    const float *x, *inner, *outer;
    float *y;
} fft_output;
void fft_store(const fft_plan *p, int64_t L, const float *z, const fft_output *out, float *scratch);

/* Frees the plans of a device's state. */
void fft_plans_free(void **state);

#endif
