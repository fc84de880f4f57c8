/* The values that a run begins with. */
#ifndef CROCUTA_TRAIN_START_H
#define CROCUTA_TRAIN_START_H

#include "runtime/train/trainer.h"

/* Rows of the site head, where the model has one: random G and run, biases from the counts of the
 * training people. */
status start_site_rows(trainer *t);

/* Fine-tuning from MODEL: its parameters and rows; heads for other classes keep their initial
 * values, but the queries and rows of a next-site pretraining go over to every class. Sets
 * t->head_kept. */
status start_from_model(trainer *t, const position_space *space);

/* Fine-tuning on sequences, in its first stage: the last LayerNorm is set such that the pooled
 * features of training windows have mean 0 and spread 1, unless the head was trained already. */
status start_pooled(trainer *t);

#endif
