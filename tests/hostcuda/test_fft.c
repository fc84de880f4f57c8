/* The backend's transforms: plans that are made once, fewer transforms at a time where cuFFT wants
 * more work area than was planned, cuFFT's errors as statuses, nothing left behind. */
#include "kernels/cuda/fft.h"
#include "tests/hostcuda/fixture.h"

#include <cufft.h>

#define POINTS 10
#define BATCH 11

typedef struct {
    device *dev;
    float *real, *spectra;
    void *work;
    size_t bytes;
} fixture;

static void fixture_open(fixture *f)
{
    OK(device_open_cuda(0, 1, &f->dev));
    cudaStream_t s = cuda_of(f->dev)->stream;
    float host[BATCH * POINTS];
    for (int i = 0; i < BATCH * POINTS; i++)
        host[i] = (float)((i * 37 % 101) - 50) / 50;
    f->real = device_floats(s, BATCH * POINTS, host);
    f->spectra = device_floats(s, 2 * BATCH * fft_spectrum(POINTS), NULL);
    f->bytes = fft_work_bytes(POINTS, BATCH);
    OK(CUDA(cudaMalloc(&f->work, f->bytes)));
}

static status transform(const fixture *f, fft_direction direction, int64_t batch)
{
    return fft_run_cuda(f->dev, direction, POINTS, batch, f->real, f->spectra, f->work, f->bytes);
}

/* There and back is POINTS times what it was. */
static void expect_round(const fixture *f)
{
    float before[BATCH * POINTS], after[BATCH * POINTS];
    cudaStream_t s = cuda_of(f->dev)->stream;
    host_floats(s, BATCH * POINTS, before, f->real);
    OK(transform(f, FFT_FORWARD, BATCH));
    OK(device_clear(f->dev, f->real, sizeof before));
    OK(transform(f, FFT_INVERSE, BATCH));
    host_floats(s, BATCH * POINTS, after, f->real);
    for (int i = 0; i < BATCH * POINTS; i++)
        assert_true(fabsf(after[i] / POINTS - before[i]) < 1e-6f * fabsf(before[i]) + 1e-6f);
    for (int i = 0; i < BATCH * POINTS; i++)
        before[i] = after[i] / POINTS;
    OK(device_upload(f->dev, f->real, before, sizeof before));
    OK(device_wait(f->dev));
}

static void fixture_close(fixture *f)
{
    void *memory[] = {f->real, f->spectra, f->work};
    OK(device_wait(f->dev));
    for (int i = 0; i < 3; i++)
        OK(CUDA(cudaFree(memory[i])));
    device_close(&f->dev);
    assert_int_equal(hostcuda_left(), 0);
}

static void plans_stay(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f);
    const int64_t left = hostcuda_left();
    expect_round(&f);
    assert_int_equal(hostcuda_left(), left + 2);
    expect_round(&f);
    assert_int_equal(hostcuda_left(), left + 2);
    OK(transform(&f, FFT_FORWARD, BATCH - 1)); /* another batch is another plan */
    OK(device_wait(f.dev));
    assert_int_equal(hostcuda_left(), left + 3);
    fixture_close(&f);
}

/* Many shapes: old plans make room, also while their transforms are queued. */
static void plans_make_room(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f);
    const int64_t left = hostcuda_left();
    for (int64_t points = 2; points <= 110; points += 2)
        for (int64_t batch = 1; batch <= 2 && batch * points <= 110; batch++)
            OK(fft_run_cuda(f.dev, FFT_FORWARD, points, batch, f.real, f.spectra, f.work, f.bytes));
    OK(device_wait(f.dev));
    assert_int_equal(hostcuda_left(), left + 64);
    expect_round(&f);
    fixture_close(&f);
}

/* Three spectra each where two are planned: 11 do not fit, 6 do, and 5 of these are left. */
static void a_larger_work_area(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f);
    const int64_t left = hostcuda_left();
    hostcuda_set_fft_work(3);
    expect_round(&f);
    assert_int_equal(hostcuda_left(), left + 4);
    const int64_t calls = hostcuda_calls(HOSTCUDA_CUFFT);
    expect_round(&f);
    assert_int_equal(hostcuda_calls(HOSTCUDA_CUFFT) - calls, 4); /* executions alone */
    hostcuda_set_fft_work(100);
    assert_int_equal(transform(&f, FFT_FORWARD, 3), STATUS_MEMORY);
    assert_non_null(strstr(failure_last()->text, "for one transform of 10 points"));
    hostcuda_set_fft_work(1);
    fixture_close(&f);
}

static void errors_are_statuses(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f);
    for (int nth = 1; nth <= 3; nth++) { /* creating, making, executing */
        hostcuda_fail(HOSTCUDA_CUFFT, nth, nth == 2 ? CUFFT_ALLOC_FAILED : CUFFT_EXEC_FAILED);
        assert_int_equal(transform(&f, FFT_FORWARD, BATCH),
                         nth == 2 ? STATUS_MEMORY : STATUS_DEVICE);
        assert_non_null(strstr(failure_last()->text, nth == 2 ? "cufftMakePlanMany: cuFFT says "
                                                                "CUFFT_ALLOC_FAILED"
                                                              : "CUFFT_EXEC_FAILED"));
    }
    assert_int_equal(fft_run_cuda(f.dev, FFT_FORWARD, 7, 1, f.real, f.spectra, f.work, f.bytes),
                     STATUS_USAGE);
    expect_round(&f);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_stay), cmocka_unit_test(plans_make_room),
        cmocka_unit_test(a_larger_work_area), cmocka_unit_test(errors_are_statuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
