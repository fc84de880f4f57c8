/* How the windows of a global batch are dealt to workers. The slots are put in dealing order (by
 * virtual shard, then by number) and the order is cut into equal stretches: a worker reads a
 * contiguous block of shards, no worker has more than one window more than another, and the global
 * batch is the same for any number of workers. */
#ifndef CROCUTA_TRAIN_DEAL_H
#define CROCUTA_TRAIN_DEAL_H

#include <stdint.h>

/* Places [first, first + count) of the dealing order. */
typedef struct {
    int64_t first, count;
} share;

static inline share deal_share(int64_t slots, int workers, int worker)
{
    int64_t first = slots * worker / workers;
    return (share){first, slots * (worker + 1) / workers - first};
}

/* The slot at a place of the order. Slot s belongs to shard s modulo `shards`: the first
 * slots % shards shards have one slot more than the others. */
static inline int64_t deal_slot(int64_t slots, int64_t shards, int64_t place)
{
    int64_t each = slots / shards, more = slots % shards;
    if (place < more * (each + 1))
        return place / (each + 1) + place % (each + 1) * shards;
    place -= more * (each + 1);
    return more + place / each + place % each * shards;
}

#endif
