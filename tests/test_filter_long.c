/* ranks: 1   labels: slow   on: gpu
 * filter: gradients summed over 2^20 positions stay within 1e-5 of sums in double. */
#include "tests/filter_oracle.h"

static void a_million_positions(void **state)
{
    (void)state;
    buffers all = {0};
    filter_case q;
    filter_case_make(&q, &all,
                     (filter_args){.channels = 256,
                                   .c0 = 0,
                                   .dc = 4,
                                   .F = 64,
                                   .emb = 5,
                                   .l_max = (1 << 20) + 2,
                                   .L = 1 << 20,
                                   .shift = 0.05},
                     0.05);
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
