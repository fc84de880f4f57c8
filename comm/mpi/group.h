/* A group of ranks as the MPI backend sees it: its communicators, who and where this rank is, and
 * what is under way. Private to comm/; tests look inside to make chunks small. */
#ifndef CROCUTA_COMM_MPI_GROUP_H
#define CROCUTA_COMM_MPI_GROUP_H

#include "comm/comm.h"

#include <mpi.h>

/* MPI counts are ints: whatever is longer travels in pieces of at most this many elements. Large
 * enough that the pieces cost nothing, small enough that a piece of doubles stays below 2^31 bytes.
 */
#define COMM_CHUNK ((int64_t)1 << 27)

#define COMM_TIMEOUT_S 300.0 /* of comm_wait, unless comm_set_timeout says otherwise */

/* A message on its way: comm_post's copy lives until MPI has taken it. */
typedef struct letter {
    struct letter *next;
    MPI_Request request;
    size_t size; /* bytes of room in data */
    char *data;
} letter;

/* An all-reduce on its way, in pieces. */
struct comm_request {
    comm_request *next; /* in the group's list of spare ones */
    MPI_Request *piece;
    int pieces, room;
};

struct comm {
    MPI_Comm handle; /* collectives */
    MPI_Comm mail;   /* comm_post and comm_poll: their tags never meet a collective's */
    int rank, size, local_rank, local_size;
    int place, places; /* places 0: local_rank, local_size */
    int64_t chunk;     /* elements a call */
    double timeout_s;  /* 0: none */
    int conclusion;    /* comm_conclude's: outlives a call that gave up */
    char host[256];
    letter *sent, *spare_letters;
    comm_request *spare_requests;
};

/* Makes a group of a communicator, which it owns from then on. */
status group_wrap(MPI_Comm handle, comm **out);

/* Records what an MPI call returned: STATUS_RANK, with the call's name. */
status mpi_failed(const char *source, int line, const char *call, int error);

#define TRY_MPI(call)                                                                              \
    do {                                                                                           \
        int mpi_error_ = (call);                                                                   \
        if (mpi_error_ != MPI_SUCCESS)                                                             \
            return mpi_failed(__FILE__, __LINE__, #call, mpi_error_);                              \
    } while (0)

#define TRY_MPI_GOTO(label, call)                                                                  \
    do {                                                                                           \
        int mpi_error_ = (call);                                                                   \
        if (mpi_error_ != MPI_SUCCESS) {                                                           \
            st = mpi_failed(__FILE__, __LINE__, #call, mpi_error_);                                \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)

/* Between two looks at something that has not come in waited_s: busy for a moment (most waits are
 * short), then politely, because the cores belong to whoever computes. */
void comm_pause(double waited_s);

/* Lets go of everything that comm_post left behind. */
void letters_end(comm *c);

#endif
