/* Naive Bayes on sites, in two forms: over the carried sites of a window (a multinomial within each
 * block), and over every site of its span, absent ones too (a Bernoulli each). Classes have equal
 * prior weight, as training draws them. */
#include "runtime/train/baseline.h"

#include "runtime/train/statistics.h"

#include <math.h>
#include <stdlib.h>

/* table (classes, n_sites): what a carried site adds to a class. */
static void score_carried(const site_counts *c, const window_set *test, const double *table,
                          int32_t *carried_site, double *logp)
{
    for (int64_t i = 0; i < test->n; i++) {
        const int64_t n = window_sites(test, i, carried_site);
        for (int k = 0; k < c->classes; k++) {
            const double *row = table + (int64_t)k * c->d->n_sites;
            double sum = 0;
            for (int64_t j = 0; j < n; j++)
                sum += row[carried_site[j]];
            logp[i * c->classes + k] += sum;
        }
    }
}

static void nb_table(const site_counts *c, double *table)
{
    const dataset *d = c->d;
    for (int k = 0; k < c->classes; k++) {
        const int32_t *carriers = c->carriers + (int64_t)k * d->n_sites;
        double *row = table + (int64_t)k * d->n_sites;
        for (int64_t from = 0; from < d->n_sites;) {
            int64_t to = from;
            double total = 0;
            for (; to < d->n_sites && d->block[to] == d->block[from]; to++)
                total += carriers[to] + 0.5;
            for (int64_t s = from; s < to; s++)
                row[s] = log((carriers[s] + 0.5) / total);
            from = to;
        }
    }
}

static status no_memory(const dataset *d)
{
    return fail(STATUS_MEMORY,
                "%s: no memory for naive Bayes over %lld sites; leave it out of --baselines",
                d->path, (long long)d->n_sites);
}

status baseline_nb(const site_counts *c, const window_set *test, double *logp)
{
    double *table = malloc((size_t)(c->classes * c->d->n_sites + 1) * sizeof *table);
    int32_t *carried_site = malloc((size_t)(test->context + 1) * sizeof *carried_site);
    status st = STATUS_OK;
    if (!table || !carried_site) {
        st = no_memory(c->d);
        goto done;
    }
    nb_table(c, table);
    for (int64_t i = 0; i < test->n * c->classes; i++)
        logp[i] = 0;
    score_carried(c, test, table, carried_site, logp);
    log_softmax(logp, test->n, c->classes);

done:
    free(table);
    free(carried_site);
    return st;
}

/* on: log f - log (1 - f) of a carried site; off (classes, n_sites + 1): running sum of log (1 -
 * f), so that the absent sites of a span are one difference. */
static void bernoulli_tables(const site_counts *c, double *on, double *off)
{
    const int64_t n = c->d->n_sites;
    for (int k = 0; k < c->classes; k++) {
        double sum = 0;
        for (int64_t s = 0; s < n; s++) {
            /* A half-missing genotype may be carried and uncalled at once. */
            int64_t called = c->sequences[k] - c->missing[k * n + s];
            if (called < c->carriers[k * n + s])
                called = c->carriers[k * n + s];
            const double f = (c->carriers[k * n + s] + 0.5) / ((double)called + 1);
            on[k * n + s] = log(f) - log1p(-f);
            off[k * (n + 1) + s] = sum;
            sum += log1p(-f);
        }
        off[k * (n + 1) + n] = sum;
    }
}

static bool carried(const int32_t *carried_site, int64_t n, int64_t wanted)
{
    int64_t low = 0, high = n;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (carried_site[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && carried_site[low] == wanted;
}

/* What the uncalled sites of a person within the span would have added as absent; carried_site (n):
 * the carried ones, which are scored as carried whatever the other haplotype says. */
static double uncalled_in_span(const dataset *d, const window *w, const int32_t *carried_site,
                               int64_t n, const double *off)
{
    if (!d->missing_run_of || n == 0)
        return 0;
    const int64_t cell = (int64_t)w->person * d->n_chromosomes + w->chromosome;
    const int64_t from = carried_site[0], to = (int64_t)carried_site[n - 1] + 1;
    double sum = 0;
    for (int64_t k = d->missing_run_of[cell]; k < d->missing_run_of[cell + 1]; k++) {
        const missing_run r = d->missing[k];
        const int64_t a = r.first > from ? r.first : from;
        const int64_t b = (int64_t)r.first + r.count < to ? (int64_t)r.first + r.count : to;
        for (int64_t s = a; s < b; s++)
            sum += carried(carried_site, n, s) ? 0 : off[s + 1] - off[s];
    }
    return sum;
}

status baseline_nb_absent(const site_counts *c, const window_set *test, double *logp)
{
    const dataset *d = c->d;
    double *on = malloc((size_t)(c->classes * d->n_sites + 1) * sizeof *on);
    double *off = malloc((size_t)(c->classes * (d->n_sites + 1) + 1) * sizeof *off);
    int32_t *carried_site = malloc((size_t)(test->context + 1) * sizeof *carried_site);
    status st = STATUS_OK;
    if (!on || !off || !carried_site) {
        st = no_memory(d);
        goto done;
    }
    bernoulli_tables(c, on, off);
    for (int64_t i = 0; i < test->n; i++) {
        const int64_t n = window_sites(test, i, carried_site);
        for (int k = 0; k < c->classes; k++) {
            const double *row = off + (int64_t)k * (d->n_sites + 1);
            logp[i * c->classes + k] = row[test->last_site[i] + 1] - row[test->first_site[i]] -
                                       uncalled_in_span(d, &test->at[i], carried_site, n, row);
        }
    }
    score_carried(c, test, on, carried_site, logp);
    log_softmax(logp, test->n, c->classes);

done:
    free(on);
    free(off);
    free(carried_site);
    return st;
}
