/* ranks: 1
 * Requests to stop reach the flag and never a thread that computes: products stay right, and the
 * heap whole, under thousands of signals. With a handler on the computing threads this test dies
 * within a second. */
#include "kernels/cpu/gemm.h"
#include "kernels/device.h"
#include "runtime/train/signals.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define M 32
#define N 16
#define K 256
#define SIGNALS 4000

/* Another process sends the requests: 20 a millisecond. */
static pid_t sender(pid_t to)
{
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < SIGNALS; i++) {
            kill(to, SIGUSR1);
            usleep(50);
        }
        _exit(0);
    }
    return child;
}

/* C: (2 threads, M, N). */
static int wrong_products(const float *A, const float *B, const float *right, float *C, int rounds)
{
    int wrong = 0;
#pragma omp parallel for reduction(+ : wrong) num_threads(2) schedule(static)
    for (int i = 0; i < rounds; i++) {
        float *mine = C + omp_get_thread_num() * M * N;
        gemm_f32(false, true, M, N, K, A, K, B, K, 0.0f, mine, N);
        int off = 0;
        for (int j = 0; j < M * N; j++)
            off |= !(fabsf(mine[j] - right[j]) < 1e-3f);
        wrong += off;
    }
    return wrong;
}

static void products_under_signals(void **state)
{
    (void)state;
    assert_int_equal(signals_watch(), STATUS_OK);
    assert_int_equal(signals_watch(), STATUS_OK);
    device *dev = NULL;
    assert_int_equal(device_open(DEVICE_CPU, 2, &dev), STATUS_OK);
    float *block = malloc((M * K + N * K + 4 * M * N) * sizeof *block);
    assert_non_null(block);
    float *A = block, *B = A + M * K, *right = B + N * K, *C = right + M * N;
    for (int i = 0; i < M * K; i++)
        A[i] = (float)(i % 257 - 128) / 128.0f;
    for (int i = 0; i < N * K; i++)
        B[i] = (float)(i % 263 - 131) / 131.0f;
    gemm_f32(false, true, M, N, K, A, K, B, K, 0.0f, right, N);
    assert_int_equal(signals_seen(), 0);

    pid_t child = sender(getpid());
    assert_true(child > 0);
    int wrong = 0, status_of_child = 0;
    while (waitpid(child, &status_of_child, WNOHANG) == 0)
        wrong += wrong_products(A, B, right, C, 2000);
    assert_int_equal(wrong, 0);
    assert_int_equal(signals_seen(), SIGUSR1);
    assert_string_equal(signals_name(signals_seen()), "USR1");
    free(block);
    device_close(&dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_under_signals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
