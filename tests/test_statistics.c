/* ranks: 1
 * Statistics of an evaluation against known answers: quantiles, bootstrap intervals of a binomial
 * and of a paired difference, calibration bins, confusion, log loss. */
#include "runtime/train/statistics.h"

#include "runtime/core/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("got %.9g, wanted %.9g within %g", got, want, tolerance);
}

static void quantiles_are_linear_between_order_statistics(void **state)
{
    (void)state;
    double x[] = {4, 1, 3, 2};
    near(quantile(x, 4, 0.0), 1, 0);
    near(quantile(x, 4, 1.0), 4, 0);
    near(quantile(x, 4, 0.5), 2.5, 1e-12);
    near(quantile(x, 4, 0.025), 1.075, 1e-12); /* numpy.percentile([1,2,3,4], 2.5) */
    assert_true(isnan(quantile(x, 0, 0.5)));
}

/* 400 groups of one window each, 300 of them right: a binomial share of 0.75, standard error
 * 0.02165. */
static void interval_of_a_share(void **state)
{
    (void)state;
    double top[400], bottom[400];
    for (int i = 0; i < 400; i++) {
        top[i] = i % 4 != 0;
        bottom[i] = 1;
    }
    interval a, again, other;
    assert_int_equal(bootstrap_ratio(top, bottom, 400, 4000, 1, RESAMPLE_PEOPLE, &a), STATUS_OK);
    near(a.low, 0.75 - 1.96 * 0.02165, 0.004);
    near(a.high, 0.75 + 1.96 * 0.02165, 0.004);
    assert_int_equal(bootstrap_ratio(top, bottom, 400, 4000, 1, RESAMPLE_PEOPLE, &again),
                     STATUS_OK);
    near(again.low, a.low, 0);
    near(again.high, a.high, 0);
    assert_int_equal(bootstrap_ratio(top, bottom, 400, 4000, 2, RESAMPLE_PEOPLE, &other),
                     STATUS_OK);
    assert_true(other.low != a.low || other.high != a.high);
}

/* Windows of one person all agree: the interval must be as wide as that of the people, not of the
 * windows. */
static void windows_of_one_person_are_not_independent(void **state)
{
    (void)state;
    double top[40], bottom[40];
    for (int i = 0; i < 40; i++) {
        top[i] = i % 2 ? 100 : 0;
        bottom[i] = 100;
    }
    interval a;
    assert_int_equal(bootstrap_ratio(top, bottom, 40, 4000, 1, RESAMPLE_PEOPLE, &a), STATUS_OK);
    near(a.high - a.low, 2 * 1.96 * sqrt(0.25 / 40), 0.03);
}

/* Two methods that err on the same people and differ on none: no interval at all. */
static void paired_differences_are_paired(void **state)
{
    (void)state;
    double top[100], bottom[100];
    for (int i = 0; i < 100; i++) {
        top[i] = 1; /* hits of a minus hits of b: always one of ten windows */
        bottom[i] = 10;
    }
    interval a;
    assert_int_equal(bootstrap_ratio(top, bottom, 100, 500, 1, RESAMPLE_PEOPLE, &a), STATUS_OK);
    near(a.low, 0.1, 1e-12);
    near(a.high, 0.1, 1e-12);
}

static void groups_without_windows_are_left_out(void **state)
{
    (void)state;
    const double top[] = {1, 0, 1}, bottom[] = {1, 0, 1}, none[] = {0, 0, 0};
    interval a;
    assert_int_equal(bootstrap_ratio(top, bottom, 3, 200, 1, RESAMPLE_BLOCKS, &a), STATUS_OK);
    near(a.low, 1, 0);
    near(a.high, 1, 0);
    assert_int_equal(bootstrap_ratio(none, none, 3, 200, 1, RESAMPLE_BLOCKS, &a), STATUS_OK);
    assert_true(isnan(a.low) && isnan(a.high));
}

static void confusion_and_accuracies(void **state)
{
    (void)state;
    const int32_t truth[] = {0, 0, 0, 0, 1, 1}, predicted[] = {0, 0, 0, 1, 1, 0};
    int64_t m[9];
    confusion_count(truth, predicted, 6, 3, m);
    const int64_t want[9] = {3, 1, 0, 1, 1, 0, 0, 0, 0};
    assert_memory_equal(m, want, sizeof want);
    near(accuracy_of(m, 3), 4.0 / 6, 1e-12);
    near(balanced_accuracy_of(m, 3), (0.75 + 0.5) / 2, 1e-12); /* class 2 does not occur */
}

static void log_loss_and_softmax(void **state)
{
    (void)state;
    double scores[] = {1000, 1000, -5, -5 + log(3)};
    const int32_t truth[] = {1, 1};
    log_softmax(scores, 2, 2);
    near(exp(scores[0]) + exp(scores[1]), 1, 1e-12);
    near(log_loss_of(scores, truth, 2, 2), (log(2) + log(4.0 / 3)) / 2, 1e-12);
}

/* Ten predictions of confidence 0.7 with six hits and ten of 0.95 with ten: ECE (|6 - 7| + |10
 * - 9.5|) / 20. */
static void calibration_error(void **state)
{
    (void)state;
    double logp[40];
    int32_t truth[20];
    for (int i = 0; i < 20; i++) {
        const double p = i < 10 ? 0.7 : 0.95;
        logp[2 * i] = log(p);
        logp[2 * i + 1] = log(1 - p);
        truth[i] = i < 10 ? i >= 6 : 0;
    }
    near(ece_of(logp, truth, 20, 2, ECE_BINS), 1.5 / 20, 1e-9);
    int64_t count[ECE_BINS], hits[ECE_BINS];
    double confidence[ECE_BINS];
    calibration_bins(logp, truth, 20, 2, ECE_BINS, count, hits, confidence);
    assert_int_equal(count[10], 10); /* (10/15, 11/15] holds 0.7 */
    assert_int_equal(hits[10], 6);
    assert_int_equal(count[14], 10);
    near(confidence[14], 9.5, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_linear_between_order_statistics),
        cmocka_unit_test(interval_of_a_share),
        cmocka_unit_test(windows_of_one_person_are_not_independent),
        cmocka_unit_test(paired_differences_are_paired),
        cmocka_unit_test(groups_without_windows_are_left_out),
        cmocka_unit_test(confusion_and_accuracies),
        cmocka_unit_test(log_loss_and_softmax),
        cmocka_unit_test(calibration_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
