/* adamw: one pass over parameters, gradients and moments, element by element. Scalars of the step
 * are formed in double. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <math.h>

#define CHUNK 4096 /* elements: a page or four of each array */

typedef struct {
    float scale, keep, b1, b2, rest1, rest2; /* keep: 1 - lr decay; rest: 1 - b */
    float rate, root, eps;                   /* lr / (1 - b1^t), 1 / sqrt(1 - b2^t) */
} adamw_scalars;

KERNEL_CLONES
static void adamw_chunk(const adamw_scalars *s, int64_t n, float *restrict p,
                        const float *restrict g, float *restrict m, float *restrict v)
{
    const adamw_scalars c = *s;
    for (int64_t i = 0; i < n; i++) {
        const float gi = c.scale * g[i];
        m[i] = c.b1 * m[i] + c.rest1 * gi;
        v[i] = c.b2 * v[i] + c.rest2 * gi * gi;
        p[i] = c.keep * p[i] - c.rate * m[i] / (sqrtf(v[i]) * c.root + c.eps);
    }
}

status adamw_update_cpu(device *dev, const adamw_args *a, int64_t n, float *p, const float *g,
                        float *m, float *v)
{
    const double t = (double)a->step + 1;
    const adamw_scalars s = {
        .scale = (float)a->scale,
        .keep = (float)(1 - a->lr * a->decay),
        .b1 = (float)a->b1,
        .b2 = (float)a->b2,
        .rest1 = (float)(1 - a->b1),
        .rest2 = (float)(1 - a->b2),
        .rate = (float)(a->lr / (1 - pow(a->b1, t))),
        .root = (float)(1 / sqrt(1 - pow(a->b2, t))),
        .eps = (float)a->eps,
    };
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < n; i += CHUNK)
        adamw_chunk(&s, least(CHUNK, n - i), p + i, g + i, m + i, v + i);
    return STATUS_OK;
}
