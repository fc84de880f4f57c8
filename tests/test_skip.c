/* ranks: 1
 * on: device
 * A step whose gradient holds a NaN, or is far larger than those before it, changes nothing and is
 * counted; a few of them send training back to the newest checkpoint, from where it takes other
 * windows; what does not help is given up; and a run that is resumed in between judges as one that
 * never stopped. */
#include "tests/dataset_fixture.h"
#include "tests/test_device.h"

#include "runtime/core/log.h"
#include "runtime/train/trainer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(x) assert_int_equal(x, STATUS_OK)
#define STEPS 130

static comm *world;
static const char path[] = "skip.h5", run[] = "skip_run";
static config c;

static const char yaml[] =
    "seed: 3\n"
    "data: {path: skip.h5, seq_len: 24, max_gap: 200000}\n"
    "model: {d_model: 16, n_layer: 1, d_inner: 24, l_max: 50, filter_order: 16}\n"
    "position: {encoding: fpe, alpha: 1000, rank: 3, rows: chromosome}\n"
    "optimizer: {lr: 3.0e-3, rows_lr: 2.0e-2}\n"
    "train: {steps: 130, tokens_per_step: 96, eval_every: 0, early_stop: 0, skip_most: 3}\n"
    "checkpoint: {every_steps: 10, every_minutes: 0, keep: 30}\n";

typedef struct {
    train_request ask;
    trainer t;
    coordinator *c;
    run_directory dir;
    int64_t from, to; /* steps done at which the gradient is spoilt, those before `to` */
    float factor;
    int64_t spoilt; /* so many times at most */
    float *before;  /* parameters at `from` */
    bool unchanged;
} bench;

/* The parameters, as the host sees them. */
static float *values_copy(bench *b)
{
    const size_t bytes = (size_t)model_floats(b->t.m) * sizeof(float);
    float *copy = malloc(bytes);
    OK(device_download(b->t.dev, copy, model_values(b->t.m), bytes));
    return copy;
}

static bool values_are(bench *b, const float *other)
{
    float *now = values_copy(b);
    const bool same = memcmp(now, other, (size_t)model_floats(b->t.m) * sizeof(float)) == 0;
    free(now);
    return same;
}

static void spoil_gradients(bench *b)
{
    const int64_t n = model_floats(b->t.m);
    device_view view;
    OK(device_view_open(b->t.dev, model_gradients(b->t.m), (size_t)n * sizeof(float), true, &view));
    float *g = view.host;
    for (int64_t i = 0; i < n; i++)
        g[i] *= b->factor;
    OK(device_view_close(&view, true, STATUS_OK));
    OK(optimizer_begin(&b->t.opt)); /* once more: the norm was taken already */
    OK(device_wait(b->t.dev));
}

/* Called between backward and update. */
static void spoil(void *context, int64_t step, int64_t steps)
{
    bench *b = context;
    (void)steps;
    if (step == b->from && b->spoilt > 0) {
        free(b->before);
        b->before = values_copy(b);
    }
    if (step == b->to && b->before)
        b->unchanged = values_are(b, b->before);
    if (step < b->from || step >= b->to || b->spoilt == 0)
        return;
    b->spoilt--;
    spoil_gradients(b);
}

static bench *begin(bool resume, int64_t from, int64_t to, float factor, int64_t spoilt)
{
    bench *b = calloc(1, sizeof *b);
    const train_roles r = {.world = world, .workers = world};
    *b = (bench){.from = from, .to = to, .factor = factor, .spoilt = spoilt};
    b->ask = (train_request){.config = &c,
                             .from = "none",
                             .run = run,
                             .resume = resume,
                             .device = test_device(),
                             .threads = 1,
                             .command = "",
                             .versions = "",
                             .tick = spoil,
                             .tick_context = b};
    OK(trainer_open(&b->t, &b->ask, &r));
    snprintf(b->dir.path, sizeof b->dir.path, "%s", run);
    const seat me = {.host = "here", .pid = getpid()};
    const coordinator_setting at = {
        .name = "pretrain", .total = STEPS, .workers = 1, .seats = &me, .host = "here"};
    OK(coordinator_open(&b->dir, &c, &at, &b->c));
    b->t.link = (coordinator_link){.world = world, .inside = b->c, .answer_within_s = 30};
    OK(trainer_open_saver(&b->t));
    return b;
}

static void end(bench *b)
{
    coordinator_close(&b->c);
    free(b->before);
    trainer_close(&b->t);
    free(b);
}

static void clear(void)
{
    assert_int_equal(system("rm -rf skip_run; mkdir -p skip_run/checkpoints"), 0);
}

static bool journal_has(const char *word)
{
    char command[128];
    snprintf(command, sizeof command, "grep -q '\"event\":\"%s\"' %s/events.jsonl", word, run);
    return system(command) == 0;
}

static void some_are_skipped(void **state)
{
    (void)state;
    clear();
    bench *b = begin(false, 5, 7, NAN, 2);
    OK(trainer_loop(&b->t));
    assert_true(b->unchanged);
    assert_int_equal(b->t.state.step, STEPS);
    assert_int_equal(b->t.state.steady.skipped, 2);
    assert_int_equal(b->t.state.steady.rolled, 0);
    assert_true(journal_has("nan") && !journal_has("rollback"));
    end(b);
}

static void a_wild_one_is_skipped(void **state)
{
    (void)state;
    clear();
    bench *b = begin(false, 120, 121, 1e4f, 1);
    OK(trainer_loop(&b->t));
    assert_true(b->unchanged);
    assert_int_equal(b->t.state.steady.skipped, 1);
    assert_true(journal_has("skip") && !journal_has("nan"));
    end(b);
    clear();
    b = begin(false, 120, 121, 3.0f, 1); /* unusual is not wild */
    OK(trainer_loop(&b->t));
    assert_int_equal(b->t.state.steady.skipped, 0);
    end(b);
}

static void a_few_go_back(void **state)
{
    (void)state;
    float *whole = NULL;
    for (int resumed = 0; resumed < 2; resumed++) {
        clear();
        bench *b = begin(false, 25, 28, NAN, 3);
        if (resumed) { /* stops after the first skipped step, and after the way back */
            b->t.last = 26;
            OK(trainer_loop(&b->t));
            end(b);
            b = begin(true, 26, 28, NAN, 2);
            b->t.last = 45;
            OK(trainer_loop(&b->t));
            end(b);
            b = begin(true, -1, -1, NAN, 0);
        }
        OK(trainer_loop(&b->t));
        assert_int_equal(b->t.state.step, STEPS);
        assert_int_equal(b->t.state.steady.rolled, 1);
        assert_int_equal(b->t.state.steady.skipped, 3);
        /* back to 20; where the job stopped at 26, to that */
        assert_int_equal(b->t.state.steady.shift, resumed ? 2 : 8);
        assert_true(journal_has("rollback"));
        if (!resumed)
            whole = values_copy(b);
        end(b);
    }
    /* a job that dies after the way back and resumes gives the same to the last bit */
    clear();
    bench *b = begin(false, 25, 28, NAN, 3);
    b->t.last = 30;
    OK(trainer_loop(&b->t));
    end(b);
    b = begin(true, -1, -1, NAN, 0);
    OK(trainer_loop(&b->t));
    assert_int_equal(b->t.state.steady.shift, 8);
    assert_true(values_are(b, whole));
    end(b);
    free(whole);
}

static void what_does_not_help(void **state)
{
    (void)state;
    clear();
    bench *b = begin(false, 25, STEPS, NAN, STEPS);
    assert_int_equal(trainer_loop(&b->t), STATUS_INTERNAL);
    assert_non_null(strstr(failure_last()->text, "norm is nan"));
    assert_non_null(strstr(failure_last()->text, "did not help"));
    end(b);
    clear();
    b = begin(false, 5, STEPS, NAN, STEPS);
    b->t.last = 7; /* two, and then the end */
    assert_int_equal(trainer_loop(&b->t), STATUS_INTERNAL);
    assert_non_null(strstr(failure_last()->text, "no checkpoint"));
    end(b);
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    log_open(1, true);
    if (test_device_missing()) {
        comm_end(&world);
        return TEST_SKIPPED;
    }
    fixture f;
    const fixture_shape shape = {.people = 30, .chromosomes = 2, .sites = 300, .carried = 400};
    fixture_make(&f, &shape, 5);
    const dataset_part part = fixture_part(&f, 0, 1);
    if (dataset_write(path, world, &part, NULL) != STATUS_OK)
        return 1;
    config_defaults(&c);
    if (config_read_text(&c, "test.yaml", yaml, strlen(yaml)) != STATUS_OK ||
        config_finish(&c, true) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(some_are_skipped),
        cmocka_unit_test(a_wild_one_is_skipped),
        cmocka_unit_test(a_few_go_back),
        cmocka_unit_test(what_does_not_help),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fixture_free(&f);
    failed += system("rm -rf skip_run skip.h5") != 0;
    comm_end(&world);
    return failed;
}
