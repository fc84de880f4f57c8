/* Gradients of position rows between workers: each step they exchange the rows that they touched
 * as (row, gradient) pairs, never the table, and every worker gets the same merged list in the same
 * order, so that all copies of a table stay equal to the last bit. */
#ifndef CROCUTA_TRAIN_ROW_EXCHANGE_H
#define CROCUTA_TRAIN_ROW_EXCHANGE_H

#include "comm/comm.h"
#include "model/model.h"

typedef struct {
    int64_t count, k; /* distinct rows, ascending */
    int64_t *row;     /* (count) */
    int32_t *slot;    /* (count) slots of this worker's table */
    int32_t *place;   /* (count) of this worker's own: where the model has their gradients */
    float *grad;      /* (count, k) sums of all workers, in the order of workers; NULL for a worker
                         alone on a GPU, where grad_on has them */
    int64_t room, grad_room;
    device *dev;    /* of the model */
    float *grad_on; /* grad, slot and place where the device has them: the same on a CPU */
    int32_t *slot_on, *place_on;
    int64_t room_on;
    bool taken, alone;
    /* what is sorted, sent and received: see row_exchange.c */
    void *order, *own, *all;
    size_t order_room, own_room, all_room;
    size_t *bytes; /* (workers) */
} row_exchange;

/* This worker's part: the model's pending gradients of a table, by row, on the device. They are
 * only queued there; nothing waits. What was uploaded for the call before must have been read
 * (device_upload_wait). */
status row_exchange_take(row_exchange *x, model *m, int level);
/* The gradients of all workers, from what each has taken (or takes now), on the device as well: for
 * a worker alone that is all. Several wait for the device here: messages go through the host.
 * Collective. */
status row_exchange_merge(row_exchange *x, model *m, int level, comm *workers);
/* Gives the merged rows their slots, new ones where they have none. */
status row_exchange_slots(row_exchange *x, model *m, int level);
void row_exchange_close(row_exchange *x);

#endif
