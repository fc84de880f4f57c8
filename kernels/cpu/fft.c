/* FFTW's single-precision complex transforms: the shapes for which they are fast, plans, and rows.
 * Plans are made under a lock (the planner is not thread-safe), kept in the device's state by size,
 * and executed with FFTW's new-array calls. */
#include "kernels/cpu/fft.h"

#include "kernels/cpu/fft_columns.h"
#include "kernels/ops.h"

#include <fftw3.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

/* One planner a process: FFTW's own tables are shared by all plans. */
static pthread_mutex_t planner = PTHREAD_MUTEX_INITIALIZER;

/* Lengths below which no longer transform takes less time under FFTW_ESTIMATE (3.3.10, AVX,
 * Sapphire Rapids): 50 to 67 GF/s from 48 on, where their neighbours reach 25 to 40. */
static const int16_t FAST[] = {4,   8,   12,  16,  48,  64,  80,   96,   128,  144,  160, 192,
                               256, 320, 384, 400, 512, 640, 1024, 1280, 2048, 2560, 4096};
#define FASTS (int)(sizeof FAST / sizeof FAST[0])
#define FIRST_FACTOR 4 /* 48: shorter columns and rows cost more than they save */
#define LAST_COLUMN 20 /* 2048: sixteen longer columns leave the cache */

/* Rows may be longer than the table, by powers of two. */
static int64_t row_length(int i)
{
    return i < FASTS ? FAST[i] : (int64_t)FAST[FASTS - 1] << (i - FASTS + 1);
}

fft_shape fft_shape_of(int64_t L)
{
    for (int i = 0; i < FASTS; i++)
        if (FAST[i] >= L)
            return (fft_shape){FAST[i], 1, FAST[i], FAST[i]};
    fft_shape best = {.points = INT64_MAX};
    for (int r = FIRST_FACTOR; r <= LAST_COLUMN; r++)
        for (int c = r; c < FASTS + 16; c++) {
            const int64_t M = FAST[r] * row_length(c);
            /* of equal ones the last, the most square; 16: rows of a power of two must not all
             * fall into the same sets of the cache */
            if (M >= L && M <= best.points)
                best = (fft_shape){M, FAST[r], row_length(c), row_length(c) + 16};
        }
    return best;
}

int64_t conv_points_cpu(int64_t L)
{
    return 2 * fft_shape_of(L).points;
}

static int64_t whole_lines(int64_t floats)
{
    return (int64_t)arena_round((size_t)floats * sizeof(float)) / (int64_t)sizeof(float);
}

int64_t fft_spectrum_floats(const fft_shape *s)
{
    return whole_lines(s->rows * s->stride * 2);
}

int64_t fft_row_floats(const fft_shape *s)
{
    return whole_lines(s->length * 2);
}

int64_t fft_scratch_floats(const fft_shape *s)
{
    return s->rows > 1 ? 2 * COLUMN_BLOCK * column_stride(s) * 2 : 0;
}

static void plan_free(fft_plan *p)
{
    if (!p)
        return;
    for (int way = 0; way < 2; way++) {
        if (p->row[way])
            fftwf_destroy_plan(p->row[way]);
        if (p->column[way])
            fftwf_destroy_plan(p->column[way]);
    }
    free(p->weight);
    free(p->coarse);
    free(p->fine);
    free(p);
}

static float *aligned_floats(int64_t n)
{
    return aligned_alloc(ARENA_ALIGN, (size_t)whole_lines(n) * sizeof(float));
}

/* exp(-2 pi i a / (4M)), a reduced in integers: sine and cosine of a large angle lose digits. */
static void root_of(int64_t a, int64_t M, float *z)
{
    const double angle = 2 * M_PI * (double)(a % (4 * M)) / (double)(4 * M);
    z[0] = (float)cos(angle);
    z[1] = (float)-sin(angle);
}

static void tables_fill(fft_plan *p)
{
    const int64_t M = p->s.points, R = p->s.rows, C = p->s.length;
    for (int64_t n = 0; n < (R > 1 ? R : C); n++)
        root_of(R > 1 ? n * C : n, M, p->weight + 2 * n);
    for (int64_t k = 0; R > 1 && k < R; k++) {
        for (int64_t j = 0; j < COLUMN_BLOCK; j++)
            root_of(j * (4 * k + 1), M, p->fine + 2 * (k * COLUMN_BLOCK + j));
        for (int64_t c = 0; c < C / COLUMN_BLOCK; c++)
            root_of(c * COLUMN_BLOCK * (4 * k + 1), M, p->coarse + 2 * (c * R + k));
    }
}

/* ESTIMATE: MEASURE takes minutes at two million points and lets timing choose the arithmetic, so
 * that a resumed run would differ. What was planned before must not matter either. */
static void *transform_make(int64_t n, int sign, float *from, float *to)
{
    fftwf_forget_wisdom();
    return fftwf_plan_dft_1d((int)n, (fftwf_complex *)from, (fftwf_complex *)to, sign,
                             FFTW_ESTIMATE);
}

static fft_plan *plan_make(fft_shape s)
{
    const bool two = s.rows > 1;
    fft_plan *p = calloc(1, sizeof *p);
    const int64_t longest = s.rows > s.length ? s.rows : s.length;
    float *from = aligned_floats(2 * longest), *to = aligned_floats(2 * longest);
    bool made = p && from && to;
    if (made) {
        p->s = s;
        p->weight = aligned_floats(2 * (two ? s.rows : s.length));
        p->coarse = two ? aligned_floats(2 * s.points / COLUMN_BLOCK) : NULL;
        p->fine = two ? aligned_floats(2 * s.rows * COLUMN_BLOCK) : NULL;
        made = p->weight && (!two || (p->coarse && p->fine));
    }
    for (int way = 0; made && way < 2; way++) {
        const int sign = way ? FFTW_BACKWARD : FFTW_FORWARD;
        p->row[way] = transform_make(s.length, sign, from, to);
        p->column[way] = two ? transform_make(s.rows, sign, from, to) : NULL;
        made = p->row[way] && (!two || p->column[way]);
    }
    free(from);
    free(to);
    if (made) {
        tables_fill(p);
        return p;
    }
    plan_free(p);
    return NULL;
}

status fft_plan_get(device *dev, int64_t L, const fft_plan **out)
{
    *out = NULL;
    if (L < 1 || L > INT32_MAX)
        return fail(STATUS_USAGE, "conv: a sequence of %lld; use 1 to %d", (long long)L, INT32_MAX);
    const fft_shape s = fft_shape_of(L);
    pthread_mutex_lock(&planner);
    fft_plan *p = dev->state;
    while (p && p->s.points != s.points)
        p = p->next;
    if (!p) {
        p = plan_make(s);
        if (p) {
            p->next = dev->state;
            dev->state = p;
        }
    }
    pthread_mutex_unlock(&planner);
    if (!p)
        return fail(STATUS_MEMORY,
                    "conv: no memory for a transform of %lld points; use a shorter sequence",
                    (long long)s.points);
    *out = p;
    return STATUS_OK;
}

/* The casts: FFTW's new-array calls take pointers to what they only read as well. */
void fft_run(void *transform, const float *from, float *to)
{
    fftwf_execute_dft(transform, (fftwf_complex *)from, (fftwf_complex *)to);
}

void fft_forward(const fft_plan *p, const float *from, float *to)
{
    fft_run(p->row[0], from, to);
}

void fft_inverse(const fft_plan *p, const float *from, float *to)
{
    fft_run(p->row[1], from, to);
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
