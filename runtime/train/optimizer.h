/* The optimizer: AdamW over the parameter arena, group by group, and exact-lazy Adam on the
 * position rows. Gradients come as sums over tokens and are divided here, once, by the global
 * count. */
#ifndef CROCUTA_TRAIN_OPTIMIZER_H
#define CROCUTA_TRAIN_OPTIMIZER_H

#include "comm/comm.h"
#include "model/model.h"
#include "runtime/train/row_exchange.h"
#include "runtime/train/schedule.h"

/* A stretch of the arena with one learning rate and one decay. */
typedef struct {
    int64_t first, count; /* floats, gaps included */
    double lr;            /* peak */
    double decay;
} optimizer_range;

typedef struct {
    model *m;
    device *dev;
    comm *workers;
    const schedule *plan;
    double b1, b2, eps, clip;
    double lr, rows_lr; /* peaks */
    double norm_limit;  /* a larger norm is treated as one that is no number; 0: none is */
    bool clip_rows;     /* optimizer.clip_rows */
    optimizer_range *ranges;
    int n_ranges;
    arena moments;
    float *first, *second; /* m and v, laid out as the parameters */
    float *rows_rate;      /* (rates) learning rate of the rows by step, on the host; grows */
    float *rows_rate_on;   /* the same for the device: one array on a CPU */
    int64_t rates;
    int levels;
    row_exchange rows[ROW_TABLES];
    arena room;                     /* for the norm */
    double squares[1 + ROW_TABLES]; /* of the parameters' gradients and of each table's */
    bool begun;

    /* Told before rows of a table change (a checkpoint copies them first); NULL: nobody is. */
    status (*before_rows)(void *context, int table, int64_t n, const int32_t *slot);
    void *before_context;
} optimizer;

typedef struct {
    double norm; /* of the mean gradient, before clipping; rows included where they are clipped */
    bool clipped;
    double lr; /* of the body at this step */
} optimizer_report;

/* lr of the body: optimizer.lr, or finetune.lr. Groups: the head at head_lr, rows at rows_lr (0: as
 * the body; the dense B of the rows goes with the body). Decay: weight_decay where the published
 * recipe decays, filter_weight_decay on the implicit filters, none elsewhere and none on rows. */
status optimizer_open(const config *c, bool finetune, const schedule *plan, model *m, device *dev,
                      comm *workers, optimizer *out);
void optimizer_close(optimizer *o);

/* Bytes of moments for a model of so many floats. */
int64_t optimizer_bytes(int64_t floats);

/* For a worker alone, after the backward passes: queues what a step can do before it knows its
 * loss, the order of the rows and the norm, which then comes with the same wait as the loss. A step
 * or a skip without it begins by itself, as with several workers: where arrays grow, memory is
 * given back, which waits for the sums between GPUs. */
status optimizer_begin(optimizer *o);

/* One step from the model's gradients, which must be summed over the workers already (rows are
 * exchanged here), over `tokens` predicted tokens in all. The norm that grad_clip limits is that of
 * all gradients together, rows included, as if the table were a dense parameter; with clip_rows
 * false it is that of the dense parameters alone, and rows are never scaled down. A norm that is
 * not finite, or above norm_limit, changes nothing but that the rows' gradients are gone, and is
 * STATUS_INTERNAL. Collective. */
status optimizer_step(optimizer *o, int64_t step, int64_t tokens, optimizer_report *report);

/* Instead of a step, where a worker's loss is no number: the rows' gradients are gone. The rows
 * that the workers have met since the last step are in every worker's tables, as after a step:
 * checkpoints need the same ones on all. Collective. */
status optimizer_skip(optimizer *o);

/* Tells the model to read rows replayed up to and including `step` (-1: none). */
status optimizer_present(optimizer *o, int64_t step);

/* Writes the replay of every row up to and including `step` into the tables: before a schedule
 * changes. */
status optimizer_settle_rows(optimizer *o, int64_t step);

#endif
