/* The long columns of a data set from their chunks in the file to entries in memory, each chunk by
 * one thread of one rank, without HDF5: it gives only the places of the chunks and is not
 * thread-safe. */
#ifndef CROCUTA_IO_DATASET_COLUMNS_H
#define CROCUTA_IO_DATASET_COLUMNS_H

#include "io/dataset_index.h"

/* Decodes chunks first, first + step, ... into entries; `threads` of them at a time. */
status columns_decode(const char *path, const index_head *h, const chunk_place *chunks,
                      const chromosome_numbers *chromosomes, const site *sites, const int64_t *run,
                      int64_t first, int64_t step, int threads, entry *entries);

#endif
