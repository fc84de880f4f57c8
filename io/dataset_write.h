/* Writing a data set: what import has assembled in memory, each rank the people it holds, becomes
 * one file. Any number of ranks (and of MPI-IO aggregators) writes the same decompressed columns
 * and tables. */
#ifndef CROCUTA_IO_DATASET_WRITE_H
#define CROCUTA_IO_DATASET_WRITE_H

#include "comm/comm.h"
#include "io/dataset.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    /* The same on every rank; of people, chromosomes, labels and sites all of the set, as in
     * dataset.h. */
    const char *assembly;   /* below 64 bytes */
    const char *split_hash; /* 16 hexadecimal digits */
    bool phased;
    uint64_t seed;
    int64_t n_people, n_chromosomes, n_labels, n_shards, n_sites;
    const individual *people;
    const chromosome *chromosomes;
    const char *const *labels;
    const site *sites; /* ref and alts filled, ascending within each chromosome */

    /* This rank's people: [first_person, first_person + mine), without gaps in rank order; mine may
     * be 0. */
    int64_t first_person, mine;
    const entry *entries; /* by person, chromosome, site, allele; .site counts in the whole table */
    const int64_t *run;   /* (mine * n_chromosomes + 1), beginning at 0 */
    const missing_run *missing;    /* .first counts in the whole table */
    const int64_t *missing_run_of; /* (mine * n_chromosomes + 1), beginning at 0 */
} dataset_part;

/* Collective. Writes PATH.tmp, syncs it, renames it to PATH and syncs the folder; an older PATH
 * stays until then, and a PATH.tmp that a killed run left is overwritten. Nothing is left where it
 * fails (STATUS_RESOURCE: disk full, no permission). *file_bytes (NULL: not wanted): the size of
 * the file. */
status dataset_write(const char *path, comm *c, const dataset_part *part, int64_t *file_bytes);

#endif
