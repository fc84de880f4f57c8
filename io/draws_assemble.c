/* Assembling a sequence from stretches of haplotypes: two strands of sorted tokens and stretches
 * without a call, joined, flipped and cut to a window. */
#include "io/draws_state.h"

#include <math.h>
#include <stdlib.h>

#define TOKEN_A 7 /* A C G T are 7..10 in the vocabulary: docs/model.md */

static void work_free(struct drawn_work *w)
{
    if (!w)
        return;
    for (int h = 0; h < 2; h++) {
        free(w->half[h].key);
        free(w->missing[h].run);
    }
    free(w->whole.key);
    free(w->flipped.key);
    free(w);
}

void drawn_free(drawn *s)
{
    free(s->ids);
    free(s->site);
    free(s->missing);
    work_free(s->work);
    *s = (drawn){0};
}

static status strand_reserve(strand *s, int64_t n)
{
    if (n <= s->room)
        return STATUS_OK;
    n += n / 2 + 64;
    int64_t *more = realloc(s->key, (size_t)n * sizeof *more);
    if (!more)
        return fail(STATUS_MEMORY, "window: no memory for %lld tokens; use shorter windows",
                    (long long)n);
    s->key = more;
    s->room = n;
    return STATUS_OK;
}

status drawn_begin(drawn *s)
{
    if (!s->work)
        s->work = calloc(1, sizeof *s->work);
    if (!s->work)
        return fail(STATUS_MEMORY, "window: no memory to draw one; use more memory");
    for (int h = 0; h < 2; h++)
        s->work->half[h].n = s->work->missing[h].n = 0;
    s->n_missing = s->count = 0;
    return STATUS_OK;
}

static status run_add(run_list *l, int64_t first, int64_t end)
{
    if (first >= end)
        return STATUS_OK;
    if (l->n == l->room) {
        const int64_t room = l->room ? 2 * l->room : 64;
        missing_run *more = realloc(l->run, (size_t)room * sizeof *more);
        if (!more)
            return fail(STATUS_MEMORY,
                        "window: no memory for %lld stretches without a call; use "
                        "shorter windows",
                        (long long)room);
        l->run = more;
        l->room = room;
    }
    l->run[l->n++] = (missing_run){(int32_t)first, (int32_t)(end - first)};
    return STATUS_OK;
}

/* First entry of [low, high) whose site is not before `at`. */
static int64_t entry_from(const dataset *d, int64_t low, int64_t high, int64_t at)
{
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (d->entries[middle].site < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

status strand_append(const draws *x, int half, int64_t run, int hap, int64_t from, int64_t end,
                     drawn *s)
{
    const dataset *d = x->d;
    const int64_t a = entry_from(d, d->run[run], d->run[run + 1], from);
    const int64_t b = entry_from(d, a, d->run[run + 1], end);
    strand *to = &s->work->half[half];
    TRY(strand_reserve(to, to->n + b - a));
    for (int64_t e = a; e < b; e++)
        if (on_haplotype(&d->entries[e], hap))
            to->key[to->n++] = 4 * (int64_t)d->entries[e].site + d->entries[e].allele;
    if (!d->missing_run_of)
        return STATUS_OK;
    const int64_t last = d->missing_run_of[run + 1];
    for (int64_t m = missing_from(d, run, from); m < last && d->missing[m].first < end; m++) {
        const int64_t first = d->missing[m].first, behind = first + d->missing[m].count;
        TRY(run_add(&s->work->missing[half], first > from ? first : from,
                    behind < end ? behind : end));
    }
    return STATUS_OK;
}

/* The stretches of both strands, ascending and apart. */
static status join_missing(drawn *s)
{
    const run_list *l = s->work->missing;
    int64_t i = 0, j = 0;
    s->n_missing = 0;
    while (i < l[0].n || j < l[1].n) {
        const bool second = i == l[0].n || (j < l[1].n && l[1].run[j].first < l[0].run[i].first);
        const missing_run run = second ? l[1].run[j++] : l[0].run[i++];
        missing_run *last = s->n_missing ? &s->missing[s->n_missing - 1] : NULL;
        if (!last || run.first > last->first + last->count)
            TRY(drawn_missing_add(s, run));
        else if (run.first + run.count > last->first + last->count)
            last->count = run.first + run.count - last->first;
    }
    return STATUS_OK;
}

/* What one parent has no call of, the child has none of either. */
static void drop_missing(drawn *s)
{
    strand *w = &s->work->whole;
    int64_t kept = 0, m = 0;
    for (int64_t i = 0; i < w->n; i++) {
        const int64_t at = w->key[i] >> 2;
        while (m < s->n_missing && (int64_t)s->missing[m].first + s->missing[m].count <= at)
            m++;
        if (m == s->n_missing || s->missing[m].first > at)
            w->key[kept++] = w->key[i];
    }
    w->n = kept;
}

status strands_join(drawn *s)
{
    const strand *a = &s->work->half[0], *b = &s->work->half[1];
    strand *w = &s->work->whole;
    TRY(strand_reserve(w, a->n + b->n));
    int64_t i = 0, j = 0, n = 0;
    while (i < a->n && j < b->n) {
        const int64_t p = a->key[i], q = b->key[j];
        w->key[n++] = p < q ? p : q;
        i += p <= q;
        j += q <= p;
    }
    while (i < a->n)
        w->key[n++] = a->key[i++];
    while (j < b->n)
        w->key[n++] = b->key[j++];
    w->n = n;
    TRY(join_missing(s));
    if (s->n_missing > 0)
        drop_missing(s);
    return STATUS_OK;
}

status strands_flip(const draws *x, double rate, int64_t from, int64_t end, rng *r, drawn *s)
{
    const site *sites = x->d->sites;
    strand *w = &s->work->whole, *to = &s->work->flipped;
    int64_t i = 0, m = 0;
    TRY(strand_reserve(to, w->n + end - from));
    to->n = 0;
    for (int64_t at = from + rng_gap(r, rate, end - from); at < end;
         at += 1 + rng_gap(r, rate, end - from)) {
        while (i < w->n && w->key[i] >> 2 < at)
            to->key[to->n++] = w->key[i++];
        while (m < s->n_missing && (int64_t)s->missing[m].first + s->missing[m].count <= at)
            m++;
        if (m < s->n_missing && s->missing[m].first <= at)
            continue;
        const bool carried = i < w->n && w->key[i] >> 2 == at;
        while (i < w->n && w->key[i] >> 2 == at)
            i++;
        if (!carried && sites[at].alts)
            to->key[to->n++] = 4 * at + __builtin_ctz(sites[at].alts);
    }
    while (i < w->n)
        to->key[to->n++] = w->key[i++];
    const strand swap = *w;
    *w = *to;
    *to = swap;
    return STATUS_OK;
}

status drawn_cut(drawn *s, int64_t start, int64_t length)
{
    const int64_t *key = s->work->whole.key + start;
    TRY(drawn_reserve(s, length));
    for (int64_t i = 0; i < length; i++) {
        s->ids[i] = (uint8_t)(TOKEN_A + (key[i] & 3));
        s->site[i] = (int32_t)(key[i] >> 2);
    }
    s->count = length;
    s->first_site = s->site[0];
    s->end_site = s->site[length - 1] + 1;
    return STATUS_OK;
}
