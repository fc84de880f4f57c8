/* Draws from sequences: which window a slot of a step trains on. Pure functions of (seed, step,
 * slot, length), as io/draws.h has them for genotypes. A start is allowed where at least half of
 * the window's places hold A C G T (what is N, another letter, or behind the end of a short
 * sequence does not count). */
#ifndef CROCUTA_IO_SEQUENCE_DRAWS_H
#define CROCUTA_IO_SEQUENCE_DRAWS_H

#include "io/sequences.h"

typedef struct {
    int64_t sequence;     /* index into the list, -1: none was found */
    int64_t start, count; /* bases of it, from 0; fewer than asked for where the sequence ends */
    bool reverse;         /* to be read as its reverse complement */
} base_window;

typedef struct sequence_draws sequence_draws;

/* by_label: label, sequence and start each uniform, of labelled sequences (fine-tuning), the labels
 * in turn over the slots of a training step: as many windows of each as can be, for a step that
 * holds more of one teaches the head that label instead of what tells them apart. Otherwise uniform
 * over all allowed starts. reverse: every second window, by lot, is turned around.
 * hide_masked: lower-case bases are read as N. Keeps a pointer to s. STATUS_DATA where a length is
 * asked of (seq_len > 0) that no training sequence has. */
typedef struct {
    bool by_label, reverse, hide_masked;
    int64_t seq_len;
    uint64_t seed;
} sequence_draws_how;
status sequence_draws_open(const sequences *s, const sequence_draws_how *how, sequence_draws **out);
void sequence_draws_close(sequence_draws **x);

int64_t sequence_draws_longest(const sequence_draws *x, split_kind split);

base_window sequence_draws_train(const sequence_draws *x, int64_t step, int64_t slot,
                                 int64_t length);
/* Validation windows i = 0, 1, ...: a fixed set for a seed, never turned around. */
base_window sequence_draws_valid(const sequence_draws *x, int64_t i, int64_t length);

/* Windows of `length` of the sequences of a split, one every `stride` bases from the first, those
 * that are allowed; by_label: of labelled sequences. Fills *out (caller frees). */
status sequence_draws_tile(const sequence_draws *x, split_kind split, int64_t length,
                           int64_t stride, base_window **out, int64_t *n);

/* Tokens of a window: A C G T = 7..10, N 11, other letters 6 ([UNK]); (count). */
void sequence_draws_fill(const sequence_draws *x, const base_window *w, uint8_t *ids);

#define TOKEN_UNKNOWN 6
#define TOKEN_BASE_A 7
#define TOKEN_BASE_T 10
#define TOKEN_N 11

#endif
