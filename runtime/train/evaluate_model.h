/* The model of an evaluation: its classes and its perplexity on a set of windows. People are
 * divided over ranks and the answers put together, the same for any number of ranks: a batch never
 * holds windows of two people. */
#ifndef CROCUTA_TRAIN_EVALUATE_MODEL_H
#define CROCUTA_TRAIN_EVALUATE_MODEL_H

#include "comm/comm.h"
#include "kernels/device.h"
#include "runtime/core/config.h"
#include "runtime/train/model_file.h"
#include "runtime/train/next_base.h"
#include "runtime/train/nucleotides.h"
#include "runtime/train/window_set.h"

typedef struct evaluate_model evaluate_model;

/* Opens MODEL (run directory, .h5, .safetensors) for the windows of a data set, on a device for
 * each rank of c. STATUS_DATA where its classes or its position rows do not belong to this data
 * set. Collective; the status is each rank's own. */
status evaluate_model_open(const char *name, const dataset *d, comm *c, device_kind where,
                           int threads, evaluate_model **out);
void evaluate_model_close(evaluate_model **m);

/* Windows beyond this many tokens are cut into equal pieces whose log-probabilities are added; by
 * default those beyond l_max. */
void evaluate_model_pieces(evaluate_model *m, int64_t tokens);

const config *evaluate_model_config(const evaluate_model *m);
/* The file it came from, its step and its labels. */
const model_file *evaluate_model_file(const evaluate_model *m);
/* Does it have a head for the labels of the data set? Does it predict the next token? */
bool evaluate_model_classifies(const evaluate_model *m);
bool evaluate_model_predicts(const evaluate_model *m);

/* Normalised log-probabilities (n, classes). Windows longer than a piece are cut into equal pieces
 * whose log-probabilities are added. Collective. */
status evaluate_model_classes(evaluate_model *m, const window_set *w, comm *c, double *logp);

/* What a site head says of single sites against what people carry: the sites behind a window's
 * first (of each of its pieces), in equal bins of the probability that the person's own label gives
 * to carrying it. */
#define SITE_BINS 20
typedef struct {
    int64_t count[SITE_BINS], carried[SITE_BINS]; /* sites */
    double predicted[SITE_BINS];                  /* sums of probabilities */
    double nll;                                   /* -log p of all of them, nats */
} site_calibration;

/* Has it a site head? */
bool evaluate_model_knows_sites(const evaluate_model *m);
/* Collective. Windows of people without a label are passed over by a head that knows labels; a
 * model of both haplotypes is asked for each of the two, one of both directions reads forward. */
status evaluate_model_sites(evaluate_model *m, const window_set *w, comm *c, site_calibration *out);
int64_t site_calibration_sites(const site_calibration *s);
/* Expected calibration error: sum of n_bin / n |carried - predicted|, means of the bin; NAN without
 * sites. */
double site_calibration_error(const site_calibration *s);

/* The same of windows of sequences, `count` of them of `context` bases at most: logp (count,
 * classes) of a classifier, otherwise what it says of the next base (opened for `count` windows).
 * Collective. */
status evaluate_model_bases(evaluate_model *m, const nucleotides *n, const base_window *list,
                            int64_t count, int64_t context, comm *c, double *logp,
                            next_base_sums *sums);

/* Summed loss in nats over the targets of all windows (the same cut), and how many targets.
 * Collective. */
status evaluate_model_loss(evaluate_model *m, const window_set *w, comm *c, double *loss,
                           int64_t *targets);

#endif
