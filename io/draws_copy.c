/* Sequences copied out of the data set, with the sites at which their person has no call. */
#include "io/draws_state.h"
#include "runtime/core/array.h"

#include <stdlib.h>

static status no_memory(int64_t n, const char *what)
{
    return fail(STATUS_MEMORY, "window: no memory for %lld %s; use shorter windows", (long long)n,
                what);
}

status drawn_reserve(drawn *s, int64_t n)
{
    if (n <= s->room)
        return STATUS_OK;
    n += n / 2;
    bool ok = true;
    s->ids = array_resized(s->ids, n, sizeof *s->ids, &ok);
    s->site = array_resized(s->site, n, sizeof *s->site, &ok);
    if (!ok)
        return no_memory(n, "tokens");
    s->room = n;
    return STATUS_OK;
}

status drawn_missing_add(drawn *s, missing_run run)
{
    if (s->n_missing == s->missing_room) {
        const int64_t room = s->missing_room ? 2 * s->missing_room : 16;
        missing_run *more = realloc(s->missing, (size_t)room * sizeof *more);
        if (!more)
            return no_memory(room, "stretches without a call");
        s->missing = more;
        s->missing_room = room;
    }
    s->missing[s->n_missing++] = run;
    return STATUS_OK;
}

int64_t missing_from(const dataset *d, int64_t run, int64_t site_index)
{
    int64_t low = d->missing_run_of[run], high = d->missing_run_of[run + 1];
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if ((int64_t)d->missing[middle].first + d->missing[middle].count <= site_index)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The runs of (person, chromosome) that touch the span. */
static status copy_missing(const dataset *d, int64_t run, drawn *into)
{
    into->n_missing = 0;
    if (!d->missing_run_of)
        return STATUS_OK;
    const int64_t end = d->missing_run_of[run + 1];
    for (int64_t m = missing_from(d, run, into->first_site);
         m < end && d->missing[m].first < into->end_site; m++)
        TRY(drawn_missing_add(into, d->missing[m]));
    return STATUS_OK;
}

status draws_copy(const draws *x, const window *w, drawn *into)
{
    const dataset *d = x->d;
    TRY(drawn_reserve(into, w->count));
    into->count = w->count;
    into->chromosome = w->chromosome;
    into->label = w->count ? d->people[w->person].label : -1;
    into->first_site = into->end_site = into->n_missing = 0;
    into->parent[0] = into->parent[1] = -1;
    if (w->count == 0)
        return STATUS_OK;
    draws_fill(x, w, into->ids, NULL, into->site);
    into->first_site = into->site[0];
    into->end_site = into->site[w->count - 1] + 1;
    return copy_missing(d, w->person * d->n_chromosomes + w->chromosome, into);
}

status draws_copy_haplotype(const draws *x, const window *w, int hap, drawn *into)
{
    const dataset *d = x->d;
    if (w->hap != 0 || w->count < 1)
        return fail(STATUS_INTERNAL, "window: haplotypes are taken from a union; report this");
    TRY(draws_copy(x, w, into));
    int64_t kept = 0;
    for (int64_t i = 0; i < w->count; i++) { /* a union's numbers are those of the entries */
        if (!on_haplotype(&d->entries[w->first + i], hap))
            continue;
        into->ids[kept] = into->ids[i];
        into->site[kept++] = into->site[i];
    }
    into->count = kept;
    return STATUS_OK;
}
