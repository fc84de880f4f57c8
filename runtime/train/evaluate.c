/* The course of an evaluation: open the data, cut windows, let every method judge them, sum up. */
#include "runtime/train/evaluate_combine.h"
#include "runtime/train/evaluate_sequences.h"

#include "runtime/core/log.h"
#include "runtime/train/lookup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const split_names[] = {"train", "valid", "test"};

/* What windows are of: a model of both haplotypes judges windows of the union. */
static alleles_kind window_alleles(const evaluation *e)
{
    return e->data.alleles == ALLELES_HAPLOTYPE ? ALLELES_HAPLOTYPE : ALLELES_UNION;
}

static status check_people(evaluation *e)
{
    int64_t labelled[3] = {0};
    for (int64_t i = 0; i < e->d->n_people; i++)
        if (e->d->people[i].label >= 0 && e->d->people[i].split != SPLIT_NONE) {
            labelled[e->d->people[i].split]++;
            e->people_of_split[e->d->people[i].split]++;
        }
    e->classes = (int)e->d->n_labels;
    if (e->d->n_labels < 2)
        return fail(
            STATUS_DATA,
            "%s: its people have %lld label%s, a classifier needs two at least; import it with a "
            "sample map (-m) of two labels or more",
            e->o.data, (long long)e->d->n_labels, e->d->n_labels == 1 ? "" : "s");
    if (labelled[e->o.split] == 0)
        return fail(STATUS_DATA,
                    "%s: nobody with a label is in the %s split; choose another --split or import "
                    "with other shares",
                    e->o.data, split_names[e->o.split]);
    if (labelled[SPLIT_TRAIN] == 0)
        return fail(STATUS_DATA,
                    "%s: nobody with a label is in the train split: no baseline can be fitted; "
                    "import with other shares",
                    e->o.data);
    return STATUS_OK;
}

/* Regions, missing calls and wrong genotypes, before windows are cut. */
static status alter_people(evaluation *e)
{
    const evaluate_options *o = &e->o;
    const bool cut = (o->where && o->where->count > 0) || (o->exclude && o->exclude->count > 0);
    if (!cut && o->missing <= 0 && o->wrong <= 0)
        return STATUS_OK;
    if (o->split == SPLIT_TRAIN)
        return fail(STATUS_USAGE,
                    "--split train: the simple methods are fitted on these people, who cannot be "
                    "changed; judge valid or test with -r, --missing or --wrong");
    const alteration a = {o->split, o->where, o->exclude, o->missing, o->wrong, o->seed};
    TRY(dataset_alter(e->d, &a, &e->altered));
    log_note("%s people changed: %lld of %lld sites judged, %lld of these without a call, %lld "
             "genotypes wrong",
             split_names[o->split], (long long)e->altered.judged_sites, (long long)e->d->n_sites,
             (long long)e->altered.missing_sites,
             (long long)(e->altered.wrong_carried + e->altered.wrong_absent));
    return STATUS_OK;
}

static status open_all(evaluation *e, comm *c)
{
    TRY(dataset_open(e->o.data, c, &e->d));
    if (strcmp(e->o.model, "none") != 0)
        TRY(comm_agree(
            c, evaluate_model_open(e->o.model, e->d, c, e->o.device, e->o.threads, &e->model)));
    TRY(comm_agree(c,
                   window_set_config(e->model ? evaluate_model_config(e->model) : NULL, &e->data)));
    if (e->model) { /* the simple methods learn from the same people */
        const config *of = evaluate_model_config(e->model);
        evaluate_model_pieces(e->model, e->o.piece);
        TRY(comm_agree(c, dataset_take(e->d, of->data.train_people, (uint64_t)of->seed)));
    }
    TRY(check_people(e));
    TRY(dataset_block(e->d, e->data.max_gap));
    TRY(comm_agree(c, alter_people(e)));
    TRY(comm_agree(c, draws_check_phase(e->d, &e->data)));
    config_data cut = e->data;
    cut.alleles = window_alleles(e);
    return comm_agree(c, draws_open(e->d, &cut, e->o.seed, &e->x));
}

status evaluate_method(evaluation *e, context_result *r, const char *name, method_result **out)
{
    method_result *m = &r->method[r->n_methods];
    const size_t n = (size_t)r->windows.n, classes = (size_t)e->classes;
    *m = (method_result){.method = name,
                         .phased = window_alleles(e) == ALLELES_HAPLOTYPE,
                         .l2 = NAN,
                         .temperature = NAN,
                         .weight = NAN,
                         .calibrated = {NAN, NAN, NAN}};
    m->logp = calloc(n * classes + 1, sizeof *m->logp);
    m->predicted = calloc(n + 1, sizeof *m->predicted);
    m->confusion = calloc(classes * classes, sizeof *m->confusion);
    r->n_methods++;
    if (!m->logp || !m->predicted || !m->confusion)
        return fail(STATUS_MEMORY, "%s: no memory for %lld windows; evaluate longer contexts",
                    e->o.data, (long long)n);
    *out = m;
    return STATUS_OK;
}

static bool reads_panel(baseline_kind kind)
{
    return kind == BASELINE_NGRAM || kind == BASELINE_PAIR || baseline_phased(kind);
}

/* The temperature is chosen on validation windows of the same length. */
static status run_panel(evaluation *e, context_result *r, panel *p, baseline_kind kind, comm *c,
                        method_result *m)
{
    window_set valid = {0};
    const int64_t n = r->windows.context;
    status st = comm_agree(c, window_set_tile(e->d, e->x, SPLIT_VALID, n, n, &valid));
    if (st == STATUS_OK) {
        const double start = clock_monotonic_s();
        st = baseline_panel(p, c, kind, &valid, &r->windows, m->logp, &m->temperature);
        log_note("%lld SNPs: %s in %.1f s, temperature %.2f", (long long)n, m->method,
                 clock_monotonic_s() - start, m->temperature);
    }
    window_set_free(&valid);
    return st;
}

/* Before hours of other methods: can those that read the panel judge these people? */
static status panel_for(const evaluation *e, panel **out)
{
    bool any = false;
    for (int k = 0; k < BASELINE_KINDS; k++)
        any = any || (e->o.baselines[k] && reads_panel((baseline_kind)k));
    if (!any)
        return STATUS_OK;
    TRY(panel_open(e->d, window_alleles(e), e->o.seed, e->o.threads, out));
    for (int k = 0; k < BASELINE_KINDS; k++)
        if (e->o.baselines[k] && reads_panel((baseline_kind)k))
            TRY(panel_check(*out, (baseline_kind)k, e->o.split));
    return STATUS_OK;
}

/* Training windows at every half length, as logistic regression and the density want them. */
static status fit_baseline(evaluation *e, context_result *r, const site_counts *counts,
                           baseline_kind kind, comm *c, method_result *m)
{
    window_set train = {0}, valid = {0};
    const int64_t n = r->windows.context;
    status st = STATUS_OK;
    if (kind == BASELINE_MAJORITY)
        baseline_majority(counts, &r->windows, m->logp);
    if (kind == BASELINE_NB)
        return baseline_nb(counts, &r->windows, m->logp);
    if (kind == BASELINE_NB_ABSENT)
        return baseline_nb_absent(counts, &r->windows, m->logp);
    if (kind != BASELINE_DENSITY && kind != BASELINE_LOGISTIC)
        return STATUS_OK;

    TRY_GOTO(done, window_set_tile(e->d, e->x, SPLIT_TRAIN, n, n > 1 ? n / 2 : 1, &train));
    if (kind == BASELINE_DENSITY) {
        st = baseline_density(&train, &r->windows, e->classes, m->logp);
        goto done;
    }
    TRY_GOTO(done, window_set_tile(e->d, e->x, SPLIT_VALID, n, n, &valid));
    log_note("%lld SNPs: fitting logistic regression on %lld windows", (long long)n,
             (long long)train.n);
    const logistic_options o = {.classes = e->classes, .threads = e->o.threads, .seed = e->o.seed};
    st = baseline_logistic(&o, c, &train, &valid, &r->windows, m->logp, &m->l2);

done:
    window_set_free(&train);
    window_set_free(&valid);
    return st;
}

/* Both were judged alone before; panel_scores remembers what the pair has judged. */
static status run_combined(evaluation *e, context_result *r, panel *p, comm *c,
                           const validation_judged *v)
{
    method_result *m = NULL;
    TRY(comm_agree(c, evaluate_method(e, r, "model+pair", &m)));
    TRY(evaluate_combine(p, c, v, &r->windows, r->method[0].logp, m->logp, &m->temperature,
                         &m->weight));
    log_note("%lld SNPs: model and pair together, weight of the pair %.3f, temperature %.2f",
             (long long)r->windows.context, m->weight, m->temperature);
    return STATUS_OK;
}

/* What the model's answers need of validation people: its own temperature, and its weight beside
 * the pair. */
static status run_validated(evaluation *e, context_result *r, panel *p, comm *c)
{
    validation_judged v;
    status st = validation_judge(e, c, r->windows.context, &v);
    if (st == STATUS_OK)
        st = comm_agree(c, evaluate_calibrate(&v, &r->windows, e->classes, &r->method[0]));
    if (st == STATUS_OK && e->o.baselines[BASELINE_PAIR])
        st = run_combined(e, r, p, c, &v);
    validation_free(&v);
    return st;
}

static status run_context(evaluation *e, const site_counts *counts, panel *p, comm *c,
                          context_result *r)
{
    method_result *m = NULL;
    if (e->model && evaluate_model_classifies(e->model)) {
        TRY(comm_agree(c, evaluate_method(e, r, "model", &m)));
        m->phased = e->data.alleles != ALLELES_UNION;
        TRY(evaluate_model_classes(e->model, &r->windows, c, m->logp));
    }
    for (int k = 0; k < BASELINE_KINDS; k++) {
        if (!e->o.baselines[k] || k == BASELINE_LOOKUP)
            continue;
        TRY(comm_agree(c, evaluate_method(e, r, baseline_name((baseline_kind)k), &m)));
        m->phased = m->phased || baseline_phased((baseline_kind)k);
        const status st = reads_panel((baseline_kind)k)
                              ? run_panel(e, r, p, (baseline_kind)k, c, m)
                              : fit_baseline(e, r, counts, (baseline_kind)k, c, m);
        TRY(comm_agree(c, st));
    }
    if (e->model && evaluate_model_classifies(e->model))
        TRY(comm_agree(c, run_validated(e, r, p, c)));
    TRY(comm_agree(c, context_summarise(e, r)));
    log_note("%lld SNPs: %lld windows of %lld people judged by %d method%s",
             (long long)r->windows.context, (long long)r->windows.n, (long long)r->n_people,
             r->n_methods, r->n_methods == 1 ? "" : "s");
    return STATUS_OK;
}

static status stop_requested(const evaluation *e)
{
    if (!e->o.stop || !e->o.stop())
        return STATUS_OK;
    return fail(STATUS_STOPPED, "%s: its evaluation was stopped on request; run it again",
                e->o.model);
}

/* A context that nobody's blocks are long enough for is left out, unless the user named it and
 * nothing is left. */
static status run_contexts(evaluation *e, const site_counts *counts, panel *p, comm *c)
{
    for (int k = 0; k < e->o.n_contexts; k++) {
        context_result *r = &e->context[e->n_contexts];
        const int64_t n = e->o.contexts[k];
        TRY(comm_agree(c, stop_requested(e)));
        TRY(comm_agree(c, window_set_tile(e->d, e->x, e->o.split, n,
                                          e->o.stride > 0 ? e->o.stride : n, &r->windows)));
        if (r->windows.n == 0) {
            window_set_free(&r->windows);
            log_warning("%s: no person of the %s split carries %lld sites in a row without a gap; "
                        "context %lld is left out",
                        e->o.data, split_names[e->o.split], (long long)n, (long long)n);
            continue;
        }
        e->n_contexts++;
        TRY(run_context(e, counts, p, c, r));
    }
    if (e->n_contexts == 0)
        return fail(STATUS_DATA,
                    "%s: no window of any context fits; ask for shorter ones with --context",
                    e->o.data);
    return STATUS_OK;
}

/* The context that tables and perplexity are for: the one the model was trained on, else the
 * shortest. */
static int choose_main_context(const evaluation *e)
{
    int best = 0;
    for (int k = 0; k < e->n_contexts; k++) {
        if (e->model &&
            e->context[k].windows.context == evaluate_model_config(e->model)->data.seq_len)
            return k;
        if (e->context[k].windows.context < e->context[best].windows.context)
            best = k;
    }
    return best;
}

/* Perplexity of the look-up on the windows of one context. */
static status lookup_perplexity(const evaluation *e, const window_set *w, int64_t alpha,
                                rows_kind rows, objective_kind objective, double *perplexity)
{
    lookup *l = NULL;
    uint8_t *ids = malloc((size_t)w->context);
    int32_t *sites = malloc((size_t)w->context * sizeof *sites);
    status st = STATUS_OK;
    if (!ids || !sites) {
        st = fail(STATUS_MEMORY, "%s: no memory for a window; ask for shorter ones with --context",
                  e->o.data);
        goto done;
    }
    TRY_GOTO(done, lookup_open(e->d, window_alleles(e), alpha, rows, objective, &l));
    double loss = 0;
    int64_t targets = 0;
    for (int64_t i = 0; i < w->n; i++) {
        draws_fill(e->x, &w->at[i], ids, NULL, sites);
        loss += lookup_window(l, ids, sites, w->at[i].count);
        targets += w->at[i].count - 1;
    }
    *perplexity = targets ? exp(loss / (double)targets) : NAN;

done:
    lookup_close(&l);
    free(ids);
    free(sites);
    return st;
}

static status run_lookups(evaluation *e, const window_set *w, perplexity_result *p)
{
    const int64_t alphas[LOOKUP_ALPHAS] = {1, 10, 100, 1000};
    const rows_kind rows =
        e->model ? evaluate_model_config(e->model)->position.rows : ROWS_CHROMOSOME;
    TRY(lookup_perplexity(e, w, p->alpha, rows, OBJECTIVE_AUTOREGRESSIVE,
                          &p->lookup_autoregressive));
    TRY(lookup_perplexity(e, w, p->alpha, rows, OBJECTIVE_POSITION_CONDITIONED,
                          &p->lookup_position));
    for (int k = 0; !e->model && k < LOOKUP_ALPHAS; k++) {
        p->by_alpha[k] = alphas[k];
        TRY(lookup_perplexity(e, w, alphas[k], rows, OBJECTIVE_AUTOREGRESSIVE,
                              &p->lookup_by_alpha[k][0]));
        TRY(lookup_perplexity(e, w, alphas[k], rows, OBJECTIVE_POSITION_CONDITIONED,
                              &p->lookup_by_alpha[k][1]));
        p->n_alphas = k + 1;
    }
    return STATUS_OK;
}

/* Sites that the next-site objective foretells: behind a window's first carried site up to its
 * last, those with a call of the person. */
static int64_t called_sites(const window_set *w)
{
    const dataset *d = w->d;
    int64_t sites = 0;
    for (int64_t i = 0; i < w->n; i++) {
        const int64_t run = (int64_t)w->at[i].person * d->n_chromosomes + w->at[i].chromosome;
        const int64_t from = w->first_site[i] + 1, to = w->last_site[i] + 1;
        sites += to - from;
        for (int64_t k = d->missing_run_of[run]; k < d->missing_run_of[run + 1]; k++) {
            const int64_t a = d->missing[k].first, b = a + d->missing[k].count;
            const int64_t low = a > from ? a : from, high = b < to ? b : to;
            sites -= high > low ? high - low : 0;
        }
    }
    return sites;
}

/* Single sites, by a site head; one that knows labels has its next-site perplexity from them. */
static status run_sites(evaluation *e, comm *c)
{
    perplexity_result *p = &e->perplexity;
    const site_calibration *s = &e->sites;
    int64_t carried = 0;
    if (!e->model || !evaluate_model_knows_sites(e->model))
        return STATUS_OK;
    TRY(evaluate_model_sites(e->model, &e->context[e->main_context].windows, c, &e->sites));
    if (!evaluate_model_classifies(e->model))
        return STATUS_OK;
    for (int b = 0; b < SITE_BINS; b++)
        carried += s->carried[b];
    p->targets = carried;
    p->next_site = exp(s->nll / (double)carried);
    p->next_site_nats_per_site = s->nll / (double)site_calibration_sites(s);
    return STATUS_OK;
}

/* Of the rows that a model sees: the look-up beside it may see as much. */
static int64_t finest_alpha(const config *c)
{
    return c->position.encoding == ENCODING_FPE_MULTI ? 1 : c->position.alpha;
}

static status run_perplexity(evaluation *e, comm *c)
{
    const context_result *r = &e->context[e->main_context];
    perplexity_result *p = &e->perplexity;
    *p = (perplexity_result){.context = r->windows.context,
                             .n_people = r->n_people,
                             .n_windows = r->windows.n,
                             .targets = r->windows.n * (r->windows.context - 1),
                             .alpha = e->model ? finest_alpha(evaluate_model_config(e->model)) : 1,
                             .autoregressive = NAN,
                             .position_conditioned = NAN,
                             .lookup_autoregressive = NAN,
                             .lookup_position = NAN,
                             .next_site = NAN,
                             .next_site_nats_per_site = NAN};
    if (e->o.baselines[BASELINE_LOOKUP])
        TRY(comm_agree(c, run_lookups(e, &r->windows, p)));
    if (!e->model || !evaluate_model_predicts(e->model))
        return STATUS_OK;
    double loss = 0;
    int64_t targets = 0;
    TRY(evaluate_model_loss(e->model, &r->windows, c, &loss, &targets));
    if (evaluate_model_config(e->model)->objective == OBJECTIVE_NEXT_SITE) {
        const int64_t sites = called_sites(&r->windows);
        p->next_site = p->targets ? exp(loss / (double)p->targets) : NAN;
        p->next_site_nats_per_site = sites ? loss / (double)sites : NAN;
        return STATUS_OK;
    }
    const double perplexity = targets ? exp(loss / (double)targets) : NAN;
    p->targets = targets;
    if (evaluate_model_config(e->model)->objective == OBJECTIVE_POSITION_CONDITIONED)
        p->position_conditioned = perplexity;
    else
        p->autoregressive = perplexity;
    return STATUS_OK;
}

status evaluate_run(const evaluate_options *o, comm *c, evaluation **out)
{
    site_counts counts = {0};
    panel *p = NULL;
    const double start = clock_monotonic_s();
    evaluation *e = *out = calloc(1, sizeof *e);
    status st = STATUS_OK;
    if (!e)
        st = fail(STATUS_MEMORY, "%s: no memory for an evaluation; close other programs", o->data);
    TRY(comm_agree(c, st));
    e->o = *o;
    TRY(sequences_open(o->data, c, &e->set));
    if (e->set) {
        TRY(evaluate_sequences(e, c));
        e->main_context = choose_main_context(e);
        e->seconds = clock_monotonic_s() - start;
        return STATUS_OK;
    }
    TRY(open_all(e, c));
    TRY_GOTO(done, comm_agree(c, site_counts_open(e->d, window_alleles(e), &counts)));
    TRY_GOTO(done, comm_agree(c, panel_for(e, &p)));
    TRY_GOTO(done, run_contexts(e, &counts, p, c));
    e->main_context = choose_main_context(e);
    TRY_GOTO(done, comm_agree(c, stop_requested(e)));
    TRY_GOTO(done, run_perplexity(e, c));
    TRY_GOTO(done, run_sites(e, c));
    e->seconds = clock_monotonic_s() - start;

done:
    panel_close(&p);
    site_counts_free(&counts);
    return st;
}

void evaluate_close(evaluation **out)
{
    evaluation *e = *out;
    if (!e)
        return;
    for (int k = 0; k < EVALUATE_CONTEXTS; k++) {
        for (int m = 0; m < e->context[k].n_methods; m++) {
            free(e->context[k].method[m].logp);
            free(e->context[k].method[m].predicted);
            free(e->context[k].method[m].confusion);
        }
        window_set_free(&e->context[k].windows);
        next_base_close(&e->context[k].base_sums);
    }
    evaluate_model_close(&e->model);
    draws_close(&e->x);
    dataset_close(&e->d);
    sequences_close(&e->set);
    free(e);
    *out = NULL;
}
