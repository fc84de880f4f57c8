/* A training run, pretraining and fine-tuning alike: the ranks take their roles, set up what they
 * need, agree that all is well, and go through the steps. loop.c is the part to read first. */
#ifndef CROCUTA_TRAIN_TRAINER_H
#define CROCUTA_TRAIN_TRAINER_H

#include "comm/comm.h"
#include "io/draws.h"
#include "runtime/train/beats.h"
#include "runtime/train/coordinator.h"
#include "runtime/train/gradient_sum.h"
#include "runtime/train/loader.h"
#include "runtime/train/lookup.h"
#include "runtime/train/saver.h"
#include "runtime/train/snapshot.h"
#include "runtime/train/stage_plan.h"

/* What was asked for. */
typedef struct {
    const config *config; /* finished, with data */
    bool finetune;
    const char *from; /* fine-tuning: MODEL, or "none" */
    const char *run;  /* run directory */
    bool resume, force;
    int64_t max_steps; /* absolute; 0: no limit */
    device_kind device;
    int threads;
    const char *command, *versions; /* for command.txt and versions.json */
    /* Called by worker 0 once a step, with the steps done and those of the run; NULL: nobody is
     * told.
     */
    void (*tick)(void *context, int64_t step, int64_t steps);
    void *tick_context;
} train_request;

/* Who this rank is. */
typedef struct {
    comm *world, *workers; /* workers NULL: the dedicated coordinator */
    bool dedicated;        /* world rank 0 trains nothing */
} train_roles;

/* Sums of a batch or a validation over all workers. */
typedef struct {
    double loss; /* nats, summed */
    int64_t targets, hits, labelled;
} train_sums;

typedef struct {
    const train_request *ask;
    train_roles roles;
    int worker, workers;
    coordinator *inside; /* of worker 0, where the coordinator is no rank of its own */
    coordinator_link link;
    beats beats;

    device *dev;
    dataset *data;
    draws *draws;
    nucleotides bases; /* data.tokens: nucleotide; data is then its labels and identity alone */
    model *m;
    bool head_kept; /* the head of the model that is fine-tuned, for the same classes */
    schedule sched;
    optimizer opt;
    gradient_sum sum;
    sharing share;       /* of this stage's sequences */
    sharing valid_share; /* of validation's, where as many workers share them as nowhere else */
    train_state state;
    loader *load;
    saver *save;

    lookup *counts; /* NULL: no look-up beside the loss */
    double lookup;  /* perplexity on the validation windows, NaN: none */

    const stage *stage; /* that memory is prepared for */
    plan memory;        /* of that stage */
    int64_t room; /* bytes of a worker that were free beside weights and rows, before any stage */
    sharers how;  /* workers that share a sequence of it, and of validation */
    int64_t micro_batch; /* sequences at once */
    keep_level keep;
    loss_sum *losses; /* (losses_room) of a step's micro-batches */
    int64_t losses_room;
    int64_t last;               /* this job ends after this many steps in all */
    bool apart;                 /* validation takes turns with the stage's passes: trainer_turn */
    feed validation;            /* windows of the final length */
    int64_t valid_batch;        /* of them at once */
    int64_t validation_windows; /* 0: nobody to validate on */
    float *class_logits;        /* (valid_batch, classes) */

    double flops_per_s, bytes_per_s; /* measured; 0: not */
    double step_flops, step_bytes;   /* of this worker's part of a step of this stage */
    int64_t rolled_to;               /* checkpoint gone back to, -1: never */
    bool good_since;                 /* a step was done since */
    int64_t committed;               /* step of the newest checkpoint taken, -1: none */
    char checkpoints[CONFIG_TEXT + 16];
} trainer;

/* The whole run, on every rank. STATUS_STOPPED: stopped on request, checkpoint committed. */
status train_run(const train_request *ask, comm *world);

/* setup.c: what a worker needs, before the run directory is touched; and its end. */
status trainer_open(trainer *t, const train_request *ask, const train_roles *roles);
void trainer_close(trainer *t);
/* stages.c: can the workers be divided for every stage, and does each fit? Before anything runs;
 * t->memory becomes the plan of the first one. */
status trainer_check_stages(trainer *t);
/* Plan, groups, memory and windows for the stage of a step, where it is another than before.
 * Collective, with one status. */
status trainer_enter_stage(trainer *t, int64_t step);
/* The loader from the state's step on, anew. */
status trainer_load_windows(trainer *t);
/* The model's memory to validation's passes, and back to the stage's: the same arenas, parted
 * anew. All workers at once. */
status trainer_turn(trainer *t, bool validation);
sharing *trainer_valid_sharing(trainer *t);

/* What all workers know after the forward and backward passes of a step. */
typedef struct {
    train_sums sums;
    unsigned commands; /* of the coordinator */
    bool signalled;    /* a worker was asked to stop */
    bool mine_bad;     /* this worker's loss is no number */
    bool some_bad;     /* a worker's is */
    bool skipped;      /* the step changed nothing */
    bool rolled;       /* and training went back */
    double wait_s;     /* in communication */
    double busy_s;     /* GPUs summed gradients, most of it while backward ran; NaN: not measured */
} step_sums;

/* loop.c: the steps, from state.step on. */
status trainer_loop(trainer *t);
/* The first half of a step: this worker's windows forward and backward, the model's gradients
 * summed over all workers (rows are exchanged by the optimizer), losses and decisions shared. */
status trainer_gradients(trainer *t, int64_t step, step_sums *s);

/* rollback.c: the state of the newest checkpoint, on all workers alike. STATUS_INTERNAL: there is
 * none, or it did not help before; `why` begins the message. */
status trainer_roll_back(trainer *t, const char *why);
/* saving.c: before the first checkpoint, and after the rows were replaced. */
status trainer_open_saver(trainer *t);

/* saving.c: a checkpoint of this step's end, on all workers alike, written while training goes on;
 * what is to be done for it once a step; and its end, with its failure where it failed. */
status trainer_save(trainer *t);
status trainer_tend(trainer *t, double step_s);
status trainer_settle(trainer *t);

/* validation.c: the loss on windows of held-out people, of the final length; all workers get the
 * same sums. */
status validation_run(trainer *t, train_sums *sums);
/* Perplexity of the counting look-up on those windows. */
status validation_lookup(trainer *t, double *perplexity);

/* Counts the windows of a batch whose most likely class is the label. */
void count_hits(const batch *b, const float *logits, int classes, train_sums *sums);

#endif
