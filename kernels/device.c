/* Opening a device: threads, the check of the product library, which GPU. */
#include "kernels/device.h"

#include "kernels/cpu/gemm.h"
#include "kernels/gpu.h"
#include "kernels/ops.h"

#include <omp.h>
#include <stdlib.h>

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
    d->ops.upload_wait = ops_cpu.upload_wait;
    d->ops.download = ops_cpu.download;
    d->ops.wait = ops_cpu.wait;
    d->ops.drain = ops_cpu.drain;
    d->ops.clear = ops_cpu.clear;
    d->ops.copy = ops_cpu.copy;
    d->ops.room = ops_cpu.room;
    d->ops.measure = ops_cpu.measure;
    d->dev = (device){.kind = gpu ? DEVICE_CUDA : DEVICE_CPU,
                      .ops = &d->ops,
                      .threads = threads,
                      .name = "description",
                      .described = true};
    *out = &d->dev;
    return STATUS_OK;
}
