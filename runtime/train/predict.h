/* A prediction: a trained classifier on people whom nobody has labelled. Their genotypes are
 * brought onto the sites that the model knows (io/query.h), cut into windows as evaluation does,
 * and judged a window and a person at a time. */
#ifndef CROCUTA_TRAIN_PREDICT_H
#define CROCUTA_TRAIN_PREDICT_H

#include "io/query.h"
#include "runtime/train/evaluate_model.h"

#include <stdio.h>

typedef struct {
    const char *model, *output, *command;
    query_options query;
    int64_t context; /* carried sites a window; 0: as the model was trained */
    int threads;
    device_kind device;
} predict_options;

/* Windows of one length with what the model says of them. */
typedef struct {
    window_set windows;
    double *logp; /* (n, classes) normalised, nats */
} judged_set;

typedef struct {
    predict_options o;
    query_report query;
    dataset *d;
    draws *x;
    config_data data; /* alleles and gaps as windows were cut */
    evaluate_model *model;
    int classes;
    int64_t context;
    /* Windows of the context; then those of people who have none (short ones), by length. */
    judged_set *sets;
    int64_t n_sets;
    int64_t *windows_of;                  /* (people) */
    double *probability;                  /* (people, classes): the mean over a person's windows */
    int64_t people_short, people_without; /* with short windows alone, without any */
    double seconds, seconds_reading;
    int64_t bytes_per_person, peak_bytes; /* what a person takes in memory; of this process */
    int ranks;
} prediction;

/* Collective; every rank gets the same result. *out is to be closed also after a failure. */
status predict_run(const predict_options *o, comm *c, prediction **out);
void predict_close(prediction **p);

/* windows.tsv.gz, people.tsv, and predict.json last; called by one rank. */
status predict_write(const prediction *p);
/* The JSON document as text (to be freed by the caller), or NULL without memory. */
char *predict_json(const prediction *p);
/* What a person reads. */
void predict_print(const prediction *p, FILE *to);

#endif
