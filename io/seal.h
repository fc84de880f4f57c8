/* The seal of a data set: its last 80 bytes, one line of text behind everything that HDF5 knows of,
 * with version, length and CRC-32 of all bytes before it. A file without its seal was not finished,
 * was cut, or is not ours; a file whose bytes differ from it was changed. So no damaged byte ever
 * reaches HDF5, and no table, name or index needs a checksum of its own. HDF5 tools ignore the
 * bytes behind the end. */
#ifndef CROCUTA_IO_SEAL_H
#define CROCUTA_IO_SEAL_H

#include "comm/comm.h"
#include "runtime/core/status.h"

#include <stdint.h>

#define SEAL_BYTES 80

/* Appends the seal to a finished, closed file and syncs it to disk. Collective: each rank sums a
 * share. */
status seal_write(const char *path, comm *c, int version);

/* Holds a file against its seal. Collective; one message and STATUS_DATA on every rank. Takes what
 * reading the file once takes, shared by the ranks. */
status seal_verify(const char *path, comm *c, int version);

#endif
