/* ranks: 1 3
 * Windows of sequences: pure functions of (seed, step, slot, length), uniform over the allowed
 * starts, by label for fine-tuning; reverse complements; N, other letters and pads are no targets;
 * a set written and opened on any number of ranks is the same. */
#include "io/import_sequences.h"
#include "runtime/core/rng.h"
#include "runtime/train/nucleotides.h"
#include "tests/must.h"
#include "tests/rank_folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static comm *world;
static char folder[64], path[128];
static sequences *set;
static char *letters[4];

enum { LONG = 5003, MIDDLE = 1200, SHORT = 70, UNKNOWN = 3000 };
static const int length_of[4] = {LONG, MIDDLE, SHORT, UNKNOWN};

/* Four sequences: a long one with a run of N, one with lower case and IUPAC letters, a short one,
 * and one of N alone but for its end. */
static void letters_make(void)
{
    rng r = rng_at(7, RNG_TEST, 0, 0);
    for (int k = 0; k < 4; k++) {
        letters[k] = calloc((size_t)length_of[k] + 1, 1);
        for (int i = 0; i < length_of[k]; i++)
            letters[k][i] = "ACGT"[rng_below(&r, 4)];
    }
    memset(letters[0] + 1000, 'N', 1500);
    memset(letters[3], 'N', UNKNOWN - 300);
    for (int i = 100; i < 300; i++)
        letters[1][i] = (char)(letters[1][i] - 'A' + 'a');
    letters[1][50] = 'R';
    letters[1][150] = 'y';
}

static int set_up(void **state)
{
    (void)state;
    letters_make();
    char fasta[128], map[128];
    rank_folder_name(world, "sequence_draws", folder);
    if (comm_rank(world) == 0 && mkdir(folder, 0777) != 0)
        return -1;
    snprintf(fasta, sizeof fasta, "%s/in.fa", folder);
    snprintf(map, sizeof map, "%s/map.tsv", folder);
    snprintf(path, sizeof path, "%s/set.h5", folder);
    if (comm_rank(world) == 0) {
        FILE *f = fopen(fasta, "w"), *m = fopen(map, "w");
        for (int k = 0; k < 4; k++)
            fprintf(f, ">s%d\n%s\n", k, letters[k]);
        fprintf(f, ">held\n%s\n", letters[0]);
        fprintf(m, "s0\tx\ttrain\ns1\ty\ttrain\ns2\ty\ttrain\ns3\tz\ttrain\nheld\tx\tvalid\n");
        fclose(f);
        fclose(m);
    }
    must(comm_barrier(world));
    const char *files[] = {fasta};
    const import_options o = {
        .output = path, .files = files, .n_files = 1, .map = map, .fraction = {1, 0, 0}, .seed = 1};
    sequences_report report;
    must(import_sequences(&o, world, &report));
    sequences_report_close(&report);
    must(sequences_open(path, world, &set));
    return set ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    sequences_close(&set);
    for (int k = 0; k < 4; k++)
        free(letters[k]);
    return rank_folder_remove(world, folder) ? 0 : -1;
}

static sequence_draws *draws_with(sequence_draws_how how)
{
    sequence_draws *x = NULL;
    how.seed = how.seed ? how.seed : 5;
    must(sequence_draws_open(set, &how, &x));
    return x;
}

static uint8_t token_of(char letter)
{
    const char *known = "ACGTN", *at = strchr(known, letter & ~32);
    return at ? (uint8_t)(7 + (at - known)) : TOKEN_UNKNOWN;
}

static void letters_come_back(void **state)
{
    (void)state;
    int64_t hint = 0;
    assert_int_equal(set->n, 5);
    for (int k = 0; k < 4; k++) {
        assert_int_equal(set->list[k].length, length_of[k]);
        for (int i = 0; i < length_of[k]; i++)
            assert_int_equal(sequences_letter(set, set->list[k].first + i, &hint), letters[k][i]);
    }
}

static void same_on_two_sides(void **state)
{
    (void)state;
    assert_int_equal(sequences_verify(set), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "s0"));
}

static bool start_allowed(int k, int start, int length)
{
    int known = 0;
    for (int i = start; i < start + length && i < length_of[k]; i++)
        known += token_of(letters[k][i]) >= 7 && token_of(letters[k][i]) <= 10;
    return 2 * known >= length;
}

/* Chi-square over all allowed starts together, in bins of ten. */
static void uniform_starts(void **state)
{
    (void)state;
    const int length = 128, tries = 40000;
    sequence_draws *x = draws_with((sequence_draws_how){0});
    static int allowed[4][LONG], seen[4][LONG];
    int n = 0;
    memset(seen, 0, sizeof seen);
    for (int k = 0; k < 4; k++)
        for (int s = 0; s == 0 || s + length <= length_of[k]; s++) {
            allowed[k][s] = start_allowed(k, s, length);
            n += allowed[k][s];
        }
    for (int i = 0; i < tries; i++) {
        const base_window w = sequence_draws_train(x, i / 8, i % 8, length);
        assert_in_range(w.sequence, 0, 3);
        assert_true(allowed[w.sequence][w.start]);
        assert_int_equal(w.count, w.sequence == 2 ? SHORT : length);
        assert_false(w.reverse);
        seen[w.sequence][w.start]++;
    }
    double chi2 = 0;
    int bins = 0, have = 0, starts = 0;
    for (int k = 0; k < 4; k++)
        for (int s = 0; s == 0 || s + length <= length_of[k]; s++) {
            have += seen[k][s];
            starts += allowed[k][s];
            if (starts < 10)
                continue;
            const double want = (double)tries * starts / n;
            chi2 += (have - want) * (have - want) / want;
            bins++;
            have = starts = 0;
        }
    assert_true(bins > 300);
    assert_true(fabs(chi2 - bins) < 5 * sqrt(2.0 * bins)); /* five standard errors */
    sequence_draws_close(&x);
}

static void by_label(void **state)
{
    (void)state;
    sequence_draws *x = draws_with((sequence_draws_how){.by_label = true});
    int seen[4] = {0};
    for (int i = 0; i < 9000; i++)
        seen[sequence_draws_train(x, 3, i, 64).sequence]++;
    assert_true(abs(seen[0] - 3000) < 250);
    assert_true(abs(seen[3] - 3000) < 250); /* a label, however little of it is known */
    assert_true(abs(seen[1] - 1500) < 200 && abs(seen[2] - 1500) < 200);
    for (int step = 0; step < 50;
         step++) { /* in turn within a step, each first in a third of them */
        int of[3] = {0};
        for (int slot = 0; slot < 7; slot++)
            of[set->list[sequence_draws_train(x, step, slot, 64).sequence].label]++;
        for (int l = 0; l < 3; l++)
            assert_true(of[l] == 2 || of[l] == 3);
    }
    sequence_draws_close(&x);
}

static void pure(void **state)
{
    (void)state;
    sequence_draws *x = draws_with((sequence_draws_how){.reverse = true});
    sequence_draws *y = draws_with((sequence_draws_how){.reverse = true, .seed = 6});
    int same = 0, turned = 0;
    for (int i = 99; i >= 0; i--) {
        const base_window a = sequence_draws_train(x, 12, i, 256);
        sequence_draws_train(x, i, 3, 64);
        const base_window b = sequence_draws_train(x, 12, i, 256);
        const base_window c = sequence_draws_train(y, 12, i, 256);
        const base_window v = sequence_draws_valid(x, i, 256);
        assert_memory_equal(&a, &b, sizeof a);
        same += a.sequence == c.sequence && a.start == c.start;
        turned += a.reverse;
        assert_int_equal(v.sequence, 4);
        assert_false(v.reverse);
    }
    assert_true(same < 10);
    assert_true(turned > 30 && turned < 70);
    sequence_draws_close(&x);
    sequence_draws_close(&y);
}

/* What a feed holds of a window, forward and turned around. */
static void filled(void **state)
{
    (void)state;
    nucleotides n = {set, draws_with((sequence_draws_how){0})};
    feed f;
    must(feed_open(3, 200, false, &f));
    base_window w = {.sequence = 1, .start = 20, .count = 200};
    must(feed_put_bases(&f, 0, &n, &w, false));
    w.reverse = true;
    must(feed_put_bases(&f, 1, &n, &w, false));
    const base_window little = {.sequence = 2, .start = 0, .count = SHORT};
    must(feed_put_bases(&f, 2, &n, &little, false));
    for (int t = 0; t < 200; t++) {
        const uint8_t forward = token_of(letters[1][20 + t]);
        assert_int_equal(f.ids[t], forward);
        assert_int_equal(f.ids[f.Lp + 199 - t],
                         forward >= 7 && forward <= 10 ? 17 - forward : forward);
        const uint8_t next = t < 199 ? token_of(letters[1][21 + t]) : TARGET_NONE;
        assert_int_equal(f.targets[t], next >= 7 && next <= 10 ? next : TARGET_NONE);
        assert_int_equal(f.ids[2 * f.Lp + t], t < SHORT ? token_of(letters[2][t]) : TOKEN_PAD);
        assert_true((f.targets[2 * f.Lp + t] == TARGET_NONE) == (t >= SHORT - 1));
    }
    assert_int_equal(f.predicted, 2 * (199 - 2) + SHORT - 1);
    assert_int_equal(f.label[2], 1);
    feed_close(&f);
    sequence_draws_close(&n.draws);

    n.draws = draws_with((sequence_draws_how){.hide_masked = true});
    must(feed_open(1, 200, false, &f));
    must(
        feed_put_bases(&f, 0, &n, &(base_window){.sequence = 1, .start = 20, .count = 200}, false));
    for (int t = 0; t < 200; t++)
        assert_true(letters[1][20 + t] < 'a' || letters[1][20 + t] == 'y' || f.ids[t] == TOKEN_N);
    feed_close(&f);
    sequence_draws_close(&n.draws);
}

static void tiles(void **state)
{
    (void)state;
    sequence_draws *x = draws_with((sequence_draws_how){0});
    base_window *list = NULL;
    int64_t n = 0, at = 0;
    must(sequence_draws_tile(x, SPLIT_TRAIN, 100, 100, &list, &n));
    for (int k = 0; k < 4; k++)
        for (int s = 0; s + 100 <= length_of[k]; s += 100)
            if (start_allowed(k, s, 100)) {
                assert_true(at < n && list[at].sequence == k && list[at].start == s);
                at++;
            }
    assert_int_equal(at, n);
    free(list);
    sequence_draws_close(&x);
}

static void refused(void **state)
{
    (void)state;
    sequence_draws *x = NULL;
    const sequence_draws_how how = {.seq_len = LONG + 1, .seed = 1};
    assert_int_equal(sequence_draws_open(set, &how, &x), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "5003"));
    assert_null(x);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_come_back),
        cmocka_unit_test(same_on_two_sides),
        cmocka_unit_test(uniform_starts),
        cmocka_unit_test(by_label),
        cmocka_unit_test(pure),
        cmocka_unit_test(filled),
        cmocka_unit_test(tiles),
        cmocka_unit_test(refused),
    };
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    const int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    comm_end(&world);
    return failed;
}
