/* Invented data sets for tests: people, chromosomes with gaps, sites, calls of every kind
 * (unphased, two ALT alleles at one site, missing), all from one seed. Every rank makes the whole
 * and writes its part. */
#ifndef CROCUTA_TESTS_DATASET_FIXTURE_H
#define CROCUTA_TESTS_DATASET_FIXTURE_H

#include "io/dataset_write.h"
#include "runtime/core/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    dataset_part whole; /* as one rank would hold it */
    individual *people;
    chromosome *chromosomes;
    site *sites;
    entry *entries;
    int64_t *run, *missing_run_of;
    missing_run *missing;
    int64_t *part_run, *part_missing; /* of the last fixture_part */
    char (*names)[2][32];
} fixture;

static const char *const fixture_labels[] = {"AFR", "EAS", "EUR"};
static const char *const fixture_chromosomes[] = {"chr1", "chr2", "chrX", "chr10"};

/* Shares of calls in a thousand, of an entry or of a stretch that begins at a site. */
typedef struct {
    int64_t people, chromosomes, sites; /* sites a chromosome */
    int carried, unphased, second_alt, missing;
    int64_t gap_every; /* sites between two gaps of 500 kb, 0: none */
} fixture_shape;

static inline void fixture_sites(fixture *f, const fixture_shape *s, rng *r)
{
    for (int64_t c = 0; c < s->chromosomes; c++) {
        int64_t position = 0;
        f->chromosomes[c] = (chromosome){fixture_chromosomes[c], 0, c * s->sites, s->sites};
        for (int64_t i = 0; i < s->sites; i++) {
            bool gap = s->gap_every && i && i % s->gap_every == 0;
            position += gap ? 500000 : 1 + (int64_t)rng_below(r, 700);
            uint8_t ref = (uint8_t)rng_below(r, 4),
                    alt = (uint8_t)((ref + 1 + rng_below(r, 3)) % 4);
            uint8_t more = rng_below(r, 20) == 0 ? (uint8_t)(1 << ((ref + 1) % 4)) : 0;
            f->sites[c * s->sites + i] = (site){(int32_t)position, ref, (uint8_t)(1 << alt | more)};
        }
        f->chromosomes[c].length = position + 1000;
    }
}

static inline void fixture_calls(fixture *f, const fixture_shape *s, rng *r)
{
    int64_t e = 0, m = 0, u = 0;
    for (int64_t p = 0; p < s->people; p++)
        for (int64_t c = 0; c < s->chromosomes; c++) {
            f->run[u] = e;
            f->missing_run_of[u++] = m;
            int64_t first = c * s->sites;
            bool empty = p % 7 == 3 && c == 1; /* a person without entries on a chromosome */
            for (int64_t i = first; i < first + s->sites && !empty; i++) {
                if ((int)rng_below(r, 1000) < s->missing) {
                    int64_t left = first + s->sites - i, n = 1 + (int64_t)rng_below(r, 5);
                    n = n < left ? n : left;
                    f->missing[m++] = (missing_run){(int32_t)i, (int32_t)n};
                    i += n;
                    continue;
                }
                if ((int)rng_below(r, 1000) >= s->carried)
                    continue;
                bool open = (int)rng_below(r, 1000) < s->unphased;
                bool two = (int)rng_below(r, 1000) < s->second_alt;
                int mask = open ? 0 : 1 + (int)rng_below(r, 3), before = 0;
                for (uint8_t a = 0; a < 4; a++)
                    if (f->sites[i].alts >> a & 1) {
                        f->entries[e++] =
                            (entry){(int32_t)i, a, (uint8_t)(before ? 3 - before : mask)};
                        if (before || !two || mask == 0 || mask == 3)
                            break;
                        before = mask;
                    }
            }
        }
    f->run[u] = e;
    f->missing_run_of[u] = m;
}

static inline void fixture_make(fixture *f, const fixture_shape *s, uint64_t seed)
{
    memset(f, 0, sizeof *f);
    int64_t sites = s->chromosomes * s->sites, runs = s->people * s->chromosomes;
    f->people = calloc((size_t)s->people, sizeof *f->people);
    f->names = calloc((size_t)s->people, sizeof *f->names);
    f->chromosomes = calloc((size_t)s->chromosomes, sizeof *f->chromosomes);
    f->sites = calloc((size_t)sites + 1, sizeof *f->sites);
    f->entries = calloc((size_t)(2 * sites * s->people) + 1, sizeof *f->entries);
    f->missing = calloc((size_t)(sites * s->people) + 1, sizeof *f->missing);
    f->run = calloc((size_t)runs + 1, sizeof *f->run);
    f->missing_run_of = calloc((size_t)runs + 1, sizeof *f->missing_run_of);
    rng r = rng_at(seed, RNG_TEST, 1, 2);
    fixture_sites(f, s, &r);
    fixture_calls(f, s, &r);
    int64_t shards = s->people < 4 ? 1 : 2;
    for (int64_t i = 0; i < s->people; i++) {
        split_kind split = i % 5 == 3 ? SPLIT_VALID : i % 5 == 4 ? SPLIT_TEST : SPLIT_TRAIN;
        snprintf(f->names[i][0], sizeof f->names[i][0], "person%lld", (long long)i);
        snprintf(f->names[i][1], sizeof f->names[i][1], "POP%lld", (long long)(i % 6));
        f->people[i] = (individual){
            f->names[i][0],        f->names[i][1],
            fixture_labels[i % 3], "",
            (sex_kind)(i % 3),     split,
            (int32_t)(i % 3),      split == SPLIT_TRAIN ? (int32_t)(i / 3 % shards) : -1};
    }
    f->whole = (dataset_part){.assembly = "GRCh37",
                              .split_hash = "0123456789abcdef",
                              .phased = s->unphased == 0,
                              .seed = seed,
                              .n_people = s->people,
                              .n_chromosomes = s->chromosomes,
                              .n_labels = s->people < 3 ? s->people : 3,
                              .n_shards = shards,
                              .n_sites = sites,
                              .people = f->people,
                              .chromosomes = f->chromosomes,
                              .labels = fixture_labels,
                              .sites = f->sites,
                              .first_person = 0,
                              .mine = s->people,
                              .entries = f->entries,
                              .run = f->run,
                              .missing = f->missing,
                              .missing_run_of = f->missing_run_of};
}

/* What rank `rank` of `size` holds. */
static inline dataset_part fixture_part(fixture *f, int rank, int size)
{
    dataset_part p = f->whole;
    int64_t a = p.n_people * rank / size, b = p.n_people * (rank + 1) / size, c = p.n_chromosomes;
    free(f->part_run);
    free(f->part_missing);
    f->part_run = calloc((size_t)((b - a) * c) + 1, sizeof *f->part_run);
    f->part_missing = calloc((size_t)((b - a) * c) + 1, sizeof *f->part_missing);
    for (int64_t i = 0; i <= (b - a) * c; i++) {
        f->part_run[i] = f->run[a * c + i] - f->run[a * c];
        f->part_missing[i] = f->missing_run_of[a * c + i] - f->missing_run_of[a * c];
    }
    p.first_person = a;
    p.mine = b - a;
    p.entries = f->entries + f->run[a * c];
    p.missing = f->missing + f->missing_run_of[a * c];
    p.run = f->part_run;
    p.missing_run_of = f->part_missing;
    return p;
}

/* Makes a fixture and writes it as the data set `path`, every rank of c its part. */
static inline status fixture_write(fixture *f, const fixture_shape *shape, uint64_t seed, comm *c,
                                   const char *path)
{
    fixture_make(f, shape, seed);
    const dataset_part part = fixture_part(f, comm_rank(c), comm_size(c));
    return dataset_write(path, c, &part, NULL);
}

static inline void fixture_free(fixture *f)
{
    free(f->people);
    free(f->names);
    free(f->chromosomes);
    free(f->sites);
    free(f->entries);
    free(f->missing);
    free(f->run);
    free(f->missing_run_of);
    free(f->part_run);
    free(f->part_missing);
    memset(f, 0, sizeof *f);
}

#endif
