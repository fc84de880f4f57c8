/* ranks: 1 2 3
 * Baselines on a small simulated set: windows and their truth, counts, naive Bayes against a direct
 * evaluation, the optimum of logistic regression, the look-up; and the same answers on any number
 * of ranks and threads. */
#include "runtime/train/baseline.h"
#include "runtime/train/lookup.h"
#include "runtime/train/statistics.h"
#include "tests/small_dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

static comm *world;
static small_dataset *s;

static draws *open_draws(alleles_kind alleles)
{
    const config_data c = {.alleles = alleles, .max_gap = 200000, .sharding = SHARDING_REPLICATED};
    draws *x = NULL;
    assert_int_equal(draws_open(&s->d, &c, 1, &x), STATUS_OK);
    return x;
}

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("got %.12g, wanted %.12g within %g", got, want, tolerance);
}

/* Does a person carry a site (on a haplotype)? By walking the entries. */
static bool carries(int person, int site_index, int hap)
{
    for (int64_t k = s->run[person * 2]; k < s->run[person * 2 + 2]; k++)
        if (s->entries[k].site == site_index && (hap == 0 || (s->entries[k].mask & hap)))
            return true;
    return false;
}

static bool uncalled(int person, int site_index)
{
    for (int64_t k = s->missing_run_of[person * 2]; k < s->missing_run_of[person * 2 + 2]; k++)
        if (site_index >= s->missing[k].first &&
            site_index < s->missing[k].first + s->missing[k].count)
            return true;
    return false;
}

static void windows_hold_what_they_say(void **state)
{
    (void)state;
    draws *x = open_draws(ALLELES_UNION);
    window_set w;
    assert_int_equal(window_set_tile(&s->d, x, SPLIT_TEST, 16, 16, &w), STATUS_OK);
    assert_int_equal(window_set_people(&w),
                     SMALL_PEOPLE - 1 - 72); /* the one without a label is out */
    int32_t sites[16];
    for (int64_t i = 0; i < w.n; i++) {
        const int64_t n = window_sites(&w, i, sites);
        assert_in_range(n, 8, 16);
        assert_int_equal(sites[0], w.first_site[i]);
        assert_int_equal(sites[n - 1], w.last_site[i]);
        assert_int_equal(s->block[sites[0]], s->block[sites[n - 1]]);
        assert_int_equal(w.block[i], s->block[sites[0]]);
        assert_int_equal(w.label[i], s->people[w.at[i].person].label);
        assert_int_equal(window_span_bp(&w, i), 700 * (sites[n - 1] - sites[0]) + 1);
        for (int64_t j = 1; j < n; j++)
            assert_true(sites[j] > sites[j - 1] && carries(w.at[i].person, sites[j], 0));
    }
    window_set_free(&w);
    draws_close(&x);
}

static void counts_of(alleles_kind alleles)
{
    site_counts c;
    assert_int_equal(site_counts_open(&s->d, alleles, &c), STATUS_OK);
    const int haps = alleles == ALLELES_UNION ? 1 : 2;
    for (int label = 0; label < SMALL_LABELS; label++) {
        assert_int_equal(c.people[label], 20);
        assert_int_equal(c.sequences[label], 20 * haps);
        for (int k = 0; k < SMALL_SITES; k++) {
            int carriers = 0, missing = 0;
            for (int i = 0; i < 60; i++)
                for (int h = 0; h < haps && i % SMALL_LABELS == label; h++) {
                    carriers += carries(i, k, haps == 1 ? 0 : h + 1);
                    missing += uncalled(i, k);
                }
            assert_int_equal(c.carriers[label * SMALL_SITES + k], carriers);
            assert_int_equal(c.missing[label * SMALL_SITES + k], missing);
        }
    }
    site_counts_free(&c);
}

static void carriers_are_counted_among_training_people(void **state)
{
    (void)state;
    counts_of(ALLELES_UNION);
    counts_of(ALLELES_HAPLOTYPE);
}

/* Direct evaluation, one window and class at a time. */
static double direct_score(const site_counts *c, const window_set *w, int64_t i, int label,
                           bool absent)
{
    const int person = w->at[i].person;
    double score = 0;
    for (int k = w->first_site[i]; k <= w->last_site[i]; k++) {
        const bool here = carries(person, k, w->at[i].hap);
        const double carriers = c->carriers[label * SMALL_SITES + k];
        if (absent) {
            const double called = (double)c->sequences[label] - c->missing[label * SMALL_SITES + k];
            const double f = (carriers + 0.5) / (called + 1);
            score += here ? log(f) : uncalled(person, k) ? 0 : log(1 - f);
            continue;
        }
        double total = 0;
        for (int j = 0; j < SMALL_SITES; j++)
            if (s->block[j] == s->block[k])
                total += c->carriers[label * SMALL_SITES + j] + 0.5;
        score += here ? log((carriers + 0.5) / total) : 0;
    }
    return score;
}

static void nb_of(alleles_kind alleles)
{
    draws *x = open_draws(alleles);
    site_counts c;
    window_set w;
    assert_int_equal(site_counts_open(&s->d, alleles, &c), STATUS_OK);
    assert_int_equal(window_set_tile(&s->d, x, SPLIT_TEST, 12, 12, &w), STATUS_OK);
    double *got = calloc((size_t)w.n * SMALL_LABELS, sizeof *got);
    for (int absent = 0; absent < 2; absent++) {
        const status st = absent ? baseline_nb_absent(&c, &w, got) : baseline_nb(&c, &w, got);
        assert_int_equal(st, STATUS_OK);
        for (int64_t i = 0; i < w.n; i++) {
            double want[SMALL_LABELS];
            for (int k = 0; k < SMALL_LABELS; k++)
                want[k] = direct_score(&c, &w, i, k, absent);
            log_softmax(want, 1, SMALL_LABELS);
            for (int k = 0; k < SMALL_LABELS; k++)
                near(got[i * SMALL_LABELS + k], want[k], 1e-9);
        }
    }
    free(got);
    window_set_free(&w);
    site_counts_free(&c);
    draws_close(&x);
}

static void naive_bayes_is_the_direct_sum(void **state)
{
    (void)state;
    nb_of(ALLELES_UNION);
    nb_of(ALLELES_HAPLOTYPE);
}

static double accuracy_on(const window_set *w, const double *logp)
{
    int64_t hits = 0;
    for (int64_t i = 0; i < w->n; i++)
        hits += best_class(logp + i * SMALL_LABELS, SMALL_LABELS) == w->label[i];
    return (double)hits / (double)w->n;
}

/* Sites are independent here, so that naive Bayes over all sites is the best there is; the others
 * come behind it in a known order, and majority is a third. */
static void methods_fall_into_their_order(void **state)
{
    (void)state;
    draws *x = open_draws(ALLELES_UNION);
    site_counts c;
    window_set train, valid, test;
    assert_int_equal(site_counts_open(&s->d, ALLELES_UNION, &c), STATUS_OK);
    assert_int_equal(window_set_tile(&s->d, x, SPLIT_TRAIN, 24, 12, &train), STATUS_OK);
    assert_int_equal(window_set_tile(&s->d, x, SPLIT_VALID, 24, 24, &valid), STATUS_OK);
    assert_int_equal(window_set_tile(&s->d, x, SPLIT_TEST, 24, 24, &test), STATUS_OK);
    const size_t cells = (size_t)test.n * SMALL_LABELS;
    double *logp = calloc(cells, sizeof *logp), *again = calloc(cells, sizeof *again), l2, l2_again;

    baseline_majority(&c, &test, logp);
    near(accuracy_on(&test, logp), 1.0 / 3, 0.05);
    assert_int_equal(baseline_density(&train, &test, SMALL_LABELS, logp), STATUS_OK);
    near(accuracy_on(&test, logp), 1.0 / 3, 0.25);
    assert_int_equal(baseline_nb_absent(&c, &test, logp), STATUS_OK);
    const double bound = accuracy_on(&test, logp);
    assert_true(bound > 0.75);

    logistic_options o = {.classes = SMALL_LABELS, .threads = 1, .seed = 1};
    assert_int_equal(baseline_logistic(&o, world, &train, &valid, &test, logp, &l2), STATUS_OK);
    const double reached = accuracy_on(&test, logp);
    if (reached < bound - 0.2 || reached > bound + 0.1)
        fail_msg("logistic regression %.3f, bound %.3f", reached, bound);
    o.threads = 3;
    assert_int_equal(baseline_logistic(&o, world, &train, &valid, &test, again, &l2_again),
                     STATUS_OK);
    assert_memory_equal(logp, again, cells * sizeof *logp);
    near(l2_again, l2, 0);

    /* The same bits on every rank, and on one rank alone. */
    comm *alone = NULL;
    assert_int_equal(comm_split(world, comm_rank(world), 0, &alone), STATUS_OK);
    assert_int_equal(baseline_logistic(&o, alone, &train, &valid, &test, again, &l2_again),
                     STATUS_OK);
    assert_memory_equal(logp, again, cells * sizeof *logp);
    comm_free(&alone);

    free(logp);
    free(again);
    window_set_free(&train);
    window_set_free(&valid);
    window_set_free(&test);
    site_counts_free(&c);
    draws_close(&x);
}

/* A class with twice the density is found by the span alone. */
static void density_sees_the_span_alone(void **state)
{
    (void)state;
    enum { N = 400 };
    window train_at[N], test_at[N];
    int32_t label[N], first[N], last[N], block[N] = {0};
    for (int i = 0; i < N; i++) {
        train_at[i] = test_at[i] = (window){.person = i, .count = 8};
        label[i] = i % 2;
        first[i] = 0;
        last[i] = label[i] ? 20 + i / 2 % 10 : 60 + i / 2 % 10;
    }
    const window_set train = {&s->d, NULL, 8, N, train_at, label, block, first, last};
    const window_set test = {&s->d, NULL, 8, N, test_at, label, block, first, last};
    double logp[N * 2];
    int64_t hits = 0;
    assert_int_equal(baseline_density(&train, &test, 2, logp), STATUS_OK);
    for (int i = 0; i < N; i++)
        hits += best_class(logp + 2 * i, 2) == label[i];
    assert_int_equal(hits, N);
}

/* At the optimum the gradient of mean loss + l2 / 2 |w|^2 is zero. */
static void logistic_regression_reaches_its_optimum(void **state)
{
    (void)state;
    enum { ROWS = 300, FEATURES = 12, CLASSES = 3 };
    int64_t start[ROWS + 1] = {0}, n = 0;
    int32_t feature[ROWS * FEATURES], label[ROWS];
    for (int i = 0; i < ROWS; i++) {
        rng r = rng_at(9, RNG_TEST, (uint64_t)i, 0);
        label[i] = (int32_t)rng_below(&r, CLASSES);
        for (int f = 0; f < FEATURES; f++)
            if (rng_uniform(&r) < (f % CLASSES == label[i] ? 0.6 : 0.3))
                feature[n++] = f;
        start[i + 1] = n;
    }
    const sparse_rows rows = {ROWS, start, feature, label};
    const double l2 = 0.01;
    const sgd_options o = {CLASSES, 2000, l2, 0.05, 1, 0};
    float w[(FEATURES + 1) * CLASSES];
    assert_int_equal(logistic_fit(&o, &rows, FEATURES, w), STATUS_OK);
    double gradient[(FEATURES + 1) * CLASSES], largest = 0, at_zero = 0;
    for (int k = 0; k < (FEATURES + 1) * CLASSES; k++)
        gradient[k] = l2 * w[k];
    for (int i = 0; i < ROWS; i++) {
        double p[CLASSES];
        logistic_scores(w, FEATURES, CLASSES, feature + start[i], start[i + 1] - start[i], p);
        log_softmax(p, 1, CLASSES);
        for (int c = 0; c < CLASSES; c++) {
            const double g = (exp(p[c]) - (c == label[i])) / ROWS;
            gradient[FEATURES * CLASSES + c] += g;
            for (int64_t j = start[i]; j < start[i + 1]; j++)
                gradient[feature[j] * CLASSES + c] += g;
        }
    }
    for (int k = 0; k < (FEATURES + 1) * CLASSES; k++) {
        largest = fmax(largest, fabs(gradient[k]));
        at_zero = fmax(at_zero, fabs(w[k]));
    }
    assert_true(at_zero > 0.2);
    near(largest, 0, 2e-3);
}

/* Counts by (row, previous allele) of neighbouring entries, made here for each target anew. */
static double direct_lookup(const draws *x, int64_t alpha, objective_kind objective, int at,
                            int next)
{
    const entry *e = s->entries;
    const int seen = objective == OBJECTIVE_AUTOREGRESSIVE ? e[at].site : e[next].site;
    double count[4] = {0.5, 0.5, 0.5, 0.5}, total = 0;
    (void)x;
    for (int i = 0; i < 60; i++)
        for (int64_t k = s->run[i * 2]; k + 1 < s->run[i * 2 + 2]; k++) {
            const int row_site = objective == OBJECTIVE_AUTOREGRESSIVE ? e[k].site : e[k + 1].site;
            const bool same_row = (s->sites[row_site].position - 1) / alpha ==
                                      (s->sites[seen].position - 1) / alpha &&
                                  (row_site < 200) == (seen < 200);
            if (same_row && s->block[e[k].site] == s->block[e[k + 1].site] &&
                e[k].allele == e[at].allele)
                count[e[k + 1].allele] += 1;
        }
    for (int a = 0; a < 4; a++)
        total += count[a];
    return -log(count[e[next].allele] / total);
}

static void lookup_is_the_direct_count(void **state)
{
    (void)state;
    draws *x = open_draws(ALLELES_UNION);
    window_set w;
    assert_int_equal(window_set_tile(&s->d, x, SPLIT_TEST, 10, 10, &w), STATUS_OK);
    const int64_t alphas[] = {1, 5000};
    for (int k = 0; k < 4; k++) {
        const objective_kind objective =
            k / 2 ? OBJECTIVE_POSITION_CONDITIONED : OBJECTIVE_AUTOREGRESSIVE;
        lookup *l = NULL;
        assert_int_equal(
            lookup_open(&s->d, ALLELES_UNION, alphas[k % 2], ROWS_CHROMOSOME, objective, &l),
            STATUS_OK);
        for (int64_t i = 0; i < w.n; i += 5) {
            uint8_t ids[10];
            int32_t sites[10];
            double want = 0;
            draws_fill(x, &w.at[i], ids, NULL, sites);
            for (int j = 0; j < 9; j++)
                want += direct_lookup(x, alphas[k % 2], objective,
                                      (int)draws_entry(x, w.at[i].first + j),
                                      (int)draws_entry(x, w.at[i].first + j + 1));
            near(lookup_window(l, ids, sites, 10), want, 1e-9);
        }
        lookup_close(&l);
    }
    window_set_free(&w);
    draws_close(&x);
}

static void names_are_read(void **state)
{
    (void)state;
    bool chosen[BASELINE_KINDS];
    assert_int_equal(baselines_parse("nb,lookup", chosen), STATUS_OK);
    assert_true(chosen[BASELINE_NB] && chosen[BASELINE_LOOKUP] && !chosen[BASELINE_NB_ABSENT]);
    assert_int_equal(baselines_parse("nb,naive", chosen), STATUS_USAGE);
    assert_non_null(strstr(failure_last()->text, "naive"));
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    s = small_dataset_make();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_hold_what_they_say),
        cmocka_unit_test(carriers_are_counted_among_training_people),
        cmocka_unit_test(naive_bayes_is_the_direct_sum),
        cmocka_unit_test(methods_fall_into_their_order),
        cmocka_unit_test(density_sees_the_span_alone),
        cmocka_unit_test(logistic_regression_reaches_its_optimum),
        cmocka_unit_test(lookup_is_the_direct_count),
        cmocka_unit_test(names_are_read),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(s);
    comm_end(&world);
    return failed;
}
