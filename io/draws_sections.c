/* Sections: the site table cut at chromosome ends, at gaps, and by the regions that training leaves
 * out. */
#include "io/assembly.h"
#include "io/draws_state.h"
#include "io/regions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The regions of data.exclude, each of a chromosome that the set has. */
static status exclude_read(const dataset *d, const config_data *c, regions *r)
{
    if (c->exclude[0] == '\0')
        return STATUS_OK;
    status st = regions_parse(r, c->exclude);
    if (st == STATUS_USAGE) { /* its messages speak of -r */
        char text[FAILURE_TEXT];
        snprintf(text, sizeof text, "%s", failure_last()->text);
        return fail(st, "data.exclude: %s", strncmp(text, "-r ", 3) == 0 ? text + 3 : text);
    }
    TRY(st);
    for (int64_t i = 0; i < r->count; i++) {
        bool found = false;
        for (int64_t k = 0; k < d->n_chromosomes && !found; k++)
            found = chromosome_identity(d->chromosomes[k].name) == r->list[i].identity;
        if (!found)
            return fail(STATUS_USAGE,
                        "data.exclude: %s has no sites on %s; name one of its chromosomes", d->path,
                        chromosome_prefixed_name(r->list[i].identity));
    }
    regions_sort(r);
    return STATUS_OK;
}

/* Does a region of the chromosome touch (after, position]? *next moves on over those before. */
static bool cut_between(const regions *r, int64_t *next, int identity, int64_t after, int64_t to)
{
    while (*next < r->count &&
           (r->list[*next].identity < identity ||
            (r->list[*next].identity == identity && r->list[*next].to <= after)))
        ++*next;
    return *next < r->count && r->list[*next].identity == identity && r->list[*next].from <= to;
}

static status section_add(draws *x, int64_t *room, section s)
{
    if (x->n_sections == *room) {
        *room = *room ? 2 * *room : 64;
        section *more = realloc(x->sections, (size_t)*room * sizeof *more);
        if (!more)
            return fail(STATUS_MEMORY, "%s: no memory for its blocks; use more memory", x->d->path);
        x->sections = more;
    }
    x->sections[x->n_sections++] = s;
    return STATUS_OK;
}

static status sections_of_chromosome(draws *x, int64_t c, const regions *r, int64_t *room)
{
    const dataset *d = x->d;
    const chromosome *h = &d->chromosomes[c];
    const int identity = chromosome_identity(h->name);
    int64_t next = 0;
    section *now = NULL;
    for (int64_t s = h->site0; s < h->site0 + h->sites; s++) {
        const bool begins = s == h->site0 || d->block[s] != d->block[s - 1];
        const int64_t position = d->sites[s].position;
        const int64_t after = begins ? position - 1 : d->sites[s - 1].position;
        const bool cut = cut_between(r, &next, identity, after, position);
        if (begins || cut)
            now = NULL;
        if (r->count > 0 && regions_hold(r, identity, position)) {
            x->section_of[s] = -1;
            continue;
        }
        if (!now) {
            TRY(section_add(x, room, (section){(int32_t)c, s, s, 0}));
            now = &x->sections[x->n_sections - 1];
        }
        now->end = s + 1;
        x->section_of[s] = (int32_t)(x->n_sections - 1);
    }
    return STATUS_OK;
}

status sections_make(draws *x, const config_data *c)
{
    const dataset *d = x->d;
    regions r = {0};
    int64_t room = 0;
    x->section_of = malloc(((size_t)d->n_sites + 1) * sizeof *x->section_of);
    status st = x->section_of
                    ? exclude_read(d, c, &r)
                    : fail(STATUS_MEMORY, "%s: no memory for its sites; use more memory", d->path);
    for (int64_t k = 0; k < d->n_chromosomes && st == STATUS_OK; k++)
        st = sections_of_chromosome(x, k, &r, &room);
    regions_close(&r);
    return st;
}
