/* CUDA on a CPU, for tests only: the runtime, cuFFT, cuBLAS and NCCL calls that we use, behind
 * NVIDIA's own headers, in a library that takes the place of theirs at link time. Any other call
 * is missing at the link. This header is what a test may ask of it; each setting can also come from
 * the environment (docs/gpu.md).
 *
 * What is surely a fault of the program (a kernel out of bounds, host code in device memory,
 * barriers that diverge) ends the process with a line "hostcuda: ..." and SIGABRT; what CUDA itself
 * answers with an error code comes back as that code. */
#ifndef CROCUTA_TESTS_HOSTCUDA_HOSTCUDA_H
#define CROCUTA_TESTS_HOSTCUDA_HOSTCUDA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In which order blocks, and the threads of a block between two barriers, run.
 * HOSTCUDA_ORDER=normal | reverse | random[:SEED] */
typedef enum { HOSTCUDA_NORMAL, HOSTCUDA_REVERSE, HOSTCUDA_RANDOM } hostcuda_order;
void hostcuda_set_order(hostcuda_order order, uint64_t seed);

/* Which queued work runs when the host waits for something. LATE: only what that needs, in the
 * order of its stream, the other streams as little as possible. EAGER: all other streams first, as
 * far as they go. SHUFFLED: any stream that can go on, at random.
 * HOSTCUDA_STREAMS=late | eager | random[:SEED] */
typedef enum { HOSTCUDA_LATE, HOSTCUDA_EAGER, HOSTCUDA_SHUFFLED } hostcuda_schedule;
void hostcuda_set_schedule(hostcuda_schedule schedule, uint64_t seed);

/* Makes the n-th call from now (1: the next) of a kind return `code` (a cudaError_t, cufftResult,
 * cublasStatus_t or ncclResult_t) and do nothing. HOSTCUDA_FAIL=KIND:N:CODE[,KIND:N:CODE] with the
 * names below in small letters: malloc, launch, copy, wait, stream, event, device, graph, cufft,
 * cublas, nccl, ncclasync. */
typedef enum {
    HOSTCUDA_MALLOC, /* device and pinned memory */
    HOSTCUDA_LAUNCH,
    HOSTCUDA_COPY, /* copies and sets */
    HOSTCUDA_WAIT, /* every synchronisation and query */
    HOSTCUDA_STREAM,
    HOSTCUDA_EVENT,
    HOSTCUDA_DEVICE, /* counting and choosing devices */
    HOSTCUDA_GRAPH,  /* recording, instantiation, launch */
    HOSTCUDA_CUFFT,
    HOSTCUDA_CUBLAS,
    HOSTCUDA_NCCL,       /* every call but ncclCommGetAsyncError, which is asked again and again */
    HOSTCUDA_NCCL_ASYNC, /* an exchange that begins to run: never ends, and the code is what
                            ncclCommGetAsyncError says from then on */
    HOSTCUDA_KINDS,
} hostcuda_kind;
void hostcuda_fail(hostcuda_kind kind, int64_t nth, int code);
/* Calls of the kind so far. */
int64_t hostcuda_calls(hostcuda_kind kind);

/* HOSTCUDA_DEVICES (1), HOSTCUDA_MEMORY (bytes of a device, 4 GiB), HOSTCUDA_CAPABILITY (9.0). */
void hostcuda_set_devices(int count, int64_t memory, int major, int minor);

/* Work area that cuFFT's plans ask for from now on, in spectra of their batch (1). */
void hostcuda_set_fft_work(double spectra);

/* What is still there: device and pinned allocations, streams, events, plans, handles and
 * communicators, and work that nobody waited for. What is left when the process exits is named and
 * ends it with status 70.
 */
int64_t hostcuda_left(void);

#ifdef __cplusplus
}
#endif

#endif
