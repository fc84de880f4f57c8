/* NCCL's calls over MPI: communicators that are not blocking (every call comes back in progress and
 * is done some looks later), groups, errors that come late, abort. Unlike NCCL it is strict: what a
 * program must not do ends the process. */
#include "tests/hostcuda/nccl.h"

#include <cstdio>
#include <cstring>
#include <map>
#include <unistd.h>

using namespace hostcuda;

namespace hostcuda
{

namespace
{

const int LOOKS = 2; /* ncclInProgress, so many times */
const unsigned MAGIC = 0x6e63636c;

/* In the place of NCCL's own unique id. */
struct identity {
    unsigned magic;
    int creator, serial; /* world rank, and how many it had made */
};

/* What a rank says of itself when a communicator starts. */
struct member {
    int rank, size, world, device;
    char host[64];
};

/* Communicators that were not destroyed. Never destroyed itself: looked at when the process ends.
 */
std::map<ncclComm_t, std::shared_ptr<ncclComm>> &live =
    *new std::map<ncclComm_t, std::shared_ptr<ncclComm>>;
std::deque<nccl_letter> &letters = *new std::deque<nccl_letter>;

struct pending {
    std::shared_ptr<ncclComm> comm;
    std::vector<nccl_operation> operations;
};
int depth = 0;
std::vector<pending> group;
ncclResult_t group_error = ncclSuccess;

int world_rank(void)
{
    int started = 0, ended = 0, rank = 0;
    MPI_Initialized(&started);
    MPI_Finalized(&ended);
    if (!started || ended)
        fault("NCCL: MPI, which carries it here, does not run");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

std::shared_ptr<ncclComm> find(ncclComm_t comm, const char *call)
{
    const auto it = live.find(comm);
    if (it == live.end())
        fault("%s: a communicator that is not there", call);
    return it->second;
}

ncclResult_t failed(std::shared_ptr<ncclComm> c, ncclResult_t error, const char *why)
{
    c->state = ncclComm::FAILED;
    c->error = error;
    c->last_error = why;
    return error;
}

/* ---- starting: everybody tells the creator of the id, who tells everybody */

void tell_creator(ncclComm *c)
{
    member me = {c->rank, c->size, world_rank(), device_now, {0}};
    gethostname(me.host, sizeof me.host - 1);
    nccl_post(c->creator, c->tag + 1, &me, sizeof me);
}

/* Messages of any member, as the creator gets them. */
bool hear_members(ncclComm *c, std::vector<member> *heard)
{
    std::vector<char> message;
    while (nccl_fetch(MPI_ANY_SOURCE, c->tag + 1, &message)) {
        member m;
        memcpy(&m, message.data(), sizeof m);
        heard->push_back(m);
    }
    return (int)heard->size() == c->size;
}

void read_table(std::shared_ptr<ncclComm> c, const std::vector<char> &message)
{
    std::vector<member> all((size_t)c->size);
    memcpy(all.data(), message.data(), all.size() * sizeof(member));
    for (const member &m : all) {
        c->world[(size_t)m.rank] = m.world;
        if (m.size != c->size)
            fault("NCCL: ranks disagree on the size of a communicator");
        for (const member &other : all)
            if (&m != &other && m.device == other.device && !strcmp(m.host, other.host)) {
                failed(c, ncclInvalidUsage, "Duplicate GPU detected");
                return;
            }
    }
    c->state = ncclComm::IDLE;
}

/* The table of the members that the creator has heard so far. */
std::map<int, std::vector<member>> &halls = *new std::map<int, std::vector<member>>;

void start_on(std::shared_ptr<ncclComm> c)
{
    if (c->creator == world_rank() && hear_members(c.get(), &halls[c->tag])) {
        const std::vector<member> &all = halls[c->tag];
        for (const member &m : all)
            nccl_post(m.world, c->tag + 2, all.data(), all.size() * sizeof(member));
        halls.erase(c->tag);
    }
    std::vector<char> message;
    if (nccl_fetch(c->creator, c->tag + 2, &message))
        read_table(c, message);
}

/* ---- calls in progress */

ncclResult_t in_progress(std::shared_ptr<ncclComm> c, std::function<void()> rest)
{
    c->state = ncclComm::BUSY;
    c->looks = LOOKS;
    c->rest = std::move(rest);
    return ncclInProgress;
}

void look_after(std::shared_ptr<ncclComm> c)
{
    if (c->state == ncclComm::STARTING)
        start_on(c);
    else if (c->state == ncclComm::BUSY && --c->looks <= 0) {
        c->state = ncclComm::IDLE;
        const std::function<void()> rest = std::move(c->rest);
        rest();
    } else if (c->state == ncclComm::ENDING && c->looks > 0) {
        c->looks--;
    }
}

void must_be_idle(const ncclComm &c, const char *call)
{
    if (c.state == ncclComm::STARTING || c.state == ncclComm::BUSY)
        fault("%s: %s is still in progress; ask ncclCommGetAsyncError until it is not", call,
              c.name.c_str());
    if (c.state == ncclComm::ENDING)
        fault("%s: %s was finalized", call, c.name.c_str());
}

/* Two buffers are one, or have nothing in common. */
void in_place(const nccl_operation &o, const char *call)
{
    const size_t bytes = o.count * nccl_size(o.type);
    if (o.from != o.to && o.from < o.to + bytes && o.to < o.from + bytes)
        fault("%s: the buffers overlap in part", call);
}

ncclResult_t add(const char *call, nccl_operation o, ncclComm_t comm, cudaStream_t stream)
{
    if (const int error = injected(HOSTCUDA_NCCL))
        return group_error = depth ? (ncclResult_t)error : ncclSuccess, (ncclResult_t)error;
    const std::shared_ptr<ncclComm> c = find(comm, call);
    must_be_idle(*c, call);
    if (c->state == ncclComm::FAILED)
        return c->error;
    const bool pair = o.call == CALL_SEND || o.call == CALL_RECV;
    if (o.peer < 0 || o.peer >= c->size || (pair && o.peer == c->rank))
        fault("%s: rank %d of %d", call, o.peer, c->size);
    if (c->stream && c->stream != stream)
        fault("%s: a second stream for %s", call, c->name.c_str());
    c->stream = stream;
    const size_t bytes = o.count * nccl_size(o.type);
    if (o.from)
        memory_inside(o.from, bytes, call);
    if (o.to)
        memory_inside(o.to, bytes, call);
    if (o.from && o.to)
        in_place(o, call);
    if (pair && !depth)
        fault("%s outside of a group waits for the other rank alone", call);
    if (!depth)
        return in_progress(c, [c, o] { nccl_fly(c, {o}); });
    for (pending &each : group)
        if (each.comm == c)
            return each.operations.push_back(o), ncclSuccess;
    group.push_back({c, {o}});
    return ncclSuccess;
}

} // namespace

size_t nccl_size(ncclDataType_t type)
{
    switch (type) {
    case ncclUint8:
        return 1;
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclFloat32:
        return 4;
    case ncclInt64:
    case ncclFloat64:
        return 8;
    default:
        fault("NCCL: type %d is not known here", (int)type);
    }
}

void nccl_post(int to, int tag, const void *data, size_t bytes)
{
    while (!letters.empty()) { /* those that have gone */
        int gone = 0;
        MPI_Test(&letters.front().request, &gone, MPI_STATUS_IGNORE);
        if (!gone)
            break;
        letters.pop_front();
    }
    letters.emplace_back();
    nccl_letter &l = letters.back();
    l.data.assign((const char *)data, (const char *)data + bytes);
    if (MPI_Isend(l.data.data(), (int)bytes, MPI_BYTE, to, tag, MPI_COMM_WORLD, &l.request))
        fault("NCCL: MPI_Isend to rank %d failed", to);
}

bool nccl_fetch(int from, int tag, std::vector<char> *data)
{
    int there = 0, bytes = 0;
    MPI_Message message;
    MPI_Status envelope;
    if (MPI_Improbe(from, tag, MPI_COMM_WORLD, &there, &message, &envelope))
        fault("NCCL: MPI_Improbe failed");
    if (!there)
        return false;
    MPI_Get_count(&envelope, MPI_BYTE, &bytes);
    data->resize((size_t)bytes);
    if (MPI_Mrecv(data->data(), bytes, MPI_BYTE, &message, MPI_STATUS_IGNORE))
        fault("NCCL: MPI_Mrecv failed");
    return true;
}

} // namespace hostcuda

extern "C" {

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const names[] = {
        "ncclSuccess",         "ncclUnhandledCudaError", "ncclSystemError", "ncclInternalError",
        "ncclInvalidArgument", "ncclInvalidUsage",       "ncclRemoteError", "ncclInProgress"};
    return result >= 0 && result < ncclNumResults ? names[result] : "an error of NCCL";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    return find(comm, "ncclGetLastError")->last_error.c_str();
}

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static int serial = 0;
    if (const int error = injected(HOSTCUDA_NCCL))
        return (ncclResult_t)error;
    const identity own = {MAGIC, world_rank(), serial++};
    static_assert(sizeof own <= sizeof *id);
    memset(id, 0, sizeof *id);
    memcpy(id, &own, sizeof own);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    *out = nullptr;
    if (const int error = injected(HOSTCUDA_NCCL))
        return (ncclResult_t)error;
    identity from;
    memcpy(&from, &id, sizeof from);
    if (from.magic != MAGIC)
        fault("ncclCommInitRankConfig: an id that ncclGetUniqueId has not made");
    if (config->size != sizeof *config || config->magic != 0xcafebeef || config->blocking != 0)
        fault("ncclCommInitRankConfig: the configuration must be NCCL's, with blocking 0");
    if (rank < 0 || rank >= size)
        fault("ncclCommInitRankConfig: rank %d of %d", rank, size);
    auto c = std::make_shared<ncclComm>();
    c->rank = rank;
    c->size = size;
    c->creator = from.creator;
    c->tag = 4 * ((from.creator % 1024) * 1024 + from.serial % 1024);
    c->name = std::to_string(from.creator) + "." + std::to_string(from.serial) + " (rank " +
              std::to_string(rank) + " of " + std::to_string(size) + ")";
    c->world.resize((size_t)size);
    c->sent.resize((size_t)size);
    c->received.resize((size_t)size);
    tell_creator(c.get());
    communicators.insert(c->name);
    *out = c.get();
    live[c.get()] = c;
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state)
{
    const std::shared_ptr<ncclComm> c = find(comm, "ncclCommGetAsyncError");
    look_after(c);
    switch (c->state) {
    case ncclComm::STARTING:
    case ncclComm::BUSY:
        *state = ncclInProgress;
        break;
    case ncclComm::ENDING:
        *state = c->looks > 0 ? ncclInProgress : ncclSuccess;
        break;
    default:
        *state = c->error;
    }
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    if (op != ncclSum || (type != ncclFloat32 && type != ncclFloat64))
        fault("ncclAllReduce: sums of fp32 and fp64 are all that is known here");
    return add("ncclAllReduce", {CALL_ALLREDUCE, (const char *)from, (char *)to, count, type, 0},
               comm, stream);
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    if (from != to)
        fault("ncclBroadcast: in place is all that is known here");
    return add("ncclBroadcast", {CALL_BROADCAST, (const char *)from, (char *)to, count, type, root},
               comm, stream);
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    return add("ncclSend", {CALL_SEND, (const char *)from, nullptr, count, type, peer}, comm,
               stream);
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    return add("ncclRecv", {CALL_RECV, nullptr, (char *)to, count, type, peer}, comm, stream);
}

ncclResult_t ncclGroupStart(void)
{
    if (const int error = injected(HOSTCUDA_NCCL))
        return (ncclResult_t)error;
    if (depth++)
        fault("ncclGroupStart: a group in a group");
    group_error = ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (depth-- != 1)
        fault("ncclGroupEnd without a start");
    std::vector<pending> all = std::move(group);
    group.clear();
    if (const int error = injected(HOSTCUDA_NCCL))
        return (ncclResult_t)error;
    if (group_error != ncclSuccess)
        return group_error;
    for (pending &each : all) {
        const auto c = each.comm;
        const auto operations = each.operations;
        in_progress(c, [c, operations] { nccl_fly(c, operations); });
    }
    return all.empty() ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    if (const int error = injected(HOSTCUDA_NCCL))
        return (ncclResult_t)error;
    const std::shared_ptr<ncclComm> c = find(comm, "ncclCommFinalize");
    must_be_idle(*c, "ncclCommFinalize");
    if (c->state == ncclComm::FAILED)
        return c->error;
    if (c->flying)
        fault("ncclCommFinalize: %d exchanges of %s have not run", c->flying, c->name.c_str());
    c->state = ncclComm::ENDING;
    c->looks = LOOKS;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    const std::shared_ptr<ncclComm> c = find(comm, "ncclCommDestroy");
    if (c->state != ncclComm::ENDING || c->looks > 0)
        fault("ncclCommDestroy: %s was not finalized; finalize or abort it", c->name.c_str());
    communicators.erase(c->name);
    live.erase(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    const std::shared_ptr<ncclComm> c = find(comm, "ncclCommAbort");
    c->aborted = true;
    c->rest = nullptr;
    communicators.erase(c->name);
    live.erase(comm);
    return ncclSuccess;
}
}
