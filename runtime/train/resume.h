/* Going on from a checkpoint: finding the newest sound one of a run, holding its configuration
 * against the present one, and putting everything back as it was. */
#ifndef CROCUTA_TRAIN_RESUME_H
#define CROCUTA_TRAIN_RESUME_H

#include "runtime/train/snapshot.h"

/* Changed keys: those that docs/configuration.md calls harmless give one warning, train.steps
 * (finetune: finetune.steps) may grow, anything else is STATUS_USAGE. *grown: the number of steps
 * changed. `warn`: this rank speaks. */
status resume_same_config(const char *yaml, const char *name, const config *now, bool finetune,
                          bool warn, bool *grown);

/* Loads the newest checkpoint of dir with fewer steps than `before` into the model and the
 * optimizer; the state stays as it is where there is none. Collective over the workers: worker 0
 * chooses. */
status resume_newest(const char *dir, int64_t before, const config *now, bool finetune,
                     const dataset *d, model *m, optimizer *o, train_state *state);

#endif
