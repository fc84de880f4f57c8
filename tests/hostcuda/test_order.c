/* The operations give the same bits in every order of blocks and threads and under every schedule
 * of the streams. */
#include "tests/hostcuda/fixture.h"

#define N 20011

static void same_bits(void **state)
{
    (void)state;
    buffers all = {0};
    rng r = rng_at(1, RNG_TEST, 7, 0);
    tensor x[4];
    for (int i = 0; i < 4; i++)
        x[i] = tensor_random(&all, &r, N, 0.1);
    for (int64_t i = 0; i < N; i++)
        x[3].f[i] = fabsf(x[3].f[i]);
    float *first = buffer_floats(&all, 3 * N), *got = buffer_floats(&all, 3 * N);
    double first_sum = 0;
    for (int variant = 0; variant < 9; variant++) {
        hostcuda_set_order((hostcuda_order)(variant % 3), 17 + (uint64_t)variant);
        hostcuda_set_schedule((hostcuda_schedule)(variant / 3), 19);
        const adamw_args a = {
            .lr = 1e-3, .b1 = 0.9, .b2 = 0.999, .eps = 1e-8, .decay = 0.1, .scale = 0.5, .step = 3};
        device *dev;
        double sum = 0;
        float *on[4];
        OK(device_open_cuda(0, 1, &dev));
        for (int i = 0; i < 4; i++)
            on[i] = device_floats(cuda_of(dev)->stream, N, x[i].f);
        OK(adamw_update(dev, &a, N, on[0], on[1], on[2], on[3]));
        OK(norm_squares(dev, on[0], N, &sum, NULL));
        const int out[] = {0, 2, 3};
        for (int i = 0; i < 3; i++)
            OK(device_download(dev, got + i * N, on[out[i]], N * sizeof(float)));
        for (int i = 0; i < 4; i++)
            device_memory_give(dev, on[i]);
        device_close(&dev);
        if (variant == 0) {
            memcpy(first, got, 3 * N * sizeof(float));
            first_sum = sum;
        }
        assert_true(sum > 0 && sum == first_sum);
        assert_memory_equal(got, first, 3 * N * sizeof(float));
    }
    buffers_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
