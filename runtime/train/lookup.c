/* Counts of the next allele by row and previous allele: see lookup.h. Rows that hold a site of the
 * set are numbered densely, so that alpha = 1 costs one table of the sites, not of the genome. */
#include "runtime/train/lookup.h"

#include <math.h>
#include <stdlib.h>

#define ALLELES 4
#define FIRST_TOKEN 7 /* A */

struct lookup {
    objective_kind objective;
    int64_t n_rows;
    int32_t *row_of; /* (n_sites) dense row */
    uint32_t *count; /* (n_rows, previous allele, next allele) */
};

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Dense numbers of the rows that hold sites, in row order. */
static status number_rows(const dataset *d, int64_t alpha, rows_kind rows, lookup *l)
{
    int64_t *key = malloc((size_t)(d->n_sites + 1) * sizeof *key);
    int64_t *sorted = malloc((size_t)(d->n_sites + 1) * sizeof *sorted);
    l->row_of = malloc((size_t)(d->n_sites + 1) * sizeof *l->row_of);
    status st = STATUS_OK;
    if (!key || !sorted || !l->row_of) {
        st = fail(STATUS_MEMORY,
                  "%s: no memory for rows of %lld sites; leave lookup out of --baselines", d->path,
                  (long long)d->n_sites);
        goto done;
    }
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        const chromosome *where = &d->chromosomes[c];
        const int64_t base = rows == ROWS_SHARED ? 0 : c << 40;
        for (int64_t s = where->site0; s < where->site0 + where->sites; s++)
            key[s] = sorted[s] = base + (d->sites[s].position - 1) / alpha;
    }
    qsort(sorted, (size_t)d->n_sites, sizeof *sorted, ascending);
    for (int64_t i = 0; i < d->n_sites; i++)
        if (i == 0 || sorted[i] != sorted[l->n_rows - 1])
            sorted[l->n_rows++] = sorted[i];
    for (int64_t s = 0; s < d->n_sites; s++) {
        const int64_t *found = bsearch(&key[s], sorted, (size_t)l->n_rows, sizeof *key, ascending);
        l->row_of[s] = (int32_t)(found - sorted);
    }

done:
    free(key);
    free(sorted);
    return st;
}

static uint32_t *cell(const lookup *l, int32_t at_site, uint8_t allele, int32_t next_site)
{
    const int32_t seen = l->objective == OBJECTIVE_AUTOREGRESSIVE ? at_site : next_site;
    return l->count + ((int64_t)l->row_of[seen] * ALLELES + allele) * ALLELES;
}

static void count_person(const dataset *d, int64_t person, alleles_kind alleles, lookup *l)
{
    const int64_t first = d->run[person * d->n_chromosomes];
    const int64_t end = d->run[(person + 1) * d->n_chromosomes];
    const int haps = alleles == ALLELES_HAPLOTYPE ? 2 : 1;
    for (int hap = 1; hap <= haps; hap++) {
        int64_t last = -1;
        for (int64_t k = first; k < end; k++) {
            const entry e = d->entries[k];
            if (alleles == ALLELES_HAPLOTYPE && !(e.mask & hap))
                continue;
            if (last >= 0 && d->block[d->entries[last].site] == d->block[e.site])
                cell(l, d->entries[last].site, d->entries[last].allele, e.site)[e.allele]++;
            last = k;
        }
    }
}

status lookup_open(const dataset *d, alleles_kind alleles, int64_t alpha, rows_kind rows,
                   objective_kind objective, lookup **out)
{
    *out = NULL;
    lookup *l = calloc(1, sizeof *l);
    if (!l)
        return fail(STATUS_MEMORY, "%s: no memory for the look-up; use a node with more", d->path);
    l->objective = objective;
    status st = number_rows(d, alpha > 0 ? alpha : 1, rows, l);
    if (st != STATUS_OK)
        goto fail;
    l->count = calloc((size_t)(l->n_rows + 1) * ALLELES * ALLELES, sizeof *l->count);
    if (!l->count) {
        st = fail(STATUS_MEMORY, "%s: no memory for a look-up of %lld rows; choose a larger alpha",
                  d->path, (long long)l->n_rows);
        goto fail;
    }
    for (int64_t p = 0; p < d->n_people; p++)
        if (d->people[p].split == SPLIT_TRAIN)
            count_person(d, p, alleles, l);
    *out = l;
    return STATUS_OK;

fail:
    lookup_close(&l);
    return st;
}

void lookup_close(lookup **l)
{
    if (!*l)
        return;
    free((*l)->row_of);
    free((*l)->count);
    free(*l);
    *l = NULL;
}

double lookup_loss(const lookup *l, int32_t at_site, uint8_t allele, int32_t next_site,
                   uint8_t next_allele)
{
    const uint32_t *c = cell(l, at_site, allele, next_site);
    const double total = (double)c[0] + c[1] + c[2] + c[3];
    return -log((c[next_allele] + 0.5) / (total + 0.5 * ALLELES));
}

double lookup_window(const lookup *l, const uint8_t *ids, const int32_t *sites, int64_t n)
{
    double loss = 0;
    for (int64_t j = 0; j + 1 < n; j++)
        loss += lookup_loss(l, sites[j], (uint8_t)(ids[j] - FIRST_TOKEN), sites[j + 1],
                            (uint8_t)(ids[j + 1] - FIRST_TOKEN));
    return loss;
}
