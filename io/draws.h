/* Draws: which window of which person a slot of a step trains on. Pure functions of (seed, step, slot,
 * length); microseconds each; no state but an index made once. */
#ifndef CROCUTA_IO_DRAWS_H
#define CROCUTA_IO_DRAWS_H

#include "io/dataset.h"
#include "runtime/core/config.h"

/* The carried sites of a person on one haplotype, or of both together, in order, in pieces that no gap cuts. */
typedef struct {
    int32_t person, chromosome;
    int32_t hap;       /* 0: union, 1, 2 */
    int64_t first;     /* index of its first carried entry in sequence[] of the index */
    int64_t count;     /* carried entries */
} piece;

typedef struct {
    int32_t person, chromosome, hap;
    int64_t first, count; /* range in the index's entry list: draws_entries()[first .. first + count) */
} window;

typedef struct draws draws;

/* Builds the index of pieces for a mode and a window length (STATUS_DATA where a window is longer than every
 * piece of the training people: both numbers are named). Keeps a pointer to d. Unphased heterozygotes with
 * alleles: haplotype are refused (a person is named) unless data.unphased: drop. dataset_block must have run. */
status draws_open(const dataset *d, const config_data *c, uint64_t seed, draws **out);
void draws_close(draws **x);

/* Entry indices (into dataset.entries) in sequence order, per piece. */
const int32_t *draws_entries(const draws *x);

/* Training window for a slot of a step: superpopulation -> individual -> chromosome -> start, each uniform; within
 * the slot's virtual shard (slot modulo the number of shards) unless sharding: replicated. People without labels
 * form one class. */
window draws_train(const draws *x, int64_t step, int64_t slot, int64_t length);

/* Validation windows: i = 0 .. n-1, a fixed set for a seed. STATUS: NULL-like window with count 0 where nobody fits. */
window draws_valid(const draws *x, int64_t i, int64_t length);

/* Consecutive non-overlapping windows of `length` of the people of one split, starting every `stride` entries of a
 * piece from its first: for evaluation. Fills *out (caller frees). */
status draws_tile(const draws *x, split_kind split, int64_t length, int64_t stride, window **out, int64_t *n);

/* Tokens of a window: ids (A C G T = 7..10), positions (1-based), sites; each of `count`; NULL: not wanted. */
void draws_fill(const draws *x, const window *w, uint8_t *ids, int32_t *position, int32_t *site);

#endif
