/* The two rates that make up the floor of `bench`: products of the model's shapes, and copies. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

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

status measure_cpu(device *dev, int64_t d, bool mixed, double *gemm_flops_per_s,
                   double *copy_bytes_per_s)
{
    (void)mixed; /* a CPU has fp32 alone */
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
