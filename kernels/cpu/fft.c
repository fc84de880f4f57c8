/* FFTW's single-precision complex transforms. Plans are made under a lock (the planner is not
 * thread-safe), kept in the device's state by size, and executed with FFTW's new-array calls. */
#include "kernels/cpu/fft.h"

#include "kernels/ops.h"

#include <complex.h>
#include <fftw3.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

/* One planner a process: FFTW's own tables are shared by all plans. */
static pthread_mutex_t planner = PTHREAD_MUTEX_INITIALIZER;

static bool smooth(int64_t n)
{
    for (int64_t p = 2; p <= 7; p += p == 2 ? 1 : 2)
        while (n % p == 0)
            n /= p;
    return n == 1;
}

/* M = N/2 is a multiple of 16 beyond 128 points: FFTW's vectors want four complex numbers and a
 * power of two in every step. 1125 points take twice the time of 1120, 32805 that of 32928. */
int64_t conv_points(int64_t L)
{
    const int64_t unit = L > 128 ? 16 : 4;
    int64_t m = (L + unit - 1) / unit;
    while (!smooth(m))
        m++;
    return 2 * m * unit;
}

static void plan_free(fft_plan *p)
{
    if (!p)
        return;
    if (p->forward)
        fftwf_destroy_plan(p->forward);
    if (p->inverse)
        fftwf_destroy_plan(p->inverse);
    free((void *)p->weight);
    free(p);
}

/* w^n in double: a recurrence would lose digits. */
static float *weights_make(int64_t points)
{
    float *w = aligned_alloc(ARENA_ALIGN, arena_round((size_t)points * 2 * sizeof *w));
    if (!w)
        return NULL;
    for (int64_t n = 0; n < points; n++) {
        double angle = M_PI * (double)n / (2.0 * (double)points);
        w[2 * n] = (float)cos(angle);
        w[2 * n + 1] = (float)-sin(angle);
    }
    return w;
}

static fft_plan *plan_make(int64_t points)
{
    fft_plan *p = calloc(1, sizeof *p);
    const size_t bytes = arena_round((size_t)points * 2 * sizeof(float));
    float *in = aligned_alloc(ARENA_ALIGN, bytes), *out = aligned_alloc(ARENA_ALIGN, bytes);
    if (p && in && out) {
        /* ESTIMATE: MEASURE takes minutes at two million points and lets timing choose the
         * arithmetic, so that a resumed run would differ. What was planned before must not matter
         * either. */
        fftwf_forget_wisdom();
        p->points = points;
        p->weight = weights_make(points);
        p->forward = fftwf_plan_dft_1d((int)points, (fftwf_complex *)in, (fftwf_complex *)out,
                                       FFTW_FORWARD, FFTW_ESTIMATE);
        p->inverse = fftwf_plan_dft_1d((int)points, (fftwf_complex *)in, (fftwf_complex *)out,
                                       FFTW_BACKWARD, FFTW_ESTIMATE);
    }
    free(in);
    free(out);
    if (p && p->weight && p->forward && p->inverse)
        return p;
    plan_free(p);
    return NULL;
}

status fft_plan_get(device *dev, int64_t points, const fft_plan **out)
{
    *out = NULL;
    if (points < 1 || points > INT32_MAX)
        return fail(STATUS_USAGE, "conv: %lld points; use a shorter sequence", (long long)points);
    pthread_mutex_lock(&planner);
    fft_plan *p = dev->state;
    while (p && p->points != points)
        p = p->next;
    if (!p) {
        p = plan_make(points);
        if (p) {
            p->next = dev->state;
            dev->state = p;
        }
    }
    pthread_mutex_unlock(&planner);
    if (!p)
        return fail(STATUS_MEMORY,
                    "conv: no memory for a transform of %lld points; use a shorter sequence",
                    (long long)points);
    *out = p;
    return STATUS_OK;
}

/* The casts: FFTW's new-array calls take pointers to what they only read as well. */
void fft_forward(const fft_plan *p, const float *z, float *Z)
{
    fftwf_execute_dft(p->forward, (fftwf_complex *)z, (fftwf_complex *)Z);
}

void fft_inverse(const fft_plan *p, const float *Z, float *z)
{
    fftwf_execute_dft(p->inverse, (fftwf_complex *)Z, (fftwf_complex *)z);
}

void fft_plans_free(void **state)
{
    pthread_mutex_lock(&planner);
    fft_plan *p = *state;
    while (p) {
        fft_plan *next = p->next;
        plan_free(p);
        p = next;
    }
    *state = NULL;
    pthread_mutex_unlock(&planner);
}
