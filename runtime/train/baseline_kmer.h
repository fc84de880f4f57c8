/* The bar for telling sequences apart: multinomial logistic regression on the frequencies of all
 * words of four bases (256 of them; words that hold anything but A C G T are left out). */
#ifndef CROCUTA_TRAIN_BASELINE_KMER_H
#define CROCUTA_TRAIN_BASELINE_KMER_H

#include "runtime/core/status.h"

#include <stdint.h>

#define KMER 4
#define KMERS 256

/* Frequencies of one window's words, from its tokens (A C G T = 7..10). */
void kmer_frequencies(const uint8_t *ids, int64_t n, float x[KMERS]);

/* Windows with their classes: rows of KMERS frequencies. */
typedef struct {
    int64_t n;
    float *x;       /* (n, KMERS) */
    int32_t *label; /* (n) */
} kmer_rows;

/* Fits on train, chooses the penalty of the least log loss on valid, gives test (n, classes)
 * normalised log-probabilities. Deterministic. */
status baseline_kmer(const kmer_rows *train, const kmer_rows *valid, const kmer_rows *test,
                     int classes, int threads, double *logp, double *l2);

#endif
