/* Elementary functions that the compiler can vectorise: no branches, no tables, one polynomial
 * each, written so that a `#pragma omp simd` loop over them becomes AVX2 or AVX-512 code.
 * Polynomials were fitted by Chebyshev interpolation on the reduced interval; errors are stated
 * with each and held by tests/test_gemm.c. KERNEL_CLONES compiles a hot loop a second time for
 * AVX-512, chosen when the program starts. */
#ifndef CROCUTA_KERNELS_CPU_VMATH_H
#define CROCUTA_KERNELS_CPU_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__)
#define KERNEL_CLONES __attribute__((target_clones("default", "arch=x86-64-v4")))
#else
#define KERNEL_CLONES
#endif

#define VMATH static inline __attribute__((always_inline))

VMATH float float_of_bits(int32_t i)
{
    float f;
    memcpy(&f, &i, sizeof f);
    return f;
}

/* e^x, relative error 2e-7; below -87 it stays at e^-87, above 88 at e^88; NaN comes through.
 * x = n ln 2 + r, |r| <= ln 2 / 2;  e^x = 2^n (1 + r + r^2 q(r)). */
VMATH float v_exp(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float n = rintf(x * 1.44269504f);
    float r = fmaf(n, -0.693359375f, x); /* 9 bits: n times it is exact */
    r = fmaf(n, 2.12194440e-4f, r);
    float q = fmaf(1.3951718574e-3f, r, 8.3695985377e-3f);
    q = fmaf(q, r, 4.1666187346e-2f);
    q = fmaf(q, r, 1.6666512191e-1f);
    q = fmaf(q, r, 0.5f);
    const float p = fmaf(q, r * r, r) + 1.0f;
    return p * float_of_bits((int32_t)(((uint32_t)(int32_t)n + 127u) << 23));
}

/* log(1 + u) for 0 <= u <= 1, relative error 2e-7, also where u is tiny: 2 atanh(s), s = u / (2 +
 * u) <= 1/3, by its series. */
VMATH float v_log1p(float u)
{
    const float s = u / (2.0f + u), z = s * s;
    float q = fmaf(1.0f / 15.0f, z, 1.0f / 13.0f);
    q = fmaf(q, z, 1.0f / 11.0f);
    q = fmaf(q, z, 1.0f / 9.0f);
    q = fmaf(q, z, 1.0f / 7.0f);
    q = fmaf(q, z, 1.0f / 5.0f);
    q = fmaf(q, z, 1.0f / 3.0f);
    const float twice = 2.0f * s;
    return fmaf(twice * z, q, twice);
}

/* sin r on |r| <= pi/2, error below 1e-8 before rounding. */
VMATH float v_sin_reduced(float r)
{
    const float s = r * r;
    float q = fmaf(2.5970116440e-6f, s, -1.9805233751e-4f);
    q = fmaf(q, s, 8.3329984918e-3f);
    q = fmaf(q, s, -1.6666656733e-1f);
    return fmaf(q * s, r, r);
}

/* x - n pi for n a multiple of 1/2 up to 2^16: the first product's last bit is not below that of
 * the result, so it is exact, and the second brings pi's next 24 bits. */
VMATH float v_minus_pi(float x, float n)
{
    const float r = fmaf(n, -3.14159274f, x);
    return fmaf(n, 8.74227766e-8f, r);
}

/* (-1)^n for an integer n. */
VMATH float v_signed(float value, float n)
{
    int32_t i;
    memcpy(&i, &value, sizeof i);
    return float_of_bits(i ^ (int32_t)((uint32_t)(int32_t)n << 31));
}

/* sin x and cos x, absolute error 1.2e-7 for |x| up to 1e5 (of the float x itself). */
VMATH float v_sin(float x)
{
    const float n = rintf(x * 0.318309886f);
    return v_signed(v_sin_reduced(v_minus_pi(x, n)), n);
}

VMATH float v_cos(float x)
{
    const float n = rintf(fmaf(x, 0.318309886f, 0.5f)); /* cos x = (-1)^n sin(x - (n - 1/2) pi) */
    return v_signed(v_sin_reduced(v_minus_pi(x, n - 0.5f)), n);
}

/* tanh x, absolute error 1.2e-7. */
VMATH float v_tanh(float x)
{
    return 1.0f - 2.0f / (1.0f + v_exp(2.0f * x));
}

/* tanh-GELU: x/2 (1 + tanh z) = x / (1 + e^-2z),  z = sqrt(2/pi) (x + 0.044715 x^3). */
#define GELU_2A 1.59576912f     /* 2 sqrt(2/pi) */
#define GELU_2AC 7.13548163e-2f /* 2 sqrt(2/pi) 0.044715 */

VMATH float v_gelu(float x)
{
    const float z2 = x * fmaf(GELU_2AC, x * x, GELU_2A);
    return x / (1.0f + v_exp(-z2));
}

/* GELU and its derivative s + x s (1 - s) (2z)',  s = 1 / (1 + e), 1 - s = e s, e = e^-2z. */
VMATH void v_gelu_both(float x, float *value, float *slope)
{
    const float x2 = x * x;
    const float e = v_exp(-x * fmaf(GELU_2AC, x2, GELU_2A)), s = 1.0f / (1.0f + e);
    *value = x * s;
    *slope = fmaf(x * s * (e * s), fmaf(3.0f * GELU_2AC, x2, GELU_2A), s);
}

#endif
