/* adamw: one pass over parameters, gradients and moments, an element a thread, neighbouring threads
 * on neighbouring elements. Reads 16 bytes and writes 12 an element; scalars of the step are formed
 * in double on the host. */
#include "kernels/cuda/launch.cuh"

#include <math.h>

typedef struct {
    float scale, keep, b1, b2, rest1, rest2; /* keep: 1 - lr decay; rest: 1 - b */
    float rate, root, eps;                   /* lr / (1 - b1^t), 1 / sqrt(1 - b2^t) */
} adamw_scalars;

KERNEL(adamw_elements)
(adamw_scalars s, int64_t n, float *__restrict__ p, const float *__restrict__ g,
 float *__restrict__ m, float *__restrict__ v)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const float gi = s.scale * g[i];
    const float mi = s.b1 * m[i] + s.rest1 * gi;
    const float vi = s.b2 * v[i] + s.rest2 * gi * gi;
    m[i] = mi;
    v[i] = vi;
    p[i] = s.keep * p[i] - s.rate * mi / (sqrtf(vi) * s.root + s.eps);
}

extern "C" status adamw_update_cuda(device *dev, const adamw_args *a, int64_t n, float *p,
                                    const float *g, float *m, float *v)
{
    if (n == 0)
        return STATUS_OK;
    const double t = (double)a->step + 1;
    adamw_scalars s;
    s.scale = (float)a->scale;
    s.keep = (float)(1 - a->lr * a->decay);
    s.b1 = (float)a->b1;
    s.b2 = (float)a->b2;
    s.rest1 = (float)(1 - a->b1);
    s.rest2 = (float)(1 - a->b2);
    s.rate = (float)(a->lr / (1 - pow(a->b1, t)));
    s.root = (float)(1 / sqrt(1 - pow(a->b2, t)));
    s.eps = (float)a->eps;
    return LAUNCH(adamw_elements, blocks_of(n, BLOCK_THREADS), BLOCK_THREADS, 0,
                  cuda_of(dev)->stream, s, n, p, g, m, v);
}
