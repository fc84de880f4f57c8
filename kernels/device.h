/* Where arithmetic runs: a device holds the table of operations of one backend and what that
 * backend needs (threads here, streams and library handles on a GPU). */
#ifndef CROCUTA_KERNELS_DEVICE_H
#define CROCUTA_KERNELS_DEVICE_H

#include "runtime/core/arena.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { DEVICE_CPU, DEVICE_CUDA } device_kind;

typedef struct ops_table ops_table;

/* Operations by name, for the time that each takes. */
typedef enum {
    OP_EMBED,
    OP_MIXIN,
    OP_FILTER,
    OP_CONV,
    OP_MIXOUT,
    OP_MLP,
    OP_HEAD,
    OP_CLASSIFY,
    OP_RANGES,
    OP_SITES,
    OP_OPTIMIZER,
    OP_ROWS,
    OP_KINDS,
} op_kind;

typedef struct device {
    device_kind kind;
    const ops_table *ops;
    int threads; /* CPU threads of this rank */
    void *state; /* the backend's own */
    double
        op_seconds[OP_KINDS]; /* wall time spent in each operation, forward and backward, so far */
} device;

/* "embed", "mixin", ... */
const char *op_name(op_kind kind);

/* Opens a device; threads 0: all cores this process may use. Sets the thread count of the product
 * library and checks one product against a plain loop: on some processors older libraries compute
 * wrong results. */
status device_open(device_kind kind, int threads, device **out);
void device_close(device **dev);

/* Memory that the device's operations work on: the host's own for a CPU. Taken before steps begin,
 * never inside one; not zeroed; aligned to ARENA_ALIGN at least. */
status device_memory_take(device *dev, size_t bytes, void **out);
void device_memory_give(device *dev, void *memory);
/* Host -> device, in the order of the operations; `from` stays as it is until the next wait. */
status device_upload(device *dev, void *to, const void *from, size_t bytes);
/* Device -> host; everything queued before it has run when it returns. */
status device_download(device *dev, void *to, const void *from, size_t bytes);
/* Returns when everything queued has run, with the first error of it. */
status device_wait(device *dev);

/* Zeros, and a copy within the device, both in the order of the operations. */
status device_clear(device *dev, void *at, size_t bytes);
status device_copy(device *dev, void *to, const void *from, size_t bytes);
/* An arena (runtime/core/arena.h) whose block is the device's memory, zeroed. arena_take, _mark and
 * _release serve it; only the device's operations may look inside. Closing a closed one is fine. */
status device_arena_open(device *dev, arena *a, const char *name, size_t size);
void device_arena_close(device *dev, arena *a);

/* Measured in this process, for the floor that `bench` divides by: products (FLOP/s, best of the
 * model's shapes at this width) and copy bandwidth (bytes read + written, per second). */
status device_measure(device *dev, int64_t d, double *gemm_flops_per_s, double *copy_bytes_per_s);

#endif
