/* Around the plan: how many position rows a data set can touch, and the plan as a JSON document,
 * for `crocuta plan --json` and for a run's plan.json. */
#ifndef CROCUTA_TRAIN_PLAN_DATA_H
#define CROCUTA_TRAIN_PLAN_DATA_H

#include "io/dataset.h"
#include "runtime/train/plan.h"

bool plan_has_rows(const config *c);

/* Position rows that the sites of a set can touch; 0 without rows. */
status plan_count_rows(const config *c, const dataset *d, int64_t *rows);

/* To be freed by the caller; NULL without memory. seconds 0: not measured. */
char *plan_json(const config *c, const plan *p, double seconds);

#endif
