/* A simulation: people of each label that a trained class-conditional site head makes up, with
 * their genotypes at the sites that the model knows and a table of their labels. A model of unions
 * makes unions (carried or not, the zygosity is unknown), one of haplotypes two a person. */
#ifndef CROCUTA_TRAIN_SIMULATE_H
#define CROCUTA_TRAIN_SIMULATE_H

#include "io/dataset.h"
#include "kernels/device.h"
#include "runtime/train/model_file.h"
#include "runtime/train/sampler.h"

#include <stdio.h>

typedef struct {
    const char *model, *output, *command;
    const char *label; /* NULL: every label */
    int64_t people;    /* a label */
    int64_t context;   /* tokens that the model sees; 0: as it was trained */
    int64_t ahead;     /* sites guessed ahead; 0: as measured best */
    uint64_t seed;
    int threads;
    device_kind device;
} simulate_options;

typedef struct {
    simulate_options o;
    char map[CONFIG_TEXT]; /* the table of labels beside the output */
    dataset *d;            /* the model's sites */
    device *dev;
    model_file *file;
    int64_t context;
    int haplotypes;      /* sequences a person: 1: a union, 2 */
    int n_labels;        /* that are simulated */
    int32_t label[64];   /* their classes */
    int64_t n_blocks;    /* of sites */
    int64_t n_sequences; /* labels * people * haplotypes, in this order */
    int64_t *carried;    /* (sequences, sites) bytes in it: 0, 1 + base; all on every rank */
    double *nll;         /* (sequences) of every block, nats */
    int64_t *judged;     /* (sequences) sites that nll sums over */
    int64_t passes, sequences_passed; /* of all ranks */
    double seconds;
    int ranks;
} simulation;

/* FILE.samples.tsv of FILE.vcf or FILE.vcf.gz; STATUS_USAGE for other names. */
status simulate_map_name(const char *output, char map[CONFIG_TEXT]);

/* Collective. Every rank gets the same, *out is to be closed also after a failure. STATUS_DATA for
 * a model without a class-conditional site head or without sites, STATUS_USAGE for a label that it
 * does not know. */
status simulate_run(const simulate_options *o, comm *c, simulation **out);
void simulate_close(simulation **s);

/* The name of a simulated class, and of a person of it ("SIM_AFR_3", from 1). */
const char *simulate_label(const simulation *s, int k);
void simulate_sample(const simulation *s, int k, int64_t person, char *name, size_t size);

/* FILE.samples.tsv, then FILE; called by one rank. */
status simulate_write(const simulation *s);
/* The JSON document as text (to be freed by the caller), or NULL without memory. */
char *simulate_json(const simulation *s);
/* What a person reads. */
void simulate_print(const simulation *s, FILE *to);

#endif
