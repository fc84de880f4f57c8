/* Close relatives: kinship between every two people from their genotypes (the robust estimator of
 * KING, Manichaikul et al. 2010, eq. 11), over bit planes, so that a pair costs two population
 * counts a word of 64 sites. Import keeps related people on one side of a split, `data verify`
 * holds the file against it. */
#ifndef CROCUTA_IO_RELATIVES_H
#define CROCUTA_IO_RELATIVES_H

#include "io/dataset.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

#define RELATIVES_KINSHIP                                                                          \
    0.0884                        /* closer than half-way between second and third degree: 2^-3.5  \
                                   */
#define RELATIVES_SITES (1 << 17) /* sites looked at, evenly spaced where the set has more */

/* One bit a site and person. Homozygous reference is what no plane says. */
typedef struct {
    int64_t n_people, n_sites;
    int64_t words;                 /* of 64 bits, a person and plane */
    uint64_t *het, *hom, *missing; /* (n_people, words): one ALT, two ALT, no call */
    int32_t *by_name; /* (n_people) people in the order of their names; NULL: they are in it */
} genotype_bits;

typedef struct {
    int32_t a, b; /* a < b */
    double kinship;
} related_pair;

status genotype_bits_open(genotype_bits *g, int64_t n_people, int64_t n_sites);
void genotype_bits_close(genotype_bits *g);

/* Sets a person's bit in one of the planes: genotype_bit_set(g, g->het, person, site). */
static inline void genotype_bit_set(const genotype_bits *g, uint64_t *plane, int64_t person,
                                    int64_t at)
{
    plane[person * g->words + (at >> 6)] |= UINT64_C(1) << (at & 63);
}

/* phi = 1/2 - 1/4 sum (g_i - g_j)^2 / min(het_i, het_j) over the sites called in both; 0.5 for the
 * same person, about 0 for strangers, below 0 across populations. *hets: that minimum. */
double relatives_kinship(const genotype_bits *g, int64_t i, int64_t j, int64_t *hets);

/* Standard error of that estimate: a jackknife over up to 64 stretches of neighbouring sites, so
 * that linkage between neighbours counts. Twenty windows of a genome are worth far fewer sites than
 * they hold. */
double relatives_error(const genotype_bits *g, int64_t i, int64_t j);

/* What that error is for strangers: the mean over some hundred pairs, of the half that is closer
 * (pairs across populations scatter more). A pair's own error is too small where chance has made it
 * look close. */
double relatives_typical_error(const genotype_bits *g);

/* Are two people related on this evidence? Kinship beyond RELATIVES_KINSHIP, and beyond four
 * errors, its own and the typical one: among the pairs of a thousand strangers few or none. On few
 * sites an error cannot be measured: there it is at least that of independent sites, 0.4 /
 * sqrt(hets), and five of them are asked. */
bool relatives_related(const genotype_bits *g, int64_t i, int64_t j, double typical_error,
                       double *kinship);

/* The related pairs (a, b) with a = first, first + step, ...: with (rank, size) each rank takes a
 * share. Ascending by a, then b; the caller frees *out (NULL where there are none). */
status relatives_find(const genotype_bits *g, int64_t first, int64_t step, related_pair **out,
                      int64_t *n);

/* Kinship is defined on autosomes: false for X, Y and the mitochondrion in any spelling with or
 * without chr. */
bool relatives_autosome(const char *chromosome_name);

/* The planes of a data set: autosomal sites with one ALT, at most RELATIVES_SITES. */
status relatives_of_dataset(const dataset *d, genotype_bits *g);

#endif
