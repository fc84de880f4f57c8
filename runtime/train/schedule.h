/* What a step is to be: its length of sequence (stages) and its learning rate. One curve rises over
 * the warm-up and falls to a floor; every group of parameters has its own peak and follows it. */
#ifndef CROCUTA_TRAIN_SCHEDULE_H
#define CROCUTA_TRAIN_SCHEDULE_H

#include "runtime/core/config.h"

/* Steps first .. end - 1 train on windows of seq_len tokens. */
typedef struct {
    int64_t index, first, end, seq_len;
    int64_t slots;            /* windows of the global batch */
    int64_t context_parallel; /* workers that share each of them; CONFIG_AUTO: the plan says */
} stage;

typedef struct {
    int64_t steps, warmup; /* of the whole run */
    schedule_kind kind;
    double floor; /* scheduler.min_lr / optimizer.lr: the last step's factor */
    int n_stages;
    stage stages[CONFIG_STAGES + 1];
    stage final; /* of data.seq_len, which all lead up to; also where the steps end before it */
} schedule;

/* finetune: finetune.steps of data.seq_len, no stages. STATUS_USAGE where the stages make no sense.
 */
status schedule_open(const config *c, bool finetune, schedule *out);

/* In (0, 1]; a group's learning rate at a step (counted from 0) is its peak times this:
 *   (step + 1) / warmup                                    while step < warmup
 *   floor + (1 - floor) (1 + cos(pi x)) / 2                x from 0 to 1 at the last step */
double schedule_factor(const schedule *s, int64_t step);

/* The stage of a step; steps beyond the last belong to the last. */
const stage *schedule_stage(const schedule *s, int64_t step);

#endif
