/* What the tests of communication between GPUs share: the group of all ranks, this rank's GPU with
 * a stream, device arrays, and values that say where they come from. */
#ifndef CROCUTA_TESTS_HOSTCUDA_GROUP_FIXTURE_H
#define CROCUTA_TESTS_HOSTCUDA_GROUP_FIXTURE_H

#include "comm/comm_device.h"
#include "comm/mpi/group.h"
#include "tests/hostcuda/fixture.h"

#include <stdlib.h>
#include <string.h>

/* MPI keeps what it allocates; the rest of the program must not. Looked at before MPI ends, while
 * its modules still have names. */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libmpi\nleak:libopen-\nleak:libhwloc\nleak:libpmix\nleak:mca_\n";
}
const char *__lsan_default_options(void);
const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}
#define LEAKS_OFF() __lsan_disable()
#define LEAKS_ON() __lsan_enable()
#define LEAKS_LOOK() __lsan_do_leak_check()
#else
#define LEAKS_OFF() ((void)0)
#define LEAKS_ON() ((void)0)
#define LEAKS_LOOK() ((void)0)
#endif

static comm *world;
static int gpu;           /* this rank's */
static cudaStream_t work; /* it computes here */

static inline comm_device *device_comm(comm *group, comm_backend backend)
{
    comm_device *c = NULL;
    OK(comm_device_open(group, gpu, work, &(comm_device_options){.backend = backend}, &c));
    return c;
}

/* Bytes of device memory, filled from the host; at least one. */
static inline void *lend(const void *from, size_t bytes)
{
    void *at = NULL;
    OK(CUDA(cudaMalloc(&at, bytes ? bytes : 1)));
    if (bytes)
        OK(CUDA(cudaMemcpyAsync(at, from, bytes, cudaMemcpyHostToDevice, work)));
    return at;
}

/* Queues the way back; the host has it after the next wait for `work`. */
static inline void fetch(void *to, const void *from, size_t bytes)
{
    if (bytes)
        OK(CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, work)));
}

static inline void give(void *at)
{
    OK(CUDA(cudaFree(at)));
}

static inline void start(int *argc, char ***argv)
{
    int count = 0;
    LEAKS_OFF();
    const status st = comm_start(argc, argv, &world);
    LEAKS_ON();
    if (st != STATUS_OK)
        exit(1);
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
        comm_end(&world);
        exit(77);
    }
    gpu = comm_local_rank(world) % count;
    comm_set_timeout(world, 60);
    if (cudaSetDevice(gpu) != cudaSuccess ||
        cudaStreamCreateWithFlags(&work, cudaStreamNonBlocking) != cudaSuccess)
        exit(1);
}

static inline void finish(void)
{
    cudaStreamDestroy(work);
    LEAKS_LOOK();
    comm_end(&world);
}

#endif
