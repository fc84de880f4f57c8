/* Pieces of evaluate.json: see evaluate_numbers.h. */
#include "runtime/train/evaluate_numbers.h"

#include <math.h>
#include <stdlib.h>

json_t *json_number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

json_t *json_interval(interval i)
{
    return json_pack("[o,o]", json_number(i.low), json_number(i.high));
}

json_t *groups_json(const evaluation *e, const context_result *r, const method_result *m,
                    group_kind kind)
{
    json_t *all = json_object();
    group_result *g = NULL;
    int64_t n = 0;
    if (groups_judge(e, r, m, kind, &g, &n) != STATUS_OK) {
        json_decref(all);
        return NULL;
    }
    for (int64_t k = 0; k < n; k++)
        json_object_set_new(
            all, g[k].name,
            json_pack("{s:I,s:I,s:o,s:o,s:o}", "n_people", (json_int_t)g[k].n_people, "n_windows",
                      (json_int_t)g[k].n_windows, "accuracy", json_number(g[k].accuracy),
                      "ci_people", json_interval(g[k].ci_people), "ci_blocks",
                      json_interval(g[k].ci_blocks)));
    free(g);
    return all;
}

json_t *confused_json(const evaluation *e, const method_result *m)
{
    confused_pair pairs[CONFUSED_PAIRS];
    const int n = confused_pairs(m, e->classes, pairs);
    json_t *list = json_array();
    for (int k = 0; k < n; k++)
        json_array_append_new(
            list,
            json_pack("{s:s,s:s,s:I,s:I,s:o}", "a", e->d->labels[pairs[k].a], "b",
                      e->d->labels[pairs[k].b], "a_as_b", (json_int_t)pairs[k].a_as_b, "b_as_a",
                      (json_int_t)pairs[k].b_as_a, "share", json_number(pairs[k].share)));
    return list;
}

/* chr:from-to of a region as the data set spells its chromosomes. */
static void region_list(const evaluation *e, const regions *from, json_t *to)
{
    for (int64_t i = 0; from && i < from->count; i++)
        for (int64_t c = 0; c < e->d->n_chromosomes; c++) {
            const region *r = &from->list[i];
            const chromosome *k = &e->d->chromosomes[c];
            if (chromosome_identity(k->name) != r->identity)
                continue;
            const long long end = r->to == INT32_MAX && k->length > 0 ? k->length : r->to;
            json_array_append_new(to,
                                  json_sprintf("%s:%lld-%lld", k->name, (long long)r->from, end));
        }
}

void altered_json(const evaluation *e, json_t *j)
{
    const alteration_counts *n = &e->altered;
    json_t *in = json_array(), *out = json_array();
    region_list(e, e->o.where, in);
    region_list(e, e->o.exclude, out);
    json_object_set_new(j, "regions", in);
    json_object_set_new(j, "excluded_regions", out);
    json_object_set_new(j, "piece", json_integer(e->o.piece));
    json_object_set_new(j, "missing", json_number(e->o.missing));
    json_object_set_new(j, "wrong", json_number(e->o.wrong));
    json_object_set_new(j, "altered",
                        json_pack("{s:I,s:I,s:I,s:I}", "judged_sites", (json_int_t)n->judged_sites,
                                  "missing_sites", (json_int_t)n->missing_sites, "wrong_carried",
                                  (json_int_t)n->wrong_carried, "wrong_absent",
                                  (json_int_t)n->wrong_absent));
}

json_t *sites_json(const evaluation *e)
{
    const site_calibration *s = &e->sites;
    const context_result *r = &e->context[e->main_context];
    const int64_t n = site_calibration_sites(s);
    if (n == 0)
        return json_null();
    json_t *bins = json_array();
    for (int b = 0; b < SITE_BINS; b++) {
        const double sites = (double)s->count[b];
        json_array_append_new(
            bins, json_pack("{s:f,s:f,s:I,s:o,s:o}", "from", (double)b / SITE_BINS, "to",
                            (double)(b + 1) / SITE_BINS, "n", (json_int_t)s->count[b], "predicted",
                            json_number(s->predicted[b] / sites), "observed",
                            json_number((double)s->carried[b] / sites)));
    }
    return json_pack("{s:f,s:I,s:f,s:I,s:I,s:I,s:o}", "ece", site_calibration_error(s), "n_sites",
                     (json_int_t)n, "nats_per_site", s->nll / (double)n, "context",
                     (json_int_t)r->windows.context, "n_people", (json_int_t)r->n_people,
                     "n_windows", (json_int_t)r->windows.n, "bins", bins);
}
