/* Around the plan: which rows a data set can touch and how many sites its windows span, and the
 * plan as a JSON document, for `crocuta plan --json` and for a run's plan.json. */
#ifndef CROCUTA_TRAIN_PLAN_DATA_H
#define CROCUTA_TRAIN_PLAN_DATA_H

#include "io/draws.h"
#include "runtime/train/plan.h"
#include "runtime/train/schedule.h"

/* Tables, and sites a token, of the windows of c->data.seq_len that x draws. classes: of the
 * classifier, 0: none. */
status plan_of_data(const config *c, const dataset *d, const draws *x, int classes,
                    plan_request *q);
/* Tables without a data set: every row that position.length allows. */
status plan_without_data(const config *c, plan_request *q);

/* To be freed by the caller; NULL without memory. s, stages: those of a run (NULL: left out).
 * seconds 0: not measured. */
char *plan_json(const config *c, const plan *p, const schedule *s, const plan *stages,
                double seconds);

#endif
