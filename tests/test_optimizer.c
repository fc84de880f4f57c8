/* ranks: 1 2
 * The optimizer against a dense AdamW in double over the same gradients, written out plainly: every
 * group with its own rate and decay, the position rows as one dense table of which most is
 * untouched at a step, schedule, clipping, and a checkpoint in the middle. */
#include "tests/dataset_fixture.h"

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
#define STEPS 24
#define MIDDLE 11

static comm *world;
static char path[64], run[64];

static const char yaml[] =
    "seed: 3\n"
    "data: {path: %s, seq_len: 24, max_gap: 200000}\n"
    "model: {d_model: 16, n_layer: 1, d_inner: 24, l_max: 50, filter_order: 16}\n"
    "position: {encoding: fpe, alpha: 1000, rank: 3, rows: chromosome, init: %s}\n"
    "optimizer: {lr: 3.0e-3, rows_lr: 2.0e-2, head_lr: 7.0e-3, betas: [0.8, 0.95],\n"
    "            weight_decay: 0.1, filter_weight_decay: 0.03}\n"
    "scheduler: {warmup: 0.2, min_lr: 3.0e-4}\n"
    "train: {steps: 24, tokens_per_step: 96, eval_every: 0, grad_clip: %g}\n"
    "finetune: {steps: 24, head_hidden: 8, lr: 5.0e-3}\n";

/* One dense AdamW. */
typedef struct {
    int64_t n;
    double *p, *m, *v;
} dense;

static void dense_open(dense *d, int64_t n)
{
    *d = (dense){n, calloc((size_t)n, sizeof(double)), calloc((size_t)n, sizeof(double)),
                 calloc((size_t)n, sizeof(double))};
    assert_true(d->p && d->m && d->v);
}

static void dense_close(dense *d)
{
    free(d->p);
    free(d->m);
    free(d->v);
}

static void dense_step(dense *d, int64_t first, int64_t n, const double *g, double lr, double decay,
                       int64_t step)
{
    const double b1 = 0.8, b2 = 0.95, t = (double)step + 1;
    for (int64_t i = first; i < first + n; i++) {
        d->p[i] -= lr * decay * d->p[i];
        d->m[i] = b1 * d->m[i] + (1 - b1) * g[i];
        d->v[i] = b2 * d->v[i] + (1 - b2) * g[i] * g[i];
        d->p[i] -= lr * (d->m[i] / (1 - pow(b1, t))) / (sqrt(d->v[i] / (1 - pow(b2, t))) + 1e-8);
    }
}

/* What the configuration above means for a parameter; written down here a second time. */
static void rates_of(const parameter *p, bool finetune, double factor, double *lr, double *decay)
{
    *lr = (p->group == GROUP_HEAD ? 7e-3 : finetune ? 5e-3 : 3e-3) * factor;
    *decay = p->group == GROUP_FILTER ? (p->decay ? 0.1 : 0.03) : p->decay ? 0.1 : 0;
}

static double factor_at(int64_t step)
{
    if (step < 5)
        return (double)(step + 1) / 5;
    return 0.1 + 0.9 * 0.5 * (1 + cos(M_PI * (double)(step - 5) / 18));
}

static void open_trainer(trainer *t, train_request *ask, const config *c, bool finetune,
                         bool resume)
{
    *ask = (train_request){.config = c,
                           .finetune = finetune,
                           .from = "none",
                           .run = run,
                           .resume = resume,
                           .device = DEVICE_CPU,
                           .threads = 1,
                           .command = "",
                           .versions = ""};
    const train_roles r = {.world = world, .workers = world};
    OK(trainer_open(t, ask, &r));
    t->link = (coordinator_link){.world = world, .worker = t->worker, .alone = true};
}

/* Gradients of this step as doubles: parameters, then all rows of the table. */
static double gather(trainer *t, int64_t targets, double *g, double *rows)
{
    const float *from = model_gradients(t->m);
    double squares = 0;
    for (int64_t i = 0; i < model_floats(t->m); i++) {
        g[i] = (double)from[i] / (double)targets;
        squares += g[i] * g[i];
    }
    row_exchange x = {0};
    OK(row_exchange_merge(&x, t->m, 0, world));
    assert_true(x.count > 0);
    for (int64_t i = 0; i < x.count * x.k; i++) {
        double *to = &rows[x.row[i / x.k] * x.k + i % x.k];
        *to = (double)x.grad[i] / (double)targets;
        squares += *to * *to;
    }
    row_exchange_close(&x);
    return sqrt(squares);
}

static double far(const double *a, const float *b, int64_t n, double atol)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(a[i] - (double)b[i]) / (atol + fabs(a[i])));
    return most;
}

/* Rows replayed to `step` against the dense table. */
static void check_rows(trainer *t, const dense *table, int64_t step)
{
    row_table *rows[ROW_TABLES];
    position_tables(model_position(t->m), rows);
    const row_table *r = rows[0];
    float *now = calloc((size_t)(r->slots * r->k), sizeof *now);
    const rows_adam_args a = {.b1 = 0.8,
                              .b2 = 0.95,
                              .eps = 1e-8,
                              .scale = 1,
                              .step = step,
                              .lr_of_step = t->opt.rows_rate};
    OK(rows_catch_up(t->dev, &a, r->slots, r->k, NULL, r->p, r->m, r->v, r->last, now));
    int64_t behind = 0;
    for (int64_t i = 0; i < r->slots; i++) {
        assert_true(far(table->p + r->row[i] * r->k, now + i * r->k, r->k, 1e-2) < 1e-4);
        behind += r->last[i] < step;
    }
    assert_true(r->slots > 20 && behind > 5); /* most rows did sit some steps out */
    free(now);
}

static void dense_twin(bool finetune, const char *init, double clip)
{
    static config c;
    char text[1024];
    snprintf(text, sizeof text, yaml, path, init, clip);
    config_defaults(&c);
    OK(config_read_text(&c, "test.yaml", text, strlen(text)));
    OK(config_finish(&c, true));
    trainer *t = calloc(1, sizeof *t);
    train_request ask;
    open_trainer(t, &ask, &c, finetune, false);
    row_table *rows[ROW_TABLES];
    position_tables(model_position(t->m), rows);
    const int64_t floats = model_floats(t->m), cells = rows[0]->rows * rows[0]->k;
    dense body, table;
    dense_open(&body, floats);
    dense_open(&table, cells);
    double *g = calloc((size_t)floats, sizeof *g), *gr = calloc((size_t)cells, sizeof *gr);
    for (int64_t i = 0; i < floats; i++)
        body.p[i] = (double)model_values(t->m)[i];
    int64_t *all = calloc((size_t)rows[0]->rows, sizeof *all);
    int32_t *slot = calloc((size_t)rows[0]->rows, sizeof *slot);
    for (int64_t i = 0; i < rows[0]->rows; i++)
        all[i] = i;
    OK(position_slots(model_position(t->m), 0, rows[0]->rows, all, true, slot));
    position_tables(model_position(t->m), rows);
    for (int64_t i = 0; i < cells; i++)
        table.p[i] = (double)rows[0]->p[slot[i / rows[0]->k] * rows[0]->k + i % rows[0]->k];
    int clipped = 0;
    for (int64_t step = 0; step < STEPS; step++) {
        step_sums s = {0};
        optimizer_report o;
        OK(trainer_gradients(t, step, &s));
        memset(gr, 0, (size_t)cells * sizeof *gr);
        const double norm = gather(t, s.sums.targets, g, gr), factor = factor_at(step);
        const double keep = norm > clip ? clip / (norm + 1e-6) : 1;
        for (int64_t i = 0; i < floats; i++)
            g[i] *= keep;
        for (int64_t i = 0; i < cells; i++)
            gr[i] *= keep;
        const parameter *list = NULL;
        const int n = model_parameters(t->m, &list);
        for (int i = 0; i < n; i++) {
            double lr, decay;
            rates_of(&list[i], finetune, factor, &lr, &decay);
            dense_step(&body, list[i].offset, list[i].count, g, lr, decay, step);
        }
        dense_step(&table, 0, cells, gr, 2e-2 * factor, 0, step);
        OK(optimizer_step(&t->opt, step, s.sums.targets, &o));
        t->state.step = step + 1;
        assert_true(fabs(o.norm - norm) < 1e-5 * norm);
        assert_int_equal(o.clipped, norm > clip);
        clipped += o.clipped;
        if (step + 1 == MIDDLE) {
            if (comm_rank(world) == 0)
                OK(snapshot_write(t->checkpoints, &c, t->data, finetune, 1, t->m, &t->opt,
                                  &t->state));
            OK(comm_barrier(world));
            trainer_close(t);
            open_trainer(t, &ask, &c, finetune, true);
            assert_int_equal(t->state.step, MIDDLE);
        }
    }
    assert_true(clipped > 0 && clipped < STEPS);
    const parameter *list = NULL;
    const int n = model_parameters(t->m, &list);
    for (int i = 0; i < n; i++)
        assert_true(far(body.p + list[i].offset, model_values(t->m) + list[i].offset, list[i].count,
                        1e-2) < 1e-4);
    check_rows(t, &table, STEPS - 1);
    trainer_close(t);
    dense_close(&body);
    dense_close(&table);
    free(t);
    free(g);
    free(gr);
    free(all);
    free(slot);
    OK(comm_barrier(world));
    if (comm_rank(world) == 0) {
        char command[128];
        snprintf(command, sizeof command, "rm -rf %s/checkpoints/*", run);
        assert_int_equal(system(command), 0);
    }
    OK(comm_barrier(world));
}

static void pretraining(void **state)
{
    (void)state;
    dense_twin(false, "zero", 1.3);
    dense_twin(false, "normal", 1.3);
}

static void finetuning(void **state)
{
    (void)state;
    dense_twin(true, "zero", 0.4);
}

/* A gradient that is no number changes nothing. */
static void not_finite(void **state)
{
    (void)state;
    static config c;
    char text[1024];
    snprintf(text, sizeof text, yaml, path, "zero", 1.3);
    config_defaults(&c);
    OK(config_read_text(&c, "test.yaml", text, strlen(text)));
    OK(config_finish(&c, true));
    trainer *t = calloc(1, sizeof *t);
    train_request ask;
    open_trainer(t, &ask, &c, false, false);
    step_sums s = {0};
    OK(trainer_gradients(t, 0, &s));
    const size_t bytes = (size_t)model_floats(t->m) * sizeof(float);
    void *before = malloc(bytes);
    memcpy(before, model_values(t->m), bytes);
    model_gradients(t->m)[3] = NAN;
    OK(optimizer_begin(&t->opt)); /* once more: trainer_gradients did, before */
    optimizer_report o;
    assert_int_equal(optimizer_step(&t->opt, 0, s.sums.targets, &o), STATUS_INTERNAL);
    assert_memory_equal(before, model_values(t->m), bytes);
    free(before);
    trainer_close(t);
    free(t);
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    log_open(comm_rank(world), true);
    snprintf(path, sizeof path, "optimizer_%d.h5", comm_size(world));
    snprintf(run, sizeof run, "optimizer_run_%d", comm_size(world));
    char checkpoints[96];
    snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", run);
    mkdir(run, 0777);
    mkdir(checkpoints, 0777);
    fixture f;
    const fixture_shape shape = {.people = 30, .chromosomes = 2, .sites = 300, .carried = 400};
    if (fixture_write(&f, &shape, 5, world, path) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pretraining),
        cmocka_unit_test(finetuning),
        cmocka_unit_test(not_finite),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fixture_free(&f);
    comm_barrier(world);
    if (comm_rank(world) == 0) {
        unlink(path);
        rmdir(checkpoints);
        rmdir(run);
    }
    comm_end(&world);
    return failed;
}
