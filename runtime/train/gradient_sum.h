/* A step's gradients summed over the workers, in buckets that leave while backward still computes
 * the rest. They are summed where they are: by MPI in the host's memory, by NCCL (or,
 * where ranks share a GPU, by MPI through the host) in a GPU's. */
#ifndef CROCUTA_TRAIN_GRADIENT_SUM_H
#define CROCUTA_TRAIN_GRADIENT_SUM_H

#include "comm/comm_device.h"
#include "kernels/device.h"
#include "runtime/core/config.h"

#define BUCKETS_MOST 4096

typedef struct {
    const device *dev;
    comm *workers;
    float *at;            /* the device's memory */
    int64_t floats, size; /* of all gradients; of a bucket, the last one may be shorter */
    comm_device *gpus;    /* NULL: the gradients are in the host's memory, or there is one worker */
    comm_request *request[BUCKETS_MOST];
    int started, all;
} gradient_sum;

/* `at`: the gradients, floats of them, in memory of `dev`; in backward order, so that a bucket is a
 * range. */
void gradient_sum_open(const device *dev, float *at, int64_t floats, comm *workers,
                       gradient_sum *out);
/* The second half, once all workers have opened what they need: connects their GPUs. Collective:
 * the status is that of all workers. */
status gradient_sum_connect(gradient_sum *g, const config *c);
/* Collective between GPUs, unless this worker has failed and says so first. */
void gradient_sum_close(gradient_sum *g);
void gradient_sum_abort(gradient_sum *g);

/* Before the backward passes of a step. */
void gradient_sum_begin(gradient_sum *g);
/* A bucket_ready (model/model.h) for the last of them; context: the gradient_sum. */
status gradient_sum_ready(void *context, int64_t first, int64_t count);
/* After the last of them: starts what is left. */
status gradient_sum_start(gradient_sum *g);
/* The gradients are the sums of all workers. *busy_s: how long communication took in all,
 * while backward ran or after it; NaN where nobody knows. */
status gradient_sum_wait(gradient_sum *g, double *busy_s);

#endif
