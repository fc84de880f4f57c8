/* Loading and storing of transforms: weights, gates, skip and, where a transform has rows and
 * columns, the pass over its columns, sixteen at a time through a scratch that stays in the cache.
 */
#include "kernels/cpu/fft_columns.h"

#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#define LINE COLUMN_BLOCK

/* Eight floats, or four complex numbers: what compilers do not see in loops over pairs is written
 * with vectors of the language, which become AVX here and plain code elsewhere. */
typedef float eight __attribute__((vector_size(32)));
typedef int32_t eight_places __attribute__((vector_size(32)));

VMATH eight eight_load(const float *from)
{
    eight v;
    memcpy(&v, from, sizeof v);
    return v;
}

VMATH void eight_store(eight v, float *to)
{
    memcpy(to, &v, sizeof v);
}

/* Four complex numbers (re, im) each from what stands in a. */
VMATH eight pairs_swapped(eight a) /* (im, re) */
{
    return __builtin_shuffle(a, (eight_places){1, 0, 3, 2, 5, 4, 7, 6});
}

VMATH eight pairs_real(eight a) /* (re, re) */
{
    return __builtin_shuffle(a, (eight_places){0, 0, 2, 2, 4, 4, 6, 6});
}

VMATH eight pairs_imaginary(eight a) /* (im, im) */
{
    return __builtin_shuffle(a, (eight_places){1, 1, 3, 3, 5, 5, 7, 7});
}

/* (re, im, re, im, ...) */
VMATH eight pairs_of(float re, float im)
{
    return (eight){re, im, re, im, re, im, re, im};
}

/* Eight reals times eight complex numbers in f, g -> sixteen floats. */
VMATH void spread_eight(eight v, eight f, eight g, float *to)
{
    eight_store(__builtin_shuffle(v, (eight_places){0, 0, 1, 1, 2, 2, 3, 3}) * f, to);
    eight_store(__builtin_shuffle(v, (eight_places){4, 4, 5, 5, 6, 6, 7, 7}) * g, to + 8);
}

/* Re(conj(f) z) of eight complex numbers, four of them with f, four with g. */
VMATH eight collect_eight(const float *z, eight f, eight g)
{
    const eight a = eight_load(z) * f, b = eight_load(z + 8) * g;
    return __builtin_shuffle(a, b, (eight_places){0, 2, 4, 6, 8, 10, 12, 14}) +
           __builtin_shuffle(a, b, (eight_places){1, 3, 5, 7, 9, 11, 13, 15});
}

/* Four complex numbers of 8 bytes, moved and never computed with. */
typedef int64_t quad __attribute__((vector_size(32)));

VMATH quad quad_load(const float *from)
{
    quad q;
    memcpy(&q, from, sizeof q);
    return q;
}

/* (4, 4) complex numbers -> their transpose; strides in complex numbers. Eight shuffles instead of
 * sixteen stores of 8 bytes: half the time of a pass over columns. */
VMATH void transpose4(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    const quad low = {0, 4, 2, 6}, high = {1, 5, 3, 7}, front = {0, 1, 4, 5}, back = {2, 3, 6, 7};
    const quad a = quad_load(from), b = quad_load(from + 2 * from_stride);
    const quad c = quad_load(from + 4 * from_stride), d = quad_load(from + 6 * from_stride);
    const quad ab0 = __builtin_shuffle(a, b, low), ab1 = __builtin_shuffle(a, b, high);
    const quad cd0 = __builtin_shuffle(c, d, low), cd1 = __builtin_shuffle(c, d, high);
    const quad out[4] = {__builtin_shuffle(ab0, cd0, front), __builtin_shuffle(ab1, cd1, front),
                         __builtin_shuffle(ab0, cd0, back), __builtin_shuffle(ab1, cd1, back)};
    for (int i = 0; i < 4; i++)
        memcpy(to + 2 * i * to_stride, &out[i], sizeof out[i]);
}

/* What the next sixteen columns will want at this row: rows are pages apart, and nothing in the
 * machine foresees such steps. */
VMATH void next_line(const float *x, int64_t end, int64_t n)
{
    if (n + LINE < end)
        __builtin_prefetch(x + n + LINE, 0, 2);
}

/* Four lines of complex numbers to or from the same four places of sixteen columns. */
VMATH void lines_scatter(const float *lines, float *columns, int64_t stride)
{
    for (int j = 0; j < LINE; j += 4)
        transpose4(lines + 2 * j, LINE, columns + 2 * j * stride, stride);
}

VMATH void lines_gather(const float *columns, int64_t stride, float *lines)
{
    for (int j = 0; j < LINE; j += 4)
        transpose4(columns + 2 * j * stride, stride, lines + 2 * j, LINE);
}

/* `count` values of y from n on; inner and outer are not given together. */
VMATH void output_run(const fft_output *o, int64_t n, int64_t count, const float *value)
{
    const float *x = o->x ? o->x + n : NULL, *inner = o->inner ? o->inner + n : NULL;
    const float *outer = o->outer ? o->outer + n : NULL, D = o->D;
    float *y = o->y + n;
    if (x && inner) {
#pragma omp simd
        for (int64_t i = 0; i < count; i++)
            y[i] = value[i] + D * (x[i] * inner[i]);
    } else if (x && outer) {
#pragma omp simd
        for (int64_t i = 0; i < count; i++)
            y[i] = (value[i] + D * x[i]) * outer[i];
    } else if (x) {
#pragma omp simd
        for (int64_t i = 0; i < count; i++)
            y[i] = value[i] + D * x[i];
    } else {
        memcpy(y, value, (size_t)count * sizeof *y);
    }
}

/* R = 1: z[n] = x[n] w^n, zero beyond L. */
KERNEL_CLONES
static void row_load(const fft_plan *p, int64_t L, const float *restrict x,
                     const float *restrict gate, float *restrict z)
{
    const float *restrict w = p->weight;
    int64_t n = 0;
    for (; n + 8 <= L; n += 8) {
        const eight v = gate ? eight_load(x + n) * eight_load(gate + n) : eight_load(x + n);
        spread_eight(v, eight_load(w + 2 * n), eight_load(w + 2 * n + 8), z + 2 * n);
    }
    for (; n < L; n++) {
        const float v = gate ? x[n] * gate[n] : x[n];
        z[2 * n] = v * w[2 * n];
        z[2 * n + 1] = v * w[2 * n + 1];
    }
    memset(z + 2 * L, 0, (size_t)(p->s.points - L) * 2 * sizeof *z);
}

#define RUN 64 /* values between the two loops of a store */

KERNEL_CLONES
static void row_store(const fft_plan *p, int64_t L, const float *restrict z, const fft_output *o)
{
    const eight scale = pairs_of(1.0f / (float)p->s.points, 1.0f / (float)p->s.points);
    float value[RUN];
    for (int64_t n0 = 0; n0 < L; n0 += RUN) {
        const int64_t count = least(RUN, L - n0);
        const float *zn = z + 2 * n0, *w = p->weight + 2 * n0;
        int64_t i = 0;
        for (; i + 8 <= count; i += 8)
            eight_store(
                scale * collect_eight(zn + 2 * i, eight_load(w + 2 * i), eight_load(w + 2 * i + 8)),
                value + i);
        for (; i < count; i++)
            value[i] = scale[0] * (zn[2 * i] * w[2 * i] + zn[2 * i + 1] * w[2 * i + 1]);
        output_run(o, n0, count, value);
    }
}

/* v = x gate from n on, zero beyond L. */
VMATH void line_load(int64_t L, int64_t n, const float *x, const float *gate, float *v)
{
    if (n + LINE <= L) {
        for (int j = 0; j < LINE; j++)
            v[j] = x[n + j];
        for (int j = 0; gate && j < LINE; j++)
            v[j] *= gate[n + j];
        return;
    }
    for (int64_t j = 0; j < LINE; j++)
        v[j] = n + j >= L ? 0.0f : gate ? x[n + j] * gate[n + j] : x[n + j];
}

/* columns[j][n1] = x[n1 C + c + j] w^(n1 C), zero beyond L. */
KERNEL_CLONES
static void columns_load(const fft_plan *p, int64_t L, int64_t c, const float *x, const float *gate,
                         float *columns)
{
    const int64_t C = p->s.length;
    for (int64_t r = 0; r < p->s.rows; r += 4) {
        float lines[4 * 2 * LINE];
        for (int i = 0; i < 4; i++) {
            const float re = p->weight[2 * (r + i)], im = p->weight[2 * (r + i) + 1];
            float v[LINE], *line = lines + 2 * LINE * i;
            line_load(L, (r + i) * C + c, x, gate, v);
            next_line(x, L, (r + i) * C + c);
            for (int j = 0; j < LINE; j += 8)
                spread_eight(eight_load(v + j), pairs_of(re, im), pairs_of(re, im), line + 2 * j);
        }
        lines_scatter(lines, columns + 2 * r, column_stride(&p->s));
    }
}

/* A line times the factor of its columns at row k1 (sign 1) or its conjugate (-1). */
VMATH void line_turn(const fft_plan *p, int64_t block, int64_t k1, float sign, const float *from,
                     float *to)
{
    const float *c = p->coarse + 2 * (block * p->s.rows + k1), *f = p->fine + 2 * LINE * k1;
    const eight re = pairs_of(c[0], c[0]), im = pairs_of(c[1], c[1]);
    const eight signs = pairs_of(-sign, sign);
    for (int j = 0; j < 2 * LINE; j += 8) {
        const eight fine = eight_load(f + j), a = eight_load(from + j);
        const eight fre = pairs_real(fine), fim = pairs_imaginary(fine);
        eight_store(a * (re * fre - im * fim) + pairs_swapped(a) * (signs * (re * fim + im * fre)),
                    to + j);
    }
}

/* z[k1][c + j] = columns[j][k1] times the factor. */
KERNEL_CLONES
static void columns_spread(const fft_plan *p, int64_t c, const float *columns, float *z)
{
    for (int64_t k = 0; k < p->s.rows; k += 4) {
        float lines[4 * 2 * LINE];
        lines_gather(columns + 2 * k, column_stride(&p->s), lines);
        for (int i = 0; i < 4; i++) {
            line_turn(p, c / LINE, k + i, 1.0f, lines + 2 * LINE * i,
                      z + 2 * ((k + i) * p->s.stride + c));
        }
    }
}

/* The way back: columns[j][k1] = z[k1][c + j] times the conjugate factor. */
KERNEL_CLONES
static void columns_collect(const fft_plan *p, int64_t c, const float *z, float *columns)
{
    for (int64_t k = 0; k < p->s.rows; k += 4) {
        float lines[4 * 2 * LINE];
        for (int i = 0; i < 4; i++) {
            next_line(z, 2 * p->s.rows * p->s.stride, 2 * ((k + i) * p->s.stride + c) + LINE);
            next_line(z, 2 * p->s.rows * p->s.stride, 2 * ((k + i) * p->s.stride + c) + 2 * LINE);
            line_turn(p, c / LINE, k + i, -1.0f, z + 2 * ((k + i) * p->s.stride + c),
                      lines + 2 * LINE * i);
        }
        lines_scatter(lines, columns + 2 * k, column_stride(&p->s));
    }
}

/* y[n1 C + c + j] from Re(w^-(n1 C) columns[j][n1]) / M. */
KERNEL_CLONES
static void columns_store(const fft_plan *p, int64_t L, int64_t c, const float *columns,
                          const fft_output *o)
{
    const float scale = 1.0f / (float)p->s.points;
    for (int64_t r = 0; r < p->s.rows; r += 4) {
        float lines[4 * 2 * LINE];
        lines_gather(columns + 2 * r, column_stride(&p->s), lines);
        for (int i = 0; i < 4; i++) {
            const int64_t n = (r + i) * p->s.length + c;
            const float re = scale * p->weight[2 * (r + i)];
            const float im = scale * p->weight[2 * (r + i) + 1], *line = lines + 2 * LINE * i;
            float value[LINE];
            next_line(o->y, L, n);
            if (o->x)
                next_line(o->x, L, n);
            for (int j = 0; j < LINE; j += 8)
                eight_store(collect_eight(line + 2 * j, pairs_of(re, im), pairs_of(re, im)),
                            value + j);
            if (n + LINE <= L)
                output_run(o, n, LINE, value);
            else if (n < L)
                output_run(o, n, L - n, value);
        }
    }
}

static void columns_run(const fft_plan *p, int way, const float *from, float *to)
{
    for (int64_t j = 0; j < LINE; j++)
        fft_run(p->column[way], from + 2 * j * column_stride(&p->s),
                to + 2 * j * column_stride(&p->s));
}

void fft_load(const fft_plan *p, int64_t L, const float *x, const float *gate, float *z,
              float *scratch)
{
    if (p->s.rows == 1) {
        row_load(p, L, x, gate, z);
        return;
    }
    float *out = scratch + 2 * LINE * column_stride(&p->s);
    for (int64_t c = 0; c < p->s.length; c += LINE) {
        columns_load(p, L, c, x, gate, scratch);
        columns_run(p, 0, scratch, out);
        columns_spread(p, c, out, z);
    }
}

void fft_store(const fft_plan *p, int64_t L, const float *z, const fft_output *o, float *scratch)
{
    if (p->s.rows == 1) {
        row_store(p, L, z, o);
        return;
    }
    float *out = scratch + 2 * LINE * column_stride(&p->s);
    for (int64_t c = 0; c < p->s.length; c += LINE) {
        columns_collect(p, c, z, scratch);
        columns_run(p, 1, scratch, out);
        columns_store(p, L, c, out, o);
    }
}
