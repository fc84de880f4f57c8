/* ranks: 1   on: cuda
 * filter: k and every gradient against a naive evaluation in double and its central differences:
 * chunks of channels, L below l_max, odd encodings, strides; sums over 2^17 positions to 1e-5; the
 * same bits for any number of threads. */
#include "tests/filter_oracle.h"

/* Fibers in the place of a GPU's threads are slow. */
#ifdef TEST_HOSTCUDA
#define LONG_L (1 << 12)
#else
#define LONG_L (1 << 17)
#endif
/* A GPU's threads are not ours to choose: twice the same there. */
#ifdef TEST_CUDA
#define RUNS 2
#else
#define RUNS 3
#endif

#ifndef TEST_CUDA /* the oracle was checked on the CPU */
static double objective_of(void *context)
{
    return filter_oracle(context, false);
}

/* The oracle's own gradients against its central differences. */
static void expect_oracle(filter_case *q)
{
    for (int p = 0; p < FILTER_PARTS; p++) {
        double *want = differences(objective_of, q, q->w[p].d, q->w[p].n, 1 + q->w[p].n / 40);
        double scale = 1e-8;
        for (int64_t i = 0; i < q->w[p].n; i++)
            scale = fmax(scale, fabs(q->grad[p][i]));
        for (int64_t i = 0; i < q->w[p].n; i++)
            if (!isnan(want[i]) && !(fabs(want[i] - q->grad[p][i]) < 1e-5 * scale))
                fail_msg("oracle: gradient of %s[%lld]: %.9g, difference %.9g", filter_part_name[p],
                         (long long)i, q->grad[p][i], want[i]);
        free(want);
    }
}

#endif

static void one_shape(filter_args a)
{
    buffers all = {0};
    filter_case q;
    filter_case_make(&q, &all, a, 0.1);
    filter_oracle(&q, true);
#ifndef TEST_CUDA
    expect_oracle(&q);
    filter_oracle(&q, false); /* k again: the differences left it at other weights */
#endif
    filter_results first = {0};
    for (int threads = 1; threads <= RUNS; threads++) {
        filter_results o = filter_run(&q, threads, 0.25f, &all);
        filter_expect(&q, &o, 0.25f, 1e-5, 1e-5, false);
        if (threads == 1) {
            first = o;
            continue;
        }
        for (int64_t c = 0; c < a.dc; c++)
            assert_memory_equal(o.k + c * q.k_stride, first.k + c * q.k_stride,
                                (size_t)a.L * sizeof(float));
        for (int p = 0; p < FILTER_PARTS; p++)
            assert_memory_equal(o.grad[p], first.grad[p], (size_t)q.w[p].n * sizeof(float));
    }
    filter_case_free(&q);
    buffers_close(&all);
}

static void shapes(void **state)
{
    (void)state;
    one_shape((filter_args){.channels = 10,
                            .c0 = 3,
                            .dc = 5,
                            .F = 16,
                            .emb = 5,
                            .l_max = 300,
                            .L = 131,
                            .shift = 0.05});
    one_shape((filter_args){.channels = 4, .dc = 4, .F = 7, .emb = 3, .l_max = 900, .L = 898});
    one_shape((filter_args){.channels = 2,
                            .c0 = 1,
                            .dc = 1,
                            .F = 8,
                            .emb = 9,
                            .l_max = 1601,
                            .L = 1601,
                            .shift = 0.05});
    one_shape((filter_args){.channels = 1, .dc = 1, .F = 5, .emb = 5, .l_max = 3, .L = 1});
    one_shape((filter_args){.channels = 130, .dc = 130, .F = 6, .emb = 5, .l_max = 66, .L = 64});
}

/* L, width and encoding of the published models; the chunk is a slice of the channels. */
static void long_sums(void **state)
{
    (void)state;
    buffers all = {0};
    filter_case q;
    filter_case_make(&q, &all,
                     (filter_args){.channels = 256,
                                   .c0 = 100,
                                   .dc = 6,
                                   .F = 64,
                                   .emb = 5,
                                   .l_max = 1000002,
                                   .L = LONG_L,
                                   .shift = 0.05},
                     0.05);
    filter_oracle(&q, true);
    filter_results o = filter_run(&q, 2, 0.0f, &all);
    filter_expect(&q, &o, 0.0f, 1e-5, 1e-5, true);
    for (int64_t i = 0; i < q.w[FW6].n; i++) /* other channels' gradients are not touched */
        if (i / 64 < 100 || i / 64 >= 106)
            assert_true(o.grad[FW6][i] == 0.0f);
    filter_case_free(&q);
    buffers_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes), cmocka_unit_test(long_sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
