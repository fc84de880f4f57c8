/* Where each worker was when it was last heard of: RUN/workers.json, which is written again and
 * again while a job runs. A job that ends without a word, because everything was killed at once,
 * leaves it behind; `crocuta status` shows it, and the next job of the run says what it tells. */
#ifndef CROCUTA_TRAIN_LAST_SEEN_H
#define CROCUTA_TRAIN_LAST_SEEN_H

#include "runtime/train/watch.h"

/* workers.json as of now. Replaced by rename, not synced: it is not worth waiting for a disk. */
status last_seen_write(const char *run, watch *w);

/* What an earlier job of the run left, where that job did not end by itself. */
typedef struct {
    bool died;      /* there was one, and it ended without a word */
    bool one;       /* one worker stands out: others went on without it, or were heard for longer */
    watch_loss who; /* it, or where nobody stands out the first; detail: a sentence on all */
} last_seen;

/* Before the journals are opened and workers.json is written. */
status last_seen_read(const char *run, last_seen *x);

#endif
