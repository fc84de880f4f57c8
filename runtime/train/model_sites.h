/* The sites that a model knows: chromosomes, positions, bases, labels and assembly of the data set
 * that it was trained on. Its checkpoints carry them, so that people can be judged where that set
 * is not at hand. */
#ifndef CROCUTA_TRAIN_MODEL_SITES_H
#define CROCUTA_TRAIN_MODEL_SITES_H

#include "io/checkpoint.h"
#include "io/dataset.h"
#include "io/safetensors.h"
#include "runtime/train/model_file.h"

#define SITE_TENSORS 2

/* Names in a checkpoint: sites/position i32 (sites), 1-based, by chromosome and position;
 * sites/alleles u8 (sites), bits 0-1 the reference base, bit 2 + b: base b is an alternate. In
 * safetensors sites.position and sites.alleles. Names and lengths of chromosomes, labels, assembly
 * and the identity of the split stand in the state (in safetensors: metadata `crocuta_sites`). */
typedef struct {
    int32_t *position;
    uint8_t *alleles;
} site_columns;

status site_columns_make(const dataset *d, site_columns *x);
void site_columns_free(site_columns *x);
/* As tensors of a checkpoint, pointing into x. */
void site_columns_tensors(const dataset *d, const site_columns *x,
                          checkpoint_tensor list[SITE_TENSORS]);

/* Collective. The sites of MODEL as a data set without people. Where its file carries none: those
 * of data.path, if that is still the set the model was trained on. STATUS_DATA otherwise. */
status model_sites_open(const char *name, comm *c, dataset **out);

/* The sites that an open file carries, likewise; *out NULL where it carries none. */
status model_sites_of_file(const model_file *f, dataset **out);

/* Row tables for the chromosomes and sites of a data set (model_file_place). */
status model_sites_place(model_file *f, const dataset *d);

/* What an export of an open model carries along of the sites in its file: *text and *columns are to
 * be freed by the caller. */
status model_sites_beside(const model_file *f, const dataset *d, site_columns *columns,
                          safetensor_out tensors[SITE_TENSORS], char **text);

#endif
