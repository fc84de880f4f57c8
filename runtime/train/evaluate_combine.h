/* The model and the nearest pair of training haplotypes as one judge: what a network has learned of
 * linkage and what only the panel itself remembers err on different windows. Both are chosen and
 * weighted on validation people alone. */
#ifndef CROCUTA_TRAIN_EVALUATE_COMBINE_H
#define CROCUTA_TRAIN_EVALUATE_COMBINE_H

#include "runtime/train/evaluate.h"

/* logp (n, classes) of the windows w: softmax(a * log p_model + b * log-likelihood of the pair), a
 * and b of the least log loss on `valid`, windows of the same length. model_logp (n, classes) as
 * evaluate_model_classes gave them for w. *temperature: 1 / a; *weight: b. Without validation
 * windows: a = 1, b = 0. Collective. */
status evaluate_combine(evaluate_model *net, panel *p, comm *c, const window_set *valid,
                        const window_set *w, const double *model_logp, double *logp,
                        double *temperature, double *weight);

/* The choice alone: truth (n), both (n, classes). */
void combine_fit(int64_t n, int classes, const int32_t *truth, const double *model_logp,
                 const double *loglik, double *a, double *b);

#endif
