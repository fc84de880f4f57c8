/* ranks: 1
 * The plan against what a step takes: high-water marks of both arenas are never above the plan, and
 * in training at most 5 % below it, for every keep level, several shapes, heads and encodings. (An
 * operation answers with the larger workspace of its two passes, so a forward pass alone may leave
 * some of it.) Work grows as it must. */
#include "model/model.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(plan_is_kept), cmocka_unit_test(work)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
