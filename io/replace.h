/* A file that is never seen half-written: everything goes to a temporary name in the same folder,
 * is synced, and takes the final name by rename; then the folder is synced. On any failure the
 * temporary file is removed and an older file under the final name stays as it was. */
#ifndef CROCUTA_IO_REPLACE_H
#define CROCUTA_IO_REPLACE_H

#include "runtime/core/status.h"

#include <stddef.h>

#define REPLACE_PATH 4096

typedef struct {
    char path[REPLACE_PATH];      /* final name */
    char temporary[REPLACE_PATH]; /* name until replace_end */
    int fd;
} replacement;

/* STATUS_RESOURCE with the system's reason where the folder or disk refuses. */
status replace_begin(const char *path, replacement *r);
status replace_write(replacement *r, const void *data, size_t bytes);
/* Syncs, renames, syncs the folder where `so_far` is STATUS_OK; otherwise removes the temporary
 * file and returns it. */
status replace_end(replacement *r, status so_far);

/* A whole small text at once. */
status replace_text(const char *path, const char *text);

/* Makes renames in the folder of `path` durable. */
status sync_folder_of(const char *path);

#endif
