/* The batch that `trace` reads and the tensors that it writes, both plain HDF5. */
#ifndef CROCUTA_IO_TRACE_FILE_H
#define CROCUTA_IO_TRACE_FILE_H

#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

/* /input_ids and /target_ids, unsigned bytes (B, L); optional /position (B, L) and /chromosome (B),
 * whole numbers. */
typedef struct {
    int64_t B, L;
    uint8_t *ids, *targets; /* (B, L) */
    int64_t *position;      /* (B, L) or NULL */
    int32_t *chromosome;    /* (B) or NULL */
} trace_batch;

/* STATUS_DATA names file and data set; ids are below `vocabulary`, targets too, or 255 for none.
 * Without `targets` a file may lack /target_ids: NULL. */
status trace_batch_read(const char *path, int vocabulary, bool targets, trace_batch *b);
void trace_batch_free(trace_batch *b);

typedef enum { TRACE_F32, TRACE_F64, TRACE_I64 } trace_kind;

typedef struct trace_writer trace_writer;
/* Under a temporary name until trace_writer_close. */
status trace_writer_open(const char *path, trace_writer **out);
/* ndim 0: one number. Groups in `name` are made. */
status trace_write(trace_writer *w, const char *name, trace_kind kind, int ndim,
                   const int64_t *dims, const void *data);
/* Renames where so_far is STATUS_OK, removes otherwise. */
status trace_writer_close(trace_writer **w, status so_far);

#endif
