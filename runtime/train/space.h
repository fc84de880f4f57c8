/* Chromosomes and sites of a data set as the row tables of a model want them (position_space): the
 * same for training, evaluation and prediction, or a row would be another one. */
#ifndef CROCUTA_TRAIN_SPACE_H
#define CROCUTA_TRAIN_SPACE_H

#include "io/dataset.h"
#include "model/position.h"

/* A chromosome is as long as its header says, or reaches to its last site where that is beyond. The
 * arrays are the space's own; space_free also after a failure (STATUS_MEMORY). */
status space_of_dataset(const dataset *d, position_space *s);
void space_free(position_space *s);

#endif
