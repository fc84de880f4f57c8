/* ranks: 1   labels: slow   on: gpu
 * filter: gradients summed over 2^20 positions stay within 1e-5 of sums in double. */
#include "tests/filter_oracle.h"

static void a_million_positions(void **state)
{
    (void)state;
    buffers all = {0};
    filter_case q;
    filter_case_million(&q, &all, 0.05);
    filter_oracle(&q, true);
    filter_results o = filter_run(&q, 2, 0.0f, &all);
    filter_expect(&q, &o, 0.0f, 1e-5, 1e-5, true);
    filter_case_free(&q);
    buffers_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_million_positions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
