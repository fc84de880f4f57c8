/* An evaluation: a model and simple baselines on the very same windows of people that nobody
 * trained on, with intervals over people and over blocks of sites, calibration, and paired
 * differences. The model may be none. */
#ifndef CROCUTA_TRAIN_EVALUATE_H
#define CROCUTA_TRAIN_EVALUATE_H

#include "io/dataset_alter.h"
#include "runtime/train/baseline_panel.h"
#include "runtime/train/evaluate_model.h"
#include "runtime/train/next_base.h"
#include "runtime/train/statistics.h"

#include <stdio.h>

#define EVALUATE_CONTEXTS 16
#define EVALUATE_METHODS (BASELINE_KINDS + 2) /* the model, and it with the nearest pair */
#define LOOKUP_ALPHAS 4

typedef struct {
    const char *model; /* as typed; "none": baselines alone */
    const char *data, *output, *command;
    split_kind split;
    int64_t contexts[EVALUATE_CONTEXTS];
    int n_contexts;
    bool contexts_given; /* a context without a single window is then an error, not a warning */
    int64_t stride;      /* carried sites; 0: the context */
    int64_t piece;       /* carried sites that the model reads at once; 0: as many as it can */
    bool baselines[BASELINE_KINDS];
    int64_t rounds;                 /* of the bootstrap */
    const regions *where, *exclude; /* sorted; judged and not judged; empty or NULL: all */
    double missing, wrong;          /* done to the judged people: io/dataset_alter.h */
    uint64_t seed;
    int threads;
    device_kind device;
    int (*stop)(void); /* asked between contexts on all ranks: not 0 on one of them stops it
                          (STATUS_STOPPED, nothing kept); NULL: it goes to its end */
} evaluate_options;

/* One method at one context. */
typedef struct {
    const char *method; /* "model" or a baseline's name */
    bool phased;        /* saw the two haplotypes apart */
    double *logp;       /* (n_windows, classes) normalised, nats */
    int32_t *predicted; /* (n_windows) */
    double accuracy, balanced_accuracy, log_loss, ece, accuracy_person;
    interval ci_people, ci_blocks, ci_person;
    int64_t *confusion; /* (classes, classes) windows, row = truth */
    int64_t bin_count[ECE_BINS], bin_hits[ECE_BINS];
    double bin_confidence[ECE_BINS]; /* sums */
    double l2;                       /* chosen penalty of logistic regression, NaN elsewhere */
    double weight;                   /* of the pair beside the model, NaN elsewhere */
    double temperature; /* of a panel baseline, from validation people, NaN elsewhere */
    /* Of the model alone: the temperature chosen on validation people, and what it would give on
     * the judged windows; NaN elsewhere. logp and the numbers above are without it. */
    struct {
        double temperature, log_loss, ece;
    } calibrated;
} method_result;

typedef struct {
    window_set windows;
    next_base_result next_base; /* of sequences, by a model that predicts bases */
    next_base_sums base_sums;   /* window by window */
    int64_t n_people;
    double median_span_bp;
    int n_methods;
    method_result method[EVALUATE_METHODS];
    /* model minus each other method: index into method, difference of accuracies and its interval
     * over people */
    int n_paired;
    struct {
        int other;
        double difference;
        interval ci_people, ci_blocks;
    } paired[EVALUATE_METHODS];
} context_result;

/* People of one population or superpopulation, judged by one method at one context. */
typedef enum { GROUP_POPULATION, GROUP_SUPERPOPULATION } group_kind;
typedef struct {
    const char *name;
    int64_t n_people, n_windows;
    double accuracy;
    interval ci_people, ci_blocks;
} group_result;

/* Two labels: windows of one that were given to the other, and their share of all windows of
 * both. */
#define CONFUSED_PAIRS 10
typedef struct {
    int a, b; /* labels, a < b */
    int64_t a_as_b, b_as_a;
    double share;
} confused_pair;

/* Perplexities on the windows of one context; NaN where a number does not exist for this model. */
typedef struct {
    int64_t context, targets, n_people, n_windows, alpha;
    double autoregressive, position_conditioned, lookup_autoregressive, lookup_position;
    double next_site;               /* exp(nats) a carried site */
    double next_site_nats_per_site; /* over the called sites behind a window's first */
    int n_alphas;                   /* look-ups at other row sizes, where no model fixes one */
    int64_t by_alpha[LOOKUP_ALPHAS];
    double lookup_by_alpha[LOOKUP_ALPHAS][2]; /* autoregressive, position-conditioned */
} perplexity_result;

typedef struct {
    evaluate_options o;
    sequences *set; /* judged sequences; d then says who they are; NULL: people */
    dataset *d;
    draws *x;
    config_data data; /* alleles and gaps as windows were cut */
    int classes;
    int64_t people_of_split[3];
    evaluate_model *model; /* NULL: none */
    int n_contexts;
    context_result context[EVALUATE_CONTEXTS];
    int main_context; /* index: the one whose people and confusion are written as tables */
    perplexity_result perplexity;
    site_calibration sites;    /* on the same windows; zeros without a site head */
    alteration_counts altered; /* zeros where nobody was changed */
    double seconds;
} evaluation;

/* Collective. Every rank gets the same result. *out is to be closed also after a failure. */
status evaluate_run(const evaluate_options *o, comm *c, evaluation **out);
void evaluate_close(evaluation **e);

/* Numbers of one context from the methods' log-probabilities (evaluate_result.c). */
status context_summarise(const evaluation *e, context_result *r);

/* One person's probabilities: the mean over the person's windows (a person of mixed ancestry keeps
 * both parts). p (classes); returns the number of windows. */
int64_t person_probabilities(const context_result *r, const method_result *m, int classes,
                             int32_t person, double *p);

/* Groups of people of one method, ascending by name (*out: caller frees); people without a
 * (super)population are in none (evaluate_groups.c). */
status groups_judge(const evaluation *e, const context_result *r, const method_result *m,
                    group_kind kind, group_result **out, int64_t *n);
/* The pairs of labels that are confused most, at most CONFUSED_PAIRS; how many. */
int confused_pairs(const method_result *m, int classes, confused_pair *out);

/* The method whose predictions the tables hold: the model, or the best baseline where there is
 * none. */
const method_result *reported_method(const context_result *r);

/* Appends `test_evaluated` to the run's events.jsonl where MODEL is a run directory and the split
 * is test; warns where it says so already. One rank. */
status evaluate_record(const evaluation *e, const char *host, int rank);

/* evaluate.json, windows.tsv.gz, people.tsv, confusion.tsv; called by one rank. */
status evaluate_write(const evaluation *e);
/* The JSON document as text (to be freed by the caller), or NULL without memory. */
char *evaluate_json(const evaluation *e);
/* What a person reads. */
void evaluate_print(const evaluation *e, FILE *to);

#endif
