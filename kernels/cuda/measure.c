/* The two rates that make up the floor of `bench`, on a GPU: the product that is most of the
 * model's work (a layer's fc1 over many columns) and a copy, each repeated until a burst of them
 * takes long enough for the host's clock. */
#include "kernels/cuda/gemm.h"
#include "runtime/core/log.h"

#define COLUMNS ((int64_t)1 << 15)    /* of a product: enough for every SM */
#define COPY_BYTES ((size_t)64 << 20) /* beyond the caches */
#define LONG_ENOUGH 2e-3              /* s */
#define REPEAT_MOST 4096
#define ROUNDS 3

typedef struct {
    device *dev;
    int64_t d, columns;
    bool mixed;       /* A and B are bf16, and so is C */
    float *A, *B, *C; /* (4 d, d), (d, columns), (4 d, columns) */
} burst;

static status product(const burst *b)
{
    if (b->mixed)
        return gemm_mixed_cuda(b->dev, false, false, 4 * b->d, b->columns, b->d, b->A, b->d, b->B,
                               b->columns, 0, b->C, b->columns, true);
    return gemm_cuda(b->dev, false, false, 4 * b->d, b->columns, b->d, b->A, b->d, b->B, b->columns,
                     0, b->C, b->columns);
}

static status copy(const burst *b)
{
    return copy_cuda(b->dev, (char *)b->C + COPY_BYTES, b->C, COPY_BYTES);
}

/* Seconds of one call, the best of some bursts. */
static status time_of(const burst *b, status (*call)(const burst *), double *seconds)
{
    int64_t repeat = 1;
    *seconds = 1e30;
    for (int round = 0; round < ROUNDS;) {
        TRY(device_wait_cuda(b->dev));
        const double start_s = clock_monotonic_s();
        for (int64_t i = 0; i < repeat; i++)
            TRY(call(b));
        TRY(device_wait_cuda(b->dev));
        const double took_s = clock_monotonic_s() - start_s;
        if (took_s < LONG_ENOUGH && repeat < REPEAT_MOST) {
            repeat *= 2;
            continue;
        }
        if (took_s / (double)repeat < *seconds)
            *seconds = took_s / (double)repeat;
        round++;
    }
    return STATUS_OK;
}

status measure_cuda(device *dev, int64_t d, bool mixed, double *gemm_flops_per_s,
                    double *copy_bytes_per_s)
{
    const size_t f = sizeof(float), a = arena_round((size_t)(4 * d * d) * f);
    burst b = {.dev = dev, .d = d, .columns = COLUMNS, .mixed = mixed};
    size_t c = (size_t)(4 * d * b.columns) * f;
    c = c > 2 * COPY_BYTES ? c : 2 * COPY_BYTES;
    const size_t all = a + arena_round((size_t)(d * b.columns) * f) + c;
    void *memory = NULL;
    double product_s = 0, copy_s = 0;
    TRY(memory_take_cuda(dev, all, &memory));
    b.A = memory;
    b.B = (float *)(void *)((char *)memory + a);
    b.C = (float *)(void *)((char *)memory + all - c);
    status st;
    TRY_GOTO(done, clear_cuda(dev, memory, all));
    TRY_GOTO(done, time_of(&b, product, &product_s));
    TRY_GOTO(done, time_of(&b, copy, &copy_s));
    *gemm_flops_per_s = 8.0 * (double)(d * d) * (double)b.columns / product_s;
    *copy_bytes_per_s = 2.0 * (double)COPY_BYTES / copy_s;
done:
    memory_give_cuda(dev, memory);
    return st;
}
