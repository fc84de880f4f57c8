/* ranks: 1
 * What stands beside products on a CPU (test_products): the vector functions against libm in
 * double, and what device_open promises: threads as asked, rates that are rates. */
#include "kernels/cpu/vmath.h"
#include "tests/oracle.h"

static void elementary(void **state)
{
    (void)state;
    double worst_exp = 0, worst_sin = 0, worst_cos = 0, worst_tanh = 0, worst_gelu = 0,
           worst_slope = 0;
    for (int64_t i = -200000; i <= 200000; i++) {
        const float x = (float)i * 4.3e-4f, y = (float)i * 0.0391f, z = (float)i * 5e-5f;
        worst_exp = fmax(worst_exp, fabs((double)v_exp(x) / exp((double)x) - 1));
        worst_sin = fmax(worst_sin, fabs((double)v_sin(y) - sin((double)y)));
        worst_cos = fmax(worst_cos, fabs((double)v_cos(y) - cos((double)y)));
        worst_tanh = fmax(worst_tanh, fabs((double)v_tanh(z) - tanh((double)z)));
        float value, slope;
        v_gelu_both(z, &value, &slope);
        const double want = gelu_oracle((double)z), h = 1e-5;
        const double steep = (gelu_oracle((double)z + h) - gelu_oracle((double)z - h)) / (2 * h);
        assert_true(fabsf(value - v_gelu(z)) <= 1e-6f * fabsf(value) + 1e-30f);
        worst_gelu = fmax(worst_gelu, fabs((double)value - want) / fmax(1, fabs(want)));
        worst_slope = fmax(worst_slope, fabs((double)slope - steep));
    }
    print_message("exp %.1e (relative) sin %.1e cos %.1e tanh %.1e gelu %.1e slope %.1e\n",
                  worst_exp, worst_sin, worst_cos, worst_tanh, worst_gelu, worst_slope);
    assert_true(worst_exp < 2.5e-7);
    assert_true(worst_sin < 1.3e-7);
    assert_true(worst_cos < 1.3e-7);
    assert_true(worst_tanh < 2e-7);
    assert_true(worst_gelu < 2.5e-7);
    assert_true(worst_slope < 6e-7);
    assert_true(isnan(v_exp(NAN)) && isnan(v_gelu(NAN)) && isnan(v_sin(NAN)) && isnan(v_tanh(NAN)));
    assert_true(isfinite(v_exp(1e30f)) && v_exp(-1e30f) >= 0 && v_exp(-1e30f) < 1e-37f);
}

/* log(1 + u) keeps its digits over all of (0, 1]. */
static void log_of_one_and(void **state)
{
    (void)state;
    double worst = 0;
    for (int64_t i = 0; i <= 200000; i++) {
        const float u = i % 2 ? (float)i * 5e-6f : expf((float)-i * 4.3e-4f);
        worst = fmax(worst, fabs((double)v_log1p(u) / log1p((double)u) - 1));
    }
    print_message("log1p %.1e (relative)\n", worst);
    assert_true(worst < 2e-7);
    assert_true(v_log1p(0.0f) == 0.0f && isnan(v_log1p(NAN)));
}

static void opening(void **state)
{
    (void)state;
    device *dev;
    double flops, bytes;
    assert_int_equal(device_open(DEVICE_CPU, -1, &dev), STATUS_USAGE);
    assert_null(dev);
    char why[256] = "";
    if (device_count(why, sizeof why) == 0) {
        assert_int_equal(device_open(DEVICE_CUDA, 1, &dev), STATUS_RESOURCE);
        assert_non_null(strstr(failure_last()->text, why));
        assert_non_null(strstr(why, "--device cpu"));
        OK(device_open(DEVICE_AUTO, 1, &dev));
        assert_int_equal(dev->kind, DEVICE_CPU);
        device_close(&dev);
    }
    OK(device_open(DEVICE_CPU, 0, &dev));
    assert_true(dev->threads >= 1);
    device_close(&dev);
    assert_null(dev);
    OK(device_open(DEVICE_CPU, 2, &dev));
    assert_int_equal(dev->threads, 2);
    OK(device_measure(dev, 64, false, &flops, &bytes));
    print_message("%.0f GF/s, %.1f GB/s\n", flops * 1e-9, bytes * 1e-9);
    assert_true(flops > 1e9 && flops < 1e14);
    assert_true(bytes > 1e8 && bytes < 1e13);
    device_close(&dev);
}

/* A workspace that is too small is an error with one line, not a crash. */
static void short_workspace(void **state)
{
    (void)state;
    bench b;
    bench_device(&b, 1);
    bench_workspace(&b, 64);
    float x[64 * 4] __attribute__((aligned(64))) = {0};
    const mixout_args a = {shape_of(1, 64), 4, x, x, false};
    assert_int_equal(mixout_forward(b.dev, &a, x, x, x, x, &b.ws), STATUS_MEMORY);
    assert_non_null(strstr(failure_last()->text, "mixout: "));
    assert_int_equal(b.ws.used, 0);
    arena_close(&b.ws);
    device_close(&b.dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(elementary),
                                       cmocka_unit_test(log_of_one_and), cmocka_unit_test(opening),
                                       cmocka_unit_test(short_workspace)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
