/* Streams are lists of work that nobody runs until the host waits for something; then the schedule
 * decides what else runs, and when. A record and a wait of an event are entries of their lists. */
#include "tests/hostcuda/core.h"

#include <chrono>
#include <cstdlib>
#include <deque>
#include <memory>
#include <set>
#include <unistd.h>

namespace
{

/* One record of an event; those who wait for it hold it. */
struct record {
    bool done = false;
    cudaStream_t stream = nullptr;
    double at = 0; /* s */
};

struct entry {
    const char *what;
    std::function<void()> work;
    std::function<bool()> poll;          /* in the place of work: false until it is done */
    std::shared_ptr<record> sets, needs; /* either of them or none */
};

} // namespace

/* What a stream records, and what is launched: work with its arguments as they were. */
struct CUgraph_st {
    std::deque<entry> list;
};
struct CUgraphExec_st {
    std::deque<entry> list;
};

struct CUstream_st {
    std::deque<entry> list;
    CUgraph_st *graph; /* NULL: what is queued will run */
    bool broken;
};

struct CUevent_st {
    std::shared_ptr<record> last;
    bool timed;
};

namespace hostcuda
{

namespace
{

/* Never destroyed: looked at when the process ends. */
std::set<cudaStream_t> &streams = *new std::set<cudaStream_t>;
std::set<cudaEvent_t> &events = *new std::set<cudaEvent_t>;
int64_t graphs = 0; /* recorded or ready to run */
hostcuda_schedule schedule = HOSTCUDA_LATE;
uint64_t random_state = 1;

void check(cudaStream_t stream)
{
    if (!stream)
        fault("work on the default stream: it waits for all others; use a stream");
    if (!streams.count(stream))
        fault("work on a stream that is not there");
}

void check(cudaEvent_t event)
{
    if (!events.count(event))
        fault("an event that is not there");
}

/* Runs the first entry; false where it cannot go on. */
bool step(cudaStream_t stream)
{
    if (stream->list.empty())
        return false;
    if (stream->list.front().needs && !stream->list.front().needs->done)
        return false;
    if (stream->list.front().poll && !stream->list.front().poll())
        return false;
    const entry now = std::move(stream->list.front());
    stream->list.pop_front();
    if (now.work)
        now.work();
    if (now.sets) {
        now.sets->done = true;
        using namespace std::chrono;
        now.sets->at = duration<double>(steady_clock::now().time_since_epoch()).count();
    }
    return true;
}

bool step_any(cudaStream_t except)
{
    bool moved = false;
    for (cudaStream_t each : streams)
        moved |= each != except && step(each);
    return moved;
}

/* The next entry of `stream` waits for another process. What that waits for may stand in another of
 * our streams, as on a GPU, where all of them run; but only after a while, so that a stream that
 * forgot to wait for another one still runs ahead of it. */
void wait_for_others(cudaStream_t stream)
{
    using namespace std::chrono;
    static cudaStream_t which = nullptr;
    static size_t length = 0;
    static steady_clock::time_point since;
    const auto now = steady_clock::now();
    if (which != stream || length != stream->list.size()) {
        which = stream;
        length = stream->list.size();
        since = now;
    }
    if (now - since > seconds(120))
        fault("%s: two minutes without the other ranks", stream->list.front().what);
    if (now - since > milliseconds(50))
        step_any(stream);
    usleep(20);
}

/* One entry on the way to the end of `stream`: its own next one, or what that waits for. */
void step_towards(cudaStream_t stream)
{
    while (!step(stream)) {
        if (stream->list.front().poll) {
            wait_for_others(stream);
            return;
        }
        cudaStream_t blocker = stream->list.front().needs->stream;
        if (!streams.count(blocker))
            fault("a stream ended before an event of it was recorded");
        if (blocker == stream)
            fault("a stream waits for an event that it records later");
        stream = blocker;
    }
}

void step_shuffled(cudaStream_t target)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    auto it = streams.begin();
    std::advance(it, (long)((random_state >> 33) % streams.size()));
    if (!step(*it))
        step_towards(target);
}

/* Until `done`, working towards the end of `stream`. */
void run_until(cudaStream_t stream, const std::function<bool()> &done)
{
    if (done())
        return;
    memory_open();
    if (schedule == HOSTCUDA_EAGER)
        while (step_any(stream))
            ;
    while (!done()) {
        if (schedule == HOSTCUDA_SHUFFLED)
            step_shuffled(stream);
        else
            step_towards(stream);
        if (schedule == HOSTCUDA_EAGER)
            while (step_any(stream))
                ;
    }
    memory_close();
}

} // namespace

void run_all(void)
{
    for (;;) {
        cudaStream_t busy = nullptr;
        for (cudaStream_t each : streams)
            if (!each->list.empty())
                busy = each;
        if (!busy)
            return;
        run_until(busy, [busy] { return busy->list.empty(); });
    }
}

bool records(cudaStream_t stream)
{
    check(stream);
    return stream->graph;
}

bool recording_broken(void)
{
    bool any = false;
    for (cudaStream_t each : streams)
        if (each->graph)
            any = each->broken = true;
    return any;
}

void enqueue(cudaStream_t stream, const char *what, std::function<void()> work)
{
    check(stream);
    auto &list = stream->graph ? stream->graph->list : stream->list;
    list.push_back({what, std::move(work), nullptr, nullptr, nullptr});
}

void enqueue_polled(cudaStream_t stream, const char *what, std::function<bool()> poll)
{
    check(stream);
    if (stream->graph)
        fault("%s: an exchange is recorded in a graph", what);
    stream->list.push_back({what, nullptr, std::move(poll), nullptr, nullptr});
}

int64_t streams_left(std::string *list)
{
    int64_t waiting = 0;
    for (cudaStream_t each : streams) {
        waiting += (int64_t)each->list.size();
        if (!each->list.empty())
            *list += std::string(" (first: ") + each->list.front().what + ")";
    }
    *list = std::to_string(streams.size()) + " streams, " + std::to_string(events.size()) +
            " events, " + std::to_string(graphs) + " graphs, " + std::to_string(waiting) +
            " pieces of work never waited for" + *list;
    return (int64_t)(streams.size() + events.size()) + graphs + waiting;
}

void schedule_from_environment(void)
{
    static const char *const names[] = {"late", "eager", "random"};
    uint64_t seed = 1;
    const int found = choice("HOSTCUDA_STREAMS", names, 3, &seed);
    hostcuda_set_schedule((hostcuda_schedule)(found < 0 ? 0 : found), seed);
}

} // namespace hostcuda

using namespace hostcuda;

void hostcuda_set_schedule(hostcuda_schedule now, uint64_t seed)
{
    schedule = now;
    random_state = seed;
}

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
    if (const int error = injected(HOSTCUDA_STREAM))
        return result((cudaError_t)error);
    if (flags != cudaStreamNonBlocking)
        fault("a stream that waits for the default stream: use cudaStreamNonBlocking");
    *stream = new CUstream_st{{}, nullptr, false};
    streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    check(stream);
    if (stream->graph)
        fault("a stream ends while it records a graph");
    run_until(stream, [stream] { return stream->list.empty(); });
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    check(stream);
    if (const int error = injected(HOSTCUDA_WAIT))
        return result((cudaError_t)error);
    if (recording_broken())
        return result(cudaErrorStreamCaptureUnsupported);
    run_until(stream, [stream] { return stream->list.empty(); });
    return cudaSuccess;
}

/* Each look moves the stream by one entry, so that polling ends, but not at once. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    check(stream);
    if (const int error = injected(HOSTCUDA_WAIT))
        return result((cudaError_t)error);
    if (recording_broken())
        return result(cudaErrorStreamCaptureUnsupported);
    if (stream->list.empty())
        return cudaSuccess;
    memory_open();
    step_towards(stream);
    memory_close();
    return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize(void)
{
    if (const int error = injected(HOSTCUDA_WAIT))
        return result((cudaError_t)error);
    if (recording_broken())
        return result(cudaErrorStreamCaptureUnsupported);
    run_all();
    return cudaSuccess;
}

/* cudaFree waits for everything. */
cudaError_t cudaFree(void *memory)
{
    if (recording_broken())
        return result(cudaErrorStreamCaptureUnsupported);
    run_all();
    return memory_delete(memory);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    if (const int error = injected(HOSTCUDA_EVENT))
        return result((cudaError_t)error);
    *event = new CUevent_st{nullptr, !(flags & cudaEventDisableTiming)};
    events.insert(*event);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    check(event);
    events.erase(event);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    check(event);
    check(stream);
    if (const int error = injected(HOSTCUDA_EVENT))
        return result((cudaError_t)error);
    if (stream->graph)
        fault("an event is recorded in a graph: nobody outside can wait for it");
    event->last = std::make_shared<record>();
    event->last->stream = stream;
    stream->list.push_back({"record of an event", nullptr, nullptr, event->last, nullptr});
    return cudaSuccess;
}

/* As in CUDA: what was recorded up to now; an event that was never recorded holds nobody up. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags)
{
    (void)flags;
    check(event);
    check(stream);
    if (const int error = injected(HOSTCUDA_EVENT))
        return result((cudaError_t)error);
    if (stream->graph)
        fault("a wait for an event is recorded in a graph");
    if (event->last)
        stream->list.push_back({"wait for an event", nullptr, nullptr, nullptr, event->last});
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    check(event);
    if (const int error = injected(HOSTCUDA_WAIT))
        return result((cudaError_t)error);
    if (recording_broken())
        return result(cudaErrorStreamCaptureUnsupported);
    const std::shared_ptr<record> last = event->last;
    if (last && !last->done)
        run_until(last->stream, [last] { return last->done; });
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    check(event);
    if (const int error = injected(HOSTCUDA_WAIT))
        return result((cudaError_t)error);
    const std::shared_ptr<record> last = event->last;
    if (!last || last->done)
        return cudaSuccess;
    memory_open();
    step_towards(last->stream);
    memory_close();
    return cudaErrorNotReady;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    check(stream);
    if (const int error = injected(HOSTCUDA_GRAPH))
        return result((cudaError_t)error);
    if (mode != cudaStreamCaptureModeThreadLocal)
        fault("cudaStreamBeginCapture: calls of other threads would end it");
    if (stream->graph)
        return result(cudaErrorIllegalState);
    stream->graph = new CUgraph_st;
    stream->broken = false;
    graphs++;
    return cudaSuccess;
}

/* Also a call that fails ends the recording. */
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    check(stream);
    *graph = nullptr;
    if (!stream->graph)
        return result(cudaErrorIllegalState);
    const int error = injected(HOSTCUDA_GRAPH);
    CUgraph_st *const recorded = stream->graph;
    stream->graph = nullptr;
    if (error || stream->broken) {
        delete recorded;
        graphs--;
        return result(error ? (cudaError_t)error : cudaErrorStreamCaptureInvalidated);
    }
    *graph = recorded;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *run, cudaGraph_t graph,
                                          unsigned long long flags)
{
    *run = nullptr;
    if (const int error = injected(HOSTCUDA_GRAPH))
        return result((cudaError_t)error);
    if (flags)
        fault("cudaGraphInstantiateWithFlags: flags that are not known here");
    *run = new CUgraphExec_st{graph->list};
    graphs++;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t run, cudaStream_t stream)
{
    check(stream);
    if (const int error = injected(HOSTCUDA_GRAPH))
        return result((cudaError_t)error);
    if (stream->graph)
        fault("a graph is launched into a graph");
    for (const entry &each : run->list)
        stream->list.push_back(each);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    graphs--;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t run)
{
    delete run;
    graphs--;
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    check(start);
    check(end);
    if (!start->timed || !end->timed || !start->last || !end->last)
        return result(cudaErrorInvalidResourceHandle);
    if (!start->last->done || !end->last->done)
        return cudaErrorNotReady;
    *ms = (float)(1e3 * (end->last->at - start->last->at));
    return cudaSuccess;
}
}
