/* A CPU device's memory is the host's own: taken and given back, copied in place of a transfer, and
 * never waited for. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/fft.h"

#include "runtime/core/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

void device_close_cpu(device *dev)
{
    fft_plans_free(&dev->state);
}

status memory_take_cpu(device *dev, size_t bytes, void **out)
{
    (void)dev;
    *out = aligned_alloc(ARENA_ALIGN, arena_round(bytes ? bytes : 1));
    if (!*out)
        return fail(STATUS_MEMORY,
                    "memory: no memory for %zu bytes; lower train.micro_batch or use more workers",
                    bytes);
    return STATUS_OK;
}

void memory_give_cpu(device *dev, void *memory)
{
    (void)dev;
    free(memory);
}

status copy_cpu(device *dev, void *to, const void *from, size_t bytes)
{
    (void)dev;
    if (bytes && to != from)
        memcpy(to, from, bytes);
    return STATUS_OK;
}

status clear_cpu(device *dev, void *at, size_t bytes)
{
    (void)dev;
    if (bytes)
        memset(at, 0, bytes);
    return STATUS_OK;
}

status device_wait_cpu(device *dev)
{
    (void)dev;
    return STATUS_OK;
}

void drain_cpu(device *dev, bool abandon)
{
    (void)dev;
    (void)abandon;
}

status room_cpu(device *dev, device_room *out)
{
    (void)dev;
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    *out = (device_room){.available = memory_available(), .peak = (int64_t)use.ru_maxrss * 1024};
    return STATUS_OK;
}
