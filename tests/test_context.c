/* ranks: 1 2 3 4
 * Sequences shared by workers: what a model computes and learns of them is what it does with whole
 * sequences, for lengths and widths that the workers do not divide, orders 2 and 3, several
 * sequences, every keep level, dropout and rows; stretches cover a sequence once; too short ones
 * and models that need whole sequences are refused. */
#include "tests/context_fixture.h"

static comm *world;
static device *dev;

static void same_as_whole(void **state)
{
    (void)state;
    static const context_case cases[] = {
        {1, 128, 8, 2, 2, 0, KEEP_SELECTED, false, false},
        {2, 77, 6, 2, 1, 0.3, KEEP_INPUT, true, false},
        {3, 301, 7, 3, 2, 0.2, KEEP_ALL, true, false},
        {1, 16, 5, 4, 1, 0, KEEP_INPUT, false, false},
        {2, 13, 3, 2, 1, 0.5, KEEP_SELECTED, true, false},
    };
    const context_group g = {.group = world, .size = comm_size(world)};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        compare(&cases[i], dev, &g);
}

static void stretches(void **state)
{
    (void)state;
    for (int64_t L = 1; L < 200; L++)
        for (int size = 1; size <= 7; size++) {
            int64_t at = 0;
            const bool fits = (L + CONTEXT_UNIT - 1) / CONTEXT_UNIT >= size;
            assert_int_equal(context_check(L, size), fits ? STATUS_OK : STATUS_USAGE);
            for (int r = 0; fits && r < size; r++) {
                const context_stretch p = context_stretch_of(L, size, r);
                assert_int_equal(p.first, at);
                assert_true(p.count >= 1);
                assert_int_equal(p.first % CONTEXT_UNIT, 0);
                at += p.count;
            }
            assert_true(!fits || at == L);
        }
}

/* A plan is made without anybody there, for the largest stretch. */
static void planned(void **state)
{
    (void)state;
    const context_case k = {1, 4096, 16, 2, 2, 0, KEEP_SELECTED, false, false};
    const config c = config_of(&k);
    const batch_shape s = {1, k.L, length_padded(k.L)};
    model_cost one, four;
    model *m;
    OK(model_open(&c, 0, dev, &m));
    OK(model_plan(m, s, KEEP_SELECTED, true, &one));
    OK(model_share(m, &(context_group){.size = 4}));
    OK(model_plan(m, s, KEEP_SELECTED, true, &four));
    assert_true(four.activations * 3 < one.activations);
    assert_true(four.flops_forward * 3 < one.flops_forward);
    assert_int_equal(four.weights, one.weights);
    model_close(&m);
}

static void refused(void **state)
{
    (void)state;
    const context_case k = {1, 64, 8, 2, 1, 0, KEEP_SELECTED, true, false};
    config c = config_of(&k);
    model *m;
    c.objective = OBJECTIVE_POSITION_CONDITIONED;
    OK(model_open(&c, 0, dev, &m));
    OK(model_share(m, &(context_group){.size = 1}));
    assert_int_equal(model_share(m, &(context_group){.size = 2}), STATUS_USAGE);
    assert_non_null(strstr(failure_last()->text, "position-conditioned"));
    model_close(&m);
    c.objective = OBJECTIVE_AUTOREGRESSIVE;
    OK(model_open(&c, 3, dev, &m));
    assert_int_equal(model_share(m, &(context_group){.size = 2}), STATUS_USAGE);
    model_close(&m);
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    if (device_open(DEVICE_CPU, 1, &dev) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_as_whole), cmocka_unit_test(stretches),
                                       cmocka_unit_test(planned), cmocka_unit_test(refused)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_close(&dev);
    comm_end(&world);
    return failed != 0;
}
