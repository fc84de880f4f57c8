/* Steps that would do harm: whose loss or gradient is no number, or whose gradient's norm is far
 * outside the norms before it. Such a step changes nothing and is counted; after a few, training
 * goes back to the newest checkpoint and takes other windows from there on. */
#ifndef CROCUTA_TRAIN_STEADY_H
#define CROCUTA_TRAIN_STEADY_H

#include <stdbool.h>
#include <stdint.h>

/* Part of a run's state: a resumed run judges as one that never stopped. */
typedef struct {
    double norm;     /* mean of the logarithm of the gradient's norm, recent steps weighing most */
    int64_t norms;   /* that it is made of */
    double strain;   /* 1 for a step that was skipped, less for each good one since */
    int64_t skipped; /* in all */
    int64_t rolled;  /* times that training went back */
    int64_t shift;   /* step s takes the windows of step s + shift */
} steady;

/* Norms above this are wild; 0: any goes. factor: train.skip_norm. */
double steady_limit(const steady *x, double factor);
void steady_good(steady *x, double norm);
/* True: that was one too many. */
bool steady_bad(steady *x, int64_t most);

#endif
