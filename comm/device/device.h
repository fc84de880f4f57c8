/* A group's GPUs as both backends see them: streams, events, what is queued, who is where; and the
 * table that a backend fills. Private to comm/. */
#ifndef CROCUTA_COMM_DEVICE_DEVICE_H
#define CROCUTA_COMM_DEVICE_DEVICE_H

#include "comm/device/calls.h"
#include "comm/mpi/group.h"

#include <cuda_runtime.h>

#define COMM_HOST 64 /* bytes of a host's name in messages */

/* Elements on their way to or from one rank. */
typedef struct {
    void *at;
    int64_t count; /* elements, at least 1 */
    int peer;
} transfer;

/* A stretch of time on the GPU: an exchange on our stream, or a stop of the compute stream. */
typedef struct {
    cudaEvent_t begin, end;
    bool stall;
} stretch;

/* One backend. All queue on c->stream and return; on failure the caller ends the communicator. */
typedef struct {
    const char *name;
    status (*open)(comm_device *c);
    /* The end after success; may wait. */
    status (*close)(comm_device *c);
    /* The end after failure: what is queued must not hang; never fails. */
    void (*abort)(comm_device *c);
    /* Each gives its span's end to device_span_end once the exchange is queued as a whole. */
    status (*sum)(comm_device *c, comm_type type, void *x, int64_t count, int64_t s);
    status (*bcast)(comm_device *c, comm_type type, void *x, int64_t count, int root, int64_t s);
    status (*move)(comm_device *c, comm_type type, const transfer *sends, int n_sends,
                   const transfer *receives, int n_receives, int64_t s);
    /* One look: errors so far, and a step on. *idle: nothing is left for the host to queue. */
    status (*poll)(comm_device *c, bool *idle);
} device_backend;

extern const device_backend backend_nccl, backend_mpi;
/* "NCCL 2.27.3" (comm_device_library) */
status nccl_library(char *text, size_t size);

struct comm_device {
    const comm_device_calls *calls; /* first: comm_device.c looks here */
    const device_backend *backend;
    void *state; /* the backend's own */
    comm *group;
    int rank, size, ordinal;
    bool deterministic, broken;
    char (*hosts)[COMM_HOST]; /* (size) */
    cudaStream_t compute;     /* the caller's */
    cudaStream_t stream;      /* ours */
    cudaEvent_t ready, done;  /* the two directions between them */
    stretch *spans;           /* of exchanges and joins not yet waited for, in order */
    int64_t n_spans, made_spans, finished;
    comm_device_times times;
    int64_t asked;              /* exchanges so far: the same on all ranks at the same place */
    transfer *sends, *receives; /* (size) each */
};

size_t comm_type_size(comm_type type);
/* Marks where span s ends on our stream. */
status device_span_end(comm_device *c, int64_t s);
/* Keeps the failure, tells the other ranks, ends the backend; returns st. */
status device_broken(comm_device *c, status st);

/* notice.c: what ranks tell one another when something is wrong. */
status notice_tell(comm_device *c);
/* STATUS_RANK where another rank has told of a failure; answers those who ask where we are. */
status notice_look(comm_device *c, const char *phase);
/* Nothing came for waited_s: asks who is there, and fails with who is not, or is behind. STATUS_OK
 * where the deadline is not reached. */
status notice_overdue(comm_device *c, const char *phase, double waited_s);

status device_cuda_failed(const comm_device *c, cudaError_t error, const char *call,
                          const char *source, int line);

#define CUDA_C(c, call) device_cuda_failed((c), (call), #call, __FILE__, __LINE__)
#define TRY_CUDA(c, call) TRY(CUDA_C(c, call))

#endif
