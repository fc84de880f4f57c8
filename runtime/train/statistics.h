/* What an accuracy is worth: intervals by bootstrap over people or blocks, calibration, confusion.
 * Windows of one person are not independent, so that people (or blocks of sites) are drawn again,
 * never windows. */
#ifndef CROCUTA_TRAIN_STATISTICS_H
#define CROCUTA_TRAIN_STATISTICS_H

#include "runtime/core/status.h"

#include <stdint.h>

#define ECE_BINS 15

/* What the bootstrap draws again. Each has its own random stream, the same for every method:
 * differences are paired. */
typedef enum { RESAMPLE_PEOPLE, RESAMPLE_BLOCKS } resample_kind;

typedef struct {
    double low, high;
} interval;

/* 95 % percentile interval of sum(top) / sum(bottom) when the groups are drawn again with
 * replacement, `rounds` times. Groups with bottom 0 are left out (a person too short for one
 * window). The accuracy: top = hits of a group, bottom = its windows; a paired difference: top =
 * hits of one method minus hits of the other. NaN, NaN with fewer than two groups: one person or
 * one block drawn again and again has no spread. */
status bootstrap_ratio(const double *top, const double *bottom, int64_t groups, int64_t rounds,
                       uint64_t seed, resample_kind kind, interval *out);

/* The q-quantile of n numbers, linear between order statistics; sorts x. NaN for n = 0. */
double quantile(double *x, int64_t n, double q);
/* The same for numbers that are ascending already. */
double quantile_sorted(const double *x, int64_t n, double q);

/* Row-wise: scores to normalised log-probabilities, in place. logp (n, classes). */
void log_softmax(double *logp, int64_t n, int classes);

/* First index of the largest of `classes` values. */
int best_class(const double *logp, int classes);

/* counts (classes, classes), row = truth, column = prediction; overwritten. */
void confusion_count(const int32_t *truth, const int32_t *predicted, int64_t n, int classes,
                     int64_t *counts);

double accuracy_of(const int64_t *confusion, int classes);
/* Mean of the classes' own accuracies, over classes that occur. */
double balanced_accuracy_of(const int64_t *confusion, int classes);

/* Mean of -log p(truth) in nats; logp (n, classes) normalised. */
double log_loss_of(const double *logp, const int32_t *truth, int64_t n, int classes);

/* Where a function with one minimum on [low, high] has it, within `tolerance`, by golden section;
 * exactly `low` where that end is as good (to 1e-9). `of` is handed on to the function. */
double golden_minimum(double (*f)(void *of, double at), void *of, double low, double high,
                      double tolerance);

/* Temperatures that are looked at: 1 / 4 to 1024. */
#define TEMPERATURE_LEAST 0.25
#define TEMPERATURE_MOST 1024.0
/* The temperature T of the least log loss of softmax(scores / T), which is convex in 1 / T; scores
 * (n, classes), n > 0, room (n, classes). */
double temperature_fit(const double *scores, const int32_t *truth, int64_t n, int classes,
                       double *room);

/* Expected calibration error: predictions in equal bins of confidence, sum of n_bin / n |accuracy -
 * confidence| (Guo et al. 2017, "On calibration of modern neural networks", eq. 3). */
double ece_of(const double *logp, const int32_t *truth, int64_t n, int classes, int bins);

/* The bins themselves, for a reliability picture: count, hits, and sum of confidences, each (bins).
 */
void calibration_bins(const double *logp, const int32_t *truth, int64_t n, int classes, int bins,
                      int64_t *count, int64_t *hits, double *confidence);

#endif
