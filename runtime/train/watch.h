/* Who trains, and whether it still moves: workers send a beat where an operation begins (half a
 * second apart at most while they compute) and wherever they begin to wait for each other. Who is
 * silent for longer than a step of this size explains is named, and so is a process of this machine
 * that is gone. */
#ifndef CROCUTA_TRAIN_WATCH_H
#define CROCUTA_TRAIN_WATCH_H

#include "comm/comm.h"

#define TAG_BEAT 18

typedef struct {
    int worker;
    int64_t step;   /* that is being done, from 1 */
    int64_t met;    /* times that it began to wait for the others, so far */
    double quiet_s; /* longer than this it should not be silent from now on; 0: no limit */
    char phase[32]; /* "mixin_forward", "exchange" */
} beat;

/* A rank of the job. */
typedef struct {
    char host[64];
    int64_t pid;
} seat;

typedef struct watch watch;

/* seats (workers): those of the workers, world ranks from `first` on; `host`: this machine's. */
status watch_open(const seat *seats, int workers, int first, const char *host, watch **out);
void watch_close(watch **w);

/* Takes the beats that have come. */
status watch_poll(watch *w, comm *world);
void watch_beat(watch *w, const beat *b);

/* What was last heard of a worker. */
typedef struct {
    seat who;
    int rank;
    bool heard;
    bool stopped, gone; /* its process, where it can be seen from here */
    double ago_s;
    beat b; /* worker is right though nothing was heard */
} watch_view;

int watch_workers(const watch *w);
void watch_view_of(watch *w, int worker, watch_view *v);

/* Who is lost. */
typedef struct {
    int worker, rank;
    int64_t step;
    char host[64], detail[384];
} watch_loss;

/* True: somebody is lost, and why. Looks at processes five times a second at most. self: a worker
 * in whose process this is, by whose silence alone all are judged (beats of the others may lie
 * unread); -1: the coordinator is a rank of its own. May be called beside the others. */
bool watch_look(watch *w, int self, watch_loss *loss);

#endif
