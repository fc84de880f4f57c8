/* What a step needs and costs before anything large is allocated: memory a worker, work and traffic
 * of a step, how many sequences go through the model at once and what backward keeps. `crocuta
 * plan` prints it, the trainer allocates it. */
#ifndef CROCUTA_TRAIN_PLAN_H
#define CROCUTA_TRAIN_PLAN_H

#include "model/model.h"

/* A table of rows: how many of them the data can touch, out of how many, of how many numbers. */
typedef struct {
    int64_t rows, space, k;
    bool of_sites; /* touched by every site of a span, not by tokens alone */
} plan_table;

/* What the plan is made for. */
typedef struct {
    int workers;
    int64_t available;    /* bytes that one worker may use; 0: not known, everything fits */
    double sites_a_token; /* of spans in these data; 0: not known */
    int tables;           /* 0: none */
    plan_table table[ROW_TABLES];
    int64_t site_bytes; /* what the tables keep of every site */
    bool training;
    /* Forward passes over windows of another length, in turns with the step's own and in the same
     * memory: validation while stages are shorter. Tokens (0: there are none), and the workers that
     * share each of these windows. */
    int64_t valid_len, valid_sharers;
} plan_request;

/* Gradients are the model's and those of a step's rows, until they are exchanged and applied; the
 * workspace is the arena, the ragged arrays and the batches that the loader holds. */
typedef struct {
    int64_t weights, gradients, optimizer, position_table, activations, workspace,
        total;                              /* bytes a worker */
    int64_t row_gradients, ragged, batches; /* of these */
    int64_t arena;                          /* of workspace: what model_prepare takes */
    int64_t flops_per_step, bytes_per_step; /* of all workers together */
    int64_t context_parallel, data_parallel;
    int tables; /* the request's: the trainer makes room for their rows */
    plan_table table[ROW_TABLES];
    int64_t touched[ROW_TABLES]; /* and for the gradients of those that a step touches */
    int64_t micro_batch;         /* sequences a worker computes at once */
    int64_t micro_steps;         /* of a worker with the most sequences */
    int64_t sequences;           /* of a step, all workers */
    int64_t valid_micro_batch;   /* of plan_request's other windows */
    keep_level keep;
    int64_t available;
    bool fits;
    char stage[80]; /* which one, where there are several: for plan_refuse */
    bool shareable; /* can workers share a sequence? */
} plan;

/* Chooses what the configuration leaves open for windows of data.seq_len, within what is available.
 * train.context_parallel: the fewest workers a sequence with which it fits and nobody is left
 * without a sequence. train.recompute and micro_batch: the most that is kept first, then larger
 * micro-batches. Where nothing fits the smallest is planned and `fits` is false. STATUS_USAGE where
 * workers and context_parallel do not go together. The model is left with groups that are only
 * planned (model_share). */
status plan_make(model *m, const config *c, const plan_request *q, plan *out);

/* The refusal of a plan that does not fit, STATUS_RESOURCE: what is needed, what is there, what to
 * change. */
status plan_refuse(const plan *p, const char *host);

#endif
