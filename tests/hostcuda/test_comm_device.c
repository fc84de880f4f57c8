/* ranks: 1 2 3 4   on: gpu
 * Exchanges between device buffers: every collective, type and size in groups of several shapes,
 * NCCL against MPI and both against what must come; in place; many at once; groups on one GPU. */
#include "tests/hostcuda/group_fixture.h"

static const comm_type TYPES[] = {COMM_F32, COMM_F64, COMM_BF16, COMM_I32, COMM_I64, COMM_U8};
static const size_t WIDTH[] = {4, 8, 2, 4, 8, 1};
static const int64_t SIZES[] = {0, 1, 7, 1000, 30011};

/* A byte that rank `from` sends to rank `to` at place i. */
static unsigned char byte_of(int from, int to, size_t i)
{
    return (unsigned char)(31 * from + 57 * to + (int)(i % 1013) * 7 + 1);
}

static unsigned char *bytes_of(int from, int to, size_t n)
{
    unsigned char *p = malloc(n ? n : 1);
    for (size_t i = 0; i < n; i++)
        p[i] = byte_of(from, to, i);
    return p;
}

static void wait_all(comm_device *c, const char *phase)
{
    OK(comm_device_wait(c, phase));
    OK(CUDA(cudaStreamSynchronize(work)));
}

/* ---- each collective, once: inputs, the call, and what must be there */

static void check_sum(comm_device *c, const comm *group, comm_type type, int64_t n)
{
    if (type != COMM_F32 && type != COMM_F64)
        return;
    double *want = calloc((size_t)n + 1, sizeof *want);
    char *x = malloc((size_t)(n + 1) * WIDTH[type]), *got = malloc((size_t)(n + 1) * WIDTH[type]);
    for (int64_t i = 0; i <= n; i++) /* one more than takes part */
        for (int r = 0; r < group->size; r++) {
            const double v = (double)((i * 7 + r * 13) % 101 - 50); /* sums are exact */
            want[i] += i < n || r == group->rank ? v : 0;
            if (r == group->rank && type == COMM_F32)
                ((float *)x)[i] = (float)v;
            else if (r == group->rank)
                ((double *)x)[i] = v;
        }
    void *on = lend(x, (size_t)(n + 1) * WIDTH[type]);
    OK(comm_device_sum(c, type, on, n));
    OK(comm_device_join(c, "a sum"));
    fetch(got, on, (size_t)(n + 1) * WIDTH[type]);
    wait_all(c, "a sum");
    for (int64_t i = 0; i <= n; i++)
        assert_true(want[i] == (type == COMM_F32 ? (double)((float *)got)[i] : ((double *)got)[i]));
    give(on);
    free(want);
    free(x);
    free(got);
}

static void check_bcast(comm_device *c, const comm *group, comm_type type, int64_t n)
{
    const size_t bytes = (size_t)n * WIDTH[type];
    for (int root = 0; root < group->size; root++) {
        unsigned char *x = bytes_of(group->rank, 0, bytes), *want = bytes_of(root, 0, bytes);
        void *on = lend(x, bytes);
        OK(comm_device_bcast(c, type, on, n, root));
        OK(comm_device_join(c, "a broadcast"));
        fetch(x, on, bytes);
        wait_all(c, "a broadcast");
        assert_memory_equal(x, want, bytes);
        give(on);
        free(x);
        free(want);
    }
}

static int64_t share(int64_t n, int r)
{
    return r % 3 == 1 ? 0 : n + 3 * r;
}

static void check_allgatherv(comm_device *c, const comm *group, comm_type type, int64_t n,
                             bool in_place)
{
    const size_t w = WIDTH[type];
    int64_t counts[8], all = 0, own = 0;
    for (int r = 0; r < group->size; r++) {
        own = r == group->rank ? all : own;
        all += counts[r] = share(n, r);
    }
    const int64_t mine = counts[group->rank];
    unsigned char *x = bytes_of(group->rank, 0, (size_t)mine * w);
    unsigned char *got = calloc((size_t)all * w + 1, 1);
    memcpy(got + (size_t)own * w, x, (size_t)mine * w);
    void *send = lend(x, (size_t)mine * w), *recv = lend(got, (size_t)all * w);
    OK(comm_device_allgatherv(c, type, in_place ? (char *)recv + (size_t)own * w : send, recv,
                              counts));
    OK(comm_device_join(c, "a gather"));
    fetch(got, recv, (size_t)all * w);
    wait_all(c, "a gather");
    unsigned char *at = got;
    for (int r = 0; r < group->size; r++)
        for (size_t i = 0; i < (size_t)counts[r] * w; i++)
            assert_int_equal(*at++, byte_of(r, 0, i));
    give(send);
    give(recv);
    free(x);
    free(got);
}

/* Elements from a to b: uneven, some pairs nothing; one element between parts on both sides. */
static int64_t parcel(int64_t n, int a, int b)
{
    return (a + 2 * b) % 3 == 1 ? 0 : n + 2 * a + b;
}

static void check_alltoallv(comm_device *c, const comm *group, comm_type type, int64_t n)
{
    const size_t w = WIDTH[type];
    const int P = group->size, me = group->rank;
    int64_t sc[8], sa[8], rc[8], ra[8], s = 0, t = 0;
    for (int r = 0; r < P; r++) {
        sc[r] = parcel(n, me, r);
        rc[r] = parcel(n, r, me);
        sa[r] = s;
        ra[r] = t;
        s += sc[r] + 1;
        t += rc[r] + 1;
    }
    unsigned char *x = malloc((size_t)s * w), *got = malloc((size_t)t * w);
    for (int r = 0; r < P; r++)
        for (size_t i = 0; i < (size_t)sc[r] * w; i++)
            x[(size_t)sa[r] * w + i] = byte_of(me, r, i);
    memset(got, 0xA5, (size_t)t * w);
    void *send = lend(x, (size_t)s * w), *recv = lend(got, (size_t)t * w);
    OK(comm_device_alltoallv(c, type, send, sc, sa, recv, rc, ra));
    OK(comm_device_join(c, "an exchange"));
    fetch(got, recv, (size_t)t * w);
    wait_all(c, "an exchange");
    for (int r = 0; r < P; r++) {
        const unsigned char *at = got + (size_t)ra[r] * w;
        for (size_t i = 0; i < (size_t)rc[r] * w; i++)
            assert_int_equal(at[i], byte_of(r, me, i));
        for (size_t i = 0; i < w; i++)
            assert_int_equal(at[(size_t)rc[r] * w + i], 0xA5);
    }
    give(send);
    give(recv);
    free(x);
    free(got);
}

/* To the right neighbour; `ring`: the last one's goes to the first. */
static void check_shift(comm_device *c, const comm *group, comm_type type, int64_t n, bool ring)
{
    const size_t bytes = (size_t)n * WIDTH[type];
    const int P = group->size, me = group->rank;
    const int to = me + 1 < P ? me + 1 : ring ? 0 : -1;
    const int from = me > 0 ? me - 1 : ring ? P - 1 : -1;
    unsigned char *x = bytes_of(me, to, bytes), *got = calloc(bytes + 1, 1);
    void *send = lend(x, bytes), *recv = lend(got, bytes);
    OK(comm_device_shift(c, type, send, n, to, recv, n, from));
    OK(comm_device_join(c, "a halo"));
    fetch(got, recv, bytes);
    wait_all(c, "a halo");
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(got[i], from < 0 ? 0 : byte_of(from, me, i));
    give(send);
    give(recv);
    free(x);
    free(got);
}

static void all_in(comm *group, comm_backend backend)
{
    group->chunk = backend == COMM_MPI ? 4096 : COMM_CHUNK; /* several MPI messages */
    comm_device *c = device_comm(group, backend);
    assert_string_equal(comm_device_backend(c), backend == COMM_MPI ? "mpi" : "nccl");
    for (size_t t = 0; t < sizeof TYPES / sizeof *TYPES; t++)
        for (size_t s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
            if (SIZES[s] > 1000 && TYPES[t] != COMM_F32 && TYPES[t] != COMM_I64)
                continue;
            check_sum(c, group, TYPES[t], SIZES[s]);
            check_bcast(c, group, TYPES[t], SIZES[s]);
            check_allgatherv(c, group, TYPES[t], SIZES[s], false);
            check_allgatherv(c, group, TYPES[t], SIZES[s], true);
            check_alltoallv(c, group, TYPES[t], SIZES[s]);
            check_shift(c, group, TYPES[t], SIZES[s], false);
            check_shift(c, group, TYPES[t], SIZES[s], true);
        }
    comm_device_close(&c);
    assert_null(c);
}

/* NCCL refuses two ranks on one GPU: a machine with fewer GPUs than ranks tests MPI only. */
static bool enough_gpus(void)
{
    int count = 0;
    OK(CUDA(cudaGetDeviceCount(&count)));
    return count >= comm_local_size(world);
}

static void in_groups(comm_backend backend)
{
    comm *halves, *turned;
    if (backend == COMM_NCCL && !enough_gpus())
        return;
    all_in(world, backend);
    OK(comm_split(world, world->rank % 2, 0, &halves));
    all_in(halves, backend);
    comm_free(&halves);
    OK(comm_split(world, world->rank == 0, -world->rank, &turned));
    all_in(turned, backend);
    comm_free(&turned);
}

static void by_mpi(void **state)
{
    (void)state;
    in_groups(COMM_MPI);
}

static void by_nccl(void **state)
{
    (void)state;
    in_groups(COMM_NCCL);
}

/* ---- streams */

/* Many exchanges under way at once, each behind a piece of work on the compute stream and followed
 * by one; the results of step after step. Both backends at the same time, on streams of their own.
 */
static void buckets_of(comm_backend backend)
{
    enum { BUCKETS = 9, N = 777, STEPS = 3 };
    if (backend == COMM_NCCL && !enough_gpus())
        return;
    comm_device *c = device_comm(world, backend);
    float *x = malloc(BUCKETS * N * sizeof *x), *got = malloc(BUCKETS * N * sizeof *got);
    float *from = lend(x, BUCKETS * N * sizeof *x), *grad = lend(x, BUCKETS * N * sizeof *x);
    float *sum = lend(x, BUCKETS * N * sizeof *x);
    OK(CUDA(cudaStreamSynchronize(work)));
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < BUCKETS * N; i++)
            x[i] = (float)(i % 50 + step + world->rank);
        OK(CUDA(cudaMemcpyAsync(from, x, BUCKETS * N * sizeof *x, cudaMemcpyHostToDevice, work)));
        for (int b = 0; b < BUCKETS; b++) {
            OK(CUDA(cudaMemcpyAsync(grad + b * N, from + b * N, N * sizeof *x,
                                    cudaMemcpyDeviceToDevice, work)));
            OK(comm_device_sum(c, COMM_F32, grad + b * N, N));
        }
        OK(comm_device_join(c, "gradients"));
        OK(CUDA(
            cudaMemcpyAsync(sum, grad, BUCKETS * N * sizeof *x, cudaMemcpyDeviceToDevice, work)));
        fetch(got, sum, BUCKETS * N * sizeof *x);
        OK(comm_device_wait(c, "gradients"));
        OK(CUDA(cudaStreamSynchronize(work)));
        for (int i = 0; i < BUCKETS * N; i++)
            assert_true(got[i] == (float)(world->size * (i % 50 + step) +
                                          world->size * (world->size - 1) / 2));
        const comm_device_times t = comm_device_times_take(c);
        assert_int_equal(t.exchanges, BUCKETS);
        assert_true(t.busy_s > 0 && t.stalled_s >= 0);
    }
    assert_int_equal(comm_device_times_take(c).exchanges, 0);
    comm_device_close(&c);
    give(from);
    give(grad);
    give(sum);
    free(x);
    free(got);
}

static void buckets(void **state)
{
    (void)state;
    buckets_of(COMM_MPI);
    buckets_of(COMM_NCCL);
}

/* Two ranks on one GPU: NCCL says so, AUTO takes MPI. */
static void one_gpu(void **state)
{
    (void)state;
    comm_device *c = NULL;
    comm_device_options o = {.backend = COMM_NCCL};
    comm *node;
    OK(comm_split_node(world, &node));
    if (node->size > 1) {
        assert_int_equal(comm_device_open(node, 0, work, &o, &c), STATUS_USAGE);
        assert_null(c);
        assert_non_null(strstr(failure_last()->text, "comm.backend"));
    }
    o.backend = COMM_AUTO;
    OK(comm_device_open(node, 0, work, &o, &c));
    assert_string_equal(comm_device_backend(c), "mpi");
    comm_device_close(&c);
    comm_free(&node);
    OK(CUDA(cudaSetDevice(gpu)));
}

/* What is no sum, and parts that do not fit, is refused before anything is queued. */
static void refused(void **state)
{
    (void)state;
    comm_device *c = device_comm(world, COMM_MPI);
    int64_t one[8] = {1, 1, 1, 1, 1, 1, 1, 1}, none[8] = {0};
    assert_int_equal(comm_device_sum(c, COMM_I32, NULL, 1), STATUS_INTERNAL);
    assert_int_equal(comm_device_alltoallv(c, COMM_F32, NULL, one, none, NULL, none, none),
                     STATUS_INTERNAL);
    comm_device_close(&c);
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_mpi),  cmocka_unit_test(by_nccl), cmocka_unit_test(buckets),
        cmocka_unit_test(one_gpu), cmocka_unit_test(refused),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    finish();
    return failed != 0;
}
