/* What is chosen on validation people for a model that classifies: a temperature of its own, and
 * its weight beside the nearest pair of training haplotypes. The two together are one judge: what a
 * network has learned of linkage and what only the panel itself remembers err on different
 * windows. */
#ifndef CROCUTA_TRAIN_EVALUATE_COMBINE_H
#define CROCUTA_TRAIN_EVALUATE_COMBINE_H

#include "runtime/train/evaluate.h"

/* Validation windows of one length and the model's normalised log-probabilities (n, classes) on
 * them. */
typedef struct {
    window_set windows;
    double *model;
} validation_judged;

/* Collective. *out is to be freed also after a failure. */
status validation_judge(const evaluation *e, comm *c, int64_t context, validation_judged *out);
void validation_free(validation_judged *v);

/* The model's temperature of the least log loss on validation windows, and what log loss and ECE
 * it would give on the judged windows w: m->calibrated; m->logp stays. NaN without validation
 * windows. One rank. */
status evaluate_calibrate(const validation_judged *v, const window_set *w, int classes,
                          method_result *m);

/* logp (n, classes) of the windows w: softmax(a * log p_model + b * log-likelihood of the pair), a
 * and b of the least log loss on validation windows of the same length. model_logp (n, classes) as
 * evaluate_model_classes gave them for w. *temperature: 1 / a; *weight: b. Without validation
 * windows: a = 1, b = 0. Collective. */
status evaluate_combine(panel *p, comm *c, const validation_judged *v, const window_set *w,
                        const double *model_logp, double *logp, double *temperature,
                        double *weight);

/* The choice alone: truth (n), both (n, classes). a between 1 / TEMPERATURE_MOST and COMBINE_MOST,
 * b between 0 (exactly, where the pair adds nothing) and COMBINE_MOST. */
#define COMBINE_MOST 4.0
void combine_fit(int64_t n, int classes, const int32_t *truth, const double *model_logp,
                 const double *loglik, double *a, double *b);

#endif
