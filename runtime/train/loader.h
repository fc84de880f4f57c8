/* The loader: a thread that fills the next step's windows while the present step computes. A step's
 * windows are a pure function of (seed, step), so nothing of the loader belongs to a checkpoint. */
#ifndef CROCUTA_TRAIN_LOADER_H
#define CROCUTA_TRAIN_LOADER_H

#include "runtime/train/feed.h"
#include "runtime/train/nucleotides.h"
#include "runtime/train/schedule.h"
#include "runtime/train/sharing.h"

typedef struct {
    const dataset *data;
    const draws *draws;
    const nucleotides *bases; /* windows of sequences instead; NULL: of people */
    const schedule *plan;
    int64_t shards; /* slots are put in order by shard: see deal.h; 1: replicated */
    int workers, worker;
    int64_t sharers; /* of each sequence */
    bool classify;
    bool both;     /* every second window from its end: data.direction */
    bool spans;    /* the sites of the windows' spans too: feed_wants_spans */
    int64_t end;   /* steps from here on are not prepared: a stage's at most */
    int64_t shift; /* step s takes the windows of step s + shift: steady.h */
} loader_source;

typedef struct loader loader;

/* Begins with `step`. */
status loader_open(const loader_source *source, int64_t step, loader **out);
void loader_close(loader **l);

/* This worker's windows of a step; steps are asked for in order. Valid until the next call. */
status loader_next(loader *l, int64_t step, const feed **out);

/* The same, made on the spot: what the thread does, and what a test holds it against. */
status loader_make(const loader_source *source, int64_t step, feed *into);

#endif
