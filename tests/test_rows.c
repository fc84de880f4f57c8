/* ranks: 1   on: cuda
 * rows_reduce against a plain sum, rows_gather against a copy; rows_adam and rows_catch_up against
 * dense Adam in double that sees a zero gradient wherever a row was not touched: random access,
 * schedule, clipping, a table written and read back in the middle, pauses longer than the replay.
 */
#include "tests/oracle.h"

#ifdef TEST_CUDA
#define THREADS 1 /* they mean nothing to a GPU */
#else
#define THREADS 4
#endif

static void *copy_of(buffers *all, const void *from, size_t bytes)
{
    void *to = buffer_take(all, bytes);
    memcpy(to, from, bytes);
    return to;
}

/* ---- rows_reduce ---- */

/* All arrays lie in `all`. */
static void reduce_on(device *dev, buffers *all, int64_t n, int64_t slots, int64_t k,
                      const int32_t *slot, const float *grad, const int32_t *place, float *total)
{
    bench b = {.dev = dev};
    bench_workspace(&b, (int64_t)rows_reduce_workspace(dev, n, k));
    OK(rows_reduce(dev, n, slots, k, bench_on(&b, all, slot), NULL, bench_on(&b, all, grad),
                   bench_on(&b, all, place), bench_on(&b, all, total), &b.ws));
    bench_back(&b);
    bench_forget(&b);
    assert_int_equal(b.ws.used, 0);
    device_arena_close(b.dev, &b.ws);
}

static float *reduce(buffers *all, int threads, int64_t n, int64_t slots, int64_t k,
                     const int32_t *slot, const float *grad, const int32_t *place,
                     const float *before)
{
    bench b;
    bench_device(&b, threads);
    float *total = copy_of(all, before, (size_t)((slots + 2) * k) * sizeof *total);
    reduce_on(b.dev, all, n, slots, k, slot, grad, place, total);
    device_close(&b.dev);
    return total;
}

typedef struct {
    int32_t *unique;
    float *sum;
    int64_t count;
} reduced;

/* The slots of a table of `room` among n entries, and the sums of their gradients, in `all`. */
static reduced reduce_touched(device *dev, buffers *all, int64_t room, int64_t n, int64_t k,
                              const int32_t *slot, const float *grad)
{
    reduced o = {buffer_take(all, (size_t)n * sizeof(int32_t)), buffer_floats(all, n * k), 0};
    int32_t *index = buffer_take(all, (size_t)n * sizeof *index);
    int32_t *place = buffer_take(all, (size_t)n * sizeof *place);
    for (int32_t s = 0; s < room; s++) {
        bool used = false;
        for (int64_t i = 0; i < n; i++)
            if (slot[i] == s) {
                index[i] = (int32_t)o.count;
                used = true;
            }
        if (used)
            o.unique[o.count++] = s;
    }
    for (int32_t i = 0; i < n; i++)
        place[i] = i;
    memset(o.sum, 0, (size_t)(n * k) * sizeof *o.sum);
    reduce_on(dev, all, n, o.count, k, index, grad, place, o.sum);
    return o;
}

/* fp64 in order, rounded once, added; the rows that are nobody's place stay. */
static void expect_reduced(int64_t n, int64_t slots, int64_t k, const int32_t *slot,
                           const float *grad, const int32_t *place, const float *before,
                           const float *total)
{
    double *sum = calloc((size_t)(slots * k) + 1, sizeof *sum);
    float *want = malloc((size_t)((slots + 2) * k) * sizeof *want);
    memcpy(want, before, (size_t)((slots + 2) * k) * sizeof *want);
    for (int64_t i = 0; i < n * k; i++)
        if (slot[i / k] >= 0)
            sum[slot[i / k] * k + i % k] += (double)grad[i];
    for (int64_t i = 0; i < slots * k; i++)
        want[place[i / k] * k + i % k] += (float)sum[i];
    for (int64_t i = 0; i < (slots + 2) * k; i++)
        assert_true(total[i] == want[i]);
    free(want);
    free(sum);
}

/* Slots below `slots`, one in `negative` left out; n, k. */
static void reduce_case(int64_t n, int64_t k, int64_t slots, int negative)
{
    buffers all = {0};
    rng r = rng_at(6, RNG_TEST, (uint64_t)n, (uint32_t)k);
    int32_t *slot = buffer_take(&all, (size_t)n * sizeof *slot);
    int32_t *place = buffer_take(&all, (size_t)slots * sizeof *place);
    tensor grad = tensor_random(&all, &r, n * k, 1.0);
    tensor before = tensor_random(&all, &r, (slots + 2) * k, 1.0);
    for (int64_t i = 0; i < n; i++) {
        slot[i] = (int32_t)rng_below(&r, (uint64_t)slots);
        if (negative && rng_below(&r, (uint64_t)negative) == 0)
            slot[i] = i % 2 ? -1 : INT32_MIN;
    }
    for (int64_t i = 0; i < slots; i++) { /* all places but two, in any order */
        const int64_t with = (int64_t)rng_below(&r, (uint64_t)i + 1);
        place[i] = place[with];
        place[with] = (int32_t)i + 1;
    }
    const float *first = NULL;
    for (int threads = 1; threads <= THREADS; threads++) {
        const float *total = reduce(&all, threads, n, slots, k, slot, grad.f, place, before.f);
        if (!first)
            expect_reduced(n, slots, k, slot, grad.f, place, before.f, first = total);
        assert_memory_equal(total, first, (size_t)((slots + 2) * k) * sizeof *total);
    }
    buffers_close(&all);
}

static void sums_of_duplicates(void **state)
{
    (void)state;
    reduce_case(0, 4, 5, 0);
    reduce_case(5, 16, 5, 0);
    reduce_case(64, 3, 7, 1); /* all left out */
    reduce_case(1000, 16, 1, 0);
    reduce_case(3000, 20, 300, 4);
    reduce_case(4000, 5, 4000, 9);
    reduce_case(2500, 33, 255, 3); /* two passes of the sort, for what is left out */
    reduce_case(2500, 2, 256, 0);
    reduce_case(70000, 1, 65536, 5); /* three */
    reduce_case(140000, 1, 60, 5);   /* many tiles */
}

static void rows_by_number(void **state)
{
    enum { ROWS = 37, COUNT = 50, K = 5 };
    (void)state;
    buffers all = {0};
    rng r = rng_at(7, RNG_TEST, 0, 0);
    const tensor from = tensor_random(&all, &r, ROWS * K, 1.0);
    int32_t *index = buffer_take(&all, COUNT * sizeof *index);
    float *out = buffer_floats(&all, COUNT * K);
    for (int64_t i = 0; i < COUNT; i++)
        index[i] = (int32_t)rng_below(&r, ROWS);
    bench b;
    bench_device(&b, THREADS);
    OK(rows_gather(b.dev, 0, K, NULL, NULL, NULL));
    OK(rows_gather(b.dev, COUNT, K, bench_on(&b, &all, index), bench_on(&b, &all, from.f),
                   bench_on(&b, &all, out)));
    bench_back(&b);
    for (int64_t i = 0; i < COUNT * K; i++)
        assert_true(out[i] == from.f[index[i / K] * K + i % K]);
    bench_forget(&b);
    device_close(&b.dev);
    buffers_close(&all);
}

/* ---- rows_adam ---- */

typedef struct {
    int64_t slots, k;
    double *p, *m, *v;
} dense_table;

typedef struct {
    float *p, *m, *v;
    int64_t *last;
} lazy_table;

/* Where the device finds a table that lies in `all`. */
static lazy_table table_on(bench *b, buffers *all, const lazy_table *t)
{
    return (lazy_table){bench_on(b, all, t->p), bench_on(b, all, t->m), bench_on(b, all, t->v),
                        bench_on(b, all, t->last)};
}

/* rows_adam on a table and a schedule in `all`, rows in `now`; what it says by the next wait. */
static status step_on(bench *b, buffers *all, buffers *now, const rows_adam_args *a, int64_t count,
                      int64_t k, const int32_t *unique, const float *sum, const lazy_table *table)
{
    const lazy_table t = table_on(b, all, table);
    rows_adam_args on = *a;
    on.lr_of_step = bench_on(b, all, a->lr_of_step);
    status st = rows_adam(b->dev, &on, count, k, bench_on(b, now, unique), bench_on(b, now, sum),
                          t.p, t.m, t.v, t.last);
    if (st == STATUS_OK)
        st = device_wait(b->dev);
    bench_back(b);
    bench_forget(b);
    return st;
}

static void catch_up_on(bench *b, buffers *all, buffers *now, const rows_adam_args *a,
                        int64_t count, int64_t k, const int32_t *unique, const lazy_table *table,
                        float *out)
{
    const lazy_table t = table_on(b, all, table);
    rows_adam_args on = *a;
    on.lr_of_step = bench_on(b, all, a->lr_of_step);
    OK(rows_catch_up(b->dev, &on, count, k, bench_on(b, now, unique), t.p, t.m, t.v, t.last,
                     bench_on(b, now, out)));
    bench_back(b);
    bench_forget(b);
}

/* grad NULL: zeros */
static void dense_step(dense_table *t, const rows_adam_args *a, int64_t row, const double *grad)
{
    const double n = (double)a->step + 1, lr = (double)a->lr_of_step[a->step];
    for (int64_t e = row * t->k; e < (row + 1) * t->k; e++) {
        const double g = grad ? a->scale * grad[e - row * t->k] : 0;
        t->m[e] = a->b1 * t->m[e] + (1 - a->b1) * g;
        t->v[e] = a->b2 * t->v[e] + (1 - a->b2) * g * g;
        t->p[e] -=
            lr * (t->m[e] / (1 - pow(a->b1, n))) / (sqrt(t->v[e] / (1 - pow(a->b2, n))) + a->eps);
    }
}

static float *schedule(buffers *all, int64_t steps)
{
    float *lr = buffer_floats(all, steps);
    const int64_t warm = steps / 10 + 1;
    for (int64_t s = 0; s < steps; s++)
        lr[s] = s < warm ? 6e-3f * (float)s / (float)warm
                         : 6e-4f + 5.4e-3f * 0.5f * (1 + cosf(3.14159f * (float)s / (float)steps));
    return lr;
}

static void tables_open(buffers *all, dense_table *d, lazy_table *l, bool zero)
{
    const int64_t n = d->slots * d->k;
    rng r = rng_at(8, RNG_TEST, (uint64_t)n, 0);
    tensor p = tensor_random(all, &r, n, zero ? 0.0 : 0.5);
    d->p = p.d;
    d->m = buffer_take(all, (size_t)n * sizeof(double));
    d->v = buffer_take(all, (size_t)n * sizeof(double));
    *l = (lazy_table){p.f, buffer_floats(all, n), buffer_floats(all, n),
                      buffer_take(all, (size_t)d->slots * sizeof(int64_t))};
    memset(d->m, 0, (size_t)n * sizeof(double));
    memset(d->v, 0, (size_t)n * sizeof(double));
    memset(l->m, 0, (size_t)n * sizeof(float));
    memset(l->v, 0, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < d->slots; i++)
        l->last[i] = -1;
}

/* Every row replayed to a->step against the dense table; the lazy one stays as it is. */
static void expect_caught_up(bench *b, buffers *all, const rows_adam_args *a, const dense_table *d,
                             const lazy_table *l, double bound)
{
    buffers now = {0};
    const int64_t n = d->slots * d->k;
    float *p = copy_of(&now, l->p, (size_t)n * sizeof(float));
    float *out = buffer_floats(&now, n), *some = buffer_floats(&now, 2 * d->k);
    catch_up_on(b, all, &now, a, d->slots, d->k, NULL, l, out);
    assert_memory_equal(p, l->p, (size_t)n * sizeof(float));
    double worst = 0, scale = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, isnan(out[i]) ? INFINITY : fabs((double)out[i] - d->p[i]));
        scale = fmax(scale, fabs(d->p[i]));
    }
    if (!(worst / scale < bound))
        fail_msg("step %lld: rows differ from dense Adam by %.2e", (long long)a->step,
                 worst / scale);
    int32_t *two = buffer_take(&now, 2 * sizeof *two);
    two[0] = (int32_t)d->slots - 1;
    two[1] = 0;
    catch_up_on(b, all, &now, a, 2, d->k, two, l, some);
    assert_memory_equal(some, out + (d->slots - 1) * d->k, (size_t)d->k * sizeof(float));
    assert_memory_equal(some + d->k, out, (size_t)d->k * sizeof(float));
    buffers_close(&now);
}

/* Rows of one step: low numbers often, high ones rarely, the last never, row 1 at step 0 only. */
static int64_t touch(rng *r, int64_t step, int64_t n, int64_t slots, int32_t *slot)
{
    for (int64_t i = 0; i < n; i++) {
        const double u = rng_uniform(r);
        slot[i] = (int32_t)(u * u * u * u * (double)(slots - 1));
        if (rng_below(r, 6) == 0)
            slot[i] = -1;
        if (slot[i] == 1 && step > 0)
            slot[i] = 0;
    }
    if (step == 0)
        slot[0] = 1;
    return n;
}

static void dense_apply(dense_table *d, const rows_adam_args *a, int64_t n, const int32_t *slot,
                        const float *grad)
{
    double *sum = calloc((size_t)d->k, sizeof *sum);
    for (int64_t row = 0; row < d->slots; row++) {
        memset(sum, 0, (size_t)d->k * sizeof *sum);
        for (int64_t i = 0; i < n; i++)
            for (int64_t e = 0; slot[i] == row && e < d->k; e++)
                sum[e] += (double)grad[i * d->k + e];
        dense_step(d, a, row, sum);
    }
    free(sum);
}

#ifdef TEST_CUDA
#define STEPS 50
#else
#define STEPS 300
#endif
static void random_access(int64_t k, double b1, double b2, bool zero)
{
    enum { TOUCHED = 24, SLOTS = 60 };
    buffers all = {0};
    rng r = rng_at(9, RNG_TEST, (uint64_t)k, 0);
    dense_table d = {.slots = SLOTS, .k = k};
    lazy_table l;
    tables_open(&all, &d, &l, zero);
    const float *lr = schedule(&all, STEPS);
    bench b;
    bench_device(&b, 2);
    for (int64_t step = 0; step < STEPS; step++) {
        buffers now = {0};
        const rows_adam_args a = {b1, b2, 1e-8, step % 4 ? 1.0 : 0.3, step, lr};
        int32_t *slot = buffer_take(&now, TOUCHED * sizeof *slot);
        const int64_t n = touch(&r, step, TOUCHED, SLOTS, slot);
        tensor grad = tensor_random(&now, &r, n * k, 1e-3);
        const reduced o = reduce_touched(b.dev, &now, SLOTS, n, k, slot, grad.f);
        OK(step_on(&b, &all, &now, &a, o.count, k, o.unique, o.sum, &l));
        dense_apply(&d, &a, n, slot, grad.f);
        if (step % 37 == 0 || step == STEPS - 1)
            expect_caught_up(&b, &all, &a, &d, &l, 2e-6);
        buffers_close(&now);
        if (step == STEPS / 2) { /* a checkpoint: the table as it is, read by another process */
            const size_t bytes = (size_t)(SLOTS * k) * sizeof(float);
            l = (lazy_table){copy_of(&all, l.p, bytes), copy_of(&all, l.m, bytes),
                             copy_of(&all, l.v, bytes),
                             copy_of(&all, l.last, SLOTS * sizeof(int64_t))};
            device_close(&b.dev);
            bench_device(&b, 3);
        }
    }
    for (int64_t i = 0; i < SLOTS; i++) /* moments as of the last touch */
        for (int64_t e = i * k; e < (i + 1) * k; e++) {
            const double sat = (double)(STEPS - 1 - l.last[i]);
            assert_true(fabs((double)l.v[e] * pow(b2, sat) - d.v[e]) <= 1e-5 * d.v[e] + 1e-30);
            assert_true(fabs((double)l.m[e] * pow(b1, sat) - d.m[e]) <=
                        1e-6 * sqrt(d.v[e]) + 1e-30);
        }
    assert_int_equal(l.last[SLOTS - 1], -1);
    assert_int_equal(l.last[1], 0);
    device_close(&b.dev);
    buffers_close(&all);
}

static void as_dense_adam(void **state)
{
    (void)state;
    random_access(16, 0.9, 0.999, false);
    random_access(20, 0.9, 0.95, true);
    random_access(1, 0.95, 0.9, false); /* b1 > b2: the replay has no early end */
}

/* Pauses of thousands of steps: what the replay leaves out is below rounding, element by element.
 */
static void long_pauses(void **state)
{
    (void)state;
    enum { LONG = 6000, SLOTS = 5, K = 16 };
    const int64_t touched[SLOTS] = {0, 3, 40, 900, 5990};
    buffers all = {0};
    rng r = rng_at(10, RNG_TEST, 0, 0);
    dense_table d = {.slots = SLOTS, .k = K};
    lazy_table l;
    tables_open(&all, &d, &l, false);
    const float *lr = schedule(&all, LONG);
    bench b;
    bench_device(&b, 1);
    for (int64_t step = 0; step < LONG; step++) {
        const rows_adam_args a = {0.9, 0.999, 1e-8, 1.0, step, lr};
        for (int32_t row = 0; row < SLOTS; row++) {
            double grad[K] = {0};
            if (step != touched[row]) {
                dense_step(&d, &a, row, grad);
                continue;
            }
            buffers now = {0};
            float *g = buffer_floats(&now, K);
            for (int e = 0; e < K; e++)
                grad[e] = (double)(g[e] = (float)(rng_normal(&r) * pow(10, -e)));
            OK(step_on(&b, &all, &now, &a, 1, K, copy_of(&now, &row, sizeof row), g, &l));
            buffers_close(&now);
            dense_step(&d, &a, row, grad);
        }
    }
    const rows_adam_args a = {0.9, 0.999, 1e-8, 1.0, LONG - 1, lr};
    float *out = buffer_floats(&all, SLOTS * K);
    catch_up_on(&b, &all, &all, &a, SLOTS, K, NULL, &l, out);
    for (int64_t i = 0; i < SLOTS * K; i++)
        assert_true(fabs((double)out[i] - d.p[i]) <= 2e-7 * fabs(d.p[i]) + 1e-8);
    device_close(&b.dev);
    buffers_close(&all);
}

/* Before the first step nothing is replayed: rows as they are. */
static void before_the_first_step(void **state)
{
    (void)state;
    enum { SLOTS = 9, K = 5 };
    buffers all = {0};
    dense_table d = {.slots = SLOTS, .k = K};
    lazy_table l;
    tables_open(&all, &d, &l, false);
    const rows_adam_args a = {.eps = 1e-8, .step = -1};
    float *out = buffer_floats(&all, SLOTS * K);
    bench b;
    bench_device(&b, 1);
    catch_up_on(&b, &all, &all, &a, SLOTS, K, NULL, &l, out);
    assert_memory_equal(out, l.p, SLOTS * K * sizeof(float));
    device_close(&b.dev);
    buffers_close(&all);
}

static void same_bits_on_any_threads(void **state)
{
    (void)state;
    enum { SLOTS = 1000, K = 17, SOME = 12 };
    buffers all = {0};
    dense_table d = {.slots = SLOTS, .k = K};
    lazy_table l[3];
    const float *lr = schedule(&all, SOME);
    for (int t = 0; t < 3; t++) {
        rng r = rng_at(12, RNG_TEST, 0, 0);
        tables_open(&all, &d, &l[t], false);
        bench b;
        bench_device(&b, t + 1);
        for (int64_t step = 0; step < SOME; step++) {
            buffers now = {0};
            const rows_adam_args a = {0.9, 0.999, 1e-8, 1.0, step, lr};
            int32_t *rows = buffer_take(&now, SLOTS * sizeof *rows);
            int64_t n = 0;
            for (int32_t i = 0; i < SLOTS; i++)
                if (rng_below(&r, 3) == 0)
                    rows[n++] = i;
            tensor grad = tensor_random(&now, &r, n * K, 1.0);
            OK(step_on(&b, &all, &now, &a, n, K, rows, grad.f, &l[t]));
            buffers_close(&now);
        }
        device_close(&b.dev);
        assert_memory_equal(l[t].p, l[0].p, SLOTS * K * sizeof(float));
        assert_memory_equal(l[t].m, l[0].m, SLOTS * K * sizeof(float));
        assert_memory_equal(l[t].v, l[0].v, SLOTS * K * sizeof(float));
    }
    buffers_close(&all);
}

/* A row that has had this step, or a later one, must not have it again. */
static void twice_is_refused(void **state)
{
    (void)state;
    buffers all = {0};
    dense_table d = {.slots = 2, .k = 3};
    lazy_table l;
    tables_open(&all, &d, &l, false);
    const float rates[2] = {1e-3f, 1e-3f}, grad[3] = {1, 2, 3};
    const int32_t row = 1;
    const float *lr = copy_of(&all, rates, sizeof rates), *g = copy_of(&all, grad, sizeof grad);
    const int32_t *rows = copy_of(&all, &row, sizeof row);
    const rows_adam_args a = {0.9, 0.999, 1e-8, 1.0, 1, lr};
    bench b;
    bench_device(&b, 1);
    OK(step_on(&b, &all, &all, &a, 1, 3, rows, g, &l));
    const float before = l.p[3];
    assert_int_equal(step_on(&b, &all, &all, &a, 1, 3, rows, g, &l), STATUS_INTERNAL);
    assert_true(l.p[3] == before);
    OK(device_wait(b.dev)); /* said once */
    device_close(&b.dev);
    buffers_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_duplicates),
        cmocka_unit_test(rows_by_number),
        cmocka_unit_test(as_dense_adam),
        cmocka_unit_test(long_pauses),
        cmocka_unit_test(same_bits_on_any_threads),
        cmocka_unit_test(twice_is_refused),
        cmocka_unit_test(before_the_first_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
