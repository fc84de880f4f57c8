/* A batch as one of the workers that share its sequences holds it: the same stretch of every
 * sequence, cut from whole ones. */
#ifndef CROCUTA_MODEL_SHARED_BATCH_H
#define CROCUTA_MODEL_SHARED_BATCH_H

#include "model/model.h"

typedef struct {
    uint8_t *ids, *targets; /* (B, Lp) */
    int64_t *position;
    int32_t *site;
    int64_t columns; /* room */
} shared_batch;

/* Room for stretches of `whole` as a member of g holds them. */
status shared_batch_open(const context_group *g, batch_shape whole, shared_batch *out);
void shared_batch_close(shared_batch *x);

/* This member's stretch of a batch of at most that shape; its arrays are x's until the next cut.
 * The batch itself where nobody shares. */
batch shared_batch_cut(shared_batch *x, const context_group *g, const batch *whole);

#endif
