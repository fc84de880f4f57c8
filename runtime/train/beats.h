/* A worker's signs of life (watch.h): where an operation begins, and where it begins to wait. */
#ifndef CROCUTA_TRAIN_BEATS_H
#define CROCUTA_TRAIN_BEATS_H

#include "kernels/device.h"
#include "runtime/train/coordinator.h"
#include "runtime/train/watch.h"

typedef struct {
    coordinator_link *link; /* NULL: nobody listens */
    beat b;
    double sent_s;
} beats;

/* From now on operations of the device beat; quiet_s: the deadline of an operation. */
void beats_begin(beats *x, coordinator_link *link, int worker, device *dev);
void beats_end(device *dev);

/* A new phase, told at once: by `meets`, one that waits for the other workers. */
status beats_phase(beats *x, int64_t step, const char *phase, double quiet_s, bool meets);
/* Still there. */
void beats_tick(beats *x, const char *phase);

#endif
