/* Gradients of position rows between workers: each step they exchange the rows that they touched
 * as (row, gradient) pairs, never the table, and every worker gets the same merged list in the same
 * order, so that all copies of a table stay equal to the last bit. */
#ifndef CROCUTA_TRAIN_ROW_EXCHANGE_H
#define CROCUTA_TRAIN_ROW_EXCHANGE_H

#include "comm/comm.h"
#include "model/model.h"

typedef struct {
    int64_t count, k; /* merged: distinct rows, ascending */
    int64_t *row;     /* (count) */
    float *grad;      /* (count, k) sums of all workers, in the order of workers */
    int32_t *slot;    /* (count) slots of this worker's table */
    int64_t room;
    device *dev;    /* of the model */
    float *grad_on; /* grad and slot where the device has them: the same on a CPU */
    int32_t *slot_on;
    int64_t room_on;
    /* what is sent and received: see row_exchange.c */
    void *own, *all;
    size_t own_room, all_room;
    size_t *bytes; /* (workers) */
} row_exchange;

/* Fills the merged list from the model's pending gradients of a level, on the device as well.
 * Collective. */
status row_exchange_merge(row_exchange *x, model *m, int level, comm *workers);
/* Gives the merged rows their slots, new ones where they have none. */
status row_exchange_slots(row_exchange *x, model *m, int level);
void row_exchange_close(row_exchange *x);

/* The merge alone: n lists of (row, gradient), each ascending, one after the other. */
typedef struct {
    int64_t count;
    const int64_t *row;
    const float *grad;
} row_list;
status row_lists_merge(const row_list *lists, int n, int64_t k, row_exchange *into);

#endif
