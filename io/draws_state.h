/* What draws are inside: shared by the files io/draws*.c alone. */
#ifndef CROCUTA_IO_DRAWS_STATE_H
#define CROCUTA_IO_DRAWS_STATE_H

#include "io/draws.h"
#include "runtime/core/rng.h"

/* People who are drawn from, by shard and class; each group by longest piece, longest first. */
typedef struct {
    int64_t shards, classes;
    int64_t *begin; /* (shards * classes + 1) into person */
    int32_t *person;
} pool;

/* A run of sites that neither a chromosome's end, a gap nor an excluded region cuts. */
typedef struct {
    int32_t chromosome;
    int64_t first, end; /* sites [first, end) */
    int64_t most;       /* tokens of the longest piece of a training person in it */
} section;

struct draws {
    const dataset *d;
    uint64_t seed;
    alleles_kind alleles;
    section *sections;
    int64_t n_sections;
    int32_t *section_of; /* (n_sites) -1: excluded */
    piece *pieces;
    int64_t n_pieces;
    int64_t *piece_of; /* (n_people * n_chromosomes + 1) */
    int64_t *longest;  /* by person */
    int64_t *rank[2];  /* entries of haplotype 1, 2 before entry RANK_STEP * k */
    int64_t carried[2];
    int64_t haplotype_base; /* number of haplotype 1's first entry */
    pool train, valid;

    bool mating;
    double mosaic_rate, flip_rate, augment_from;
    pool mates;               /* training people by label */
    int64_t *order;           /* (n_sections) sections, largest `most` first */
    int64_t *sites_before;    /* (n_sections + 1) sites of the sections before, in that order */
    uint8_t *haploid;         /* (n_people * n_chromosomes) one haplotype alone, the first */
    bool *haploid_chromosome; /* (n_chromosomes) nobody has two */
};

static inline bool on_haplotype(const entry *e, int hap)
{
    return hap == 0 || (e->mask >> (hap - 1) & 1);
}

/* Cuts the sites into sections: blocks without the regions of data.exclude. */
status sections_make(draws *x, const config_data *c);

/* People of a split by class, and by virtual shard where asked for. by_label: a class is a label
 * (superpopulation where there is none), otherwise the other way round. */
status draws_pool_make(const draws *x, split_kind split, bool by_shard, bool by_label, pool *p);
void draws_pool_free(pool *p);
/* How many people of a group have a piece of at least `length`: a prefix of it. */
int64_t draws_pool_fitting(const draws *x, const pool *p, int64_t group, int64_t length);

/* What mating needs; falls back to real people with a warning where they are not phased. */
status mating_make(draws *x, const config_data *c);
void mating_free(draws *x);
/* A child, or a real person with flips; into->count 0: none was found in a bounded number of tries.
 */
status mating_draw(const draws *x, int64_t step, int64_t slot, int64_t length, bool augment,
                   drawn *into);
status flips_draw(const draws *x, const window *w, rng *r, drawn *into);

/* ---- assembling a sequence from haplotypes ---- */

/* Sorted numbers of one strand's tokens: 4 site + base. */
typedef struct {
    int64_t *key;
    int64_t n, room;
} strand;

typedef struct {
    missing_run *run;
    int64_t n, room;
} run_list;

/* Scratch of a drawn sequence. */
struct drawn_work {
    strand half[2], whole, flipped;
    run_list missing[2];
};

status drawn_reserve(drawn *s, int64_t tokens);
status drawn_missing_add(drawn *s, missing_run run);
/* First of the missing runs of (person, chromosome) that ends behind a site: runs are ascending and
 * apart. */
int64_t missing_from(const dataset *d, int64_t run, int64_t site_index);
status drawn_begin(drawn *s); /* makes sure of the scratch and empties it */
/* Appends what a haplotype of a run (person, chromosome) carries, and has no call of, in sites
 * [from, end). */
status strand_append(const draws *x, int half, int64_t run, int hap, int64_t from, int64_t end,
                     drawn *s);
/* Sites that are passed before the next event of a chance `rate` a site, at most `most`. */
int64_t rng_gap(rng *r, double rate, int64_t most);
/* Both halves as one; then flips at a rate of the sites [from, end). */
status strands_join(drawn *s);
status strands_flip(const draws *x, double rate, int64_t from, int64_t end, rng *r, drawn *s);
/* `length` tokens from the start-th on become the sequence. */
status drawn_cut(drawn *s, int64_t start, int64_t length);

#endif
