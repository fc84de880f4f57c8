/* ranks: 1
 * The plan against what a step takes: high-water marks of both arenas are never above the plan, and
 * in training at most 5 % below it, for every keep level, several shapes, heads and encodings. (An
 * operation answers with the larger workspace of its two passes, so a forward pass alone may leave
 * some of it.) What grows with the sites of a span, and the gradients of rows, against training
 * steps on the committed data set, a model with absent sums and a site head: never above the plan,
 * which is at most 1.3 times as large. The tables of rows take what is planned, to the byte. Work
 * grows as it must. */
#include "runtime/train/feed.h"
#include "runtime/train/plan_data.h"
#include "runtime/train/space.h"
#include "tests/must.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    const char *name;
    int64_t d, layers, order, B, L;
    mixer_kind mixer;
    encoding_kind encoding;
    int classes;
} shape;

static config config_of(const shape *s)
{
    config c;
    config_defaults(&c);
    c.model.mixer = s->mixer;
    c.model.order = s->order;
    c.model.d_model = s->d;
    c.model.n_layer = s->layers;
    c.model.d_inner = 4 * s->d;
    c.model.l_max = s->L + 2;
    c.position.encoding = s->encoding;
    c.position.length = 1000000;
    return c;
}

static void near(const char *name, const char *what, int keep, bool training, int64_t planned,
                 size_t high)
{
    if ((int64_t)high > planned || (training && (double)high < 0.95 * (double)planned))
        fail_msg("%s, keep %d, training %d: %s planned %lld, taken %zu", name, keep, training, what,
                 (long long)planned, high);
}

static void run(const shape *s, device *dev, keep_level keep, bool training)
{
    const config c = config_of(s);
    model *m;
    assert_int_equal(model_open(&c, s->classes, dev, &m), STATUS_OK);
    assert_int_equal(model_initialise(m, 1), STATUS_OK);
    const batch_shape bs = {s->B, s->L, length_padded(s->L)};
    const size_t columns = (size_t)(bs.B * bs.Lp);
    uint8_t *ids = malloc(columns), *targets = malloc(columns);
    int64_t *position = malloc(columns * sizeof *position);
    int32_t label[8] = {0};
    memset(ids, TOKEN_A, columns);
    memset(targets, TARGET_NONE, columns);
    targets[0] = TOKEN_A;
    for (size_t i = 0; i < columns; i++)
        position[i] = (int64_t)(1 + i * 37 % 1000000);
    const batch b = {.s = bs,
                     .ids = ids,
                     .targets = targets,
                     .position = position,
                     .label = s->classes ? label : NULL};
    model_cost cost;
    assert_int_equal(model_plan(m, bs, keep, training, &cost), STATUS_OK);
    assert_int_equal(cost.weights, model_floats(m) * 4);
    assert_int_equal(model_prepare(m, bs, keep, training), STATUS_OK);
    loss_sum loss;
    if (training)
        assert_int_equal(model_backward(m, &b, &loss, NULL, NULL), STATUS_OK);
    assert_int_equal(model_forward(m, &b, NULL, &loss),
                     STATUS_OK); /* validation goes on within the same arenas */
    size_t activations, workspace;
    model_high_water(m, &activations, &workspace);
    near(s->name, "activations", keep, training, cost.activations, activations);
    near(s->name, "workspace", keep, training, cost.workspace, workspace);
    free(ids);
    free(targets);
    free(position);
    model_close(&m);
}

static void plan_is_kept(void **state)
{
    (void)state;
    const shape shapes[] = {
        {"usual", 64, 2, 2, 4, 1000, MIXER_HYENA, ENCODING_NONE, 0},
        {"rows", 32, 1, 2, 3, 777, MIXER_HYENA, ENCODING_FPE, 0},
        {"several tables", 64, 2, 2, 2, 600, MIXER_HYENA, ENCODING_FPE_MULTI, 3},
        {"sinusoidal", 64, 1, 2, 2, 1000, MIXER_HYENA, ENCODING_SINUSOIDAL, 0},
        {"order 3", 32, 2, 3, 2, 1000, MIXER_HYENA, ENCODING_NONE, 0},
        {"one long sequence", 64, 1, 2, 1, 16384, MIXER_HYENA, ENCODING_NONE, 0},
        {"no mixer", 64, 2, 2, 4, 500, MIXER_NONE, ENCODING_FPE, 0},
        {"rows and head alone", 16, 0, 2, 8, 512, MIXER_HYENA, ENCODING_FPE, 4},
    };
    device *dev;
    assert_int_equal(device_open(DEVICE_CPU, 2, &dev), STATUS_OK);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (keep_level keep = KEEP_INPUT; keep <= KEEP_ALL; keep++)
            for (int training = 0; training < 2; training++)
                run(&shapes[i], dev, keep, training);
    device_close(&dev);
}

static void work(void **state)
{
    (void)state;
    const shape s = {"work", 64, 3, 2, 4, 1000, MIXER_HYENA, ENCODING_NONE, 0};
    const config c = config_of(&s);
    device *dev;
    model *m;
    model_cost least, some, all, twice;
    assert_int_equal(device_open(DEVICE_CPU, 2, &dev), STATUS_OK);
    assert_int_equal(model_open(&c, 0, dev, &m), STATUS_OK);
    assert_int_equal(model_plan(m, (batch_shape){4, 1000, 1024}, KEEP_INPUT, true, &least),
                     STATUS_OK);
    assert_int_equal(model_plan(m, (batch_shape){4, 1000, 1024}, KEEP_SELECTED, true, &some),
                     STATUS_OK);
    assert_int_equal(model_plan(m, (batch_shape){4, 1000, 1024}, KEEP_ALL, true, &all), STATUS_OK);
    assert_int_equal(model_plan(m, (batch_shape){8, 1000, 1024}, KEEP_ALL, true, &twice),
                     STATUS_OK);
    /* keeping trades memory for work */
    assert_true(least.activations < some.activations && some.activations < all.activations);
    assert_true(least.flops_backward > some.flops_backward &&
                some.flops_backward > all.flops_backward);
    assert_true(least.flops_forward == all.flops_forward);
    /* products: 2 columns 12 d^2 a layer forward, twice that backward; transforms and filters come
     * on top */
    const int64_t products = (int64_t)2 * 4 * 1024 * 3 * 12 * 64 * 64;
    assert_true(all.flops_forward > products && all.flops_forward < 3 * products);
    assert_true(all.flops_backward > 2 * products && all.flops_backward < 6 * products);
    assert_true(twice.activations == 2 * all.activations);
    /* input only: one residual a layer, the last one, and one gradient */
    assert_int_equal(least.activations, (int64_t)(3 + 2) * 64 * 4 * 1024 * 4);
    model_close(&m);
    device_close(&dev);
}

/* ---- ragged memory, on real windows ---- */

static comm *world;

typedef struct {
    const char *name;
    int64_t B, L, windows;
    encoding_kind encoding;
    alleles_kind alleles;
    absent_kind absent;
    bool next_site;
    rows_kind rows;
} ragged_case;

static config config_of_case(const ragged_case *k)
{
    config c;
    config_defaults(&c);
    c.data.seq_len = k->L;
    c.data.absent = k->absent;
    c.data.alleles = k->alleles;
    c.model.d_model = 16;
    c.model.n_layer = 1;
    c.model.d_inner = 32;
    c.model.l_max = k->L + 2;
    c.model.filter_order = 8;
    c.model.head = HEAD_CLASS_CONDITIONAL;
    c.model.head_rank = 8;
    c.position.encoding = k->encoding;
    c.position.alpha = 1;
    c.position.rank = 6;
    c.position.rows = k->rows;
    c.position.init = INIT_NORMAL;
    c.objective = k->next_site ? OBJECTIVE_NEXT_SITE : OBJECTIVE_AUTOREGRESSIVE;
    c.train.tokens_per_step = k->windows * k->L;
    c.train.micro_batch = k->B;
    return c;
}

static void place(model *m, const dataset *d)
{
    position_space space;
    must(space_of_dataset(d, &space));
    must(model_place(m, &space));
    space_free(&space);
}

/* Planned and taken bytes: never above, and not far below. */
static void within(const char *name, const char *what, int64_t planned, int64_t taken)
{
    if (taken > planned || (double)planned > 1.3 * (double)taken)
        fail_msg("%s: %s planned %lld, taken %lld", name, what, (long long)planned,
                 (long long)taken);
}

/* One step of several micro-steps: rows are created, their gradients gathered. */
static void run_ragged(const ragged_case *k, const dataset *d, device *dev)
{
    const config c = config_of_case(k);
    const int classes = k->next_site ? 0 : (int)d->n_labels;
    plan_request q = {.workers = 1, .training = true};
    draws *x = NULL;
    model *m = NULL;
    plan p;
    must(draws_open(d, &c.data, 1, &x));
    must(model_open(&c, classes, dev, &m));
    place(m, d);
    must(model_initialise(m, 1));
    must(position_site_biases(model_position(m), NULL, NULL));
    must(plan_of_data(&c, d, x, classes, &q));
    must(plan_make(m, &c, &q, &p));
    const float *sums[ROW_TABLES];
    for (int i = 0; i < p.tables; i++) {
        must(position_reserve(model_position(m), i, p.table[i].rows));
        must(model_reserve_gradients(m, i, p.touched[i]));
        sums[i] = model_touched_rows(m, i).sum;
    }
    assert_int_equal(p.micro_batch, k->B);
    must(model_prepare(m, (batch_shape){k->B, k->L, length_padded(k->L)}, p.keep, true));
    feed f;
    must(feed_open(k->B, k->L, true, &f));
    for (int64_t at = 0; at < k->windows; at += k->B) {
        loss_sum loss = {0};
        for (int64_t i = 0; i < k->B; i++) {
            const window w = draws_train(x, 0, at + i, k->L);
            must(feed_fill(&f, i, d, x, &w, classes > 0));
        }
        const batch b = feed_slice(&f, 0, k->B, classes > 0);
        must(model_backward(m, &b, &loss, NULL, NULL));
    }

    row_table *tables[ROW_TABLES];
    int64_t touched = 0, pending = 0;
    int fitting = 0;
    assert_int_equal(position_tables(model_position(m), tables), q.tables);
    for (int i = 0; i < q.tables; i++) {
        int64_t count;
        const int32_t *slots;
        const float *sum;
        assert_int_equal(model_row_gradients(m, i, &count, &slots, &sum), STATUS_OK);
        assert_int_equal(tables[i]->k, q.table[i].k);
        assert_int_equal(tables[i]->rows, q.table[i].space);
        assert_true(tables[i]->slots <= q.table[i].rows);
        if (count <= p.touched[i]) /* the room was there */
            assert_ptr_equal(model_touched_rows(m, i).sum, sums[i]);
        fitting += count <= p.touched[i];
        touched += count * (2 * tables[i]->k * 4 + 40); /* pending, by row, sorted */
        pending += count;
    }
    assert_true(pending > 100 && fitting > 0);
    within(k->name, "gradients of rows", p.row_gradients, touched);
    within(k->name, "ragged arrays", p.ragged, model_ragged_bytes(m));
    assert_int_equal(model_tables_bytes(m), p.position_table);
    size_t activations, workspace;
    model_high_water(m, &activations, &workspace);
    assert_int_equal(p.total, p.weights + p.gradients + p.optimizer + p.position_table +
                                  p.activations + p.workspace);
    within(k->name, "activations", p.activations, (int64_t)activations);
    within(k->name, "workspace", p.workspace - p.batches,
           (int64_t)workspace + model_ragged_bytes(m));
    feed_close(&f);
    model_close(&m);
    draws_close(&x);
}

static void ragged_memory_is_planned(void **state)
{
    (void)state;
    const ragged_case cases[] = {
        {"classes", 16, 64, 64, ENCODING_FPE, ALLELES_UNION, ABSENT_SUMS, false, ROWS_CHROMOSOME},
        {"haplotypes", 16, 48, 96, ENCODING_FPE, ALLELES_HAPLOTYPE, ABSENT_SUMS, false, ROWS_SITE},
        {"next site", 16, 64, 64, ENCODING_FPE, ALLELES_UNION, ABSENT_SUMS, true, ROWS_SHARED},
        {"several tables", 8, 128, 64, ENCODING_FPE_MULTI, ALLELES_UNION, ABSENT_SUMS, false,
         ROWS_SITE},
        {"all in the end", 8, 128, 64, ENCODING_FPE_MULTI, ALLELES_UNION, ABSENT_SUMS, false,
         ROWS_SHARED},
        {"head alone", 16, 64, 64, ENCODING_FPE, ALLELES_UNION, ABSENT_NONE, false,
         ROWS_CHROMOSOME},
    };
    dataset *d = NULL;
    device *dev = NULL;
    must(device_open(DEVICE_CPU, 2, &dev));
    must(dataset_open(SOURCE_DIR "/tests/data/small.h5", world, &d));
    must(dataset_block(d, 1000000));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run_ragged(&cases[i], d, dev);
    dataset_close(&d);
    device_close(&dev);
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(plan_is_kept), cmocka_unit_test(work),
                                       cmocka_unit_test(ragged_memory_is_planned)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_end(&world);
    return failed;
}
