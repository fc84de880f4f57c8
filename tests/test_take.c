/* ranks: 1
 * Which people and sites training sees: data.train_people in proportion, nested and by the seed;
 * data.exclude cuts pieces, also where it holds no site; data.alleles both trains on haplotypes and
 * judges unions, whose two haplotypes speak of the same sites; sites a token. */
#include "runtime/train/feed.h"
#include "tests/coded_dataset.h"
#include "tests/must.h"
#include "tests/small_dataset.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static draws *draws_of(const dataset *d, config_data c)
{
    draws *x = NULL;
    must(draws_open(d, &c, 1, &x));
    return x;
}

/* ---- people ---- */

/* Takes n people of a fresh set; part[p]: does p take part. */
static void take(int64_t n, uint64_t seed, bool part[SMALL_PEOPLE])
{
    small_dataset *s = small_dataset_make();
    for (int p = 0; p < 12; p++) /* labels of unequal size */
        s->people[p].label = 0;
    must(dataset_take(&s->d, n, seed));
    for (int p = 0; p < SMALL_PEOPLE; p++) {
        part[p] = s->people[p].split == SPLIT_TRAIN;
        assert_int_equal(s->people[p].split, p >= 72   ? SPLIT_TEST
                                             : p >= 60 ? SPLIT_VALID
                                             : part[p] ? SPLIT_TRAIN
                                                       : SPLIT_NONE);
    }
    free(s);
}

static void in_proportion_and_nested(void **state)
{
    (void)state;
    static const double size[SMALL_LABELS] = {28, 16, 16};
    bool before[SMALL_PEOPLE] = {false}, now[SMALL_PEOPLE], other[SMALL_PEOPLE];
    for (int64_t n = 1; n <= 60; n++) {
        int64_t all = 0, of[SMALL_LABELS] = {0};
        take(n, 3, now);
        for (int p = 0; p < SMALL_PEOPLE; p++) {
            all += now[p];
            if (now[p])
                of[p < 12 ? 0 : p % SMALL_LABELS]++;
            assert_true(now[p] || !before[p]);
            before[p] = now[p];
        }
        assert_int_equal(all, n);
        for (int k = 0; k < SMALL_LABELS; k++)
            assert_true(fabs((double)of[k] - (double)n * size[k] / 60) < 1.5);
    }
    int differ = 0;
    take(30, 3, now);
    take(30, 4, other);
    for (int p = 0; p < 60; p++)
        differ += now[p] != other[p];
    assert_true(differ > 10);
    take(0, 3, now); /* all */
    for (int p = 0; p < 60; p++)
        assert_true(now[p]);
}

static void more_than_there_are(void **state)
{
    (void)state;
    small_dataset *s = small_dataset_make();
    assert_int_equal(dataset_take(&s->d, 61, 1), STATUS_USAGE);
    assert_non_null(strstr(failure_last()->text, "61 are asked for, small has 60"));
    free(s);
}

static void they_alone_are_drawn(void **state)
{
    (void)state;
    small_dataset *s = small_dataset_make();
    must(dataset_take(&s->d, 9, 1));
    int64_t n, of_train = 0, of_valid = 0;
    window *list;
    for (int sampling = SAMPLING_STRATIFIED; sampling <= SAMPLING_MATING; sampling++) {
        draws *x = draws_of(&s->d, (config_data){.sampling = (sampling_kind)sampling});
        drawn a = {0};
        bool seen[SMALL_PEOPLE] = {false};
        int people = 0;
        for (int64_t i = 0; i < 500; i++) {
            must(draws_make(x, i, 0, 10, false, &a));
            const window w = draws_train(x, i, 0, 10);
            seen[sampling == SAMPLING_MATING ? a.parent[i % 2] / 2 : w.person] = true;
        }
        for (int p = 0; p < SMALL_PEOPLE; p++) {
            assert_true(!seen[p] || s->people[p].split == SPLIT_TRAIN);
            people += seen[p];
        }
        assert_int_equal(people, 9);
        drawn_free(&a);
        must(draws_tile(x, SPLIT_TRAIN, 10, 10, &list, &n));
        for (int64_t i = 0; i < n; i++)
            of_train += s->people[list[i].person].split == SPLIT_TRAIN;
        assert_int_equal(of_train, n);
        of_train = 0;
        free(list);
        must(draws_tile(x, SPLIT_VALID, 10, 10, &list, &n));
        of_valid = n;
        free(list);
        assert_true(of_valid > 50);
        draws_close(&x);
    }
    free(s);
}

/* ---- sites ---- */

static config_data excluding(const char *text)
{
    config_data c = {.sharding = SHARDING_REPLICATED, .max_gap = 200000};
    snprintf(c.exclude, sizeof c.exclude, "%s", text);
    return c;
}

/* No window reaches into [from, to] of chromosome 1 or spans it. */
static void keeps_off(const dataset *d, const char *text, int64_t from, int64_t to)
{
    for (int kind = 0; kind < 4; kind++) {
        config_data c = excluding(text);
        c.sampling = kind & 1 ? SAMPLING_MATING : SAMPLING_STRATIFIED;
        c.alleles = kind & 2 ? ALLELES_BOTH : ALLELES_UNION;
        c.flip_rate = 0.02;
        draws *x = draws_of(d, c);
        drawn a = {0};
        int64_t on = 0, left = 0, right = 0;
        for (int64_t i = 0; i < 4000; i++) {
            const int64_t length = i < 2000 ? 1 + i % 3 : 40;
            const window v = draws_valid(x, i, length);
            if (i % 2)
                must(draws_make(x, i, 0, length, i % 4 == 1, &a));
            else
                must(draws_copy(x, &v, &a));
            assert_int_equal(a.count, length);
            if (a.chromosome != 0)
                continue;
            const int64_t first = d->sites[a.first_site].position;
            const int64_t last = d->sites[a.end_site - 1].position;
            on++;
            left += last < from;
            right += first > to;
        }
        assert_true(left > 100 && right > 100);
        assert_int_equal(left + right, on);
        drawn_free(&a);
        draws_close(&x);
    }
}

static void regions_cut_pieces(void **state)
{
    const dataset *d = &((coded_dataset *)*state)->d;
    /* site k lies at 1000 + 700 k: of some sites; of one; of none, between two */
    keeps_off(d, "chr1:140000-190000", 140000, 190000);
    keeps_off(d, "1:141000-141000", 141000, 141000);
    keeps_off(d, "1:141001-141699", 141001, 141699);
    /* two regions before one site, of which the second alone holds it */
    keeps_off(d, "1:141101-141200,1:141650-141750", 141101, 141750);
}

static void haplotype_numbers_pass_over_excluded(void **state)
{
    (void)state;
    small_dataset *s = small_dataset_make();
    config_data c = excluding("1:15000-30000");
    s->people[10].split = SPLIT_VALID; /* judged people among those who train */
    int64_t windows = 0;
    for (int alleles = ALLELES_UNION; alleles <= ALLELES_BOTH; alleles++) {
        c.alleles = (alleles_kind)alleles;
        draws *x = draws_of(&s->d, c);
        const piece *list;
        const int64_t n = draws_pieces(x, &list);
        for (int64_t i = 0; i < n; i++) {
            const int64_t run = (int64_t)list[i].person * 2 + list[i].chromosome;
            const bool split =
                alleles == ALLELES_HAPLOTYPE ||
                (alleles == ALLELES_BOTH && s->people[list[i].person].split == SPLIT_TRAIN);
            assert_int_equal(list[i].hap > 0, split);
            for (int64_t k = 0; k < list[i].count; k++) {
                const int64_t e = draws_entry(x, list[i].first + k);
                const int32_t at = s->sites[s->entries[e].site].position;
                assert_in_range(e, s->run[run], s->run[run + 1] - 1);
                assert_true(list[i].hap == 0 || (s->entries[e].mask & list[i].hap));
                assert_true(s->entries[e].site >= 200 || at < 15000 || at > 30000);
                windows++;
            }
        }
        draws_close(&x);
    }
    int64_t want = 0;
    for (int64_t e = 0, p = 0; e < s->d.n_entries; e++) {
        while (e >= s->run[2 * p + 2])
            p++;
        const entry *k = &s->entries[e];
        const int32_t at = s->sites[k->site].position;
        const int both = __builtin_popcount(k->mask);
        if (k->site >= 200 || at < 15000 || at > 30000)
            want += 1 + both + (s->people[p].split == SPLIT_TRAIN ? both : 1);
    }
    assert_int_equal(windows, want);
    free(s);
}

static void regions_that_are_none(void **state)
{
    const dataset *d = &((coded_dataset *)*state)->d;
    static const char *const text[] = {"7:1-100", "here", "1:9-4"};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        const config_data c = excluding(text[i]);
        draws *x = NULL;
        assert_int_equal(draws_open(d, &c, 1, &x), STATUS_USAGE);
        assert_int_equal(strncmp(failure_last()->text, "data.exclude: ", 14), 0);
        assert_null(strstr(failure_last()->text, "-r "));
        assert_null(x);
    }
}

/* ---- both haplotypes ---- */

static void two_haplotypes_over_one_span(void **state)
{
    (void)state;
    small_dataset *s = small_dataset_make();
    const dataset *d = &s->d;
    draws *x = draws_of(d, (config_data){.alleles = ALLELES_BOTH, .max_gap = 200000});
    feed f = {0};
    int64_t late = 0, without = 0, fewer = 0;
    must(feed_open(2, 30, true, &f));
    for (int64_t i = 0; i < 400; i++) {
        const window w = draws_valid(x, i, 1 + i % 30);
        const int32_t first = s->entries[w.first].site;
        const int32_t last = s->entries[w.first + w.count - 1].site;
        assert_int_equal(w.hap, 0);
        assert_in_range(draws_train(x, i, 0, 10).hap, 1, 2);
        for (int h = 0; h < 2; h++)
            must(feed_fill_haplotype(&f, h, d, x, &w, 1 + h, true));
        const batch b = feed_slice(&f, 0, 2, true);
        const int64_t sites = b.span.start[1] - b.span.start[0];
        assert_int_equal(b.span.start[2] - b.span.start[1], sites);
        assert_int_equal(b.span.site[b.span.start[0]], first);
        assert_int_equal(b.span.site[b.span.start[1] - 1], last);
        for (int h = 0; h < 2; h++) {
            int64_t t = 0, k = b.span.start[h];
            for (int64_t e = w.first; e < w.first + w.count; e++) {
                if (!(s->entries[e].mask >> h & 1))
                    continue;
                assert_int_equal(b.ids[h * b.s.Lp + t], 7 + s->entries[e].allele);
                assert_int_equal(b.site[h * b.s.Lp + t], s->entries[e].site);
                while (b.span.site[k] < s->entries[e].site) {
                    assert_int_equal(b.span.carried[k], 0);
                    assert_int_equal(b.span.token[k++], t - 1);
                }
                assert_int_equal(b.span.carried[k], 1);
                assert_int_equal(b.span.token[k++], t - 1);
                t++;
            }
            for (; k < b.span.start[h + 1]; k++)
                assert_true(b.span.carried[k] == 0 && b.span.token[k] == t - 1);
            assert_int_equal(b.count[h], t);
            assert_int_equal(b.label[h], d->people[w.person].label);
            late += sites > 0 && t > 0 && b.site[h * b.s.Lp] > first;
            without += t == 0;
            fewer += t > 0 && t < w.count;
        }
        for (int64_t k = 0; k < sites; k++)
            assert_int_equal(b.span.site[b.span.start[0] + k], b.span.site[b.span.start[1] + k]);
    }
    assert_true(late > 50 && without > 3 && fewer > 300);
    const window haplotype = draws_train(x, 0, 0, 10);
    assert_int_equal(feed_fill_haplotype(&f, 0, d, x, &haplotype, 1, true), STATUS_INTERNAL);
    feed_close(&f);
    draws_close(&x);
    free(s);
}

static void sites_a_token(void **state)
{
    const dataset *d = &((coded_dataset *)*state)->d;
    draws *x = draws_of(d, (config_data){.alleles = ALLELES_HAPLOTYPE, .max_gap = 200000});
    /* three sites of four are carried */
    assert_true(fabs(draws_sites_per_token(x, 90) - 4.0 / 3) < 0.02);
    draws_close(&x);
}

int main(void)
{
    coded_dataset *s = coded_dataset_make();
    struct CMUnitTest tests[] = {
        cmocka_unit_test(in_proportion_and_nested),
        cmocka_unit_test(more_than_there_are),
        cmocka_unit_test(they_alone_are_drawn),
        cmocka_unit_test(regions_cut_pieces),
        cmocka_unit_test(haplotype_numbers_pass_over_excluded),
        cmocka_unit_test(regions_that_are_none),
        cmocka_unit_test(two_haplotypes_over_one_span),
        cmocka_unit_test(sites_a_token),
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tests[i].initial_state = s;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(s);
    return failed;
}
