/* evaluate.json: every number of an evaluation with its n, for programs. Fractions and counts,
 * never per cent; a number that does not exist is null. */
#include "runtime/train/evaluate_numbers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A method that sees the haplotypes apart is not to be ranked with one on unions. */
static const char *phase_name(const method_result *m)
{
    return m->phased ? "haplotype" : "union";
}

static json_t *confusion(const evaluation *e, const method_result *m)
{
    json_t *rows = json_array();
    for (int t = 0; t < e->classes; t++) {
        json_t *row = json_array();
        for (int p = 0; p < e->classes; p++)
            json_array_append_new(row, json_integer(m->confusion[t * e->classes + p]));
        json_array_append_new(rows, row);
    }
    return rows;
}

/* The reliability picture: per bin of confidence, how many windows, how sure, how often right. */
static json_t *calibration(const method_result *m)
{
    json_t *bins = json_array();
    for (int b = 0; b < ECE_BINS; b++) {
        const double n = (double)m->bin_count[b];
        json_array_append_new(bins,
                              json_pack("{s:I,s:o,s:o}", "n_windows", (json_int_t)m->bin_count[b],
                                        "confidence", json_number(m->bin_confidence[b] / n),
                                        "accuracy", json_number((double)m->bin_hits[b] / n)));
    }
    return bins;
}

static json_t *method_json(const evaluation *e, const context_result *r, const method_result *m)
{
    json_t *j = json_object();
    json_object_set_new(j, "method", json_string(m->method));
    json_object_set_new(j, "context", json_integer(r->windows.context));
    json_object_set_new(j, "phase", json_string(phase_name(m)));
    json_object_set_new(j, "n_people", json_integer(r->n_people));
    json_object_set_new(j, "n_windows", json_integer(r->windows.n));
    json_object_set_new(j, "median_span_bp", json_number(r->median_span_bp));
    json_object_set_new(j, "accuracy", json_number(m->accuracy));
    json_object_set_new(j, "ci_people", json_interval(m->ci_people));
    json_object_set_new(j, "ci_blocks", json_interval(m->ci_blocks));
    json_object_set_new(j, "balanced_accuracy", json_number(m->balanced_accuracy));
    json_object_set_new(j, "log_loss", json_number(m->log_loss));
    json_object_set_new(j, "ece", json_number(m->ece));
    json_object_set_new(j, "accuracy_person", json_number(m->accuracy_person));
    json_object_set_new(j, "ci_person", json_interval(m->ci_person));
    json_object_set_new(j, "per_population", groups_json(e, r, m, GROUP_POPULATION));
    json_object_set_new(j, "per_superpopulation", groups_json(e, r, m, GROUP_SUPERPOPULATION));
    json_object_set_new(j, "confusion", confusion(e, m));
    json_object_set_new(j, "confused_pairs", confused_json(e, m));
    json_object_set_new(j, "calibration", calibration(m));
    if (isfinite(m->l2))
        json_object_set_new(j, "l2", json_number(m->l2));
    if (isfinite(m->weight))
        json_object_set_new(j, "pair_weight", json_number(m->weight));
    if (isfinite(m->temperature))
        json_object_set_new(j, "temperature", json_number(m->temperature));
    if (isfinite(m->calibrated.temperature))
        json_object_set_new(j, "calibrated",
                            json_pack("{s:o,s:o,s:o}", "temperature",
                                      json_number(m->calibrated.temperature), "log_loss",
                                      json_number(m->calibrated.log_loss), "ece",
                                      json_number(m->calibrated.ece)));
    return j;
}

static json_t *paired_json(const context_result *r, int k)
{
    const int other = r->paired[k].other;
    return json_pack("{s:s,s:s,s:s,s:s,s:I,s:o,s:o,s:o,s:I,s:I}", "a", r->method[0].method, "b",
                     r->method[other].method, "phase_a", phase_name(&r->method[0]), "phase_b",
                     phase_name(&r->method[other]), "context", (json_int_t)r->windows.context,
                     "difference", json_number(r->paired[k].difference), "ci_people",
                     json_interval(r->paired[k].ci_people), "ci_blocks",
                     json_interval(r->paired[k].ci_blocks), "n_people", (json_int_t)r->n_people,
                     "n_windows", (json_int_t)r->windows.n);
}

static json_t *perplexity_json(const perplexity_result *p)
{
    json_t *j = json_pack("{s:o,s:o,s:o,s:o,s:I,s:I,s:I,s:I,s:I}", "autoregressive",
                          json_number(p->autoregressive), "position_conditioned",
                          json_number(p->position_conditioned), "lookup_autoregressive",
                          json_number(p->lookup_autoregressive), "lookup_position",
                          json_number(p->lookup_position), "context", (json_int_t)p->context,
                          "alpha", (json_int_t)p->alpha, "n_people", (json_int_t)p->n_people,
                          "n_windows", (json_int_t)p->n_windows, "targets", (json_int_t)p->targets);
    json_object_set_new(j, "next_site", json_number(p->next_site));
    json_object_set_new(j, "next_site_nats_per_site", json_number(p->next_site_nats_per_site));
    if (p->n_alphas == 0)
        return j;
    json_t *list = json_array();
    for (int k = 0; k < p->n_alphas; k++)
        json_array_append_new(
            list, json_pack("{s:I,s:o,s:o}", "alpha", (json_int_t)p->by_alpha[k],
                            "lookup_autoregressive", json_number(p->lookup_by_alpha[k][0]),
                            "lookup_position", json_number(p->lookup_by_alpha[k][1])));
    json_object_set_new(j, "lookup_by_alpha", list);
    return j;
}

/* Bits are those of a base of the split's windows; by_context: predictions from so many bases. */
static json_t *next_base_json(const context_result *r)
{
    const next_base_result *b = &r->next_base;
    json_t *list = json_array();
    for (int k = 0; k < b->n_seen; k++)
        json_array_append_new(
            list, json_pack("{s:I,s:I,s:I,s:o,s:o,s:o,s:o}", "from", (json_int_t)1 << k, "to",
                            (json_int_t)seen_to(k, r->windows.context), "targets",
                            (json_int_t)b->seen[k].targets, "loss", json_number(b->seen[k].loss),
                            "se_windows", json_number(b->seen[k].se_windows), "bits_per_base",
                            json_number(b->seen[k].loss / M_LN2), "accuracy",
                            json_number(b->seen[k].accuracy)));
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "context",
                     (json_int_t)r->windows.context, "n_sequences", (json_int_t)r->n_people,
                     "n_windows", (json_int_t)b->windows, "n_blocks", (json_int_t)b->blocks,
                     "targets", (json_int_t)b->targets, "loss", json_number(b->loss), "se_windows",
                     json_number(b->se_windows), "se_blocks", json_number(b->se_blocks),
                     "perplexity", json_number(exp(b->loss)), "bits_per_base",
                     json_number(b->loss / M_LN2), "accuracy", json_number(b->accuracy),
                     "by_context", list);
}

static json_t *data_json(const evaluation *e)
{
    const dataset *d = e->d;
    return json_pack("{s:s,s:s,s:s,s:b,s:b,s:{s:I,s:I,s:I},s:I,s:I}", "path", e->o.data, "assembly",
                     d->assembly, "split_hash", d->split_hash, "phased", d->phased, "simulated",
                     strcasestr(d->assembly, "simulated") != NULL, "people", "train",
                     (json_int_t)e->people_of_split[SPLIT_TRAIN], "valid",
                     (json_int_t)e->people_of_split[SPLIT_VALID], "test",
                     (json_int_t)e->people_of_split[SPLIT_TEST], "sites", (json_int_t)d->n_sites,
                     "blocks", (json_int_t)d->n_blocks);
}

char *evaluate_json(const evaluation *e)
{
    static const char *const splits[] = {"train", "valid", "test"};
    json_t *j = json_object(), *results = json_array(), *paired = json_array(),
           *labels = json_array();
    for (int k = 0; k < e->n_contexts; k++) {
        const context_result *r = &e->context[k];
        for (int m = 0; m < r->n_methods; m++)
            json_array_append_new(results, method_json(e, r, &r->method[m]));
        for (int m = 0; m < r->n_paired; m++)
            json_array_append_new(paired, paired_json(r, m));
    }
    for (int c = 0; c < e->classes; c++)
        json_array_append_new(labels, json_string(e->d->labels[c]));
    json_object_set_new(j, "schema", json_string("crocuta/evaluate/1"));
    json_object_set_new(j, "model", json_string(e->o.model));
    if (e->model) {
        const model_file *f = evaluate_model_file(e->model);
        json_object_set_new(j, "model_file", json_string(f->path));
        json_object_set_new(j, "model_step", json_integer(f->step));
    }
    json_object_set_new(j, "split", json_string(splits[e->o.split]));
    json_object_set_new(j, "labels", labels);
    json_object_set_new(j, "results", results);
    json_object_set_new(j, "paired", paired);
    json_object_set_new(j, "perplexity", perplexity_json(&e->perplexity));
    if (e->set && e->model && evaluate_model_predicts(e->model)) {
        json_t *bases = json_array();
        for (int k = 0; k < e->n_contexts; k++)
            json_array_append_new(bases, next_base_json(&e->context[k]));
        json_object_set_new(j, "next_base", bases);
    }
    json_object_set_new(j, "site_calibration", sites_json(e));
    json_object_set_new(j, "data", data_json(e));
    altered_json(e, j);
    json_object_set_new(j, "seeds",
                        json_pack("{s:I,s:I,s:I,s:I}", "bootstrap", (json_int_t)e->o.seed,
                                  "logistic", (json_int_t)e->o.seed, "data", (json_int_t)e->d->seed,
                                  "altered", (json_int_t)e->o.seed));
    json_object_set_new(j, "bootstrap_rounds", json_integer(e->o.rounds));
    json_object_set_new(j, "seconds", json_number(e->seconds));
    json_object_set_new(j, "command", json_string(e->o.command));
    char *text = json_dumps(j, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
    json_decref(j);
    if (!text)
        return NULL;
    const size_t n = strlen(text);
    char *lines = realloc(text, n + 2);
    if (!lines) {
        free(text);
        return NULL;
    }
    memcpy(lines + n, "\n", 2);
    return lines;
}
