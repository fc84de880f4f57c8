/* The manifest beside a checkpoint: what is in the file, its size and its checksum, and a seal over
 * the manifest itself. Private to io/checkpoint*.c. */
#ifndef CROCUTA_IO_CHECKPOINT_MANIFEST_H
#define CROCUTA_IO_CHECKPOINT_MANIFEST_H

#include "io/checkpoint.h"

#define CHECKPOINT_VERSION 1

/* step-0000010.h5 -> step-0000010.json */
void checkpoint_manifest_path(const char *file, char manifest[1100]);

/* Text of the manifest of a finished file of so many bytes and with that CRC-32 (caller frees). */
status manifest_make(const char *file, int64_t bytes, uint32_t crc, const checkpoint_header *h,
                     const checkpoint_tensor *tensors, int64_t n, char **text);

/* What a manifest says, every field checked. Strings are owned by it. */
typedef struct {
    checkpoint_header head;
    checkpoint_tensor *tensors;
    int64_t n, bytes;
    uint32_t crc;
    char *config, *state;
} manifest;

/* Reads DIR/step-N.json and holds it against its own seal. */
status manifest_read(const char *path, manifest *m);
void manifest_free(manifest *m);

/* Size and CRC-32 of a file's bytes. */
status file_sum(const char *path, int64_t *bytes, uint32_t *crc);

#endif
