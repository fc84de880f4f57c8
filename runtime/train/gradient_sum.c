/* Gradients over the workers: see gradient_sum.h. */
#include "runtime/train/gradient_sum.h"

#include "runtime/train/worker_device.h"

#include <math.h>
#include <string.h>

#define BUCKET_FLOATS                                                                              \
    (1 << 18) /* 1 MiB: large enough for bandwidth, small enough to leave early                    \
               */

void gradient_sum_open(const device *dev, float *at, int64_t floats, comm *workers,
                       gradient_sum *out)
{
    gradient_sum *g = out;
    memset(g, 0, sizeof *g);
    g->dev = dev;
    g->at = at;
    g->workers = workers;
    g->floats = floats;
    g->size = BUCKET_FLOATS;
    while ((g->floats + g->size - 1) / g->size > BUCKETS_MOST)
        g->size *= 2;
    g->all = (int)((g->floats + g->size - 1) / g->size);
}

status gradient_sum_connect(gradient_sum *g, const config *c)
{
    if (device_is_host(g->dev))
        return comm_agree(g->workers, c->comm.backend != BACKEND_NCCL
                                          ? STATUS_OK
                                          : fail(STATUS_USAGE,
                                                 "%s: comm.backend: nccl is for GPUs; set it to "
                                                 "auto or use --device cuda",
                                                 c->file));
    if (comm_size(g->workers) == 1)
        return STATUS_OK;
    return worker_gpus_open(g->workers, g->dev, c, &g->gpus);
}

void gradient_sum_abort(gradient_sum *g)
{
    comm_device_abort(g->gpus);
}

void gradient_sum_close(gradient_sum *g)
{
    comm_device_close(&g->gpus);
    memset(g, 0, sizeof *g);
}

void gradient_sum_begin(gradient_sum *g)
{
    memset(g->request, 0, sizeof g->request);
    g->started = 0;
}

static status start_bucket(gradient_sum *g, int64_t first, int64_t count)
{
    float *x = g->at + first;
    if (g->gpus)
        return comm_device_sum(g->gpus, COMM_F32, x, count);
    return comm_sum_start(g->workers, x, count, &g->request[g->started]);
}

/* Starts every bucket that lies below `ready`. All workers start the same ones in the same order.
 */
static status start_below(gradient_sum *g, int64_t ready)
{
    while (g->started < g->all && comm_size(g->workers) > 1) {
        const int64_t first = g->started * g->size;
        const int64_t end = first + g->size < g->floats ? first + g->size : g->floats;
        if (end > ready)
            break;
        TRY(start_bucket(g, first, end - first));
        g->started++;
    }
    return STATUS_OK;
}

/* On a GPU what fills the bucket is only queued, and so is the sum, behind it. */
status gradient_sum_ready(void *context, int64_t first, int64_t count)
{
    return start_below(context, first + count);
}

status gradient_sum_start(gradient_sum *g)
{
    return start_below(g, g->floats);
}

status gradient_sum_wait(gradient_sum *g, double *busy_s)
{
    *busy_s = NAN;
    if (!g->gpus)
        return comm_wait(g->workers, g->request, g->started, "gradients");
    TRY(comm_device_wait(g->gpus, "gradients"));
    *busy_s = comm_device_times_take(g->gpus).busy_s;
    return STATUS_OK;
}
