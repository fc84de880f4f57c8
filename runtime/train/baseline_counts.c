/* Baselines that only count: names and choice of the methods, carriers of each site by class,
 * majority, and the density of carried sites. */
#include "runtime/train/baseline.h"

#include "runtime/train/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[BASELINE_KINDS] = {"majority",    "density", "nb",   "nb-absent",
                                                  "logistic",    "ngram",   "pair", "haplotype",
                                                  "li-stephens", "lookup"};

const char *baseline_name(baseline_kind kind)
{
    return names[kind];
}

bool baseline_phased(baseline_kind kind)
{
    return kind == BASELINE_HAPLOTYPE || kind == BASELINE_LI_STEPHENS;
}

status baselines_parse(const char *list, bool chosen[BASELINE_KINDS])
{
    memset(chosen, 0, BASELINE_KINDS * sizeof *chosen);
    if (!strcmp(list, "none"))
        return STATUS_OK;
    for (const char *at = list; *at;) {
        const size_t length = strcspn(at, ",");
        int found = -1;
        for (int k = 0; k < BASELINE_KINDS; k++)
            if (strlen(names[k]) == length && !strncmp(at, names[k], length))
                found = k;
        if (found < 0)
            return fail(STATUS_USAGE,
                        "--baselines: %.*s is not a baseline; choose among majority, density, nb, "
                        "nb-absent, logistic, ngram, pair, haplotype, li-stephens, lookup, or none",
                        (int)length, at);
        chosen[found] = true;
        at += length;
        if (*at == ',')
            at++;
    }
    return STATUS_OK;
}

static void count_carried(site_counts *c, int64_t person, int32_t label, alleles_kind alleles)
{
    const dataset *d = c->d;
    int32_t *row = c->carriers + (int64_t)label * d->n_sites;
    const int64_t first = d->run[person * d->n_chromosomes];
    const int64_t end = d->run[(person + 1) * d->n_chromosomes];
    /* Entries are in site order; two alleles of one site are neighbours and count once a sequence.
     */
    int32_t last[3] = {-1, -1, -1};
    for (int64_t k = first; k < end; k++) {
        const entry e = d->entries[k];
        for (int hap = 0; hap < 3; hap++) {
            const bool wanted = alleles == ALLELES_UNION ? hap == 0 : hap > 0 && (e.mask & hap);
            if (!wanted || last[hap] == e.site)
                continue;
            last[hap] = e.site;
            row[e.site]++;
        }
    }
}

static void count_missing(site_counts *c, int64_t person, int32_t label, int64_t sequences)
{
    const dataset *d = c->d;
    int32_t *row = c->missing + (int64_t)label * d->n_sites;
    if (!d->missing_run_of)
        return;
    const int64_t first = d->missing_run_of[person * d->n_chromosomes];
    const int64_t end = d->missing_run_of[(person + 1) * d->n_chromosomes];
    for (int64_t k = first; k < end; k++)
        for (int32_t s = 0; s < d->missing[k].count; s++)
            row[d->missing[k].first + s] += (int32_t)sequences;
}

status site_counts_open(const dataset *d, alleles_kind alleles, site_counts *out)
{
    *out = (site_counts){.d = d, .classes = (int)d->n_labels};
    const size_t classes = (size_t)d->n_labels, cells = classes * (size_t)d->n_sites;
    out->sequences = calloc(classes + 1, sizeof *out->sequences);
    out->people = calloc(classes + 1, sizeof *out->people);
    out->carriers = calloc(cells + 1, sizeof *out->carriers);
    out->missing = calloc(cells + 1, sizeof *out->missing);
    if (!out->sequences || !out->people || !out->carriers || !out->missing) {
        site_counts_free(out);
        return fail(STATUS_MEMORY, "%s: no memory for carriers of %lld sites; use a node with more",
                    d->path, (long long)d->n_sites);
    }
    const int64_t sequences = alleles == ALLELES_UNION ? 1 : 2;
    for (int64_t p = 0; p < d->n_people; p++) {
        const individual *who = &d->people[p];
        if (who->split != SPLIT_TRAIN || who->label < 0)
            continue;
        out->people[who->label]++;
        out->sequences[who->label] += sequences;
        count_carried(out, p, who->label, alleles);
        count_missing(out, p, who->label, sequences);
    }
    return STATUS_OK;
}

void site_counts_free(site_counts *c)
{
    free(c->sequences);
    free(c->people);
    free(c->carriers);
    free(c->missing);
    *c = (site_counts){0};
}

void baseline_majority(const site_counts *c, const window_set *test, double *logp)
{
    for (int64_t i = 0; i < test->n; i++)
        for (int k = 0; k < c->classes; k++)
            logp[i * c->classes + k] = log((double)c->people[k] + 0.5);
    log_softmax(logp, test->n, c->classes);
}

#define DENSITY_BINS 64

static int bin_of(const double *edge, int bins, double value)
{
    int b = 0;
    while (b < bins - 1 && value > edge[b])
        b++;
    return b;
}

status baseline_density(const window_set *train, const window_set *test, int classes, double *logp)
{
    double edge[DENSITY_BINS];
    double *span = malloc((size_t)(train->n + 1) * sizeof *span);
    double *count = calloc((size_t)classes * DENSITY_BINS, sizeof *count);
    double *total = calloc((size_t)classes, sizeof *total);
    status st = STATUS_OK;
    if (!span || !count || !total) {
        st = fail(STATUS_MEMORY, "%s: no memory for %lld windows; evaluate longer contexts",
                  train->d->path, (long long)train->n);
        goto done;
    }
    for (int64_t i = 0; i < train->n; i++)
        span[i] = (double)window_span_bp(train, i);
    /* Few windows fill few bins: at least 50 a bin on average. */
    const int64_t room = train->n / 50;
    const int bins = room < 2 ? 2 : room > DENSITY_BINS ? DENSITY_BINS : (int)room;
    quantile(span, train->n, 0.5); /* sorts */
    for (int b = 0; b + 1 < bins; b++)
        edge[b] = quantile_sorted(span, train->n, (double)(b + 1) / bins);
    for (int64_t i = 0; i < train->n; i++) {
        const int b = bin_of(edge, bins, (double)window_span_bp(train, i));
        count[train->label[i] * DENSITY_BINS + b]++;
        total[train->label[i]]++;
    }
    for (int64_t i = 0; i < test->n; i++) {
        const int b = bin_of(edge, bins, (double)window_span_bp(test, i));
        for (int k = 0; k < classes; k++)
            logp[i * classes + k] =
                log((count[k * DENSITY_BINS + b] + 0.5) / (total[k] + 0.5 * bins));
    }
    log_softmax(logp, test->n, classes);

done:
    free(span);
    free(count);
    free(total);
    return st;
}
