/* The coordinator's half of writing checkpoints: lays the file out where worker 0 asks for one,
 * gathers what the workers have written, commits, points `latest` and `best` to it and prunes. A
 * failure ends this one checkpoint and leaves the older ones as they are. */
#ifndef CROCUTA_TRAIN_KEEPER_H
#define CROCUTA_TRAIN_KEEPER_H

#include "comm/comm.h"
#include "runtime/core/config.h"
#include "runtime/core/status.h"

typedef struct keeper keeper;

/* Workers are world ranks first .. first + workers - 1. What jobs that died left half-written is
 * removed. */
status keeper_open(const char *dir, const config *c, int first, int workers, keeper **out);
void keeper_close(keeper **k);

/* Takes what has come; never waits. Failures of the checkpoint are no failures of this call. */
typedef enum {
    KEEPER_NOTHING,
    KEEPER_WRITTEN, /* every worker is done: keeper_commit is due */
    KEEPER_ENDED,   /* committed or given up: keeper_end is due */
} keeper_state;
status keeper_poll(keeper *k, comm *world, keeper_state *state);

/* Begins to commit, in a thread that syncs these files first (the journals: a step that a
 * checkpoint holds must not be missing from them). */
status keeper_commit(keeper *k, const int *files, int n);

/* How a checkpoint ended. */
typedef struct {
    int64_t step;
    bool committed;
    char detail[480]; /* for the journal */
} keeper_news;

/* Tells the workers, and forgets it. */
status keeper_end(keeper *k, comm *world, keeper_news *news);

#endif
