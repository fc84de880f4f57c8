/* Bytes between the GPUs of a group's ranks. Every rank gives its own device buffers, nothing is
 * copied through the host where NCCL carries it, and nothing waits but the calls that say so: an
 * exchange is queued on a stream of its own, behind all that the compute stream has been given so
 * far, and the compute stream goes on. Counts and displacements are elements of `type`, never
 * bytes. All ranks of the group make the same calls in the same order.
 *
 * Two backends: NCCL, and MPI through pinned host memory, which serves where NCCL cannot (two ranks
 * on one GPU) and against which NCCL is tested. Sums have the same bits on all ranks.
 *
 * Where a call fails, the communicator is ended at once on this rank, the other ranks are told and
 * fail too, and every later call fails: print the line and comm_abort. */
#ifndef CROCUTA_COMM_COMM_DEVICE_H
#define CROCUTA_COMM_COMM_DEVICE_H

#include "comm/comm.h"

typedef enum { COMM_AUTO, COMM_MPI, COMM_NCCL } comm_backend;
typedef enum { COMM_F32, COMM_F64, COMM_BF16, COMM_I32, COMM_I64, COMM_U8 } comm_type;

typedef struct {
    comm_backend backend; /* AUTO: NCCL where every rank has a GPU of its own */
    /* The same bits in every run on the same ranks and machines: NCCL without the sums that
     * switches make (NVLS, CollNet). For the whole process: NCCL reads it once. */
    bool deterministic;
} comm_device_options;

typedef struct comm_device comm_device;

/* Collective over `group`, which stays open as long as this. `ordinal`: this rank's GPU. `stream`:
 * the cudaStream_t on which it computes. The deadline is the group's (comm_set_timeout). A build
 * without CUDA answers STATUS_USAGE. */
status comm_device_open(comm *group, int ordinal, void *stream, const comm_device_options *options,
                        comm_device **out);
/* Collective where nothing has failed; waits for what is queued. */
void comm_device_close(comm_device **c);
/* For a rank that fails elsewhere and will not come to the next exchange: ends communication here
 * and tells the others the last failure; closing is no longer collective. NULL is fine. */
void comm_device_abort(comm_device *c);
/* The library that carries exchanges, as it is loaded: "NCCL 2.27.3". No GPU need be there. */
status comm_device_library(char *text, size_t size);

/* "nccl", "mpi" */
const char *comm_device_backend(const comm_device *c);

/* x := the sum over the ranks, in place. F32 or F64. */
status comm_device_sum(comm_device *c, comm_type type, void *x, int64_t count);
status comm_device_bcast(comm_device *c, comm_type type, void *x, int64_t count, int root);
/* recv: what rank r sends, counts[r] elements, one behind the other. `send` may be its own place in
 * recv. */
status comm_device_allgatherv(comm_device *c, comm_type type, const void *send, void *recv,
                              const int64_t *counts);
/* send_at and recv_at: where the part for, or of, each rank begins. send and recv do not overlap.
 */
status comm_device_alltoallv(comm_device *c, comm_type type, const void *send,
                             const int64_t *send_counts, const int64_t *send_at, void *recv,
                             const int64_t *recv_counts, const int64_t *recv_at);
/* A halo: n_send elements to one rank, n_recv from another, each -1 where there is none. */
status comm_device_shift(comm_device *c, comm_type type, const void *send, int64_t n_send, int to,
                         void *recv, int64_t n_recv, int from);

/* What the compute stream is given from now on runs behind all exchanges so far. The host does not
 * wait with NCCL; with MPI it does, for the network. `phase` names it in messages. */
status comm_device_join(comm_device *c, const char *phase);
/* comm_device_join, and the host waits until all has run: looks at the streams, at NCCL's errors,
 * at MPI and at the clock. STATUS_RANK, naming the phase and who is missing, where nothing
 * comes within the deadline. Every step waits here before it waits for its own device: nothing else
 * notices a dead rank. */
status comm_device_wait(comm_device *c, const char *phase);

/* Since the last call, by the GPU's clock, of what has been waited for. */
typedef struct {
    double busy_s;    /* exchanges took, from the moment their data was there */
    double stalled_s; /* the compute stream stood still in joins */
    int64_t exchanges;
} comm_device_times;
comm_device_times comm_device_times_take(comm_device *c);

#endif
