/* What hostcuda promises beyond finding faults: warps, limits of launches as a GPU has them, errors
 * made to order and told in one line, memory that runs out, queries that make progress. */
#include "tests/hostcuda/fixture.h"
#include "tests/hostcuda/planted.h"

#define SHARED_PLAIN_BYTES (48 << 10)
#define SHARED_MOST_BYTES (227 << 10)

static void warps(void **state)
{
    (void)state;
    cudaStream_t s = stream_new();
    for (int order = HOSTCUDA_NORMAL; order <= HOSTCUDA_RANDOM; order++) {
        float got[8] = {0}, *y = device_floats(s, 8, got);
        hostcuda_set_order((hostcuda_order)order, 11);
        OK(planted_warp(s, y));
        host_floats(s, 8, got, y);
        const float want[8] = {496, 496, 496, 1, 9, 2, 496, 32};
        assert_memory_equal(got, want, sizeof want);
        OK(CUDA(cudaFree(y)));
    }
    hostcuda_set_order(HOSTCUDA_NORMAL, 1);
    OK(CUDA(cudaStreamDestroy(s)));
}

/* The launch fails and says so; nothing runs. */
static void refused(cudaStream_t s, float *y, unsigned threads, unsigned blocks, size_t shared,
                    const char *why)
{
    float got = 7;
    OK(CUDA(cudaMemcpyAsync(y, &got, sizeof got, cudaMemcpyHostToDevice, s)));
    assert_int_equal(planted_shared(s, threads, blocks, shared, 0, y), STATUS_DEVICE);
    assert_non_null(strstr(failure_last()->text, why));
    assert_non_null(strstr(failure_last()->text, "shared_end: "));
    host_floats(s, 1, &got, y);
    assert_true(got == 7);
    OK(CUDA(cudaGetLastError()));
}

static void limits(void **state)
{
    (void)state;
    cudaStream_t s = stream_new();
    float got = 0, *y = device_floats(s, 1, NULL);
    OK(planted_shared(s, 1024, 2, SHARED_PLAIN_BYTES, 0, y));
    host_floats(s, 1, &got, y);
    assert_true(got == SHARED_PLAIN_BYTES);
    refused(s, y, 1025, 1, 64, "cudaErrorInvalidConfiguration");
    refused(s, y, 0, 1, 64, "cudaErrorInvalidConfiguration");
    refused(s, y, 32, 0, 64, "cudaErrorInvalidConfiguration");
    refused(s, y, 32, 0x80000000u, 64, "cudaErrorInvalidConfiguration");
    refused(s, y, 32, 1, SHARED_PLAIN_BYTES + 4, "cudaErrorInvalidValue");
    assert_int_equal(planted_allow_shared(SHARED_MOST_BYTES + 4), STATUS_DEVICE);
    OK(CUDA(cudaGetLastError())); /* told once */
    OK(planted_allow_shared(SHARED_MOST_BYTES));
    OK(planted_shared(s, 32, 1, SHARED_MOST_BYTES, 0, y));
    host_floats(s, 1, &got, y);
    assert_true(got == SHARED_MOST_BYTES);
    refused(s, y, 32, 1, SHARED_MOST_BYTES + 4, "cudaErrorInvalidValue");
    OK(CUDA(cudaFree(y)));
    OK(CUDA(cudaStreamDestroy(s)));
}

/* Every call of device_open_cuda fails once; each time one line says why, and nothing stays. */
static void opening(void **state)
{
    (void)state;
    static const struct {
        hostcuda_kind kind;
        int nth, code;
        status want;
        const char *words;
    } c[] = {
        {HOSTCUDA_DEVICE, 1, cudaErrorNoDevice, STATUS_DEVICE, "no GPU is visible here"},
        {HOSTCUDA_DEVICE, 1, cudaErrorInsufficientDriver, STATUS_DEVICE, "the driver is older"},
        {HOSTCUDA_DEVICE, 2, cudaErrorInvalidDevice, STATUS_DEVICE, "cudaSetDevice: "},
        {HOSTCUDA_DEVICE, 3, cudaErrorInvalidValue, STATUS_DEVICE, "cudaDeviceGetAttribute: "},
        {HOSTCUDA_STREAM, 1, cudaErrorMemoryAllocation, STATUS_MEMORY, "cudaStreamCreateWithFlags"},
        {HOSTCUDA_MALLOC, 1, cudaErrorMemoryAllocation, STATUS_MEMORY, "cudaMalloc: out of memory"},
        {HOSTCUDA_MALLOC, 2, cudaErrorMemoryAllocation, STATUS_MEMORY, "cudaMallocHost: out of"},
    };
    device *dev;
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        hostcuda_fail(c[i].kind, c[i].nth, c[i].code);
        assert_int_equal(device_open_cuda(0, 1, &dev), c[i].want);
        assert_null(dev);
        if (!strstr(failure_last()->text, c[i].words))
            fail_msg("'%s' is not in: %s", c[i].words, failure_last()->text);
        assert_int_equal(hostcuda_left(), 0);
    }
    assert_int_equal(device_open_cuda(1, 1, &dev), STATUS_DEVICE);
    assert_non_null(strstr(failure_last()->text, "GPU 1: there are 1 GPUs here"));
    hostcuda_set_devices(1, 1 << 20, 7, 5);
    assert_int_equal(device_open_cuda(0, 1, &dev), STATUS_DEVICE);
    assert_non_null(strstr(failure_last()->text, "compute capability 7.5, 8.0 is needed"));
    hostcuda_set_devices(1, (int64_t)4 << 30, 9, 0);
    OK(device_open_cuda(0, 1, &dev));
    device_close(&dev);
    assert_int_equal(hostcuda_left(), 0);
}

/* Each call of the two operations fails once. */
static void operations(void **state)
{
    (void)state;
    static const struct {
        hostcuda_kind kind;
        int nth;
    } c[] = {{HOSTCUDA_LAUNCH, 1}, {HOSTCUDA_LAUNCH, 2}, {HOSTCUDA_COPY, 1}, {HOSTCUDA_WAIT, 1}};
    device *dev;
    OK(device_open_cuda(0, 1, &dev));
    const float host[5] = {1, 2, 3, 4, 5};
    float *x = device_floats(cuda_of(dev)->stream, 5, host);
    double sum = 0;
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        hostcuda_fail(c[i].kind, c[i].nth, cudaErrorLaunchFailure);
        status st = norm_squares(dev, x, 5, &sum, NULL);
        assert_non_null(
            strstr(c[i].kind == HOSTCUDA_LAUNCH ? failure_last()->source : "norm.cu", "norm.cu"));
        if (st == STATUS_OK)
            st = device_wait(dev);
        assert_int_equal(st, STATUS_DEVICE);
        assert_non_null(strstr(failure_last()->text, "cudaErrorLaunchFailure"));
        sum = 0;
        OK(norm_squares(dev, x, 5, &sum, NULL));
        OK(device_wait(dev));
        assert_true(sum == 55);
    }
    hostcuda_fail(HOSTCUDA_LAUNCH, 1, cudaErrorNoKernelImageForDevice);
    assert_int_equal(adamw_update(dev, &(adamw_args){0}, 5, x, x, x, x), STATUS_DEVICE);
    assert_non_null(strstr(failure_last()->text, "adamw_elements: "));
    device_memory_give(dev, x);
    device_close(&dev);
}

static void memory(void **state)
{
    (void)state;
    device *dev;
    size_t available = 0, total = 0;
    void *all, *more;
    hostcuda_set_devices(1, 1 << 26, 9, 0);
    OK(device_open_cuda(0, 1, &dev));
    OK(CUDA(cudaMemGetInfo(&available, &total)));
    assert_int_equal(total, 1 << 26);
    assert_true(available <= total - CUDA_SCRATCH && available > 0);
    OK(device_memory_take(dev, available, &all));
    assert_int_equal(device_memory_take(dev, 1, &more), STATUS_MEMORY);
    assert_null(more);
    device_memory_give(dev, all);
    OK(device_memory_take(dev, available, &all));
    device_memory_give(dev, all);
    device_close(&dev);
    hostcuda_set_devices(1, (int64_t)4 << 30, 9, 0);
}

static void polling(void **state)
{
    (void)state;
    cudaStream_t s = stream_new();
    cudaEvent_t event;
    OK(CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming)));
    OK(CUDA(cudaEventQuery(event))); /* never recorded: done */
    float got[3] = {1, 2, 3}, *x = device_floats(s, 3, NULL);
    OK(CUDA(cudaMemcpyAsync(x, got, sizeof got, cudaMemcpyHostToDevice, s)));
    OK(CUDA(cudaEventRecord(event, s)));
    OK(CUDA(cudaMemsetAsync(x, 0, sizeof got, s)));
    int looks = 0;
    while (cudaEventQuery(event) == cudaErrorNotReady)
        looks++;
    assert_int_equal(looks, 2);
    while (cudaStreamQuery(s) == cudaErrorNotReady)
        looks++;
    assert_int_equal(looks, 3);
    host_floats(s, 3, got, x);
    assert_true(got[2] == 0);
    OK(CUDA(cudaEventDestroy(event)));
    OK(CUDA(cudaFree(x)));
    OK(CUDA(cudaStreamDestroy(s)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(warps),   cmocka_unit_test(limits),
                                       cmocka_unit_test(opening), cmocka_unit_test(operations),
                                       cmocka_unit_test(memory),  cmocka_unit_test(polling)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
