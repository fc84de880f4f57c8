/* A data set in which a token tells its haplotype's kind: every haplotype has one of three kinds
 * and carries, at three sites of four, the base of its kind; nobody carries the fourth. Two classes
 * (superpopulation and label), two virtual shards, in each of those every pair of kinds once, so
 * that the kinds are equally frequent; then three validation people. Two chromosomes of 500 and 300
 * sites, 700 bp apart. For tests of mating, mosaics and flips. */
#ifndef CROCUTA_TESTS_CODED_DATASET_H
#define CROCUTA_TESTS_CODED_DATASET_H

#include "io/dataset.h"

#include <stdio.h>
#include <stdlib.h>

#define CODED_TRAIN 36
#define CODED_PEOPLE (CODED_TRAIN + 3)
#define CODED_SITES 800
#define CODED_FIRST 500 /* sites of the first chromosome */

typedef struct {
    dataset d;
    individual people[CODED_PEOPLE];
    chromosome chromosomes[2];
    site sites[CODED_SITES];
    int32_t block[CODED_SITES];
    entry entries[CODED_PEOPLE * CODED_SITES * 2];
    int64_t run[CODED_PEOPLE * 2 + 1], missing_run_of[CODED_PEOPLE * 2 + 1];
    missing_run missing[1];
    char ids[CODED_PEOPLE][8];
} coded_dataset;

/* Kind 0, 1, 2 of a haplotype (2 person + haplotype - 1). */
static inline int coded_kind(int haplotype)
{
    const int of_pair = haplotype / 2 % 9;
    return haplotype % 2 ? of_pair / 3 : of_pair % 3;
}

static inline int64_t coded_entries(coded_dataset *s, int p, int32_t at, int64_t n)
{
    const int a = coded_kind(2 * p), b = coded_kind(2 * p + 1);
    if (at % 4 == 3)
        return n;
    if (a == b)
        s->entries[n++] = (entry){at, (uint8_t)(1 + a), 3};
    else {
        s->entries[n++] = (entry){at, (uint8_t)(1 + (a < b ? a : b)), a < b ? 1 : 2};
        s->entries[n++] = (entry){at, (uint8_t)(1 + (a < b ? b : a)), a < b ? 2 : 1};
    }
    return n;
}

/* To be freed with free(). */
static inline coded_dataset *coded_dataset_make(void)
{
    static const char *const labels[] = {"EAST", "WEST"};
    coded_dataset *s = calloc(1, sizeof *s);
    int64_t n = 0;
    if (!s)
        abort();
    s->chromosomes[0] = (chromosome){"1", 0, 0, CODED_FIRST};
    s->chromosomes[1] = (chromosome){"2", 0, CODED_FIRST, CODED_SITES - CODED_FIRST};
    for (int k = 0; k < CODED_SITES; k++) {
        const int on = k < CODED_FIRST ? k : k - CODED_FIRST;
        /* what nobody carries could be G or T: a flip takes the lower */
        s->sites[k] = (site){1000 + 700 * on, 0, k % 4 == 3 ? 1 << 2 | 1 << 3 : 14};
        s->block[k] = k >= CODED_FIRST;
    }
    for (int p = 0; p < CODED_PEOPLE; p++) {
        const bool train = p < CODED_TRAIN;
        const int label = train ? p / 9 % 2 : 0;
        snprintf(s->ids[p], sizeof s->ids[p], "C%02d", p);
        s->people[p] = (individual){.id = s->ids[p],
                                    .population = "",
                                    .superpopulation = labels[label],
                                    .family = "",
                                    .split = train ? SPLIT_TRAIN : SPLIT_VALID,
                                    .label = label,
                                    .shard = train ? p / 18 : -1};
        for (int c = 0; c < 2; c++) {
            s->run[2 * p + c] = n;
            for (int32_t k = c ? CODED_FIRST : 0; k < (c ? CODED_SITES : CODED_FIRST); k++)
                n = coded_entries(s, p, k, n);
        }
    }
    s->run[2 * CODED_PEOPLE] = n;
    s->d = (dataset){.path = "coded",
                     .phased = true,
                     .n_people = CODED_PEOPLE,
                     .n_chromosomes = 2,
                     .n_sites = CODED_SITES,
                     .n_entries = n,
                     .n_labels = 2,
                     .n_shards = 2,
                     .people = s->people,
                     .chromosomes = s->chromosomes,
                     .labels = labels,
                     .sites = s->sites,
                     .entries = s->entries,
                     .run = s->run,
                     .missing = s->missing,
                     .missing_run_of = s->missing_run_of,
                     .block = s->block,
                     .n_blocks = 2};
    return s;
}

#endif
