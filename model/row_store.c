/* Storage of rows: see row_store.h. */
#include "model/row_store.h"

#include <stdlib.h>
#include <string.h>

void row_store_empty(row_store *s)
{
    free(s->t.row);
    device_drain(s->dev); /* queued work may be inside */
    void *const columns[] = {s->t.p, s->t.m, s->t.v, s->t.last};
    for (int i = 0; i < 4; i++)
        if (columns[i])
            device_memory_give(s->dev, columns[i]);
    if (s->dev) {
        device_host_give(s->dev, s->fresh);
        device_host_give(s->dev, s->fresh_last);
    }
    free(s->index);
    s->t.row = s->t.last = s->fresh_last = NULL;
    s->t.p = s->t.m = s->t.v = s->fresh = NULL;
    s->index = NULL;
    s->t.slots = s->t.room = s->index_size = s->scratch = 0;
    s->fresh_count = s->fresh_room = 0;
}

void row_store_clear(row_store *s)
{
    if (s->index)
        memset(s->index, 0, (size_t)s->index_size * sizeof *s->index);
    s->t.slots = s->scratch = 0;
}

/* ---- the index ---- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Entries for so many rows out of all; at least a sixth of a hash is empty. */
static int64_t index_for(int64_t slots, int64_t rows)
{
    return least(slots + slots / 5 + 1, rows);
}

static bool each_has_its_own(const row_store *s)
{
    return s->index_size == s->t.rows;
}

/* Fibonacci hashing: neighbouring rows, which is what windows touch, spread over the whole. */
static int64_t index_place(const row_store *s, int64_t row)
{
    if (each_has_its_own(s))
        return row;
    const uint64_t high = ((uint64_t)row * UINT64_C(0x9E3779B97F4A7C15)) >> 32;
    return (int64_t)((high * (uint64_t)s->index_size) >> 32); /* it is below 2^32 */
}

int32_t row_store_find(const row_store *s, int64_t row)
{
    if (!s->index_size || row >= s->t.rows)
        return -1;
    int64_t i = index_place(s, row);
    while (s->index[i] && s->t.row[s->index[i] - 1] != row)
        if (++i == s->index_size)
            i = 0;
    return s->index[i] - 1;
}

static void index_enter(row_store *s, int64_t row, int32_t slot)
{
    int64_t i = index_place(s, row);
    while (s->index[i])
        if (++i == s->index_size)
            i = 0;
    s->index[i] = slot + 1;
}

/* Another one in place of the old, which goes first: both at once would be the peak. */
static status index_make(row_store *s, int64_t size)
{
    free(s->index);
    s->index_size = 0;
    s->index = calloc((size_t)size, sizeof *s->index);
    if (!s->index)
        return fail(STATUS_MEMORY,
                    "position: no memory for the index of %lld rows; raise position.alpha",
                    (long long)s->t.slots);
    s->index_size = size;
    for (int64_t i = 0; i < s->t.slots; i++)
        index_enter(s, s->t.row[i], (int32_t)i);
    return STATUS_OK;
}

status row_store_enter(row_store *s, int64_t row)
{
    const int64_t slots = s->t.slots + 1;
    if (index_for(slots, s->t.rows) > s->index_size)
        TRY(index_make(s, index_for(slots + slots / 4 + 1024, s->t.rows)));
    s->t.row[s->t.slots] = row;
    index_enter(s, row, (int32_t)s->t.slots);
    s->t.slots = slots;
    return STATUS_OK;
}

/* ---- columns ---- */

static status no_room(int64_t rows)
{
    return fail(STATUS_MEMORY, "position: no memory for %lld touched rows; raise position.alpha",
                (long long)rows);
}

/* A larger column on the device with the old one's first `kept` bytes. */
static status grow_column(device *dev, void *column, size_t kept, size_t bytes)
{
    void *old, *new;
    memcpy(&old, column, sizeof old);
    if (dev->kind == DEVICE_CPU) { /* a realloc need not copy */
        new = realloc(old, bytes);
        if (!new)
            return STATUS_MEMORY;
    } else {
        TRY(device_memory_take(dev, bytes, &new));
        status st = old ? device_copy(dev, new, old, kept) : STATUS_OK;
        if (st == STATUS_OK && old)
            st = device_wait(dev); /* before the old one goes */
        if (st != STATUS_OK) {
            device_memory_give(dev, new);
            return st;
        }
        if (old)
            device_memory_give(dev, old);
    }
    memcpy(column, &new, sizeof new);
    return STATUS_OK;
}

static status grow_columns(row_store *s, int64_t room)
{
    row_table *t = &s->t;
    const size_t rows = (size_t)room * sizeof(int64_t), held = (size_t)t->room;
    const size_t values = (size_t)(room * t->k) * sizeof(float);
    const size_t kept = held * (size_t)t->k * sizeof(float);
    int64_t *row = realloc(t->row, rows);
    if (!row)
        return no_room(room);
    t->row = row;
    if (grow_column(s->dev, &t->last, held * sizeof(int64_t), rows) != STATUS_OK ||
        grow_column(s->dev, &t->p, kept, values) != STATUS_OK ||
        grow_column(s->dev, &t->m, kept, values) != STATUS_OK ||
        grow_column(s->dev, &t->v, kept, values) != STATUS_OK)
        return s->dev->kind == DEVICE_CPU ? no_room(room) : failure_last()->code;
    t->room = room;
    return STATUS_OK;
}

static status columns_reserve(row_store *s, int64_t room)
{
    if (room > INT32_MAX - 1)
        return fail(STATUS_RESOURCE, "position: more than 2^31 touched rows; raise position.alpha");
    return room > s->t.room ? grow_columns(s, room) : STATUS_OK;
}

status row_store_reserve(row_store *s, int64_t slots)
{
    TRY(columns_reserve(s, slots));
    const int64_t size = index_for(slots, s->t.rows);
    return size > s->index_size ? index_make(s, size) : STATUS_OK;
}

/* A 64th more is little memory, and some hundred times until there are millions of rows; scratch
 * may go beyond the rows that the table could have. */
status row_store_grow(row_store *s, int64_t slots)
{
    if (slots <= s->t.room)
        return STATUS_OK;
    const int64_t more = s->t.room / 64 > 1024 ? s->t.room / 64 : 1024;
    const int64_t room = least(s->t.room + more, s->t.rows);
    return columns_reserve(s, room > slots ? room : slots);
}

/* Values, two moments, row number and last step. */
static int64_t column_bytes(int64_t k)
{
    return 3 * k * (int64_t)sizeof(float) + 2 * (int64_t)sizeof(int64_t);
}

int64_t row_store_bytes(const row_store *s)
{
    return s->t.room * column_bytes(s->t.k) + s->index_size * (int64_t)sizeof *s->index;
}

int64_t row_store_reserved(int64_t slots, int64_t rows, int64_t k)
{
    return slots * column_bytes(k) + index_for(slots, rows) * (int64_t)sizeof(int32_t);
}

static status grow_fresh(row_store *s)
{
    const int64_t room = s->fresh_room ? 2 * s->fresh_room : 1024;
    const size_t k = (size_t)s->t.k, kept = (size_t)s->fresh_count;
    void *values = NULL, *last = NULL;
    TRY(device_host_take(s->dev, (size_t)room * k * sizeof(float), &values));
    const status st = device_host_take(s->dev, (size_t)room * sizeof(int64_t), &last);
    if (st != STATUS_OK) {
        device_host_give(s->dev, values);
        return st;
    }
    if (kept) {
        memcpy(values, s->fresh, kept * k * sizeof(float));
        memcpy(last, s->fresh_last, kept * sizeof(int64_t));
    }
    device_host_give(s->dev, s->fresh);
    device_host_give(s->dev, s->fresh_last);
    s->fresh = values;
    s->fresh_last = last;
    s->fresh_room = room;
    return STATUS_OK;
}

status row_store_new(row_store *s, int64_t slot, int64_t row, float **p)
{
    row_table *t = &s->t;
    const size_t bytes = (size_t)t->k * sizeof(float);
    t->row[slot] = row;
    if (device_is_host(s->dev)) {
        *p = t->p + slot * t->k;
        memset(t->m + slot * t->k, 0, bytes);
        memset(t->v + slot * t->k, 0, bytes);
        t->last[slot] = -1;
    } else {
        if (s->fresh_count == s->fresh_room)
            TRY(grow_fresh(s));
        if (s->fresh_count == 0)
            s->fresh_from = slot;
        *p = s->fresh + s->fresh_count * t->k;
        s->fresh_last[s->fresh_count++] = -1;
    }
    memset(*p, 0, bytes);
    return STATUS_OK;
}

status row_store_send(row_store *s)
{
    const int64_t n = s->fresh_count, at = s->fresh_from * s->t.k;
    const size_t bytes = (size_t)(n * s->t.k) * sizeof(float);
    s->fresh_count = 0;
    if (n == 0)
        return STATUS_OK;
    TRY(device_upload(s->dev, s->t.p + at, s->fresh, bytes));
    TRY(device_clear(s->dev, s->t.m + at, bytes));
    TRY(device_clear(s->dev, s->t.v + at, bytes));
    return device_upload(s->dev, s->t.last + s->fresh_from, s->fresh_last,
                         (size_t)n * sizeof(int64_t));
}

static status column(row_store *s, float *to, const float *from, size_t bytes)
{
    return from ? device_upload(s->dev, to, from, bytes) : device_clear(s->dev, to, bytes);
}

status row_store_fill(row_store *s, int64_t n, const float *p, const float *m, const float *v,
                      const int64_t *last)
{
    const size_t bytes = (size_t)(n * s->t.k) * sizeof(float), rows = (size_t)n * sizeof(int64_t);
    TRY(column(s, s->t.p, p, bytes));
    TRY(column(s, s->t.m, m, bytes));
    TRY(column(s, s->t.v, v, bytes));
    device_view view;
    TRY(device_view_open(s->dev, s->t.last, rows, false, &view));
    int64_t *to = view.host;
    for (int64_t i = 0; i < n; i++)
        to[i] = last ? last[i] : -1;
    TRY(device_view_close(&view, true, STATUS_OK));
    return device_wait(s->dev); /* the caller's arrays */
}
