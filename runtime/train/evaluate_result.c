/* From log-probabilities to numbers: accuracies, their intervals, calibration and paired
 * differences of one context. */
#include "runtime/train/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Hits and windows of each person and each block, as the bootstrap wants them. */
typedef struct {
    double *person_hits, *person_windows; /* (n_people) */
    double *block_hits, *block_windows;   /* (n_blocks) */
    double *right, *present;              /* (n_people) 0 or 1 */
} group_sums;

static status group_sums_open(const dataset *d, group_sums *g)
{
    const size_t people = (size_t)d->n_people + 1, blocks = (size_t)d->n_blocks + 1;
    g->person_hits = calloc(people * 4 + blocks * 2, sizeof(double));
    if (!g->person_hits)
        return fail(STATUS_MEMORY, "%s: no memory for sums over %lld people; use a node with more",
                    d->path, (long long)d->n_people);
    g->person_windows = g->person_hits + people;
    g->right = g->person_windows + people;
    g->present = g->right + people;
    g->block_hits = g->present + people;
    g->block_windows = g->block_hits + blocks;
    return STATUS_OK;
}

static void sum_hits(const context_result *r, const method_result *m, const dataset *d,
                     group_sums *g)
{
    memset(g->person_hits, 0,
           (((size_t)d->n_people + 1) * 4 + ((size_t)d->n_blocks + 1) * 2) * sizeof(double));
    const window_set *w = &r->windows;
    for (int64_t i = 0; i < w->n; i++) {
        const double hit = m->predicted[i] == w->label[i];
        g->person_hits[w->at[i].person] += hit;
        g->person_windows[w->at[i].person] += 1;
        g->block_hits[w->block[i]] += hit;
        g->block_windows[w->block[i]] += 1;
    }
}

int64_t person_probabilities(const context_result *r, const method_result *m, int classes,
                             int32_t person, double *p)
{
    const window_set *w = &r->windows;
    int64_t low = 0, high = w->n, n = 0;
    while (low < high) { /* windows are in the order of people */
        const int64_t middle = (low + high) / 2;
        if (w->at[middle].person < person)
            low = middle + 1;
        else
            high = middle;
    }
    memset(p, 0, (size_t)classes * sizeof *p);
    for (int64_t i = low; i < w->n && w->at[i].person == person; i++, n++)
        for (int c = 0; c < classes; c++)
            p[c] += exp(m->logp[i * classes + c]);
    for (int c = 0; n > 0 && c < classes; c++)
        p[c] /= (double)n;
    return n;
}

static void judge_people(const context_result *r, method_result *m, const dataset *d, int classes,
                         double *p, group_sums *g)
{
    int64_t right = 0, n = 0;
    for (int64_t i = 0; i < d->n_people; i++) {
        if (g->person_windows[i] == 0)
            continue;
        person_probabilities(r, m, classes, (int32_t)i, p);
        g->present[i] = 1;
        g->right[i] = best_class(p, classes) == d->people[i].label;
        right += g->right[i] > 0;
        n++;
    }
    m->accuracy_person = n ? (double)right / (double)n : NAN;
}

static status summarise_method(const evaluation *e, context_result *r, method_result *m,
                               group_sums *g, double *p)
{
    const window_set *w = &r->windows;
    const dataset *d = e->d;
    for (int64_t i = 0; i < w->n; i++)
        m->predicted[i] = best_class(m->logp + i * e->classes, e->classes);
    confusion_count(w->label, m->predicted, w->n, e->classes, m->confusion);
    m->accuracy = accuracy_of(m->confusion, e->classes);
    m->balanced_accuracy = balanced_accuracy_of(m->confusion, e->classes);
    m->log_loss = log_loss_of(m->logp, w->label, w->n, e->classes);
    m->ece = ece_of(m->logp, w->label, w->n, e->classes, ECE_BINS);
    calibration_bins(m->logp, w->label, w->n, e->classes, ECE_BINS, m->bin_count, m->bin_hits,
                     m->bin_confidence);
    sum_hits(r, m, d, g);
    judge_people(r, m, d, e->classes, p, g);
    TRY(bootstrap_ratio(g->person_hits, g->person_windows, d->n_people, e->o.rounds, e->o.seed,
                        RESAMPLE_PEOPLE, &m->ci_people));
    TRY(bootstrap_ratio(g->block_hits, g->block_windows, d->n_blocks, e->o.rounds, e->o.seed,
                        RESAMPLE_BLOCKS, &m->ci_blocks));
    return bootstrap_ratio(g->right, g->present, d->n_people, e->o.rounds, e->o.seed,
                           RESAMPLE_PEOPLE, &m->ci_person);
}

/* Method 0 is the model: its hits minus each other method's, person by person. */
static status compare(const evaluation *e, context_result *r, group_sums *g)
{
    const window_set *w = &r->windows;
    const method_result *a = &r->method[0];
    for (int k = 1; k < r->n_methods; k++) {
        const method_result *b = &r->method[k];
        memset(g->person_hits, 0, (size_t)e->d->n_people * sizeof(double));
        memset(g->person_windows, 0, (size_t)e->d->n_people * sizeof(double));
        memset(g->block_hits, 0, (size_t)e->d->n_blocks * sizeof(double));
        memset(g->block_windows, 0, (size_t)e->d->n_blocks * sizeof(double));
        for (int64_t i = 0; i < w->n; i++) {
            const int gain = (a->predicted[i] == w->label[i]) - (b->predicted[i] == w->label[i]);
            g->person_hits[w->at[i].person] += gain;
            g->person_windows[w->at[i].person] += 1;
            g->block_hits[w->block[i]] += gain;
            g->block_windows[w->block[i]] += 1;
        }
        r->paired[r->n_paired].other = k;
        r->paired[r->n_paired].difference = a->accuracy - b->accuracy;
        TRY(bootstrap_ratio(g->person_hits, g->person_windows, e->d->n_people, e->o.rounds,
                            e->o.seed, RESAMPLE_PEOPLE, &r->paired[r->n_paired].ci_people));
        TRY(bootstrap_ratio(g->block_hits, g->block_windows, e->d->n_blocks, e->o.rounds, e->o.seed,
                            RESAMPLE_BLOCKS, &r->paired[r->n_paired].ci_blocks));
        r->n_paired++;
    }
    return STATUS_OK;
}

status context_summarise(const evaluation *e, context_result *r)
{
    group_sums g = {0};
    double *p = malloc(((size_t)e->classes + 1) * sizeof *p);
    status st = STATUS_OK;
    if (!p) {
        st = fail(STATUS_MEMORY, "%s: no memory for %d classes; use a node with more", e->d->path,
                  e->classes);
        goto done;
    }
    TRY_GOTO(done, group_sums_open(e->d, &g));
    r->n_people = window_set_people(&r->windows);
    r->median_span_bp = window_set_median_span_bp(&r->windows);
    for (int k = 0; k < r->n_methods; k++)
        TRY_GOTO(done, summarise_method(e, r, &r->method[k], &g, p));
    if (r->n_methods > 0 && !strcmp(r->method[0].method, "model"))
        st = compare(e, r, &g);

done:
    free(g.person_hits);
    free(p);
    return st;
}

const method_result *reported_method(const context_result *r)
{
    if (r->n_methods == 0)
        return NULL;
    if (!strcmp(r->method[0].method, "model"))
        return &r->method[0];
    const method_result *best = NULL;
    for (int k = 0; k < r->n_methods; k++) {
        if (!strcmp(r->method[k].method, "logistic"))
            return &r->method[k];
        /* One that saw phase stands for the others only where all did. */
        const method_result *m = &r->method[k];
        if (!best || m->phased < best->phased ||
            (m->phased == best->phased && m->log_loss < best->log_loss))
            best = m;
    }
    return best;
}
