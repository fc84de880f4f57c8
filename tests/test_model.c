/* ranks: 1
 * The whole model against a naive double-precision evaluation: loss, and every gradient by central
 * differences of that evaluation, for several orders, heads and encodings; the same gradients at
 * every keep level and however a batch is cut; pads without influence; gradient buckets complete
 * when they are announced; rows read as they are at this step. */
#include "naive_model.h"

#include "runtime/core/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define B_ 3
#define L_ 19
#define LP_ 64

typedef struct {
    config c;
    model *m;
    device *dev;
    batch b;
    uint8_t ids[B_ * LP_], targets[B_ * LP_];
    int64_t position[B_ * LP_];
    int32_t chromosome[B_], label[B_];
    int32_t slot[EMBED_LEVELS][B_ * LP_];
} fixture;

typedef struct {
    mixer_kind mixer;
    int64_t order, layers;
    encoding_kind encoding;
    int classes;
    int64_t hidden;
    pool_kind pool;
} shape;

static config config_of(const shape *s)
{
    config c;
    config_defaults(&c);
    c.seed = 5;
    c.model.mixer = s->mixer;
    c.model.order = s->order;
    c.model.d_model = 8;
    c.model.n_layer = s->layers;
    c.model.d_inner = 12;
    c.model.l_max = 23;
    c.model.filter_order = 6;
    c.model.emb_dim = 5;
    c.model.filter_shift = 0.05;
    c.position.encoding = s->encoding;
    c.position.alpha = 7;
    c.position.rank = 3;
    c.position.rows = ROWS_SHARED;
    c.position.length = 5000;
    c.finetune.pool = s->pool;
    c.finetune.head_hidden = s->hidden;
    return c;
}

/* Values far from their start, so that no term can be left out unnoticed. */
static void shake(fixture *f)
{
    const parameter *p;
    const int n = model_parameters(f->m, &p);
    rng r = rng_at(11, RNG_TEST, 1, 0);
    for (int i = 0; i < n; i++) {
        float *x = model_values(f->m) + p[i].offset;
        const bool freq = strstr(p[i].name, ".freq"),
                   norm = strstr(p[i].name, "norm") || strstr(p[i].name, "ln_f.weight");
        for (int64_t e = 0; e < p[i].count; e++)
            x[e] = (float)(freq   ? 2 + rng_uniform(&r)
                           : norm ? 0.5 + rng_uniform(&r)
                                  : 0.4 * rng_normal(&r));
    }
}

static void setup(fixture *f, const shape *s)
{
    memset(f, 0, sizeof *f);
    f->c = config_of(s);
    assert_int_equal(device_open(DEVICE_CPU, 2, &f->dev), STATUS_OK);
    assert_int_equal(model_open(&f->c, s->classes, f->dev, &f->m), STATUS_OK);
    shake(f);
    rng r = rng_at(3, RNG_TEST, 0, 0);
    for (int i = 0; i < B_ * LP_; i++) {
        const bool pad = i % LP_ >= L_;
        /* what stands in pads must not matter */
        f->ids[i] = (uint8_t)(pad ? TOKEN_MASK : 7 + rng_below(&r, 4));
        f->targets[i] = pad || i % 5 == 0 ? TARGET_NONE : (uint8_t)(7 + rng_below(&r, 4));
        f->position[i] = i % 7 == 3 && !pad ? 0 : 1 + (int64_t)rng_below(&r, 300);
    }
    for (int i = 0; i < B_; i++)
        f->label[i] = i == 1 ? -1 : i;
    f->b = (batch){.s = {B_, L_, LP_},
                   .ids = f->ids,
                   .targets = s->classes ? NULL : f->targets,
                   .position = f->position,
                   .chromosome = f->chromosome,
                   .label = s->classes ? f->label : NULL};
    /* rows are there already, with values of their own */
    row_table *tables[ROW_TABLES];
    const int levels = model_position(f->m) ? position_tables(model_position(f->m), tables) : 0;
    for (int l = 0; l < levels; l++) {
        int64_t row[B_ * LP_];
        for (int i = 0; i < B_ * LP_; i++)
            row[i] =
                i % LP_ < L_ ? position_row(model_position(f->m), l, 0, f->position[i], -1) : -1;
        assert_int_equal(position_slots(model_position(f->m), l, B_ * LP_, row, true, f->slot[l]),
                         STATUS_OK);
        for (int64_t i = 0; i < tables[l]->slots * tables[l]->k; i++)
            tables[l]->p[i] = (float)(0.5 * rng_normal(&r));
    }
    assert_int_equal(model_prepare(f->m, f->b.s, KEEP_SELECTED, true), STATUS_OK);
}

static void teardown(fixture *f)
{
    model_close(&f->m);
    device_close(&f->dev);
}

static void clear(fixture *f)
{
    memset(model_gradients(f->m), 0, (size_t)model_floats(f->m) * sizeof(float));
    model_rows_clear(f->m);
}

static naive naive_open(fixture *f)
{
    naive n = {.m = f->m};
    n.w = malloc((size_t)model_floats(f->m) * sizeof *n.w);
    for (int64_t i = 0; i < model_floats(f->m); i++)
        n.w[i] = (double)model_values(f->m)[i];
    row_table *tables[ROW_TABLES];
    n.levels = model_position(f->m) ? position_tables(model_position(f->m), tables) : 0;
    for (int l = 0; l < n.levels; l++) {
        const int64_t count = tables[l]->slots * tables[l]->k;
        n.A[l] = malloc((size_t)count * sizeof *n.A[l]);
        for (int64_t i = 0; i < count; i++)
            n.A[l][i] = (double)tables[l]->p[i];
        n.slot[l] = f->slot[l];
    }
    return n;
}

static void naive_close(naive *n)
{
    free(n->w);
    for (int l = 0; l < n->levels; l++)
        free(n->A[l]);
}

/* Derivative of the naive loss by *x. */
static double slope(const naive *n, const batch *b, double *x)
{
    const double h = 1e-5, at = *x;
    *x = at + h;
    const double up = naive_loss(n, b);
    *x = at - h;
    const double down = naive_loss(n, b);
    *x = at;
    return (up - down) / (2 * h);
}

typedef struct {
    double error, size;
} difference;

static void differ(difference *d, double have, double want)
{
    d->error += (have - want) * (have - want);
    d->size += want * want;
}

static void close_enough(const char *what, difference d, double tolerance)
{
    const double e = sqrt(d.error) / fmax(sqrt(d.size), 1e-4);
    if (!(e <= tolerance))
        fail_msg("%s: relative error %.2e", what, e);
}

static void gradients_of(const shape *s)
{
    fixture f;
    setup(&f, s);
    naive n = naive_open(&f);
    const double want = naive_loss(&n, &f.b);
    loss_sum loss = {0}, forward = {0};
    assert_int_equal(model_forward(f.m, &f.b, NULL, &forward), STATUS_OK);
    clear(&f);
    assert_int_equal(model_backward(f.m, &f.b, &loss, NULL, NULL), STATUS_OK);
    if (!(fabs(loss.sum - want) <= 2e-6 * fabs(want) &&
          fabs(forward.sum - want) <= 2e-6 * fabs(want)))
        fail_msg("loss %.9g, forward %.9g, should be %.9g", loss.sum, forward.sum, want);
    assert_int_equal(forward.count, loss.count);
    const parameter *p;
    const int count = model_parameters(f.m, &p);
    for (int i = 0; i < count; i++) {
        difference d = {0};
        const int64_t stride = p[i].count > 40 ? p[i].count / 40 + 1 : 1;
        for (int64_t e = 0; e < p[i].count; e += stride)
            differ(&d, (double)model_gradients(f.m)[p[i].offset + e],
                   slope(&n, &f.b, n.w + p[i].offset + e));
        close_enough(p[i].name, d, 2e-5);
    }
    for (int l = 0; l < n.levels; l++) {
        int64_t rows;
        const int32_t *slots;
        const float *sum;
        const int64_t k = f.c.position.rank;
        difference d = {0};
        assert_int_equal(model_row_gradients(f.m, l, &rows, &slots, &sum), STATUS_OK);
        assert_true(rows > 0);
        for (int64_t i = 0; i < rows; i++) {
            assert_true(i == 0 || slots[i] > slots[i - 1]);
            for (int64_t e = 0; e < k; e++)
                differ(&d, (double)sum[i * k + e], slope(&n, &f.b, n.A[l] + slots[i] * k + e));
        }
        close_enough("rows", d, 2e-5);
    }
    naive_close(&n);
    teardown(&f);
}

static void gradients(void **state)
{
    (void)state;
    const shape shapes[] = {
        {MIXER_HYENA, 2, 2, ENCODING_FPE_MULTI, 0, 0, POOL_MEAN},
        {MIXER_HYENA, 3, 2, ENCODING_FPE, 0, 0, POOL_MEAN},
        {MIXER_HYENA, 4, 1, ENCODING_NONE, 0, 0, POOL_MEAN},
        {MIXER_HYENA, 2, 1, ENCODING_FPE, 3, 5, POOL_MEAN},
        {MIXER_HYENA, 2, 1, ENCODING_FPE, 4, 0, POOL_LAST},
        {MIXER_NONE, 2, 2, ENCODING_FPE, 0, 0, POOL_MEAN},
        {MIXER_HYENA, 2, 0, ENCODING_FPE, 3, 5, POOL_MEAN},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        gradients_of(&shapes[i]);
}

static const shape usual = {MIXER_HYENA, 3, 2, ENCODING_FPE, 0, 0, POOL_MEAN};

static float *gradient_copy(fixture *f)
{
    const size_t bytes = (size_t)model_floats(f->m) * sizeof(float);
    float *copy = malloc(bytes);
    memcpy(copy, model_gradients(f->m), bytes);
    return copy;
}

static void equal_gradients(fixture *f, const float *want, double tolerance)
{
    const parameter *p;
    const int count = model_parameters(f->m, &p);
    for (int i = 0; i < count; i++) {
        difference d = {0};
        for (int64_t e = 0; e < p[i].count; e++)
            differ(&d, (double)model_gradients(f->m)[p[i].offset + e],
                   (double)want[p[i].offset + e]);
        close_enough(p[i].name, d, tolerance);
    }
}

static void keep_levels(void **state)
{
    (void)state;
    fixture f;
    setup(&f, &usual);
    loss_sum loss;
    clear(&f);
    assert_int_equal(model_backward(f.m, &f.b, &loss, NULL, NULL), STATUS_OK);
    float *want = gradient_copy(&f);
    const keep_level levels[] = {KEEP_INPUT, KEEP_ALL};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(model_prepare(f.m, f.b.s, levels[i], true), STATUS_OK);
        clear(&f);
        assert_int_equal(model_backward(f.m, &f.b, &loss, NULL, NULL), STATUS_OK);
        equal_gradients(&f, want, 1e-6);
    }
    free(want);
    teardown(&f);
}

/* Sequences [from, from + n) of the fixture's batch. */
static batch slice(const fixture *f, int64_t from, int64_t n)
{
    batch b = f->b;
    b.s.B = n;
    b.ids += from * LP_;
    b.targets += from * LP_;
    b.position += from * LP_;
    b.chromosome += from;
    b.first_sequence = from;
    return b;
}

static void micro_batches(void **state)
{
    (void)state;
    fixture f;
    setup(&f, &usual);
    loss_sum loss, part;
    double sum = 0;
    /* with dropout: a mask belongs to a token of the global batch, not to its place in a
     * micro-batch */
    model_close(&f.m);
    f.c.model.embed_dropout = 0.25;
    assert_int_equal(model_open(&f.c, 0, f.dev, &f.m), STATUS_OK);
    shake(&f);
    assert_int_equal(model_prepare(f.m, f.b.s, KEEP_SELECTED, true), STATUS_OK);
    f.b.training = true;
    f.b.step = 9;
    clear(&f);
    assert_int_equal(model_backward(f.m, &f.b, &loss, NULL, NULL), STATUS_OK);
    float *want = gradient_copy(&f), *rows = NULL;
    int64_t count, again;
    const int32_t *slots;
    const float *sums;
    assert_int_equal(model_row_gradients(f.m, 0, &count, &slots, &sums), STATUS_OK);
    rows = malloc((size_t)(count * 3) * sizeof *rows);
    memcpy(rows, sums, (size_t)(count * 3) * sizeof *rows);
    clear(&f);
    for (int64_t i = 0; i < B_; i++) {
        batch b = slice(&f, i, 1);
        assert_int_equal(model_backward(f.m, &b, &part, NULL, NULL), STATUS_OK);
        sum += part.sum;
    }
    assert_true(fabs(sum - loss.sum) < 1e-5 * loss.sum);
    equal_gradients(&f, want, 1e-5);
    assert_int_equal(model_row_gradients(f.m, 0, &again, &slots, &sums), STATUS_OK);
    assert_int_equal(again, count);
    difference d = {0};
    for (int64_t i = 0; i < count * 3; i++)
        differ(&d, (double)sums[i], (double)rows[i]);
    close_enough("rows", d, 1e-5);
    /* another step is another mask */
    f.b.step = 10;
    assert_int_equal(model_backward(f.m, &f.b, &part, NULL, NULL), STATUS_OK);
    assert_true(fabs(part.sum - loss.sum) > 1e-3);
    free(want);
    free(rows);
    teardown(&f);
}

static void pads(void **state)
{
    (void)state;
    fixture f;
    setup(&f, &usual);
    loss_sum a, b;
    clear(&f);
    assert_int_equal(model_backward(f.m, &f.b, &a, NULL, NULL), STATUS_OK);
    float *want = gradient_copy(&f);
    for (int i = 0; i < B_ * LP_; i++)
        if (i % LP_ >= L_) {
            f.ids[i] = TOKEN_A;
            f.position[i] = 1 + i;
        }
    clear(&f);
    assert_int_equal(model_backward(f.m, &f.b, &b, NULL, NULL), STATUS_OK);
    assert_true(a.sum == b.sum);
    assert_memory_equal(want, model_gradients(f.m), (size_t)model_floats(f.m) * sizeof(float));
    free(want);
    teardown(&f);
}

typedef struct {
    fixture *f;
    float *seen;
    int64_t at;
    int buckets, last; /* 0: all are welcome */
} watcher;

static status watch(void *context, int64_t first, int64_t count)
{
    watcher *w = context;
    assert_int_equal(first, w->at);
    memcpy(w->seen + first, model_gradients(w->f->m) + first, (size_t)count * sizeof(float));
    w->at += count;
    return ++w->buckets == w->last ? STATUS_DEVICE : STATUS_OK;
}

static void buckets(void **state)
{
    (void)state;
    fixture f;
    setup(&f, &usual);
    watcher w = {&f, calloc((size_t)model_floats(f.m), sizeof(float)), 0, 0, 0};
    loss_sum loss;
    clear(&f);
    assert_int_equal(model_backward(f.m, &f.b, &loss, watch, &w), STATUS_OK);
    assert_int_equal(w.at, model_floats(f.m));
    assert_int_equal(w.buckets, 1 + 2 * 2 + 1);
    assert_memory_equal(w.seen, model_gradients(f.m), (size_t)model_floats(f.m) * sizeof(float));
    for (int last = 1; last <= 6; last++) { /* an error ends the passes */
        w.at = w.buckets = 0;
        w.last = last;
        assert_int_equal(model_backward(f.m, &f.b, &loss, watch, &w), STATUS_DEVICE);
        assert_int_equal(w.buckets, last);
    }
    free(w.seen);
    teardown(&f);
}

/* A forward pass sees rows as a dense optimizer would have left them, and leaves the table alone.
 */
static void rows_at_this_step(void **state)
{
    (void)state;
    fixture f;
    setup(&f, &usual);
    row_table *t[ROW_TABLES];
    position_tables(model_position(f.m), t);
    const int64_t n = t[0]->slots, values = n * t[0]->k;
    for (int64_t i = 0; i < values; i++) {
        t[0]->m[i] = 0.01f * (float)(i % 5 - 2);
        t[0]->v[i] = 1e-4f * (float)(1 + i % 3);
    }
    for (int64_t i = 0; i < n; i++)
        t[0]->last[i] = i % 4;
    const float lr[8] = {0.1f, 0.2f, 0.3f, 0.2f, 0.1f, 0.05f, 0.05f, 0.01f};
    const rows_adam_args a = {
        .b1 = 0.9, .b2 = 0.99, .eps = 1e-8, .scale = 1, .step = 7, .lr_of_step = lr};
    float *before = malloc((size_t)values * sizeof *before),
          *now = malloc((size_t)values * sizeof *now);
    memcpy(before, t[0]->p, (size_t)values * sizeof *before);
    loss_sum plain, replayed, direct;
    assert_int_equal(model_forward(f.m, &f.b, NULL, &plain), STATUS_OK);
    model_rows_schedule(f.m, &a);
    assert_int_equal(model_forward(f.m, &f.b, NULL, &replayed), STATUS_OK);
    assert_memory_equal(before, t[0]->p, (size_t)values * sizeof *before);
    assert_true(t[0]->last[1] == 1);
    assert_int_equal(
        rows_catch_up(f.dev, &a, n, t[0]->k, NULL, t[0]->p, t[0]->m, t[0]->v, t[0]->last, now),
        STATUS_OK);
    memcpy(t[0]->p, now, (size_t)values * sizeof *now);
    model_rows_schedule(f.m, NULL);
    assert_int_equal(model_forward(f.m, &f.b, NULL, &direct), STATUS_OK);
    assert_true(replayed.sum == direct.sum);
    assert_true(fabs(plain.sum - direct.sum) > 1e-3);
    free(before);
    free(now);
    teardown(&f);
}

/* Rows that nobody touched: nothing (init: zero), or their initial value without a place in the
 * table (normal). */
static void untouched_rows(void **state)
{
    (void)state;
    fixture f;
    setup(&f, &usual);
    model_close(&f.m);
    f.c.position.init = INIT_NORMAL;
    assert_int_equal(model_open(&f.c, 0, f.dev, &f.m), STATUS_OK);
    shake(&f);
    assert_int_equal(model_prepare(f.m, f.b.s, KEEP_SELECTED, true), STATUS_OK);
    row_table *t[ROW_TABLES];
    position_tables(model_position(f.m), t);
    loss_sum a, b;
    assert_int_equal(model_forward(f.m, &f.b, NULL, &a), STATUS_OK);
    assert_int_equal(t[0]->slots, 0);
    assert_int_equal(model_backward(f.m, &f.b, &b, NULL, NULL), STATUS_OK);
    assert_true(t[0]->slots > 5);
    assert_true(a.sum == b.sum);
    assert_int_equal(model_forward(f.m, &f.b, NULL, &b), STATUS_OK);
    assert_true(a.sum == b.sum);
    f.b.position = NULL;
    assert_int_equal(model_forward(f.m, &f.b, NULL, &b), STATUS_OK);
    assert_true(fabs(a.sum - b.sum) > 1e-3);
    teardown(&f);
}

static void refusals(void **state)
{
    (void)state;
    device *dev;
    model *m;
    assert_int_equal(device_open(DEVICE_CPU, 1, &dev), STATUS_OK);
    config c = config_of(&usual);
    c.model.mixer = MIXER_ATTENTION;
    assert_int_equal(model_open(&c, 0, dev, &m), STATUS_USAGE);
    assert_non_null(strstr(failure_last()->text, "model.mixer"));
    c = config_of(&usual);
    c.position.encoding = ENCODING_ROPE;
    assert_int_equal(model_open(&c, 0, dev, &m), STATUS_USAGE);
    assert_non_null(strstr(failure_last()->text, "position.encoding: rope"));
    c = config_of(&usual);
    c.model.n_layer = 0;
    assert_int_equal(model_open(&c, 0, dev, &m), STATUS_USAGE);
    c = config_of(&usual);
    assert_int_equal(model_open(&c, 0, dev, &m), STATUS_OK);
    assert_int_equal(model_prepare(m, (batch_shape){1, 24, 64}, KEEP_ALL, true), STATUS_USAGE);
    assert_non_null(strstr(failure_last()->text, "l_max"));
    model_close(&m);
    device_close(&dev);
}

/* Published counts: 18d + layers (12 d^2 + 90 d + 8768). */
static void published_counts(void **state)
{
    (void)state;
    static const struct {
        const char *preset;
        int64_t parameters;
    } rows[] = {{"tiny-1k", 436096},    {"tiny-1k-d256", 1641088}, {"tiny-16k-d128", 436096},
                {"small-32k", 3277568}, {"medium-160k", 6550528},  {"medium-450k", 6550528},
                {"large-1m", 6550528}};
    device *dev;
    assert_int_equal(device_open(DEVICE_CPU, 1, &dev), STATUS_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        config c;
        model *m;
        config_defaults(&c);
        assert_int_equal(config_preset(&c, rows[i].preset), STATUS_OK);
        assert_int_equal(model_open(&c, 0, dev, &m), STATUS_OK);
        assert_int_equal(model_parameter_count(m), rows[i].parameters);
        model_close(&m);
    }
    device_close(&dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients),       cmocka_unit_test(keep_levels),
        cmocka_unit_test(micro_batches),   cmocka_unit_test(pads),
        cmocka_unit_test(buckets),         cmocka_unit_test(rows_at_this_step),
        cmocka_unit_test(refusals),        cmocka_unit_test(untouched_rows),
        cmocka_unit_test(published_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
