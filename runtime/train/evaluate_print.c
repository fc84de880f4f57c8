/* What a person reads of an evaluation: one table, the paired differences in words, the
 * perplexities. */
#include "runtime/train/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool one_block(const window_set *w)
{
    for (int64_t i = 1; i < w->n; i++)
        if (w->block[i] != w->block[0])
            return false;
    return true;
}

/* What windows are made of, and whose they are. */
static const char *tokens_word(const evaluation *e)
{
    return e->set ? "bases" : "SNPs";
}

static const char *people_word(const evaluation *e)
{
    return e->set ? "sequences" : "people";
}

/* One person or one block drawn again and again is no interval. */
static void print_interval(FILE *to, interval ci, const char *alone)
{
    if (!alone && !isfinite(ci.low))
        alone = "-";
    if (alone)
        fprintf(to, " %-16s", alone);
    else
        fprintf(to, " [%6.2f, %6.2f]", 100 * ci.low, 100 * ci.high);
}

static void print_context(const evaluation *e, const context_result *r, FILE *to)
{
    fprintf(to, "\n%lld %s: %lld windows of %lld %s, median span %.1f kb\n",
            (long long)r->windows.context, tokens_word(e), (long long)r->windows.n,
            (long long)r->n_people, people_word(e), r->median_span_bp / 1000);
    fprintf(to, "  %-12s %8s  %-16s %-16s %8s %8s %6s %8s  %-16s\n", "method", "accuracy",
            e->set ? "95% over seqs" : "95% over people", "95% over blocks", "balanced", "log loss",
            "ECE", people_word(e), "95%");
    const char *person = r->n_people < 2 ? (e->set ? "one sequence" : "one person") : NULL;
    const char *block = one_block(&r->windows) ? "one block" : NULL;
    bool all_phased = true, any_phased = false;
    for (int k = 0; k < r->n_methods; k++) {
        all_phased = all_phased && r->method[k].phased;
        any_phased = any_phased || r->method[k].phased;
    }
    for (int k = 0; k < r->n_methods; k++) {
        const method_result *m = &r->method[k];
        fprintf(to, "  %-11s%s %7.2f%% ", m->method, m->phased && !all_phased ? "*" : " ",
                100 * m->accuracy);
        print_interval(to, m->ci_people, person);
        print_interval(to, m->ci_blocks, block);
        fprintf(to, "  %7.2f%% %8.3f %6.3f %7.2f%% ", 100 * m->balanced_accuracy, m->log_loss,
                m->ece, 100 * m->accuracy_person);
        print_interval(to, m->ci_person, person);
        fprintf(to, "\n");
    }
    for (int k = 0; k < r->n_methods; k++)
        if (isfinite(r->method[k].calibrated.temperature))
            fprintf(to,
                    "  %s at the temperature of validation people, %.3f: log loss %.3f, ECE %.3f\n",
                    r->method[k].method, r->method[k].calibrated.temperature,
                    r->method[k].calibrated.log_loss, r->method[k].calibrated.ece);
    if (any_phased && !all_phased)
        fprintf(to, "  * reads the two haplotypes apart: phased people only, not to be ranked with "
                    "the others\n");
}

/* Won, lost or undecided, by the interval of the paired difference. */
static void print_paired(const evaluation *e, const context_result *r, FILE *to)
{
    for (int k = 0; k < r->n_paired; k++) {
        const interval ci = e->set ? r->paired[k].ci_blocks : r->paired[k].ci_people;
        const method_result *other = &r->method[r->paired[k].other];
        if (r->n_people < 2 && !e->set) { /* one person drawn again and again is no interval */
            fprintf(to,
                    "  at %lld SNPs nothing can be said of the model and %s: %lld window%s of one "
                    "person\n",
                    (long long)r->windows.context, other->method, (long long)r->windows.n,
                    r->windows.n == 1 ? "" : "s");
            continue;
        }
        const char *verdict = ci.low > 0    ? "the model is better than"
                              : ci.high < 0 ? "the model LOST to"
                                            : "no clear difference between the model and";
        fprintf(to, "  at %lld %s %s %s%s: %+.2f points [%+.2f, %+.2f], %lld windows of %lld %s\n",
                (long long)r->windows.context, tokens_word(e), verdict, other->method,
                other->phased && !r->method[0].phased ? " (phased)" : "",
                100 * r->paired[k].difference, 100 * ci.low, 100 * ci.high, (long long)r->windows.n,
                (long long)r->n_people, people_word(e));
    }
}

/* The reported method's people by population, and the labels it confuses where there are many. */
static void print_groups(const evaluation *e, const context_result *r, FILE *to)
{
    const method_result *m = reported_method(r);
    group_result *g = NULL;
    confused_pair pairs[CONFUSED_PAIRS];
    int64_t n = 0;
    if (!m)
        return;
    for (group_kind kind = e->set ? GROUP_POPULATION : GROUP_SUPERPOPULATION;;
         kind = GROUP_POPULATION) {
        if (groups_judge(e, r, m, kind, &g, &n) != STATUS_OK)
            return;
        if (n > 1)
            fprintf(to, "\n%s at %lld %s by %s (accuracy, 95%% over %s, %s)\n", m->method,
                    (long long)r->windows.context, tokens_word(e),
                    e->set                     ? "label"
                    : kind == GROUP_POPULATION ? "population"
                                               : "superpopulation",
                    e->set ? "blocks" : "people", people_word(e));
        for (int64_t k = 0; n > 1 && k < n; k++) {
            fprintf(to, "  %-10s %7.2f%% ", g[k].name, 100 * g[k].accuracy);
            if (e->set)
                print_interval(to, g[k].ci_blocks, NULL);
            else
                print_interval(to, g[k].ci_people, g[k].n_people < 2 ? "one person" : NULL);
            fprintf(to, " %6lld\n", (long long)g[k].n_people);
        }
        free(g);
        if (kind == GROUP_POPULATION)
            break;
    }
    if (e->classes <= 3)
        return;
    const int confused = confused_pairs(m, e->classes, pairs);
    if (confused > 0)
        fprintf(to, "\nlabels taken for each other most (share of the windows of both)\n");
    for (int k = 0; k < confused; k++)
        fprintf(to, "  %s and %s: %.2f%% (%lld windows one way, %lld the other)\n",
                e->d->labels[pairs[k].a], e->d->labels[pairs[k].b], 100 * pairs[k].share,
                (long long)pairs[k].a_as_b, (long long)pairs[k].b_as_a);
}

/* What was done to the judged people, in one line. */
static void print_altered(const evaluation *e, FILE *to)
{
    const alteration_counts *n = &e->altered;
    if (n->judged_sites == 0)
        return;
    fprintf(to, "judged: %lld of %lld sites", (long long)n->judged_sites, (long long)e->d->n_sites);
    if (e->o.missing > 0)
        fprintf(to, "; %lld of these without a call (%.4g%%)", (long long)n->missing_sites,
                100 * e->o.missing);
    if (e->o.wrong > 0)
        fprintf(to, "; genotypes made wrong with probability %.4g%%: %lld carried, %lld absent",
                100 * e->o.wrong, (long long)n->wrong_carried, (long long)n->wrong_absent);
    fprintf(to, "\n");
}

static void print_number(FILE *to, const char *name, double x)
{
    if (isfinite(x))
        fprintf(to, "  %s %.4f", name, x);
}

static void print_perplexity(const evaluation *e, FILE *to)
{
    const perplexity_result *p = &e->perplexity;
    const bool any = isfinite(p->autoregressive) || isfinite(p->position_conditioned) ||
                     isfinite(p->lookup_autoregressive) || isfinite(p->next_site);
    if (!any)
        return;
    fprintf(to, "\nperplexity of the next %s at %lld %s (%lld targets, %lld windows of %lld %s)\n",
            e->set ? "base" : "allele", (long long)p->context, tokens_word(e),
            (long long)p->targets, (long long)p->n_windows, (long long)p->n_people, people_word(e));
    if (isfinite(p->autoregressive) || isfinite(p->position_conditioned)) {
        print_number(to, "model, autoregressive", p->autoregressive);
        print_number(to, "model, position-conditioned", p->position_conditioned);
        fprintf(to, "\n");
    }
    if (isfinite(p->next_site)) {
        print_number(to, "model, next carried site", p->next_site);
        print_number(to, "nats a site", p->next_site_nats_per_site);
        fprintf(to, "\n");
    }
    if (p->n_alphas == 0 && isfinite(p->lookup_autoregressive)) {
        fprintf(to, "  alpha %lld:", (long long)p->alpha);
        print_number(to, "look-up, autoregressive", p->lookup_autoregressive);
        print_number(to, "look-up, position-conditioned", p->lookup_position);
        fprintf(to, "\n");
    }
    for (int k = 0; k < p->n_alphas; k++)
        fprintf(to, "  alpha %4lld: look-up, autoregressive %.4f, position-conditioned %.4f\n",
                (long long)p->by_alpha[k], p->lookup_by_alpha[k][0], p->lookup_by_alpha[k][1]);
}

/* What a model that predicts bases reads of a window, and what it makes of it. */
static void print_next_base(const evaluation *e, FILE *to)
{
    if (!e->set || !e->model || !evaluate_model_predicts(e->model))
        return;
    fprintf(to,
            "\nthe next base (one of four by chance: 1.386 nats, 2 bits; +-: standard error over "
            "windows, over blocks)\n"
            "  %8s %9s %8s %8s %8s %10s %8s %9s %10s\n",
            "context", "windows", "nats", "+-", "+-", "perplexity", "bits", "accuracy", "targets");
    for (int k = 0; k < e->n_contexts; k++) {
        const next_base_result *b = &e->context[k].next_base;
        fprintf(to, "  %8lld %9lld %8.4f %8.4f %8.4f %10.4f %8.4f %8.2f%% %10lld\n",
                (long long)e->context[k].windows.context, (long long)b->windows, b->loss,
                b->se_windows, b->se_blocks, exp(b->loss), b->loss / M_LN2, 100 * b->accuracy,
                (long long)b->targets);
    }
    const context_result *r = &e->context[e->main_context];
    fprintf(to, "  by the bases that were read, at %lld:\n", (long long)r->windows.context);
    for (int k = 0; k < r->next_base.n_seen; k++)
        fprintf(to, "  %8lld to %-8lld %8.4f +- %.4f nats %8.4f bits %8.2f%% %10lld\n", 1LL << k,
                (long long)seen_to(k, r->windows.context), r->next_base.seen[k].loss,
                r->next_base.seen[k].se_windows, r->next_base.seen[k].loss / M_LN2,
                100 * r->next_base.seen[k].accuracy, (long long)r->next_base.seen[k].targets);
}

static void print_sites(const evaluation *e, FILE *to)
{
    const int64_t n = site_calibration_sites(&e->sites);
    if (n == 0)
        return;
    fprintf(to,
            "probabilities of single sites%s: calibration error %.4f (%lld sites of %lld people)\n",
            evaluate_model_classifies(e->model) ? ", of the person's own label" : "",
            site_calibration_error(&e->sites), (long long)n,
            (long long)e->context[e->main_context].n_people);
}

void evaluate_print(const evaluation *e, FILE *to)
{
    static const char *const splits[] = {"train", "valid", "test"};
    const dataset *d = e->d;
    fprintf(to, "%s on %s (%s%s, split %s, %lld %s; %s %lld training %s)\n",
            strcmp(e->o.model, "none") ? e->o.model : "baselines", e->o.data,
            strcasestr(d->assembly, "simulated") ? "SIMULATED, " : "", d->assembly,
            splits[e->o.split], (long long)e->people_of_split[e->o.split], people_word(e),
            e->context[0].n_methods > 0 ? "baselines fitted on" : "beside",
            (long long)e->people_of_split[SPLIT_TRAIN], people_word(e));
    print_altered(e, to);
    for (int k = 0; k < e->n_contexts; k++)
        if (e->context[k].n_methods > 0)
            print_context(e, &e->context[k], to);
    bool head = false;
    for (int k = 0; k < e->n_contexts; k++) {
        if (e->context[k].n_paired > 0 && !head)
            fprintf(to, "\nmodel against simple methods (paired, 95%% interval over %s)\n",
                    e->set ? "blocks" : "people");
        head = head || e->context[k].n_paired > 0;
        print_paired(e, &e->context[k], to);
    }
    print_groups(e, &e->context[e->main_context], to);
    if (e->set)
        print_next_base(e, to);
    else
        print_perplexity(e, to);
    print_sites(e, to);
}
