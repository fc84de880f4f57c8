/* The sweep's coordinator as a desk where groups report and get their next trial. It never blocks:
 * sweep_desk_serve looks once at what has come. On a rank of its own it is called in a loop with
 * short sleeps; inside the first worker, once a step of that worker's own trial. */
#ifndef CROCUTA_TRAIN_SWEEP_DESK_H
#define CROCUTA_TRAIN_SWEEP_DESK_H

#include "runtime/train/sweep.h"

/* To a worker: the trial to run, or what else it should do. */
enum { ORDER_LEAVE = -1 };
typedef struct {
    int trial, attempts;
} sweep_order;

/* To the desk. */
typedef enum { NEWS_STEP, NEWS_END, NEWS_LOST } news_kind;
typedef struct {
    news_kind kind;
    int group, trial;
    int64_t step, steps; /* of the part */
    char part[16], host[64];
    status outcome;
    char why[FAILURE_TEXT]; /* of a failure */
    trial_result result;
} sweep_news;

#define TAG_ORDER 21 /* to every rank of a group */
#define TAG_NEWS 22  /* to world rank 0 */
#define TAG_HALT 23  /* to the first rank of a group: stop with a checkpoint */

typedef struct sweep_desk sweep_desk;

/* first: world rank of the first worker. Takes over trials from the folder; holds its lock. */
status sweep_desk_open(sweep *s, comm *world, int first, int groups, sweep_desk **out);
/* The lock is given back. */
void sweep_desk_close(sweep_desk **d);

/* *over: every group has been told to leave. */
status sweep_desk_serve(sweep_desk *d, bool *over);
/* How the sweep ended, after `over`; writes the last lines of the journal and the table. */
status sweep_desk_conclude(sweep_desk *d);

#endif
