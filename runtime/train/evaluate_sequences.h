/* The evaluation of sequences: windows of N bases, their labels by a model and by the simple
 * methods, told as the evaluation of people is. A sequence stands where a person does, a stretch
 * of 100 kb where a block of sites does. */
#ifndef CROCUTA_TRAIN_EVALUATE_SEQUENCES_H
#define CROCUTA_TRAIN_EVALUATE_SEQUENCES_H

#include "runtime/train/evaluate.h"

/* Fills an evaluation whose options and set are there. Collective. */
status evaluate_sequences(evaluation *e, comm *c);

/* evaluate.c: a method's place among the results of a context. */
status evaluate_method(evaluation *e, context_result *r, const char *name, method_result **out);

#endif
