/* What an evaluation does to the genotypes of the people it judges, before any window is cut: only
 * some regions are judged, sites without a call, genotypes read wrongly. Every method then sees
 * the same changed people; all other people stay as they are. */
#ifndef CROCUTA_IO_DATASET_ALTER_H
#define CROCUTA_IO_DATASET_ALTER_H

#include "io/dataset.h"
#include "io/regions.h"

typedef struct {
    split_kind split;       /* whose genotypes are changed */
    const regions *where;   /* sites outside are not judged; NULL or empty: all are */
    const regions *exclude; /* sites inside are not judged; NULL or empty: none */
    double missing;         /* probability of a site to have no call of anybody in the split */
    double wrong;           /* probability of a genotype to be turned: carried <-> absent */
    uint64_t seed;
} alteration;

typedef struct {
    int64_t judged_sites;  /* inside the regions */
    int64_t missing_sites; /* of these, without a call now */
    int64_t wrong_carried; /* genotypes that were absent and are carried now */
    int64_t wrong_absent;  /* that were carried and are absent now */
} alteration_counts;

/* After dataset_block, before anything keeps a pointer to entries. A site is drawn by (seed, site),
 * a genotype by (seed, person, site): the same on any number of ranks, and the sites of a smaller
 * fraction are among those of a larger one. A missing site is neither carried nor absent. A wrongly
 * carried site gets its first ALT on one haplotype. Blocks are cut where a region begins or ends as
 * well, so that no window reaches over its edge. The changed entries are this rank's own: 8 bytes
 * an entry of the whole set. */
status dataset_alter(dataset *d, const alteration *a, alteration_counts *counts);

#endif
