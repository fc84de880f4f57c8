/* A kernel runs block after block; the threads of a block are fibers with stacks of their own,
 * switched by hand. A fiber runs until it meets others (a barrier, a shuffle) or ends; where nobody
 * can go on, those who wait wait for somebody who never comes: a fault. */
#include "tests/hostcuda/core.h"
#include "tests/hostcuda/device.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "fibers are switched by hand, on x86-64 only"
#endif

/* hostcuda_switch(void **save, void *load): what the System V ABI lets a callee keep (six
 * registers) goes on the stack, the stack's address to *save, and all of it comes back from `load`.
 */
asm(R"(
    .text
    .globl hostcuda_switch
    .type hostcuda_switch, @function
hostcuda_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size hostcuda_switch, .-hostcuda_switch
)");
extern "C" void hostcuda_switch(void **save, void *load);

uint3 hostcuda_thread, hostcuda_block;
dim3 hostcuda_block_size, hostcuda_grid_size;

namespace hostcuda
{

namespace
{

const int MOST = 1024, LANES = 32;
const size_t STACK = 256 << 10, GUARD = 4096; /* bytes; ASan's frames are large */

enum state { READY, AT_BARRIER, IN_WARP, ENDED };

struct fiber {
    void *sp;
    char *stack;
    int number;
    state now;
    uint3 thread;
    const char *file; /* where it waits */
    int line;
    hostcuda_meeting what;
    unsigned mask;
    uint64_t value, answer;
    int from;
};

std::vector<fiber> &fibers = *new std::vector<fiber>; /* never destroyed: used at exit */
char *stacks = nullptr;
const launch *running = nullptr;
fiber *current = nullptr;
void *scheduler_sp;
int threads; /* of a block */
char *shared = nullptr, *shared_end = nullptr;
hostcuda_order order = HOSTCUDA_NORMAL;
uint64_t random_state = 1;

const void *main_bottom;
size_t main_size;

uint64_t next_random(void)
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15ull; /* splitmix64 (Steele et al. 2014) */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

/* A walk over 0 .. n-1 that needs no list: at(i) = (a i + b) mod n with a and n coprime. */
struct walk {
    uint64_t n, a, b;
    explicit walk(uint64_t count) : n(count), a(1), b(0)
    {
        if (order == HOSTCUDA_RANDOM && n > 1) {
            b = next_random() % n;
            do
                a = 1 + next_random() % n;
            while (divisor(a, n) != 1);
        }
    }
    static uint64_t divisor(uint64_t x, uint64_t y)
    {
        while (y) {
            const uint64_t rest = x % y;
            x = y;
            y = rest;
        }
        return x;
    }
    uint64_t at(uint64_t i) const
    {
        if (order == HOSTCUDA_REVERSE)
            return n - 1 - i;
        return (uint64_t)(((__uint128_t)a * i + b) % n);
    }
};

void to_scheduler(void)
{
    fiber *me = current;
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, main_bottom, main_size);
#endif
    hostcuda_switch(&me->sp, scheduler_sp);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, &main_bottom, &main_size);
#endif
}

void to_fiber(fiber *f)
{
    current = f;
    hostcuda_thread = f->thread;
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, f->stack + GUARD, STACK - GUARD);
#endif
    hostcuda_switch(&scheduler_sp, f->sp);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    current = nullptr;
}

/* A fiber serves one thread after another and never returns. */
void fiber_main(void)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &main_bottom, &main_size);
#endif
    for (;;) {
        running->thread();
        current->now = ENDED;
        to_scheduler();
    }
}

void fibers_grow(int count)
{
    if (!stacks) {
        stacks = (char *)mmap(nullptr, MOST * STACK, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED)
            fault("no memory for the stacks of fibers");
        fibers.reserve(MOST);
    }
    while ((int)fibers.size() < count) {
        fiber f = {};
        f.number = (int)fibers.size();
        f.stack = stacks + (size_t)f.number * STACK;
        mprotect(f.stack, GUARD, PROT_NONE);
        void **top = (void **)(f.stack + STACK);
        *--top = nullptr; /* fiber_main's return address, where the ABI wants it; never used */
        *--top = (void *)fiber_main;
        for (int i = 0; i < 6; i++)
            *--top = nullptr; /* the registers */
        f.sp = top;
        fibers.push_back(f);
    }
}

/* Mostly one and the same pointer: strcmp took a sixth of a test's time. */
bool same_file(const char *a, const char *b)
{
    return a == b || strcmp(a, b) == 0;
}

std::string place(const fiber &f)
{
    char text[300];
    if (f.now == ENDED)
        snprintf(text, sizeof text, "thread (%u,%u,%u) has ended", f.thread.x, f.thread.y,
                 f.thread.z);
    else
        snprintf(text, sizeof text, "thread (%u,%u,%u) waits at %s:%d%s", f.thread.x, f.thread.y,
                 f.thread.z, f.file, f.line,
                 f.now == AT_BARRIER ? " for the whole block" : " for lanes of its warp");
    return text;
}

/* Nobody can go on: either all stand at one barrier, which opens, or it never will. */
void barrier_open(void)
{
    for (int i = 0; i < threads; i++) {
        const fiber &f = fibers[(size_t)i];
        for (int other = i / LANES * LANES; f.now == IN_WARP && other < threads; other++)
            if (f.mask >> other % LANES & 1 && fibers[(size_t)other].now != IN_WARP)
                fault("lanes that never come: %s, %s", place(f).c_str(),
                      place(fibers[(size_t)other]).c_str());
    }
    const fiber *first = nullptr;
    for (int i = 0; i < threads && !first; i++)
        if (fibers[(size_t)i].now != ENDED)
            first = &fibers[(size_t)i];
    for (int i = 0; i < threads; i++) {
        const fiber &f = fibers[(size_t)i];
        if (f.now != AT_BARRIER || f.line != first->line || !same_file(f.file, first->file))
            fault("barriers diverge: %s, %s", place(*first).c_str(), place(f).c_str());
    }
    for (int i = 0; i < threads; i++)
        fibers[(size_t)i].now = READY;
}

/* Those of threads [begin, end) that can go on, until each waits or ends; whether there were any.
 */
bool run_some(int begin, int end)
{
    bool moved = false;
    const walk turn((uint64_t)(end - begin));
    for (uint64_t i = 0; i < turn.n; i++) {
        fiber *f = &fibers[(uint64_t)begin + turn.at(i)];
        if (f->now == READY) {
            to_fiber(f);
            moved = true;
        }
    }
    return moved;
}

/* NORMAL: all threads in turns. REVERSE: a warp at a time, each as far as it gets without the
 * others, so that a warp runs ahead from barrier to barrier. RANDOM: the one or the other. */
bool run_round(void)
{
    if (order == HOSTCUDA_NORMAL || (order == HOSTCUDA_RANDOM && next_random() % 2))
        return run_some(0, threads);
    bool moved = false;
    const walk turn((uint64_t)((threads + LANES - 1) / LANES));
    for (uint64_t i = 0; i < turn.n; i++) {
        const int begin = (int)turn.at(i) * LANES, end = begin + LANES;
        while (run_some(begin, end < threads ? end : threads))
            moved = true;
    }
    return moved;
}

void run_block(void)
{
    memset(shared, 0xFF, running->shared);
    for (int i = 0; i < threads; i++) {
        fiber &f = fibers[(size_t)i];
        const dim3 &b = running->block;
        f.now = READY;
        f.thread = {(unsigned)i % b.x, (unsigned)i / b.x % b.y, (unsigned)i / b.x / b.y};
    }
    for (;;) {
        const bool moved = run_round();
        bool left = false;
        for (int i = 0; i < threads; i++)
            left |= fibers[(size_t)i].now != ENDED;
        if (!left)
            return;
        if (!moved)
            barrier_open();
    }
}

/* The block's shared memory ends where its pages end, but for 15 poisoned bytes of alignment. */
void shared_new(size_t bytes)
{
    const size_t most = (size_t)228 << 10;
    if (!shared_end) {
        char *at = (char *)mmap(nullptr, most + GUARD, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            fault("no memory for shared memory");
        shared_end = at + most;
        mprotect(shared_end, GUARD, PROT_NONE);
    }
    char *begin = shared_end - most;
    const size_t body = (bytes + 15) / 16 * 16;
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(begin, most);
#endif
    shared = shared_end - body;
#if defined(__SANITIZE_ADDRESS__)
    ASAN_POISON_MEMORY_REGION(begin, (size_t)(shared - begin));
    ASAN_POISON_MEMORY_REGION(shared + bytes, body - bytes);
#else
    (void)begin;
#endif
}

} // namespace

void run_kernel(const launch &what)
{
    const dim3 g = what.grid, b = what.block;
    threads = (int)(b.x * b.y * b.z);
    fibers_grow(threads);
    shared_new(what.shared);
    running = &what;
    hostcuda_block_size = b;
    hostcuda_grid_size = g;
    const walk turn((uint64_t)g.x * g.y * g.z);
    for (uint64_t i = 0; i < turn.n; i++) {
        const uint64_t at = turn.at(i);
        hostcuda_block = {(unsigned)(at % g.x), (unsigned)(at / g.x % g.y),
                          (unsigned)(at / g.x / g.y)};
        run_block();
    }
    running = nullptr;
}

bool kernel_runs(void)
{
    return current != nullptr;
}

std::string fiber_where(void)
{
    if (!running)
        return "";
    char text[300];
    const uint3 b = hostcuda_block, t = hostcuda_thread;
    if (current)
        snprintf(text, sizeof text,
                 "kernel %s, block (%u,%u,%u), thread (%u,%u,%u): ", running->name.c_str(), b.x,
                 b.y, b.z, t.x, t.y, t.z);
    else
        snprintf(text, sizeof text, "kernel %s, block (%u,%u,%u): ", running->name.c_str(), b.x,
                 b.y, b.z);
    return text;
}

bool fiber_guard(const void *at)
{
    const char *p = (const char *)at;
    return stacks && p >= stacks && p < stacks + MOST * STACK &&
           (size_t)(p - stacks) % STACK < GUARD;
}

bool shared_guard(const void *at)
{
    return shared_end && (const char *)at >= shared_end && (const char *)at < shared_end + GUARD;
}

void order_from_environment(void)
{
    static const char *const names[] = {"normal", "reverse", "random"};
    uint64_t seed = 1;
    const int found = choice("HOSTCUDA_ORDER", names, 3, &seed);
    hostcuda_set_order((hostcuda_order)(found < 0 ? 0 : found), seed);
}

} // namespace hostcuda

using namespace hostcuda;

void hostcuda_set_order(hostcuda_order now, uint64_t seed)
{
    order = now;
    random_state = seed;
}

void *hostcuda_shared(void)
{
    return shared;
}

void hostcuda_barrier(const char *file, int line)
{
    current->now = AT_BARRIER;
    current->file = file;
    current->line = line;
    to_scheduler();
}

int hostcuda_lane(void)
{
    return current->number % LANES;
}

/* The last lane to come settles the matter for all of them. */
uint64_t hostcuda_meet(hostcuda_meeting what, unsigned mask, uint64_t value, int from,
                       const char *file, int line)
{
    const int lane = hostcuda_lane(), base = current->number - lane;
    fiber *me = current, *warp = &fibers[(size_t)base];
    if (!(mask >> lane & 1))
        fault("%s:%d: the mask %08x leaves out the calling lane %d", file, line, mask, lane);
    me->what = what;
    me->mask = mask;
    me->value = value;
    me->from = from;
    me->file = file;
    me->line = line;
    me->now = IN_WARP;
    unsigned here = 0, yes = 0;
    for (int i = 0; i < LANES; i++) {
        if (!(mask >> i & 1))
            continue;
        if (base + i >= threads)
            fault("%s:%d: the mask %08x names lane %d, but the warp ends before", file, line, mask,
                  i);
        const fiber &f = warp[i];
        if (f.now == ENDED || f.now == AT_BARRIER)
            fault("lanes that never come: %s, %s", place(*me).c_str(), place(f).c_str());
        if (f.now != IN_WARP)
            continue;
        if (f.line != line || f.mask != mask || !same_file(f.file, file))
            fault("lanes of one warp meet at different places: %s, %s", place(*me).c_str(),
                  place(f).c_str());
        here |= 1u << i;
        yes |= (unsigned)(f.value != 0) << i;
    }
    if (here != mask) {
        to_scheduler();
        return me->answer;
    }
    for (int i = 0; i < LANES; i++) {
        fiber &f = warp[i];
        if (!(mask >> i & 1))
            continue;
        if (what == HOSTCUDA_SHUFFLE && !(mask >> f.from & 1))
            fault("%s:%d: lane %d reads lane %d, which is not in the mask %08x", file, line, i,
                  f.from, mask);
        f.answer = what == HOSTCUDA_BALLOT    ? yes
                   : what == HOSTCUDA_SHUFFLE ? warp[f.from].value
                                              : 0;
        f.now = READY;
    }
    return me->answer;
}
