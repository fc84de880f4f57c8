/* A workspace laid out by one function, run twice: without a base it counts the bytes, with one it
 * hands out addresses. What an operation plans and what it takes cannot differ. */
#ifndef CROCUTA_KERNELS_CUDA_LAYOUT_H
#define CROCUTA_KERNELS_CUDA_LAYOUT_H

#include "kernels/cuda/columns.h"

#include <stdint.h>

typedef struct {
    char *base; /* NULL: count only */
    size_t used;
} layout;

static inline void *lay(layout *l, int64_t bytes)
{
    void *at = l->base ? l->base + l->used : NULL;
    l->used += arena_round((size_t)bytes);
    return at;
}

/* After the counting run: takes that many bytes of `ws` for the run that hands out addresses. What
 * is taken goes back with the arena's release. */
static inline status layout_take(layout *l, const char *operation, arena *ws)
{
    l->base = (char *)arena_take(ws, l->used);
    if (!l->base)
        return cuda_workspace_short(operation, ws);
    l->used = 0;
    return STATUS_OK;
}

static inline float *lay_floats(layout *l, int64_t n)
{
    return (float *)lay(l, n * (int64_t)sizeof(float));
}

static inline double *lay_doubles(layout *l, int64_t n)
{
    return (double *)lay(l, n * (int64_t)sizeof(double));
}

#endif
