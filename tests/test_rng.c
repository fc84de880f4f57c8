/* ranks: 1
 * Counter-based numbers: the published Philox4x32-10 vectors, independence of purposes, uniform
 * bounds. */
#include "runtime/core/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void known_vector(void **state)
{
    (void)state;
    /* Random123's kat_vectors, philox4x32 10 rounds, counter and key zero; purpose 0 leaves the key
     * as it is. */
    uint32_t out[4];
    rng_words(0, (rng_purpose)0, 0, 0, 0, out);
    assert_int_equal(out[0], 0x6627e8d5);
    assert_int_equal(out[1], 0xe169c58d);
    assert_int_equal(out[2], 0xbc57ac4c);
    assert_int_equal(out[3], 0x9b00dbd8);
}

static void streams_differ(void **state)
{
    (void)state;
    rng a = rng_at(1, RNG_WINDOW, 5, 7), b = rng_at(1, RNG_VALID, 5, 7),
        c = rng_at(1, RNG_WINDOW, 5, 8);
    uint32_t x = rng_u32(&a);
    assert_int_not_equal(x, rng_u32(&b));
    assert_int_not_equal(x, rng_u32(&c));
    rng again = rng_at(1, RNG_WINDOW, 5, 7);
    assert_int_equal(x, rng_u32(&again));
}

static void moments(void **state)
{
    (void)state;
    rng r = rng_at(3, RNG_TEST, 0, 0);
    int count[3] = {0};
    double sum = 0, square = 0;
    for (int i = 0; i < 30000; i++) {
        count[rng_below(&r, 3)]++;
        double z = rng_normal(&r);
        sum += z;
        square += z * z;
    }
    for (int i = 0; i < 3; i++)
        assert_in_range(count[i], 9700, 10300);
    assert_true(fabs(sum / 30000) < 0.02);
    assert_true(fabs(square / 30000 - 1) < 0.03);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vector),
        cmocka_unit_test(streams_differ),
        cmocka_unit_test(moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
