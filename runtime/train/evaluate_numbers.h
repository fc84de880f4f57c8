/* Pieces of evaluate.json: numbers that may not exist, intervals, groups of people, what was done
 * to the judged people's genotypes. */
#ifndef CROCUTA_TRAIN_EVALUATE_NUMBERS_H
#define CROCUTA_TRAIN_EVALUATE_NUMBERS_H

#include "io/assembly.h"
#include "runtime/train/evaluate.h"

#include <jansson.h>

/* null where the number does not exist. */
json_t *json_number(double x);
json_t *json_interval(interval i);

/* {NAME: {n_people, n_windows, accuracy, ci_people, ci_blocks}}; NULL without memory. */
json_t *groups_json(const evaluation *e, const context_result *r, const method_result *m,
                    group_kind kind);
/* [{a, b, a_as_b, b_as_a, share}] */
json_t *confused_json(const evaluation *e, const method_result *m);

/* {ece, n_sites, bins[{from, to, n, predicted, observed}], ...}, null without a site head. */
json_t *sites_json(const evaluation *e);

/* Adds regions, excluded_regions, missing, wrong and altered{} to the document. */
void altered_json(const evaluation *e, json_t *j);

#endif
