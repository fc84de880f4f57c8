/* How a run is doing, read from its folder alone: journals, checkpoints and lock. Nothing is
 * written, so that it works while another node writes. */
#ifndef CROCUTA_TRAIN_RUN_STATUS_H
#define CROCUTA_TRAIN_RUN_STATUS_H

#include "runtime/core/status.h"

#include <stdint.h>

typedef struct {
    const char *state;           /* queued running stopped failed done */
    int64_t step, steps;         /* done, of so many */
    double eta_s;                /* NaN: not known */
    double loss, valid_loss;     /* newest, NaN: none */
    int64_t last_checkpoint;     /* step, -1: none */
    char event[24], detail[480]; /* the newest event */
    char *workers;               /* JSON array, "[]" where not known; freed by the caller */
} run_status;

/* STATUS_DATA where the folder is no run. */
status run_status_read(const char *run, run_status *s);

#endif
