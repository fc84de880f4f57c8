/* What the data-set file looks like, for its writer and its reader: names, chunk size, packing of
 * an entry. docs/formats.md says the same to people. */
#ifndef CROCUTA_IO_DATASET_FORMAT_H
#define CROCUTA_IO_DATASET_FORMAT_H

#include <stdint.h>

#define DATASET_PROGRAM "crocuta"
#define DATASET_KIND "dataset"
#define SEQUENCES_KIND "sequences" /* io/sequences.h; the same versions, chunks and seal */

/* Entries of a chunk of /position (4 MiB) and /allele (1 MiB); a shorter set is one chunk. */
#define DATASET_CHUNK ((int64_t)1 << 20)

#define DATASET_TEXT_MOST 4095 /* bytes of a name or label */

/* Stages of a filter pipeline, as every chunked column has them; bit i of a chunk's mask: stage i
 * skipped. */
enum { STAGE_SHUFFLE, STAGE_DEFLATE, STAGE_FLETCHER32, STAGES };

/* One byte an entry in /allele: bits 0-1 the base (A C G T), bits 2-3 the haplotype mask, the
 * others zero. */
static inline uint8_t dataset_pack(unsigned allele, unsigned mask)
{
    return (uint8_t)(allele | mask << 2);
}

static inline uint8_t dataset_allele(uint8_t packed)
{
    return packed & 3;
}

static inline uint8_t dataset_mask(uint8_t packed)
{
    return (uint8_t)(packed >> 2 & 3);
}

#endif
