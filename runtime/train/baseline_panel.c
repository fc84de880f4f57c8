/* The course of a panel baseline: windows into stretches, stretches not yet judged into units,
 * units over ranks and threads, sums over the windows, and one temperature from validation people.
 */
#include "runtime/train/baseline_panel.h"

#include "runtime/train/baseline_unit.h"
#include "runtime/train/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static status no_memory(const dataset *d, int64_t n)
{
    return fail(STATUS_MEMORY,
                "%s: no memory for %lld stretches of windows; evaluate longer contexts", d->path,
                (long long)n);
}

static bool person_phased(const dataset *d, int64_t person)
{
    const int64_t end = d->run[(person + 1) * d->n_chromosomes];
    for (int64_t k = d->run[person * d->n_chromosomes]; k < end; k++)
        if (d->entries[k].mask == 0)
            return false;
    return true;
}

status panel_open(const dataset *d, alleles_kind alleles, uint64_t seed, int threads, panel **out)
{
    panel *p = *out = calloc(1, sizeof *p);
    if (!p)
        return no_memory(d, 0);
    *p = (panel){.d = d,
                 .alleles = alleles,
                 .seed = seed,
                 .threads = threads,
                 .unit_sites = UNIT_SITES,
                 .phased = true,
                 .classes = (int)d->n_labels};
    p->begin = calloc((size_t)p->classes + 2, sizeof *p->begin);
    p->person = malloc((size_t)(d->n_people + 1) * sizeof *p->person);
    status st = p->begin && p->person ? STATUS_OK : no_memory(d, 0);
    if (st == STATUS_OK)
        st = site_counts_open(d, alleles, &p->counts);
    if (st != STATUS_OK) {
        panel_close(out);
        return st;
    }
    int64_t n = 0;
    for (int label = 0; label < p->classes; label++) {
        for (int64_t i = 0; i < d->n_people; i++)
            if (d->people[i].split == SPLIT_TRAIN && d->people[i].label == label) {
                p->person[n++] = (int32_t)i;
                p->phased = p->phased && person_phased(d, i);
            }
        p->begin[label + 1] = n;
    }
    return STATUS_OK;
}

void panel_close(panel **out)
{
    panel *p = *out;
    if (!p)
        return;
    for (int k = 0; k < BASELINE_KINDS; k++) {
        free(p->judged[k].at);
        free(p->judged[k].loglik);
    }
    site_counts_free(&p->counts);
    free(p->begin);
    free(p->person);
    free(p);
    *out = NULL;
}

status panel_check(const panel *p, baseline_kind kind, split_kind split)
{
    const dataset *d = p->d;
    const char *name = baseline_name(kind);
    for (int c = 0; c < p->classes; c++)
        if (p->begin[c + 1] == p->begin[c])
            return fail(STATUS_DATA,
                        "%s: nobody with label %s is in the train split, and %s matches training "
                        "people of every label; leave it out of --baselines",
                        d->path, d->labels[c], name);
    if (kind == BASELINE_NGRAM)
        return STATUS_OK;
    if (kind == BASELINE_PAIR && p->alleles == ALLELES_HAPLOTYPE)
        return fail(
            STATUS_DATA,
            "%s: the windows are of single haplotypes, and pair matches whole people; leave "
            "it out of --baselines",
            d->path);
    if (!p->phased)
        return fail(STATUS_DATA,
                    "%s: training people are not phased, and %s matches their haplotypes; leave it "
                    "out of --baselines or phase the data",
                    d->path, name);
    for (int64_t i = 0; i < d->n_people && kind != BASELINE_PAIR; i++)
        if (d->people[i].split == split && d->people[i].label >= 0 && !person_phased(d, i))
            return fail(STATUS_DATA,
                        "%s: %s is not phased, and %s judges haplotypes; leave it out of "
                        "--baselines or phase the data",
                        d->path, d->people[i].id, name);
    return STATUS_OK;
}

/* ---- stretches ---- */

static int by_entry(const void *a, const void *b)
{
    const stretch *x = a, *y = b;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return (x->count > y->count) - (x->count < y->count);
}

static int by_site(const void *a, const void *b)
{
    const stretch *x = a, *y = b;
    if (x->first_site != y->first_site)
        return x->first_site < y->first_site ? -1 : 1;
    return by_entry(a, b);
}

static stretch *find(const struct judged *j, int64_t first, int64_t count)
{
    const stretch wanted = {.first = first, .count = (int32_t)count};
    return j->n ? bsearch(&wanted, j->at, (size_t)j->n, sizeof wanted, by_entry) : NULL;
}

static stretch stretch_of(const window_set *w, int64_t i, int64_t from)
{
    const window *of = &w->at[i];
    const int64_t left = of->count - from;
    const int64_t count = left < STRETCH_ENTRIES ? left : STRETCH_ENTRIES;
    const int64_t first = of->first + from;
    const entry *e = w->d->entries;
    return (stretch){.first = first,
                     .count = (int32_t)count,
                     .person = of->person,
                     .chromosome = of->chromosome,
                     .hap = of->hap,
                     .block = w->block[i],
                     .first_site = e[draws_entry(w->x, first)].site,
                     .last_site = e[draws_entry(w->x, first + count - 1)].site};
}

/* The stretches of w that are not judged yet, each once, by first site. */
static status new_stretches(const struct judged *j, const window_set *w, stretch **out, int64_t *n)
{
    int64_t room = 0, kept = 0;
    for (int64_t i = 0; i < w->n; i++)
        room += (w->at[i].count + STRETCH_ENTRIES - 1) / STRETCH_ENTRIES;
    stretch *all = malloc((size_t)(room + 1) * sizeof *all);
    if (!all)
        return no_memory(w->d, room);
    for (int64_t i = 0; i < w->n; i++)
        for (int64_t from = 0; from < w->at[i].count; from += STRETCH_ENTRIES) {
            const stretch s = stretch_of(w, i, from);
            if (!find(j, s.first, s.count))
                all[kept++] = s;
        }
    qsort(all, (size_t)kept, sizeof *all, by_site);
    *n = 0;
    for (int64_t k = 0; k < kept; k++)
        if (k == 0 || by_entry(&all[k], &all[k - 1]) != 0)
            all[(*n)++] = all[k];
    *out = all;
    return STATUS_OK;
}

/* ---- units ---- */

/* Cuts the stretches (n, by first site) into units; room for n of them. */
static int64_t cut_units(const unit *like, const stretch *at, int64_t n, double *loglik, unit *out)
{
    int64_t units = 0;
    for (int64_t from = 0, to; from < n; from = to) {
        unit u = *like;
        u.at = at + from;
        u.loglik = loglik + from * like->p->classes;
        u.block = at[from].block;
        u.chromosome = at[from].chromosome;
        u.first_site = at[from].first_site;
        u.end_site = at[from].last_site + 1;
        for (to = from; to < n && at[to].block == u.block &&
                        at[to].first_site - u.first_site < like->p->unit_sites;
             to++)
            if (at[to].last_site >= u.end_site)
                u.end_site = at[to].last_site + 1;
        u.n = to - from;
        out[units++] = u;
    }
    return units;
}

static status run_unit(const unit *u)
{
    return u->kind == BASELINE_NGRAM       ? ngram_unit(u)
           : u->kind == BASELINE_PAIR      ? pair_unit(u)
           : u->kind == BASELINE_HAPLOTYPE ? haplotype_unit(u)
                                           : li_stephens_unit(u);
}

/* This rank's units; a failure of any thread is carried to this one. */
static status run_units(const panel *p, const comm *c, const unit *units, int64_t n)
{
    const int64_t rank = comm_rank(c), size = comm_size(c);
    failure first = {.code = STATUS_OK};
#pragma omp parallel for schedule(dynamic) num_threads(p->threads > 0 ? p->threads : 1)
    for (int64_t k = rank; k < n; k += size) {
        if (run_unit(&units[k]) == STATUS_OK)
            continue;
#pragma omp critical
        if (first.code == STATUS_OK)
            first = *failure_last();
    }
    return first.code == STATUS_OK ? STATUS_OK : failure_set(&first);
}

/* Adds stretches (n) and their scores to what is known, in the order of entries. */
static status remember(const panel *p, struct judged *j, const stretch *at, const double *loglik,
                       int64_t n)
{
    const size_t classes = (size_t)p->classes, total = (size_t)(j->n + n);
    typedef struct {
        stretch s;
        int64_t from;
    } keyed;
    keyed *all = malloc((total + 1) * sizeof *all);
    stretch *merged = malloc((total + 1) * sizeof *merged);
    double *scores = malloc((total * classes + 1) * sizeof *scores);
    if (!all || !merged || !scores) {
        free(all);
        free(merged);
        free(scores);
        return no_memory(p->d, (int64_t)total);
    }
    for (int64_t k = 0; k < j->n; k++)
        all[k] = (keyed){j->at[k], k};
    for (int64_t k = 0; k < n; k++)
        all[j->n + k] = (keyed){at[k], j->n + k};
    qsort(all, total, sizeof *all, by_entry); /* the stretch is the first member */
    for (size_t k = 0; k < total; k++) {
        const int64_t from = all[k].from;
        merged[k] = all[k].s;
        memcpy(scores + k * classes,
               from < j->n ? j->loglik + from * (int64_t)classes
                           : loglik + (from - j->n) * (int64_t)classes,
               classes * sizeof *scores);
    }
    free(all);
    free(j->at);
    free(j->loglik);
    j->at = merged;
    j->loglik = scores;
    j->n = (int64_t)total;
    return STATUS_OK;
}

/* Sites that anybody judged has a call at, NULL where all do. */
static status read_sites(const dataset *d, const stretch *at, int64_t n, uint64_t **out)
{
    *out = NULL;
    if (!d->missing_run_of || d->missing_run_of[d->n_people * d->n_chromosomes] == 0)
        return STATUS_OK;
    *out = calloc((size_t)d->n_sites / 64 + 1, sizeof **out);
    if (!*out)
        return no_memory(d, n);
    for (int64_t k = 0; k < n; k++)
        stretch_read_sites(d, &at[k], *out);
    return STATUS_OK;
}

static status judge_new(panel *p, comm *c, baseline_kind kind, const window_set *w)
{
    struct judged *j = &p->judged[kind];
    stretch *fresh = NULL;
    double *loglik = NULL;
    unit *units = NULL;
    uint64_t *read = NULL;
    int64_t n = 0;
    status st = new_stretches(j, w, &fresh, &n);
    if (st == STATUS_OK) {
        loglik = calloc((size_t)(n * p->classes) + 1, sizeof *loglik);
        units = malloc((size_t)(n + 1) * sizeof *units);
        if (!loglik || !units)
            st = no_memory(w->d, n);
    }
    if (st == STATUS_OK)
        st = read_sites(w->d, fresh, n, &read);
    if (st == STATUS_OK) {
        const unit like = {.p = p, .d = w->d, .kind = kind, .read = read};
        st = run_units(p, c, units, cut_units(&like, fresh, n, loglik, units));
    }
    TRY_GOTO(done, comm_agree(c, st));
    /* Every score is zero but on the rank that made it: sums are exact. */
    TRY_GOTO(done, comm_sum_f64(c, loglik, n * p->classes));
    st = comm_agree(c, remember(p, j, fresh, loglik, n));

done:
    free(fresh);
    free(loglik);
    free(units);
    free(read);
    return st;
}

status panel_scores(panel *p, comm *c, baseline_kind kind, const window_set *w, double *loglik)
{
    struct judged *j = &p->judged[kind];
    if (j->x != w->x) { /* other people's entries under the same numbers */
        free(j->at);
        free(j->loglik);
        *j = (struct judged){.x = w->x};
    }
    TRY(judge_new(p, c, kind, w));
    for (int64_t i = 0; i < w->n; i++) {
        double *row = loglik + i * p->classes;
        memset(row, 0, (size_t)p->classes * sizeof *row);
        for (int64_t from = 0; from < w->at[i].count; from += STRETCH_ENTRIES) {
            const int64_t left = w->at[i].count - from;
            const stretch *s =
                find(j, w->at[i].first + from, left < STRETCH_ENTRIES ? left : STRETCH_ENTRIES);
            for (int k = 0; k < p->classes; k++)
                row[k] += j->loglik[(s - j->at) * p->classes + k];
        }
    }
    return STATUS_OK;
}

status baseline_panel(panel *p, comm *c, baseline_kind kind, const window_set *valid,
                      const window_set *test, double *logp, double *temperature)
{
    const size_t cells = (size_t)(valid->n * p->classes) + 1;
    double *known = malloc(2 * cells * sizeof *known);
    status st = comm_agree(c, known ? STATUS_OK : no_memory(valid->d, valid->n));
    *temperature = 1;
    if (st == STATUS_OK)
        st = panel_scores(p, c, kind, valid, known);
    if (st == STATUS_OK)
        st = panel_scores(p, c, kind, test, logp);
    if (st == STATUS_OK) {
        if (valid->n > 0)
            *temperature =
                temperature_fit(known, valid->label, valid->n, p->classes, known + cells);
        for (int64_t k = 0; k < test->n * p->classes; k++)
            logp[k] /= *temperature;
        log_softmax(logp, test->n, p->classes);
    }
    free(known);
    return st;
}
