/* The small part of a data set as one rank reads it and all ranks get it: counts, names, numbers of
 * people and chromosomes, site table, index, and where the chunks of the long columns lie in the
 * file. Two blocks of memory without pointers in them, so that a broadcast is one message each. */
#ifndef CROCUTA_IO_DATASET_INDEX_H
#define CROCUTA_IO_DATASET_INDEX_H

#include "io/dataset.h"
#include "runtime/core/status.h"

#include <stdint.h>

/* Names: texts of fixed stride that end in a zero byte. */
enum {
    TEXT_ID,
    TEXT_POPULATION,
    TEXT_SUPERPOPULATION,
    TEXT_FAMILY,
    TEXT_CHROMOSOME,
    TEXT_LABEL,
    TEXTS
};

typedef struct {
    int32_t label, shard;
    uint8_t sex, split, unused[2];
} person_numbers;

typedef struct {
    int64_t length, site0, sites;
} chromosome_numbers;

/* One chunk of /position (0) and the one of /allele (1) for the same entries. */
typedef struct {
    int64_t at[2], bytes[2];
    uint32_t skipped[2]; /* filter mask */
} chunk_place;

typedef struct {
    int64_t n_people, n_chromosomes, n_sites, n_entries, n_labels, n_shards, n_missing;
    int64_t n_chunks, chunk_entries;
    int64_t phased, seed;
    int64_t stride[TEXTS]; /* bytes of a name, the zero included */
    char assembly[64], split_hash[17];
} index_head;

/* Offsets of the parts of both blocks: a function of the head alone. */
typedef struct {
    /* own: every rank has it */
    size_t text[TEXTS], person, chromosome, chunk, own_bytes;
    /* shared: once a node; entries are decompressed into it later */
    size_t sites, run, missing, missing_run_of, entries, shared_bytes;
} index_layout;

void index_layout_of(const index_head *h, index_layout *l);

/* Reads and checks everything of a sealed file but the long columns. *own and *tables are
 * allocated: *tables holds the shared block up to `entries`. One rank calls it. */
status index_read(const char *path, index_head *h, char **own, char **tables);

#endif
