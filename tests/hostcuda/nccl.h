/* What nccl.cpp (the calls) and nccl_flight.cpp (what runs when the queue comes to an exchange)
 * share. Bytes travel as MPI messages on MPI_COMM_WORLD, which the program itself never uses. */
#ifndef CROCUTA_TESTS_HOSTCUDA_NCCL_H
#define CROCUTA_TESTS_HOSTCUDA_NCCL_H

#include "tests/hostcuda/core.h"

#define OMPI_SKIP_MPICXX
#include <deque>
#include <memory>
#include <mpi.h>
#include <nccl.h>
#include <vector>

namespace hostcuda
{

enum nccl_call { CALL_ALLREDUCE, CALL_BROADCAST, CALL_SEND, CALL_RECV };

/* One call, as it was made. */
struct nccl_operation {
    nccl_call call;
    const char *from;
    char *to;
    size_t count; /* elements */
    ncclDataType_t type;
    int peer; /* or root */
};

/* An MPI message that we sent; the data stays until MPI has taken it. */
struct nccl_letter {
    std::vector<char> data;
    MPI_Request request;
};
/* Never destroyed: MPI may look at what was given up. */
void nccl_post(int world_rank, int tag, const void *data, size_t bytes);
/* True and the message where one has come. */
bool nccl_fetch(int world_rank, int tag, std::vector<char> *data);

size_t nccl_size(ncclDataType_t type);

} // namespace hostcuda

/* What the queues hold of a communicator outlives it: an abort takes effect there. */
struct ncclComm {
    std::string name;
    int rank, size, creator, tag; /* creator: world rank of who made the id */
    enum { STARTING, IDLE, BUSY, ENDING, FAILED } state = STARTING;
    ncclResult_t error = ncclSuccess;
    std::vector<int> world;     /* (size) ranks in MPI_COMM_WORLD */
    int looks = 0;              /* until a call in progress is done */
    std::function<void()> rest; /* of that call */
    cudaStream_t stream = nullptr;
    std::vector<int64_t> sent, received; /* messages to and from each rank */
    int flying = 0;
    bool aborted = false;
    std::string last_error;
};

namespace hostcuda
{

/* Queues the operations as one piece of work. */
void nccl_fly(std::shared_ptr<ncclComm> comm, std::vector<nccl_operation> operations);

} // namespace hostcuda

#endif
