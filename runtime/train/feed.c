/* From windows to batches: see feed.h. */
#include "runtime/train/feed.h"

#include <stdlib.h>
#include <string.h>

status feed_open(int64_t room, int64_t L, feed *out)
{
    if (room < 1)
        room = 1;
    *out = (feed){.room = room, .L = L, .Lp = length_padded(L)};
    size_t n = (size_t)(room * out->Lp);
    out->ids = malloc(n);
    out->targets = malloc(n);
    out->position = malloc(n * sizeof *out->position);
    out->site = malloc(n * sizeof *out->site);
    out->chromosome = malloc((size_t)room * sizeof *out->chromosome);
    out->label = malloc((size_t)room * sizeof *out->label);
    out->scratch = malloc((size_t)L * sizeof *out->scratch);
    if (out->ids && out->targets && out->position && out->site && out->chromosome && out->label &&
        out->scratch)
        return STATUS_OK;
    feed_close(out);
    return fail(STATUS_MEMORY,
                "batch: no memory for %lld windows of %lld tokens; lower train.tokens_per_step",
                (long long)room, (long long)L);
}

void feed_close(feed *f)
{
    free(f->ids);
    free(f->targets);
    free(f->position);
    free(f->site);
    free(f->chromosome);
    free(f->label);
    free(f->scratch);
    *f = (feed){0};
}

void feed_fill(feed *f, int64_t i, const dataset *d, const draws *x, const window *w, bool classify)
{
    uint8_t *ids = f->ids + i * f->Lp, *targets = f->targets + i * f->Lp;
    int64_t *position = f->position + i * f->Lp;
    int32_t *at_site = f->site + i * f->Lp;
    const int64_t n = w->count;
    draws_fill(x, w, ids, f->scratch, at_site);
    for (int64_t t = 0; t < n; t++)
        position[t] = f->scratch[t];
    memset(ids + n, TOKEN_PAD, (size_t)(f->Lp - n));
    memset(position + n, 0, (size_t)(f->Lp - n) * sizeof *position);
    for (int64_t t = n; t < f->Lp; t++)
        at_site[t] = -1;
    memset(targets, TARGET_NONE, (size_t)f->Lp);
    if (!classify && n > 1) {
        memcpy(targets, ids + 1, (size_t)(n - 1));
        f->predicted += n - 1;
    }
    f->chromosome[i] = n ? w->chromosome : 0;
    f->label[i] = n ? d->people[w->person].label : -1;
    if (classify)
        f->predicted += f->label[i] >= 0;
}

batch feed_slice(const feed *f, int64_t from, int64_t n, bool classify)
{
    const int64_t at = from * f->Lp;
    return (batch){
        .s = {n, f->L, f->Lp},
        .ids = f->ids + at,
        .targets = classify ? NULL : f->targets + at,
        .position = f->position + at,
        .chromosome = f->chromosome + from,
        .site = f->site + at,
        .label = classify ? f->label + from : NULL,
        .first_sequence = f->first + from,
    };
}
