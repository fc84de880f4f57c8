/* ranks: 1   links: train
 * train.graph: losses, gradients and rows with graphs are those without to the last bit, for
 * batches that differ, several before one wait, in both modes of a recording that fails; what is
 * not the batch that was recorded runs without; nothing waits inside a pass; and what a graph was
 * given by value stays what it was, so that a number that changes from step to step is caught. */
#include "model/parts.h"
#include "runtime/core/rng.h"
#include "tests/hostcuda/group_fixture.h"

#include <math.h>

enum { B_ = 2, L_ = 21, STEPS_ = 6, MICRO_ = 2 };

static device *dev;

static config config_of(graph_kind graph, bool rows)
{
    config c;
    config_defaults(&c);
    c.seed = 5;
    c.model.d_model = 6;
    c.model.n_layer = 2;
    c.model.d_inner = 10;
    c.model.l_max = L_ + 2;
    c.model.filter_order = 6;
    c.model.embed_dropout = 0.2; /* a mask of every step's own */
    c.position.encoding = rows ? ENCODING_FPE : ENCODING_NONE;
    c.position.alpha = 7;
    c.position.rank = 3;
    c.position.rows = ROWS_SHARED;
    c.position.length = 900;
    c.position.init = INIT_NORMAL;
    c.train.graph = graph;
    return c;
}

typedef struct {
    uint8_t ids[B_ * 64], targets[B_ * 64];
    int64_t position[B_ * 64];
    int32_t chromosome[B_];
    batch b;
} own_batch;

/* Another one for every number. */
static void batch_make(own_batch *x, uint64_t number, int64_t B, int64_t L)
{
    rng r = rng_at(3, RNG_TEST, number, 0);
    memset(x, 0, sizeof *x);
    for (int64_t i = 0; i < B * 64; i++) {
        const bool pad = i % 64 >= L;
        x->ids[i] = pad ? TOKEN_PAD : (uint8_t)(7 + rng_below(&r, 4));
        x->targets[i] = pad ? TARGET_NONE : (uint8_t)(7 + rng_below(&r, 4));
        x->position[i] = pad ? 0 : (int64_t)(1 + rng_below(&r, 199));
    }
    x->b = (batch){.s = {B, L, 64},
                   .ids = x->ids,
                   .targets = x->targets,
                   .position = x->position,
                   .chromosome = x->chromosome,
                   .step = number,
                   .training = true};
}

static float *copy_of(const float *x, int64_t n)
{
    float *y = malloc((size_t)n * sizeof *y + 1);
    OK(device_download(dev, y, x, (size_t)n * sizeof *y));
    return y;
}

/* What the steps leave. */
typedef struct {
    loss_sum loss[STEPS_ * MICRO_];
    float *gradient[STEPS_], *rows[STEPS_];
    int64_t count[STEPS_], buckets, launches;
} course;

static status bucket(void *context, int64_t first, int64_t count)
{
    course *x = context;
    (void)first;
    x->buckets += count;
    return STATUS_OK;
}

/* One step of two micro-batches, the second smaller at the third step, or (uneven) at every one. */
static void step_run(model *m, int64_t step, bool rows, bool uneven, course *x)
{
    static own_batch b[MICRO_];
    OK(device_clear(dev, model_gradients(m), (size_t)model_floats(m) * sizeof(float)));
    model_rows_clear(m);
    for (int i = 0; i < MICRO_; i++) {
        loss_sum *loss = &x->loss[step * MICRO_ + i];
        const bool small = i == 1 && (uneven || step == 2);
        batch_make(&b[i], (uint64_t)(step * MICRO_ + i), small ? 1 : B_, small ? L_ - 3 : L_);
        *loss = (loss_sum){.sum = -1, .count = -1};
        OK(model_backward(m, &b[i].b, loss, bucket, x));
        memset(&b[i].ids, 0xFF, sizeof b[i].ids); /* nobody needs it any more */
        memset(&b[i].targets, 0xFF, sizeof b[i].targets);
        /* Not there: nothing has waited, but where arrays grew. */
        assert_true(step < 3 || loss->count == -1);
    }
    OK(model_wait(m));
    x->gradient[step] = copy_of(model_gradients(m), model_floats(m));
    if (!rows)
        return;
    const int32_t *slots;
    const float *sum;
    OK(model_row_gradients(m, 0, &x->count[step], &slots, &sum));
    x->rows[step] = malloc((size_t)(x->count[step] * 3) * sizeof *sum);
    memcpy(x->rows[step], sum, (size_t)(x->count[step] * 3) * sizeof *sum);
}

static course course_run(graph_kind graph, bool rows, bool uneven, keep_level keep, int64_t fail_at)
{
    const config c = config_of(graph, rows);
    const int64_t before = hostcuda_calls(HOSTCUDA_GRAPH);
    model *m;
    course x = {.buckets = 0};
    OK(model_open(&c, 0, dev, &m));
    OK(model_initialise(m, 7));
    OK(model_prepare(m, (batch_shape){B_, L_, 64}, keep, true));
    if (fail_at)
        hostcuda_fail(HOSTCUDA_GRAPH, fail_at, cudaErrorNotSupported);
    for (int64_t step = 0; step < STEPS_; step++) {
        step_run(m, step, rows, uneven, &x);
        if (step == 4) /* another stage: recorded again */
            OK(model_prepare(m, (batch_shape){B_, L_, 64}, keep, true));
    }
    model_close(&m);
    x.launches = hostcuda_calls(HOSTCUDA_GRAPH) - before;
    return x;
}

static void course_free(course *x)
{
    for (int64_t i = 0; i < STEPS_; i++) {
        free(x->gradient[i]);
        free(x->rows[i]);
    }
}

static void same_course(const course *a, const course *b, bool rows)
{
    const config c = config_of(GRAPH_OFF, rows);
    model *m;
    OK(model_open(&c, 0, dev, &m));
    for (int64_t i = 0; i < STEPS_ * MICRO_; i++) {
        assert_true(a->loss[i].count == b->loss[i].count && a->loss[i].count > 0);
        assert_true(a->loss[i].sum == b->loss[i].sum && isfinite(a->loss[i].sum));
    }
    for (int64_t i = 0; i < STEPS_; i++) {
        assert_memory_equal(a->gradient[i], b->gradient[i],
                            (size_t)model_floats(m) * sizeof(float));
        assert_int_equal(a->count[i], b->count[i]);
        if (rows)
            assert_memory_equal(a->rows[i], b->rows[i], (size_t)(a->count[i] * 3) * sizeof(float));
    }
    assert_int_equal(a->buckets, b->buckets);
    model_close(&m);
}

static void compare(bool rows, bool uneven, keep_level keep, int64_t recorded, int64_t run)
{
    course off = course_run(GRAPH_OFF, rows, uneven, keep, 0);
    course on = course_run(GRAPH_AUTO, rows, uneven, keep, 0);
    assert_int_equal(off.launches, 0);
    /* A recording of five parts (head, two of each block) takes three calls each, a micro-batch
     * that runs as graphs a launch of each part. */
    assert_int_equal(on.launches, recorded * 3 * 5 + 5 * run);
    same_course(&off, &on, rows);
    course_free(&off);
    course_free(&on);
}

static void same_bits(void **state)
{
    (void)state;
    compare(true, false, KEEP_SELECTED, 2, 9); /* of twelve */
}

static void same_bits_again(void **state)
{
    (void)state;
    compare(false, false, KEEP_INPUT, 2, 9);
}

/* Shapes in turns: the larger one's graphs. */
static void in_turns(void **state)
{
    (void)state;
    compare(true, true, KEEP_SELECTED, 1, 4);
}

/* Without graphs from there on, and the same bits; `on` insists. */
static void a_recording_fails(void **state)
{
    (void)state;
    course off = course_run(GRAPH_OFF, false, false, KEEP_ALL, 0);
    const int64_t at[] = {1, 3, 5};
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) { /* to begin, to make, the second end */
        course on = course_run(GRAPH_AUTO, false, false, KEEP_ALL, at[i]);
        assert_int_equal(on.launches, at[i]);
        same_course(&off, &on, false);
        course_free(&on);
    }
    course_free(&off);
    const config c = config_of(GRAPH_ON, false);
    model *m;
    own_batch b;
    loss_sum loss;
    OK(model_open(&c, 0, dev, &m));
    OK(model_initialise(m, 7));
    OK(model_prepare(m, (batch_shape){B_, L_, 64}, KEEP_ALL, true));
    batch_make(&b, 0, B_, L_);
    OK(model_backward(m, &b.b, &loss, NULL, NULL));
    hostcuda_fail(HOSTCUDA_GRAPH, 1, cudaErrorNotSupported);
    assert_int_equal(model_backward(m, &b.b, &loss, NULL, NULL), STATUS_DEVICE);
    OK(model_wait(m));
    model_close(&m);
}

static status second(void *context, int64_t first, int64_t count)
{
    int *seen = context;
    (void)first;
    (void)count;
    return ++*seen == 2 ? STATUS_DATA : STATUS_OK;
}

/* Its error ends the passes: before a recording, in the run that records, and in a later one. */
static void a_bucket_fails(void **state)
{
    (void)state;
    const config c = config_of(GRAPH_ON, false);
    for (int run = 0; run < 3; run++) {
        model *m;
        own_batch b;
        loss_sum loss;
        int seen = 0;
        OK(model_open(&c, 0, dev, &m));
        OK(model_initialise(m, 7));
        OK(model_prepare(m, (batch_shape){B_, L_, 64}, KEEP_ALL, true));
        batch_make(&b, 0, B_, L_);
        for (int i = 0; i < run; i++)
            OK(model_backward(m, &b.b, &loss, NULL, NULL));
        assert_int_equal(model_backward(m, &b.b, &loss, second, &seen), STATUS_DATA);
        assert_int_equal(seen, 2);
        OK(model_wait(m));
        model_close(&m);
    }
}

/* What is queued by value is what it was; what lies in memory is what it is. */
static void stale(void **state)
{
    (void)state;
    float *x[4];
    void *at;
    float one[4] = {1, 1, 1, 1}, got[4];
    for (int i = 0; i < 4; i++) {
        OK(device_memory_take(dev, sizeof one, &at));
        x[i] = at;
        OK(device_upload(dev, x[i], one, sizeof one));
    }
    adamw_args a = {.lr = 0.5, .b1 = 0.9, .b2 = 0.99, .eps = 1, .scale = 1, .step = 0};
    device_graph *g = NULL;
    OK(device_graph_begin(dev));
    OK(adamw_update(dev, &a, 4, x[0], x[1], x[2], x[3]));
    OK(device_graph_end(dev, &g));
    a.lr = 0; /* a graph does not notice */
    OK(device_download(dev, got, x[0], sizeof got));
    assert_true(got[0] == 1.0f); /* recording runs nothing */
    OK(device_graph_run(dev, g, NULL, NULL));
    OK(device_download(dev, got, x[0], sizeof got));
    assert_true(got[0] != 1.0f);
    /* A wait ends a recording. */
    device_graph *none = NULL;
    OK(device_graph_begin(dev));
    assert_int_equal(device_wait(dev), STATUS_DEVICE);
    assert_int_equal(device_graph_end(dev, &none), STATUS_DEVICE);
    assert_null(none);
    OK(device_wait(dev));
    device_graph_free(dev, &g);
    for (int i = 0; i < 4; i++)
        device_memory_give(dev, x[i]);
}

static int closed(void **state)
{
    (void)state;
    device_close(&dev);
    return 0;
}

static int opened(void **state)
{
    (void)state;
    return device_open(DEVICE_CUDA, 1, &dev) != STATUS_OK;
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits),      cmocka_unit_test(same_bits_again),
        cmocka_unit_test(in_turns),       cmocka_unit_test(a_recording_fails),
        cmocka_unit_test(a_bucket_fails), cmocka_unit_test(stale),
    };
    const int failed = cmocka_run_group_tests(tests, opened, closed);
    finish();
    return failed;
}
