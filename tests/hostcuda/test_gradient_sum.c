/* ranks: 1 2 3   on: gpu   links: train
 * Gradients on GPUs: buckets leave while the stream still fills those behind them, last micro-step
 * only, and all workers have the sums before the optimizer reads them; both backends; a worker that
 * is gone. */
#include "tests/hostcuda/group_fixture.h"

#include "runtime/train/gradient_sum.h"

#include <math.h>

#define FLOATS ((int64_t)(3 << 18) + 1234) /* three buckets and a piece */

static device *dev;

static float value(int64_t i, int rank, int step)
{
    return (float)((i * 7 + rank * 3 + step) % 61 - 30);
}

typedef struct {
    gradient_sum g;
    float *host, *fresh, *grad; /* filled here, lent, summed in place */
} run;

static void run_open(run *r, comm_backend backend)
{
    void *fresh, *grad;
    const config c = {.comm = {.backend = backend == COMM_MPI ? BACKEND_MPI : BACKEND_AUTO}};
    r->host = malloc((size_t)FLOATS * sizeof *r->host);
    OK(device_memory_take(dev, (size_t)FLOATS * sizeof(float), &fresh));
    OK(device_memory_take(dev, (size_t)FLOATS * sizeof(float), &grad));
    r->fresh = fresh;
    r->grad = grad;
    gradient_sum_open(dev, r->grad, FLOATS, world, &r->g);
    OK(gradient_sum_connect(&r->g, &c));
}

static void run_close(run *r)
{
    gradient_sum_close(&r->g);
    device_memory_give(dev, r->fresh);
    device_memory_give(dev, r->grad);
    free(r->host);
}

/* Backward: piece after piece is queued and told of, as model_backward does. */
static status backward(run *r, int step)
{
    status st = STATUS_OK;
    const int64_t piece = 200003;
    for (int64_t i = 0; i < FLOATS; i++)
        r->host[i] = value(i, world->rank, step);
    OK(device_upload(dev, r->fresh, r->host, (size_t)FLOATS * sizeof(float)));
    for (int64_t at = 0; st == STATUS_OK && at < FLOATS; at += piece) {
        const int64_t n = FLOATS - at < piece ? FLOATS - at : piece;
        OK(device_copy(dev, r->grad + at, r->fresh + at, (size_t)n * sizeof(float)));
        if (at + n < FLOATS) /* the last one is left to gradient_sum_start */
            st = gradient_sum_ready(&r->g, at, n);
    }
    return st;
}

static void sums_by(comm_backend backend)
{
    run r;
    run_open(&r, backend);
    for (int step = 0; step < 2; step++) {
        double busy_s = -1;
        gradient_sum_begin(&r.g);
        OK(backward(&r, step));
        assert_int_equal(r.g.started, world->size > 1 ? 2 : 0);
        OK(gradient_sum_start(&r.g));
        OK(gradient_sum_wait(&r.g, &busy_s));
        assert_true(world->size > 1 ? busy_s > 0 : isnan(busy_s));
        /* The optimizer: queued behind. */
        OK(device_copy(dev, r.fresh, r.grad, (size_t)FLOATS * sizeof(float)));
        OK(device_download(dev, r.host, r.fresh, (size_t)FLOATS * sizeof(float)));
        for (int64_t i = 0; i < FLOATS; i++) {
            float want = 0;
            for (int rank = 0; rank < world->size; rank++)
                want += value(i, rank, step);
            if (r.host[i] != want)
                fail_msg("gradient %lld of step %d: %g, not %g", (long long)i, step, r.host[i],
                         want);
        }
    }
    run_close(&r);
}

static void by_auto(void **state)
{
    (void)state;
    sums_by(COMM_AUTO);
}

static void by_mpi(void **state)
{
    (void)state;
    sums_by(COMM_MPI);
}

/* A worker that fails before the sums: the others hear why. */
static void a_worker_fails(void **state)
{
    (void)state;
    if (world->size == 1)
        return;
    run r;
    double busy_s;
    run_open(&r, COMM_AUTO);
    gradient_sum_begin(&r.g);
    status st = backward(&r, 0); /* of the others: it may have failed by then */
    if (world->rank == 1) {
        st = fail_at(__FILE__, __LINE__, STATUS_DATA, "x.h5: torn; mend it");
        gradient_sum_abort(&r.g);
    } else {
        if (st == STATUS_OK)
            st = gradient_sum_start(&r.g);
        if (st == STATUS_OK)
            st = gradient_sum_wait(&r.g, &busy_s);
    }
    assert_int_equal(st, world->rank == 1 ? STATUS_DATA : STATUS_RANK);
    assert_non_null(strstr(failure_last()->text, "x.h5: torn; mend it"));
    OK(device_wait(dev));
    run_close(&r);
    OK(comm_barrier(world));
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    if (device_open_cuda(gpu, 1, &dev) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_auto), cmocka_unit_test(by_mpi),
        cmocka_unit_test(a_worker_fails), /* last: what it leaves in the mail */
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_close_cuda(dev);
    free(dev);
    finish();
    return failed != 0;
}
