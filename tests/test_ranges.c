/* ranks: 1   on: cuda
 * ranges: sums over ragged ranges against a sum in double, empty and long ranges, absent slots, a
 * first entry that is not 0; and the way back, rows_reduce with `of`, against differences of the
 * sums (which are linear: the transpose). */
#include "tests/oracle.h"

#ifdef TEST_CUDA
#define THREADS 1 /* they mean nothing to a GPU */
#else
#define THREADS 3
#endif

typedef struct {
    buffers *all; /* where the arrays lie */
    int64_t columns, k, rows, n;
    int64_t *start;
    int32_t *slot, *of;
} ranges_case;

static void ranges_fill(ranges_case *c, rng *r, int64_t longest)
{
    enum { FIRST = 3 };
    buffers *all = c->all;
    const int64_t room = FIRST + c->columns * (4 + longest);
    c->start = buffer_take(all, (size_t)(c->columns + 1) * sizeof *c->start);
    c->slot = buffer_take(all, (size_t)room * sizeof *c->slot);
    c->of = buffer_take(all, (size_t)room * sizeof *c->of);
    int64_t at = FIRST;
    for (int64_t i = 0; i < c->columns; i++) {
        c->start[i] = at;
        int64_t n = rng_below(r, 2) ? (int64_t)rng_below(r, 4) : 0;
        if (rng_below(r, 30) == 0)
            n = (int64_t)rng_below(r, (uint64_t)longest + 1);
        for (; n > 0; n--, at++) {
            c->slot[at] = rng_below(r, 9) ? (int32_t)rng_below(r, (uint64_t)c->rows) : -1;
            c->of[at] = (int32_t)i;
        }
    }
    c->start[c->columns] = at;
    c->n = at - FIRST;
}

static void backward(const ranges_case *c, device *dev, const tensor *grad)
{
    buffers all = {0};
    const int64_t first = c->start[0], n = c->n, k = c->k;
    bench b = {.dev = dev};
    bench_workspace(&b, (int64_t)rows_reduce_workspace(dev, n, k));
    int32_t *place = buffer_take(&all, (size_t)c->rows * sizeof *place);
    float *sum = buffer_floats(&all, c->rows * k);
    memset(sum, 0, (size_t)(c->rows * k) * sizeof *sum);
    for (int64_t i = 0; i < c->rows; i++)
        place[i] = (int32_t)(c->rows - 1 - i);
    const int32_t *slot = bench_on(&b, c->all, c->slot), *of = bench_on(&b, c->all, c->of);
    OK(rows_reduce(dev, n, c->rows, k, slot + first, of + first, bench_on(&b, c->all, grad->f),
                   bench_on(&b, &all, place), bench_on(&b, &all, sum), &b.ws));
    bench_back(&b);
    double *want = calloc((size_t)(c->rows * k), sizeof *want);
    for (int64_t i = first; i < first + n; i++)
        for (int64_t e = 0; c->slot[i] >= 0 && e < k; e++)
            want[c->slot[i] * k + e] += grad->d[c->of[i] * k + e];
    for (int64_t i = 0; i < c->rows * k; i++)
        assert_true(sum[(c->rows - 1 - i / k) * k + i % k] == (float)want[i]);
    free(want);
    bench_forget(&b);
    device_arena_close(b.dev, &b.ws);
    buffers_close(&all);
}

static void one_case(int64_t columns, int64_t k, int64_t rows, int64_t longest)
{
    buffers all = {0};
    rng r = rng_at(21, RNG_TEST, (uint64_t)columns, (uint32_t)k);
    ranges_case c = {.all = &all, .columns = columns, .k = k, .rows = rows};
    ranges_fill(&c, &r, longest);
    const tensor A = tensor_random(&all, &r, rows * k, 1.0),
                 grad = tensor_random(&all, &r, columns * k, 1.0);
    double *want = calloc((size_t)(columns * k), sizeof *want);
    for (int64_t i = 0; i < columns * k; i++)
        for (int64_t j = c.start[i / k]; j < c.start[i / k + 1]; j++)
            want[i] += c.slot[j] < 0 ? 0 : A.d[c.slot[j] * k + i % k];
    float *first = NULL;
    for (int threads = 1; threads <= THREADS; threads++) {
        bench b;
        bench_device(&b, threads);
        const ranges_args a = {columns, k, bench_on(&b, &all, c.start), bench_on(&b, &all, c.slot),
                               bench_on(&b, &all, A.f)};
        assert_int_equal(ranges_cost(b.dev, &a, c.n).workspace, 0);
        float *out = buffer_floats(&all, columns * k);
        OK(ranges_forward(b.dev, &a, bench_on(&b, &all, out), &b.ws));
        bench_back(&b);
        expect_close("sums", out, want, columns * k, 2e-6);
        for (int64_t i = 0; i < columns * k; i++)
            assert_true(c.start[i / k] < c.start[i / k + 1] || out[i] == 0.0f);
        if (first)
            assert_memory_equal(first, out, (size_t)(columns * k) * sizeof *out);
        first = out;
        bench_forget(&b);
        if (c.n >= rows)
            backward(&c, b.dev, &grad);
        device_close(&b.dev);
    }
    free(want);
    buffers_close(&all);
}

static void sums_of_ranges(void **state)
{
    (void)state;
    one_case(1, 4, 3, 2);
    one_case(37, 7, 20, 10);
#ifdef TEST_CUDA
    one_case(200, 32, 90, 700);
#else
    one_case(1000, 32, 500, 700); /* the usual width */
#endif
    one_case(300, 33, 200, 60);
    one_case(129, 67, 200, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_of_ranges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
