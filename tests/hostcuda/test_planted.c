/* Faults that hostcuda is there for, planted one by one, and each must be found; beside it the same
 * without the fault, which must pass. */
#include "tests/hostcuda/fixture.h"
#include "tests/hostcuda/planted.h"

#include <signal.h>

#define N 100 /* floats: 400 bytes, so that the allocation ends inside of a page */

#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#else
#define ASAN 0
#endif

static float *numbers(cudaStream_t s, int64_t n)
{
    float host[1024];
    for (int64_t i = 0; i < n; i++)
        host[i] = (float)i;
    return device_floats(s, n, host);
}

/* ---- out of bounds */

static void shift(int past)
{
    cudaStream_t s = stream_new();
    float *x = numbers(s, N), *y = device_floats(s, N, NULL);
    OK(planted_shift(s, N - (past == 0), past, x, y));
    OK(CUDA(cudaStreamSynchronize(s)));
    OK(CUDA(cudaFree(x)));
    OK(CUDA(cudaFree(y)));
    OK(CUDA(cudaStreamDestroy(s)));
}

static void shift_none(void)
{
    shift(0);
}

static void shift_one(void)
{
    shift(1);
}

static void shift_before(void)
{
    shift(-1);
}

static void shift_far(void)
{
    shift(10000);
}

static void out_of_bounds(void **state)
{
    (void)state;
    expect_end(shift_none, 0, 0, WORDS(""));
    if (ASAN) { /* nearer than a page only ASan sees it */
        expect_end(shift_one, 0, 1, WORDS("use-after-poison", "kernel shift, block (3,0,0)"));
        expect_end(shift_before, 0, 1, WORDS("use-after-poison", "kernel shift, block (0,0,0)"));
    }
    expect_end(shift_far, SIGABRT, 0,
               WORDS("hostcuda: kernel shift, block (0,0,0), thread (0,0,0): access to ",
                     "past the end of a device allocation of 400 bytes"));
}

static void after_free(void)
{
    cudaStream_t s = stream_new();
    float *x = numbers(s, N), *y = device_floats(s, N, NULL);
    OK(CUDA(cudaFree(x)));
    OK(planted_shift(s, N, 0, x, y));
    OK(CUDA(cudaStreamSynchronize(s)));
}

static void free_twice(void)
{
    cudaStream_t s = stream_new();
    float *x = numbers(s, N);
    OK(CUDA(cudaFree(x)));
    cudaFree(x);
}

static void freed(void **state)
{
    (void)state;
    expect_end(after_free, SIGABRT, 0, WORDS("a device allocation of 400 bytes that was freed"));
    expect_end(free_twice, SIGABRT, 0, WORDS("hostcuda: cudaFree of what is no allocation"));
}

static void shared_by(size_t bytes)
{
    cudaStream_t s = stream_new();
    float *y = device_floats(s, 1, NULL);
    OK(planted_shared(s, 32, 1, bytes, 1, y));
    OK(CUDA(cudaStreamSynchronize(s)));
}

static void shared_past(void)
{
    shared_by(1024);
}

static void shared_just_past(void)
{
    shared_by(1020);
}

static void shared_out_of_bounds(void **state)
{
    (void)state;
    expect_end(shared_past, SIGABRT, 0,
               WORDS("kernel shared_end", "access past the end of the block's shared memory"));
    if (ASAN)
        expect_end(shared_just_past, 0, 1, WORDS("AddressSanitizer", "kernel shared_end"));
}

/* ---- barriers */

/* Elements of the flipped array that are right. */
static int flipped(bool barrier, hostcuda_order order)
{
    cudaStream_t s = stream_new();
    float *x = numbers(s, 64), *y = device_floats(s, 64, NULL), got[64];
    hostcuda_set_order(order, 5);
    OK(planted_flip(s, 64, barrier, x, y));
    host_floats(s, 64, got, y);
    hostcuda_set_order(HOSTCUDA_NORMAL, 1);
    OK(CUDA(cudaFree(x)));
    OK(CUDA(cudaFree(y)));
    OK(CUDA(cudaStreamDestroy(s)));
    int right = 0;
    for (int i = 0; i < 64; i++)
        right += got[i] == (float)(63 - i);
    return right;
}

static void missing_barrier(void **state)
{
    (void)state;
    for (int order = HOSTCUDA_NORMAL; order <= HOSTCUDA_RANDOM; order++) {
        assert_int_equal(flipped(true, (hostcuda_order)order), 64);
        assert_true(flipped(false, (hostcuda_order)order) < 64);
    }
}

static void diverge(int which)
{
    cudaStream_t s = stream_new();
    float *y = device_floats(s, 64, NULL);
    OK(planted_divergence(s, which, y));
    OK(CUDA(cudaStreamSynchronize(s)));
    OK(CUDA(cudaFree(y)));
    OK(CUDA(cudaStreamDestroy(s)));
}

static void ended(void)
{
    diverge(0);
}

static void elsewhere(void)
{
    diverge(1);
}

static void lanes(void)
{
    diverge(2);
}

static void together(void)
{
    diverge(3);
}

static void divergence(void **state)
{
    (void)state;
    expect_end(ended, SIGABRT, 0,
               WORDS("hostcuda: kernel divergence, block (0,0,0)", "barriers diverge",
                     "thread (40,0,0) has ended"));
    expect_end(elsewhere, SIGABRT, 0, WORDS("barriers diverge", "thread (40,0,0) waits at"));
    expect_end(lanes, SIGABRT, 0, WORDS("lanes that never come", "for lanes of its warp"));
    expect_end(together, 0, 0, WORDS(""));
}

/* ---- orders that CUDA does not promise */

static bool summed(bool barrier, hostcuda_order order)
{
    cudaStream_t s = stream_new();
    float *y = device_floats(s, 2, NULL), got[2];
    hostcuda_set_order(order, 5);
    OK(planted_sums(s, barrier, y));
    host_floats(s, 2, got, y);
    hostcuda_set_order(HOSTCUDA_NORMAL, 1);
    OK(CUDA(cudaFree(y)));
    OK(CUDA(cudaStreamDestroy(s)));
    return got[0] == 64 && got[1] == 128;
}

/* One warp reads what another, a barrier ahead, has written over. */
static void a_warp_runs_ahead(void **state)
{
    (void)state;
    for (int order = HOSTCUDA_NORMAL; order <= HOSTCUDA_RANDOM; order++)
        assert_true(summed(true, (hostcuda_order)order));
    assert_false(summed(false, HOSTCUDA_REVERSE));
}

static bool chained(hostcuda_order order)
{
    cudaStream_t s = stream_new();
    float *y = device_floats(s, 16, NULL), got[16];
    hostcuda_set_order(order, 1);
    OK(planted_chain(s, 16, y));
    host_floats(s, 16, got, y);
    hostcuda_set_order(HOSTCUDA_NORMAL, 1);
    OK(CUDA(cudaFree(y)));
    OK(CUDA(cudaStreamDestroy(s)));
    bool right = true;
    for (int i = 0; i < 16; i++)
        right &= got[i] == (float)i;
    return right;
}

static void order_of_blocks(void **state)
{
    (void)state;
    assert_true(chained(HOSTCUDA_NORMAL));
    assert_false(chained(HOSTCUDA_REVERSE));
    assert_false(chained(HOSTCUDA_RANDOM));
}

/* Two streams: `first` writes z = x, `second` writes y = z; then x is overwritten by `third`. */
static bool in_order(hostcuda_schedule schedule, bool read_event, bool write_event)
{
    cudaStream_t first = stream_new(), second = stream_new();
    cudaEvent_t written, taken;
    OK(CUDA(cudaEventCreateWithFlags(&written, cudaEventDisableTiming)));
    OK(CUDA(cudaEventCreateWithFlags(&taken, cudaEventDisableTiming)));
    float *x = numbers(first, N), *y = device_floats(first, N, NULL),
          *z = device_floats(first, N, NULL), got[N];
    hostcuda_set_schedule(schedule, 3);
    OK(planted_shift(first, N, 0, x, z));
    OK(CUDA(cudaEventRecord(written, first)));
    if (read_event)
        OK(CUDA(cudaStreamWaitEvent(second, written, 0)));
    OK(planted_shift(second, N, 0, z, y));
    OK(CUDA(cudaEventRecord(taken, second)));
    if (write_event)
        OK(CUDA(cudaStreamWaitEvent(first, taken, 0)));
    OK(CUDA(cudaMemsetAsync(z, 0, N * sizeof(float), first)));
    OK(CUDA(cudaStreamSynchronize(second)));
    host_floats(second, N, got, y);
    OK(CUDA(cudaDeviceSynchronize()));
    hostcuda_set_schedule(HOSTCUDA_LATE, 1);
    float *memory[] = {x, y, z};
    for (int i = 0; i < 3; i++)
        OK(CUDA(cudaFree(memory[i])));
    OK(CUDA(cudaEventDestroy(written)));
    OK(CUDA(cudaEventDestroy(taken)));
    OK(CUDA(cudaStreamDestroy(first)));
    OK(CUDA(cudaStreamDestroy(second)));
    bool right = true;
    for (int i = 0; i < N; i++)
        right &= got[i] == (float)i;
    return right;
}

static void missing_event(void **state)
{
    (void)state;
    for (int schedule = HOSTCUDA_LATE; schedule <= HOSTCUDA_SHUFFLED; schedule++)
        assert_true(in_order((hostcuda_schedule)schedule, true, true));
    assert_false(in_order(HOSTCUDA_LATE, false, true));  /* read before it was written */
    assert_false(in_order(HOSTCUDA_EAGER, true, false)); /* overwritten before it was read */
}

/* ---- host and device */

static void too_many_bytes(void)
{
    cudaStream_t s = stream_new();
    float host[4 * N] = {0}, *x = device_floats(s, N, NULL);
    cudaMemcpyAsync(x, host, N * sizeof(float) * sizeof(float), cudaMemcpyHostToDevice, s);
}

static void too_many_back(void)
{
    cudaStream_t s = stream_new();
    float *x = device_floats(s, 4 * N, NULL), *host = malloc(N * sizeof(float));
    cudaMemcpyAsync(host, x, 4 * N * sizeof(float), cudaMemcpyDeviceToHost, s);
    cudaStreamSynchronize(s);
}

static void wrong_direction(void)
{
    cudaStream_t s = stream_new();
    float host[N], *x = device_floats(s, N, NULL);
    cudaMemcpyAsync(host, x, sizeof host, cudaMemcpyHostToDevice, s);
}

static void copies(void **state)
{
    (void)state;
    expect_end(
        too_many_bytes, SIGABRT, 0,
        WORDS("destination of a copy: 1600 bytes where 400 are left of a device allocation"));
    if (ASAN)
        expect_end(too_many_back, 0, 1, WORDS("heap-buffer-overflow"));
    expect_end(wrong_direction, SIGABRT, 0, WORDS("destination of a copy", "is not device memory"));
}

/* Half of the elements: what was not copied is NaN. */
static void too_few_bytes(void **state)
{
    (void)state;
    cudaStream_t s = stream_new();
    float host[N] = {0}, got[N], *x = device_floats(s, N, NULL);
    OK(CUDA(cudaMemcpyAsync(x, host, N, cudaMemcpyHostToDevice, s)));
    host_floats(s, N, got, x);
    assert_true(got[N / 4 - 1] == 0 && isnan(got[N / 4]));
    OK(CUDA(cudaFree(x)));
    OK(CUDA(cudaStreamDestroy(s)));
}

static void read_on_host(void)
{
    cudaStream_t s = stream_new();
    volatile float *x = numbers(s, N);
    printf("%g\n", (double)x[3]);
}

static void host_pointer(void)
{
    float host[N] = {0};
    cudaStream_t s = stream_new();
    float *y = device_floats(s, N, NULL);
    (void)planted_shift(s, N, 0, host, y);
}

static void host_pointer_inside(void)
{
    static const float host[N];
    cudaStream_t s = stream_new();
    float *y = device_floats(s, N, NULL);
    const planted_args a = {N, host};
    (void)planted_struct(s, a, y);
}

static void device_pointer_inside(void)
{
    cudaStream_t s = stream_new();
    float *x = numbers(s, N), *y = device_floats(s, N, NULL), got[N];
    const planted_args a = {N, x};
    OK(planted_struct(s, a, y));
    host_floats(s, N, got, y);
    assert_true(got[N - 1] == N - 1);
    OK(CUDA(cudaFree(x)));
    OK(CUDA(cudaFree(y)));
    OK(CUDA(cudaStreamDestroy(s)));
}

static void default_stream(void)
{
    cudaStream_t s = stream_new();
    float *y = device_floats(s, N, NULL);
    (void)planted_shift(NULL, N, 0, y, y);
}

static void host_and_device(void **state)
{
    (void)state;
    expect_end(read_on_host, SIGABRT, 0,
               WORDS("hostcuda: host code touched device memory: byte 12 of a device allocation of "
                     "400 bytes"));
    expect_end(host_pointer, SIGABRT, 0, WORDS("kernel shift: argument 3 is or holds"));
    expect_end(host_pointer_inside, SIGABRT, 0, WORDS("kernel from_struct: argument 1"));
    expect_end(device_pointer_inside, 0, 0, WORDS(""));
    expect_end(default_stream, SIGABRT, 0, WORDS("work on the default stream"));
}

/* ---- what is left behind */

static void leak(void)
{
    cudaStream_t s = stream_new();
    float *x = numbers(s, N);
    OK(planted_shift(s, N, 0, x, x));
}

static void left_behind(void **state)
{
    (void)state;
    expect_end(leak, 0, 70,
               WORDS("left behind at exit: 1 device allocations (400 bytes)", "1 streams",
                     "1 pieces of work never waited for (first: shift)"));
    assert_int_equal(hostcuda_left(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(out_of_bounds),
                                       cmocka_unit_test(freed),
                                       cmocka_unit_test(shared_out_of_bounds),
                                       cmocka_unit_test(missing_barrier),
                                       cmocka_unit_test(a_warp_runs_ahead),
                                       cmocka_unit_test(divergence),
                                       cmocka_unit_test(order_of_blocks),
                                       cmocka_unit_test(missing_event),
                                       cmocka_unit_test(copies),
                                       cmocka_unit_test(too_few_bytes),
                                       cmocka_unit_test(host_and_device),
                                       cmocka_unit_test(left_behind)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
