/* Row gradients between workers: see row_exchange.h. A worker's message is its rows (int64), then
 * its gradients (fp32), both in ascending order of row; lists are merged as they come. */
#include "runtime/train/row_exchange.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t row;
    int32_t slot, place;
} numbered;

/* A worker's list, ascending by row. */
typedef struct {
    int64_t count;
    const int64_t *row;
    const float *grad;
} row_list;

static int by_row(const void *a, const void *b)
{
    const int64_t x = ((const numbered *)a)->row, y = ((const numbered *)b)->row;
    return x < y ? -1 : x > y;
}

static status short_of_memory(void)
{
    return fail(STATUS_MEMORY, "position rows: no memory for a step's gradients; lower "
                               "train.tokens_per_step");
}

static status grow(void **p, size_t *room, size_t bytes)
{
    if (bytes <= *room)
        return STATUS_OK;
    void *more = realloc(*p, bytes + bytes / 4);
    if (!more)
        return short_of_memory();
    *p = more;
    *room = bytes + bytes / 4;
    return STATUS_OK;
}

/* Room for so many rows in the host's lists and, beside them, on the device; what they held is
 * lost. Memory is given back only where nothing is queued any more. */
static status lists_reserve(row_exchange *x, int64_t n)
{
    void *slot = NULL, *place = NULL;
    if (n <= x->room)
        return STATUS_OK;
    n += n / 4;
    int64_t *row = realloc(x->row, (size_t)n * sizeof *row);
    if (row)
        x->row = row;
    TRY(device_wait(x->dev));
    device_host_give(x->dev, x->slot);
    device_host_give(x->dev, x->place);
    x->room = 0;
    x->slot = x->place = NULL;
    const size_t bytes = (size_t)n * sizeof *x->slot;
    status st = device_host_take(x->dev, bytes, &slot);
    x->slot = slot;
    if (st == STATUS_OK)
        st = device_host_take(x->dev, bytes, &place);
    x->place = place;
    if (st != STATUS_OK || !row)
        return short_of_memory();
    x->room = n;
    return STATUS_OK;
}

static void take_back(row_exchange *x)
{
    const bool apart = x->dev && !device_is_host(x->dev);
    if (x->grad_on)
        device_memory_give(x->dev, x->grad_on);
    if (apart && x->slot_on)
        device_memory_give(x->dev, x->slot_on);
    if (apart && x->place_on)
        device_memory_give(x->dev, x->place_on);
    x->grad_on = NULL;
    x->slot_on = x->place_on = NULL;
    x->room_on = 0;
}

static status on_reserve(row_exchange *x, int64_t n)
{
    const bool apart = !device_is_host(x->dev);
    if (n > x->room_on || !x->grad_on) {
        void *grad = NULL, *slot = NULL, *place = NULL;
        n += n / 4 + 1;
        TRY(device_wait(x->dev));
        take_back(x);
        const size_t bytes = (size_t)n * sizeof *x->slot;
        status st = device_memory_take(x->dev, (size_t)(n * x->k) * sizeof *x->grad_on, &grad);
        x->grad_on = grad;
        if (st == STATUS_OK && apart)
            st = device_memory_take(x->dev, bytes, &slot);
        x->slot_on = slot;
        if (st == STATUS_OK && apart)
            st = device_memory_take(x->dev, bytes, &place);
        x->place_on = place;
        TRY(st);
        x->room_on = n;
    }
    if (!apart) {
        x->slot_on = x->slot;
        x->place_on = x->place;
    }
    return STATUS_OK;
}

/* Where merged gradients are written: on a CPU, in place. */
static status grads_reserve(row_exchange *x, int64_t n)
{
    if (device_is_host(x->dev)) {
        TRY(on_reserve(x, n));
        x->grad = x->grad_on;
        return STATUS_OK;
    }
    if (n <= x->grad_room)
        return STATUS_OK;
    n += n / 4;
    float *grad = realloc(x->grad, (size_t)(n * x->k) * sizeof *grad);
    if (!grad)
        return short_of_memory();
    x->grad = grad;
    x->grad_room = n;
    return STATUS_OK;
}

status row_exchange_take(row_exchange *x, model *m, int level)
{
    row_table *tables[ROW_TABLES];
    position_tables(model_position(m), tables);
    const touched_rows t = model_touched_rows(m, level);
    x->dev = model_device(m);
    x->k = tables[level]->k;
    x->taken = true;
    x->count = t.count;
    TRY(lists_reserve(x, t.count));
    TRY(on_reserve(x, t.count));
    if (device_is_host(x->dev))
        x->grad = x->grad_on;
    TRY(grow(&x->order, &x->order_room, (size_t)t.count * sizeof(numbered)));
    numbered *order = x->order;
    for (int64_t i = 0; i < t.count; i++)
        order[i] = (numbered){tables[level]->row[t.slot[i]], t.slot[i], t.place[i]};
    if (t.count > 1)
        qsort(order, (size_t)t.count, sizeof *order, by_row);
    for (int64_t i = 0; i < t.count; i++) {
        x->row[i] = order[i].row;
        x->slot[i] = order[i].slot;
        x->place[i] = order[i].place;
    }
    const size_t bytes = (size_t)t.count * sizeof *x->slot;
    TRY(device_upload(x->dev, x->slot_on, x->slot, bytes));
    TRY(device_upload(x->dev, x->place_on, x->place, bytes));
    return rows_gather(x->dev, t.count, x->k, x->place_on, t.sum, x->grad_on);
}

static status lists_merge(const row_list *lists, int n, row_exchange *into)
{
    const int64_t k = into->k;
    int64_t total = 0;
    for (int i = 0; i < n; i++)
        total += lists[i].count;
    TRY(lists_reserve(into, total));
    TRY(grads_reserve(into, total));
    int64_t *at = calloc((size_t)n, sizeof *at);
    if (!at)
        return short_of_memory();
    into->count = 0;
    for (;;) {
        int64_t least = INT64_MAX;
        for (int i = 0; i < n; i++)
            if (at[i] < lists[i].count && lists[i].row[at[i]] < least)
                least = lists[i].row[at[i]];
        if (least == INT64_MAX)
            break;
        float *sum = into->grad + into->count * k;
        memset(sum, 0, (size_t)k * sizeof *sum);
        for (int i = 0; i < n; i++)
            for (; at[i] < lists[i].count && lists[i].row[at[i]] == least; at[i]++)
                for (int64_t c = 0; c < k; c++)
                    sum[c] += lists[i].grad[at[i] * k + c];
        into->row[into->count++] = least;
    }
    free(at);
    return STATUS_OK;
}

/* What was taken as one message in x->own. */
static status pack(row_exchange *x, size_t *bytes)
{
    const size_t rows = (size_t)x->count * sizeof *x->row,
                 grads = (size_t)(x->count * x->k) * sizeof *x->grad;
    *bytes = rows + grads;
    TRY(grow(&x->own, &x->own_room, *bytes + 1));
    memcpy(x->own, x->row, rows);
    return device_download(x->dev, (char *)x->own + rows, x->grad_on, grads);
}

static row_list list_of(const void *message, size_t bytes, int64_t k)
{
    const int64_t n = (int64_t)(bytes / (sizeof(int64_t) + (size_t)k * sizeof(float)));
    const int64_t *row = message;
    return (row_list){n, row, (const float *)(row + n)};
}

/* Every worker's message, one after the other, each at a multiple of 8 bytes: k may be odd. */
static status gather(row_exchange *x, comm *workers, size_t bytes, row_list *lists, int64_t k)
{
    const int n = comm_size(workers);
    const size_t padded = (bytes + 7) / 8 * 8;
    TRY(grow(&x->own, &x->own_room, padded + 1));
    memset((char *)x->own + bytes, 0, padded - bytes);
    if (!x->bytes) {
        x->bytes = calloc(2 * (size_t)n, sizeof *x->bytes);
        if (!x->bytes)
            return short_of_memory();
    }
    TRY(comm_allgather(workers, &bytes, sizeof bytes, x->bytes));
    size_t total = 0, *counts = x->bytes + n;
    for (int i = 0; i < n; i++) {
        counts[i] = (x->bytes[i] + 7) / 8 * 8;
        total += counts[i];
    }
    TRY(grow(&x->all, &x->all_room, total + 1));
    TRY(comm_allgatherv(workers, x->own, padded, x->all, counts));
    const char *at = x->all;
    for (int i = 0; i < n; i++) {
        lists[i] = list_of(at, x->bytes[i], k);
        at += counts[i];
    }
    return STATUS_OK;
}

/* The gradients of all workers, on the host and on the device. */
static status exchange(row_exchange *x, comm *workers)
{
    const int n = comm_size(workers);
    size_t bytes = 0;
    row_list *lists = calloc((size_t)n, sizeof *lists);
    status st = lists ? pack(x, &bytes) : short_of_memory();
    if (st == STATUS_OK)
        st = gather(x, workers, bytes, lists, x->k);
    if (st == STATUS_OK)
        st = lists_merge(lists, n, x);
    free(lists);
    TRY(st);
    TRY(on_reserve(x, x->count));
    return device_upload(x->dev, x->grad_on, x->grad, (size_t)(x->count * x->k) * sizeof *x->grad);
}

status row_exchange_merge(row_exchange *x, model *m, int level, comm *workers)
{
    if (!x->taken)
        TRY(row_exchange_take(x, m, level));
    x->taken = false;
    x->alone = comm_size(workers) == 1;
    return x->alone ? STATUS_OK : exchange(x, workers);
}

status row_exchange_slots(row_exchange *x, model *m, int level)
{
    if (x->alone) /* they have them, or there would be no gradient */
        return STATUS_OK;
    TRY(position_slots(model_position(m), level, x->count, x->row, true, x->slot));
    return device_upload(x->dev, x->slot_on, x->slot, (size_t)x->count * sizeof *x->slot);
}

void row_exchange_close(row_exchange *x)
{
    if (x->dev) {
        device_drain(x->dev);
        if (!device_is_host(x->dev))
            free(x->grad);
        take_back(x);
        device_host_give(x->dev, x->slot);
        device_host_give(x->dev, x->place);
    }
    free(x->order);
    free(x->row);
    free(x->own);
    free(x->all);
    free(x->bytes);
    *x = (row_exchange){0};
}
