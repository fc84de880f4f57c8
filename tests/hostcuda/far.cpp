/* HOSTCUDA_FAR: operations of the CUDA device that are computed by the CPU's code, still queued on
 * the stream and still in device memory. All of them, or those whose names begin with one of a
 * list (HOSTCUDA_FAR=conv,filter): what the program does around operations is then tested a hundred
 * times as fast, and a kernel that is suspected can be taken out. What a run says must be the CPU's
 * to the last bit. */
#include "tests/hostcuda/core.h"

extern "C" {
#include "kernels/cuda/cuda.h"
#include "kernels/gpu.h"
extern const gpu_backend crocuta_gpu_backend;
extern const gpu_backend hostcuda_gpu_backend;
}

#include <cstdlib>
#include <cstring>
#include <memory>
#include <tuple>

namespace
{

device *cpu; /* computes; opened with the first device that needs it */

bool listed(const char *name)
{
    const char *list = getenv("HOSTCUDA_FAR");
    for (const char *at = list; at && *at;) {
        const size_t n = strcspn(at, ",");
        if (n && (!strncmp(at, "all", n) || !strncmp(at, name, n)))
            return true;
        at += n + (at[n] == ',');
    }
    return false;
}

/* Arguments are copied when the operation is queued: a structure behind a pointer, and the arrays
 * of pointers that embed_backward has. The workspace is what is free at this moment; what an
 * operation that runs later takes of it is the same. */
template <typename T> struct kept {
    T value;
    explicit kept(T v) : value(v)
    {
    }
    T get(void)
    {
        return value;
    }
};
template <typename T> struct kept_structure {
    T value;
    explicit kept_structure(const T *v) : value(*v)
    {
    }
    const T *get(void)
    {
        return &value;
    }
};
#define KEPT(type)                                                                                 \
    template <> struct kept<const type *> : kept_structure<type> {                                 \
        using kept_structure<type>::kept_structure;                                                \
    }
KEPT(embed_args);
KEPT(mixin_args);
KEPT(mixin_grads);
KEPT(filter_args);
KEPT(filter_grads);
KEPT(conv_args);
KEPT(mixout_args);
KEPT(mlp_args);
KEPT(mlp_grads);
KEPT(head_args);
KEPT(classify_args);
KEPT(classify_grads);
KEPT(ranges_args);
KEPT(sites_args);
KEPT(sites_grads);
KEPT(adamw_args);
KEPT(rows_adam_args);
template <> struct kept<float *const *> {
    float *value[EMBED_LEVELS];
    explicit kept(float *const *v)
    {
        for (int i = 0; i < EMBED_LEVELS; i++)
            value[i] = v ? v[i] : nullptr;
    }
    float *const *get(void)
    {
        return value;
    }
};
template <> struct kept<arena *> {
    arena value;
    arena *of;
    explicit kept(arena *v) : value(v ? *v : arena{}), of(v)
    {
    }
    ~kept() /* closing an arena waits: it is still there */
    {
        if (of && value.high > of->high)
            of->high = value.high;
    }
    arena *get(void)
    {
        return of ? &value : nullptr;
    }
};

status queued(const char *name, device *dev, std::function<status()> work)
{
    hostcuda::enqueue(cuda_of(dev)->stream, name, [name, work] {
        if (work() != STATUS_OK)
            hostcuda::fault("%s: %s", name, failure_last()->text);
    });
    return STATUS_OK;
}

template <typename... P, typename... A>
status later(const char *name, status (*op)(device *, P...), device *dev, A... given)
{
    auto all = std::make_shared<std::tuple<kept<P>...>>(kept<P>(given)...);
    return queued(name, dev, [op, all] {
        return std::apply([op](auto &...each) { return op(cpu, each.get()...); }, *all);
    });
}

/* One function an entry, of the entry's own type. */
template <auto entry, bool waits> struct far_op;
template <typename... P, status (*ops_table::*entry)(device *, P...), bool waits>
struct far_op<entry, waits> {
    static status run(device *dev, P... given)
    {
        TRY(later("an operation of the CPU", ops_cpu.*entry, dev, given...));
        return waits ? device_wait(dev) : STATUS_OK;
    }
};

ops_table table;

#define FAR(name, waits)                                                                           \
    do {                                                                                           \
        if (!table.name || listed(#name))                                                          \
            table.name = far_op<&ops_table::name, waits>::run;                                     \
    } while (0)
#define SIZE(name)                                                                                 \
    do {                                                                                           \
        if (!table.name##_workspace || listed(#name))                                              \
            table.name##_workspace = ops_cpu.name##_workspace;                                     \
    } while (0)

/* The CPU's code writes a loss where it was told to when it was queued: no graph could say where.
 */
bool no_graphs(const device *, const device_graph *)
{
    return true;
}

bool table_fill(void)
{
    table = ops_cuda;
    if (getenv("HOSTCUDA_FAR"))
        table.graph_gone = no_graphs;
    SIZE(embed);
    SIZE(mixin);
    SIZE(filter);
    SIZE(conv);
    SIZE(mixout);
    SIZE(mlp);
    SIZE(head);
    SIZE(classify);
    SIZE(sites);
    SIZE(rows_reduce);
    FAR(embed_forward, false);
    FAR(embed_backward, false);
    FAR(mixin_forward, false);
    FAR(mixin_regate, false);
    FAR(mixin_backward, false);
    FAR(filter_forward, false);
    FAR(filter_backward, false);
    FAR(conv_forward, false);
    FAR(conv_backward, false);
    FAR(mixout_forward, false);
    FAR(mixout_backward, false);
    FAR(mlp_forward, false);
    FAR(mlp_backward, false);
    FAR(head_forward, false);
    FAR(head_backward, false);
    FAR(classify_forward, false);
    FAR(classify_backward, false);
    FAR(ranges_forward, false);
    FAR(sites_forward, false);
    FAR(sites_backward, false);
    FAR(norm_squares, false);
    FAR(adamw_update, false);
    FAR(rows_reduce, false);
    FAR(rows_gather, false);
    FAR(rows_adam, false);
    FAR(rows_catch_up, false);
    if (!table.conv_points || listed("conv"))
        table.conv_points = ops_cpu.conv_points;
    return true;
}

/* Before main: the program looks at the table before it opens a device. */
const bool filled = table_fill();

void close_cpu(void)
{
    device_close(&cpu);
}

status prepare(int threads)
{
    if (cpu)
        return STATUS_OK;
    TRY(device_open(DEVICE_CPU, threads, &cpu));
    atexit(close_cpu);
    return STATUS_OK;
}

status open_far(int ordinal, int threads, device **out)
{
    TRY(prepare(threads));
    TRY(device_open_cuda(ordinal, threads, out));
    (*out)->ops = &table;
    return STATUS_OK;
}

int count_far(char *why, size_t size)
{
    return crocuta_gpu_backend.count(why, size);
}

} // namespace

const gpu_backend hostcuda_gpu_backend = {&table, count_far, open_far};
