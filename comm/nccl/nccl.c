/* The NCCL backend. The communicator is non-blocking: every call may come back before it is done,
 * and is looked after until it is, so that a rank that never joins ends in a message at the
 * deadline and not in a hang. Everything that goes wrong is a status that names the call. */
#include "comm/device/device.h"

#include "runtime/core/log.h"

#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    ncclComm_t comm;
} nccl;

static const ncclDataType_t TYPE[] = {ncclFloat32, ncclFloat64, ncclBfloat16,
                                      ncclInt32,   ncclInt64,   ncclUint8};

static const char *advice(ncclResult_t result)
{
    switch (result) {
    case ncclSystemError:
    case ncclRemoteError:
        return "look for an earlier line of another rank, check the network, and run it with "
               "NCCL_DEBUG=WARN";
    case ncclInvalidUsage:
    case ncclInvalidArgument:
        return "run it with NCCL_DEBUG=WARN and report it, or set comm.backend: mpi";
    default:
        return "run it again with NCCL_DEBUG=WARN";
    }
}

/* ncclSuccess -> STATUS_OK; ncclInProgress does not come here. */
static status nccl_status(const comm_device *c, ncclResult_t result, const char *call,
                          const char *source, int line)
{
    if (result == ncclSuccess)
        return STATUS_OK;
    const nccl *n = c->state;
    const char *last = n && n->comm ? ncclGetLastError(n->comm) : NULL;
    const bool more = last && last[0];
    return fail_at(source, line, STATUS_RANK, "rank %d on %s: %.*s: %s%s%s%s; %s", c->rank,
                   comm_host(c->group), (int)strcspn(call, "("), call, ncclGetErrorString(result),
                   more ? " (" : "", more ? last : "", more ? ")" : "", advice(result));
}

/* Looks after a call that may only have begun. Always asks once: a call that returned success may
 * have left the communicator in progress. */
static status settle(comm_device *c, ncclResult_t result, const char *call, const char *source,
                     int line)
{
    const nccl *n = c->state;
    const double start_s = clock_monotonic_s();
    char phase[48];
    snprintf(phase, sizeof phase, "%.*s", (int)strcspn(call, "("), call);
    bool asked = false;
    while (result == ncclInProgress || (result == ncclSuccess && !asked)) {
        const double waited_s = clock_monotonic_s() - start_s;
        if (asked) {
            TRY(notice_look(c, phase));
            TRY(notice_overdue(c, phase, waited_s));
            comm_pause(waited_s);
        }
        const ncclResult_t query = ncclCommGetAsyncError(n->comm, &result);
        asked = true;
        if (query != ncclSuccess)
            return nccl_status(c, query, "ncclCommGetAsyncError", source, line);
    }
    return nccl_status(c, result, call, source, line);
}

#define TRY_NCCL(c, call) TRY(settle((c), (call), #call, __FILE__, __LINE__))

/* ---- opening and closing */

/* NCCL reads these when it starts, once a process. */
static status set_mode(bool deterministic)
{
    static int mode = -1;
    if (mode >= 0 && mode != deterministic)
        return fail(STATUS_INTERNAL, "comm.deterministic: NCCL has started the other way in this "
                                     "process; report this");
    mode = deterministic;
    if (deterministic) {
        setenv("NCCL_NVLS_ENABLE", "0", 1);    /* sums in the NVSwitch come in any order */
        setenv("NCCL_COLLNET_ENABLE", "0", 1); /* and so do those in the network's switches */
    }
    return STATUS_OK;
}

static status unique_id(comm_device *c, ncclUniqueId *id)
{
    status st = set_mode(c->deterministic);
    if (st == STATUS_OK && c->rank == 0)
        st = nccl_status(c, ncclGetUniqueId(id), "ncclGetUniqueId", __FILE__, __LINE__);
    TRY(comm_agree(c->group, st));
    return comm_bcast(c->group, id, sizeof *id, 0);
}

status nccl_library(char *text, size_t size)
{
    int version = 0; /* 22703: 2.27.3 */
    const ncclResult_t result = ncclGetVersion(&version);
    if (result != ncclSuccess)
        return fail(STATUS_DEVICE, "NCCL: it gives no version (%s); install it anew",
                    ncclGetErrorString(result));
    snprintf(text, size, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    return STATUS_OK;
}

static void nccl_abort(comm_device *c)
{
    nccl *n = c->state;
    c->state = NULL;
    if (n && n->comm)
        ncclCommAbort(n->comm);
    free(n);
}

static status init(comm_device *c, ncclUniqueId id)
{
    nccl *n = c->state;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    TRY_NCCL(c, ncclCommInitRankConfig(&n->comm, c->size, id, c->rank, &config));
    return STATUS_OK;
}

static status nccl_open(comm_device *c)
{
    ncclUniqueId id = {{0}};
    status st = STATUS_OK;
    c->state = calloc(1, sizeof(nccl));
    if (!c->state)
        st = fail(STATUS_MEMORY, "comm: no memory for a communicator; use more nodes");
    TRY_GOTO(failed, comm_agree(c->group, st));
    TRY_GOTO(failed, unique_id(c, &id));
    st = device_broken(c, init(c, id)); /* the others would wait for a rank that has failed */
    TRY_GOTO(failed, comm_agree(c->group, st));
    return STATUS_OK;

failed:
    nccl_abort(c);
    return st;
}

static status nccl_close(comm_device *c)
{
    nccl *n = c->state;
    const status st = settle(c, ncclCommFinalize(n->comm), "ncclCommFinalize", __FILE__, __LINE__);
    if (st != STATUS_OK) {
        nccl_abort(c);
        return st;
    }
    const ncclResult_t result =
        ncclCommDestroy(n->comm); /* in the background: nothing to look after */
    c->state = NULL;
    free(n);
    return result == ncclInProgress ? STATUS_OK
                                    : nccl_status(c, result, "ncclCommDestroy", __FILE__, __LINE__);
}

/* ---- exchanges */

static status nccl_sum(comm_device *c, comm_type type, void *x, int64_t count, int64_t span)
{
    const nccl *n = c->state;
    TRY_NCCL(c, ncclAllReduce(x, x, (size_t)count, TYPE[type], ncclSum, n->comm, c->stream));
    return device_span_end(c, span);
}

static status nccl_bcast(comm_device *c, comm_type type, void *x, int64_t count, int root,
                         int64_t span)
{
    const nccl *n = c->state;
    TRY_NCCL(c, ncclBroadcast(x, x, (size_t)count, TYPE[type], root, n->comm, c->stream));
    return device_span_end(c, span);
}

/* What stands between ncclGroupStart and ncclGroupEnd only makes a list; the end returns for all.
 */
static ncclResult_t move_all(comm_device *c, comm_type type, const transfer *sends, int n_sends,
                             const transfer *receives, int n_receives)
{
    const nccl *n = c->state;
    for (int i = 0; i < n_sends; i++) {
        const ncclResult_t r = ncclSend(sends[i].at, (size_t)sends[i].count, TYPE[type],
                                        sends[i].peer, n->comm, c->stream);
        if (r != ncclSuccess && r != ncclInProgress)
            return r;
    }
    for (int i = 0; i < n_receives; i++) {
        const ncclResult_t r = ncclRecv(receives[i].at, (size_t)receives[i].count, TYPE[type],
                                        receives[i].peer, n->comm, c->stream);
        if (r != ncclSuccess && r != ncclInProgress)
            return r;
    }
    return ncclSuccess;
}

static status nccl_move(comm_device *c, comm_type type, const transfer *sends, int n_sends,
                        const transfer *receives, int n_receives, int64_t span)
{
    const ncclResult_t start = ncclGroupStart();
    TRY(nccl_status(c, start, "ncclGroupStart", __FILE__, __LINE__));
    const ncclResult_t listed = move_all(c, type, sends, n_sends, receives, n_receives);
    const ncclResult_t end = ncclGroupEnd(); /* also after an error: the group must be closed */
    TRY(nccl_status(c, listed, "ncclSend or ncclRecv", __FILE__, __LINE__));
    TRY(settle(c, end, "ncclGroupEnd", __FILE__, __LINE__));
    return device_span_end(c, span);
}

static status nccl_poll(comm_device *c, bool *idle)
{
    const nccl *n = c->state;
    ncclResult_t now = ncclSuccess;
    const ncclResult_t query = ncclCommGetAsyncError(n->comm, &now);
    *idle = true;
    TRY(nccl_status(c, query, "ncclCommGetAsyncError", __FILE__, __LINE__));
    return now == ncclInProgress ? STATUS_OK
                                 : nccl_status(c, now, "an exchange", __FILE__, __LINE__);
}

const device_backend backend_nccl = {"nccl",   nccl_open,  nccl_close, nccl_abort,
                                     nccl_sum, nccl_bcast, nccl_move,  nccl_poll};
