/* Published weights in and out: safetensors under the published names, with every prefix that is in
 * use, and the configuration from the file's metadata or from config.json beside it. */
#ifndef CROCUTA_MODEL_WEIGHTS_H
#define CROCUTA_MODEL_WEIGHTS_H

#include "io/safetensors.h"
#include "model/model.h"

#define WEIGHTS_PREFIX "backbone."

/* Reads the shape of the model (over config_defaults; published weights have no position encoding
 * and filter_shift 0.05) and the number of classes, and holds them against the tensors that are
 * there: STATUS_DATA names file and key. A file that `checkpoint export` wrote carries the whole
 * configuration. */
status weights_config(const safetensors *s, config *c, int *classes);

/* Class names of an exported classifier: a JSON list in the metadata; NULL where there are none. */
const char *weights_labels(const safetensors *s);

/* Fills the parameters; each must be there once, with its shape. Buffers that can be computed are
 * ignored, tensors that nobody knows are refused. Says values that are not finite. Rows:
 * weights_load_rows, after model_place. */
status model_load_safetensors(model *m, const safetensors *s);
status weights_load_rows(model *m, const safetensors *s);

/* What goes along with the weights: tensors, each under its own name (sites.NAME: no parameters),
 * and a text of the metadata. */
typedef struct {
    const safetensor_out *tensors;
    int64_t n;
    const char *key, *value;
} weights_beside;

/* Writes PATH and config.json beside it. labels: JSON list of class names or NULL; beside may be
 * NULL. */
status model_export_safetensors(model *m, const char *path, const char *labels,
                                const weights_beside *beside);

#endif
