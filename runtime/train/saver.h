/* A worker's half of writing checkpoints while training goes on. At a step's end the worker copies
 * its share of the dense tensors, which is the only time that training stands still. Of the row
 * tables, each worker saves the rows that it owns (by row number), block by block: a block is
 * copied before the optimizer first changes it, or earlier, a few at each step's end. A thread
 * writes the copies where the coordinator's layout says, sums them and syncs them, with plain
 * system calls: it never calls HDF5 or MPI. */
#ifndef CROCUTA_TRAIN_SAVER_H
#define CROCUTA_TRAIN_SAVER_H

#include "comm/comm.h"
#include "runtime/train/snapshot.h"

typedef struct saver saver;

typedef struct {
    const char *dir; /* of the checkpoints */
    model *m;
    optimizer *o;
    const dataset *d;
    comm *world;
    int worker, workers;
    int home;            /* the coordinator's world rank */
    int64_t block_bytes; /* of rows copied at once; 0: as measured good */
} saver_place;

status saver_open(const saver_place *at, saver **out);
/* Gives up what is under way. */
void saver_close(saver **s);

/* A checkpoint of this moment; none may be under way. All workers, at the same step; worker 0 gives
 * the header, the others the step alone. waited_s: for which training stood still already. */
status saver_take(saver *s, const checkpoint_header *h, bool best, double waited_s);

/* The optimizer is about to change these rows of a table. */
status saver_before(void *saver, int table, int64_t n, const int32_t *slot);

/* Messages, and blocks copied for at most so many seconds; once a step. Never waits. */
status saver_tend(saver *s, double copy_s);

/* Training stood still for a moment more. */
void saver_waited(saver *s, double seconds);

bool saver_busy(const saver *s);
/* Bytes written so far in all: who waits looks whether it moves. */
int64_t saver_moved(saver *s);
/* How the newest one ended: STATUS_OK, or the failure's code, with its message put in place. */
status saver_outcome(const saver *s);

#endif
