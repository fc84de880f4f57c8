/* How a sweep is doing, read from its folder alone: sweep.json, the journal, the lock, and the
 * folders of the trials that run. */
#ifndef CROCUTA_TRAIN_SWEEP_STATUS_H
#define CROCUTA_TRAIN_SWEEP_STATUS_H

#include "runtime/train/run_status.h"
#include "runtime/train/sweep.h"

typedef struct {
    const char *state; /* queued running stopped failed done */
    int n, count[4]; /* trials, and by trial_state; of a sweep that nobody runs those that were cut
                        short are queued */
    sweep_trial *trials;
    double eta_s; /* NaN: not known */
} sweep_status;

/* STATUS_DATA where the folder is no sweep. To be freed also after a failure. */
status sweep_status_read(const char *dir, sweep_status *s);
void sweep_status_free(sweep_status *s);

/* The run of a trial that is under way, as its folder tells; false: none has begun. */
bool sweep_status_run(const char *dir, const sweep_trial *t, char *part, size_t size,
                      run_status *run);

#endif
