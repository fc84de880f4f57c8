/* Simple methods that a model must beat, on the very windows that it is judged on. All are fitted
 * on training people only; logistic regression chooses its penalty on validation people. Each gives
 * normalised log-probabilities of the classes, (n, classes) in nats, for every window of a set. */
#ifndef CROCUTA_TRAIN_BASELINE_H
#define CROCUTA_TRAIN_BASELINE_H

#include "comm/comm.h"
#include "runtime/core/config.h"
#include "runtime/train/window_set.h"

typedef enum {
    BASELINE_MAJORITY,    /* the most frequent label of the training people */
    BASELINE_DENSITY,     /* nothing but the window's span in bp */
    BASELINE_NB,          /* naive Bayes, carried sites */
    BASELINE_NB_ABSENT,   /* naive Bayes, every site of the span, carried or absent */
    BASELINE_LOGISTIC,    /* multinomial logistic regression on site indicators */
    BASELINE_NGRAM,       /* site n-gram by class (these four: baseline_panel.h) */
    BASELINE_PAIR,        /* nearest pair of training haplotypes */
    BASELINE_HAPLOTYPE,   /* nearest training haplotype, phased people only */
    BASELINE_LI_STEPHENS, /* copying with recombination, phased people only */
    BASELINE_LOOKUP,      /* counts of the next allele: perplexity only, no classes (lookup.h) */
    BASELINE_KINDS,
} baseline_kind;

const char *baseline_name(baseline_kind kind); /* as in --baselines and in `method` */

/* Does the method read the two haplotypes of the people that it judges? It sees more than a method
 * on unions, and is marked so. */
bool baseline_phased(baseline_kind kind);

/* Reads "majority,nb,..." (or "none") into chosen[BASELINE_KINDS]. STATUS_USAGE names the unknown
 * one and all known. */
status baselines_parse(const char *list, bool chosen[BASELINE_KINDS]);

/* How many training people (or haplotypes) of each class carry each site, or have no call there. */
typedef struct {
    const dataset *d;
    int classes;
    int64_t *sequences; /* (classes) training people of a class, or twice that for haplotypes */
    int64_t *people;    /* (classes) */
    int32_t *carriers;  /* (classes, n_sites) */
    int32_t *missing;   /* (classes, n_sites) */
} site_counts;

status site_counts_open(const dataset *d, alleles_kind alleles, site_counts *out);
void site_counts_free(site_counts *c);

void baseline_majority(const site_counts *c, const window_set *test, double *logp);

/* Class-conditional histogram of the span in equally filled bins of the training windows,
 * add-one-half. */
status baseline_density(const window_set *train, const window_set *test, int classes, double *logp);

/* log p(site | class) = log (carriers + 1/2) / (carriers of the block + sites of the block / 2),
 * summed over the carried sites. */
status baseline_nb(const site_counts *c, const window_set *test, double *logp);

/* Bernoulli at every site of the span, f = (carriers + 1/2) / (called sequences + 1); sites that
 * the person has no call at are left out. */
status baseline_nb_absent(const site_counts *c, const window_set *test, double *logp);

/* train holds windows of the same length at every half length (draws_tile with stride N/2); valid
 * and test as they are judged. *l2 gets the chosen penalty. Collective: blocks of sites are divided
 * over the ranks of c, and every rank gets the whole answer, the same for any number of ranks and
 * threads. */
typedef struct {
    int classes, threads;
    uint64_t seed;
} logistic_options;
status baseline_logistic(const logistic_options *o, comm *c, const window_set *train,
                         const window_set *valid, const window_set *test, double *logp, double *l2);

/* Multinomial logistic regression on sparse indicators, averaged stochastic gradient. Rows are
 * lists of features; the weights are (features + 1, classes), the last row being the intercept. */
typedef struct {
    int64_t n;
    const int64_t *start;   /* (n + 1) into feature */
    const int32_t *feature; /* ascending within a row */
    const int32_t *label;   /* (n) */
} sparse_rows;
typedef struct {
    int classes, epochs;
    double l2;   /* of mean loss + l2 / 2 |w|^2 */
    double step; /* learning rate times the mean features of a row */
    uint64_t seed;
    uint64_t stream; /* which problem: its own order of rows */
} sgd_options;
status logistic_fit(const sgd_options *o, const sparse_rows *rows, int64_t features,
                    float *weights);
void logistic_scores(const float *weights, int64_t features, int classes, const int32_t *feature,
                     int64_t n, double *scores);

#endif
