/* ranks: 1 3
 * on: device
 * A checkpoint that is written while training goes on holds the very state of the step at which it
 * was taken, rows that were changed since included, in a file that h5 and the manifest agree on;
 * one that a worker cannot write ends on all workers and leaves the older one. */
#include "tests/dataset_fixture.h"
#include "tests/test_device.h"

#include "runtime/core/log.h"
#include "runtime/train/keeper.h"
#include "runtime/train/model_file.h"
#include "runtime/train/trainer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(x) assert_int_equal(x, STATUS_OK)
#define BEFORE 6 /* steps */
#define AFTER 4
#define MOST 256

static comm *world;
static char path[64], run[64];
static config c;

static const char yaml[] =
    "seed: 3\n"
    "data: {path: %s, seq_len: 24, max_gap: 200000}\n"
    "model: {d_model: 16, n_layer: 1, d_inner: 24, l_max: 50, filter_order: 16}\n"
    "position: {encoding: fpe-multi, rank: 3, rows: chromosome}\n"
    "optimizer: {lr: 3.0e-3, rows_lr: 2.0e-2}\n"
    "train: {steps: 24, tokens_per_step: 96, eval_every: 0}\n";

typedef struct {
    train_request ask;
    trainer t;
    saver *s;
    keeper *k;
} bench;

static bench *begin(void)
{
    bench *b = calloc(1, sizeof *b);
    const train_roles r = {.world = world, .workers = world};
    b->ask = (train_request){.config = &c,
                             .from = "none",
                             .run = run,
                             .device = test_device(),
                             .threads = 1,
                             .command = "",
                             .versions = ""};
    OK(trainer_open(&b->t, &b->ask, &r));
    b->t.link = (coordinator_link){.world = world, .worker = b->t.worker, .alone = true};
    const saver_place at = {.dir = b->t.checkpoints,
                            .m = b->t.m,
                            .o = &b->t.opt,
                            .d = b->t.data,
                            .world = world,
                            .worker = b->t.worker,
                            .workers = b->t.workers,
                            .block_bytes = 200};
    OK(saver_open(&at, &b->s));
    b->t.opt.before_rows = saver_before;
    b->t.opt.before_context = b->s;
    if (comm_rank(world) == 0)
        OK(keeper_open(b->t.checkpoints, &c, 0, comm_size(world), &b->k));
    return b;
}

static void end(bench *b)
{
    char command[256];
    snprintf(command, sizeof command, "rm -f %s/checkpoints/*", run);
    OK(comm_barrier(world));
    if (b->k)
        assert_int_equal(system(command), 0);
    saver_close(&b->s);
    keeper_close(&b->k);
    trainer_close(&b->t);
    free(b);
    OK(comm_barrier(world));
}

static void step(bench *b)
{
    step_sums s = {0};
    optimizer_report o;
    OK(trainer_gradients(&b->t, b->t.state.step, &s));
    OK(optimizer_step(&b->t.opt, b->t.state.step, s.sums.targets, &o));
    b->t.state.step++;
}

static void tend(bench *b, double copy_s)
{
    keeper_state state = KEEPER_NOTHING;
    keeper_news news;
    if (b->k)
        OK(keeper_poll(b->k, world, &state));
    if (state == KEEPER_WRITTEN)
        OK(keeper_commit(b->k, NULL, 0));
    if (state == KEEPER_ENDED)
        OK(keeper_end(b->k, world, &news));
    OK(saver_tend(b->s, copy_s));
}

static void take(bench *b)
{
    checkpoint_header h = {.step = b->t.state.step};
    char *texts[2] = {NULL, NULL};
    if (b->t.worker == 0)
        OK(snapshot_header(&c, b->t.data, false, b->t.workers, &b->t.opt, &b->t.state, &h, texts));
    OK(saver_take(b->s, &h, false, 0));
    free(texts[0]);
    free(texts[1]);
}

static void settle(bench *b)
{
    while (saver_busy(b->s)) {
        tend(b, 1.0);
        usleep(200);
    }
}

/* ---- what the file must hold ---- */

static int64_t list_copies(bench *b, checkpoint_tensor *list)
{
    int64_t n = 0;
    void *host = NULL;
    model_tensors(b->t.m, b->t.opt.first, b->t.opt.second, b->t.opt.rows_rate, b->t.state.step,
                  list, MOST, &n);
    assert_true(n <= MOST);
    OK(model_tensors_to_host(b->t.m, list, n, &host));
    for (int64_t i = 0; i < n; i++) {
        const size_t bytes = (size_t)checkpoint_tensor_bytes(&list[i]);
        void *copy = malloc(bytes + 1);
        memcpy(copy, list[i].data, bytes);
        list[i].data = copy;
    }
    free(host);
    return n;
}

/* Rows come in the order of their owners: found by number. */
static void check_rows(checkpoint *f, const checkpoint_tensor *first)
{
    const int64_t n = first->shape[0];
    int64_t *row = malloc((size_t)n * sizeof *row);
    OK(checkpoint_read(f, first->name, row, n));
    for (int column = 1; column < 5; column++) {
        const checkpoint_tensor *t = &first[column];
        const size_t width = (size_t)(checkpoint_tensor_bytes(t) / n);
        char *got = malloc((size_t)n * width);
        OK(checkpoint_read(f, t->name, got,
                           checkpoint_tensor_bytes(t) / 4 / (t->ndim == 1 ? 2 : 1)));
        for (int64_t i = 0; i < n; i++) {
            int64_t at = 0;
            while (at < n && ((const int64_t *)first->data)[at] != row[i])
                at++;
            assert_true(at < n);
            assert_memory_equal(got + (size_t)i * width, (const char *)t->data + (size_t)at * width,
                                width);
        }
        free(got);
    }
    free(row);
}

static void check_file(const char *dir, int64_t at, const checkpoint_tensor *list, int64_t n)
{
    char file[1024];
    checkpoint *f = NULL;
    checkpoint_path(dir, at, file);
    OK(checkpoint_open(file, &f));
    int tables = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t bytes = checkpoint_tensor_bytes(&list[i]);
        if (strncmp(list[i].name, "rows/", 5) == 0 && list[i].kind == ELEMENT_I64) {
            check_rows(f, &list[i]);
            i += 4;
            tables++;
            continue;
        }
        char *got = malloc((size_t)bytes + 1);
        OK(checkpoint_read(f, list[i].name, got, bytes / 4));
        assert_memory_equal(got, list[i].data, bytes);
        free(got);
    }
    assert_int_equal(tables, 4);
    checkpoint_close(&f);
}

static void state_of_its_step(void **state)
{
    (void)state;
    static checkpoint_tensor list[MOST];
    bench *b = begin();
    for (int i = 0; i < BEFORE; i++)
        step(b);
    for (int round = 0; round < 2; round++) { /* the second finds everything used */
        const int64_t at = b->t.state.step;
        const int64_t n = list_copies(b, list);
        take(b);
        for (int i = 0; i < AFTER; i++) {
            step(b);
            tend(b, 0); /* nothing is copied but what changes */
        }
        assert_true(saver_busy(b->s));
        settle(b);
        OK(saver_outcome(b->s));
        OK(comm_barrier(world));
        check_file(b->t.checkpoints, at, list, n);
        for (int64_t i = 0; i < n; i++)
            free((void *)(uintptr_t)list[i].data);
    }
    end(b);
}

/* The last rank may write 4000 bytes a file and no more. */
/* A worker that looks at its mail rarely: the end of one checkpoint and the place of the next may
 * both be there when it does. */
static void one_lags(void **state)
{
    (void)state;
    bench *b = begin();
    step(b);
    for (int i = 0; i < 3; i++) {
        take(b);
        for (int looks = 0; saver_busy(b->s) && looks < 60000; looks++) {
            tend(b, 1.0);
            usleep(b->t.worker == 1 ? 200000 : 500);
        }
        assert_false(saver_busy(b->s));
        OK(saver_outcome(b->s));
        b->t.state.step++; /* no step: they would wait for one another */
    }
    OK(comm_barrier(world));
    end(b);
}

static void one_cannot_write(void **state)
{
    (void)state;
    struct rlimit before, tight;
    struct stat s;
    char file[1100];
    bench *b = begin();
    step(b);
    take(b);
    settle(b);
    OK(saver_outcome(b->s));
    step(b);
    getrlimit(RLIMIT_FSIZE, &before);
    tight = before;
    tight.rlim_cur = 4000;
    if (comm_rank(world) == comm_size(world) - 1)
        setrlimit(RLIMIT_FSIZE, &tight);
    take(b);
    settle(b);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(saver_outcome(b->s), STATUS_RESOURCE);
    assert_non_null(strstr(failure_last()->text, "step-0000002.h5"));
    OK(comm_barrier(world));
    checkpoint *f = NULL;
    OK(checkpoint_newest(b->t.checkpoints, &f));
    assert_int_equal(checkpoint_head(f)->step, 1);
    checkpoint_close(&f);
    checkpoint_part_path(b->t.checkpoints, 2, file);
    assert_int_equal(stat(file, &s), -1);
    OK(comm_barrier(world)); /* all have looked */
    take(b);                 /* and the next one is written */
    settle(b);
    OK(saver_outcome(b->s));
    end(b);
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    log_open(comm_rank(world), true);
    if (test_device_missing()) {
        comm_end(&world);
        return TEST_SKIPPED;
    }
    signal(SIGXFSZ, SIG_IGN);
    char text[1024], command[256];
    snprintf(path, sizeof path, "saver_%d.h5", comm_size(world));
    snprintf(run, sizeof run, "saver_run_%d", comm_size(world));
    if (comm_rank(world) == 0) {
        snprintf(command, sizeof command, "rm -rf %s; mkdir -p %s/checkpoints", run, run);
        if (system(command) != 0)
            return 1;
    }
    fixture f;
    const fixture_shape shape = {.people = 30, .chromosomes = 2, .sites = 300, .carried = 400};
    if (fixture_write(&f, &shape, 5, world, path) != STATUS_OK)
        return 1;
    snprintf(text, sizeof text, yaml, path);
    config_defaults(&c);
    if (config_read_text(&c, "test.yaml", text, strlen(text)) != STATUS_OK ||
        config_finish(&c, true) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_of_its_step),
        cmocka_unit_test(one_lags),
        cmocka_unit_test(one_cannot_write),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fixture_free(&f);
    comm_barrier(world);
    snprintf(command, sizeof command, "rm -rf %s %s", run, path);
    if (comm_rank(world) == 0 && system(command) != 0)
        failed++;
    comm_end(&world);
    return failed;
}
