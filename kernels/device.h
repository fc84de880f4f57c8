/* Where arithmetic runs: a device holds the table of operations of one backend and what that
 * backend needs (threads here, streams and library handles on a GPU). */
#ifndef CROCUTA_KERNELS_DEVICE_H
#define CROCUTA_KERNELS_DEVICE_H

#include "runtime/core/arena.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* AUTO is a request, never a device's kind: a GPU where one can be used, the CPU otherwise. */
typedef enum { DEVICE_CPU, DEVICE_CUDA, DEVICE_AUTO } device_kind;

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
    OP_PIECES,
    OP_KINDS,
} op_kind;

typedef struct check_record check_record;
typedef struct device {
    device_kind kind;
    const ops_table *ops;
    int threads;    /* CPU threads of this rank */
    void *state;    /* the backend's own; NULL too where a device is described and not opened */
    char name[128]; /* "CPU", "NVIDIA H200" */
    char id[64];    /* a GPU's own, the same for all who see it under whatever number; "": none */
    bool described; /* answers what operations cost and has none */
    int ordinal;    /* a GPU's number in this process, and the cudaStream_t on which all of its */
    void *stream;   /* operations are queued; NULL on a CPU. For comm_device_open. */
    double
        op_seconds[OP_KINDS]; /* wall time spent in each operation, forward and backward, so far */
    bool synchronous;         /* every operation is waited for, so that op_seconds are its own */
    bool checked;             /* and what it wrote is looked through (kernels/check.h) */
    check_record *record;     /* where that is written or compared; NULL: nowhere */
    int worker;               /* for messages of that */
    void (*mark)(
        const char *name); /* a range of a profiler begins; NULL: ends. NULL: no profiler */
    void (*tick)(void *context, const char *name,
                 double now_s); /* an operation begins; NULL: nobody is told */
    void *tick_context;
} device;

/* Does the device work in the host's own memory? Then nothing is ever copied. */
static inline bool device_is_host(const device *dev)
{
    return dev->kind == DEVICE_CPU || dev->described;
}

/* "embed", "mixin", ... */
const char *op_name(op_kind kind);

/* Opens a device; threads 0: all cores this process may use. Sets the thread count of the product
 * library and checks one product against a plain loop: on some processors older libraries compute
 * wrong results. */
status device_open(device_kind kind, int threads, device **out);
/* The same; nth: of the GPUs that this process can see, device_open opens the first. */
status device_open_nth(device_kind kind, int nth, int threads, device **out);
/* A device to ask for costs and workspaces: nothing is opened, and no GPU need be there. Its memory
 * is the host's. */
status device_describe(device_kind kind, int threads, device **out);
void device_close(device **dev);

/* GPUs that this process can use. 0: `why` (size bytes, may be NULL) says why, and what to do. */
int device_count(char *why, size_t size);
/* Was the program built with CUDA? */
bool device_built(void);

/* Bytes that may still be taken, and the most that was at once. A CPU's are the machine's free
 * memory and the process's high-water mark. */
typedef struct {
    int64_t available, peak;
} device_room;
status device_room_of(device *dev, device_room *out);

/* Memory that the device's operations work on: the host's own for a CPU. Taken before steps begin,
 * never inside one; not zeroed; aligned to ARENA_ALIGN at least. */
status device_memory_take(device *dev, size_t bytes, void **out);
void device_memory_give(device *dev, void *memory);
/* Host -> device, in the order of the operations; `from` stays as it is until the next wait. From
 * device_host_take's memory the copy is only queued; from other memory it may wait for all before
 * it. */
status device_upload(device *dev, void *to, const void *from, size_t bytes);
/* Returns when what was uploaded has been read, whatever else is queued behind it. */
status device_upload_wait(device *dev);
/* Device -> host; everything queued before it has run when it returns. */
status device_download(device *dev, void *to, const void *from, size_t bytes);
/* Returns when everything queued has run, with the first error of it. */
status device_wait(device *dev);

/* What is queued between begin and end is recorded in a graph and does not run; later the whole
 * graph is queued at once, any number of times: with the pointers and numbers of the recording,
 * whatever the memory holds by then. Only operations that have run before with these very
 * arguments may be in it, and nothing that waits or goes between host and device but losses. A
 * recording that did not work out leaves the device as it was. `gone`: transforms that it needs
 * were thrown out; record it again. Where device_graphs is false there are none. */
typedef struct device_graph device_graph;
bool device_graphs(const device *dev);
status device_graph_begin(device *dev);
status device_graph_end(device *dev, device_graph **out);
/* A loss that the recording sent to `recorded` goes to `loss`. */
status device_graph_run(device *dev, device_graph *g, const void *recorded, void *loss);
bool device_graph_gone(const device *dev, const device_graph *g);
void device_graph_free(device *dev, device_graph **g);

/* Memory of the host that the device copies from and to at full speed. NULL stays NULL. */
status device_host_take(device *dev, size_t bytes, void **out);
void device_host_give(device *dev, void *memory);

/* The host's sight of device memory: the memory itself on a CPU, a copy elsewhere. `read` fills it,
 * which waits; closing it with `write` puts it back, which waits as well. `st` goes through
 * device_view_close: where it is an error, nothing is written and it is returned. Closing what was
 * never opened (all zeros) is fine. */
typedef struct {
    device *dev;
    void *on, *host;
    size_t bytes;
} device_view;
status device_view_open(device *dev, const void *on, size_t bytes, bool read, device_view *v);
status device_view_close(device_view *v, bool write, status st);

/* Before memory goes that queued work may still read or write: returns when nothing is queued any
 * more. Losses still arrive with the next wait, which tells an error too; the failure on record
 * stays. */
void device_drain(device *dev);
/* The same on the way out, perhaps of an error: who waits for losses may be gone, and they are
 * dropped. dev may be NULL. */
void device_abandon(device *dev);

/* Zeros, and a copy within the device, both in the order of the operations. */
status device_clear(device *dev, void *at, size_t bytes);
status device_copy(device *dev, void *to, const void *from, size_t bytes);
/* An arena (runtime/core/arena.h) whose block is the device's memory, zeroed. arena_take, _mark and
 * _release serve it; only the device's operations may look inside. Closing a closed one is fine. */
status device_arena_open(device *dev, arena *a, const char *name, size_t size);
void device_arena_close(device *dev, arena *a);

/* Measured in this process, for the floor that `bench` divides by: products (FLOP/s, best of the
 * model's shapes at this width) and copy bandwidth (bytes read + written, per second). mixed:
 * of products in bf16, where the device has them. */
status device_measure(device *dev, int64_t d, bool mixed, double *gemm_flops_per_s,
                      double *copy_bytes_per_s);

#endif
