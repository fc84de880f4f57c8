/* A Hyena model: parameters by their published names in one arena, forward, backward, loss. What is
 * learned and how lies here; who feeds it and what is done with gradients is the trainer's
 * (runtime/train). */
#ifndef CROCUTA_MODEL_MODEL_H
#define CROCUTA_MODEL_MODEL_H

#include "model/context.h"
#include "model/position.h"
#include "runtime/core/arena.h"
#include "runtime/core/config.h"

#define VOCABULARY 12
#define VOCABULARY_PADDED 16
#define TOKEN_CLS 0
#define TOKEN_SEP 1
#define TOKEN_BOS 2
#define TOKEN_MASK 3
#define TOKEN_PAD 4
#define TOKEN_RESERVED 5
#define TOKEN_UNK 6
#define TOKEN_A 7
#define TOKEN_N 11

/* Optimizer groups: own learning rate and decay (config_optimizer). */
typedef enum { GROUP_BODY, GROUP_FILTER, GROUP_HEAD, GROUP_POSITION } parameter_group;

/* One tensor of the parameter arena. The arena is in backward order: what backward finishes first
 * comes first, so that a gradient bucket is a range. Every tensor begins at a multiple of 16
 * floats; the gaps are zero. */
typedef struct {
    char name[96];    /* published name without prefix: layers.0.mixer.in_proj.weight */
    int64_t shape[3]; /* as published; unused: 0 */
    int ndim;
    int64_t count;  /* elements */
    int64_t offset; /* floats from the start of the parameters, gradients and moments alike */
    parameter_group group;
    bool decay; /* weight decay applies (the published recipe: all but the filters) */
} parameter;

typedef struct model model;

/* The sites of the windows' spans, ragged: for each window the sites of the set from its first
 * carried one to its last, without those at which the person has no call; a site once, however many
 * of its alleles are carried. Entries [start[b], start[b + 1]) are sequence b's; start[0] need not
 * be 0. */
typedef struct {
    const int64_t *start;   /* (B + 1) */
    const int32_t *site;    /* (n) ascending in a window: indices into the data set's sites */
    const int32_t *token;   /* (n) position in the sequence of the last carried token before it, -1:
                               none (the first carried site) */
    const uint8_t *carried; /* (n) 1: this very site is carried (its token is the next one) */
} span_sites;

/* What a step of training or an evaluation is given. All pointers belong to the caller and lie on
 * the host, until the pass has been waited for. */
typedef struct {
    batch_shape s;
    const uint8_t *ids; /* (B, Lp), pads TOKEN_PAD */
    const uint8_t *
        targets; /* (B, Lp), TARGET_NONE where nothing is predicted; NULL: no language-model loss */
    const int64_t
        *position; /* (B, Lp) 1-based position in the chromosome; 0: none. NULL without encoding */
    const int32_t *chromosome; /* (B) */
    const int32_t *site;       /* (B, Lp) site of the data set, -1 none; NULL unless rows: site */
    const int32_t *label;      /* (B), -1 none; NULL: no classifier loss */
    const int32_t *count;      /* (B) tokens of each sequence, the rest pads; NULL: all L */
    span_sites span;           /* start NULL: not given (absent sums and site heads need it) */
    /* Where workers share sequences (model_share): tokens of the whole sequences, of which s.L are
     * here, and the place of the first of these. 0 and 0: they are whole. */
    int64_t whole, first_position;
    uint64_t step;          /* for dropout */
    int64_t first_sequence; /* index of sequence 0 in the global batch: dropout masks do not depend
                               on ranks */
    bool training;          /* dropout on */
} batch;

/* Builds the parameter arena for a configuration (shape from config.model after config_finish).
 * classes 0: language model only; otherwise a classifier head with config.finetune's shape is
 * added. */
status model_open(const config *c, int classes, device *dev, model **out);
void model_close(model **m);

/* Are wide intermediates bf16 there? train.precision: mixed, and a GPU. */
bool model_mixed(const config *c, const device *dev);

/* Opens the row tables for the chromosomes and sites of a data set; before the first batch of a
 * model with rows. With rows: shared and a position.length in the configuration `space` may be
 * NULL. */
status model_place(model *m, const position_space *space);

/* Initial values of the reference, by (seed, parameter index, element): the same on every rank. */
status model_initialise(model *m, uint64_t seed);

int model_parameters(const model *m, const parameter **list); /* number of tensors */
int64_t model_floats(const model *m);                         /* of one arena copy, gaps included */
int64_t model_parameter_count(const model *m); /* elements that are learned, rows aside */
/* Memory of the device, as are the row tables' numbers. */
float *model_values(model *m);
float *model_gradients(model *m); /* the same layout; model_backward adds; NULL without memory */
const config *model_config(const model *m);
int model_classes(const model *m);
int model_site_head(const model *m); /* classes of its site head, 1: unconditional, 0: none */
device *model_device(const model *m);

/* The position encoding's row tables (NULL without). The trainer updates them. */
position_encoding *model_position(model *m);

/* Forward passes read rows replayed up to and including s->step (exact-lazy Adam), without changing
 * the tables. s->lr_of_step, on the device, must live as long as it is set and reach s->step; NULL
 * or step -1: rows are read as they are. */
void model_rows_schedule(model *m, const rows_adam_args *s);

/* Gradients of a table's rows, summed over the backward passes since the last clear: `count` slots
 * of the table, ascending, on the host; that of slot[i] is row place[i] of sum (count, k), which is
 * the device's. Valid until the next backward pass or clear. */
typedef struct {
    int64_t count;
    const int32_t *slot, *place;
    const float *sum;
} touched_rows;
touched_rows model_touched_rows(const model *m, int table);
/* The same for a look at them: sum (count, k), on the host, in the order of the slots. Waits. */
status model_row_gradients(model *m, int table, int64_t *count, const int32_t **slots,
                           const float **sum);
void model_rows_clear(model *m);
/* Room for the gradients of so many rows of a table, as a step is planned, between steps: those
 * that are there may be lost. Without it the room grows as batches come, old and new at once.
 * STATUS_MEMORY. */
status model_reserve_gradients(model *m, int table, int64_t rows);

/* Bytes of a row table with room for `slots` of its `rows`, marks of the batch at hand included;
 * and what all of them take now. */
int64_t model_table_bytes(int64_t slots, int64_t rows, int64_t k);
int64_t model_tables_bytes(const model *m);

/* Sites of a span for each token, as the data have them (draws_sites_per_token): what plans of
 * ragged memory go by. 2.2 until it is said. */
void model_expect_spans(model *m, double sites_a_token);

/* Bytes and FLOPs of one micro-step (B, L), before anything is allocated; `training` counts
 * backward too. */
typedef struct {
    int64_t weights, gradients, activations,
        workspace;  /* bytes; the row tables aside (model_tables_bytes) */
    int64_t ragged; /* bytes of what grows with the sites of a batch's spans, as they are expected:
                       a tenth more sites than the mean, and the quarter by which arrays grow */
    int64_t flops_forward, flops_backward, bytes_forward, bytes_backward;
} model_cost;
status model_plan(const model *m, batch_shape s, keep_level keep, bool training, model_cost *cost);

/* The keep level that train.recompute names; auto is SELECTED (measured: docs/performance.md). */
keep_level model_keep(const config *c);
const char *keep_name(keep_level keep); /* what train.recompute calls it */

/* From now on the group's members share each sequence (model/context.h); before model_plan and
 * model_prepare, which take the shape of whole sequences. `g` is copied. STATUS_USAGE for models
 * that need whole sequences: classifiers, site heads, sums over spans, the next token's position.
 */
status model_share(model *m, const context_group *g);
bool model_can_share(const model *m);
int model_sharers(const model *m); /* the size of the group */

/* Bytes that the arenas have at least from the next model_prepare on: passes that need no more take
 * turns in them, and preparing for the next one allocates nothing. 0, 0: what a pass needs. */
void model_reserve(model *m, int64_t activations, int64_t workspace);

/* Activations and workspace for batches up to this shape (again when a stage changes it). Arenas
 * that have the size are kept. keep: KEEP_INPUT .. KEEP_ALL. */
status model_prepare(model *m, batch_shape s, keep_level keep, bool training);
/* High-water marks of the arenas since model_prepare, in bytes. */
void model_high_water(const model *m, size_t *activations, size_t *workspace);
/* Bytes that the ragged arrays have grown to. */
int64_t model_ragged_bytes(const model *m);

/* Forward pass and loss without gradients; everything is on the host when it returns. Outputs may
 * be NULL: hidden (d, B, Lp), logits (V_pad, B, Lp), token_loss (B, Lp), class_logits (B, classes),
 * pooled (B, d). */
typedef struct {
    float *hidden, *logits, *token_loss, *class_logits, *pooled;
    float *site_logits;   /* site heads: (entries of the spans, classes) log-odds of carrying */
    double *sequence_nll; /* site heads: (B) -log p of the sequence's sites, of its label's class */
} model_outputs;
status model_forward(model *m, const batch *b, const model_outputs *out, loss_sum *loss);

/* Forward and backward: gradients of the loss SUM are added to model_gradients and to the rows'
 * pending gradients. on_bucket (may be NULL) is called when the gradients [first, first + count) of
 * the arena are complete; on a GPU, when they are queued; an error of its ends the passes. *loss is
 * there, and its place must stay, until the next device_wait. */
typedef status (*bucket_ready)(void *context, int64_t first, int64_t count);
status model_backward(model *m, const batch *b, loss_sum *loss, bucket_ready on_bucket,
                      void *context);

/* device_wait for what the passes queued, exchanges of shared sequences included: alone it would
 * not notice a worker that is gone. */
status model_wait(model *m);

#endif
