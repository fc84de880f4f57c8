/* A step's gradients summed over the workers, in buckets that leave while backward still computes
 * the rest. Communication takes them from the model's memory where that is the host's; from a GPU
 * they are brought to the host first, once backward is done. */
#ifndef CROCUTA_TRAIN_GRADIENT_SUM_H
#define CROCUTA_TRAIN_GRADIENT_SUM_H

#include "comm/comm.h"
#include "model/model.h"

#define BUCKETS_MOST 4096

typedef struct {
    model *m;
    comm *workers;
    int64_t floats, size; /* of all gradients; of a bucket, the last one may be shorter */
    float *at;            /* what is summed: the model's gradients, or their copy on the host */
    comm_request *request[BUCKETS_MOST];
    int started, all;
    status st; /* of the first bucket that failed */
} gradient_sum;

/* The model must have gradients. */
status gradient_sum_open(model *m, comm *workers, gradient_sum *out);
void gradient_sum_close(gradient_sum *g);

/* Before the backward passes of a step. */
void gradient_sum_begin(gradient_sum *g);
/* A bucket_ready (model/model.h) for the last of them; context: the gradient_sum. */
void gradient_sum_ready(void *context, int64_t first, int64_t count);
/* After the last of them: starts what is left. */
status gradient_sum_start(gradient_sum *g);
/* The model's gradients are the sums of all workers. */
status gradient_sum_wait(gradient_sum *g);

#endif
