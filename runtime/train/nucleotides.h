/* Training on nucleotides: the set of sequences and its draws in the place of people and theirs. */
#ifndef CROCUTA_TRAIN_NUCLEOTIDES_H
#define CROCUTA_TRAIN_NUCLEOTIDES_H

#include "io/sequence_draws.h"
#include "runtime/core/config.h"
#include "runtime/train/feed.h"

typedef struct {
    sequences *set; /* NULL: tokens are SNPs */
    sequence_draws *draws;
} nucleotides;

/* Keys that speak of people and sites: refused by name with data.tokens: nucleotide. finetune:
 * the objective is not read. */
status nucleotides_check(const config *c, bool finetune);

/* Collective: data.path, which must hold sequences, with draws by label (fine-tuning) or over all
 * starts, for windows of seq_len at least (0: of any length). */
status nucleotides_open(const config *c, bool by_label, int64_t seq_len, comm *ranks,
                        nucleotides *out);
void nucleotides_close(nucleotides *n);

/* Sequence i of a feed from a window (count 0 or sequence -1: nothing but pads). The targets are
 * the next bases; N, other letters and pads are none. classify: the label alone. */
status feed_put_bases(feed *f, int64_t i, const nucleotides *n, const base_window *w,
                      bool classify);

#endif
