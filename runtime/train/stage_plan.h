/* The plans of a run's stages: each stage's own passes, and in turns with them, in the same memory,
 * validation, which is of the final length from the first stage on. `crocuta plan` prints them, the
 * trainer allocates them. */
#ifndef CROCUTA_TRAIN_STAGE_PLAN_H
#define CROCUTA_TRAIN_STAGE_PLAN_H

#include "io/draws.h"
#include "runtime/train/plan.h"
#include "runtime/train/schedule.h"

/* What stages are planned from. */
typedef struct {
    model *m;
    const config *c;
    const dataset *d; /* people; NULL: none, or sequences */
    const draws *x;   /* of d */
    int classes;
    int workers;
    int64_t available; /* bytes of a worker, 0: not known */
} stage_ground;

/* Workers that share a sequence in a stage, and in validation where that is apart; CONFIG_AUTO: to
 * be chosen. */
typedef struct {
    int64_t stage, valid;
} sharers;

/* What the configuration says of a stage of s. */
sharers stage_sharers(const schedule *s, const stage *now);

/* Does validation take turns with this stage's passes? Otherwise it is of the same length, or there
 * is none. */
bool stage_valid_apart(const config *c, const schedule *s, const stage *now);

/* `how` becomes what was chosen. The model is left with groups that are only planned. */
status stage_plan(const stage_ground *g, const schedule *s, const stage *now, sharers *how,
                  plan *out);

/* The stages of s one by one into list (s->n_stages). */
status stage_plans(const stage_ground *g, const schedule *s, plan *list);
#endif
