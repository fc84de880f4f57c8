/* How fast a step runs here, and how far that is from what this machine allows: products at the
 * measured rate plus the bytes that must move at the measured bandwidth. docs/performance.md has
 * the formula. */
#ifndef CROCUTA_TRAIN_BENCH_H
#define CROCUTA_TRAIN_BENCH_H

#include "kernels/ops.h"
#include "runtime/core/config.h"

typedef struct {
    double forward_s, backward_s,
        step_s;     /* medians; backward without the forward pass, step with the optimizer */
    int64_t tokens; /* of one step */
    int64_t peak_bytes,
        start_bytes;        /* high-water mark of the process, and what it was before the model */
    double share[OP_KINDS]; /* of a step's time by operation */
    double gemm_flops_per_s, copy_bytes_per_s; /* of this machine, measured in this run */
    double floor_s;           /* FLOPs / rate + bytes / bandwidth of the timed mode */
    double fraction_of_floor; /* floor_s / time of the timed mode */
    int64_t flops, bytes;     /* of the timed mode */
    keep_level keep;          /* train.recompute; auto: what fits */
} bench_result;

/* Times random batches (B, L) through a fresh model. training false: forward only. */
status bench_run(const config *c, device *dev, int64_t B, int64_t L, bool training,
                 bench_result *result);

#endif
