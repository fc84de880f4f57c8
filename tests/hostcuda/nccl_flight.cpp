/* An exchange of NCCL when the queue comes to it: its data leaves at the first look, what comes is
 * taken as it comes, and it is done when all is there; in between other queues go on. Every message
 * says which call it belongs to, so that ranks that call different things are found out, which on
 * GPUs would hang or give wrong numbers. */
#include "tests/hostcuda/nccl.h"

#include <cstring>
#include <set>

namespace hostcuda
{

namespace
{

/* In front of every message. */
struct heading {
    int64_t serial; /* of the messages between the two ranks in this communicator */
    uint64_t count;
    int32_t call, type, root, none; /* none: no padding, headings are compared as bytes */
};

struct incoming {
    int peer;
    heading want;
    std::vector<char> data;
    bool here;
};

struct flight {
    std::shared_ptr<ncclComm> comm;
    std::vector<nccl_operation> operations;
    bool begun = false;
    std::vector<std::vector<incoming>> coming; /* for each operation */
};

const char *const CALL[] = {"ncclAllReduce", "ncclBroadcast", "ncclSend", "ncclSend"};

/* Sends of point-to-point calls are met by receives: both sides write the same heading. */
heading heading_of(const nccl_operation &o, int64_t serial)
{
    const bool pair = o.call == CALL_SEND || o.call == CALL_RECV;
    return {serial, o.count, pair ? CALL_SEND : o.call, o.type, pair ? 0 : o.peer, 0};
}

std::string words(const heading &h)
{
    return std::string(CALL[h.call]) + " number " + std::to_string(h.serial) + " of " +
           std::to_string(h.count) + " elements of type " + std::to_string(h.type) + ", root " +
           std::to_string(h.root);
}

void send_to(flight &f, const nccl_operation &o, int peer)
{
    const heading h = heading_of(o, f.comm->sent[(size_t)peer]++);
    const size_t bytes = o.count * nccl_size(o.type);
    std::vector<char> message(sizeof h + bytes);
    memcpy(message.data(), &h, sizeof h);
    if (bytes)
        memcpy(message.data() + sizeof h, o.from, bytes);
    nccl_post(f.comm->world[(size_t)peer], f.comm->tag, message.data(), message.size());
}

void begin(flight &f)
{
    f.begun = true;
    f.coming.resize(f.operations.size());
    for (size_t i = 0; i < f.operations.size(); i++) {
        const nccl_operation &o = f.operations[i];
        std::vector<int> to, from;
        for (int r = 0; r < f.comm->size; r++) {
            if (r == f.comm->rank)
                continue;
            if (o.call == CALL_ALLREDUCE || (o.call == CALL_BROADCAST && o.peer == f.comm->rank))
                to.push_back(r);
            if (o.call == CALL_ALLREDUCE || (o.call == CALL_BROADCAST && o.peer == r))
                from.push_back(r);
        }
        if (o.call == CALL_SEND)
            to.push_back(o.peer);
        if (o.call == CALL_RECV)
            from.push_back(o.peer);
        for (int r : to)
            send_to(f, o, r);
        for (int r : from)
            f.coming[i].push_back(
                {r, heading_of(o, f.comm->received[(size_t)r]++), std::vector<char>(), false});
    }
}

/* Takes what has come; true when nothing is missing. From each rank strictly in order. */
bool take(flight &f)
{
    std::set<int> waiting;
    for (auto &list : f.coming)
        for (incoming &in : list) {
            if (in.here || waiting.count(in.peer))
                continue;
            std::vector<char> message;
            if (!nccl_fetch(f.comm->world[(size_t)in.peer], f.comm->tag, &message)) {
                waiting.insert(in.peer);
                continue;
            }
            heading h;
            memcpy(&h, message.data(), sizeof h);
            if (memcmp(&h, &in.want, sizeof h) != 0)
                fault("NCCL, %s: rank %d calls %s where this rank calls %s", f.comm->name.c_str(),
                      in.peer, words(h).c_str(), words(in.want).c_str());
            in.data.assign(message.begin() + sizeof h, message.end());
            in.here = true;
        }
    return waiting.empty();
}

/* The sum in the order of ranks. */
template <typename T> void sum(const nccl_operation &o, const std::vector<incoming> &list, int rank)
{
    std::vector<T> total(o.count, (T)0), own(o.count);
    if (o.count)
        memcpy(own.data(), o.from, o.count * sizeof(T));
    bool first = true;
    size_t next = 0;
    for (int r = 0; r <= (int)list.size(); r++) {
        std::vector<T> part(o.count);
        if (r == rank)
            part = own;
        else if (o.count)
            memcpy(part.data(), list[next].data.data(), o.count * sizeof(T));
        next += r != rank;
        for (size_t i = 0; i < o.count; i++)
            total[i] = first ? part[i] : total[i] + part[i];
        first = false;
    }
    if (o.count)
        memcpy(o.to, total.data(), o.count * sizeof(T));
}

void end(flight &f)
{
    for (size_t i = 0; i < f.operations.size(); i++) {
        const nccl_operation &o = f.operations[i];
        if (o.call == CALL_ALLREDUCE && o.type == ncclFloat32)
            sum<float>(o, f.coming[i], f.comm->rank);
        else if (o.call == CALL_ALLREDUCE)
            sum<double>(o, f.coming[i], f.comm->rank);
        else if (!f.coming[i].empty() && o.count)
            memcpy(o.to, f.coming[i][0].data.data(), o.count * nccl_size(o.type));
    }
}

bool look(flight &f)
{
    if (f.comm->aborted)
        return true;
    if (f.comm->state == ncclComm::FAILED)
        return false;
    if (!f.begun) {
        if (const int error = injected(HOSTCUDA_NCCL_ASYNC)) {
            f.comm->state = ncclComm::FAILED;
            f.comm->error = (ncclResult_t)error;
            f.comm->last_error = "injected while an exchange ran";
            return false;
        }
        begin(f);
    }
    if (!take(f))
        return false;
    end(f);
    f.comm->flying--;
    return true;
}

} // namespace

void nccl_fly(std::shared_ptr<ncclComm> comm, std::vector<nccl_operation> operations)
{
    auto f = std::make_shared<flight>();
    f->comm = comm;
    f->operations = std::move(operations);
    comm->flying++;
    enqueue_polled(comm->stream, "an exchange of NCCL", [f] { return look(*f); });
}

} // namespace hostcuda
