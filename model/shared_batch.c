/* Stretches of batches: see shared_batch.h. */
#include "model/shared_batch.h"

#include <stdlib.h>
#include <string.h>

status shared_batch_open(const context_group *g, batch_shape whole, shared_batch *out)
{
    *out = (shared_batch){0};
    if (g->size <= 1)
        return STATUS_OK;
    TRY(context_check(whole.L, g->size));
    const batch_shape s = context_shape(g, whole);
    const size_t n = (size_t)(s.B * s.Lp);
    out->columns = s.B * s.Lp;
    out->ids = malloc(n);
    out->targets = malloc(n);
    out->position = malloc(n * sizeof *out->position);
    out->site = malloc(n * sizeof *out->site);
    if (out->ids && out->targets && out->position && out->site)
        return STATUS_OK;
    shared_batch_close(out);
    return fail(STATUS_MEMORY, "batch: no memory for %lld tokens; lower train.micro_batch",
                (long long)(s.B * s.L));
}

void shared_batch_close(shared_batch *x)
{
    free(x->ids);
    free(x->targets);
    free(x->position);
    free(x->site);
    *x = (shared_batch){0};
}

batch shared_batch_cut(shared_batch *x, const context_group *g, const batch *whole)
{
    batch b = *whole;
    if (g->size <= 1)
        return b;
    const context_stretch p = context_stretch_of(whole->s.L, g->size, comm_rank(g->group));
    b.s = context_shape(g, whole->s);
    b.whole = whole->s.L;
    b.first_position = p.first;
    b.ids = x->ids;
    b.targets = whole->targets ? x->targets : NULL;
    b.position = whole->position ? x->position : NULL;
    b.site = whole->site ? x->site : NULL;
    for (int64_t i = 0; i < b.s.B; i++) {
        const int64_t from = i * whole->s.Lp + p.first, to = i * b.s.Lp;
        memcpy(x->ids + to, whole->ids + from, (size_t)p.count);
        if (b.targets)
            memcpy(x->targets + to, whole->targets + from, (size_t)p.count);
        if (b.position)
            memcpy(x->position + to, whole->position + from, (size_t)p.count * sizeof *x->position);
        if (b.site)
            memcpy(x->site + to, whole->site + from, (size_t)p.count * sizeof *x->site);
        for (int64_t t = p.count; t < b.s.Lp; t++) {
            x->ids[to + t] = TOKEN_PAD;
            x->targets[to + t] = TARGET_NONE;
            x->position[to + t] = 0;
            x->site[to + t] = -1;
        }
    }
    return b;
}
