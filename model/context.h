/* Context parallelism: S workers share each sequence (others call it sequence parallelism). Every
 * member holds a contiguous stretch of its positions. Products, norms and gates need no other; the
 * three-tap convolution takes a halo of two columns from the left neighbour; the long convolution
 * gets, by one all-to-all, all positions of this member's channels, and gives them back by another.
 * A member generates the filters of its channels alone and holds their gradients, so that all
 * gradients are sums over the workers, as with data parallelism. */
#ifndef CROCUTA_MODEL_CONTEXT_H
#define CROCUTA_MODEL_CONTEXT_H

#include "comm/comm_device.h"
#include "kernels/ops.h"

#define CONTEXT_UNIT                                                                               \
    4 /* positions: stretches begin at multiples, as dropout masks come in fours                   \
       */

/* Who shares. Belongs to the caller and must outlive the model's use of it. */
typedef struct {
    comm *group;       /* the members, rank by rank from the left; NULL: only planned */
    comm_device *gpus; /* their GPUs; NULL: the host's memory */
    int size;          /* 1: nobody shares */
} context_group;

/* Positions [first, first + count) of a sequence. */
typedef struct {
    int64_t first, count;
} context_stretch;

/* The stretch of a member of `size`, of L positions. */
context_stretch context_stretch_of(int64_t L, int size, int rank);

/* Is L long enough for every member to have one? STATUS_USAGE where it is not. */
bool context_long_enough(int64_t L, int size);
status context_check(int64_t L, int size);

/* B sequences as this member holds them; for a group that is only planned, the largest. */
batch_shape context_shape(const context_group *g, batch_shape whole);

#endif
