/* What both backends share: opening, the two streams and the events between them, the exchanges
 * as lists of transfers, and the one wait that notices everything. */
#include "comm/device/device.h"

#include "runtime/core/log.h"

#include <stdlib.h>
#include <string.h>

size_t comm_type_size(comm_type type)
{
    static const size_t size[] = {4, 8, 2, 4, 8, 1};
    return size[type];
}

status device_cuda_failed(const comm_device *c, cudaError_t error, const char *call,
                          const char *source, int line)
{
    if (error == cudaSuccess)
        return STATUS_OK;
    cudaGetLastError();
    return fail_at(source, line, error == cudaErrorMemoryAllocation ? STATUS_MEMORY : STATUS_DEVICE,
                   "rank %d on %s: %.*s: %s (%s); run it again, under compute-sanitizer where it "
                   "stays",
                   c->rank, comm_host(c->group), (int)strcspn(call, "("), call,
                   cudaGetErrorString(error), cudaGetErrorName(error));
}

status device_broken(comm_device *c, status st)
{
    if (st == STATUS_OK || c->broken)
        return st;
    const failure why = *failure_last();
    c->broken = true;
    notice_tell(c);
    c->backend->abort(c);
    failure_set(&why);
    return st;
}

static status device_wait(comm_device *c, const char *phase);

/* ---- opening and closing */

typedef struct {
    char host[COMM_HOST];
    char gpu[32]; /* PCI bus: ordinals differ between processes that see different GPUs */
} place;

/* Where all ranks are; *shared: a GPU belongs to two of them. */
static status places(comm_device *c, bool *shared)
{
    place here = {{0}, {0}};
    status st = STATUS_OK;
    place *all = calloc((size_t)c->size, sizeof *all);
    if (!all)
        st = fail(STATUS_MEMORY, "comm: no memory for the list of ranks; use more nodes");
    if (st == STATUS_OK)
        st = CUDA_C(c, cudaDeviceGetPCIBusId(here.gpu, (int)sizeof here.gpu, c->ordinal));
    TRY_GOTO(cleanup, comm_agree(c->group, st));
    strncpy(here.host, comm_host(c->group), sizeof here.host - 1);
    TRY_GOTO(cleanup, comm_allgather(c->group, &here, sizeof here, all));
    *shared = false;
    for (int i = 0; i < c->size; i++) {
        memcpy(c->hosts[i], all[i].host, COMM_HOST);
        for (int k = 0; k < i; k++)
            *shared |= memcmp(&all[i], &all[k], sizeof here) == 0;
    }

cleanup:
    free(all);
    return st;
}

static status choose(comm_device *c, comm_backend asked, bool shared)
{
#ifdef CROCUTA_NCCL
    if (asked == COMM_NCCL && shared)
        return fail(STATUS_USAGE, "comm.backend: nccl: two ranks share a GPU, which NCCL refuses; "
                                  "start one worker a GPU or set comm.backend: mpi");
    if (asked == COMM_NCCL || (asked == COMM_AUTO && !shared && c->size > 1)) {
        c->backend = &backend_nccl;
        return STATUS_OK;
    }
#else
    (void)shared;
    if (asked == COMM_NCCL)
        return fail(STATUS_USAGE, "comm.backend: nccl: this program was built without NCCL; "
                                  "set comm.backend: auto");
#endif
    if (asked == COMM_AUTO && c->size > 1 && c->rank == 0)
        log_warning("ranks share a GPU, or this program was built without NCCL: gradients go "
                    "through host memory and MPI");
    c->backend = &backend_mpi;
    return STATUS_OK;
}

static status own_parts(comm_device *c)
{
    const size_t n = (size_t)c->size;
    c->hosts = calloc(n, sizeof *c->hosts);
    c->sends = calloc(n, sizeof *c->sends);
    c->receives = calloc(n, sizeof *c->receives);
    if (!c->hosts || !c->sends || !c->receives)
        return fail(STATUS_MEMORY, "comm: no memory for the list of ranks; use more nodes");
    TRY_CUDA(c, cudaSetDevice(c->ordinal));
    TRY_CUDA(c, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking));
    TRY_CUDA(c, cudaEventCreateWithFlags(&c->ready, cudaEventDisableTiming));
    return CUDA_C(c, cudaEventCreateWithFlags(&c->done, cudaEventDisableTiming));
}

static void release(comm_device *c)
{
    for (int64_t i = 0; i < c->made_spans; i++) {
        cudaEventDestroy(c->spans[i].begin);
        cudaEventDestroy(c->spans[i].end);
    }
    free(c->spans);
    if (c->ready)
        cudaEventDestroy(c->ready);
    if (c->done)
        cudaEventDestroy(c->done);
    if (c->stream)
        cudaStreamDestroy(c->stream);
    free(c->hosts);
    free(c->sends);
    free(c->receives);
    free(c);
}

static status device_open(comm *group, int ordinal, void *stream,
                          const comm_device_options *options, comm_device **out)
{
    *out = NULL;
    status st = STATUS_OK;
    bool shared = false;
    comm_device *c = calloc(1, sizeof *c);
    if (!c)
        st = fail(STATUS_MEMORY, "comm: no memory for a communicator; use more nodes");
    st = comm_agree(group, st);
    if (st != STATUS_OK) {
        free(c);
        return st;
    }
    c->calls = &COMM_DEVICE_CALLS;
    c->group = group;
    c->rank = comm_rank(group);
    c->size = comm_size(group);
    c->ordinal = ordinal;
    c->compute = (cudaStream_t)stream;
    c->deterministic = options->deterministic;
    TRY_GOTO(failed, comm_agree(group, own_parts(c)));
    TRY_GOTO(failed, places(c, &shared));
    TRY_GOTO(failed, choose(c, options->backend, shared));
    TRY_GOTO(failed, c->backend->open(c));
    *out = c;
    return STATUS_OK;

failed:
    release(c);
    return st;
}

static void device_close(comm_device **at)
{
    comm_device *c = *at;
    if (!c)
        return;
    *at = NULL;
    if (!c->broken) {
        status st = device_wait(c, "the end of communication");
        if (st == STATUS_OK)
            st = c->backend->close(c);
        if (st != STATUS_OK)
            log_warning("%s", failure_last()->text);
    }
    release(c);
}

static void device_abort(comm_device *c)
{
    device_broken(c, STATUS_RANK);
}

static const char *device_backend_name(const comm_device *c)
{
    return c->backend->name;
}

/* ---- spans */

/* Grows only while a step asks for more exchanges than any before. */
static status span_take(comm_device *c, bool stall, int64_t *s)
{
    if (c->n_spans == c->made_spans) {
        stretch *more = realloc(c->spans, (size_t)(c->n_spans + 1) * sizeof *more);
        if (!more)
            return fail(STATUS_MEMORY, "comm: no memory for an exchange; use more nodes");
        c->spans = more;
        stretch made = {0};
        TRY_CUDA(c, cudaEventCreateWithFlags(&made.begin, cudaEventDefault));
        const status st = CUDA_C(c, cudaEventCreateWithFlags(&made.end, cudaEventDefault));
        if (st != STATUS_OK) {
            cudaEventDestroy(made.begin);
            return st;
        }
        c->spans[c->made_spans++] = made;
    }
    *s = c->n_spans++;
    c->spans[*s].stall = stall;
    return STATUS_OK;
}

status device_span_end(comm_device *c, int64_t s)
{
    return CUDA_C(c, cudaEventRecord(c->spans[s].end, c->stream));
}

/* Adds up the spans of what has run. */
static status spans_settle(comm_device *c)
{
    for (int64_t i = 0; i < c->n_spans; i++) {
        float ms = 0;
        TRY_CUDA(c, cudaEventElapsedTime(&ms, c->spans[i].begin, c->spans[i].end));
        *(c->spans[i].stall ? &c->times.stalled_s : &c->times.busy_s) += 1e-3 * (double)ms;
        c->times.exchanges += !c->spans[i].stall;
    }
    c->n_spans = c->finished = 0;
    return STATUS_OK;
}

static comm_device_times device_times_take(comm_device *c)
{
    const comm_device_times t = c->times;
    c->times = (comm_device_times){0};
    return t;
}

/* ---- exchanges */

/* An exchange begins: our stream goes on behind what the compute stream has been given so far. */
static status begin(comm_device *c, int64_t *s)
{
    if (c->broken)
        return fail(STATUS_RANK,
                    "rank %d on %s: communication has ended with an earlier error; "
                    "look for the line before this one",
                    c->rank, comm_host(c->group));
    c->asked++;
    TRY(span_take(c, false, s));
    TRY_CUDA(c, cudaEventRecord(c->ready, c->compute));
    TRY_CUDA(c, cudaStreamWaitEvent(c->stream, c->ready, 0));
    return CUDA_C(c, cudaEventRecord(c->spans[*s].begin, c->stream));
}

/* Earlier exchanges move on while we are here anyway. */
static status nudge(comm_device *c)
{
    bool idle;
    return c->broken ? STATUS_OK : c->backend->poll(c, &idle);
}

static status device_sum(comm_device *c, comm_type type, void *x, int64_t count)
{
    int64_t s = 0;
    if (type != COMM_F32 && type != COMM_F64)
        return fail(STATUS_INTERNAL, "comm: sums are of f32 or f64; report this");
    if (count == 0)
        return STATUS_OK;
    status st = begin(c, &s);
    if (st == STATUS_OK)
        st = c->backend->sum(c, type, x, count, s);
    return device_broken(c, st == STATUS_OK ? nudge(c) : st);
}

static status device_bcast(comm_device *c, comm_type type, void *x, int64_t count, int root)
{
    int64_t s = 0;
    if (count == 0)
        return STATUS_OK;
    status st = begin(c, &s);
    if (st == STATUS_OK)
        st = c->backend->bcast(c, type, x, count, root, s);
    return device_broken(c, st == STATUS_OK ? nudge(c) : st);
}

static void add(transfer *list, int *n, const void *at, int64_t first, int64_t count, int peer,
                comm_type type)
{
    if (count > 0)
        list[(*n)++] =
            (transfer){(char *)(uintptr_t)at + first * (int64_t)comm_type_size(type), count, peer};
}

/* c->sends and c->receives, and what this rank sends to itself. */
static status move(comm_device *c, comm_type type, int n_sends, int n_receives, const void *from,
                   void *to, int64_t own)
{
    int64_t s = 0;
    status st = begin(c, &s);
    if (st == STATUS_OK && own > 0 && from != to)
        st = CUDA_C(c, cudaMemcpyAsync(to, from, (size_t)own * comm_type_size(type),
                                       cudaMemcpyDeviceToDevice, c->stream));
    if (st == STATUS_OK && n_sends + n_receives > 0)
        st = c->backend->move(c, type, c->sends, n_sends, c->receives, n_receives, s);
    else if (st == STATUS_OK)
        st = device_span_end(c, s);
    return device_broken(c, st == STATUS_OK ? nudge(c) : st);
}

static status device_allgatherv(comm_device *c, comm_type type, const void *send, void *recv,
                                const int64_t *counts)
{
    int n_sends = 0, n_receives = 0;
    int64_t at = 0, own = 0;
    for (int r = 0; r < c->size; at += counts[r++]) {
        if (r == c->rank)
            own = at;
        else
            add(c->receives, &n_receives, recv, at, counts[r], r, type);
    }
    for (int i = 1; i < c->size; i++) /* each begins with its right neighbour */
        add(c->sends, &n_sends, send, 0, counts[c->rank], (c->rank + i) % c->size, type);
    return move(c, type, n_sends, n_receives, send,
                (char *)recv + own * (int64_t)comm_type_size(type), counts[c->rank]);
}

static status device_alltoallv(comm_device *c, comm_type type, const void *send,
                               const int64_t *send_counts, const int64_t *send_at, void *recv,
                               const int64_t *recv_counts, const int64_t *recv_at)
{
    const int64_t width = (int64_t)comm_type_size(type);
    int n_sends = 0, n_receives = 0;
    if (send_counts[c->rank] != recv_counts[c->rank])
        return fail(STATUS_INTERNAL,
                    "comm: a rank sends itself %lld elements and expects %lld; "
                    "report this",
                    (long long)send_counts[c->rank], (long long)recv_counts[c->rank]);
    for (int i = 1; i < c->size; i++) {
        const int to = (c->rank + i) % c->size, from = (c->rank + c->size - i) % c->size;
        add(c->sends, &n_sends, send, send_at[to], send_counts[to], to, type);
        add(c->receives, &n_receives, recv, recv_at[from], recv_counts[from], from, type);
    }
    return move(c, type, n_sends, n_receives, (const char *)send + send_at[c->rank] * width,
                (char *)recv + recv_at[c->rank] * width, send_counts[c->rank]);
}

static status device_shift(comm_device *c, comm_type type, const void *send, int64_t n_send, int to,
                           void *recv, int64_t n_recv, int from)
{
    int n_sends = 0, n_receives = 0;
    if ((to == c->rank) != (from == c->rank) || (to == c->rank && n_send != n_recv))
        return fail(STATUS_INTERNAL, "comm: a rank shifts to itself what it does not take; "
                                     "report this");
    if (to >= 0 && to != c->rank)
        add(c->sends, &n_sends, send, 0, n_send, to, type);
    if (from >= 0 && from != c->rank)
        add(c->receives, &n_receives, recv, 0, n_recv, from, type);
    return move(c, type, n_sends, n_receives, send, recv, to == c->rank ? n_send : 0);
}

/* ---- waiting */

/* One round of a wait that has seen nothing for waited_s. */
static status look_around(comm_device *c, const char *phase, double waited_s, bool *idle)
{
    TRY(c->backend->poll(c, idle));
    TRY(notice_look(c, phase));
    return notice_overdue(c, phase, waited_s);
}

static status join_queued(comm_device *c, const char *phase)
{
    const double start_s = clock_monotonic_s();
    bool idle = false;
    TRY(c->backend->poll(c, &idle));
    while (!idle) {
        const double waited_s = clock_monotonic_s() - start_s;
        TRY(look_around(c, phase, waited_s, &idle));
        if (!idle)
            comm_pause(waited_s);
    }
    int64_t s = 0;
    TRY(span_take(c, true, &s));
    TRY_CUDA(c, cudaEventRecord(c->done, c->stream));
    TRY_CUDA(c, cudaEventRecord(c->spans[s].begin, c->compute));
    TRY_CUDA(c, cudaStreamWaitEvent(c->compute, c->done, 0));
    return CUDA_C(c, cudaEventRecord(c->spans[s].end, c->compute));
}

/* Until every span has ended. The clock starts again with each: the first of a step waits for this
 * rank's own backward pass. */
static status finish(comm_device *c, const char *phase)
{
    double since_s = clock_monotonic_s();
    bool idle;
    while (c->finished < c->n_spans) {
        const cudaError_t now = cudaEventQuery(c->spans[c->finished].end);
        if (now != cudaErrorNotReady) {
            TRY_CUDA(c, now);
            c->finished++;
            since_s = clock_monotonic_s();
            continue;
        }
        const double waited_s = clock_monotonic_s() - since_s;
        TRY(look_around(c, phase, waited_s, &idle));
        comm_pause(waited_s);
    }
    TRY(look_around(c, phase, 0, &idle)); /* an error that let the stream end */
    return spans_settle(c);
}

static status device_join(comm_device *c, const char *phase)
{
    if (c->broken)
        return begin(c, &(int64_t){0});
    return device_broken(c, join_queued(c, phase));
}

static status device_wait(comm_device *c, const char *phase)
{
    TRY(device_join(c, phase));
    return device_broken(c, finish(c, phase));
}

const comm_device_calls COMM_DEVICE_CALLS = {
    .library = nccl_library,
    .open = device_open,
    .close = device_close,
    .abort = device_abort,
    .backend = device_backend_name,
    .sum = device_sum,
    .bcast = device_bcast,
    .allgatherv = device_allgatherv,
    .alltoallv = device_alltoallv,
    .shift = device_shift,
    .join = device_join,
    .wait = device_wait,
    .times_take = device_times_take,
};
