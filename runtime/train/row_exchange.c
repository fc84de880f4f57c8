/* Row gradients between workers: see row_exchange.h. A worker's message is its rows (int64), then
 * its gradients (fp32), both in ascending order of row; lists are merged as they come. */
#include "runtime/train/row_exchange.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t row;
    int64_t at;
} numbered;

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

static status room_for(row_exchange *x, int64_t n, int64_t k)
{
    x->k = k;
    if (n <= x->room)
        return STATUS_OK;
    n += n / 4;
    int64_t *row = realloc(x->row, (size_t)n * sizeof *row);
    if (row)
        x->row = row;
    float *grad = realloc(x->grad, (size_t)(n * k) * sizeof *grad);
    if (grad)
        x->grad = grad;
    int32_t *slot = realloc(x->slot, (size_t)n * sizeof *slot);
    if (slot)
        x->slot = slot;
    if (!row || !grad || !slot)
        return short_of_memory();
    x->room = n;
    return STATUS_OK;
}

status row_lists_merge(const row_list *lists, int n, int64_t k, row_exchange *into)
{
    int64_t total = 0;
    for (int i = 0; i < n; i++)
        total += lists[i].count;
    TRY(room_for(into, total, k));
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

/* This worker's pending gradients, ascending by row, as one message in x->own. */
static status pack(row_exchange *x, model *m, int level, int64_t k, size_t *bytes)
{
    row_table *tables[ROW_TABLES];
    position_tables(model_position(m), tables);
    int64_t count = 0;
    const int32_t *slots = NULL;
    const float *sum = NULL;
    model_row_gradients(m, level, &count, &slots, &sum);
    *bytes = (size_t)count * (sizeof(int64_t) + (size_t)k * sizeof(float));
    TRY(grow(&x->own, &x->own_room, *bytes + 1));
    numbered *order = malloc(((size_t)count + 1) * sizeof *order);
    if (!order)
        return short_of_memory();
    for (int64_t i = 0; i < count; i++)
        order[i] = (numbered){tables[level]->row[slots[i]], i};
    qsort(order, (size_t)count, sizeof *order, by_row);
    int64_t *row = x->own;
    float *grad = (float *)(row + count);
    for (int64_t i = 0; i < count; i++) {
        row[i] = order[i].row;
        memcpy(grad + i * k, sum + order[i].at * k, (size_t)k * sizeof *grad);
    }
    free(order);
    return STATUS_OK;
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

/* Memory on the device is given back only between steps: a wait of the backward pass lies between.
 */
static void take_back(row_exchange *x)
{
    if (x->room_on > 0) {
        device_memory_give(x->dev, x->grad_on);
        device_memory_give(x->dev, x->slot_on);
    }
    x->grad_on = NULL;
    x->slot_on = NULL;
    x->room_on = 0;
}

/* The merged gradients on the device, and room for their slots. */
static status lend(row_exchange *x)
{
    if (device_is_host(x->dev)) {
        x->grad_on = x->grad;
        x->slot_on = x->slot;
        return STATUS_OK;
    }
    if (x->count > x->room_on || x->room_on == 0) {
        void *grad = NULL, *slot = NULL;
        take_back(x);
        const int64_t room = x->count + x->count / 4 + 1;
        TRY(device_memory_take(x->dev, (size_t)(room * x->k) * sizeof *x->grad, &grad));
        const status st = device_memory_take(x->dev, (size_t)room * sizeof *x->slot, &slot);
        if (st != STATUS_OK) {
            device_memory_give(x->dev, grad);
            return st;
        }
        x->grad_on = grad;
        x->slot_on = slot;
        x->room_on = room;
    }
    return device_upload(x->dev, x->grad_on, x->grad, (size_t)(x->count * x->k) * sizeof *x->grad);
}

status row_exchange_merge(row_exchange *x, model *m, int level, comm *workers)
{
    row_table *tables[ROW_TABLES];
    position_tables(model_position(m), tables);
    const int64_t k = tables[level]->k;
    const int n = comm_size(workers);
    size_t bytes = 0;
    row_list *lists = calloc((size_t)n, sizeof *lists);
    status st = lists ? pack(x, m, level, k, &bytes) : short_of_memory();
    if (st == STATUS_OK && n == 1)
        lists[0] = list_of(x->own, bytes, k);
    else if (st == STATUS_OK)
        st = gather(x, workers, bytes, lists, k);
    if (st == STATUS_OK)
        st = row_lists_merge(lists, n, k, x);
    free(lists);
    x->dev = model_device(m);
    return st == STATUS_OK ? lend(x) : st;
}

status row_exchange_slots(row_exchange *x, model *m, int level)
{
    TRY(position_slots(model_position(m), level, x->count, x->row, true, x->slot));
    return device_upload(x->dev, x->slot_on, x->slot, (size_t)x->count * sizeof *x->slot);
}

void row_exchange_close(row_exchange *x)
{
    if (x->dev && !device_is_host(x->dev)) {
        device_drain(x->dev);
        take_back(x);
    }
    free(x->row);
    free(x->grad);
    free(x->slot);
    free(x->own);
    free(x->all);
    free(x->bytes);
    *x = (row_exchange){0};
}
