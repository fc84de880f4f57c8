/* What the tests of hostcuda share: a stream, device arrays, and a child process whose end and last
 * words are looked at. */
#ifndef CROCUTA_TESTS_HOSTCUDA_FIXTURE_H
#define CROCUTA_TESTS_HOSTCUDA_FIXTURE_H

#include "kernels/cuda/cuda.h"
#include "tests/hostcuda/hostcuda.h"
#include "tests/oracle.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static inline cudaStream_t stream_new(void)
{
    cudaStream_t s = NULL;
    OK(CUDA(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking)));
    return s;
}

/* n floats on the device; unset where `from` is NULL. The copy has run. */
static inline float *device_floats(cudaStream_t s, int64_t n, const float *from)
{
    void *at = NULL;
    OK(CUDA(cudaMalloc(&at, (size_t)n * sizeof(float))));
    if (from) {
        OK(CUDA(cudaMemcpyAsync(at, from, (size_t)n * sizeof(float), cudaMemcpyHostToDevice, s)));
        OK(CUDA(cudaStreamSynchronize(s)));
    }
    return at;
}

static inline void host_floats(cudaStream_t s, int64_t n, float *to, const float *from)
{
    OK(CUDA(cudaMemcpyAsync(to, from, (size_t)n * sizeof(float), cudaMemcpyDeviceToHost, s)));
    OK(CUDA(cudaStreamSynchronize(s)));
}

/* Runs `what` in a child. It must end as `signal` or with `code` (the other is 0), and its standard
 * error must hold every one of the words (NULL at the end). */
static inline void expect_end(void (*what)(void), int signal, int code, const char *const *words)
{
    int ends[2], how = 0;
    static char text[1 << 16];
    size_t used = 0;
    fflush(NULL);
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        what();
        exit(0);
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)got;
    close(ends[0]);
    text[used] = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    if ((WIFSIGNALED(how) ? WTERMSIG(how) : 0) != signal ||
        (WIFEXITED(how) ? WEXITSTATUS(how) : 0) != code)
        fail_msg("wait status %#x, not signal %d or status %d: %s", how, signal, code, text);
    for (; *words; words++)
        if (!strstr(text, *words))
            fail_msg("'%s' is not in: %s", *words, text);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

#endif
