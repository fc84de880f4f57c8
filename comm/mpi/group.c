/* Groups of ranks: making, splitting and freeing them, and what they know of themselves. */
#include "comm/mpi/group.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

status mpi_failed(const char *source, int line, const char *call, int error)
{
    char name[64], text[MPI_MAX_ERROR_STRING] = "unknown error";
    size_t n = strcspn(call, "(");
    if (n >= sizeof name)
        n = sizeof name - 1;
    memcpy(name, call, n);
    name[n] = '\0';
    int length = 0;
    MPI_Error_string(error, text, &length);
    return fail_at(source, line, STATUS_RANK,
                   "%s: %s; look for an earlier line of another rank, then start the job again",
                   name, text);
}

status group_wrap(MPI_Comm handle, comm **out)
{
    *out = NULL;
    status st = STATUS_OK;
    MPI_Comm node = MPI_COMM_NULL;
    comm *c = calloc(1, sizeof *c);
    if (!c)
        return fail(STATUS_MEMORY, "comm: no memory for a group of ranks; use more nodes");
    c->handle = handle;
    c->mail = MPI_COMM_NULL;
    c->chunk = COMM_CHUNK;
    c->timeout_s = COMM_TIMEOUT_S;
    TRY_MPI_GOTO(cleanup, MPI_Comm_set_errhandler(handle, MPI_ERRORS_RETURN));
    TRY_MPI_GOTO(cleanup, MPI_Comm_rank(handle, &c->rank));
    TRY_MPI_GOTO(cleanup, MPI_Comm_size(handle, &c->size));
    TRY_MPI_GOTO(cleanup, MPI_Comm_dup(handle, &c->mail));
    TRY_MPI_GOTO(cleanup, MPI_Comm_set_errhandler(c->mail, MPI_ERRORS_RETURN));
    TRY_MPI_GOTO(cleanup,
                 MPI_Comm_split_type(handle, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &node));
    TRY_MPI_GOTO(cleanup, MPI_Comm_rank(node, &c->local_rank));
    TRY_MPI_GOTO(cleanup, MPI_Comm_size(node, &c->local_size));
    if (gethostname(c->host, sizeof c->host - 1) != 0)
        strcpy(c->host, "unknown");
    *out = c;
    c = NULL;

cleanup:
    if (node != MPI_COMM_NULL)
        MPI_Comm_free(&node);
    if (c) {
        c->handle = MPI_COMM_NULL; /* still the caller's */
        comm_free(&c);
    }
    return st;
}

int comm_rank(const comm *c)
{
    return c->rank;
}

int comm_size(const comm *c)
{
    return c->size;
}

int comm_local_rank(const comm *c)
{
    return c->local_rank;
}

int comm_local_size(const comm *c)
{
    return c->local_size;
}

int comm_place(const comm *c)
{
    return c->places > 0 ? c->place : c->local_rank;
}

int comm_places(const comm *c)
{
    return c->places > 0 ? c->places : c->local_size;
}

void comm_set_place(comm *c, int place, int places)
{
    c->place = place;
    c->places = places;
}

const char *comm_host(const comm *c)
{
    return c->host;
}

void comm_set_timeout(comm *c, double seconds)
{
    c->timeout_s = seconds;
}

void *comm_mpi(comm *c)
{
    return &c->handle;
}

static status wrap_or_free(comm *c, MPI_Comm part, comm **out)
{
    *out = NULL;
    if (part == MPI_COMM_NULL)
        return STATUS_OK;
    status st = group_wrap(part, out);
    if (st != STATUS_OK) {
        MPI_Comm_free(&part);
        return st;
    }
    (*out)->place = c->place;
    (*out)->places = c->places;
    (*out)->chunk = c->chunk;
    (*out)->timeout_s = c->timeout_s;
    return STATUS_OK;
}

status comm_split(comm *c, int color, int key, comm **out)
{
    *out = NULL;
    MPI_Comm part = MPI_COMM_NULL;
    TRY_MPI(MPI_Comm_split(c->handle, color < 0 ? MPI_UNDEFINED : color, key, &part));
    return wrap_or_free(c, part, out);
}

status comm_split_node(comm *c, comm **out)
{
    *out = NULL;
    MPI_Comm part = MPI_COMM_NULL;
    TRY_MPI(MPI_Comm_split_type(c->handle, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &part));
    return wrap_or_free(c, part, out);
}

void comm_free(comm **group)
{
    comm *c = *group;
    if (!c)
        return;
    *group = NULL;
    letters_end(c);
    while (c->spare_requests) {
        comm_request *r = c->spare_requests;
        c->spare_requests = r->next;
        free(r->piece);
        free(r);
    }
    if (c->mail != MPI_COMM_NULL)
        MPI_Comm_free(&c->mail);
    if (c->handle != MPI_COMM_NULL)
        MPI_Comm_free(&c->handle);
    free(c);
}
