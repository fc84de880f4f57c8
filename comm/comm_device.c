/* comm_device.h for every build: finds the calls (comm/device/calls.h) and passes on to them; where
 * there are none, every rank gets the one message that says why. */
#include "comm/device/calls.h"

#include "comm/mpi/group.h"

#include <dlfcn.h>

#if defined(COMM_DEVICE_LINKED)

static status find(const comm_device_calls **out)
{
    *out = &COMM_DEVICE_CALLS;
    return STATUS_OK;
}

#elif defined(COMM_DEVICE_MODULE)

#define TEXT_OF(x) #x
#define NAME_OF(x) TEXT_OF(x)

/* What the module finds in the program and the program itself may not use. */
const void *const comm_for_module[] = {(const void *)comm_bcast, (const void *)comm_poll};

/* Found beside the program (its run path says so). A module once loaded stays. */
static status find(const comm_device_calls **out)
{
    void *module = dlopen(COMM_DEVICE_MODULE, RTLD_NOW);
    *out = module ? dlsym(module, NAME_OF(COMM_DEVICE_CALLS)) : NULL;
    if (*out)
        return STATUS_OK;
    return fail(STATUS_RESOURCE,
                "comm: communication between GPUs does not load (%s); install the "
                "CUDA libraries and NCCL, or use --device cpu",
                dlerror());
}

#else

static status find(const comm_device_calls **out)
{
    *out = NULL;
    return fail(STATUS_USAGE, "comm: this program was built without CUDA; use --device cpu");
}

#endif

/* The first member of every comm_device. */
static const comm_device_calls *calls_of(const comm_device *c)
{
    return *(const comm_device_calls *const *)(const void *)c;
}

status comm_device_open(comm *group, int ordinal, void *stream, const comm_device_options *options,
                        comm_device **out)
{
    const comm_device_calls *calls;
    *out = NULL;
    TRY(comm_agree(group, find(&calls)));
    return calls->open(group, ordinal, stream, options, out);
}

status comm_device_library(char *text, size_t size)
{
    const comm_device_calls *calls;
    TRY(find(&calls));
    return calls->library(text, size);
}

void comm_device_close(comm_device **c)
{
    if (*c)
        calls_of(*c)->close(c);
}

void comm_device_abort(comm_device *c)
{
    if (c)
        calls_of(c)->abort(c);
}

const char *comm_device_backend(const comm_device *c)
{
    return calls_of(c)->backend(c);
}

status comm_device_sum(comm_device *c, comm_type type, void *x, int64_t count)
{
    return calls_of(c)->sum(c, type, x, count);
}

status comm_device_bcast(comm_device *c, comm_type type, void *x, int64_t count, int root)
{
    return calls_of(c)->bcast(c, type, x, count, root);
}

status comm_device_allgatherv(comm_device *c, comm_type type, const void *send, void *recv,
                              const int64_t *counts)
{
    return calls_of(c)->allgatherv(c, type, send, recv, counts);
}

status comm_device_alltoallv(comm_device *c, comm_type type, const void *send,
                             const int64_t *send_counts, const int64_t *send_at, void *recv,
                             const int64_t *recv_counts, const int64_t *recv_at)
{
    return calls_of(c)->alltoallv(c, type, send, send_counts, send_at, recv, recv_counts, recv_at);
}

status comm_device_shift(comm_device *c, comm_type type, const void *send, int64_t n_send, int to,
                         void *recv, int64_t n_recv, int from)
{
    return calls_of(c)->shift(c, type, send, n_send, to, recv, n_recv, from);
}

status comm_device_join(comm_device *c, const char *phase)
{
    return calls_of(c)->join(c, phase);
}

status comm_device_wait(comm_device *c, const char *phase)
{
    return calls_of(c)->wait(c, phase);
}

comm_device_times comm_device_times_take(comm_device *c)
{
    return calls_of(c)->times_take(c);
}
