/* ranks: 1
 * Random mating: pure; a child is what two haplotypes of one class carry, missing calls of either
 * parent taken out; classes, haplotypes, sections and starts uniform; mosaics and flips at their
 * rates, from their step on; virtual shards; unphased people fall back; any number of workers sees
 * one batch; a haploid chromosome gives one haplotype. */
#include "runtime/train/loader.h"
#include "tests/coded_dataset.h"
#include "tests/must.h"
#include "tests/small_dataset.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static config_data setting(alleles_kind alleles)
{
    return (config_data){.alleles = alleles,
                         .sampling = SAMPLING_MATING,
                         .sharding = SHARDING_REPLICATED,
                         .max_gap = 200000};
}

static draws *draws_of(const dataset *d, config_data c, uint64_t seed)
{
    draws *x = NULL;
    must(draws_open(d, &c, seed, &x));
    return x;
}

static bool equal(const drawn *a, const drawn *b)
{
    return a->count == b->count && a->chromosome == b->chromosome && a->label == b->label &&
           a->first_site == b->first_site && a->end_site == b->end_site &&
           memcmp(a->ids, b->ids, (size_t)a->count) == 0 &&
           memcmp(a->site, b->site, (size_t)a->count * sizeof *a->site) == 0;
}

/* Within five standard deviations of a count of n events of chance p. */
static void near(int64_t seen, double n, double p)
{
    const double want = n * p, spread = 5 * sqrt(n * p * (1 - p));
    if (fabs((double)seen - want) > spread)
        fail_msg("%lld seen, %.1f +- %.1f expected", (long long)seen, want, spread);
}

/* Chi-square of counts that should be equal. */
static void even(const int64_t *seen, int64_t cells)
{
    double n = 0, chi = 0;
    for (int64_t i = 0; i < cells; i++)
        n += (double)seen[i];
    for (int64_t i = 0; i < cells; i++)
        chi += ((double)seen[i] - n / (double)cells) * ((double)seen[i] - n / (double)cells) /
               (n / (double)cells);
    const double df = (double)cells - 1, spread = 5 * sqrt(2 * df);
    if (fabs(chi - df) > spread)
        fail_msg("chi-square %.1f of %.0f cells", chi, df + 1);
}

/* ---- a child against its parents ---- */

static bool no_call(const dataset *d, int64_t person, int64_t c, int64_t at)
{
    const int64_t run = person * d->n_chromosomes + c;
    for (int64_t m = d->missing_run_of[run]; m < d->missing_run_of[run + 1]; m++)
        if (at >= d->missing[m].first && at < d->missing[m].first + d->missing[m].count)
            return true;
    return false;
}

static bool carries(const dataset *d, int32_t haplotype, int64_t c, int64_t at, int base)
{
    const int64_t run = haplotype / 2 * d->n_chromosomes + c;
    for (int64_t e = d->run[run]; e < d->run[run + 1]; e++)
        if (d->entries[e].site == at && d->entries[e].allele == base)
            return d->entries[e].mask >> haplotype % 2 & 1;
    return false;
}

static void is_child(const dataset *d, const drawn *s, int64_t length, int64_t *holes)
{
    const int32_t *p = s->parent;
    int64_t t = 0, m = 0;
    assert_int_equal(s->count, length);
    for (int h = 0; h < 2; h++) {
        assert_int_equal(d->people[p[h] / 2].split, SPLIT_TRAIN);
        assert_int_equal(d->people[p[h] / 2].label, s->label);
    }
    assert_int_equal(s->site[0], s->first_site);
    assert_int_equal(s->site[length - 1] + 1, s->end_site);
    assert_int_equal(d->block[s->first_site], d->block[s->end_site - 1]);
    for (int64_t at = s->first_site; at < s->end_site; at++) {
        const bool hole =
            no_call(d, p[0] / 2, s->chromosome, at) || no_call(d, p[1] / 2, s->chromosome, at);
        while (m < s->n_missing && s->missing[m].first + s->missing[m].count <= at)
            m++;
        assert_int_equal(hole, m < s->n_missing && s->missing[m].first <= at);
        *holes += hole;
        for (int base = 0; base < 4; base++) {
            const bool carried = !hole && (carries(d, p[0], s->chromosome, at, base) ||
                                           carries(d, p[1], s->chromosome, at, base));
            const bool token = t < length && s->site[t] == at && s->ids[t] == 7 + base;
            /* the window may begin and end between two alleles of one site */
            if (at > s->first_site && at < s->end_site - 1)
                assert_int_equal(carried, token);
            assert_true(carried || !token);
            t += token;
        }
    }
    assert_int_equal(t, length);
}

static void two_haplotypes_of_a_class(void **state)
{
    (void)state;
    small_dataset *s = small_dataset_make();
    const dataset *d = &s->d;
    int64_t holes = 0, of_class[SMALL_LABELS + 1] = {0}, of_haplotype[120] = {0};
    const int64_t n = 3000;
    s->people[5].label = 2; /* its class goes by label: superpopulation says otherwise */
    s->people[5].superpopulation = "AFR";
    for (int alleles = ALLELES_UNION; alleles <= ALLELES_BOTH; alleles++) {
        draws *x = draws_of(d, setting((alleles_kind)alleles), 3 + (uint64_t)alleles);
        draws *y = draws_of(d, setting((alleles_kind)alleles), 3 + (uint64_t)alleles);
        drawn a = {0}, b = {0};
        int64_t different = 0;
        for (int64_t i = 0; i < n; i++) {
            const int64_t length = 1 + i % 17;
            must(draws_make(x, i / 8, i % 8, length, false, &a));
            is_child(d, &a, length, &holes);
            if (alleles != ALLELES_UNION)
                assert_int_equal(a.parent[0], a.parent[1]);
            different += a.parent[0] != a.parent[1];
            of_class[a.label]++;
            of_haplotype[a.parent[0]]++;
        }
        for (int64_t i = n - 1; i >= 0; i -= 7) { /* history does not matter */
            must(draws_make(x, i / 8, i % 8, 1 + i % 17, false, &a));
            must(draws_make(y, i / 8, i % 8, 1 + i % 17, false, &b));
            assert_true(equal(&a, &b));
        }
        if (alleles == ALLELES_UNION)
            assert_true(different > n * 9 / 10);
        drawn_free(&a);
        drawn_free(&b);
        draws_close(&x);
        draws_close(&y);
    }
    assert_true(holes > 500);
    for (int k = 0; k < SMALL_LABELS; k++)
        near(of_class[k], 3 * (double)n, 1.0 / SMALL_LABELS);
    even(of_haplotype, 120);
    free(s);
}

static void another_seed_another_child(void **state)
{
    const dataset *d = &((coded_dataset *)*state)->d;
    draws *x = draws_of(d, setting(ALLELES_UNION), 1), *y = draws_of(d, setting(ALLELES_UNION), 2);
    drawn a = {0}, b = {0};
    int same = 0;
    for (int64_t i = 0; i < 200; i++) {
        must(draws_make(x, i, 0, 20, false, &a));
        must(draws_make(y, i, 0, 20, false, &b));
        same += equal(&a, &b);
        must(draws_make(x, i, 1, 20, false, &b));
        same += equal(&a, &b);
    }
    assert_true(same < 10);
    drawn_free(&a);
    drawn_free(&b);
    draws_close(&x);
    draws_close(&y);
}

/* ---- where a child comes from ---- */

#define LENGTH 200

static void sections_and_starts(void **state)
{
    const dataset *d = &((coded_dataset *)*state)->d;
    draws *x = draws_of(d, setting(ALLELES_HAPLOTYPE), 4);
    drawn s = {0};
    int64_t first = 0, seen[400] = {0}, long_ones = 0;
    const int64_t n = 20000;
    for (int64_t i = 0; i < n; i++) {
        must(draws_make(x, i / 64, i % 64, LENGTH, false, &s));
        assert_int_equal(s.count, LENGTH);
        if (s.chromosome == 0) {
            first++;
            seen[s.first_site / 4 * 3 + s.first_site % 4]++; /* tokens before it */
        }
    }
    near(first, (double)n, 500.0 / 800); /* by number of sites */
    even(seen, 375 - LENGTH + 1);
    assert_true(seen[0] > 0 && seen[375 - LENGTH] > 0);
    for (int64_t i = 0; i < 500; i++) { /* the second chromosome has 225 tokens */
        must(draws_make(x, i, 0, 300, false, &s));
        assert_int_equal(s.count, 300);
        long_ones += s.chromosome;
    }
    assert_int_equal(long_ones, 0);
    must(draws_make(x, 0, 0, 376, false, &s));
    assert_int_equal(s.count, 0);
    drawn_free(&s);
    draws_close(&x);
}

/* A section of 40,000 sites is drawn from by stretches: everywhere, and longer ones where tokens
 * are too few. One site in twenty is carried by a haplotype. */
static void long_sections(void **state)
{
    (void)state;
    enum { SITES = 40000, PEOPLE = 4 };
    static const char *const labels[] = {"ONE"};
    dataset d = {.path = "long", .phased = true, .n_people = PEOPLE, .n_chromosomes = 1};
    individual people[PEOPLE];
    const chromosome whole = {"1", 0, 0, SITES};
    int64_t run[PEOPLE + 1] = {0}, none[PEOPLE + 1] = {0}, n = 0;
    site *sites = calloc(SITES, sizeof *sites);
    int32_t *block = calloc(SITES, sizeof *block);
    entry *entries = calloc((size_t)SITES * PEOPLE, sizeof *entries);
    assert_true(sites && block && entries);
    for (int p = 0; p < PEOPLE; p++) {
        people[p] = (individual){"", "", "", "", SEX_UNKNOWN, SPLIT_TRAIN, 0, 0};
        for (int32_t k = 0; k < SITES; k++) {
            rng r = rng_at(1, RNG_TEST, (uint64_t)p, (uint32_t)k);
            const int mask = (rng_below(&r, 20) == 0) + 2 * (rng_below(&r, 20) == 0);
            sites[k] = (site){10 + 10 * k, 0, 2};
            if (mask)
                entries[n++] = (entry){k, 1, (uint8_t)mask};
        }
        run[p + 1] = n;
    }
    d.n_sites = SITES, d.n_entries = n, d.n_labels = d.n_shards = d.n_blocks = 1;
    d.people = people, d.chromosomes = &whole, d.labels = labels, d.sites = sites;
    d.entries = entries, d.run = run, d.missing_run_of = none, d.block = block;
    draws *x = draws_of(&d, setting(ALLELES_UNION), 4);
    drawn s = {0};
    int64_t holes = 0, tenth[10] = {0};
    for (int64_t i = 0; i < 3000; i++) {
        must(draws_make(x, i, 0, 30, false, &s));
        tenth[s.first_site / (SITES / 10)]++;
        if (i % 200 == 0)
            is_child(&d, &s, 30, &holes);
    }
    for (int k = 0; k < 10; k++)
        assert_in_range(tenth[k], 230, 370);
    for (int64_t i = 0; i < 100; i++) { /* 12,000 sites hold about 1,170 tokens */
        must(draws_make(x, i, 0, 1500, false, &s));
        assert_int_equal(s.count, 1500);
        assert_true(s.parent[0] >= 0);
    }
    drawn_free(&s);
    draws_close(&x);
    free(sites);
    free(block);
    free(entries);
}

static void within_the_shard(void **state)
{
    const dataset *d = &((coded_dataset *)*state)->d;
    config_data c = setting(ALLELES_UNION);
    int64_t seen[2 * CODED_TRAIN] = {0};
    c.sharding = SHARDING_VIRTUAL;
    draws *x = draws_of(d, c, 4);
    drawn s = {0};
    for (int64_t i = 0; i < 10000; i++) {
        must(draws_make(x, i / 10, i % 10, 30, false, &s));
        for (int h = 0; h < 2; h++) {
            assert_int_equal(d->people[s.parent[h] / 2].shard, i % 10 % 2);
            seen[s.parent[h]]++;
        }
    }
    even(seen, 2 * CODED_TRAIN);
    drawn_free(&s);
    draws_close(&x);
}

/* ---- mosaics and flips ---- */

static void mosaic_at(const dataset *d, double rate)
{
    config_data c = setting(ALLELES_HAPLOTYPE);
    c.mosaic_rate = rate;
    draws *x = draws_of(d, c, 4);
    drawn s = {0};
    int64_t changes[3] = {0}, pairs[3] = {0}, kinds[3] = {0};
    for (int64_t i = 0; i < 1500; i++) {
        must(draws_make(x, i, 3, LENGTH, false, &s));
        for (int64_t t = 1; t < LENGTH; t++)
            assert_int_equal(s.ids[t], s.ids[0]); /* no mosaics yet */
        must(draws_make(x, i, 3, LENGTH, true, &s));
        for (int64_t t = 1; t < LENGTH; t++) {
            const int gap = s.site[t] - s.site[t - 1];
            assert_in_range(gap, 1, 2);
            pairs[gap]++;
            changes[gap] += s.ids[t] != s.ids[t - 1];
        }
        kinds[s.ids[LENGTH / 2] - 8]++;
    }
    /* one jump or two: the kind is then any of three */
    near(changes[1], (double)pairs[1], 2.0 / 3 * rate);
    near(changes[2], (double)pairs[2], 2.0 / 3 * (1 - (1 - rate) * (1 - rate)));
    even(kinds, 3);
    drawn_free(&s);
    draws_close(&x);
}

static void mosaics(void **state)
{
    const dataset *d = &((coded_dataset *)*state)->d;
    mosaic_at(d, 0.02);
    mosaic_at(d, 0.4);
    mosaic_at(d, 1);
}

/* Sites of four that nobody carries, and the others, inside of a window: at each with that chance
 * the other way round. */
static void flipped(const drawn *s, int64_t *absent, int64_t *gained, int64_t *never)
{
    int64_t t = 0;
    for (int64_t at = s->first_site + 1; at < s->end_site - 1; at++) {
        while (s->site[t] < at)
            t++;
        const bool carried = s->site[t] == at;
        if (at % 4 == 3) {
            ++*never;
            *gained += carried;
            if (carried)
                assert_int_equal(s->ids[t], 9); /* G, the lowest base */
        } else
            *absent += !carried;
    }
}

static void flips(void **state)
{
    const dataset *d = &((coded_dataset *)*state)->d;
    for (int sampling = SAMPLING_STRATIFIED; sampling <= SAMPLING_MATING; sampling++)
        for (int alleles = ALLELES_UNION; alleles <= ALLELES_HAPLOTYPE; alleles++) {
            config_data c = setting((alleles_kind)alleles);
            c.flip_rate = 0.03;
            c.sampling = (sampling_kind)sampling;
            draws *x = draws_of(d, c, 9);
            drawn s = {0};
            int64_t absent = 0, gained = 0, never = 0, sites = 0;
            for (int64_t i = 0; i < 1000; i++) {
                must(draws_make(x, i, 0, LENGTH / 2, true, &s));
                assert_int_equal(s.count, LENGTH / 2);
                flipped(&s, &absent, &gained, &never);
                sites += s.end_site - s.first_site - 2;
            }
            near(gained, (double)never, 0.03);
            near(absent, (double)(sites - never), 0.03);
            int64_t before = absent;
            for (int64_t i = 0; i < 100; i++) {
                must(draws_make(x, i, 0, LENGTH / 2, false, &s));
                flipped(&s, &absent, &gained, &never);
            }
            assert_int_equal(absent, before);
            drawn_free(&s);
            draws_close(&x);
        }
}

/* Where there is no call, a flip makes none. */
static void flips_leave_missing_alone(void **state)
{
    (void)state;
    small_dataset *s = small_dataset_make();
    for (int sampling = SAMPLING_STRATIFIED; sampling <= SAMPLING_MATING; sampling++) {
        config_data c = setting(ALLELES_UNION);
        c.flip_rate = 0.3;
        c.sampling = (sampling_kind)sampling;
        draws *x = draws_of(&s->d, c, 9);
        drawn a = {0};
        int64_t holes = 0;
        for (int64_t i = 0; i < 1000; i++) {
            must(draws_make(x, i, 0, 25, true, &a));
            assert_int_equal(a.count, 25);
            for (int64_t m = 0; m < a.n_missing; m++)
                for (int64_t t = 0; t < a.count; t++)
                    assert_false(a.site[t] >= a.missing[m].first &&
                                 a.site[t] < a.missing[m].first + a.missing[m].count);
            holes += a.n_missing;
        }
        assert_true(holes > 50);
        drawn_free(&a);
        draws_close(&x);
    }
    free(s);
}

static void switched_on_by_step(void **state)
{
    const dataset *d = &((coded_dataset *)*state)->d;
    config_data c = setting(ALLELES_UNION);
    draws *x = draws_of(d, c, 1);
    assert_false(draws_augments(x, 50, 100)); /* nothing to switch on */
    draws_close(&x);
    c.mosaic_rate = 0.01;
    c.augment_from = 0.25;
    x = draws_of(d, c, 1);
    assert_false(draws_augments(x, 24, 100));
    assert_true(draws_augments(x, 25, 100));
    assert_true(draws_augments(x, 100, 100));
    draws_close(&x);
}

/* ---- the loader ---- */

static void make(const dataset *d, const draws *x, int workers, int worker, int64_t step, feed *f)
{
    const schedule plan = {
        .steps = 10,
        .n_stages = 1,
        .stages = {{.end = 10, .seq_len = 40, .slots = 22, .context_parallel = 1}}};
    const loader_source source = {.data = d,
                                  .sharers = 1,
                                  .draws = x,
                                  .plan = &plan,
                                  .shards = 2,
                                  .workers = workers,
                                  .worker = worker,
                                  .spans = true,
                                  .end = 10};
    must(loader_make(&source, step, f));
}

static void any_workers_see_one_batch(void **state)
{
    const dataset *d = &((coded_dataset *)*state)->d;
    config_data c = setting(ALLELES_UNION);
    c.sharding = SHARDING_VIRTUAL;
    c.mosaic_rate = 0.02;
    c.flip_rate = 0.01;
    c.augment_from = 0.5;
    draws *x = draws_of(d, c, 7), *plain;
    c.augment_from = 1;
    plain = draws_of(d, c, 7);
    feed whole = {0}, part = {0}, without = {0};
    for (int64_t step = 4; step < 6; step++) {
        make(d, x, 1, 0, step, &whole);
        make(d, plain, 1, 0, step, &without);
        assert_int_equal(whole.n, 22);
        const size_t bytes = (size_t)(whole.n * whole.Lp) * sizeof *whole.site;
        assert_int_equal(memcmp(whole.site, without.site, bytes) == 0, step < 5);
        for (int workers = 2; workers <= 5; workers++)
            for (int worker = 0; worker < workers; worker++) {
                make(d, x, workers, worker, step, &part);
                for (int64_t i = 0; i < part.n; i++) {
                    const int64_t at = part.first + i, n = whole.Lp;
                    const int64_t from = whole.span_start[at], to = whole.span_start[at + 1];
                    assert_memory_equal(part.ids + i * n, whole.ids + at * n, (size_t)n);
                    assert_int_equal(part.label[i], whole.label[at]);
                    assert_int_equal(part.span_start[i + 1] - part.span_start[i], to - from);
                    assert_memory_equal(part.span_site + part.span_start[i], whole.span_site + from,
                                        (size_t)(to - from) * sizeof *whole.span_site);
                }
            }
    }
    feed_close(&whole);
    feed_close(&part);
    feed_close(&without);
    draws_close(&x);
    draws_close(&plain);
}

/* ---- people who cannot be mated ---- */

static void unphased_fall_back(void **state)
{
    (void)state;
    coded_dataset *s = coded_dataset_make();
    char text[512] = "";
    s->entries[s->run[2 * 7]].mask = 0; /* one call of C07 */
    fflush(stderr);
    const int before = dup(2);
    FILE *to = tmpfile();
    assert_non_null(to);
    dup2(fileno(to), 2);
    draws *x = draws_of(&s->d, setting(ALLELES_UNION), 1);
    fflush(stderr);
    dup2(before, 2);
    close(before);
    rewind(to);
    assert_non_null(fgets(text, sizeof text, to));
    assert_non_null(strstr(text, "warning: coded: 1 training people have unphased"));
    assert_non_null(strstr(text, "C07"));
    assert_null(fgets(text, sizeof text, to)); /* once */
    fclose(to);
    drawn a = {0}, b = {0};
    for (int64_t i = 0; i < 100; i++) {
        const window w = draws_train(x, i, 2, 30);
        must(draws_make(x, i, 2, 30, false, &a));
        must(draws_copy(x, &w, &b));
        assert_true(equal(&a, &b));
        assert_int_equal(a.parent[0], -1);
    }
    drawn_free(&a);
    drawn_free(&b);
    draws_close(&x);
    free(s);
}

/* A man's X has its calls on the first haplotype; where nobody has two, the child has one. */
static void haploid(void **state)
{
    (void)state;
    coded_dataset *s = coded_dataset_make();
    s->chromosomes[1].name = "X";
    for (int p = 0; p < CODED_PEOPLE; p++)
        s->people[p].sex = p % 2 ? SEX_MALE : SEX_FEMALE;
    drawn a = {0};
    for (int all = 0; all < 2; all++) {
        int64_t second = 0, two = 0, on_x = 0;
        draws *x = draws_of(&s->d, setting(ALLELES_UNION), 1);
        for (int64_t i = 0; i < 500; i++) {
            must(draws_make(x, i, 2, 30, false, &a));
            if (a.chromosome == 0)
                continue;
            on_x++;
            two += a.parent[0] != a.parent[1];
            for (int h = 0; h < 2; h++) {
                assert_true(all || a.parent[h] / 2 % 2 == 0 || a.parent[h] % 2 == 0);
                second += a.parent[h] % 2;
            }
        }
        assert_true(on_x > 100);
        assert_true(all ? two == 0 && second == 0 : two > 90 && second > 30);
        for (int p = 0; p < CODED_PEOPLE; p++)
            s->people[p].sex = SEX_MALE;
        draws_close(&x);
    }
    drawn_free(&a);
    free(s);
}

int main(void)
{
    coded_dataset *s = coded_dataset_make();
    struct CMUnitTest tests[] = {
        cmocka_unit_test(two_haplotypes_of_a_class),
        cmocka_unit_test(another_seed_another_child),
        cmocka_unit_test(sections_and_starts),
        cmocka_unit_test(long_sections),
        cmocka_unit_test(within_the_shard),
        cmocka_unit_test(mosaics),
        cmocka_unit_test(flips),
        cmocka_unit_test(flips_leave_missing_alone),
        cmocka_unit_test(switched_on_by_step),
        cmocka_unit_test(any_workers_see_one_batch),
        cmocka_unit_test(unphased_fall_back),
        cmocka_unit_test(haploid),
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tests[i].initial_state = s;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(s);
    return failed;
}
