/* Does a file that all ranks write together hold what they wrote? For `crocuta doctor` and tests.
 */
#ifndef CROCUTA_IO_H5_PROBE_H
#define CROCUTA_IO_H5_PROBE_H

#include "comm/comm.h"

/* Collective. Writes PATH in the ways of this program, and two that are harder for MPI-IO, and
 * reads it back on every rank: a column in chunks through three filters; blocks that alternate
 * between the ranks with gaps between them, in interleaved turns, so that an aggregator reads,
 * changes and writes what another one's bytes lie in. Then closed, synced, renamed, and taken away.
 * `bytes`: of each rank and part, roughly. STATUS_DATA where it holds something else. */
status h5_probe(const char *path, comm *c, int64_t bytes, double *seconds);

#endif
