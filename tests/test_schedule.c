/* ranks: 1
 * The learning rate's curve, the stages of a run, and the dealing of slots to workers. */
#include "runtime/train/deal.h"
#include "runtime/train/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static config example(void)
{
    static config c;
    config_defaults(&c);
    c.train.steps = 1000;
    c.train.tokens_per_step = 1000;
    c.data.seq_len = 100;
    c.optimizer.lr = 1e-3;
    c.scheduler.min_lr = 1e-4;
    c.scheduler.warmup = 0.05;
    c.finetune.steps = 10;
    return c;
}

static void curve(void **state)
{
    (void)state;
    const config c = example();
    schedule s;
    assert_int_equal(schedule_open(&c, false, &s), STATUS_OK);
    assert_int_equal(s.warmup, 50);
    for (int64_t t = 0; t < 50; t++)
        assert_true(fabs(schedule_factor(&s, t) - (double)(t + 1) / 50) < 1e-15);
    assert_true(fabs(schedule_factor(&s, 50) - 1) < 1e-15);
    assert_true(fabs(schedule_factor(&s, 999) - 0.1) < 1e-12);
    for (int64_t t = 51; t < 1000; t++) {
        const double x = (double)(t - 50) / 949, want = 0.1 + 0.9 * 0.5 * (1 + cos(M_PI * x));
        assert_true(fabs(schedule_factor(&s, t) - want) < 1e-12);
        assert_true(schedule_factor(&s, t) < schedule_factor(&s, t - 1));
    }
    assert_true(fabs(schedule_factor(&s, 5000) - 0.1) < 1e-12);
}

static void constant_and_short(void **state)
{
    (void)state;
    config c = example();
    schedule s;
    c.scheduler.name = SCHEDULE_CONSTANT;
    assert_int_equal(schedule_open(&c, false, &s), STATUS_OK);
    assert_true(schedule_factor(&s, 999) == 1);
    c.scheduler.name = SCHEDULE_COSINE;
    c.train.steps = 1;
    c.scheduler.warmup = 0;
    assert_int_equal(schedule_open(&c, false, &s), STATUS_OK);
    assert_true(isfinite(schedule_factor(&s, 0)));
    c.scheduler.min_lr = 1; /* above the peak: never rises over it */
    assert_int_equal(schedule_open(&c, false, &s), STATUS_OK);
    assert_true(schedule_factor(&s, 0) <= 1);
}

static void stages(void **state)
{
    (void)state;
    config c = example();
    schedule s;
    c.n_stages = 2;
    c.stages[0] = (config_stage){10, 100, 1};
    c.stages[1] = (config_stage){50, 200, 1};
    assert_int_equal(schedule_open(&c, false, &s), STATUS_OK);
    assert_int_equal(s.n_stages, 3);
    const int64_t at[] = {0, 99, 100, 299, 300, 999, 4000};
    const int64_t length[] = {10, 10, 50, 50, 100, 100, 100};
    for (int i = 0; i < 7; i++)
        assert_int_equal(schedule_stage(&s, at[i])->seq_len, length[i]);
    assert_int_equal(schedule_stage(&s, 0)->slots, 100);
    assert_int_equal(schedule_stage(&s, 300)->slots, 10);
    assert_int_equal(s.stages[2].end, 1000);
    c.train.steps = 150; /* a run that ends inside a stage */
    assert_int_equal(schedule_open(&c, false, &s), STATUS_OK);
    assert_int_equal(s.n_stages, 2);
    assert_int_equal(s.stages[1].end, 150);
    assert_int_equal(schedule_open(&c, true, &s), STATUS_OK); /* fine-tuning has none */
    assert_int_equal(s.n_stages, 1);
    assert_int_equal(s.steps, 10);
    c.stages[0].context_parallel = 2;
    c.train.context_parallel = 3;
    c.train.steps = 1000;
    assert_int_equal(schedule_open(&c, false, &s), STATUS_OK);
    assert_int_equal(s.stages[0].context_parallel, 2);
    assert_int_equal(s.stages[2].context_parallel, 3);
}

/* Every slot is dealt once, whatever the numbers; shards come in blocks; nobody has two more. */
static void dealing(void **state)
{
    (void)state;
    for (int64_t slots = 1; slots < 40; slots++)
        for (int64_t shards = 1; shards < 17; shards++)
            for (int workers = 1; workers < 9; workers++) {
                int seen[64] = {0};
                int64_t place = 0, shard = 0, least = slots, most = 0;
                for (int w = 0; w < workers; w++) {
                    const share mine = deal_share(slots, workers, w);
                    assert_int_equal(mine.first, place);
                    place += mine.count;
                    least = mine.count < least ? mine.count : least;
                    most = mine.count > most ? mine.count : most;
                    for (int64_t i = 0; i < mine.count; i++) {
                        const int64_t slot = deal_slot(slots, shards, mine.first + i);
                        assert_in_range(slot, 0, slots - 1);
                        assert_int_equal(seen[slot]++, 0);
                        assert_true(slot % shards >= shard);
                        shard = slot % shards;
                    }
                }
                assert_int_equal(place, slots);
                assert_true(most - least <= 1);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curve),
        cmocka_unit_test(constant_and_short),
        cmocka_unit_test(stages),
        cmocka_unit_test(dealing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
