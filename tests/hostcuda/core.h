/* What the files of hostcuda share: faults, memory with its guards, the queues of the streams, and
 * the one place where a kernel runs. */
#ifndef CROCUTA_TESTS_HOSTCUDA_CORE_H
#define CROCUTA_TESTS_HOSTCUDA_CORE_H

#include "tests/hostcuda/hostcuda.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <string>

namespace hostcuda
{

/* Ends the process: a line on stderr with the kernel, block and thread that runs, then SIGABRT. */
[[noreturn]] void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "in kernel NAME, block (..), thread (..)" or "" where none runs. */
std::string where(void);

/* ---- memory.cpp: device memory is closed to everybody but queued work */

cudaError_t memory_new(void **out, size_t bytes);
cudaError_t memory_delete(void *memory);
/* The whole of [at, at + bytes) lies in one allocation, or a fault that says what does not fit. */
void memory_inside(const void *at, size_t bytes, const char *what);
bool memory_is_device(const void *at);
/* Nested; the outermost opening and closing change the protection. */
void memory_open(void);
void memory_close(void);
int64_t memory_left(int64_t *bytes);
extern int64_t memory_limit; /* bytes of a device */
int64_t memory_used(void);

/* ---- stream.cpp */

/* Queues work that runs when somebody waits; a NULL stream is a fault: the default stream would
 * wait for all others. */
void enqueue(cudaStream_t stream, const char *what, std::function<void()> work);
/* The same for work that other processes take part in: `poll` is asked until it returns true. */
void enqueue_polled(cudaStream_t stream, const char *what, std::function<bool()> poll);
/* Is this stream recording a graph? A call that may not be made while any is ends the recording. */
bool records(cudaStream_t stream);
bool recording_broken(void);
int64_t streams_left(std::string *list);
void run_all(void); /* all streams to their ends */
void schedule_from_environment(void);

/* ---- fiber.cpp */

struct launch {
    std::string name;
    dim3 grid, block;
    size_t shared;
    std::function<void()> thread;
};
void run_kernel(const launch &what);
bool kernel_runs(void);
std::string fiber_where(void);
/* The stack of a fiber ends here. */
bool fiber_guard(const void *at);
/* The page behind shared memory. */
bool shared_guard(const void *at);
void order_from_environment(void);

/* ---- runtime.cpp */

/* The injected error of this call, or 0. */
int injected(hostcuda_kind kind);
/* Keeps the error for cudaGetLastError. */
cudaError_t result(cudaError_t error);
/* Plans and handles that are open, by kind of library. */
extern int64_t plans_left, handles_left;
/* NCCL's communicators, by name, and the device that cudaSetDevice chose. */
extern std::set<std::string> &communicators;
extern int device_now;
/* "normal", "reverse", "random:7" -> the place of the name in `names`; the number after it. */
int choice(const char *variable, const char *const *names, int count, uint64_t *seed);

} // namespace hostcuda

#endif
