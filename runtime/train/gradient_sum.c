/* Gradients over the workers: see gradient_sum.h. */
#include "runtime/train/gradient_sum.h"

#include <string.h>

#define BUCKET_FLOATS                                                                              \
    (1 << 18) /* 1 MiB: large enough for bandwidth, small enough to leave early                    \
               */

static bool on_host(const gradient_sum *g)
{
    return device_is_host(model_device(g->m));
}

status gradient_sum_open(model *m, comm *workers, gradient_sum *out)
{
    gradient_sum *g = out;
    memset(g, 0, sizeof *g);
    g->m = m;
    g->workers = workers;
    g->floats = model_floats(m);
    g->size = BUCKET_FLOATS;
    while ((g->floats + g->size - 1) / g->size > BUCKETS_MOST)
        g->size *= 2;
    g->all = (int)((g->floats + g->size - 1) / g->size);
    g->at = model_gradients(m);
    if (on_host(g))
        return STATUS_OK;
    void *copy = NULL;
    TRY(device_host_take(model_device(m), (size_t)g->floats * sizeof(float), &copy));
    g->at = copy;
    return STATUS_OK;
}

void gradient_sum_close(gradient_sum *g)
{
    if (g->m && !on_host(g))
        device_host_give(model_device(g->m), g->at);
    memset(g, 0, sizeof *g);
}

void gradient_sum_begin(gradient_sum *g)
{
    memset(g->request, 0, sizeof g->request);
    g->started = 0;
    g->st = STATUS_OK;
}

/* Starts every bucket that lies below `ready`. All workers start the same ones in the same order.
 */
static void start_below(gradient_sum *g, int64_t ready)
{
    while (g->st == STATUS_OK && g->started < g->all) {
        const int64_t first = g->started * g->size;
        const int64_t end = first + g->size < g->floats ? first + g->size : g->floats;
        if (end > ready)
            return;
        g->st = comm_sum_start(g->workers, g->at + first, end - first, &g->request[g->started]);
        g->started += g->st == STATUS_OK;
    }
}

void gradient_sum_ready(void *context, int64_t first, int64_t count)
{
    gradient_sum *g = context;
    if (on_host(g)) /* on a GPU they are only queued */
        start_below(g, first + count);
}

status gradient_sum_start(gradient_sum *g)
{
    device *dev = model_device(g->m);
    if (!on_host(g)) {
        if (comm_size(g->workers) == 1)
            return STATUS_OK;
        TRY(device_download(dev, g->at, model_gradients(g->m), (size_t)g->floats * sizeof(float)));
    }
    start_below(g, g->floats);
    return g->st;
}

status gradient_sum_wait(gradient_sum *g)
{
    TRY(comm_wait(g->workers, g->request, g->started, "gradients"));
    if (on_host(g) || comm_size(g->workers) == 1)
        return STATUS_OK;
    return device_upload(model_device(g->m), model_gradients(g->m), g->at,
                         (size_t)g->floats * sizeof(float));
}
