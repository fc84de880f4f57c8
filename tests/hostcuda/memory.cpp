/* Device memory: one large stretch of addresses that nobody may touch, allocations in it far from
 * one another, each flush with the end of its pages. Queued work opens them while it runs; what
 * lies between an allocation and its pages' ends is poisoned for ASan, the rest never opens. A new
 * allocation is full of NaN; addresses are never used twice. */
#include "tests/hostcuda/core.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

namespace hostcuda
{

int64_t memory_limit = (int64_t)4 << 30;

namespace
{

const size_t PAGE = 4096, ALIGN = 256; /* cudaMalloc's alignment */
const size_t APART = (size_t)1 << 20;  /* closed addresses between allocations */
const size_t SPAN = (size_t)1 << 40;

struct allocation {
    char *base;    /* what the caller has */
    size_t bytes;  /* what he asked for */
    size_t mapped; /* bytes of the pages */
    bool live;
};

char *span = nullptr, *next = nullptr;
/* By first page, freed ones too: messages name them. Never destroyed: looked at when the process
 * ends. */
std::map<char *, allocation> &all = *new std::map<char *, allocation>;
int64_t used = 0;
int open_count = 0;
struct sigaction before;

size_t round_up(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

/* The allocation at or below the address. */
const std::pair<char *const, allocation> *below(const void *at)
{
    auto it = all.upper_bound((char *)at);
    return it == all.begin() ? nullptr : &*std::prev(it);
}

const std::pair<char *const, allocation> *above(const void *at)
{
    auto it = all.upper_bound((char *)at);
    return it == all.end() ? nullptr : &*it;
}

std::string describe(const void *at)
{
    char text[200];
    const auto *low = below(at), *high = above(at);
    const char *p = (const char *)at;
    if (low && low->second.live && p >= low->second.base &&
        p < low->second.base + low->second.bytes)
        snprintf(text, sizeof text, "byte %zu of a device allocation of %zu bytes",
                 (size_t)(p - low->second.base), low->second.bytes);
    else if (low && !low->second.live && p < low->first + low->second.mapped)
        snprintf(text, sizeof text, "a device allocation of %zu bytes that was freed",
                 low->second.bytes);
    else if (high && (size_t)(high->second.base - p) < APART / 2)
        snprintf(text, sizeof text, "%zu bytes before a device allocation of %zu bytes",
                 (size_t)(high->second.base - p), high->second.bytes);
    else if (low)
        snprintf(text, sizeof text, "%zu bytes past the end of a device allocation of %zu bytes",
                 (size_t)(p - low->second.base) - low->second.bytes, low->second.bytes);
    else
        snprintf(text, sizeof text, "device addresses where nothing was allocated");
    return text;
}

void protect(int how)
{
    for (auto &each : all)
        if (each.second.live && mprotect(each.first, each.second.mapped, how) != 0)
            fault("mprotect: %s", strerror(errno));
}

/* Not a safe thing to do in a handler, but the process is about to end with a message. */
void on_segv(int signal, siginfo_t *info, void *context)
{
    const void *at = info->si_addr;
    if (fiber_guard(at))
        fault("a kernel's thread used up its stack");
    if (shared_guard(at))
        fault("access past the end of the block's shared memory");
    if (memory_is_device(at)) {
        if (kernel_runs())
            fault("access to %s", describe(at).c_str());
        if (open_count)
            fault("a copy or library call went to %s", describe(at).c_str());
        fault("host code touched device memory: %s", describe(at).c_str());
    }
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(signal, info, context);
    sigaction(SIGSEGV, &before, nullptr); /* runs into it again */
}

void start(void)
{
    void *at = mmap(nullptr, SPAN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        fault("no addresses for device memory: %s", strerror(errno));
    span = next = (char *)at;
}

/* At every new allocation and opening: test frameworks put handlers of their own in the place. */
void handler_set(void)
{
    struct sigaction now;
    if (sigaction(SIGSEGV, nullptr, &now) == 0 && now.sa_sigaction == on_segv)
        return;
    /* Faults of fibers are told on a stack of their own: ASan's, where it has set one. */
    static char stack[1 << 16];
    stack_t alternate = {};
    if (sigaltstack(nullptr, &alternate) == 0 && (alternate.ss_flags & SS_DISABLE)) {
        alternate = {};
        alternate.ss_sp = stack;
        alternate.ss_size = sizeof stack;
        sigaltstack(&alternate, nullptr);
    }
    struct sigaction action = {};
    action.sa_sigaction = on_segv;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    if (sigaction(SIGSEGV, &action, &before) != 0)
        fault("no handler: %s", strerror(errno));
}

} // namespace

cudaError_t memory_new(void **out, size_t bytes)
{
    if (!span)
        start();
    handler_set();
    *out = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    if ((int64_t)bytes > memory_limit - used)
        return cudaErrorMemoryAllocation;
    const size_t body = round_up(bytes, ALIGN), mapped = round_up(body, PAGE);
    if (mapped + APART > (size_t)(span + SPAN - next))
        fault("no addresses left for device memory");
    char *page = next, *base = page + mapped - body;
    next += round_up(mapped, APART) + APART;
    if (mprotect(page, mapped, PROT_READ | PROT_WRITE) != 0)
        return cudaErrorMemoryAllocation;
    memset(page, 0xFF, mapped);
    ASAN_POISON_MEMORY_REGION(page, (size_t)(base - page));
    ASAN_POISON_MEMORY_REGION(base + bytes, body - bytes);
    if (!open_count)
        mprotect(page, mapped, PROT_NONE);
    all[page] = {base, bytes, mapped, true};
    used += (int64_t)bytes;
    *out = base;
    return cudaSuccess;
}

cudaError_t memory_delete(void *memory)
{
    if (!memory)
        return cudaSuccess;
    auto it = all.upper_bound((char *)memory);
    if (it == all.begin() || (--it)->second.base != memory || !it->second.live)
        fault("cudaFree of what is no allocation, or of one twice");
    ASAN_UNPOISON_MEMORY_REGION(it->first, it->second.mapped);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    if (mmap(it->first, it->second.mapped, PROT_NONE, flags, -1, 0) == MAP_FAILED)
        fault("munmap: %s", strerror(errno));
    it->second.live = false;
    used -= (int64_t)it->second.bytes;
    return cudaSuccess;
}

void memory_inside(const void *at, size_t bytes, const char *what)
{
    if (bytes == 0)
        return;
    if (!memory_is_device(at))
        fault("%s: %p is not device memory", what, at);
    const auto *low = below(at);
    const char *p = (const char *)at;
    if (!low || !low->second.live || p < low->second.base ||
        p >= low->second.base + low->second.bytes)
        fault("%s: %s", what, describe(at).c_str());
    const size_t room = (size_t)(low->second.base + low->second.bytes - p);
    if (bytes > room)
        fault("%s: %zu bytes where %zu are left of a device allocation of %zu bytes", what, bytes,
              room, low->second.bytes);
}

bool memory_is_device(const void *at)
{
    return span && (const char *)at >= span && (const char *)at < span + SPAN;
}

void memory_open(void)
{
    handler_set();
    if (open_count++ == 0)
        protect(PROT_READ | PROT_WRITE);
}

void memory_close(void)
{
    if (--open_count == 0)
        protect(PROT_NONE);
}

int64_t memory_left(int64_t *bytes)
{
    int64_t count = 0;
    *bytes = used;
    for (const auto &each : all)
        count += each.second.live;
    return count;
}

int64_t memory_used(void)
{
    return used;
}

} // namespace hostcuda
