/* Opening a device: threads, the check of the product library, which GPU; and the two rates that
 * make up the floor of `bench`. */
#include "kernels/device.h"

#include "kernels/cpu/gemm.h"
#include "kernels/gpu.h"
#include "kernels/ops.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Threads of this process, for the CPU's operations and for what a GPU leaves to the host. */
static status threads_set(int asked, int *out)
{
    if (asked < 0)
        return fail(STATUS_USAGE, "--threads: %d threads make no sense; use 0 for all cores",
                    asked);
    *out = asked;
    if (asked == 0) {
        const char *variable = getenv("OMP_NUM_THREADS");
        const int n = variable ? atoi(variable) : 0;
        /* what the process is bound to, not what the machine has */
        *out = n > 0 ? n : omp_get_num_procs();
    }
    omp_set_dynamic(0);
    omp_set_max_active_levels(1); /* products run inside our loops, on the calling thread */
    omp_set_num_threads(*out);
    return STATUS_OK;
}

static status open_cpu(int threads, device **out)
{
    TRY(gemm_open());
    device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return fail(STATUS_MEMORY, "--device: no memory for a device; free some memory");
    *dev = (device){.kind = DEVICE_CPU, .ops = &ops_cpu, .threads = threads, .name = "CPU"};
    *out = dev;
    return STATUS_OK;
}

status device_open_nth(device_kind kind, int nth, int threads, device **out)
{
    char why[512];
    *out = NULL;
    TRY(threads_set(threads, &threads));
    if (kind == DEVICE_AUTO)
        kind = device_count(NULL, 0) > 0 ? DEVICE_CUDA : DEVICE_CPU;
    if (kind == DEVICE_CPU)
        return open_cpu(threads, out);
    if (device_count(why, sizeof why) == 0)
        return fail(STATUS_RESOURCE, "--device: %s", why);
    return gpu_backend_find(NULL, 0)->open(nth, threads, out);
}

status device_open(device_kind kind, int threads, device **out)
{
    return device_open_nth(kind, 0, threads, out);
}

int device_count(char *why, size_t size)
{
    const gpu_backend *gpu = gpu_backend_find(why, size);
    return gpu ? gpu->count(why, size) : 0;
}

/* A device and its table: the backend's answers, the host's memory. */
typedef struct {
    device dev;
    ops_table ops;
} described;

status device_describe(device_kind kind, int threads, device **out)
{
    char why[512];
    *out = NULL;
    TRY(threads_set(threads, &threads));
    const gpu_backend *gpu = kind == DEVICE_CPU ? NULL : gpu_backend_find(why, sizeof why);
    if (kind == DEVICE_CUDA && !gpu)
        return fail(STATUS_RESOURCE, "--device: %s", why);
    described *d = calloc(1, sizeof *d);
    if (!d)
        return fail(STATUS_MEMORY, "--device: no memory for a device; free some memory");
    d->ops = gpu ? *gpu->ops : ops_cpu;
    d->ops.memory_take = d->ops.host_take = ops_cpu.memory_take;
    d->ops.memory_give = d->ops.host_give = ops_cpu.memory_give;
    d->ops.upload = ops_cpu.upload;
    d->ops.download = ops_cpu.download;
    d->ops.wait = ops_cpu.wait;
    d->ops.clear = ops_cpu.clear;
    d->ops.copy = ops_cpu.copy;
    d->ops.room = ops_cpu.room;
    d->dev = (device){.kind = gpu ? DEVICE_CUDA : DEVICE_CPU,
                      .ops = &d->ops,
                      .threads = threads,
                      .name = "description",
                      .described = true};
    *out = &d->dev;
    return STATUS_OK;
}

#define MEASURE_TILE 256                 /* columns, as the operations use */
#define MEASURE_COPY ((int64_t)64 << 20) /* bytes a thread: beyond every cache */
#define MEASURE_ROUNDS 5

/* FLOP/s of all threads together on one of the model's products, tile after tile; form as in mlp.
 */
static double measure_product(int threads, int form, int64_t d, float *block, int64_t per_thread)
{
    const int64_t T = MEASURE_TILE, M = form == 1 || form == 2 ? d : 4 * d;
    const int64_t N = form == 3 ? d : T, K = form == 0 ? d : form == 3 ? T : 4 * d;
    const bool ta = form == 2, tb = form == 3;
    const int repeat = (int)(2e8 / (2.0 * (double)(M * N * K))) + 1;
    double start = 0, best = 0;
    for (int round = 0; round < MEASURE_ROUNDS; round++) {
        start = omp_get_wtime();
#pragma omp parallel num_threads(threads)
        {
            float *A = block + omp_get_thread_num() * per_thread, *B = A + M * K, *C = B + K * N;
            for (int i = 0; i < repeat; i++)
                gemm_f32(ta, tb, M, N, K, A, ta ? M : K, B, tb ? K : N, 0.0f, C, N);
        }
        double rate = 2.0 * (double)(M * N * K) * repeat * threads / (omp_get_wtime() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

/* Bytes read and written per second when all threads copy blocks larger than the caches. */
static double measure_copy(int threads, char *block, int64_t per_thread)
{
    double best = 0;
    for (int round = 0; round < MEASURE_ROUNDS; round++) {
        double start = omp_get_wtime();
#pragma omp parallel num_threads(threads)
        {
            char *from = block + omp_get_thread_num() * per_thread;
            memcpy(from + per_thread / 2, from, (size_t)(per_thread / 2));
        }
        double rate = (double)(per_thread / 2 * 2 * threads) / (omp_get_wtime() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

status device_measure(device *dev, int64_t d, double *gemm_flops_per_s, double *copy_bytes_per_s)
{
    const int64_t products = (4 * d * d + 5 * d * MEASURE_TILE) * (int64_t)sizeof(float);
    const int64_t bytes = products > MEASURE_COPY ? arena_round((size_t)products) : MEASURE_COPY;
    char *block = aligned_alloc(ARENA_ALIGN, (size_t)(bytes * dev->threads));
    if (!block)
        return fail(STATUS_MEMORY,
                    "bench: no memory for %lld MiB to measure with; free some memory",
                    (long long)(bytes * dev->threads >> 20));
    memset(block, 0, (size_t)(bytes * dev->threads));
    float *numbers = (float *)block;
    for (int64_t i = 0; i < bytes * dev->threads / 4; i++)
        numbers[i] = (float)(i % 251) * 0.004f;
    *copy_bytes_per_s = measure_copy(dev->threads, block, bytes);
    *gemm_flops_per_s = 0;
    for (int form = 0; form < 4; form++) {
        double rate = measure_product(dev->threads, form, d, numbers, bytes / 4);
        *gemm_flops_per_s = rate > *gemm_flops_per_s ? rate : *gemm_flops_per_s;
    }
    free(block);
    return STATUS_OK;
}
