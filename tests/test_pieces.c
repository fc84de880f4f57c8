/* ranks: 1   on: cuda
 * pieces_copy and pieces_add: rows of one stride into rows of another; what lies between them stays
 * as it is; elements of four bytes and of two. */
#include "tests/oracle.h"

typedef struct {
    int64_t rows, n, from_stride, to_stride;
} layout_case;

static const layout_case cases_of[] = {
    {1, 1, 1, 1},     {6, 2, 64, 2},         {6, 2, 2, 64},
    {5, 44, 64, 128}, {3, 1100, 1152, 2048}, {4, 0, 8, 8},
};

static void copies(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof cases_of / sizeof *cases_of; c++) {
        const layout_case *s = &cases_of[c];
        for (int element = 2; element <= 4; element += 2) {
            bench b;
            buffers all = {0};
            bench_device(&b, 2);
            uint16_t *from = (uint16_t *)buffer_floats(&all, s->rows * s->from_stride);
            uint16_t *to = (uint16_t *)buffer_floats(&all, s->rows * s->to_stride);
            const int64_t shorts = element / 2;
            for (int64_t i = 0; i < s->rows * s->from_stride * shorts; i++)
                from[i] = (uint16_t)(i * 7 + 1);
            for (int64_t i = 0; i < s->rows * s->to_stride * shorts; i++)
                to[i] = 0xABCD;
            const pieces_args a = {.rows = s->rows,
                                   .n = s->n,
                                   .from_stride = s->from_stride,
                                   .to_stride = s->to_stride,
                                   .element = element};
            OK(pieces_copy(b.dev, &a, bench_on(&b, &all, from), bench_on(&b, &all, to)));
            bench_back(&b);
            for (int64_t r = 0; r < s->rows; r++)
                for (int64_t i = 0; i < s->to_stride * shorts; i++)
                    assert_int_equal(to[r * s->to_stride * shorts + i],
                                     i < s->n * shorts ? from[r * s->from_stride * shorts + i]
                                                       : 0xABCD);
            bench_forget(&b);
            device_close(&b.dev);
            buffers_close(&all);
        }
    }
}

static void sums(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof cases_of / sizeof *cases_of; c++) {
        const layout_case *s = &cases_of[c];
        bench b;
        buffers all = {0};
        bench_device(&b, 2);
        float *from = buffer_floats(&all, s->rows * s->from_stride);
        float *to = buffer_floats(&all, s->rows * s->to_stride);
        for (int64_t i = 0; i < s->rows * s->from_stride; i++)
            from[i] = (float)i;
        for (int64_t i = 0; i < s->rows * s->to_stride; i++)
            to[i] = 1000;
        const pieces_args a = {.rows = s->rows,
                               .n = s->n,
                               .from_stride = s->from_stride,
                               .to_stride = s->to_stride,
                               .element = 4};
        OK(pieces_add(b.dev, &a, bench_on(&b, &all, from), bench_on(&b, &all, to)));
        bench_back(&b);
        for (int64_t r = 0; r < s->rows; r++)
            for (int64_t i = 0; i < s->to_stride; i++)
                assert_true(to[r * s->to_stride + i] ==
                            1000 + (i < s->n ? (float)(r * s->from_stride + i) : 0));
        bench_forget(&b);
        device_close(&b.dev);
        buffers_close(&all);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies), cmocka_unit_test(sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
