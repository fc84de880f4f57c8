/* A checkpoint file: one HDF5 file of whole tensors by name (never of ranks or arenas), with a
 * manifest beside it that says what is in it. Written under a temporary name, synced, renamed; read
 * with every checksum held against the manifest. What belongs in one is decided above
 * (runtime/train). docs/formats.md has the layout. */
#ifndef CROCUTA_IO_CHECKPOINT_H
#define CROCUTA_IO_CHECKPOINT_H

#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum { ELEMENT_F32, ELEMENT_I64, ELEMENT_U8, ELEMENT_I32 } element_kind;

typedef struct {
    char name[128]; /* path in the file: parameters/layers.0.norm1.weight, adam_m/.., rows/0/p .. */
    element_kind kind;
    int64_t shape[3];
    int ndim;
    const void *data; /* when writing */
} checkpoint_tensor;

typedef struct {
    int64_t step; /* steps done */
    int64_t stage;
    int ranks;          /* workers that wrote it */
    const char *config; /* effective configuration, YAML */
    const char *
        state; /* JSON object of the trainer: best loss, counters, classes, labels, data identity */
} checkpoint_header;

/* Writes DIR/step-NNNNNNN.h5 and .json; called by one rank. STATUS_RESOURCE where the disk is full
 * or refuses: the older files are untouched. */
status checkpoint_write(const char *dir, const checkpoint_header *h,
                        const checkpoint_tensor *tensors, int64_t n);

/* The same by many writers. One rank lays the file out, under a temporary name, with room on the
 * disk for every byte, and learns where each tensor begins (data are not looked at; an empty tensor
 * has no place: 0). Then anybody writes stretches of the tensors into it with plain system calls,
 * HDF5 being done with it; when all are synced, one rank commits: the file's checksum is made of
 * the pieces', and only the few bytes between them are read back. */
status checkpoint_lay_out(const char *dir, const checkpoint_header *h,
                          const checkpoint_tensor *tensors, int64_t n, int64_t *offset);

/* A stretch of the file that a writer has written and synced. */
typedef struct {
    int64_t offset, bytes;
    uint32_t crc; /* CRC-32 */
} checkpoint_piece;

/* Takes effect as a whole or not at all. `pieces` (put into the file's order) must cover every byte
 * of every tensor. STATUS_RESOURCE as above; the temporary file is gone then. */
status checkpoint_commit(const char *dir, const checkpoint_header *h,
                         const checkpoint_tensor *tensors, int64_t n, checkpoint_piece *pieces,
                         int64_t n_pieces);

/* DIR/step-NNNNNNN.h5.tmp: the name until then. */
void checkpoint_part_path(const char *dir, int64_t step, char path[1100]);
/* Removes it, and all that jobs which died have left. */
void checkpoint_discard(const char *dir, int64_t step);
void checkpoint_sweep(const char *dir);

/* Bytes of an element, and of a tensor. */
int64_t checkpoint_element_bytes(element_kind kind);
int64_t checkpoint_tensor_bytes(const checkpoint_tensor *t);

typedef struct checkpoint checkpoint;
/* Opens and verifies one file (its manifest beside it is required). Any fault is one message and
 * STATUS_DATA. */
status checkpoint_open(const char *file, checkpoint **out);
void checkpoint_close(checkpoint **c);
const checkpoint_header *checkpoint_head(const checkpoint *c);
int64_t checkpoint_tensors(const checkpoint *c, const checkpoint_tensor **list); /* data NULL */
status checkpoint_read(checkpoint *c, const char *name, void *to, int64_t count);

/* DIR/latest and DIR/best: a one-line text file that names a step file, replaced by rename. */
status checkpoint_point(const char *dir, const char *which, int64_t step);
/* The step that DIR/latest or DIR/best names, -1 where there is none. */
int64_t checkpoint_pointed(const char *dir, const char *which);
/* The newest sound checkpoint of a directory: `latest` first, then by step downwards, with a
 * warning for each that is passed over. *out NULL and STATUS_OK where there is none at all. */
status checkpoint_newest(const char *dir, checkpoint **out);
/* The same among those of fewer steps than `before`. */
status checkpoint_newest_before(const char *dir, int64_t before, checkpoint **out);
status checkpoint_named(const char *dir, const char *which, checkpoint **out);

/* Steps of the committed checkpoints of a directory, descending (caller frees *steps). */
status checkpoint_list(const char *dir, int64_t **steps, int64_t *n);

/* Removes all but the newest `keep` (two at least), `latest` and `best`; *removed counts. Manifests
 * go first, so that a half-removed checkpoint is never taken for a whole one. */
status checkpoint_prune(const char *dir, int64_t keep, int64_t *removed);

/* DIR/step-NNNNNNN.h5 */
void checkpoint_path(const char *dir, int64_t step, char path[1024]);

#endif
