/* What goes on while the program computes: all-reduces of gradient buckets, and small messages for
 * the coordinator. Nothing here blocks without a deadline, and nothing is allocated once lists have
 * grown. */
#include "comm/mpi/group.h"

#include "runtime/core/log.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- gradient buckets ---- */

static status request_take(comm *c, int pieces, comm_request **out)
{
    comm_request *r = c->spare_requests;
    if (r)
        c->spare_requests = r->next;
    else
        r = calloc(1, sizeof *r);
    if (r && r->room < pieces) {
        MPI_Request *grown = realloc(r->piece, (size_t)pieces * sizeof *grown);
        if (!grown) {
            free(r->piece);
            free(r);
            r = NULL;
        } else {
            r->piece = grown;
            r->room = pieces;
        }
    }
    if (!r)
        return fail(STATUS_MEMORY, "comm: no memory for a request; use fewer gradient buckets");
    r->next = NULL;
    r->pieces = 0;
    *out = r;
    return STATUS_OK;
}

static void request_give_back(comm *c, comm_request *r)
{
    r->next = c->spare_requests;
    c->spare_requests = r;
}

status comm_sum_start(comm *c, float *x, int64_t count, comm_request **request)
{
    *request = NULL;
    comm_request *r = NULL;
    TRY(request_take(c, (int)((count + c->chunk - 1) / c->chunk), &r));
    status st = STATUS_OK;
    while (c->size > 1 && count > 0) {
        int n = (int)(count < c->chunk ? count : c->chunk);
        TRY_MPI_GOTO(failed, MPI_Iallreduce(MPI_IN_PLACE, x, n, MPI_FLOAT, MPI_SUM, c->handle,
                                            &r->piece[r->pieces]));
        r->pieces++;
        x += n;
        count -= n;
    }
    *request = r;
    return STATUS_OK;

failed:
    request_give_back(c, r);
    return st;
}

void comm_pause(double waited_s)
{
    if (waited_s < 0.001) {
        sched_yield();
        return;
    }
    struct timespec nap = {0, waited_s < 0.1 ? 20000 : 200000}; /* ns */
    nanosleep(&nap, NULL);
}

static status test_all(comm_request *const *requests, int n, bool *done)
{
    *done = true;
    for (int i = 0; i < n; i++) {
        if (!requests[i])
            continue;
        int finished = 0;
        TRY_MPI(
            MPI_Testall(requests[i]->pieces, requests[i]->piece, &finished, MPI_STATUSES_IGNORE));
        if (!finished)
            *done = false;
    }
    return STATUS_OK;
}

status comm_wait(comm *c, comm_request **requests, int n, const char *phase)
{
    const double start_s = clock_monotonic_s();
    for (;;) {
        bool done;
        TRY(test_all(requests, n, &done));
        if (done)
            break;
        double waited_s = clock_monotonic_s() - start_s;
        if (c->timeout_s > 0 && waited_s > c->timeout_s)
            return fail(STATUS_RANK,
                        "rank %d on %s: %s: nothing came from the other ranks for %.0f s; see "
                        "whether one of "
                        "them died, or raise comm.timeout_s",
                        c->rank, c->host, phase, waited_s);
        comm_pause(waited_s);
    }
    for (int i = 0; i < n; i++) {
        if (requests[i])
            request_give_back(c, requests[i]);
        requests[i] = NULL;
    }
    return STATUS_OK;
}

/* ---- small messages ---- */

/* Letters that MPI has taken become spare ones. */
static status letters_reap(comm *c)
{
    for (letter **at = &c->sent; *at;) {
        letter *l = *at;
        int gone = 0;
        TRY_MPI(MPI_Test(&l->request, &gone, MPI_STATUS_IGNORE));
        if (!gone) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        l->next = c->spare_letters;
        c->spare_letters = l;
    }
    return STATUS_OK;
}

static letter *letter_take(comm *c, size_t bytes)
{
    letter *l = c->spare_letters;
    if (l)
        c->spare_letters = l->next;
    else
        l = calloc(1, sizeof *l);
    if (l && l->size < bytes) {
        char *grown = realloc(l->data, bytes);
        if (!grown) {
            free(l->data);
            free(l);
            return NULL;
        }
        l->data = grown;
        l->size = bytes;
    }
    return l;
}

status comm_post(comm *c, int to, int tag, const void *data, size_t bytes)
{
    if (bytes == 0 ||
        (int64_t)bytes > c->chunk) /* an empty one would look like none to comm_poll */
        return fail(STATUS_INTERNAL, "comm: a message of %zu bytes cannot be posted; report this",
                    bytes);
    TRY(letters_reap(c));
    letter *l = letter_take(c, bytes);
    if (!l)
        return fail(STATUS_MEMORY, "comm: no memory for a message of %zu bytes; use more nodes",
                    bytes);
    memcpy(l->data, data, bytes);
    int error = MPI_Isend(l->data, (int)bytes, MPI_BYTE, to, tag, c->mail, &l->request);
    letter **list = error == MPI_SUCCESS ? &c->sent : &c->spare_letters;
    l->next = *list;
    *list = l;
    return error == MPI_SUCCESS ? STATUS_OK : mpi_failed(__FILE__, __LINE__, "MPI_Isend", error);
}

status comm_poll(comm *c, int *from, int tag, void *data, size_t size, size_t *bytes)
{
    *bytes = 0;
    *from = -1;
    TRY(letters_reap(c));
    int there = 0, n = 0;
    MPI_Message message;
    MPI_Status envelope;
    TRY_MPI(MPI_Improbe(MPI_ANY_SOURCE, tag, c->mail, &there, &message, &envelope));
    if (!there)
        return STATUS_OK;
    TRY_MPI(MPI_Get_count(&envelope, MPI_BYTE, &n));
    if ((size_t)n > size) {
        /* Taken in part so that it does not come again; MPI calls that an error, which is the one
         * we report. */
        MPI_Mrecv(data, (int)size, MPI_BYTE, &message, MPI_STATUS_IGNORE);
        return fail(STATUS_INTERNAL,
                    "comm: a message of %d bytes from rank %d, %zu expected; report this", n,
                    envelope.MPI_SOURCE, size);
    }
    TRY_MPI(MPI_Mrecv(data, n, MPI_BYTE, &message, MPI_STATUS_IGNORE));
    *from = envelope.MPI_SOURCE;
    *bytes = (size_t)n;
    return STATUS_OK;
}

#define LETTERS_END_S 2.0 /* a receiver that still reads has read by then */

void letters_end(comm *c)
{
    const double start_s = clock_monotonic_s();
    while (c->sent && clock_monotonic_s() - start_s < LETTERS_END_S) {
        if (letters_reap(c) != STATUS_OK)
            break;
        if (c->sent)
            comm_pause(clock_monotonic_s() - start_s);
    }
    for (letter *l = c->sent; l;
         l = l->next) { /* nobody reads it: MPI_Finalize must not wait for it */
        MPI_Cancel(&l->request);
        MPI_Request_free(&l->request);
    }
    letter *lists[] = {c->spare_letters, c->sent};
    c->spare_letters = NULL;
    for (int i = 0; i < 2; i++) {
        for (letter *l = lists[i]; l;) {
            letter *next = l->next;
            if (i == 0) /* MPI may still look at one that it was made to forget */
                free(l->data);
            free(l);
            l = next;
        }
    }
    c->sent = NULL;
}
