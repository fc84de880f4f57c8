/* The tanh-GELU and its slope. 0.5 (1 + tanh z) is the logistic function of 2 z: one exponential
 * and one division, no digits lost at either end. */
#ifndef CROCUTA_KERNELS_CUDA_GELU_CUH
#define CROCUTA_KERNELS_CUDA_GELU_CUH

#include <math.h>

#define GELU_A 1.5957691216057308f  /* 2 sqrt(2 / pi) */
#define GELU_B 0.07135481628159893f /* 0.044715 of it */

static __device__ inline float gelu_share(float x) /* gelu(x) / x */
{
    return 1.0f / (1.0f + expf(-x * fmaf(GELU_B * x, x, GELU_A)));
}

static __device__ inline float gelu(float x)
{
    return x * gelu_share(x);
}

static __device__ inline float gelu_both(float x, float *slope)
{
    const float p = gelu_share(x);
    *slope = fmaf(x * p * (1.0f - p), fmaf(3.0f * GELU_B * x, x, GELU_A), p);
    return x * p;
}

#endif
