/* ranks: 1 2 3
 * Training over several workers against one worker alone, in the same program: the same global
 * batch, gradients of parameters and rows of the first step to 1e-5, the losses of twenty steps to
 * 1e-5, the same copies of everything on all workers after them, validation that is the same in
 * every stage. And whose windows they are: never
 * those of people who are held out. */
#include "tests/dataset_fixture.h"

#include "runtime/core/log.h"
#include "runtime/train/deal.h"
#include "runtime/train/trainer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(x) assert_int_equal(x, STATUS_OK)
#define STEPS 20

static comm *world, *self;
static char path[64], run[64];

static const char yaml[] =
    "seed: 3\n"
    "data: {path: %s, seq_len: 40, max_gap: 200000}\n"
    "model: {d_model: 32, n_layer: 2, d_inner: 48, l_max: 50, filter_order: 16}\n"
    "position: {encoding: fpe, alpha: 500, rank: 5, rows: chromosome, init: %s}\n"
    "optimizer: {lr: 3.0e-3, rows_lr: 1.0e-2}\n"
    "train: {steps: 24, tokens_per_step: %d, micro_batch: %d, eval_every: 3, eval_windows: 7}\n"
    "finetune: {steps: 24, head_hidden: 8, lr: 1.0e-3}\n";

static void configure(config *c, const char *init, int tokens, int micro)
{
    char text[1024];
    snprintf(text, sizeof text, yaml, path, init, tokens, micro);
    config_defaults(c);
    OK(config_read_text(c, "test.yaml", text, strlen(text)));
    OK(config_finish(c, true));
}

static void open_trainer(trainer *t, train_request *ask, const config *c, bool finetune, comm *who)
{
    *ask = (train_request){.config = c,
                           .finetune = finetune,
                           .from = "none",
                           .run = run,
                           .device = DEVICE_CPU,
                           .threads = 1,
                           .command = "",
                           .versions = ""};
    const train_roles r = {.world = who, .workers = who};
    OK(trainer_open(t, ask, &r));
    t->link = (coordinator_link){.world = who, .worker = t->worker, .alone = true};
}

static double worst(const float *a, const float *b, int64_t n)
{
    double scale = 1e-12, most = 0;
    for (int64_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(b[i]));
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)a[i] - b[i]));
    return most / scale;
}

static void same_gradients(bool finetune, const char *init, int tokens, int micro, int micro_alone)
{
    static config many, one;
    train_request ask[2];
    trainer *t = calloc(2, sizeof *t);
    configure(&many, init, tokens, micro);
    configure(&one, init, tokens, micro_alone);
    open_trainer(&t[0], &ask[0], &many, finetune, world);
    open_trainer(&t[1], &ask[1], &one, finetune, self);
    for (int64_t step = 0; step < STEPS; step++) {
        step_sums s[2] = {0};
        for (int i = 0; i < 2; i++)
            OK(trainer_gradients(&t[i], step, &s[i]));
        assert_int_equal(s[0].sums.targets, s[1].sums.targets);
        if (step == 0) { /* from the same values: later ones have drifted by rounding */
            assert_true(fabs(s[0].sums.loss - s[1].sums.loss) < 1e-5 * s[1].sums.loss);
            assert_true(worst(model_gradients(t[0].m), model_gradients(t[1].m),
                              model_floats(t[0].m)) < 1e-5);
            row_exchange x[2] = {0};
            for (int i = 0; i < 2; i++)
                OK(row_exchange_merge(&x[i], t[i].m, 0, t[i].roles.workers));
            assert_true(x[0].count > 20 && x[0].count == x[1].count);
            assert_memory_equal(x[0].row, x[1].row, (size_t)x[0].count * sizeof *x[0].row);
            assert_true(worst(x[0].grad, x[1].grad, x[0].count * x[0].k) < 1e-5);
            for (int i = 0; i < 2; i++)
                row_exchange_close(&x[i]);
        }
        assert_true(fabs(s[0].sums.loss - s[1].sums.loss) < 1e-5 * s[1].sums.loss);
        optimizer_report o[2];
        for (int i = 0; i < 2; i++)
            OK(optimizer_step(&t[i].opt, step, s[i].sums.targets, &o[i]));
        assert_true(fabs(o[0].norm - o[1].norm) < 1e-4 * o[1].norm);
    }
    /* Copies on all workers are equal to the last bit. */
    const size_t bytes = (size_t)model_floats(t[0].m) * sizeof(float);
    void *first = malloc(bytes);
    memcpy(first, model_values(t[0].m), bytes);
    OK(comm_bcast(world, first, bytes, 0));
    assert_memory_equal(first, model_values(t[0].m), bytes);
    free(first);
    row_table *rows[ROW_TABLES];
    position_tables(model_position(t[0].m), rows);
    double sum[2] = {0, 0};
    for (int64_t i = 0; i < rows[0]->slots; i++)
        for (int64_t k = 0; k < rows[0]->k; k++)
            sum[0] = fmax(sum[0], fabs((double)rows[0]->p[i * rows[0]->k + k]));
    sum[1] = -sum[0];
    OK(comm_max_f64(world, sum, 2));
    assert_true(sum[0] == -sum[1] && sum[0] > 0);
    /* and validation does not depend on how it is divided */
    train_sums v[2];
    for (int i = 0; i < 2; i++)
        OK(validation_run(&t[i], &v[i]));
    assert_int_equal(v[0].targets, v[1].targets);
    assert_true(v[0].targets > 0 && fabs(v[0].loss - v[1].loss) < 1e-3 * v[1].loss);
    for (int i = 0; i < 2; i++)
        trainer_close(&t[i]);
    free(t);
}

static void pretraining(void **state)
{
    (void)state;
    same_gradients(false, "zero", 520, 2, 13);
    same_gradients(false, "normal", 520, 5, 1);
    same_gradients(false, "zero", 80, 1, 2); /* fewer windows than workers */
    ;
}

static void finetuning(void **state)
{
    (void)state;
    same_gradients(true, "normal", 520, 3, 4);
}

/* The same weights get the same validation in every stage, whoever shares its windows. */
static void validation_in_stages(void **state)
{
    (void)state;
    static config c;
    train_request ask;
    trainer *t = calloc(1, sizeof *t);
    for (int tokens = 40; tokens <= 520; tokens += 480) { /* one sequence a step, and many */
        configure(&c, "normal", tokens, 2);
        c.n_stages = 2;
        c.stages[0] = (config_stage){.seq_len = 10, .steps = 2};
        c.stages[1] = (config_stage){.seq_len = 24, .steps = 4, .context_parallel = 1};
        c.train.context_parallel = CONFIG_AUTO;
        open_trainer(t, &ask, &c, false, world);
        const int64_t first[] = {0, 2, 6, 0};
        train_sums v[4];
        for (int i = 0; i < 4; i++) {
            OK(trainer_enter_stage(t, first[i]));
            assert_int_equal(t->apart, i != 2);
            OK(validation_run(t, &v[i]));
            assert_int_equal(v[i].targets, 7 * 39);
            assert_true(fabs(v[i].loss - v[0].loss) < 1e-6 * v[0].loss);
        }
        assert_int_equal(t->how.valid, tokens == 40 ? t->workers : 1);
        assert_true(v[3].loss == v[0].loss);
        trainer_close(t);
    }
    free(t);
}

/* The windows of a step, from the thread and on the spot, and whose they are. */
static void windows(void **state)
{
    (void)state;
    static config c;
    train_request ask;
    trainer *t = calloc(1, sizeof *t);
    configure(&c, "zero", 520, 2);
    open_trainer(t, &ask, &c, false, world);
    loader_source s = {.data = t->data,
                       .draws = t->draws,
                       .plan = &t->sched,
                       .shards = t->data->n_shards,
                       .workers = t->workers,
                       .worker = t->worker,
                       .sharers = 1,
                       .end = 12};
    loader *l = NULL;
    OK(loader_open(&s, 5, &l)); /* as after a resume */
    for (int64_t step = 5; step < 12; step++) {
        const feed *f = NULL;
        feed made = {0};
        OK(loader_next(l, step, &f));
        OK(loader_make(&s, step, &made));
        assert_int_equal(f->n, made.n);
        const size_t n = (size_t)(f->n * f->Lp);
        assert_memory_equal(f->ids, made.ids, n);
        assert_memory_equal(f->targets, made.targets, n);
        assert_memory_equal(f->position, made.position, n * sizeof *f->position);
        feed_close(&made);
    }
    const feed *f = NULL;
    assert_int_not_equal(loader_next(l, 12, &f), STATUS_OK); /* past the end: an error, no wait */
    loader_close(&l);
    const stage *now = schedule_stage(&t->sched, 0);
    for (int64_t step = 0; step < 300; step++)
        for (int64_t i = 0; i < now->slots; i++) {
            const int64_t slot = deal_slot(now->slots, s.shards, i);
            const window w = draws_train(t->draws, step, slot, now->seq_len);
            assert_int_equal(w.count, now->seq_len);
            assert_int_equal(t->data->people[w.person].split, SPLIT_TRAIN);
        }
    for (int64_t i = 0; i < 3000; i++)
        assert_int_equal(t->data->people[draws_valid(t->draws, i, now->seq_len).person].split,
                         SPLIT_VALID);
    trainer_close(t);
    free(t);
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK ||
        comm_split(world, comm_rank(world), 0, &self) != STATUS_OK)
        return 1;
    log_open(comm_rank(world), true);
    snprintf(path, sizeof path, "train_ranks_%d.h5", comm_size(world));
    snprintf(run, sizeof run, "train_ranks_run_%d", comm_size(world));
    fixture f;
    const fixture_shape shape = {
        .people = 30, .chromosomes = 2, .sites = 300, .carried = 400, .gap_every = 150};
    if (fixture_write(&f, &shape, 5, world, path) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pretraining),
        cmocka_unit_test(finetuning),
        cmocka_unit_test(validation_in_stages),
        cmocka_unit_test(windows),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fixture_free(&f);
    comm_barrier(world);
    if (comm_rank(world) == 0)
        unlink(path);
    comm_free(&self);
    comm_end(&world);
    return failed;
}
