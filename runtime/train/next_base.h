/* What a nucleotide model says of the next base on the windows of a split: its loss with standard
 * errors over windows and over stretches of sequence, its accuracy, and both by how many bases of
 * the window it had read: does context help? */
#ifndef CROCUTA_TRAIN_NEXT_BASE_H
#define CROCUTA_TRAIN_NEXT_BASE_H

#include "runtime/core/status.h"

#include <stdint.h>

#define SEEN_BINS 30 /* bin k: predictions from 2^k to 2^(k+1) - 1 bases of the window */

/* The last number of bases of bin k in windows of `context`: the last base is never read. */
static inline int64_t seen_to(int k, int64_t context)
{
    const int64_t to = ((int64_t)2 << k) - 1;
    return to < context - 1 ? to : context - 1;
}

enum { OF_LOSS, OF_TARGETS, OF_HITS, WINDOW_NUMBERS };
/* Sums over windows of their bin's losses and targets, and of squares and products of these. */
enum { SEEN_LOSS, SEEN_TARGETS, SEEN_HITS, SEEN_LOSS2, SEEN_PRODUCT, SEEN_TARGETS2, SEEN_NUMBERS };

typedef struct {
    int64_t n;      /* windows */
    double *window; /* (n, WINDOW_NUMBERS) */
    double seen[SEEN_BINS][SEEN_NUMBERS];
} next_base_sums;

status next_base_open(int64_t windows, next_base_sums *s);
void next_base_close(next_base_sums *s);

/* Adds window i: targets (n, TARGET_NONE: none), loss (n) of each in nats, and the logits of A C G
 * T, those of base b at logits + b * stride. */
void next_base_add(next_base_sums *s, int64_t i, const uint8_t *targets, const float *loss,
                   const float *logits, int64_t stride, int64_t n);

/* NAN where there are fewer than two windows (blocks) with targets, or no target. Loss in nats. */
typedef struct {
    int64_t targets, windows, blocks;
    double loss, se_windows, se_blocks, accuracy;
    int n_seen; /* bins up to the last one with targets */
    struct {
        int64_t targets;
        double loss, se_windows, accuracy;
    } seen[SEEN_BINS];
} next_base_result;

/* block (n): the stretch that each window lies in, of n_blocks. */
status next_base_result_of(const next_base_sums *s, const int32_t *block, int64_t n_blocks,
                           next_base_result *out);

#endif
