/* ranks: 1
 * Splits and virtual shards: quotas, relatives on one side, the same for any order of people, every
 * person in one split, shards alike in size and labels. */
#include "io/split.h"
#include "runtime/core/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MOST 1000

typedef struct {
    individual people[MOST];
    char id[MOST][32], population[MOST][32];
    int32_t component[MOST];
    split_input in;
} world;

/* n people in populations of the sizes given (0 ends), two populations a label. */
static world *world_make(const int *sizes, uint64_t seed)
{
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    int64_t n = 0;
    for (int p = 0; sizes[p]; p++)
        for (int i = 0; i < sizes[p]; i++, n++) {
            snprintf(w->id[n], sizeof w->id[n], "s%04lld", (long long)n);
            snprintf(w->population[n], sizeof w->population[n], "pop%02d", p);
            w->people[n] = (individual){.id = w->id[n],
                                        .population = w->population[n],
                                        .superpopulation = p % 4 < 2 ? "AAA" : "BBB",
                                        .label = p % 4 < 2 ? 0 : 1};
            w->component[n] = (int32_t)n;
        }
    w->in = (split_input){.n_people = n,
                          .people = w->people,
                          .component = w->component,
                          .fraction = {0.7, 0.1, 0.2},
                          .seed = seed};
    return w;
}

static int64_t count_of(const world *w, const split_result *r, const char *population, int side)
{
    int64_t n = 0;
    for (int64_t i = 0; i < w->in.n_people; i++)
        n += (!population || strcmp(w->people[i].population, population) == 0) &&
             (int)r->split[i] == side;
    return n;
}

static void populations_get_their_share(void **state)
{
    (void)state;
    static const int sizes[] = {100, 73, 51, 9, 1, 2, 200, 0};
    world *w = world_make(sizes, 7);
    split_result r;
    assert_int_equal(split_people(&w->in, &r), STATUS_OK);
    for (int p = 0; sizes[p]; p++) {
        char name[16];
        snprintf(name, sizeof name, "pop%02d", p);
        for (int side = 0; side < 3; side++) {
            double want = sizes[p] * w->in.fraction[side];
            double got = (double)count_of(w, &r, name, side);
            assert_true(got > want - 1.6 && got < want + 1.6);
        }
        assert_true(count_of(w, &r, name, SPLIT_TRAIN) > 0);
    }
    double n = (double)w->in.n_people;
    for (int side = 0; side < 3; side++) { /* rounding does not add up */
        double total = (double)count_of(w, &r, NULL, side);
        assert_true(total > n * w->in.fraction[side] - 2 && total < n * w->in.fraction[side] + 2);
    }
    split_close(&r);
    free(w);
}

static void small_populations_fill_every_split(void **state)
{
    (void)state;
    static const int sizes[] = {3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0};
    world *w = world_make(sizes, 1);
    split_result r;
    assert_int_equal(split_people(&w->in, &r), STATUS_OK);
    assert_int_equal(count_of(w, &r, NULL, SPLIT_TRAIN), 21);
    assert_int_equal(count_of(w, &r, NULL, SPLIT_VALID), 3);
    assert_int_equal(count_of(w, &r, NULL, SPLIT_TEST), 6);
    split_close(&r);
    free(w);
}

static void relatives_stay_together(void **state)
{
    (void)state;
    static const int sizes[] = {40, 40, 40, 0};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        world *w = world_make(sizes, seed);
        rng random = rng_at(seed, RNG_TEST, 0, 0);
        for (int i = 0; i < 25; i++)
            split_relate(w->component, (int32_t)rng_below(&random, 120),
                         (int32_t)rng_below(&random, 120));
        for (int32_t i = 0; i < 120; i++)
            w->component[i] = split_component(w->component, i);
        split_result r;
        assert_int_equal(split_people(&w->in, &r), STATUS_OK);
        for (int i = 0; i < 120; i++)
            assert_int_equal(r.split[i], r.split[w->component[i]]);
        assert_int_equal(count_of(w, &r, NULL, SPLIT_TRAIN), 84);
        assert_int_equal(count_of(w, &r, NULL, SPLIT_TEST), 24);
        split_close(&r);
        free(w);
    }
}

static void a_population_of_one_family_trains(void **state)
{
    (void)state;
    static const int sizes[] = {10, 20, 0};
    world *w = world_make(sizes, 1);
    for (int32_t i = 0; i < 10; i++)
        w->component[i] = 0;
    split_result r;
    assert_int_equal(split_people(&w->in, &r), STATUS_OK);
    assert_int_equal(count_of(w, &r, "pop00", SPLIT_TRAIN), 10);
    split_close(&r);
    free(w);
}

static void seeds_and_nothing_else_decide(void **state)
{
    (void)state;
    static const int sizes[] = {30, 30, 0};
    world *a = world_make(sizes, 1), *b = world_make(sizes, 1), *c = world_make(sizes, 2);
    split_result x, y, z;
    assert_int_equal(split_people(&a->in, &x), STATUS_OK);
    assert_int_equal(split_people(&b->in, &y), STATUS_OK);
    assert_int_equal(split_people(&c->in, &z), STATUS_OK);
    assert_string_equal(x.hash, y.hash);
    assert_int_equal(strlen(x.hash), 16);
    assert_string_not_equal(x.hash, z.hash);
    assert_memory_equal(x.split, y.split, 60 * sizeof *x.split);
    assert_memory_equal(x.shard, y.shard, 60 * sizeof *x.shard);
    split_close(&x);
    split_close(&y);
    split_close(&z);
    free(a);
    free(b);
    free(c);
}

static void shards_are_alike(void **state)
{
    (void)state;
    static const int sizes[] = {150, 250, 170, 230, 0};
    world *w = world_make(sizes, 3);
    split_result r;
    assert_int_equal(split_people(&w->in, &r), STATUS_OK);
    int64_t train = count_of(w, &r, NULL, SPLIT_TRAIN);
    assert_int_equal(r.n_shards, train / 64);
    int64_t by_label[64][2] = {{0}}, label[2] = {0, 0};
    for (int64_t i = 0; i < w->in.n_people; i++) {
        assert_true((r.shard[i] >= 0) == (r.split[i] == SPLIT_TRAIN));
        if (r.shard[i] < 0)
            continue;
        assert_true(r.shard[i] < r.n_shards);
        by_label[r.shard[i]][w->people[i].label]++;
        label[w->people[i].label]++;
    }
    for (int64_t s = 0; s < r.n_shards; s++)
        for (int k = 0; k < 2; k++) {
            assert_true(by_label[s][k] >= label[k] / r.n_shards);
            assert_true(by_label[s][k] <= label[k] / r.n_shards + 1);
        }
    split_close(&r);
    free(w);
}

static void given_splits_are_kept(void **state)
{
    (void)state;
    static const int sizes[] = {5, 0};
    static const int given[] = {SPLIT_TEST, SPLIT_TRAIN, SPLIT_VALID, SPLIT_TEST, SPLIT_TEST};
    world *w = world_make(sizes, 1);
    w->in.given = given;
    split_result r;
    assert_int_equal(split_people(&w->in, &r), STATUS_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(r.split[i], given[i]);
    assert_int_equal(r.n_shards, 1);
    split_close(&r);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(populations_get_their_share),
        cmocka_unit_test(small_populations_fill_every_split),
        cmocka_unit_test(relatives_stay_together),
        cmocka_unit_test(a_population_of_one_family_trains),
        cmocka_unit_test(seeds_and_nothing_else_decide),
        cmocka_unit_test(shards_are_alike),
        cmocka_unit_test(given_splits_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
