/* Room on a disk, taken before a file is written: parallel writers and HDF5 cannot recover from a
 * disk that fills up under them (they hang, or crash at the end of the program), so that fault is
 * met before the first byte. */
#ifndef CROCUTA_IO_RESERVE_H
#define CROCUTA_IO_RESERVE_H

#include "runtime/core/status.h"

#include <stdint.h>

/* Takes `best` bytes for an existing file without changing its length, or else `least`;
 * STATUS_RESOURCE where not even those are free (quotas count). Where the file system cannot
 * reserve, its free space is looked at. */
status reserve_room(const char *path, int64_t least, int64_t best);

/* Gives back what lies behind the file's end. */
status reserve_end(const char *path);

#endif
