/* Agreement on a failure: one rank's trouble becomes everybody's status, with its message, so that
 * one line is printed and every rank ends with one code. */
#include "comm/mpi/group.h"

#include "runtime/core/log.h"

#include <string.h>

/* The failure that belongs to `st`: a status that was returned without a record still has a
 * message. */
static failure failure_of(status st)
{
    failure f = *failure_last();
    if (f.code != st || f.text[0] == '\0') {
        fail(st, "crocuta: stopped with status %d; run it again with one rank to see where",
             (int)st);
        f = *failure_last();
    }
    return f;
}

/* Everybody gets the failure of rank `lowest`. */
static status share(comm *c, MPI_Comm among, status st, int lowest)
{
    failure f = {0};
    if (lowest == c->rank)
        f = failure_of(st);
    if (c->size > 1) {
        int code = f.code;
        TRY_MPI(MPI_Bcast(&code, 1, MPI_INT, lowest, among));
        TRY_MPI(MPI_Bcast(f.text, sizeof f.text, MPI_CHAR, lowest, among));
        if (lowest != c->rank) {
            f.code = (status)code;
            f.source = __FILE__; /* the failing rank's pointer means nothing here */
            f.source_line = __LINE__;
        }
    }
    f.agreed = true;
    return failure_set(&f);
}

status comm_agree(comm *c, status st)
{
    int lowest = st == STATUS_OK ? c->size : c->rank;
    if (c->size > 1)
        TRY_MPI(MPI_Allreduce(MPI_IN_PLACE, &lowest, 1, MPI_INT, MPI_MIN, c->handle));
    return lowest == c->size ? STATUS_OK : share(c, c->handle, st, lowest);
}

status comm_conclude(comm *c, status st, double grace_s, bool *together)
{
    *together = true;
    c->conclusion = st == STATUS_OK ? c->size : c->rank;
    if (c->size > 1) {
        MPI_Request request;
        TRY_MPI(
            MPI_Iallreduce(MPI_IN_PLACE, &c->conclusion, 1, MPI_INT, MPI_MIN, c->mail, &request));
        const double start_s = clock_monotonic_s();
        for (int done = 0; !done;) {
            TRY_MPI(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
            double waited_s = clock_monotonic_s() - start_s;
            if (!done && st != STATUS_OK && waited_s > grace_s) {
                *together = false;
                return st;
            }
            if (!done)
                comm_pause(waited_s);
        }
    }
    return c->conclusion == c->size ? STATUS_OK : share(c, c->mail, st, c->conclusion);
}
