/* A trained model from whatever names it: a run directory (its best checkpoint, else the newest), a
 * checkpoint .h5, or a .safetensors file. Also the one place that knows under which names a
 * checkpoint keeps parameters, moments and rows: trainer, evaluation, export and trace all go
 * through here. */
#ifndef CROCUTA_TRAIN_MODEL_FILE_H
#define CROCUTA_TRAIN_MODEL_FILE_H

#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "model/model.h"

/* Names in a checkpoint:
 *   parameters/NAME   adam_m/NAME   adam_v/NAME        by published name, whole tensors
 *   rows/LEVEL/{row, p, m, v, last}                    touched rows, as they are (not replayed)
 *   rows/lr                                            (step) fp32 learning rate of rows at each
 * step done: with it rows are replayed to the checkpoint's step The state's JSON may hold "labels":
 * [names of the classes]. */

typedef struct {
    char path[CONFIG_TEXT + 64]; /* the file that was read: a .h5 or .safetensors */
    config c;
    model *m;
    int classes;
    char **labels;  /* (classes) names; NULL where the file has none */
    int64_t step;   /* steps done; 0 for safetensors */
    char *state;    /* the checkpoint's JSON, "{}" otherwise */
    checkpoint *h5; /* one of the two, open until close */
    safetensors *flat;
} model_file;

/* Loads configuration and parameters. classes: -1: as in the file; otherwise a model with this many
 * classes is made (0: none) and a head in the file is used only if it has as many. overrides: n
 * `key=value` texts on top of the file's configuration. A MODEL that is not there or damaged:
 * STATUS_DATA. */
status model_file_open(const char *path, int classes, const char *const *overrides, int n,
                       device *dev, model_file **out);
void model_file_close(model_file **f);

/* Which file a path means, opened (h5 or flat) but nothing read of it yet: *f may then be closed.
 */
status model_file_find(const char *path, model_file **f);

/* Opens the row tables for a data set (space NULL: see model_place) and fills them with the file's
 * rows, replayed to its step: what evaluation reads. Nothing to do for a model without rows. */
status model_file_place(model_file *f, const position_space *space);

/* Everything of a model as tensors of a checkpoint, pointing into the model: moments m, v may be
 * NULL (both arenas of model_floats); lr_of_step (steps) may be NULL where there are no rows. Fills
 * at most `room`; *n: how many there are. */
void model_tensors(model *m, const float *adam_m, const float *adam_v, const float *lr_of_step,
                   int64_t steps, checkpoint_tensor *list, int64_t room, int64_t *n);

/* Tensors of model_tensors whose data are the device's become copies on the host, in *copies, to be
 * freed; on a CPU nothing changes. */
status model_tensors_to_host(model *m, checkpoint_tensor *list, int64_t n, void **copies);

/* The same backwards: moments and rows as they are (not replayed), for an exact resume. */
status model_restore(model *m, checkpoint *c, float *adam_m, float *adam_v);

#endif
