/* A model whose sequences are shared by the workers against the same model with whole sequences on
 * every one of them: hidden states, logits, loss, the gradients of all parameters and rows. Serves
 * the CPU (test_context.c) and GPUs (hostcuda/test_context_device.c). */
#ifndef CROCUTA_TESTS_CONTEXT_FIXTURE_H
#define CROCUTA_TESTS_CONTEXT_FIXTURE_H

#include "model/shared_batch.h"
#include "runtime/core/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef OK
#define OK(x) assert_int_equal(x, STATUS_OK)
#endif

typedef struct {
    int64_t B, L, d, order, layers;
    double dropout;
    keep_level keep;
    bool rows, mixed;
} context_case;

/* Rounding of what is kept in bf16 reaches everything. */
static double looser(const context_case *k)
{
    return k->mixed ? 1000 : 1;
}

/* What one way gives; hidden (d, B, Lp) and logits as that way holds them. */
typedef struct {
    model *m;
    float *hidden, *logits, *gradient;
    double loss;
    int64_t targets, rows;
    int32_t *slot;
    float *sum;
} way;

typedef struct {
    batch b;
    uint8_t *ids, *targets;
    int64_t *position;
    int32_t *chromosome;
} whole_batch;

static config config_of(const context_case *k)
{
    config c;
    config_defaults(&c);
    c.seed = 5;
    c.model.order = k->order;
    c.model.d_model = k->d;
    c.model.n_layer = k->layers;
    c.model.d_inner = 12;
    c.model.l_max = k->L + 3;
    c.model.filter_order = 6;
    c.model.filter_shift = 0.05;
    c.model.embed_dropout = k->dropout;
    c.position.encoding = k->rows ? ENCODING_FPE : ENCODING_NONE;
    c.position.alpha = 7;
    c.position.rank = 3;
    c.position.rows = ROWS_SHARED;
    c.position.length = 5000;
    c.position.init = INIT_NORMAL;
    c.train.precision = k->mixed ? PRECISION_MIXED : PRECISION_FP32;
    return c;
}

/* The same on every worker, and far from where training starts. */
static void shake(model *m)
{
    const parameter *p;
    const int n = model_parameters(m, &p);
    device_view v;
    rng r = rng_at(11, RNG_TEST, 1, 0);
    OK(device_view_open(model_device(m), model_values(m), (size_t)model_floats(m) * sizeof(float),
                        false, &v));
    memset(v.host, 0, (size_t)model_floats(m) * sizeof(float));
    for (int i = 0; i < n; i++) {
        float *x = (float *)v.host + p[i].offset;
        const bool freq = strstr(p[i].name, ".freq"),
                   norm = strstr(p[i].name, "norm") || strstr(p[i].name, "ln_f.weight");
        for (int64_t e = 0; e < p[i].count; e++)
            x[e] = (float)(freq   ? 2 + rng_uniform(&r)
                           : norm ? 0.5 + rng_uniform(&r)
                                  : 0.2 * rng_normal(&r));
    }
    OK(device_view_close(&v, true, STATUS_OK));
}

static void batch_make(const context_case *k, whole_batch *w)
{
    const batch_shape s = {k->B, k->L, length_padded(k->L)};
    const size_t n = (size_t)(s.B * s.Lp);
    rng r = rng_at(3, RNG_TEST, 0, 0);
    w->ids = malloc(n);
    w->targets = malloc(n);
    w->position = malloc(n * sizeof *w->position);
    w->chromosome = calloc((size_t)k->B, sizeof *w->chromosome);
    for (int64_t i = 0; i < s.B * s.Lp; i++) {
        const bool pad = i % s.Lp >= s.L;
        w->ids[i] = pad ? TOKEN_PAD : (uint8_t)(7 + rng_below(&r, 4));
        w->targets[i] = pad || i % 11 == 3 ? TARGET_NONE : (uint8_t)(7 + rng_below(&r, 4));
        w->position[i] = pad ? 0 : (int64_t)(1 + rng_below(&r, 4999));
    }
    w->b = (batch){.s = s,
                   .ids = w->ids,
                   .targets = w->targets,
                   .position = k->rows ? w->position : NULL,
                   .chromosome = w->chromosome,
                   .step = 4,
                   .first_sequence = 6,
                   .training = true};
}

static void batch_free(whole_batch *w)
{
    free(w->ids);
    free(w->targets);
    free(w->position);
    free(w->chromosome);
}

static float *copy_of(device *dev, const float *x, int64_t n)
{
    device_view v;
    float *y = malloc((size_t)n * sizeof *y + 1);
    OK(device_view_open(dev, x, (size_t)n * sizeof *y, true, &v));
    memcpy(y, v.host, (size_t)n * sizeof *y);
    OK(device_view_close(&v, false, STATUS_OK));
    return y;
}

static void way_run(const context_case *k, device *dev, const context_group *g, const batch *whole,
                    way *w)
{
    const config c = config_of(k);
    shared_batch cut;
    model_cost cost;
    size_t activations, workspace;
    OK(model_open(&c, 0, dev, &w->m));
    OK(model_share(w->m, g));
    shake(w->m);
    OK(shared_batch_open(g, whole->s, &cut));
    const batch b = shared_batch_cut(&cut, g, whole);
    OK(model_prepare(w->m, whole->s, k->keep, true));
    const int64_t n = b.s.B * b.s.Lp;
    w->hidden = malloc((size_t)(k->d * n) * sizeof(float));
    w->logits = malloc((size_t)(VOCABULARY_PADDED * n) * sizeof(float));
    loss_sum loss = {0}, again = {0};
    const model_outputs out = {.hidden = w->hidden, .logits = w->logits};
    batch plain = b;
    plain.training = false;
    OK(model_forward(w->m, &plain, &out, &loss));
    OK(device_clear(dev, model_gradients(w->m), (size_t)model_floats(w->m) * sizeof(float)));
    OK(model_backward(w->m, &b, &again, NULL, NULL));
    OK(model_wait(w->m));
    w->loss = again.sum;
    w->targets = again.count;
    w->gradient = copy_of(dev, model_gradients(w->m), model_floats(w->m));
    if (k->rows) {
        const int32_t *slot;
        const float *sum;
        OK(model_row_gradients(w->m, 0, &w->rows, &slot, &sum));
        w->slot = malloc((size_t)w->rows * sizeof *slot + 1);
        memcpy(w->slot, slot, (size_t)w->rows * sizeof *slot);
        w->sum = malloc((size_t)(w->rows * 3) * sizeof *sum + 1);
        memcpy(w->sum, sum, (size_t)(w->rows * 3) * sizeof *sum);
    }
    /* The plan is what was taken: all of it with the same stretch, and never less. */
    OK(model_plan(w->m, whole->s, k->keep, true, &cost));
    model_high_water(w->m, &activations, &workspace);
    assert_true((int64_t)workspace <= cost.workspace);
    assert_true((int64_t)workspace * 2 >= cost.workspace);
    shared_batch_close(&cut);
}

static void way_close(way *w)
{
    free(w->hidden);
    free(w->logits);
    free(w->gradient);
    free(w->slot);
    free(w->sum);
    model_close(&w->m);
}

static double distance(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum);
}

static double size_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* This member's stretch of (rows, B, Lp) values is that of the whole. */
static void same_stretch(const context_case *k, const context_group *g, int64_t rows,
                         const float *mine, const float *all)
{
    const context_stretch p = context_stretch_of(k->L, g->size, comm_rank(g->group));
    const int64_t Lp = length_padded(p.count), whole = length_padded(k->L);
    for (int64_t r = 0; r < rows * k->B; r++)
        for (int64_t t = 0; t < p.count; t++) {
            const double a = (double)mine[r * Lp + t], b = (double)all[r * whole + p.first + t];
            assert_true(fabs(a - b) <= 2e-5 * looser(k) * (1 + fabs(b)));
        }
}

/* Row gradients of all members, by row of the one table: they come as slots in order of touch. */
static void same_rows(const context_group *g, const way *mine, const way *all)
{
    row_table *a[ROW_TABLES], *b[ROW_TABLES];
    position_tables(model_position(mine->m), a);
    position_tables(model_position(all->m), b);
    float *sum = calloc(5001 * 3, sizeof *sum), *want = calloc(5001 * 3, sizeof *want);
    for (int64_t i = 0; i < mine->rows; i++)
        for (int e = 0; e < 3; e++)
            sum[a[0]->row[mine->slot[i]] * 3 + e] += mine->sum[i * 3 + e];
    for (int64_t i = 0; i < all->rows; i++)
        for (int e = 0; e < 3; e++)
            want[b[0]->row[all->slot[i]] * 3 + e] += all->sum[i * 3 + e];
    OK(comm_sum_f32(g->group, sum, 5001 * 3));
    assert_true(distance(sum, want, 5001 * 3) < 1e-5 * size_of(want, 5001 * 3));
    free(sum);
    free(want);
}

/* To 1e-5 of each tensor; where its terms cancel, to what is left of the largest tensor's digits.
 */
static void same_gradients(const context_case *k, model *m, const float *mine, const float *all)
{
    const parameter *p;
    const int n = model_parameters(m, &p);
    double most = 0;
    for (int i = 0; i < n; i++)
        most = fmax(most, size_of(all + p[i].offset, p[i].count));
    for (int i = 0; i < n; i++) {
        const float *a = mine + p[i].offset, *b = all + p[i].offset;
        const double e = distance(a, b, p[i].count);
        const double allowed = looser(k) * (1e-5 * size_of(b, p[i].count) + 1e-7 * most);
        if (!(e <= allowed))
            print_error("%s: %g, allowed %g\n", p[i].name, e, allowed);
        assert_true(e <= allowed);
    }
}

static void compare(const context_case *k, device *dev, const context_group *g)
{
    way mine = {0}, all = {0};
    whole_batch w;
    const context_group alone = {.size = 1};
    batch_make(k, &w);
    way_run(k, dev, &alone, &w.b, &all);
    way_run(k, dev, g, &w.b, &mine);
    same_stretch(k, g, k->d, mine.hidden, all.hidden);
    same_stretch(k, g, VOCABULARY_PADDED, mine.logits, all.logits);
    double sums[2] = {mine.loss, (double)mine.targets};
    OK(comm_sum_f64(g->group, sums, 2));
    assert_true(fabs(sums[0] - all.loss) <= 1e-5 * looser(k) * all.loss);
    assert_int_equal((int64_t)sums[1], all.targets);
    OK(comm_sum_f32(g->group, mine.gradient, model_floats(mine.m)));
    same_gradients(k, mine.m, mine.gradient, all.gradient);
    if (k->rows)
        same_rows(g, &mine, &all);
    way_close(&mine);
    way_close(&all);
    batch_free(&w);
}

#endif
