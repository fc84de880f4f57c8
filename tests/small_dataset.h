/* A small data set in memory, simulated with known frequencies: two chromosomes, a gap in the
 * first, three labels, one person without a label, sites with two alternate alleles, uncalled
 * stretches. For tests of what reads a data set. */
#ifndef CROCUTA_TESTS_SMALL_DATASET_H
#define CROCUTA_TESTS_SMALL_DATASET_H

#include "io/dataset.h"
#include "runtime/core/rng.h"

#include <stdlib.h>
#include <string.h>

#define SMALL_PEOPLE 91
#define SMALL_SITES 300
#define SMALL_LABELS 3

typedef struct {
    dataset d;
    individual people[SMALL_PEOPLE];
    chromosome chromosomes[2];
    site sites[SMALL_SITES];
    int32_t block[SMALL_SITES];
    entry entries[SMALL_PEOPLE * SMALL_SITES * 2];
    int64_t run[SMALL_PEOPLE * 2 + 1], missing_run_of[SMALL_PEOPLE * 2 + 1];
    missing_run missing[SMALL_PEOPLE * 2];
    char ids[SMALL_PEOPLE][16];
} small_dataset;

/* Carrier frequency of a site in a class: every site tells something, no site tells all. */
static double small_frequency(int site_index, int label)
{
    rng r = rng_at(5, RNG_TEST, (uint64_t)site_index, 0);
    const double base = 0.2 + 0.4 * rng_uniform(&r);
    return base + (site_index % SMALL_LABELS == label ? 0.3 : 0);
}

static void small_people(small_dataset *s)
{
    for (int i = 0; i < SMALL_PEOPLE; i++) {
        snprintf(s->ids[i], sizeof s->ids[i], "P%03d", i);
        const int label = i == SMALL_PEOPLE - 1 ? -1 : i % SMALL_LABELS;
        static const char *const names[] = {"AFR", "EAS", "EUR"};
        s->people[i] = (individual){.id = s->ids[i],
                                    .population = label < 0 ? "" : names[label],
                                    .superpopulation = label < 0 ? "" : names[label],
                                    .family = "",
                                    .split = i < 60   ? SPLIT_TRAIN
                                             : i < 72 ? SPLIT_VALID
                                                      : SPLIT_TEST,
                                    .label = label,
                                    .shard = i < 60 ? 0 : -1};
    }
}

/* Chromosome "1": sites 0..199, a gap of 1 Mb before site 120; "2": sites 200..299. Blocks 0, 1, 2.
 */
static void small_sites(small_dataset *s)
{
    s->chromosomes[0] = (chromosome){"1", 249250621, 0, 200};
    s->chromosomes[1] = (chromosome){"2", 243199373, 200, 100};
    for (int k = 0; k < SMALL_SITES; k++) {
        const int on = k < 200 ? k : k - 200;
        s->sites[k] =
            (site){1000 + 700 * on + (k >= 120 && k < 200 ? 1000000 : 0), 0, 1 << 2 | 1 << 3};
        s->block[k] = k < 120 ? 0 : k < 200 ? 1 : 2;
    }
}

static void small_fill(small_dataset *s)
{
    int64_t n = 0, m = 0;
    for (int i = 0; i < SMALL_PEOPLE; i++)
        for (int c = 0; c < 2; c++) {
            s->run[i * 2 + c] = n;
            s->missing_run_of[i * 2 + c] = m;
            /* Some people have ten uncalled sites on chromosome 1. */
            const int hole = c == 0 && i % 5 == 0 ? 20 + i : -1;
            if (hole >= 0)
                s->missing[m++] = (missing_run){hole, 10};
            for (int k = c ? 200 : 0; k < (c ? 300 : 200); k++) {
                rng r = rng_at(6, RNG_TEST, (uint64_t)i, (uint32_t)k);
                const int label = s->people[i].label < 0 ? 0 : s->people[i].label;
                if (hole >= 0 && k >= hole && k < hole + 10)
                    continue;
                if (rng_uniform(&r) >= small_frequency(k, label))
                    continue;
                const uint8_t mask = (uint8_t)(1 + rng_below(&r, 3));
                const bool two = mask == 3 && k % 7 == 0; /* G on one haplotype, T on the other */
                s->entries[n++] = (entry){k, 2, two ? 1 : mask};
                if (two)
                    s->entries[n++] = (entry){k, 3, 2};
            }
        }
    s->run[SMALL_PEOPLE * 2] = s->d.n_entries = n;
    s->missing_run_of[SMALL_PEOPLE * 2] = m;
}

/* To be freed with free(). */
static small_dataset *small_dataset_make(void)
{
    static const char *const labels[] = {"AFR", "EAS", "EUR"};
    small_dataset *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    small_people(s);
    small_sites(s);
    s->d = (dataset){.assembly = "simulated",
                     .phased = true,
                     .n_people = SMALL_PEOPLE,
                     .n_chromosomes = 2,
                     .n_sites = SMALL_SITES,
                     .n_labels = SMALL_LABELS,
                     .n_shards = 1,
                     .people = s->people,
                     .chromosomes = s->chromosomes,
                     .labels = labels,
                     .sites = s->sites,
                     .entries = s->entries,
                     .run = s->run,
                     .missing = s->missing,
                     .missing_run_of = s->missing_run_of,
                     .block = s->block,
                     .n_blocks = 3};
    snprintf(s->d.path, sizeof s->d.path, "small");
    small_fill(s);
    return s;
}

#endif
