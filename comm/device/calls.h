/* The calls of comm_device.h as the program finds them: in the program itself where a test build
 * links them, else in a module beside it that is loaded when somebody asks for GPUs, so that the
 * program starts, and starts fast, where no CUDA library and no NCCL is installed. */
#ifndef CROCUTA_COMM_DEVICE_CALLS_H
#define CROCUTA_COMM_DEVICE_CALLS_H

#include "comm/comm_device.h"

typedef struct {
    status (*library)(char *text, size_t size);
    status (*open)(comm *group, int ordinal, void *stream, const comm_device_options *options,
                   comm_device **out);
    void (*close)(comm_device **c);
    void (*abort)(comm_device *c);
    const char *(*backend)(const comm_device *c);
    status (*sum)(comm_device *c, comm_type type, void *x, int64_t count);
    status (*bcast)(comm_device *c, comm_type type, void *x, int64_t count, int root);
    status (*allgatherv)(comm_device *c, comm_type type, const void *send, void *recv,
                         const int64_t *counts);
    status (*alltoallv)(comm_device *c, comm_type type, const void *send,
                        const int64_t *send_counts, const int64_t *send_at, void *recv,
                        const int64_t *recv_counts, const int64_t *recv_at);
    status (*shift)(comm_device *c, comm_type type, const void *send, int64_t n_send, int to,
                    void *recv, int64_t n_recv, int from);
    status (*join)(comm_device *c, const char *phase);
    status (*wait)(comm_device *c, const char *phase);
    comm_device_times (*times_take)(comm_device *c);
} comm_device_calls;

/* The module's one symbol. */
#define COMM_DEVICE_CALLS crocuta_comm_device_calls
extern const comm_device_calls COMM_DEVICE_CALLS;

#endif
