/* The MPI backend for device buffers: out to pinned host memory, through MPI, and back. An exchange
 * goes through three states, and each poll moves all of them on as far as they go: its copies to
 * the host run, then its MPI calls are under way, then its copies back are queued. MPI calls are
 * posted strictly in the order of the exchanges, so that they meet those of the other ranks. */
#include "comm/device/device.h"

#include "runtime/core/log.h"

#include <stdlib.h>

#define STAGE_TAG 2
#define STAGE_END_S 0.5 /* a rank that still sends has sent by then */

typedef enum { STAGE_SUM, STAGE_BCAST, STAGE_MOVE } stage_kind;

/* A transfer with its place in the host buffer. */
typedef struct {
    transfer t;
    char *host;
} staged;

typedef struct stage_op {
    struct stage_op *next;
    stage_kind kind;
    comm_type type;
    int root;
    staged *part; /* the buffer of a sum or broadcast, or sends, then receives */
    int sends, receives, part_room;
    char *host; /* pinned */
    size_t host_room;
    cudaEvent_t out; /* the copies to the host have run, and all before them */
    bool posted;
    MPI_Request *request;
    int requests, request_room;
    int64_t span;
} stage_op;

typedef struct {
    MPI_Comm handle;
    stage_op *first, **last; /* under way, in order */
    stage_op *spare;
} stage;

static MPI_Datatype mpi_type(comm_type type)
{
    return type == COMM_F64 ? MPI_DOUBLE : type == COMM_F32 ? MPI_FLOAT : MPI_BYTE;
}

/* ---- opening and closing */

static status stage_open(comm_device *c)
{
    stage *s = calloc(1, sizeof *s);
    status st = s ? STATUS_OK
                  : fail(STATUS_MEMORY, "comm: no memory for a communicator; use more "
                                        "nodes");
    st = comm_agree(c->group, st);
    if (st != STATUS_OK) {
        free(s);
        return st;
    }
    s->last = &s->first;
    s->handle = MPI_COMM_NULL;
    c->state = s;
    TRY_MPI_GOTO(failed, MPI_Comm_dup(*(MPI_Comm *)comm_mpi(c->group), &s->handle));
    TRY_MPI_GOTO(failed, MPI_Comm_set_errhandler(s->handle, MPI_ERRORS_RETURN));
    return STATUS_OK;

failed:
    c->state = NULL;
    free(s);
    return st;
}

static void op_free(stage_op *op)
{
    if (op->host)
        cudaFreeHost(op->host);
    if (op->out)
        cudaEventDestroy(op->out);
    free(op->part);
    free(op->request);
    free(op);
}

static void spare_free(stage *s)
{
    for (stage_op *op = s->spare; op;) {
        stage_op *next = op->next;
        op_free(op);
        op = next;
    }
    s->spare = NULL;
}

static status stage_close(comm_device *c)
{
    stage *s = c->state;
    c->state = NULL;
    spare_free(s);
    status st = STATUS_OK;
    TRY_MPI_GOTO(cleanup, MPI_Comm_free(&s->handle));

cleanup:
    free(s);
    return st;
}

/* What was posted to MPI and did not end: MPI may still write to its buffers, so they stay where
 * they are until the process ends, and so does the communicator. */
static stage *given_up;

static void stage_abort(comm_device *c)
{
    stage *s = c->state;
    const double start_s = clock_monotonic_s();
    c->state = NULL;
    if (!s)
        return;
    while (s->first && clock_monotonic_s() - start_s < STAGE_END_S) {
        stage_op *op = s->first;
        int done = !op->posted;
        if (!done && MPI_Testall(op->requests, op->request, &done, MPI_STATUSES_IGNORE))
            break;
        if (!done) {
            comm_pause(clock_monotonic_s() - start_s);
            continue;
        }
        s->first = op->next;
        op->next = s->spare;
        s->spare = op;
    }
    spare_free(s);
    if (!s->first) {
        free(s);
        return;
    }
    stage_op *last = s->first;
    while (last->next)
        last = last->next;
    if (given_up)
        last->next = given_up->first;
    free(given_up);
    given_up = s;
}

/* ---- queueing */

static status out_of_memory(void)
{
    return fail(STATUS_MEMORY, "comm: no memory for an exchange through the host; use more nodes");
}

/* Room for `parts` transfers and for the MPI calls that they need. */
static status op_room(stage_op *op, int parts)
{
    if (parts <= op->part_room)
        return STATUS_OK;
    staged *more = realloc(op->part, (size_t)parts * sizeof *more);
    if (!more)
        return out_of_memory();
    op->part = more;
    op->part_room = parts;
    return STATUS_OK;
}

static status op_take(comm_device *c, int parts, stage_op **out)
{
    stage *s = c->state;
    stage_op *op = s->spare;
    if (op)
        s->spare = op->next;
    else
        op = calloc(1, sizeof *op);
    if (!op)
        return out_of_memory();
    status st = op_room(op, parts);
    if (st == STATUS_OK && !op->out)
        st = CUDA_C(c, cudaEventCreateWithFlags(&op->out, cudaEventDisableTiming));
    if (st != STATUS_OK) {
        op_free(op);
        return st;
    }
    op->sends = op->receives = op->requests = 0;
    op->posted = false;
    *out = op;
    return STATUS_OK;
}

/* Gives each part its place in the host buffer, which grows where this exchange is the largest
 * yet. */
static status op_place(comm_device *c, stage_op *op)
{
    const size_t width = comm_type_size(op->type);
    size_t bytes = 0;
    int requests = 0;
    for (int i = 0; i < op->sends + op->receives; i++) {
        bytes += ((size_t)op->part[i].t.count * width + 15) / 16 * 16;
        requests += (int)((op->part[i].t.count * (int64_t)width) / c->group->chunk) + 1;
    }
    if (bytes > op->host_room) {
        if (op->host)
            TRY_CUDA(c, cudaFreeHost(op->host));
        op->host = NULL;
        op->host_room = 0;
        TRY_CUDA(c, cudaMallocHost((void **)&op->host, bytes));
        op->host_room = bytes;
    }
    if (requests > op->request_room) {
        MPI_Request *more = realloc(op->request, (size_t)requests * sizeof *more);
        if (!more)
            return out_of_memory();
        op->request = more;
        op->request_room = requests;
    }
    char *at = op->host;
    for (int i = 0; i < op->sends + op->receives; i++) {
        op->part[i].host = at;
        at += ((size_t)op->part[i].t.count * width + 15) / 16 * 16;
    }
    return STATUS_OK;
}

/* The copies to the host are queued; the rest comes with the polls. */
static status op_leave(comm_device *c, stage_op *op)
{
    stage *s = c->state;
    op->next = NULL;
    *s->last = op; /* from here on the list owns it */
    s->last = &op->next;
    TRY(op_place(c, op));
    for (int i = 0; i < op->sends; i++)
        TRY_CUDA(c, cudaMemcpyAsync(op->part[i].host, op->part[i].t.at,
                                    (size_t)op->part[i].t.count * comm_type_size(op->type),
                                    cudaMemcpyDeviceToHost, c->stream));
    return CUDA_C(c, cudaEventRecord(op->out, c->stream));
}

static status stage_sum(comm_device *c, comm_type type, void *x, int64_t count, int64_t span)
{
    if (c->size == 1)
        return device_span_end(c, span);
    stage_op *op = NULL;
    TRY(op_take(c, 1, &op));
    op->kind = STAGE_SUM;
    op->type = type;
    op->sends = 1;
    op->span = span;
    op->part[0].t = (transfer){x, count, c->rank};
    return op_leave(c, op);
}

static status stage_bcast(comm_device *c, comm_type type, void *x, int64_t count, int root,
                          int64_t span)
{
    if (c->size == 1)
        return device_span_end(c, span);
    stage_op *op = NULL;
    TRY(op_take(c, 1, &op));
    op->kind = STAGE_BCAST;
    op->type = type;
    op->root = root;
    op->sends = c->rank == root;
    op->receives = !op->sends;
    op->span = span;
    op->part[0].t = (transfer){x, count, root};
    return op_leave(c, op);
}

static status stage_move(comm_device *c, comm_type type, const transfer *sends, int n_sends,
                         const transfer *receives, int n_receives, int64_t span)
{
    stage_op *op = NULL;
    TRY(op_take(c, n_sends + n_receives, &op));
    op->kind = STAGE_MOVE;
    op->type = type;
    op->sends = n_sends;
    op->receives = n_receives;
    op->span = span;
    for (int i = 0; i < n_sends; i++)
        op->part[i].t = sends[i];
    for (int i = 0; i < n_receives; i++)
        op->part[n_sends + i].t = receives[i];
    return op_leave(c, op);
}

/* ---- MPI */

/* One piece: `n` numbers of mpi_type, bytes where that has no sums. */
static int post_piece(stage *s, const stage_op *op, const staged *p, bool send, char *at, int n,
                      MPI_Request *request)
{
    if (op->kind == STAGE_SUM)
        return MPI_Iallreduce(MPI_IN_PLACE, at, n, mpi_type(op->type), MPI_SUM, s->handle, request);
    if (op->kind == STAGE_BCAST)
        return MPI_Ibcast(at, n, MPI_BYTE, op->root, s->handle, request);
    return send ? MPI_Isend(at, n, MPI_BYTE, p->t.peer, STAGE_TAG, s->handle, request)
                : MPI_Irecv(at, n, MPI_BYTE, p->t.peer, STAGE_TAG, s->handle, request);
}

static status op_post(comm_device *c, stage_op *op)
{
    op->posted = true;
    for (int i = 0; i < op->sends + op->receives; i++) {
        staged *p = &op->part[i];
        const int64_t width = (int64_t)comm_type_size(op->type);
        const int64_t unit = op->kind == STAGE_SUM ? width : 1; /* bytes a number */
        int64_t left = p->t.count * width / unit;
        for (char *at = p->host; left > 0;) {
            const int n = (int)(left < c->group->chunk ? left : c->group->chunk);
            TRY_MPI(post_piece(c->state, op, p, i < op->sends, at, n, &op->request[op->requests]));
            op->requests++;
            at += (int64_t)n * unit;
            left -= n;
        }
    }
    return STATUS_OK;
}

/* What came goes back to the device. */
static status op_return(comm_device *c, stage_op *op)
{
    const int first = op->kind == STAGE_MOVE ? op->sends : 0;
    const bool sent = op->kind == STAGE_BCAST && op->sends; /* the root has it */
    for (int i = first; !sent && i < op->sends + op->receives; i++)
        TRY_CUDA(c, cudaMemcpyAsync(op->part[i].t.at, op->part[i].host,
                                    (size_t)op->part[i].t.count * comm_type_size(op->type),
                                    cudaMemcpyHostToDevice, c->stream));
    return device_span_end(c, op->span);
}

static status stage_poll(comm_device *c, bool *idle)
{
    stage *s = c->state;
    for (stage_op **at = &s->first; *at;) {
        stage_op *op = *at;
        if (!op->posted) {
            const cudaError_t now = cudaEventQuery(op->out);
            if (now == cudaErrorNotReady)
                break; /* those behind it are not there either */
            TRY_CUDA(c, now);
            TRY(op_post(c, op));
        }
        int done = 0;
        TRY_MPI(MPI_Testall(op->requests, op->request, &done, MPI_STATUSES_IGNORE));
        if (!done) {
            at = &op->next;
            continue;
        }
        TRY(op_return(c, op));
        *at = op->next;
        if (!op->next)
            s->last = at;
        /* The next user's copies run on the same stream, behind those that still read the buffer.
         */
        op->next = s->spare;
        s->spare = op;
    }
    *idle = !s->first;
    return STATUS_OK;
}

const device_backend backend_mpi = {"mpi",     stage_open,  stage_close, stage_abort,
                                    stage_sum, stage_bcast, stage_move,  stage_poll};
