/* What draws are inside: shared by the files io/draws*.c alone. */
#ifndef CROCUTA_IO_DRAWS_STATE_H
#define CROCUTA_IO_DRAWS_STATE_H

#include "io/draws.h"

/* People who are drawn from, by shard and class; each group by longest piece, longest first. */
typedef struct {
    int64_t shards, classes;
    int64_t *begin; /* (shards * classes + 1) into person */
    int32_t *person;
} pool;

struct draws {
    const dataset *d;
    uint64_t seed;
    bool haplotypes;
    piece *pieces;
    int64_t n_pieces;
    int64_t *piece_of; /* (n_people * n_chromosomes + 1) */
    int64_t *longest;  /* by person */
    int64_t *rank[2];  /* entries of haplotype 1, 2 before entry RANK_STEP * k */
    int64_t carried[2];
    pool train, valid;
};

#endif
