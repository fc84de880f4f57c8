/* ranks: 1
 * Rows of positions: where a position's row is for every kind of rows and any alpha, slots only for
 * touched rows, initial values that do not depend on the order of touch, memory that follows what
 * was touched. */
#include "model/position.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const int64_t length[] = {1000, 301};
static const int64_t site0[] = {0, 4, 6};
static const int32_t site_position[] = {5, 9, 10, 999, 5, 301};
static const position_space space = {2, length, site0, site_position};

static device *dev;

static int open_device(void **state)
{
    (void)state;
    return device_open(DEVICE_CPU, 1, &dev);
}

static int close_device(void **state)
{
    (void)state;
    device_close(&dev);
    return 0;
}

static position_encoding *make(rows_kind rows, int64_t alpha, rows_init_kind init)
{
    config c;
    memset(&c, 0, sizeof c);
    c.position.encoding = ENCODING_FPE;
    c.position.alpha = alpha;
    c.position.rank = 3;
    c.position.rows = rows;
    c.position.init = init;
    position_encoding *x;
    assert_int_equal(position_open(dev, &c, 0, &space, 7, &x), STATUS_OK);
    return x;
}

static row_table *table(position_encoding *x)
{
    row_table *t[ROW_TABLES];
    assert_int_equal(position_tables(x, t), 1);
    return t[0];
}

static void rows_of_positions(void **state)
{
    (void)state;
    position_encoding *x = make(ROWS_SHARED, 7, INIT_ZERO);
    assert_int_equal(table(x)->rows, 143); /* ceil(1000 / 7) */
    for (int64_t p = 1; p <= 1000; p++)
        assert_int_equal(position_row(x, 0, 1, p, -1), (p - 1) / 7);
    assert_int_equal(position_row(x, 0, 0, 1002, -1), -1);
    assert_int_equal(position_row(x, 0, 0, 0, -1), -1);
    position_close(&x);

    x = make(ROWS_CHROMOSOME, 100, INIT_ZERO);
    assert_int_equal(table(x)->rows, 10 + 4);
    assert_int_equal(position_row(x, 0, 0, 100, -1), 0);
    assert_int_equal(position_row(x, 0, 0, 101, -1), 1);
    assert_int_equal(position_row(x, 0, 1, 1, -1), 10);
    assert_int_equal(position_row(x, 0, 1, 301, -1), 13);
    assert_int_equal(position_row(x, 0, 1, 401, -1), -1);
    assert_int_equal(position_row(x, 0, 2, 1, -1), -1);
    position_close(&x);

    /* bins of alpha = 4 that hold sites: chr 0 {1 (5), 2 (9, 10), 249}, chr 1 {1, 75} */
    x = make(ROWS_SITE, 4, INIT_ZERO);
    assert_int_equal(table(x)->rows, 5);
    const int64_t want[] = {0, 1, 1, 2, 3, 4};
    for (int32_t s = 0; s < 6; s++)
        assert_int_equal(position_row(x, 0, 0, 1, s), want[s]);
    assert_int_equal(position_row(x, 0, 0, 1, -1), -1);
    assert_int_equal(position_row(x, 0, 0, 1, 6), -1);
    position_close(&x);

    x = make(ROWS_SITE, 1, INIT_ZERO);
    assert_int_equal(table(x)->rows, 6);
    position_close(&x);
}

static void only_touched(void **state)
{
    (void)state;
    position_encoding *x = make(ROWS_SHARED, 1, INIT_ZERO);
    const int64_t empty = position_bytes(x);
    int64_t row[4] = {500, -1, 2, 500};
    int32_t slot[4];
    assert_int_equal(position_slots(x, 0, 4, row, false, slot), STATUS_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(slot[i], -1);
    assert_int_equal(position_bytes(x), empty);
    assert_int_equal(position_slots(x, 0, 4, row, true, slot), STATUS_OK);
    const int32_t want[] = {0, -1, 1, 0};
    assert_memory_equal(slot, want, sizeof want);
    row_table *t = table(x);
    assert_int_equal(t->slots, 2);
    assert_int_equal(t->row[0], 500);
    assert_true(t->p[0] == 0.0f && t->last[1] == -1);
    assert_true(position_bytes(x) > empty);
    assert_int_equal(position_dense_bytes(x), 4 * 1000 * 3 * 4);
    /* growth keeps every row where it was */
    for (int64_t r = 0; r < 1000; r++) {
        int64_t one = (r * 389) % 1000;
        assert_int_equal(position_slots(x, 0, 1, &one, true, slot), STATUS_OK);
        t->p[(int64_t)slot[0] * 3] = (float)one;
    }
    assert_int_equal(t->slots, 1000);
    for (int64_t r = 0; r < 1000; r++) {
        assert_int_equal(position_slots(x, 0, 1, &r, false, slot), STATUS_OK);
        assert_true(t->row[slot[0]] == r && t->p[(int64_t)slot[0] * 3] == (float)r);
    }
    position_close(&x);
}

/* Rows of a dense space in no order, with the storage that follows them. */
static void touch(position_encoding *x, int64_t n, int64_t of)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = i * 7919 % of; /* 7919 does not divide it: all are different */
        int32_t slot;
        assert_int_equal(position_slots(x, 0, 1, &row, true, &slot), STATUS_OK);
        assert_int_equal(slot, i);
        table(x)->p[i * 16] = (float)row;
    }
}

static position_encoding *of_length(int64_t bp)
{
    config c;
    memset(&c, 0, sizeof c);
    c.position.encoding = ENCODING_FPE;
    c.position.alpha = 1;
    c.position.rank = 16;
    c.position.length = bp;
    position_encoding *x;
    assert_int_equal(position_open(dev, &c, 0, NULL, 7, &x), STATUS_OK);
    return x;
}

/* Values and moments of a row of 16 are 192 bytes; with row number, step and index at most 15 % are
 * added, whether rows came one by one or were expected, few of a large space or all of it. */
static void memory_of_touched_rows(void **state)
{
    (void)state;
    const struct {
        int64_t touched, of;
        bool expected;
    } cases[] = {{200000, 249250621, false},
                 {200000, 249250621, true},
                 {100000, 110000, false},
                 {100000, 100000, true},
                 {100000, 100000, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int64_t n = cases[i].touched, of = cases[i].of;
        position_encoding *x = of_length(of);
        if (cases[i].expected)
            assert_int_equal(position_reserve(x, 0, n), STATUS_OK);
        const int64_t before = position_bytes(x);
        touch(x, n, of);
        const int64_t took = position_bytes(x);
        if (cases[i].expected)
            assert_true(took == before && took == position_table_bytes(n, of, 16));
        if ((double)took > 1.15 * 192 * (double)n)
            fail_msg("%lld of %lld rows take %.1f bytes each", (long long)n, (long long)of,
                     (double)took / (double)n);
        for (int64_t row = 0; row < 1000; row++) { /* those that are there, and only those */
            int32_t slot;
            assert_int_equal(position_slots(x, 0, 1, &row, false, &slot), STATUS_OK);
            assert_true(slot >= 0 ? table(x)->row[slot] == row : n < of);
            if (slot >= 0)
                assert_true(table(x)->p[(int64_t)slot * 16] == (float)row);
        }
        for (int64_t s = 0; s < n; s += 997) {
            int32_t slot;
            const int64_t row = table(x)->row[s];
            assert_int_equal(position_slots(x, 0, 1, &row, false, &slot), STATUS_OK);
            assert_int_equal(slot, s);
        }
        position_close(&x);
    }
}

static void initial_values(void **state)
{
    (void)state;
    position_encoding *x = make(ROWS_SHARED, 1, INIT_NORMAL),
                      *y = make(ROWS_SHARED, 1, INIT_NORMAL);
    int64_t up[100], down[100];
    int32_t a[100], b[100];
    for (int i = 0; i < 100; i++) {
        up[i] = i;
        down[i] = 99 - i;
    }
    assert_int_equal(position_slots(x, 0, 100, up, true, a), STATUS_OK);
    assert_int_equal(position_slots(y, 0, 100, down, false, b), STATUS_OK);
    assert_int_equal(table(y)->slots, 0);
    assert_int_equal(position_scratch(y, 0), 100);
    double sum = 0, square = 0;
    for (int i = 0; i < 100; i++) {
        const float *p = table(x)->p + a[i] * 3, *q = table(y)->p + b[99 - i] * 3;
        assert_memory_equal(p, q, 3 * sizeof *p);
        for (int e = 0; e < 3; e++) {
            sum += (double)p[e];
            square += (double)p[e] * (double)p[e];
        }
    }
    assert_true(fabs(sum / 300) < 0.06 && fabs(sqrt(square / 300) - 0.3) < 0.05);
    position_close(&x);
    position_close(&y);
}

static void restore(void **state)
{
    (void)state;
    position_encoding *x = make(ROWS_SHARED, 1, INIT_ZERO);
    const int64_t rows[] = {7, 3}, last[] = {4, 9};
    const float p[] = {1, 2, 3, 4, 5, 6}, m[] = {0, 0, 1, 1, 0, 0}, v[] = {2, 2, 2, 3, 3, 3};
    assert_int_equal(position_restore(x, 0, 2, rows, p, m, v, last), STATUS_OK);
    row_table *t = table(x);
    assert_true(t->slots == 2 && t->last[1] == 9 && t->p[5] == 6 && t->m[2] == 1 && t->v[3] == 3);
    assert_int_equal(position_restore(x, 0, 1, rows + 1, p, NULL, NULL, NULL), STATUS_OK);
    int32_t slot[2];
    assert_int_equal(position_slots(x, 0, 2, rows, false, slot), STATUS_OK);
    assert_true(slot[0] == -1 && slot[1] == 0 && t->slots == 1 && t->last[0] == -1 && t->v[0] == 0);
    const int64_t twice[] = {3, 3}, beyond[] = {3, 1000};
    assert_int_equal(position_restore(x, 0, 2, twice, p, m, v, last), STATUS_DATA);
    assert_int_equal(position_restore(x, 0, 2, beyond, p, NULL, NULL, NULL), STATUS_DATA);
    position_close(&x);
}

static void refusals(void **state)
{
    (void)state;
    config c;
    memset(&c, 0, sizeof c);
    c.position.encoding = ENCODING_FPE;
    c.position.alpha = 1;
    c.position.rank = 3;
    position_encoding *x;
    assert_int_equal(position_open(dev, &c, 0, NULL, 1, &x), STATUS_USAGE);
    assert_non_null(strstr(failure_last()->text, "position.length"));
    c.position.alpha = 0;
    assert_int_equal(position_open(dev, &c, 0, &space, 1, &x), STATUS_USAGE);
}

static void sinusoid(void **state)
{
    (void)state;
    const int64_t position[3] = {1, 0, 249000000};
    float added[4 * 3];
    position_sinusoid(4, 3, position, added);
    assert_true(fabs((double)added[0] - sin(1.0)) < 1e-6 &&
                fabs((double)added[3] - cos(1.0)) < 1e-6);
    assert_true(added[1] == 0.0f && added[4] == 0.0f && added[10] == 0.0f);
    assert_true(fabs((double)added[8] - sin(249000000 * 0.01)) < 1e-6);
    assert_true(fabs((double)added[11] - cos(249000000 * 0.01)) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_of_positions),
                                       cmocka_unit_test(only_touched),
                                       cmocka_unit_test(memory_of_touched_rows),
                                       cmocka_unit_test(initial_values),
                                       cmocka_unit_test(restore),
                                       cmocka_unit_test(refusals),
                                       cmocka_unit_test(sinusoid)};
    return cmocka_run_group_tests(tests, open_device, close_device);
}
