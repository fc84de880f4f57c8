/* Lines of metrics.jsonl and events.jsonl, and the tail of the progress line. */
#ifndef CROCUTA_TRAIN_METRICS_H
#define CROCUTA_TRAIN_METRICS_H

#include "runtime/train/report.h"

#include <jansson.h>
#include <stddef.h>

/* NULL without memory. Numbers that do not exist or are not finite become null. */
json_t *metrics_line(const report *r, double time);
json_t *event_line(const report *r, int rank, double time);

/* "loss 0.512  ppl 1.67 (lookup 1.49)  lr 5.1e-4  |g| 0.8  41.2k tok/s  58% of floor  0.4 GiB";
 * valid: the newest validation, or NULL. */
void metrics_tail(const report *step, const report *valid, char *text, size_t size);

#endif
