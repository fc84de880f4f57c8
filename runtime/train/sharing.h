/* Workers that share sequences in a stage (context parallelism, model/context.h): neighbours in
 * rank form a group, which is dealt windows as one worker would be. With groups of one, each worker
 * has whole sequences and none of this costs anything. */
#ifndef CROCUTA_TRAIN_SHARING_H
#define CROCUTA_TRAIN_SHARING_H

#include "model/shared_batch.h"

typedef struct {
    comm *members; /* NULL: alone */
    comm_device *gpus;
    context_group group;
    shared_batch cut;
} sharing;

/* Which part of a batch is a worker's: groups, and the place of this worker's among them. */
typedef struct {
    int groups, group;
} sharing_place;
static inline sharing_place sharing_place_of(int workers, int worker, int64_t size)
{
    return (sharing_place){workers / (int)size, worker / (int)size};
}

/* Groups of `size` workers, which divides them; collective, with one status. */
status sharing_open(comm *workers, int64_t size, const device *dev, const config *c, sharing *out);
/* Between GPUs collective, unless something has failed before (sharing_abort). */
void sharing_close(sharing *s);
void sharing_abort(sharing *s);

/* Room for batches of this shape too, and a batch cut to this worker's stretch. */
status sharing_prepare(sharing *s, batch_shape whole);
batch sharing_cut(sharing *s, const batch *whole);

#endif
