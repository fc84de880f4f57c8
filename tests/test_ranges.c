/* ranks: 1
 * ranges: sums over ragged ranges against a sum in double, empty and long ranges, absent slots, a
 * first entry that is not 0; and the way back, rows_reduce with `of`, against differences of the
 * sums (which are linear: the transpose). */
#include "tests/oracle.h"

typedef struct {
    int64_t columns, k, rows, n;
    int64_t *start;
    int32_t *slot, *of;
} ranges_case;

static void ranges_fill(ranges_case *c, buffers *all, rng *r, int64_t longest)
{
    enum { FIRST = 3 };
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
    bench_workspace(&b, 16 * n + 256);
    int32_t *unique = buffer_take(&all, (size_t)n * sizeof *unique);
    float *sum = buffer_floats(&all, n * k);
    int64_t count = -1, seen = 0;
    OK(rows_reduce(dev, n, k, c->slot + first, c->of + first, grad->f, unique, sum, &count, &b.ws));
    double *want = calloc((size_t)(c->rows * k), sizeof *want);
    bool *used = calloc((size_t)c->rows, sizeof *used);
    for (int64_t i = first; i < first + n; i++) {
        if (c->slot[i] < 0)
            continue;
        used[c->slot[i]] = true;
        for (int64_t e = 0; e < k; e++)
            want[c->slot[i] * k + e] += grad->d[c->of[i] * k + e];
    }
    for (int64_t u = 0; u < c->rows; u++)
        seen += used[u];
    assert_int_equal(count, seen);
    for (int64_t u = 0; u < count; u++)
        for (int64_t e = 0; e < k; e++)
            assert_true(used[unique[u]] && sum[u * k + e] == (float)want[unique[u] * k + e]);
    free(used);
    free(want);
    device_arena_close(b.dev, &b.ws);
    buffers_close(&all);
}

static void one_case(int64_t columns, int64_t k, int64_t rows, int64_t longest)
{
    buffers all = {0};
    rng r = rng_at(21, RNG_TEST, (uint64_t)columns, (uint32_t)k);
    ranges_case c = {.columns = columns, .k = k, .rows = rows};
    ranges_fill(&c, &all, &r, longest);
    const tensor A = tensor_random(&all, &r, rows * k, 1.0),
                 grad = tensor_random(&all, &r, columns * k, 1.0);
    double *want = calloc((size_t)(columns * k), sizeof *want);
    for (int64_t i = 0; i < columns * k; i++)
        for (int64_t j = c.start[i / k]; j < c.start[i / k + 1]; j++)
            want[i] += c.slot[j] < 0 ? 0 : A.d[c.slot[j] * k + i % k];
    const ranges_args a = {columns, k, c.start, c.slot, A.f};
    float *first = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        bench b;
        bench_device(&b, threads);
        assert_int_equal(ranges_cost(b.dev, &a, c.n).workspace, 0);
        float *out = buffer_floats(&all, columns * k);
        OK(ranges_forward(b.dev, &a, out, &b.ws));
        expect_close("sums", out, want, columns * k, 2e-6);
        for (int64_t i = 0; i < columns * k; i++)
            assert_true(c.start[i / k] < c.start[i / k + 1] || out[i] == 0.0f);
        if (first)
            assert_memory_equal(first, out, (size_t)(columns * k) * sizeof *out);
        first = out;
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
    one_case(1000, 32, 500, 700); /* the usual width */
    one_case(300, 33, 5000, 60);
    one_case(129, 67, 200, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_of_ranges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
