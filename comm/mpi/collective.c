/* Collectives. Lengths are 64 bits everywhere: what exceeds MPI's int counts travels in pieces of
 * c->chunk elements. A group of one rank copies and never calls MPI. */
#include "comm/mpi/group.h"

#include <stdlib.h>
#include <string.h>

static int piece_of(const comm *c, int64_t left)
{
    return (int)(left < c->chunk ? left : c->chunk);
}

static int64_t pieces_of(const comm *c, int64_t count)
{
    return (count + c->chunk - 1) / c->chunk;
}

status comm_barrier(comm *c)
{
    if (c->size > 1)
        TRY_MPI(MPI_Barrier(c->handle));
    return STATUS_OK;
}

status comm_bcast(comm *c, void *data, size_t bytes, int root)
{
    if (c->size == 1)
        return STATUS_OK;
    char *p = data;
    for (int64_t left = (int64_t)bytes; left > 0;) {
        int n = piece_of(c, left);
        TRY_MPI(MPI_Bcast(p, n, MPI_BYTE, root, c->handle));
        p += n;
        left -= n;
    }
    return STATUS_OK;
}

/* All pieces see the same ranks in the same order, so that the result has the same bits on all of
 * them. */
static status reduce_all(comm *c, void *x, int64_t count, MPI_Datatype type, size_t width,
                         MPI_Op op)
{
    if (c->size == 1)
        return STATUS_OK;
    char *p = x;
    while (count > 0) {
        int n = piece_of(c, count);
        TRY_MPI(MPI_Allreduce(MPI_IN_PLACE, p, n, type, op, c->handle));
        p += (size_t)n * width;
        count -= n;
    }
    return STATUS_OK;
}

status comm_sum_f32(comm *c, float *x, int64_t count)
{
    return reduce_all(c, x, count, MPI_FLOAT, sizeof *x, MPI_SUM);
}

status comm_sum_f64(comm *c, double *x, int64_t count)
{
    return reduce_all(c, x, count, MPI_DOUBLE, sizeof *x, MPI_SUM);
}

status comm_sum_i64(comm *c, int64_t *x, int64_t count)
{
    return reduce_all(c, x, count, MPI_INT64_T, sizeof *x, MPI_SUM);
}

status comm_max_f64(comm *c, double *x, int64_t count)
{
    return reduce_all(c, x, count, MPI_DOUBLE, sizeof *x, MPI_MAX);
}

status comm_max_i64(comm *c, int64_t *x, int64_t count)
{
    return reduce_all(c, x, count, MPI_INT64_T, sizeof *x, MPI_MAX);
}

/* ---- pairwise exchange: gathers and all-to-all are made of it ---- */

/* Requests of one exchange, all started before any is waited for. */
typedef struct {
    MPI_Request *list;
    int n, room;
} exchange;

#define EXCHANGE_TAG 1

static status exchange_open(exchange *x, int64_t room)
{
    *x = (exchange){.room = (int)room};
    if (room >= INT32_MAX)
        return fail(STATUS_INTERNAL, "comm: %lld pieces in one exchange; send less at once",
                    (long long)room);
    x->list = malloc((size_t)(room ? room : 1) * sizeof *x->list);
    if (!x->list)
        return fail(STATUS_MEMORY, "comm: no memory for %lld requests; use fewer ranks",
                    (long long)room);
    return STATUS_OK;
}

static status exchange_receive(comm *c, exchange *x, char *to, int64_t bytes, int from)
{
    while (bytes > 0) {
        int n = piece_of(c, bytes);
        TRY_MPI(MPI_Irecv(to, n, MPI_BYTE, from, EXCHANGE_TAG, c->handle, &x->list[x->n]));
        x->n++;
        to += n;
        bytes -= n;
    }
    return STATUS_OK;
}

static status exchange_send(comm *c, exchange *x, const char *data, int64_t bytes, int to)
{
    while (bytes > 0) {
        int n = piece_of(c, bytes);
        TRY_MPI(MPI_Isend(data, n, MPI_BYTE, to, EXCHANGE_TAG, c->handle, &x->list[x->n]));
        x->n++;
        data += n;
        bytes -= n;
    }
    return STATUS_OK;
}

static status exchange_wait(exchange *x)
{
    TRY_MPI(MPI_Waitall(x->n, x->list, MPI_STATUSES_IGNORE));
    return STATUS_OK;
}

status comm_gatherv(comm *c, const void *send, size_t bytes, void *recv, const size_t *counts,
                    int root)
{
    int64_t room = pieces_of(c, (int64_t)bytes);
    if (c->rank == root)
        for (int r = 0; r < c->size; r++)
            room += pieces_of(c, (int64_t)counts[r]);
    exchange x;
    TRY(exchange_open(&x, room));
    status st = STATUS_OK;
    char *to = recv;
    if (c->rank == root) {
        for (int r = 0; r < c->size; r++) {
            if (r == root && bytes > 0)
                memmove(to, send, bytes);
            if (r != root)
                TRY_GOTO(cleanup, exchange_receive(c, &x, to, (int64_t)counts[r], r));
            to += counts[r];
        }
    } else {
        TRY_GOTO(cleanup, exchange_send(c, &x, send, (int64_t)bytes, root));
    }
    st = exchange_wait(&x);

cleanup:
    free(x.list);
    return st;
}

status comm_allgatherv(comm *c, const void *send, size_t bytes, void *recv, const size_t *counts)
{
    char *at = recv;
    for (int r = 0; r < c->size; r++) {
        if (r == c->rank && bytes > 0)
            memmove(at, send, bytes);
        at += counts[r];
    }
    /* One broadcast a rank: the lengths are known to all, so every rank makes the same calls. */
    at = recv;
    for (int r = 0; r < c->size; r++) {
        TRY(comm_bcast(c, at, counts[r], r));
        at += counts[r];
    }
    return STATUS_OK;
}

status comm_allgather(comm *c, const void *send, size_t bytes, void *recv)
{
    if (c->size > 1 && (int64_t)bytes <= c->chunk) {
        if (bytes > 0)
            TRY_MPI(
                MPI_Allgather(send, (int)bytes, MPI_BYTE, recv, (int)bytes, MPI_BYTE, c->handle));
        return STATUS_OK;
    }
    char *all = recv;
    if (bytes > 0)
        memmove(all + (size_t)c->rank * bytes, send, bytes);
    for (int r = 0; r < c->size; r++)
        TRY(comm_bcast(c, all + (size_t)r * bytes, bytes, r));
    return STATUS_OK;
}

status comm_alltoallv(comm *c, const void *send, const size_t *send_bytes, const size_t *send_at,
                      void *recv, const size_t *recv_bytes, const size_t *recv_at)
{
    const char *from = send;
    char *to = recv;
    if (send_bytes[c->rank] != recv_bytes[c->rank])
        return fail(STATUS_INTERNAL,
                    "comm: a rank sends itself %zu bytes and expects %zu; report this",
                    send_bytes[c->rank], recv_bytes[c->rank]);
    int64_t room = 0;
    for (int r = 0; r < c->size; r++)
        room += pieces_of(c, (int64_t)send_bytes[r]) + pieces_of(c, (int64_t)recv_bytes[r]);
    exchange x;
    TRY(exchange_open(&x, room));
    status st = STATUS_OK;
    /* Each rank begins with its right neighbour, so that no rank is everybody's first. */
    for (int i = 1; i < c->size; i++) {
        int r = (c->rank + c->size - i) % c->size;
        TRY_GOTO(cleanup, exchange_receive(c, &x, to + recv_at[r], (int64_t)recv_bytes[r], r));
    }
    for (int i = 1; i < c->size; i++) {
        int r = (c->rank + i) % c->size;
        TRY_GOTO(cleanup, exchange_send(c, &x, from + send_at[r], (int64_t)send_bytes[r], r));
    }
    if (send_bytes[c->rank] > 0)
        memmove(to + recv_at[c->rank], from + send_at[c->rank], send_bytes[c->rank]);
    st = exchange_wait(&x);

cleanup:
    free(x.list);
    return st;
}
