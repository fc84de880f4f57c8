/* A kernel runs block after block. A thread runs on a fiber, a stack of its own, until it meets
 * others (a barrier, a shuffle); one that ends leaves its fiber to the next, so that threads that
 * meet nobody never switch. Where nobody can go on, those who wait wait for somebody who never
 * comes: a fault. */
#include "tests/hostcuda/core.h"
#include "tests/hostcuda/device.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

#ifdef HOSTCUDA_ASAN
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

/* A stack, switched to by hand. */
struct fiber {
    void *sp;
    char *stack;
};

struct thread {
    fiber *on; /* NULL before it begins */
    int number;
    state now;
    uint3 at;
    const char *file; /* where it waits */
    int line;
    hostcuda_meeting what;
    unsigned mask;
    uint64_t value, answer;
    int from;
};

/* What lets whole warps meet without looking at every lane at each arrival. */
struct warp {
    const thread *first; /* of the lanes waiting in a meeting of all 32 */
    int here;            /* how many they are */
    int partial;         /* lanes waiting in a meeting of fewer */
    int gone;            /* lanes ended, or at the block's barrier */
};

/* Never destroyed: used at exit. */
std::vector<fiber> &fibers = *new std::vector<fiber>;
std::vector<fiber *> &idle = *new std::vector<fiber *>;
thread threads[MOST];
warp warps[MOST / LANES];
char *stacks = nullptr;
const launch *running = nullptr;
thread *current = nullptr;
fiber scheduler; /* the caller's own stack */
int count;       /* threads of a block */
char *shared = nullptr, *shared_end = nullptr;
hostcuda_order order = HOSTCUDA_NORMAL;
uint64_t random_state = 1;

const void *main_bottom;
size_t main_size;
bool from_main; /* the switch under way leaves the scheduler */

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
    explicit walk(uint64_t length) : n(length), a(1), b(0)
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
        if (order == HOSTCUDA_NORMAL)
            return i;
        if (order == HOSTCUDA_REVERSE)
            return n - 1 - i;
        return (uint64_t)(((__uint128_t)a * i + b) % n);
    }
};

/* The threads whose turn it is, and how far it has come. */
struct turns {
    int begin;
    walk order;
    uint64_t next;
    bool moved;
} turn = {0, walk(0), 0, false};

/* The next of them that can go on, or NULL. */
thread *turn_next(void)
{
    while (turn.next < turn.order.n) {
        thread *t = &threads[(uint64_t)turn.begin + turn.order.at(turn.next++)];
        if (t->now == READY)
            return t;
    }
    return nullptr;
}

/* ASan learns where a stack begins, and tells which one was left. */
void arrived(void *fake)
{
#ifdef HOSTCUDA_ASAN
    if (from_main)
        __sanitizer_finish_switch_fiber(fake, &main_bottom, &main_size);
    else
        __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    (void)fake;
#endif
    from_main = false;
}

void fiber_switch(fiber *leave, fiber *enter)
{
    void *fake = nullptr;
#ifdef HOSTCUDA_ASAN
    if (enter == &scheduler)
        __sanitizer_start_switch_fiber(&fake, main_bottom, main_size);
    else
        __sanitizer_start_switch_fiber(&fake, enter->stack + GUARD, STACK - GUARD);
#endif
    from_main = leave == &scheduler;
    hostcuda_switch(&leave->sp, enter->sp);
    arrived(fake);
}

void fiber_main(void);

fiber *fiber_new(void)
{
    if (!stacks) {
        stacks = (char *)mmap(nullptr, MOST * STACK, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED)
            fault("no memory for the stacks of fibers");
        fibers.reserve(MOST); /* they are pointed to */
    }
    fiber f = {};
    f.stack = stacks + fibers.size() * STACK;
    mprotect(f.stack, GUARD, PROT_NONE);
    /* Not all at one offset in their pages: they would share a few sets of the cache. */
    const size_t colour = fibers.size() % 61 * 320;
    void **top = (void **)(f.stack + STACK - colour);
    *--top = nullptr; /* fiber_main's return address, where the ABI wants it; never used */
    *--top = (void *)fiber_main;
    for (int i = 0; i < 6; i++)
        *--top = nullptr; /* the registers */
    f.sp = top;
    fibers.push_back(f);
    return &fibers.back();
}

/* The fiber that `t` goes on with: its own, or an idle one that begins it. */
fiber *fiber_of(thread *t)
{
    if (!t->on) {
        if (idle.empty())
            idle.push_back(fiber_new());
        t->on = idle.back();
        idle.pop_back();
    }
    return t->on;
}

void becomes_current(thread *t)
{
    current = t;
    if (t)
        hostcuda_thread = t->at;
}

/* The current thread waits: the next one whose turn it is goes on, or else the scheduler. */
void wait_here(void)
{
    thread *me = current, *next = turn_next();
    becomes_current(next);
    fiber_switch(me->on, next ? fiber_of(next) : &scheduler);
}

void leaves(thread *t)
{
    warps[t->number / LANES].gone++;
}

/* A fiber runs one thread after another and never returns. */
void fiber_main(void)
{
    arrived(nullptr);
    for (;;) {
        thread *me = current;
        running->thread();
        me->now = ENDED;
        leaves(me);
        thread *next = turn_next();
        becomes_current(next);
        if (next && !next->on) {
            next->on = me->on;
            continue;
        }
        idle.push_back(me->on);
        fiber_switch(me->on, next ? next->on : &scheduler);
    }
}

/* Mostly one and the same pointer: strcmp took a sixth of a test's time. */
bool same_file(const char *a, const char *b)
{
    return a == b || strcmp(a, b) == 0;
}

std::string place(const thread &f)
{
    char text[300];
    if (f.now == ENDED)
        snprintf(text, sizeof text, "thread (%u,%u,%u) has ended", f.at.x, f.at.y, f.at.z);
    else
        snprintf(text, sizeof text, "thread (%u,%u,%u) waits at %s:%d%s", f.at.x, f.at.y, f.at.z,
                 f.file, f.line,
                 f.now == AT_BARRIER ? " for the whole block" : " for lanes of its warp");
    return text;
}

/* Nobody can go on: either all stand at one barrier, which opens, or it never will. */
void barrier_open(void)
{
    for (int i = 0; i < count; i++) {
        const thread &f = threads[i];
        for (int other = i / LANES * LANES; f.now == IN_WARP && other < count; other++)
            if (f.mask >> other % LANES & 1 && threads[other].now != IN_WARP)
                fault("lanes that never come: %s, %s", place(f).c_str(),
                      place(threads[other]).c_str());
    }
    const thread *first = nullptr;
    for (int i = 0; i < count && !first; i++)
        if (threads[i].now != ENDED)
            first = &threads[i];
    for (int i = 0; i < count; i++) {
        const thread &f = threads[i];
        if (f.now != AT_BARRIER || f.line != first->line || !same_file(f.file, first->file))
            fault("barriers diverge: %s, %s", place(*first).c_str(), place(f).c_str());
    }
    for (int i = 0; i < count; i++)
        threads[i].now = READY;
    memset(warps, 0, sizeof warps);
}

/* Those of threads [begin, end) that can go on, until each waits or ends; whether there were any.
 */
bool run_some(int begin, int end)
{
    turn = {begin, walk((uint64_t)(end - begin)), 0, false};
    bool moved = false;
    for (thread *next = turn_next(); next; next = turn_next()) {
        becomes_current(next);
        fiber_switch(&scheduler, fiber_of(next));
        moved = true;
    }
    return moved;
}

/* NORMAL: all threads in turns. REVERSE: a warp at a time, each as far as it gets without the
 * others, so that a warp runs ahead from barrier to barrier. RANDOM: the one or the other. */
bool run_round(void)
{
    if (order == HOSTCUDA_NORMAL || (order == HOSTCUDA_RANDOM && next_random() % 2))
        return run_some(0, count);
    bool moved = false;
    const walk each((uint64_t)((count + LANES - 1) / LANES));
    for (uint64_t i = 0; i < each.n; i++) {
        const int begin = (int)each.at(i) * LANES, end = begin + LANES;
        while (run_some(begin, end < count ? end : count))
            moved = true;
    }
    return moved;
}

void run_block(void)
{
    memset(shared, 0xFF, running->shared);
    memset(warps, 0, sizeof warps);
    for (int i = 0; i < count; i++) {
        thread &t = threads[i];
        const dim3 &b = running->block;
        t.on = nullptr;
        t.number = i;
        t.now = READY;
        t.at = {(unsigned)i % b.x, (unsigned)i / b.x % b.y, (unsigned)i / b.x / b.y};
    }
    for (;;) {
        const bool moved = run_round();
        bool left = false;
        for (int i = 0; i < count; i++)
            left |= threads[i].now != ENDED;
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
#ifdef HOSTCUDA_ASAN
    __asan_unpoison_memory_region(begin, most);
#endif
    shared = shared_end - body;
#ifdef HOSTCUDA_ASAN
    __asan_poison_memory_region(begin, (size_t)(shared - begin));
    __asan_poison_memory_region(shared + bytes, body - bytes);
#else
    (void)begin;
#endif
}

} // namespace

void run_kernel(const launch &what)
{
    const dim3 g = what.grid, b = what.block;
    count = (int)(b.x * b.y * b.z);
    shared_new(what.shared);
    running = &what;
    hostcuda_block_size = b;
    hostcuda_grid_size = g;
    const walk each((uint64_t)g.x * g.y * g.z);
    for (uint64_t i = 0; i < each.n; i++) {
        const uint64_t at = each.at(i);
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
    leaves(current);
    wait_here();
}

int hostcuda_lane(void)
{
    return current->number % LANES;
}

namespace
{

/* Whether all that `me` meets are there, each lane looked at: who will never come, or waits at
 * another place, is a fault. */
bool all_came(const thread &me, const thread *lanes)
{
    const int base = me.number - me.number % LANES;
    bool all = true;
    for (int i = 0; i < LANES; i++) {
        if (!(me.mask >> i & 1))
            continue;
        if (base + i >= count)
            fault("%s:%d: the mask %08x names lane %d, but the warp ends before", me.file, me.line,
                  me.mask, i);
        const thread &t = lanes[i];
        if (t.now == ENDED || t.now == AT_BARRIER)
            fault("lanes that never come: %s, %s", place(me).c_str(), place(t).c_str());
        if (t.now == IN_WARP &&
            (t.line != me.line || t.mask != me.mask || !same_file(t.file, me.file)))
            fault("lanes of one warp meet at different places: %s, %s", place(me).c_str(),
                  place(t).c_str());
        all &= t.now == IN_WARP;
    }
    return all;
}

/* Every lane of `mask` gets its answer and can go on. */
void settle(hostcuda_meeting what, unsigned mask, thread *lanes, const char *file, int line)
{
    unsigned yes = 0;
    for (int i = 0; i < LANES && what == HOSTCUDA_BALLOT; i++)
        if (mask >> i & 1)
            yes |= (unsigned)(lanes[i].value != 0) << i;
    for (int i = 0; i < LANES; i++) {
        thread &t = lanes[i];
        if (!(mask >> i & 1))
            continue;
        if (what == HOSTCUDA_SHUFFLE && !(mask >> t.from & 1))
            fault("%s:%d: lane %d reads lane %d, which is not in the mask %08x", file, line, i,
                  t.from, mask);
        t.answer = what == HOSTCUDA_SHUFFLE ? lanes[t.from].value : yes;
        t.now = READY;
    }
}

} // namespace

/* The last lane to come settles the matter for all of them. */
uint64_t hostcuda_meet(hostcuda_meeting what, unsigned mask, uint64_t value, int from,
                       const char *file, int line)
{
    const int lane = hostcuda_lane();
    thread *me = current, *lanes = me - lane;
    warp &w = warps[me->number / LANES];
    if (!(mask >> lane & 1))
        fault("%s:%d: the mask %08x leaves out the calling lane %d", file, line, mask, lane);
    me->what = what;
    me->mask = mask;
    me->value = value;
    me->from = from;
    me->file = file;
    me->line = line;
    me->now = IN_WARP;
    const bool whole = mask == 0xffffffffu;
    int &here = whole ? w.here : w.partial;
    here++;
    if (whole && w.here == 1)
        w.first = me;
    /* Those that join the first of all 32 where it waits need no look at the rest. */
    const bool alike = whole && w.first->line == line && same_file(w.first->file, file);
    const bool fits = me->number - lane + LANES <= count;
    const bool plain = alike && fits && !w.partial && !w.gone;
    if (plain ? w.here < LANES : !all_came(*me, lanes)) {
        wait_here();
        return me->answer;
    }
    settle(what, mask, lanes, file, line);
    here -= __builtin_popcount(mask);
    return me->answer;
}
