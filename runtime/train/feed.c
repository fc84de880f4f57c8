/* From windows to batches: see feed.h. */
#include "runtime/train/feed.h"
#include "runtime/core/array.h"

#include <stdlib.h>
#include <string.h>

bool feed_wants_spans(const config *c)
{
    return c->data.absent == ABSENT_SUMS || c->model.head == HEAD_CLASS_CONDITIONAL ||
           c->objective == OBJECTIVE_NEXT_SITE;
}

status feed_open(int64_t room, int64_t L, bool spans, feed *out)
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
    out->count = calloc((size_t)room, sizeof *out->count);
    if (spans)
        out->span_start = calloc((size_t)room + 1, sizeof *out->span_start);
    if (out->ids && out->targets && out->position && out->site && out->chromosome && out->label &&
        out->count && (out->span_start || !spans))
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
    free(f->count);
    free(f->span_start);
    free(f->span_site);
    free(f->span_token);
    free(f->span_carried);
    drawn_free(&f->scratch);
    *f = (feed){0};
}

static status span_reserve(feed *f, int64_t n)
{
    if (n <= f->span_room)
        return STATUS_OK;
    n += n / 2;
    bool ok = true;
    f->span_site = array_resized(f->span_site, n, sizeof *f->span_site, &ok);
    f->span_token = array_resized(f->span_token, n, sizeof *f->span_token, &ok);
    f->span_carried = array_resized(f->span_carried, n, sizeof *f->span_carried, &ok);
    if (!ok)
        return fail(STATUS_MEMORY,
                    "batch: no memory for the %lld sites that its windows span; lower "
                    "train.tokens_per_step",
                    (long long)n);
    f->span_room = n;
    return STATUS_OK;
}

/* The called sites of a sequence's span, behind those of the sequence before it. */
static status put_span(feed *f, int64_t i, const drawn *s)
{
    int64_t n = f->span_start[i], m = 0;
    int32_t next = 0; /* first token that is not passed yet */
    TRY(span_reserve(f, n + s->end_site - s->first_site));
    for (int64_t at = s->first_site; at < s->end_site; at++) {
        const bool carried = next < s->count && s->site[next] == at;
        while (m < s->n_missing && (int64_t)s->missing[m].first + s->missing[m].count <= at)
            m++;
        if (!carried && m < s->n_missing && s->missing[m].first <= at)
            continue;
        f->span_site[n] = (int32_t)at;
        f->span_token[n] = next - 1;
        f->span_carried[n] = carried;
        n++;
        while (next < s->count && s->site[next] == at)
            next++;
    }
    f->span_start[i + 1] = n;
    return STATUS_OK;
}

status feed_put(feed *f, int64_t i, const dataset *d, const drawn *s, bool classify)
{
    uint8_t *ids = f->ids + i * f->Lp, *targets = f->targets + i * f->Lp;
    int64_t *position = f->position + i * f->Lp;
    int32_t *at_site = f->site + i * f->Lp;
    const int64_t n = s->count;
    if (n > f->L)
        return fail(STATUS_INTERNAL, "batch: a sequence of %lld tokens where %lld fit; report this",
                    (long long)n, (long long)f->L);
    for (int64_t t = 0; t < n; t++) {
        ids[t] = s->ids[t];
        at_site[t] = s->site[t];
        position[t] = d->sites[s->site[t]].position;
    }
    memset(ids + n, TOKEN_PAD, (size_t)(f->Lp - n));
    memset(position + n, 0, (size_t)(f->Lp - n) * sizeof *position);
    for (int64_t t = n; t < f->Lp; t++)
        at_site[t] = -1;
    memset(targets, TARGET_NONE, (size_t)f->Lp);
    if (!classify && n > 1) {
        memcpy(targets, ids + 1, (size_t)(n - 1));
        f->predicted += n - 1;
    }
    f->chromosome[i] = s->chromosome;
    f->label[i] = s->label;
    f->count[i] = (int32_t)n;
    if (classify)
        f->predicted += f->label[i] >= 0;
    return f->span_start ? put_span(f, i, s) : STATUS_OK;
}

status feed_fill(feed *f, int64_t i, const dataset *d, const draws *x, const window *w,
                 bool classify)
{
    TRY(draws_copy(x, w, &f->scratch));
    return feed_put(f, i, d, &f->scratch, classify);
}

status feed_fill_haplotype(feed *f, int64_t i, const dataset *d, const draws *x, const window *w,
                           int hap, bool classify)
{
    TRY(draws_copy_haplotype(x, w, hap, &f->scratch));
    return feed_put(f, i, d, &f->scratch, classify);
}

#define REVERSED_IDS 5 /* from 7 .. 10 to 12 .. 15 */

/* Entries [from, end) of a sequence of n tokens. An entry's token becomes the last one with a
 * larger site: of the m tokens at its own site, if it is carried, neither comes before it. */
static void reverse_span(feed *f, int64_t from, int64_t end, int32_t n)
{
    for (int64_t e = from; e < end; e++) {
        const int32_t behind = e + 1 < end ? f->span_token[e + 1] : n - 1;
        /* tokens at this site: what the next entry has passed and this one has not */
        f->span_token[e] = n - 2 - behind;
    }
    for (int64_t a = from, b = end - 1; a < b; a++, b--) {
        const int32_t at_site = f->span_site[a], token = f->span_token[a];
        const uint8_t carried = f->span_carried[a];
        f->span_site[a] = f->span_site[b];
        f->span_token[a] = f->span_token[b];
        f->span_carried[a] = f->span_carried[b];
        f->span_site[b] = at_site;
        f->span_token[b] = token;
        f->span_carried[b] = carried;
    }
}

void feed_reverse(feed *f, int64_t i)
{
    const int32_t n = f->count[i];
    uint8_t *ids = f->ids + i * f->Lp, *targets = f->targets + i * f->Lp;
    int64_t *position = f->position + i * f->Lp;
    int32_t *at_site = f->site + i * f->Lp;
    const bool predicts = n > 1 && targets[0] != TARGET_NONE;
    for (int32_t a = 0, b = n - 1; a < b; a++, b--) {
        const uint8_t id = ids[a];
        const int64_t p = position[a];
        const int32_t s = at_site[a];
        ids[a] = ids[b], position[a] = position[b], at_site[a] = at_site[b];
        ids[b] = id, position[b] = p, at_site[b] = s;
    }
    for (int32_t t = 0; t + 1 < n && predicts; t++)
        targets[t] = ids[t + 1];
    for (int32_t t = 0; t < n; t++)
        ids[t] = (uint8_t)(ids[t] + REVERSED_IDS);
    if (f->span_start)
        reverse_span(f, f->span_start[i], f->span_start[i + 1], n);
}

batch feed_slice(const feed *f, int64_t from, int64_t n, bool classify)
{
    const int64_t at = from * f->Lp;
    batch b = {
        .s = {n, f->L, f->Lp},
        .ids = f->ids + at,
        .targets = classify ? NULL : f->targets + at,
        .position = f->position + at,
        .chromosome = f->chromosome + from,
        .site = f->site + at,
        .label = classify ? f->label + from : NULL,
        .count = f->count + from,
        .first_sequence = f->first + from,
    };
    if (f->span_start)
        b.span = (span_sites){f->span_start + from, f->span_site, f->span_token, f->span_carried};
    return b;
}
