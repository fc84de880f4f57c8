/* The data set of sequences: one HDF5 file of FASTA records, four bits a base, with a label and a
 * split for each. Readers see the packed bases in memory that the ranks of a node share.
 * docs/formats.md has the file. */
#ifndef CROCUTA_IO_SEQUENCES_H
#define CROCUTA_IO_SEQUENCES_H

#include "comm/comm.h"
#include "io/dataset.h"
#include "io/fasta.h"

typedef struct {
    int64_t a, c, g, t, n, other, masked; /* masked: of either kind, in lower case */
} base_counts;

typedef struct {
    const char *name, *description; /* first word of the header, and the rest */
    int64_t length, first;          /* bases, and the place of the first one (even) */
    int32_t label;                  /* index into labels, -1: none */
    split_kind split;
    base_counts count;
} sequence;

/* A letter that is neither A C G T nor N, in upper case. */
typedef struct {
    int64_t at; /* place among all bases */
    char letter;
} other_letter;

typedef struct sequences {
    char path[1024], assembly[64], split_hash[17];
    uint64_t seed;
    int64_t n, n_labels, n_bytes, n_other;
    const sequence *list;
    const char *const *labels; /* ascending by name */
    const uint8_t *packed;     /* (n_bytes) two bases a byte, the first in the low four bits */
    const other_letter *other; /* ascending */
    struct sequences_memory *memory;
} sequences;

/* Collective. *out NULL without a failure where the file is a data set of genotypes. STATUS_DATA
 * for damage, another program or another version; what the tables say is held against them. */
status sequences_open(const char *path, comm *c, sequences **out);
void sequences_close(sequences **s);

/* Base `at` (of all) as stored: a code and the mask (io/fasta.h). */
static inline unsigned sequences_base(const sequences *s, int64_t at)
{
    return s->packed[at >> 1] >> (at & 1 ? 4 : 0) & 15;
}

/* The letter as it was read, in its case; *hint: any number to begin with, kept between calls. */
char sequences_letter(const sequences *s, int64_t at, int64_t *hint);

/* Every base and letter counted again and held against the tables, no name twice, no sequence (of
 * 1 base and more) in two splits. One rank calls it. */
status sequences_verify(const sequences *s);

/* FASTA again, letters, case and descriptions as they were; bgzip where PATH ends in .gz or .bgz.
 */
status sequences_export(const sequences *s, const char *path);

/* Labels and identity as a data set without people, sites and chromosomes: what checkpoints keep of
 * the data. */
status sequences_identity(const sequences *s, dataset **out);

/* ---- writing ---- */

typedef struct {
    const char *assembly, *split_hash;
    uint64_t seed;
    int64_t n, n_labels, n_bytes, n_other;
    const sequence *list;
    const char *const *labels;
    const other_letter *other;
    /* This rank's chunks of packed bases, DATASET_CHUNK bytes each: chunk k is of rank k modulo the
     * number of ranks, as chunk k / ranks of its own. */
    uint8_t *const *chunk;
} sequences_part;

/* Collective; as dataset_write. */
status sequences_write(const char *path, comm *c, const sequences_part *part, int64_t *file_bytes);

#endif
