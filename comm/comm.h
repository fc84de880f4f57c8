/* Bytes between ranks. A `comm` is a group of ranks that act together (all ranks, the workers, one
 * sweep group, the workers that share a sequence). Backends move the bytes: MPI here, NCCL for
 * GPUs. Every call is collective over its group unless said otherwise; counts are elements, never
 * bytes, except where named so. */
#ifndef CROCUTA_COMM_COMM_H
#define CROCUTA_COMM_COMM_H

#include "runtime/core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct comm comm;

/* Starts MPI (and the guards for its known faults), gives the group of all ranks. Works as one
 * process too. */
status comm_start(int *argc, char ***argv, comm **world);
/* Ends MPI; the world group is freed. */
void comm_end(comm **world);
/* Ends every rank of the job at once with `code`, after this rank has printed its line. Does not
 * return. */
void comm_abort(comm *c, int code) __attribute__((noreturn));

int comm_rank(const comm *c);
int comm_size(const comm *c);
int comm_local_rank(const comm *c); /* among the ranks of this node */
int comm_local_size(const comm *c);
const char *comm_host(const comm *c);
/* Where groups share a node: this rank's place among all ranks that compute there, and how many
 * they are. Without comm_set_place, and for every other group, local rank and local size; groups
 * made by a split have their parent's. */
int comm_place(const comm *c);
int comm_places(const comm *c);
void comm_set_place(comm *c, int place, int places);

/* Ranks with the same colour form a group, ordered by key. A negative colour: no group (*out NULL).
 */
status comm_split(comm *c, int color, int key, comm **out);
/* Ranks of c on the same node. */
status comm_split_node(comm *c, comm **out);
void comm_free(comm **c);

/* All ranks learn whether one of them failed: returns STATUS_OK everywhere, or everywhere the
 * status and the message of the lowest failing rank, marked `agreed`, so that one rank prints it.
 * Call before steps begin. */
status comm_agree(comm *c, status st);
/* The end of a program's work: as comm_agree, but a rank that failed waits for the others for
 * `grace_s` at most (they may be where it will never come). *together false: they did not come;
 * print and comm_abort. Does not disturb collectives that others are still in. */
status comm_conclude(comm *c, status st, double grace_s, bool *together);

status comm_barrier(comm *c);
status comm_bcast(comm *c, void *data, size_t bytes, int root);
status comm_sum_f32(comm *c, float *x,
                    int64_t count); /* in place, all ranks get the sum, same bits everywhere */
status comm_sum_f64(comm *c, double *x, int64_t count);
status comm_sum_i64(comm *c, int64_t *x, int64_t count);
status comm_max_f64(comm *c, double *x, int64_t count);
status comm_max_i64(comm *c, int64_t *x, int64_t count);
/* counts[size]: bytes that each rank contributes (in bytes); recv is their concatenation in rank
 * order. */
status comm_gatherv(comm *c, const void *send, size_t bytes, void *recv, const size_t *counts,
                    int root);
status comm_allgather(comm *c, const void *send, size_t bytes, void *recv);
status comm_allgatherv(comm *c, const void *send, size_t bytes, void *recv, const size_t *counts);
/* Bytes to and from every rank; counts and displacements in bytes, 64 bits. */
status comm_alltoallv(comm *c, const void *send, const size_t *send_bytes, const size_t *send_at,
                      void *recv, const size_t *recv_bytes, const size_t *recv_at);

/* Gradient buckets: an all-reduce that goes on while backward computes. Start in the same order on
 * all ranks. */
typedef struct comm_request comm_request;
status comm_sum_start(comm *c, float *x, int64_t count, comm_request **request);
/* Polls until all are done (each becomes NULL; NULL ones are passed over). STATUS_RANK, naming the
 * phase, where nothing comes within the deadline. */
status comm_wait(comm *c, comm_request **requests, int n, const char *phase);
/* The deadline of comm_wait, seconds; 0: none. A group made by a split starts with its parent's. */
void comm_set_timeout(comm *c, double seconds);

/* Small messages between two ranks, for the coordinator: never block. */
status comm_post(comm *c, int to, int tag, const void *data,
                 size_t bytes); /* buffered copy, bytes >= 1 */
/* The next message with this tag from anybody. *bytes 0: nothing has come. data holds at most
 * `size` bytes. */
status comm_poll(comm *c, int *from, int tag, void *data, size_t size, size_t *bytes);

/* The MPI handle, for parallel HDF5 only (io/): *(MPI_Comm *)comm_mpi(c). */
void *comm_mpi(comm *c);

#endif
