/* The data set: one HDF5 file of people, chromosomes, sites and what each person carries. Logically
 * individual -> chromosome -> (position, allele); physically a few long columns and an index.
 * Readers see decompressed columns in memory, shared by the ranks of a node. docs/formats.md has
 * the file. */
#ifndef CROCUTA_IO_DATASET_H
#define CROCUTA_IO_DATASET_H

#include "comm/comm.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

#define DATASET_VERSION 1

typedef enum {
    SPLIT_TRAIN,
    SPLIT_VALID,
    SPLIT_TEST,
    SPLIT_NONE /* of no split: dataset_take */
} split_kind;
typedef enum { SEX_UNKNOWN, SEX_MALE, SEX_FEMALE } sex_kind;

typedef struct {
    const char *id, *population, *superpopulation, *family; /* "" where the map has none */
    sex_kind sex;
    split_kind split;
    int32_t label; /* index into dataset.labels, -1: none */
    int32_t shard; /* virtual shard of a training person, -1 otherwise */
} individual;

typedef struct {
    const char *name;     /* as the query spells it */
    int64_t length;       /* bp, 0: not known */
    int64_t site0, sites; /* range in the site table */
} chromosome;

/* One entry per non-reference allele and person: what the person carries there. */
typedef struct {
    int32_t site;   /* index in the site table: chromosome, position, reference */
    uint8_t allele; /* 0..3: A C G T */
    uint8_t mask;   /* haplotypes that carry it: 1, 2, 3 (both), 0: unphased */
} entry;

typedef struct {
    int32_t position; /* 1-based */
    uint8_t ref;      /* 0..3 */
    uint8_t alts;     /* bit b: base b occurs */
} site;

/* A stretch of sites at which a person has no call. */
typedef struct {
    int32_t first, count;
} missing_run;

typedef struct dataset {
    char path[1024];
    char assembly[64]; /* GRCh37, GRCh38, a name, or "unknown" */
    bool phased;       /* no unphased heterozygote anywhere */
    char split_hash[17];
    uint64_t seed;

    int64_t n_people, n_chromosomes, n_sites, n_entries, n_labels, n_shards;
    const individual *people;
    const chromosome *chromosomes;
    const char *const *labels; /* ascending by name */
    const site *sites;         /* by chromosome, then position */
    const entry *entries;      /* by person, chromosome, site, allele */
    const int64_t
        *run; /* (n_people * n_chromosomes + 1): entries of (person, chromosome) begin here */
    const missing_run *missing;
    const int64_t *missing_run_of; /* (n_people * n_chromosomes + 1) */
    const int32_t *block; /* (n_sites): blocks of sites, cut where max_gap is exceeded; -1 before
                             dataset_block */
    int64_t n_blocks;

    struct dataset_memory *memory; /* what this rank must free or unmap */
} dataset;

/* Reads on one rank, shares with all. Messages name the file and say what to do. STATUS_DATA for
 * damage, another program or another version. */
status dataset_open(const char *path, comm *c, dataset **out);
void dataset_close(dataset **d);

/* A data set in memory: a copy of `view`, whose arrays are parts of the `n` allocations in `owned`
 * (DATASET_OWNED at most) and are freed with it, also where this fails. */
#define DATASET_OWNED 16
status dataset_make(const dataset *view, void *const *owned, int n, dataset **out);

/* Names the site table in 16 hexadecimal digits: chromosomes, positions, bases. Two sets with the
 * same name have the same sites in the same order. */
void dataset_sites_hash(const dataset *d, char hash[17]);

/* Cuts the site table into blocks at chromosome ends and at gaps of more than max_gap bp. */
status dataset_block(dataset *d, int64_t max_gap);
/* Cuts blocks further wherever mark (n_sites) changes from one site to the next. After
 * dataset_block. */
void dataset_block_cut(dataset *d, const uint8_t *mark);

/* What people carry, in this rank's own memory (io/dataset_alter.h makes it). */
typedef struct {
    entry *entries;
    missing_run *missing;
    int64_t *run, *missing_run_of; /* (n_people * n_chromosomes + 1) */
    int64_t n_entries, n_missing;
} dataset_people;

/* Readers see these instead of the file's from here on; the data set owns them and *p is emptied.
 */
void dataset_people_replace(dataset *d, dataset_people *p);

/* Leaves n of the training people in their split, the others in none (for this process; the file
 * stays): labels in proportion, by the seed, and a smaller n takes some of those that a larger one
 * takes. 0: all. STATUS_USAGE where fewer train. Before draws_open. */
status dataset_take(dataset *d, int64_t n, uint64_t seed);

#endif
