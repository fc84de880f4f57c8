/* ranks: 1 2 3 4
 * What goes wrong between GPUs ends in one clear status on every rank, within the deadline, and
 * leaves nothing behind; and what a program may do wrong with streams and counts is seen here. */
#include "tests/hostcuda/group_fixture.h"

#include "runtime/core/log.h"

#include <time.h>

#define SYSTEM_ERROR 2 /* ncclSystemError */
#define REMOTE_ERROR 6 /* ncclRemoteError */

static void nap(double s)
{
    const struct timespec t = {(time_t)s, (long)(1e9 * (s - (double)(time_t)s))};
    nanosleep(&t, NULL);
}

static bool says(const char *word)
{
    return strstr(failure_last()->text, word) != NULL;
}

/* A group of its own each time: what a failure leaves in the mail stays there. */
static comm *fresh(void)
{
    comm *group;
    OK(comm_split(world, 0, world->rank, &group));
    return group;
}

static void all_gone(comm_device **c, comm **group, int64_t before)
{
    comm_device_close(c);
    OK(comm_barrier(world));
    comm_free(group);
    OK(CUDA(cudaStreamSynchronize(work))); /* nothing hangs in it */
    assert_int_equal(hostcuda_left(), before);
}

/* ---- ranks that do not come */

/* The last rank comes too late: the others name it at the deadline, and it hears of that. */
static void late_peer(comm_backend backend)
{
    const int64_t before = hostcuda_left();
    comm *group = fresh();
    const int last = group->size - 1;
    char who[32];
    comm_device *c = device_comm(group, backend);
    float *x = lend((float[3]){1, 2, 3}, 3 * sizeof *x);
    comm_set_timeout(group, 0.3);
    if (group->rank == last)
        nap(2.2);
    const double start_s = clock_monotonic_s();
    status st = comm_device_sum(c, COMM_F32, x, 3);
    if (st == STATUS_OK)
        st = comm_device_wait(c, "gradients of step 3");
    assert_int_equal(st, STATUS_RANK);
    assert_true(clock_monotonic_s() - start_s < 3);
    snprintf(who, sizeof who, "no answer from rank %d on ", last);
    if (!says("gradients of step 3") || !says(who) || !says(comm_host(group)))
        fail_msg("not said: %s", failure_last()->text);
    /* Ended is ended. */
    assert_int_equal(comm_device_sum(c, COMM_F32, x, 3), STATUS_RANK);
    assert_int_equal(comm_device_wait(c, "later"), STATUS_RANK);
    comm_device_close(&c);
    give(x);
    /* MPI's collectives cannot be taken back: buffer and event of the one that waits stay. */
    all_gone(&c, &group, before + (backend == COMM_MPI && group->rank != last ? 2 : 0));
}

static void late_nccl(void **state)
{
    (void)state;
    if (world->size > 1)
        late_peer(COMM_NCCL);
}

static void late_mpi(void **state)
{
    (void)state;
    if (world->size > 1)
        late_peer(COMM_MPI);
}

/* The last rank waits too, but has asked for one exchange less. */
static void behind(void **state)
{
    (void)state;
    const int64_t before = hostcuda_left();
    if (world->size == 1)
        return;
    comm *group = fresh();
    const int last = group->size - 1;
    comm_device *c = device_comm(group, COMM_NCCL);
    float *x = lend((float[4]){1, 2, 3, 4}, 4 * sizeof *x);
    comm_set_timeout(group, group->rank == last ? 30 : 0.3);
    OK(comm_device_sum(c, COMM_F32, x, 2));
    if (group->rank != last)
        OK(comm_device_sum(c, COMM_F32, x + 2, 2));
    else
        OK(comm_device_shift(c, COMM_F32, NULL, 0, -1, NULL, 0, -1));
    status st = STATUS_OK;
    while (st == STATUS_OK) /* the last rank is done at once, and looks in again */
        st = comm_device_wait(c, "halos");
    assert_int_equal(st, STATUS_RANK);
    if (!says("halos") || !(says("though all ranks are there") || says("no answer")))
        fail_msg("not said: %s", failure_last()->text);
    comm_device_close(&c);
    give(x);
    all_gone(&c, &group, before);
}

/* ---- injected errors: kind and call on one rank, a status on all */

static void injected_at_start(void **state)
{
    (void)state;
    const int64_t before = hostcuda_left();
    for (int who = 0; who < world->size; who++)
        for (int call = 1; call <= (who == 0 ? 2 : 1); call++) {
            comm *group = fresh();
            comm_device *c = NULL;
            const comm_device_options o = {.backend = COMM_NCCL};
            if (world->rank == who)
                hostcuda_fail(HOSTCUDA_NCCL, call, SYSTEM_ERROR);
            assert_int_equal(comm_device_open(group, gpu, work, &o, &c), STATUS_RANK);
            assert_null(c);
            if (!says("ncclSystemError") || !says("rank ") || !says("; ") ||
                !says(call == 1 && who == 0 ? "ncclGetUniqueId" : "ncclCommInitRankConfig"))
                fail_msg("not said: %s", failure_last()->text);
            all_gone(&c, &group, before);
        }
}

/* One exchange of each kind. */
static status exchange(comm_device *c, float *x, float *y, const comm *group)
{
    int64_t one[8] = {1, 1, 1, 1, 1, 1, 1, 1}, at[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    (void)group;
    TRY(comm_device_sum(c, COMM_F32, x, 8));
    TRY(comm_device_bcast(c, COMM_F32, x, 8, 0));
    TRY(comm_device_alltoallv(c, COMM_F32, x, one, at, y, one, at));
    return comm_device_wait(c, "exchanges");
}

static void injected_later(void **state)
{
    (void)state;
    const int64_t before = hostcuda_left();
    float *x = lend((float[8]){0}, 8 * sizeof *x), *y = lend((float[8]){0}, 8 * sizeof *y);
    OK(CUDA(cudaStreamSynchronize(work)));
    for (int who = 0; who < world->size; who++)
        for (int call = 1; call <= 5; call++) { /* sum, broadcast, group start, send, receive */
            if (world->size == 1 && call > 2)
                continue; /* nothing to send */
            comm *group = fresh();
            comm_device *c = device_comm(group, COMM_NCCL);
            if (world->rank == who)
                hostcuda_fail(HOSTCUDA_NCCL, call, SYSTEM_ERROR);
            assert_int_equal(exchange(c, x, y, group), STATUS_RANK);
            char text[32];
            snprintf(text, sizeof text, "rank %d on ", who);
            if (!says("ncclSystemError") || !says(text))
                fail_msg("not said: %s", failure_last()->text);
            all_gone(&c, &group, before + 2);
        }
    give(x);
    give(y);
    assert_int_equal(hostcuda_left(), before);
}

/* A rank that fails elsewhere says so: the others hear it long before the deadline. */
static void given_up_elsewhere(void **state)
{
    (void)state;
    const int64_t before = hostcuda_left();
    const int last = world->size - 1;
    comm *group = fresh();
    comm_device *c = device_comm(group, COMM_NCCL);
    float *x = lend((float[8]){0}, 8 * sizeof *x);
    if (group->rank == last) {
        fail_at(__FILE__, __LINE__, STATUS_DATA, "x.h5: torn; mend it");
        comm_device_abort(c);
        assert_int_equal(failure_last()->code, STATUS_DATA);
    }
    if (group->rank != last) {
        status st = comm_device_sum(c, COMM_F32, x, 8); /* it may hear it already here */
        if (st == STATUS_OK)
            st = comm_device_wait(c, "gradients");
        assert_int_equal(st, STATUS_RANK);
        if (!says(": x.h5: torn") || !says("rank "))
            fail_msg("not said: %s", failure_last()->text);
    }
    comm_device_close(&c);
    give(x);
    all_gone(&c, &group, before);
}

/* The error comes while the exchange runs: only ncclCommGetAsyncError knows. */
static void injected_while_running(void **state)
{
    (void)state;
    const int64_t before = hostcuda_left();
    float *x = lend((float[8]){0}, 8 * sizeof *x), *y = lend((float[8]){0}, 8 * sizeof *y);
    OK(CUDA(cudaStreamSynchronize(work)));
    for (int call = 1; call <= (world->size == 1 ? 2 : 3); call++) {
        comm *group = fresh();
        comm_device *c = device_comm(group, COMM_NCCL);
        if (world->rank == world->size - 1)
            hostcuda_fail(HOSTCUDA_NCCL_ASYNC, call, REMOTE_ERROR);
        assert_int_equal(exchange(c, x, y, group), STATUS_RANK);
        if (!says("ncclRemoteError") || !says("injected"))
            fail_msg("not said: %s", failure_last()->text);
        all_gone(&c, &group, before + 2);
    }
    give(x);
    give(y);
}

/* CUDA's own calls fail one after the other: whatever was open by then
 * is closed. */
static void injected_cuda(void **state)
{
    (void)state;
    static const hostcuda_kind KINDS[] = {HOSTCUDA_STREAM, HOSTCUDA_EVENT, HOSTCUDA_MALLOC,
                                          HOSTCUDA_COPY,   HOSTCUDA_WAIT,  HOSTCUDA_DEVICE};
    const int64_t before = hostcuda_left();
    float *x = lend((float[8]){0}, 8 * sizeof *x), *y = lend((float[8]){0}, 8 * sizeof *y);
    OK(CUDA(cudaStreamSynchronize(work)));
    /* MPI alone only: what the others have posted stays with them (late_peer). */
    for (int backend = world->size == 1 ? COMM_MPI : COMM_NCCL; backend <= COMM_NCCL; backend++)
        for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++)
            for (int nth = 1; nth < 40; nth++) {
                comm *group = fresh();
                comm_device *c = NULL;
                const comm_device_options o = {.backend = (comm_backend)backend};
                if (world->rank == world->size - 1)
                    hostcuda_fail(KINDS[k], nth, 700); /* an illegal address */
                status st = comm_device_open(group, gpu, work, &o, &c);
                if (st == STATUS_OK)
                    st = exchange(c, x, y, group);
                if (st != STATUS_OK && (st != STATUS_RANK || !says("; ")))
                    fail_msg("status %d, not said: %s", (int)st, failure_last()->text);
                /* At the very end one may fail where the others are through. */
                int64_t ended = st != STATUS_OK;
                OK(comm_max_i64(world, &ended, 1));
                hostcuda_fail(KINDS[k], 1 << 30, 0);
                all_gone(&c, &group, before + 2);
                OK(CUDA(cudaSetDevice(gpu)));
                if (!ended)
                    break;
            }
    give(x);
    give(y);
}

/* ---- what a program may do wrong */

/* y := what the compute stream sees of a sum; `join`: as it should. */
static float seen(comm_device *c, bool join)
{
    float one = 1, got = 0, *x = lend(&one, sizeof one), *y = lend(&got, sizeof got);
    OK(comm_device_sum(c, COMM_F32, x, 1));
    if (join)
        OK(comm_device_join(c, "a sum"));
    OK(CUDA(cudaMemcpyAsync(y, x, sizeof one, cudaMemcpyDeviceToDevice, work)));
    fetch(&got, y, sizeof got);
    OK(CUDA(cudaStreamSynchronize(work)));
    OK(comm_device_wait(c, "a sum"));
    give(x);
    give(y);
    return got;
}

/* Without the event from communication to computation the sum is not there in one order of the
 * streams; with it, in both. */
static void no_join(void **state)
{
    (void)state;
    if (world->size == 1)
        return;
    comm_device *c = device_comm(world, COMM_NCCL);
    for (int late = 0; late < 2; late++) {
        hostcuda_set_schedule(late ? HOSTCUDA_LATE : HOSTCUDA_EAGER, 1);
        assert_true(seen(c, true) == (float)world->size);
    }
    assert_true(seen(c, false) == 1);
    comm_device_close(&c);
}

/* Without the event from computation to communication what is sent is not there yet. */
static void no_ready(void **state)
{
    (void)state;
    if (world->size == 1)
        return;
    cudaStream_t other = stream_new();
    comm_device *c = NULL;
    float got = 0, *from = lend((float[1]){1}, sizeof *from), *x = lend((float[1]){0}, sizeof *x);
    OK(CUDA(cudaStreamSynchronize(work)));
    OK(comm_device_open(world, gpu, other, &(comm_device_options){.backend = COMM_NCCL}, &c));
    hostcuda_set_schedule(HOSTCUDA_LATE, 1);
    /* Produced on a stream that the exchange knows nothing of. */
    OK(CUDA(cudaMemcpyAsync(x, from, sizeof *x, cudaMemcpyDeviceToDevice, work)));
    OK(comm_device_sum(c, COMM_F32, x, 1));
    OK(comm_device_wait(c, "a sum"));
    OK(CUDA(cudaMemcpyAsync(&got, x, sizeof *x, cudaMemcpyDeviceToHost, other)));
    OK(CUDA(cudaStreamSynchronize(other)));
    assert_true(got == 0);
    OK(CUDA(cudaStreamSynchronize(work)));
    comm_device_close(&c);
    OK(CUDA(cudaStreamDestroy(other)));
    give(from);
    give(x);
}

static comm_device *shared;
static float *array;

static void bytes_for_elements(void)
{
    comm_device_sum(shared, COMM_F32, array, 100 * (int64_t)sizeof *array);
}

/* Counts are elements: bytes in their place reach past the end. */
static void count_in_bytes(void **state)
{
    (void)state;
    float zero[100] = {0};
    if (world->size > 1)
        return; /* forks */
    shared = device_comm(world, COMM_NCCL);
    array = lend(zero, sizeof zero);
    OK(CUDA(cudaStreamSynchronize(work)));
    expect_end(bytes_for_elements, SIGABRT, 0,
               WORDS("hostcuda: ncclAllReduce: 1600 bytes where 400 are left"));
    comm_device_close(&shared);
    give(array);
}

static void exit_with_it(void)
{
    comm_device *c = device_comm(world, COMM_NCCL);
    (void)c;
    exit(0);
}

/* A communicator that nobody closes is named at the end. */
static void left_behind(void **state)
{
    (void)state;
    if (world->size == 1)
        expect_end(exit_with_it, 0, 70, WORDS("hostcuda: left behind at exit", "communicator 0."));
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_nccl),
        cmocka_unit_test(behind),
        cmocka_unit_test(no_join),
        cmocka_unit_test(no_ready),
        cmocka_unit_test(count_in_bytes),
        cmocka_unit_test(left_behind),
        cmocka_unit_test(injected_at_start),
        cmocka_unit_test(injected_later),
        cmocka_unit_test(injected_while_running),
        cmocka_unit_test(injected_cuda),
        cmocka_unit_test(given_up_elsewhere),
        cmocka_unit_test(late_mpi), /* last: see its end */
    };
    const int world_size = world->size;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    finish();
    if (hostcuda_left() > 0 && world_size > 1)
        _exit(failed != 0 || hostcuda_left() != 2); /* what late_mpi has left, and nothing else */
    return failed != 0;
}
