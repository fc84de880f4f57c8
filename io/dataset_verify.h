/* What `data verify` looks at beyond what opening a set already proves: the checksum of every chunk
 * as HDF5 wrote it, people in one split only, relatives on one side. */
#ifndef CROCUTA_IO_DATASET_VERIFY_H
#define CROCUTA_IO_DATASET_VERIFY_H

#include "comm/comm.h"
#include "io/dataset.h"
#include "io/relatives.h"

/* Reads every column through HDF5's own filters (fletcher32 of each chunk). One rank calls it. */
status dataset_verify_chunks(const char *path);

/* No person twice, every label named once. */
status dataset_verify_people(const dataset *d);

/* All related pairs of the set, on the first rank (*pairs: the caller frees; NULL on the others).
 * The ranks share the work. */
status dataset_relatives(const dataset *d, comm *c, related_pair **pairs, int64_t *n);

/* STATUS_DATA, naming the pair, where related people stand in different splits. */
status dataset_verify_relatives(const dataset *d, const related_pair *pairs, int64_t n);

const char *split_name(split_kind split); /* train, valid, test */
const char *sex_name(sex_kind sex);       /* male, female, unknown */

#endif
