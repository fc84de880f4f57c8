/* What a checkpoint of a run holds: the tensors of model_file.h, and a JSON object of what else a
 * run must know to go on, and a reader to use the model: kind, classes, labels, the identity of the
 * data set, the best validation so far. */
#ifndef CROCUTA_TRAIN_SNAPSHOT_H
#define CROCUTA_TRAIN_SNAPSHOT_H

#include "io/checkpoint.h"
#include "io/dataset.h"
#include "runtime/train/optimizer.h"
#include "runtime/train/steady.h"

/* What a run knows beside tensors. */
typedef struct {
    int64_t step;      /* steps done */
    int64_t best_step; /* -1: no validation yet */
    double best_loss, best_accuracy;
    int64_t without; /* validations since the best */
    bool finished;   /* early stopping ended it */
    steady steady;
} train_state;

/* What a checkpoint of this state says of itself; texts (2) are to be freed when h is done with. */
status snapshot_header(const config *c, const dataset *d, bool classify, int ranks,
                       const optimizer *o, const train_state *state, checkpoint_header *h,
                       char *texts[2]);

/* Writes step-NNNNNNN.h5 and its manifest at once, points `latest` to it, and `best` where the best
 * step is this one. One rank. Runs write theirs beside training: saver.h. */
status snapshot_write(const char *dir, const config *c, const dataset *d, bool classify, int ranks,
                      model *m, const optimizer *o, const train_state *state);

/* Everything back, into a model and an optimizer of the same configuration. STATUS_DATA where a
 * tensor is missing or of another shape. */
status snapshot_read(checkpoint *file, const char *name, model *m, optimizer *o,
                     train_state *state);

/* Were the people split as in this data set? True where the state does not say. */
bool snapshot_same_split(const char *state, const dataset *d);
/* Are its sites those of this data set, one by one? True where the state does not say. */
bool snapshot_same_sites(const char *state, const dataset *d);
/* Holds the data set of a checkpoint's state against the one at hand. STATUS_USAGE. */
status snapshot_same_data(const checkpoint_header *h, const char *name, const dataset *d);

#endif
