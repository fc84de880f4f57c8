/* Chromosomes and sites for row tables: see space.h. */
#include "runtime/train/space.h"

#include <stdlib.h>

status space_of_dataset(const dataset *d, position_space *s)
{
    int64_t *length = calloc((size_t)d->n_chromosomes + 1, sizeof *length);
    int64_t *site0 = calloc((size_t)d->n_chromosomes + 1, sizeof *site0);
    int32_t *at = calloc((size_t)d->n_sites + 1, sizeof *at);
    *s = (position_space){d->n_chromosomes, length, site0, at};
    if (!length || !site0 || !at)
        return fail(STATUS_MEMORY, "%s: no memory for its sites; use more memory", d->path);
    for (int64_t i = 0; i < d->n_sites; i++)
        at[i] = d->sites[i].position;
    for (int64_t i = 0; i < d->n_chromosomes; i++) {
        const chromosome *h = &d->chromosomes[i];
        const int64_t last = h->sites ? at[h->site0 + h->sites - 1] : 0;
        length[i] = h->length > last ? h->length : last;
        site0[i] = h->site0;
    }
    site0[d->n_chromosomes] = d->n_sites;
    return STATUS_OK;
}

void space_free(position_space *s)
{
    free((void *)(uintptr_t)s->length);
    free((void *)(uintptr_t)s->site0);
    free((void *)(uintptr_t)s->site_position);
    *s = (position_space){0};
}
