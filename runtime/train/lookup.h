/* The counting look-up that stands beside every perplexity: what a table of counts, with no model
 * at all, knows of the next allele from the previous allele and the row of the position that the
 * objective may see (the current position: autoregressive; the target's: position-conditioned).
 * Counts of training people only, add-one-half: p(next | row, previous) = (count(row, previous,
 * next) + 1/2) / (sum over next of count + 2). */
#ifndef CROCUTA_TRAIN_LOOKUP_H
#define CROCUTA_TRAIN_LOOKUP_H

#include "io/dataset.h"
#include "runtime/core/config.h"

typedef struct lookup lookup;

/* Counts every pair of neighbouring carried entries of the training people that lie in one block
 * (dataset_block must have run). alpha: bp a row, as in the position encoding; rows: shared puts
 * all chromosomes into one table. objective: autoregressive or position-conditioned. */
status lookup_open(const dataset *d, alleles_kind alleles, int64_t alpha, rows_kind rows,
                   objective_kind objective, lookup **out);
void lookup_close(lookup **l);

/* -log p(next) in nats of one target. Sites are indices into the site table, alleles 0..3 (A C G
 * T). */
double lookup_loss(const lookup *l, int32_t at_site, uint8_t allele, int32_t next_site,
                   uint8_t next_allele);

/* Sum over the n - 1 targets of a window, ids as tokens (A C G T = 7..10). */
double lookup_window(const lookup *l, const uint8_t *ids, const int32_t *sites, int64_t n);

#endif
