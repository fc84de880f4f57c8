/* The storage of one table of rows (model/position.h): an open-addressed hash from row number to
 * slot on the host, and columns in the device's memory, which grow by doubling. */
#ifndef CROCUTA_MODEL_ROW_STORE_H
#define CROCUTA_MODEL_ROW_STORE_H

#include "model/position.h"

typedef struct {
    device *dev;
    row_table t;
    int64_t room;      /* slots that fit */
    int64_t scratch;   /* slots behind the table, of the last look-up */
    int32_t *hash;     /* slot + 1; 0: empty */
    int64_t hash_size; /* a power of two */

    /* New slots on their way to a device that is not the host. */
    float *fresh;        /* (fresh_room, k) */
    int64_t *fresh_last; /* (fresh_room) */
    int64_t fresh_from, fresh_count, fresh_room;
} row_store;

void row_store_empty(row_store *s);
int32_t row_store_find(const row_store *s, int64_t row); /* its slot, -1: none */
void row_store_enter(row_store *s, int64_t row, int32_t slot);
/* Room for `slots` slots, scratch included. */
status row_store_reserve(row_store *s, int64_t slots);

/* A slot for a row that has none, with room reserved: *p is where the host writes its k values;
 * moments are zero. New slots are made one behind the other, then sent. */
status row_store_new(row_store *s, int64_t slot, int64_t row, float **p);
status row_store_send(row_store *s);

/* Columns of the first n slots from the host's; m, v, last NULL: as if never updated. */
status row_store_fill(row_store *s, int64_t n, const float *p, const float *m, const float *v,
                      const int64_t *last);

#endif
