/* ranks: 1   on: cuda
 * norm_squares: against sums in long double; the same bits for any number of threads; NaN and
 * infinity come through. */
#include "tests/oracle.h"

static double norm_of(buffers *all, const float *x, int64_t n, int threads)
{
    bench b;
    double sum = NAN;
    bench_device(&b, threads);
    bench_workspace(&b, 64);
    OK(norm_squares(b.dev, bench_on(&b, all, x), n, &sum, &b.ws));
    bench_back(&b);
    bench_forget(&b);
    assert_int_equal(b.ws.used, 0);
    device_arena_close(b.dev, &b.ws);
    device_close(&b.dev);
    return sum;
}

static void lengths(void **state)
{
    (void)state;
    const int64_t n[] = {0, 1, 7, 4095, 4096, 4097, 12289, 1048576, 3000001};
    for (size_t i = 0; i < sizeof n / sizeof n[0]; i++) {
        buffers all = {0};
        rng r = rng_at(1, RNG_TEST, (uint64_t)n[i], 0);
        float *x = buffer_floats(&all, n[i]);
        long double want = 0;
        for (int64_t j = 0; j < n[i]; j++) {
            x[j] = (float)(rng_normal(&r) * (j % 3 ? 1e-3 : 1e3));
            want += (long double)x[j] * (long double)x[j];
        }
        const double one = norm_of(&all, x, n[i], 1);
        assert_true(fabsl((long double)one - want) <= 1e-12L * want);
        for (int threads = 2; threads <= 5; threads++)
            assert_true(one == norm_of(&all, x, n[i], threads));
        buffers_close(&all);
    }
}

static void not_numbers(void **state)
{
    (void)state;
    buffers all = {0};
    const int64_t n = 100000;
    float *x = buffer_floats(&all, n);
    for (int64_t i = 0; i < n; i++)
        x[i] = 1e30f; /* its square is beyond fp32 */
    assert_true(fabs(norm_of(&all, x, n, 2) / ((double)x[0] * (double)x[0] * (double)n) - 1) <
                1e-12);
    x[n - 1] = INFINITY;
    assert_true(isinf(norm_of(&all, x, n, 2)));
    x[50000] = NAN;
    assert_true(isnan(norm_of(&all, x, n, 2)));
    buffers_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lengths), cmocka_unit_test(not_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
