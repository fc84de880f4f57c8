/* The storage of one table of rows (model/position.h): columns in the device's memory, with room
 * for the rows that are expected or a little more than there are; and, on the host, an index from
 * row number to slot. The index is an open-addressed hash of slots alone, at most five sixths full;
 * a row's number stands once, in its column. Where that would take as many entries as the table
 * could ever have rows, every row has an entry of its own. */
#ifndef CROCUTA_MODEL_ROW_STORE_H
#define CROCUTA_MODEL_ROW_STORE_H

#include "model/position.h"

typedef struct {
    device *dev;
    row_table t;
    int64_t scratch;    /* slots behind the table, of the last look-up */
    int32_t *index;     /* slot + 1; 0: empty */
    int64_t index_size; /* t.rows: one for each row */

    /* New slots on their way to a device that is not the host. */
    float *fresh;        /* (fresh_room, k) */
    int64_t *fresh_last; /* (fresh_room) */
    int64_t fresh_from, fresh_count, fresh_room;
} row_store;

void row_store_empty(row_store *s);
void row_store_clear(row_store *s);                      /* no rows; what is reserved stays */
int32_t row_store_find(const row_store *s, int64_t row); /* its slot, -1: none */
/* A row that is not there gets the slot t.slots, for which there is room; its columns are as they
 * are. */
status row_store_enter(row_store *s, int64_t row);

/* Columns and index for so many rows, and no more. */
status row_store_reserve(row_store *s, int64_t slots);
/* Columns for `slots` slots, scratch included, and some that will come. */
status row_store_grow(row_store *s, int64_t slots);
/* Bytes that are taken, and those that row_store_reserve takes for so many of `rows`. */
int64_t row_store_bytes(const row_store *s);
int64_t row_store_reserved(int64_t slots, int64_t rows, int64_t k);

/* A slot for a row that has none, with room reserved: *p is where the host writes its k values;
 * moments are zero. New slots are made one behind the other, then sent; on a GPU those sent before
 * must have been read (device_upload_wait, as every batch begins with). */
status row_store_new(row_store *s, int64_t slot, int64_t row, float **p);
status row_store_send(row_store *s);

/* Columns of the first n slots from the host's; m, v, last NULL: as if never updated. */
status row_store_fill(row_store *s, int64_t n, const float *p, const float *m, const float *v,
                      const int64_t *last);

#endif
