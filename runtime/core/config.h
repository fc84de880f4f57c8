/* The configuration: one struct, filled by one field table (config_fields.c) that also drives
 * parsing with line numbers, `key=value` overrides, sweeps over any key, docs/configuration.md and
 * the nearest-name help for unknown keys. Nothing else in the program knows a key's spelling. */
#ifndef CROCUTA_CORE_CONFIG_H
#define CROCUTA_CORE_CONFIG_H

#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_TEXT 1024 /* bytes of a path or a name */
#define CONFIG_STAGES 32 /* stages of a sequence-length warm-up */
#define CONFIG_AUTO 0    /* an integer that was written `auto` */

typedef enum { TOKENS_SNP, TOKENS_NUCLEOTIDE } tokens_kind;
typedef enum { MASKED_BASE, MASKED_N } masked_kind;
typedef enum { ALLELES_UNION, ALLELES_HAPLOTYPE, ALLELES_BOTH } alleles_kind;
typedef enum { ABSENT_NONE, ABSENT_SUMS } absent_kind;
typedef enum { SAMPLING_STRATIFIED, SAMPLING_MATING } sampling_kind;
typedef enum { SHARDING_VIRTUAL, SHARDING_REPLICATED } sharding_kind;
typedef enum { UNPHASED_REFUSE, UNPHASED_DROP } unphased_kind;
typedef enum { DIRECTION_FORWARD, DIRECTION_BOTH } direction_kind;
typedef enum { MIXER_HYENA, MIXER_ATTENTION, MIXER_NONE } mixer_kind;
typedef enum { WEIGHTS_PUBLISHED, WEIGHTS_FAN_IN } weights_init_kind;
typedef enum { HEAD_POOLED, HEAD_CLASS_CONDITIONAL } head_kind;
typedef enum {
    ENCODING_NONE,
    ENCODING_SINUSOIDAL,
    ENCODING_ROPE,
    ENCODING_FOURIER,
    ENCODING_TABLE,
    ENCODING_FPE,
    ENCODING_FPE_MULTI,
} encoding_kind;
typedef enum { ROWS_SHARED, ROWS_CHROMOSOME, ROWS_SITE } rows_kind;
typedef enum { INIT_ZERO, INIT_NORMAL } rows_init_kind;
typedef enum {
    OBJECTIVE_AUTOREGRESSIVE,
    OBJECTIVE_POSITION_CONDITIONED,
    OBJECTIVE_NEXT_SITE,
} objective_kind;
typedef enum { SCHEDULE_COSINE, SCHEDULE_CONSTANT } schedule_kind;
typedef enum { PRECISION_FP32, PRECISION_MIXED } precision_kind;
typedef enum { GRAPH_AUTO, GRAPH_ON, GRAPH_OFF } graph_kind;
typedef enum { RECOMPUTE_AUTO, RECOMPUTE_NONE, RECOMPUTE_SELECTED, RECOMPUTE_ALL } recompute_kind;
typedef enum { BACKEND_AUTO, BACKEND_MPI, BACKEND_NCCL } backend_kind;
typedef enum { COORDINATOR_DEDICATED, COORDINATOR_WORKER } coordinator_kind;
typedef enum { POOL_MEAN, POOL_LAST } pool_kind;

typedef struct {
    char path[CONFIG_TEXT]; /* as written; relative to the configuration's folder */
    tokens_kind tokens;
    alleles_kind alleles;
    absent_kind absent;
    int64_t seq_len; /* tokens of a window */
    int64_t max_gap; /* bp between neighbouring sites of the set */
    sampling_kind sampling;
    sharding_kind sharding;
    unphased_kind unphased;
    double mosaic_rate, flip_rate;
    double augment_from; /* fraction of the steps before mosaics and flips begin */
    direction_kind direction;
    bool reverse_complement;   /* nucleotides: every second window, by lot, is turned around */
    masked_kind masked;        /* nucleotides: lower-case letters are bases, or N */
    int64_t train_people;      /* 0: all; otherwise so many, the classes in proportion */
    char exclude[CONFIG_TEXT]; /* regions that no training window may touch, "" none */
} config_data;

typedef struct {
    char preset[64]; /* "" where the shape is written out */
    mixer_kind mixer;
    int64_t order, d_model, n_layer, d_inner, l_max, filter_order, emb_dim, short_filter_order;
    double filter_shift;
    double embed_dropout; /* published: 0.1; here 0 unless asked for */
    head_kind head;
    int64_t head_rank; /* of the class-conditional head */
    weights_init_kind init;
    double residual_init; /* spread of out_proj and fc2 before / sqrt(2 n_layer) */
} config_model;

typedef struct {
    encoding_kind encoding;
    int64_t alpha; /* bp a row */
    int64_t rank;  /* k */
    rows_kind rows;
    int64_t length; /* bp of the longest chromosome; CONFIG_AUTO: from the data's assembly */
    rows_init_kind init;
} config_position;

typedef struct {
    double lr, betas[2], eps, weight_decay, filter_weight_decay;
    double rows_lr, head_lr; /* 0: as lr */
    bool clip_rows;     /* do rows take part in the norm that is clipped, and are they scaled */
    bool decay_vectors; /* weight decay on norms and biases too, as published */
} config_optimizer;

typedef struct {
    schedule_kind name;
    double warmup; /* fraction of train.steps */
    double min_lr;
} config_scheduler;

typedef struct {
    int64_t steps, tokens_per_step,
        micro_batch; /* sequences a micro-step; CONFIG_AUTO: from the plan */
    double grad_clip, skip_norm;
    int64_t skip_most;
    precision_kind precision;
    recompute_kind recompute;
    graph_kind graph;
    int64_t context_parallel, log_every, eval_every, eval_windows, early_stop;
    double max_hours; /* 0: no limit */
} config_train;

typedef struct {
    int64_t seq_len, steps, context_parallel;
} config_stage;

typedef struct {
    pool_kind pool;
    int64_t head_hidden; /* 0: linear head */
    double site_weight;  /* of the sites' mean loss beside the class's, class-conditional head */
    double lr;
    int64_t steps;
} config_finetune;

typedef struct {
    backend_kind backend;
    coordinator_kind coordinator;
    bool deterministic;
    int64_t timeout_s;
} config_comm;

typedef struct {
    double every_minutes;
    int64_t every_steps, keep;
    bool on_signal;
} config_checkpoint;

typedef struct {
    char file[CONFIG_TEXT]; /* where it was read from: for messages and for relative paths */
    int64_t seed;
    config_data data;
    config_model model;
    config_position position;
    objective_kind objective;
    config_optimizer optimizer;
    config_scheduler scheduler;
    config_train train;
    config_stage stages[CONFIG_STAGES];
    int n_stages;
    config_finetune finetune;
    config_comm comm;
    config_checkpoint checkpoint;
    uint8_t
        given[256]; /* by field index: was the key written? (a preset fills only what was not) */
    int line[256];  /* by field index: the line it was written on, 0 for none */
} config;

/* Defaults of the field table. */
void config_defaults(config *c);

/* Reads a YAML file over the defaults. Every fault is one message "FILE:LINE: key ...; ..." and
 * STATUS_USAGE. */
status config_read(config *c, const char *path);

/* The same from memory; `name` stands in messages (a checkpoint's own configuration, say). */
status config_read_text(config *c, const char *name, const char *text, size_t bytes);

/* One `section.key=value`, by the same rules; messages begin with the override itself. A key that
 * was overridden already is refused as written twice; a sweep that sets keys over a user's
 * overrides forgets those first. */
status config_override(config *c, const char *assignment);
void config_forget_overrides(config *c);

/* A key's value by the same rules, in place of whatever it had; messages begin with `where`. */
status config_set(config *c, const char *key, const char *value, const char *where);

/* Fills what a preset implies and checks what needs more than one key. `with_data`: data.path is
 * required. Call once after the file and the overrides. */
status config_finish(config *c, bool with_data);

/* The line on which a key was written (0: default or override), for messages of later checks. */
int config_line(const config *c, const char *key);

/* Where a key stands, as an error begins: FILE:LINE, or FILE alone where no line gave it (an
 * override, a default). Writes and returns at. */
#define CONFIG_PLACE (CONFIG_TEXT + 32)
const char *config_place(const config *c, const char *key, char at[CONFIG_PLACE]);

/* data.path resolved against the configuration's folder. */
void config_data_path(const config *c, char path[CONFIG_TEXT]);

/* The effective configuration as YAML (every key, comments with help where `commented`), and as
 * JSON nested in the same way (text to be freed by the caller; NULL without memory). */
status config_write(const config *c, FILE *to, bool commented);
char *config_json(const config *c);

/* One key as text (data.path absolute, as config_write and config_json give it), and the names of
 * all keys in table order: sweeps, comparison on resume. A harmless key may change when a run is
 * resumed, with a warning. */
status config_get(const config *c, const char *key, char *value, size_t size);
bool config_harmless(const char *key);
const char *config_key(int index); /* NULL after the last */

/* docs/configuration.md. */
status config_document(FILE *to);

/* A preset's row by name ("tiny-1k" ...): fills what was not given of config_model, and the
 * position encoding where no key of it was given (none, for `study` fpe); STATUS_USAGE names the
 * known ones. config_finish calls it. */
status config_preset(config *c, const char *name);
const char *config_preset_name(int index); /* NULL after the last */

#endif
