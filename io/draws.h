/* Draws: which window of which person a slot of a step trains on. Pure functions of (seed, step,
 * slot, length); microseconds each; no state but an index made once, for every length. */
#ifndef CROCUTA_IO_DRAWS_H
#define CROCUTA_IO_DRAWS_H

#include "io/dataset.h"
#include "runtime/core/config.h"

/* Carried entries are numbered as sequences: `union` by dataset.entries itself; haplotype 1's
 * entries of the whole set (mask 1 or 3), then haplotype 2's; with `both` these follow the union's
 * numbers, training people have haplotypes and all others unions. A piece is a stretch of one
 * person, chromosome and haplotype that neither a chromosome's end nor a gap cuts; two ALT alleles
 * at one site are two entries of it. */
typedef struct {
    int32_t person, chromosome;
    int32_t hap;          /* 0: union, 1, 2 */
    int64_t first, count; /* entries of the sequence */
} piece;

typedef struct {
    int32_t person, chromosome, hap;
    int64_t first, count; /* entries of the sequence: draws_entry gives them one by one */
} window;

typedef struct draws draws;

/* Builds the index of pieces as c says (alleles, max_gap, exclude), who can be drawn, and for
 * sampling: mating who can be mated. Keeps a pointer to d, on which dataset_block must have run,
 * and dataset_take before where only some of the training people take part: the draws never see the
 * others. STATUS_DATA where
 *   a window of data.seq_len is longer than every piece of the training people (both numbers are
 *   named; seq_len 0: not asked);
 *   anybody of the set has unphased heterozygotes, with alleles: haplotype or both (a person is
 *   named), unless data.unphased: drop.
 * STATUS_USAGE where data.exclude names a chromosome that the set lacks. Mating with unphased
 * training people is a warning: real people are drawn. */
status draws_open(const dataset *d, const config_data *c, uint64_t seed, draws **out);
/* The refusal of unphased heterozygotes alone, for windows of unions that are read by haplotypes.
 */
status draws_check_phase(const dataset *d, const config_data *c);
void draws_close(draws **x);

/* Index into dataset.entries of entry i of the sequences. One window: draws_fill is faster. */
int64_t draws_entry(const draws *x, int64_t i);

/* Lies site `at` of the set outside the regions of data.exclude? Training windows hold no other. */
bool draws_teach(const draws *x, int64_t at);

/* All pieces, by person, chromosome, haplotype, place. */
int64_t draws_pieces(const draws *x, const piece **list);
/* The longest piece of anybody in a split, 0: nobody carries anything. */
int64_t draws_longest(const draws *x, split_kind split);

/* Training window for a slot of a step: superpopulation -> individual -> chromosome -> start, each
 * uniform over those that leave a window of this length; the starts of all pieces (both haplotypes)
 * of that person's chromosome are one pool. Within the slot's virtual shard (slot modulo the number
 * of shards) unless sharding: replicated; a shard in which nobody fits gives way to the next.
 * People without a superpopulation go by label, without either they form one class. Count 0 where
 * nobody at all fits. */
window draws_train(const draws *x, int64_t step, int64_t slot, int64_t length);

/* Validation windows: i = 0 .. n-1, drawn likewise from the validation people, a fixed set for a
 * seed. */
window draws_valid(const draws *x, int64_t i, int64_t length);

/* Consecutive windows of `length` of the people of one split, one every `stride` entries of a piece
 * from its first: for evaluation (non-overlapping where stride is length). Fills *out (caller
 * frees; NULL where there are none). */
status draws_tile(const draws *x, split_kind split, int64_t length, int64_t stride, window **out,
                  int64_t *n);

/* A sequence copied out, with the stretch of sites that it speaks of. Arrays belong to it and grow;
 * begin with {0}. */
typedef struct {
    int32_t chromosome, label;    /* label -1: none */
    int64_t count;                /* tokens */
    uint8_t *ids;                 /* (count) A C G T = 7..10 */
    int32_t *site;                /* (count) ascending; a site with two alleles is two tokens */
    int64_t first_site, end_site; /* the span [first, end): from the first carried site to behind
                                     the last; empty without tokens */
    missing_run
        *missing; /* (n_missing) ascending, apart: no call; they may reach beyond the span */
    int64_t n_missing;
    int64_t room, missing_room; /* of the arrays */
    int32_t parent[2]; /* haplotypes that mating began with, 2 person + haplotype - 1 (equal where
                          the sequence is one haplotype); -1: a real person's window */
    struct drawn_work *work; /* scratch of mating and flips */
} drawn;

void drawn_free(drawn *s);

/* A window of a real person. */
status draws_copy(const draws *x, const window *w, drawn *into);

/* What one haplotype (1, 2) carries of a window of a union; its span is the whole window's, so that
 * a person's two haplotypes speak of the same sites. */
status draws_copy_haplotype(const draws *x, const window *w, int hap, drawn *into);

/* Training sequence for a slot of a step, as data.sampling says; count 0 where nobody fits.
 * Stratified: the window of draws_train. Mating: class uniform, section of sites by their number
 * (a section longer than 8 sites a token and 8192: a stretch of it), two haplotypes of the class's
 * training people, with data.alleles haplotype or both one; start uniform among those that leave
 * `length` tokens. Classes are labels here; shards as in draws_train. augment: mosaics and flips
 * act (draws_augments); flips on real people too. */
status draws_make(const draws *x, int64_t step, int64_t slot, int64_t length, bool augment,
                  drawn *into);

/* Do data.mosaic_rate and flip_rate act at a step of a run of so many? */
bool draws_augments(const draws *x, int64_t step, int64_t steps);

/* Sites of a span for each of its tokens, the mean of 256 training windows: for memory plans. */
double draws_sites_per_token(const draws *x, int64_t length);

/* Tokens of a window: ids (A C G T = 7..10), positions (1-based), sites; each of `count`; NULL: not
 * wanted. */
void draws_fill(const draws *x, const window *w, uint8_t *ids, int32_t *position, int32_t *at_site);

#endif
