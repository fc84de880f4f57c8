/* ranks: 1 2 3
 * Baselines that know linkage against direct evaluation of their formulas in double, on people made
 * of few founders: with uncalled sites, unions and single haplotypes, windows longer than a
 * stretch, fewer training people; the same bits for any number of ranks, threads and units;
 * refusals where phase is missing. */
#include "runtime/core/rng.h"
#include "runtime/train/baseline_unit.h"
#include "runtime/train/statistics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PEOPLE = 40, TRAIN = 24, SITES = 700, FIRST = 500, LABELS = 2, FOUNDERS = 6 };

static comm *world;

/* Chromosome "1": sites 0 .. 499, one block; "2": 500 .. 699, another. */
static struct {
    dataset d;
    individual people[PEOPLE];
    chromosome chromosomes[2];
    site sites[SITES];
    int32_t block[SITES];
    entry entries[PEOPLE * SITES * 2];
    int64_t run[PEOPLE * 2 + 1], missing_run_of[PEOPLE * 2 + 1];
    missing_run missing[PEOPLE * 4];
    bool hap[PEOPLE][2][SITES], uncalled[PEOPLE][SITES];
    char ids[PEOPLE][16];
} s;

static bool nobody_called(int k)
{
    return k == 241 || k == 242;
}

/* A haplotype copies a founder of its label, changes founder and errs now and then. */
static void make_haplotype(int person, int h)
{
    rng r = rng_at(3, RNG_TEST, (uint64_t)person, (uint32_t)h);
    int founder = 0;
    for (int k = 0; k < SITES; k++) {
        if (k == 0 || rng_uniform(&r) < 0.03)
            founder = (int)rng_below(&r, FOUNDERS) + person % LABELS * 3; /* half are shared */
        rng f = rng_at(4, RNG_TEST, (uint64_t)founder, (uint32_t)k);
        s.hap[person][h][k] = (rng_uniform(&f) < 0.25) != (rng_uniform(&r) < 0.01);
    }
}

static void make_person(int person, int64_t *n, int64_t *m)
{
    for (int h = 0; h < 2; h++)
        make_haplotype(person, h);
    for (int c = 0; c < 2; c++) {
        s.run[person * 2 + c] = *n;
        s.missing_run_of[person * 2 + c] = *m;
        for (int k = c ? FIRST : 0; k < (c ? SITES : FIRST); k++) {
            /* Stretches without a call, one of everybody judged; half a call within. */
            const bool hole = (person % 3 == 0 && k % 100 >= 40 && k % 100 < 47) ||
                              (person >= TRAIN && k >= 241 && k < 244);
            const bool half = hole && k % 100 == 43 && person % 2 == 0;
            s.uncalled[person][k] = hole;
            if (hole) {
                if (k > 0 && *m > s.missing_run_of[person * 2 + c] &&
                    s.missing[*m - 1].first + s.missing[*m - 1].count == k)
                    s.missing[*m - 1].count++;
                else
                    s.missing[(*m)++] = (missing_run){k, 1};
                s.hap[person][0][k] = half;
                s.hap[person][1][k] = false;
            }
            const bool a = s.hap[person][0][k], b = s.hap[person][1][k];
            if (a && b && k % 9 == 0) { /* two alternate alleles of one site */
                s.entries[(*n)++] = (entry){k, 2, 1};
                s.entries[(*n)++] = (entry){k, 3, 2};
            } else if (a || b) {
                s.entries[(*n)++] = (entry){k, 2, (uint8_t)(a + 2 * b)};
            }
        }
    }
}

static void make(void)
{
    static const char *const labels[] = {"AFR", "EUR"};
    int64_t n = 0, m = 0;
    s.chromosomes[0] = (chromosome){"1", 249250621, 0, FIRST};
    s.chromosomes[1] = (chromosome){"2", 243199373, FIRST, SITES - FIRST};
    for (int k = 0; k < SITES; k++) {
        s.sites[k] = (site){1000 + 100 * k, 0, 1 << 2 | 1 << 3};
        s.block[k] = k >= FIRST;
    }
    for (int i = 0; i < PEOPLE; i++) {
        snprintf(s.ids[i], sizeof s.ids[i], "P%02d", i);
        s.people[i] = (individual){.id = s.ids[i],
                                   .population = labels[i % LABELS],
                                   .superpopulation = labels[i % LABELS],
                                   .family = "",
                                   .split = i < TRAIN       ? SPLIT_TRAIN
                                            : i < TRAIN + 8 ? SPLIT_VALID
                                                            : SPLIT_TEST,
                                   .label = i % LABELS,
                                   .shard = i < TRAIN ? 0 : -1};
        make_person(i, &n, &m);
    }
    s.run[PEOPLE * 2] = n;
    s.missing_run_of[PEOPLE * 2] = m;
    s.d = (dataset){.assembly = "simulated",
                    .phased = true,
                    .n_people = PEOPLE,
                    .n_chromosomes = 2,
                    .n_sites = SITES,
                    .n_entries = n,
                    .n_labels = LABELS,
                    .n_shards = 1,
                    .people = s.people,
                    .chromosomes = s.chromosomes,
                    .labels = labels,
                    .sites = s.sites,
                    .entries = s.entries,
                    .run = s.run,
                    .missing = s.missing,
                    .missing_run_of = s.missing_run_of,
                    .block = s.block,
                    .n_blocks = 2};
    snprintf(s.d.path, sizeof s.d.path, "founders");
}

static draws *open_draws(alleles_kind alleles)
{
    const config_data c = {.alleles = alleles, .max_gap = 200000, .sharding = SHARDING_REPLICATED};
    draws *x = NULL;
    assert_int_equal(draws_open(&s.d, &c, 1, &x), STATUS_OK);
    return x;
}

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("got %.12g, wanted %.12g within %g", got, want, tolerance);
}

/* ---- direct evaluation: one stretch and class at a time ---- */

enum { HAPLOTYPES = TRAIN / LABELS * 2 };
static int haplotypes =
    HAPLOTYPES; /* of a label's training people, fewer where some are left out */

/* The i-th training person of a label. */
static int training_person(int label, int i)
{
    for (int p = label; p < PEOPLE; p += LABELS)
        if (s.people[p].split == SPLIT_TRAIN && i-- == 0)
            return p;
    fail_msg("label %d has no such training person", label);
    return 0;
}
/* haplotype of a training person of the label: i = 0 .. 2 people - 1 */
static const bool *training(int label, int i)
{
    return s.hap[training_person(label, i / 2)][i % 2];
}
static bool training_uncalled(int label, int i, int k)
{
    return s.uncalled[training_person(label, i / 2)][k] && !training(label, i)[k];
}

typedef struct {
    int person, hap, first, last; /* hap 0: union */
} span;

static bool carries(const span *w, int k)
{
    const bool a = s.hap[w->person][0][k], b = s.hap[w->person][1][k];
    return w->hap == 0 ? a || b : w->hap == 1 ? a : b;
}

/* What is carried is known, though half a genotype is all that was called. */
static bool judged_uncalled(const span *w, int k)
{
    return s.uncalled[w->person][k] && !carries(w, k);
}

static double direct_pair(const span *w, int label)
{
    double sum = 0;
    for (int i = 0; i < haplotypes; i++)
        for (int j = 0; j < haplotypes; j++) {
            double likelihood = 1;
            for (int k = w->first; k <= w->last; k++) {
                if (judged_uncalled(w, k))
                    continue;
                const bool here = carries(w, k);
                const bool a = training_uncalled(label, i, k) ? here : training(label, i)[k];
                const bool b = training_uncalled(label, j, k) ? here : training(label, j)[k];
                likelihood *= (a || b) == here ? 1 - PANEL_MISMATCH : PANEL_MISMATCH;
            }
            sum += likelihood;
        }
    return log(sum / haplotypes / haplotypes);
}

static double emission(const span *w, int label, int i, int k)
{
    if (judged_uncalled(w, k))
        return 1;
    return training_uncalled(label, i, k) || training(label, i)[k] == carries(w, k)
               ? 1 - PANEL_MISMATCH
               : PANEL_MISMATCH;
}

static double direct_haplotype(const span *w, int label)
{
    double sum = 0;
    for (int i = 0; i < haplotypes; i++) {
        double likelihood = 1;
        for (int k = w->first; k <= w->last; k++)
            likelihood *= emission(w, label, i, k);
        sum += likelihood;
    }
    return log(sum / haplotypes);
}

/* Every transition written out. */
static double direct_li_stephens(const span *w, int label)
{
    double state[HAPLOTYPES], next[HAPLOTYPES], sum = 0;
    for (int i = 0; i < haplotypes; i++)
        state[i] = emission(w, label, i, w->first) / haplotypes;
    for (int k = w->first + 1; k <= w->last; k++) {
        for (int to = 0; to < haplotypes; to++) {
            next[to] = 0;
            for (int from = 0; from < haplotypes; from++)
                next[to] += state[from] * ((from == to ? 1 - LI_STEPHENS_JUMP : 0) +
                                           LI_STEPHENS_JUMP / haplotypes);
            next[to] *= emission(w, label, to, k);
        }
        memcpy(state, next, sizeof state);
    }
    for (int i = 0; i < haplotypes; i++)
        sum += state[i];
    return log(sum);
}

/* Training sequences of a label in a block, as lists of carried sites. */
typedef struct {
    int n, length[NGRAM_MATINGS];
    int16_t at[NGRAM_MATINGS][SITES];
} lists;

static void make_lists(const panel *p, int label, int block, lists *out)
{
    const bool single = p->alleles == ALLELES_HAPLOTYPE;
    out->n = single ? haplotypes : p->phased ? NGRAM_MATINGS : haplotypes / 2;
    for (int i = 0; i < out->n; i++) {
        int a = single ? i : 2 * i, b = single ? i : 2 * i + 1;
        if (!single && p->phased) {
            rng r = rng_at(p->seed, RNG_BASELINE, (uint64_t)1 << 32 | (uint64_t)block,
                           (uint32_t)(label * NGRAM_MATINGS + i));
            a = (int)rng_below(&r, haplotypes);
            b = (int)rng_below(&r, haplotypes - 1);
            b += b >= a;
        }
        out->length[i] = 0;
        for (int k = block ? FIRST : 0; k < (block ? SITES : FIRST); k++)
            if ((training(label, a)[k] || training(label, b)[k]) && !nobody_called(k))
                out->at[i][out->length[i]++] = (int16_t)k;
    }
}

/* Share of the training sequences in which the last m sites before a place are followed by the
 * next, backed off. */
static double direct_next(const lists *l, const int *site_list, int t, double chain)
{
    double p = chain;
    for (int m = 1; m <= NGRAM_ORDER && m <= t; m++) {
        double context = 0, both = 0;
        for (int i = 0; i < l->n; i++)
            for (int j = m - 1; j < l->length[i]; j++) {
                bool same = true;
                for (int q = 0; q < m && same; q++)
                    same = l->at[i][j - q] == site_list[t - 1 - q];
                context += same;
                both += same && j + 1 < l->length[i] && l->at[i][j + 1] == site_list[t];
            }
        p = (both + NGRAM_BACK_OFF * p) / (context + NGRAM_BACK_OFF);
    }
    return p;
}

static double carrier_share(const panel *p, int label, int k)
{
    double carriers = 0, called = 0;
    const bool single = p->alleles == ALLELES_HAPLOTYPE;
    for (int i = 0; i < haplotypes; i += single ? 1 : 2) {
        called += !s.uncalled[training_person(label, i / 2)][k];
        carriers += training(label, i)[k] || (!single && training(label, i + 1)[k]);
    }
    return (carriers + 0.5) / (called + 1);
}

static double direct_ngram(const panel *p, const span *w, int label)
{
    static lists l;
    int list[SITES] = {0}, n = 0;
    make_lists(p, label, w->first >= FIRST, &l);
    for (int k = w->first; k <= w->last; k++)
        if (carries(w, k))
            list[n++] = k;
    double sum = log(carrier_share(p, label, list[0]));
    for (int t = 1; t < n; t++) {
        double chain = carrier_share(p, label, list[t]);
        for (int k = list[t - 1] + 1; k < list[t]; k++)
            if (!judged_uncalled(w, k))
                chain *= 1 - carrier_share(p, label, k);
        sum += log(direct_next(&l, list, t, chain));
    }
    return sum;
}

/* The stretches of a window, both haplotypes where the method reads them. */
static double direct(const panel *p, baseline_kind kind, const window_set *w, int64_t i, int label)
{
    double sum = 0;
    for (int64_t from = 0; from < w->at[i].count; from += STRETCH_ENTRIES) {
        const int64_t left = w->at[i].count - from;
        const int64_t last =
            w->at[i].first + from + (left < STRETCH_ENTRIES ? left : STRETCH_ENTRIES);
        span at = {w->at[i].person, w->at[i].hap,
                   s.entries[draws_entry(w->x, w->at[i].first + from)].site,
                   s.entries[draws_entry(w->x, last - 1)].site};
        if (kind == BASELINE_NGRAM)
            sum += direct_ngram(p, &at, label);
        if (kind == BASELINE_PAIR)
            sum += direct_pair(&at, label);
        if (!baseline_phased(kind))
            continue;
        for (int h = 1; h <= 2; h++) {
            if (w->at[i].hap && w->at[i].hap != h)
                continue;
            at.hap = h;
            sum += kind == BASELINE_HAPLOTYPE ? direct_haplotype(&at, label)
                                              : direct_li_stephens(&at, label);
        }
    }
    return sum;
}

static void compare(panel *p, const draws *x, baseline_kind kind, int64_t context, int every)
{
    window_set w;
    assert_int_equal(window_set_tile(&s.d, x, SPLIT_TEST, context, context, &w), STATUS_OK);
    assert_true(w.n >= every);
    double *got = malloc((size_t)w.n * LABELS * sizeof *got);
    assert_int_equal(panel_scores(p, world, kind, &w, got), STATUS_OK);
    for (int64_t i = 0; i < w.n; i += every)
        for (int label = 0; label < LABELS; label++)
            near(got[i * LABELS + label], direct(p, kind, &w, i, label),
                 kind == BASELINE_LI_STEPHENS ? 2e-3 : 1e-5);
    free(got);
    window_set_free(&w);
}

static void scores_are_the_direct_ones(void **state)
{
    (void)state;
    draws *x = open_draws(ALLELES_UNION);
    panel *p = NULL;
    assert_int_equal(panel_open(&s.d, ALLELES_UNION, 7, 1, &p), STATUS_OK);
    compare(p, x, BASELINE_NGRAM, 24, 13);
    compare(p, x, BASELINE_PAIR, 24, 3);
    compare(p, x, BASELINE_PAIR, 150, 2); /* 128 and 22 */
    compare(p, x, BASELINE_HAPLOTYPE, 24, 1);
    compare(p, x, BASELINE_HAPLOTYPE, 150, 1);
    compare(p, x, BASELINE_LI_STEPHENS, 24, 1);
    compare(p, x, BASELINE_LI_STEPHENS, 150, 1);
    panel_close(&p);
    draws_close(&x);
}

static void single_haplotypes_are_judged_alone(void **state)
{
    (void)state;
    draws *x = open_draws(ALLELES_HAPLOTYPE);
    panel *p = NULL;
    assert_int_equal(panel_open(&s.d, ALLELES_HAPLOTYPE, 7, 1, &p), STATUS_OK);
    compare(p, x, BASELINE_NGRAM, 16, 7);
    compare(p, x, BASELINE_HAPLOTYPE, 16, 1);
    compare(p, x, BASELINE_LI_STEPHENS, 16, 1);
    assert_int_equal(panel_check(p, BASELINE_PAIR, SPLIT_TEST), STATUS_DATA);
    panel_close(&p);
    draws_close(&x);
}

/* One person's one heterozygote without phase. */
static void lose_phase(int person)
{
    for (int64_t k = s.run[person * 2]; k < s.run[person * 2 + 2]; k++)
        if (s.entries[k].mask == 1 && s.entries[k].site % 9) {
            s.entries[k].mask = 0;
            return;
        }
}

static void find_phase(int person)
{
    for (int64_t k = s.run[person * 2]; k < s.run[person * 2 + 2]; k++)
        if (s.entries[k].mask == 0)
            s.entries[k].mask = 1;
}

static void people_without_phase(void **state)
{
    (void)state;
    draws *x = open_draws(ALLELES_UNION);
    panel *p = NULL;
    lose_phase(TRAIN + 8); /* of the test split */
    assert_int_equal(panel_open(&s.d, ALLELES_UNION, 7, 1, &p), STATUS_OK);
    assert_int_equal(panel_check(p, BASELINE_PAIR, SPLIT_TEST), STATUS_OK);
    assert_int_equal(panel_check(p, BASELINE_LI_STEPHENS, SPLIT_TEST), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, s.ids[TRAIN + 8]));
    assert_int_equal(panel_check(p, BASELINE_LI_STEPHENS, SPLIT_VALID), STATUS_OK);
    compare(p, x, BASELINE_PAIR, 24, 3);
    panel_close(&p);
    find_phase(TRAIN + 8);

    lose_phase(1); /* a training person: the n-gram counts people as they are */
    assert_int_equal(panel_open(&s.d, ALLELES_UNION, 7, 1, &p), STATUS_OK);
    assert_int_equal(panel_check(p, BASELINE_NGRAM, SPLIT_TEST), STATUS_OK);
    assert_int_equal(panel_check(p, BASELINE_PAIR, SPLIT_TEST), STATUS_DATA);
    assert_int_equal(panel_check(p, BASELINE_HAPLOTYPE, SPLIT_TEST), STATUS_DATA);
    compare(p, x, BASELINE_NGRAM, 24, 5);
    panel_close(&p);
    find_phase(1);
    draws_close(&x);
}

/* data.train_people: whom the model does not train on, no method may match. */
static void fewer_people(void **state)
{
    (void)state;
    draws *x = open_draws(ALLELES_UNION);
    panel *p = NULL;
    assert_int_equal(dataset_take(&s.d, TRAIN / 2, 5), STATUS_OK);
    haplotypes = HAPLOTYPES / 2;
    int left = 0;
    for (int i = 0; i < TRAIN; i++)
        left += s.people[i].split == SPLIT_NONE;
    assert_int_equal(left, TRAIN / 2);
    assert_int_equal(panel_open(&s.d, ALLELES_UNION, 7, 1, &p), STATUS_OK);
    compare(p, x, BASELINE_NGRAM, 24, 13);
    compare(p, x, BASELINE_PAIR, 24, 1);
    compare(p, x, BASELINE_HAPLOTYPE, 24, 1);
    compare(p, x, BASELINE_LI_STEPHENS, 24, 1);
    panel_close(&p);
    haplotypes = HAPLOTYPES;
    for (int i = 0; i < TRAIN; i++)
        s.people[i].split = SPLIT_TRAIN;
    draws_close(&x);
}

/* Threads, units, ranks, and what was judged before make no difference. */
static void one_answer(void **state)
{
    (void)state;
    static const baseline_kind kinds[] = {BASELINE_NGRAM, BASELINE_PAIR, BASELINE_HAPLOTYPE,
                                          BASELINE_LI_STEPHENS};
    draws *x = open_draws(ALLELES_UNION);
    comm *alone = NULL;
    window_set valid, test;
    assert_int_equal(comm_split(world, comm_rank(world), 0, &alone), STATUS_OK);
    assert_int_equal(window_set_tile(&s.d, x, SPLIT_VALID, 24, 24, &valid), STATUS_OK);
    assert_int_equal(window_set_tile(&s.d, x, SPLIT_TEST, 24, 24, &test), STATUS_OK);
    const size_t cells = (size_t)test.n * LABELS;
    double *first = calloc(cells, sizeof *first), *again = calloc(cells, sizeof *again), t[2];
    for (int k = 0; k < 4; k++) {
        panel *p = NULL, *q = NULL;
        assert_int_equal(panel_open(&s.d, ALLELES_UNION, 7, 1, &p), STATUS_OK);
        assert_int_equal(panel_open(&s.d, ALLELES_UNION, 7, 3, &q), STATUS_OK);
        q->unit_sites = 60;
        assert_int_equal(baseline_panel(p, world, kinds[k], &valid, &test, first, &t[0]),
                         STATUS_OK);
        assert_int_equal(panel_scores(q, alone, kinds[k], &test, again), STATUS_OK);
        assert_int_equal(baseline_panel(q, alone, kinds[k], &valid, &test, again, &t[1]),
                         STATUS_OK);
        assert_memory_equal(first, again, cells * sizeof *first);
        near(t[0], t[1], 0);

        /* Normalised, the temperature a minimum, and better than chance on founders half shared. */
        int64_t hits = 0;
        for (int64_t i = 0; i < test.n; i++) {
            near(log_sum_exp(first + i * LABELS, LABELS), 0, 1e-9);
            hits += best_class(first + i * LABELS, LABELS) == test.label[i];
        }
        if ((double)hits < 0.75 * (double)test.n)
            fail_msg("%s: %d of %d windows", baseline_name(kinds[k]), (int)hits, (int)test.n);
        const size_t known = (size_t)valid.n * LABELS;
        double *raw = malloc(2 * known * sizeof *raw), loss[3];
        assert_int_equal(panel_scores(p, world, kinds[k], &valid, raw), STATUS_OK);
        for (int j = 0; j < 3; j++) {
            for (size_t i = 0; i < known; i++)
                raw[known + i] = raw[i] / (t[0] * (1 + 0.1 * (j - 1)));
            log_softmax(raw + known, valid.n, LABELS);
            loss[j] = log_loss_of(raw + known, valid.label, valid.n, LABELS);
        }
        assert_true(loss[1] <= loss[0] && loss[1] <= loss[2]);
        free(raw);
        panel_close(&p);
        panel_close(&q);
    }
    free(first);
    free(again);
    window_set_free(&valid);
    window_set_free(&test);
    comm_free(&alone);
    draws_close(&x);
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    make();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_the_direct_ones),
        cmocka_unit_test(single_haplotypes_are_judged_alone),
        cmocka_unit_test(people_without_phase),
        cmocka_unit_test(fewer_people),
        cmocka_unit_test(one_answer),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_end(&world);
    return failed;
}
