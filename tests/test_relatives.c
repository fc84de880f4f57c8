/* ranks: 1 2
 * Kinship: the bit planes against a direct sum with missing calls, families of known kinship,
 * strangers whose few independent stretches of the genome must not make them kin, and the verdict
 * over splits on any number of ranks. */
#include "io/dataset_verify.h"
#include "tests/dataset_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static comm *world;

typedef struct {
    int64_t people, sites;
    int8_t *hap; /* (people, 2, sites): allele */
} panel;

static int8_t *haplotype(const panel *p, int64_t person, int h)
{
    return p->hap + (person * 2 + h) * p->sites;
}

/* Strangers of one population; `linked` neighbouring sites always go together. */
static panel strangers(int64_t people, int64_t sites, int64_t linked, uint64_t seed)
{
    panel p = {people, sites, malloc((size_t)(people * 2 * sites))};
    rng r = rng_at(seed, RNG_TEST, 4, 4);
    double *frequency = malloc((size_t)sites * sizeof *frequency);
    for (int64_t s = 0; s < sites; s++)
        frequency[s] = s % linked ? frequency[s - 1] : 0.1 + 0.8 * rng_uniform(&r);
    for (int64_t i = 0; i < people * 2; i++)
        for (int64_t s = 0; s < sites; s++) {
            int8_t *a = &p.hap[i * sites + s];
            *a = s % linked ? a[-1] : rng_uniform(&r) < frequency[s];
        }
    free(frequency);
    return p;
}

/* `child` becomes a child of two others: one recombined haplotype of each, switching every fifty
 * sites. */
static void make_child(panel *p, int64_t child, int64_t mother, int64_t father, uint64_t seed)
{
    rng r = rng_at(seed, RNG_TEST, (uint64_t)child, 5);
    for (int h = 0; h < 2; h++) {
        int from = 0;
        for (int64_t s = 0; s < p->sites; s++) {
            from = s % 50 ? from : (int)rng_below(&r, 2);
            haplotype(p, child, h)[s] = haplotype(p, h ? father : mother, from)[s];
        }
    }
}

static int dose(const panel *p, int64_t person, int64_t s)
{
    return haplotype(p, person, 0)[s] + haplotype(p, person, 1)[s];
}

/* miss: in a thousand calls */
static genotype_bits planes_of(const panel *p, int miss, uint64_t seed)
{
    genotype_bits g;
    rng r = rng_at(seed, RNG_TEST, 6, 6);
    assert_int_equal(genotype_bits_open(&g, p->people, p->sites), STATUS_OK);
    for (int64_t i = 0; i < p->people; i++)
        for (int64_t s = 0; s < p->sites; s++) {
            int n = dose(p, i, s);
            if (n)
                genotype_bit_set(&g, n == 1 ? g.het : g.hom, i, s);
            if ((int)rng_below(&r, 1000) < miss)
                genotype_bit_set(&g, g.missing, i, s);
        }
    return g;
}

static bool is_missing(const genotype_bits *g, int64_t i, int64_t s)
{
    return g->missing[i * g->words + s / 64] >> (s % 64) & 1;
}

static void planes_equal_sums(void **state)
{
    (void)state;
    panel p = strangers(6, 1000, 1, 1);
    genotype_bits g = planes_of(&p, 100, 2);
    for (int64_t i = 0; i < 6; i++)
        for (int64_t j = 0; j < 6; j++) {
            int64_t hi = 0, hj = 0, square = 0, hets;
            for (int64_t s = 0; s < p.sites; s++) {
                if (is_missing(&g, i, s) || is_missing(&g, j, s))
                    continue;
                int a = dose(&p, i, s), b = dose(&p, j, s);
                hi += a == 1;
                hj += b == 1;
                square += (a - b) * (a - b);
            }
            double want = 0.5 - 0.25 * (double)square / (double)(hi < hj ? hi : hj);
            double have = relatives_kinship(&g, i, j, &hets);
            assert_true(fabs(have - want) < 1e-12);
            assert_int_equal(hets, hi < hj ? hi : hj);
            assert_true(i != j || have == 0.5);
        }
    genotype_bits_close(&g);
    free(p.hap);
}

static void families(void **state)
{
    (void)state;
    panel p = strangers(40, 12800, 1, 3);
    make_child(&p, 10, 0, 1, 7); /* brothers 10 and 11, their half sister 12, a twin 13 of 5 */
    make_child(&p, 11, 0, 1, 8);
    make_child(&p, 12, 0, 2, 9);
    memcpy(haplotype(&p, 13, 0), haplotype(&p, 5, 0), (size_t)(2 * p.sites));
    genotype_bits g = planes_of(&p, 20, 4);
    assert_true(fabs(relatives_kinship(&g, 0, 10, NULL) - 0.25) < 0.03);
    assert_true(fabs(relatives_kinship(&g, 10, 11, NULL) - 0.25) < 0.05);
    assert_true(fabs(relatives_kinship(&g, 10, 12, NULL) - 0.125) < 0.04);
    assert_true(fabs(relatives_kinship(&g, 20, 30, NULL)) < 0.03);
    related_pair *pairs;
    int64_t n;
    static const int32_t want[][2] = {{0, 10}, {0, 11}, {0, 12},  {1, 10},  {1, 11},
                                      {2, 12}, {5, 13}, {10, 11}, {10, 12}, {11, 12}};
    assert_int_equal(relatives_find(&g, 0, 1, &pairs, &n), STATUS_OK);
    assert_int_equal(n, sizeof want / sizeof *want);
    for (int64_t i = 0; i < n; i++)
        assert_true(pairs[i].a == want[i][0] && pairs[i].b == want[i][1]);
    free(pairs);
    genotype_bits_close(&g);
    free(p.hap);
}

/* 12,800 sites but only 64 independent ones: kinship scatters by 0.07 and means nothing. Twins are
 * still seen. */
static void linkage_makes_no_kin(void **state)
{
    (void)state;
    panel p = strangers(60, 12800, 200, 5);
    memcpy(haplotype(&p, 13, 0), haplotype(&p, 5, 0), (size_t)(2 * p.sites));
    genotype_bits g = planes_of(&p, 0, 4);
    related_pair *pairs;
    int64_t n, above = 0;
    for (int64_t i = 0; i < 60; i++)
        for (int64_t j = i + 1; j < 60; j++)
            above += relatives_kinship(&g, i, j, NULL) > RELATIVES_KINSHIP;
    assert_true(above > 20); /* a bare threshold would name them */
    assert_int_equal(relatives_find(&g, 0, 1, &pairs, &n), STATUS_OK);
    assert_int_equal(n, 1);
    assert_true(pairs[0].a == 5 && pairs[0].b == 13);
    free(pairs);
    genotype_bits_close(&g);
    free(p.hap);
}

/* A dozen sites prove nothing, not even where two people are equal at all of them. */
static void few_sites_prove_nothing(void **state)
{
    (void)state;
    panel p = strangers(6, 12, 1, 6);
    memcpy(haplotype(&p, 1, 0), haplotype(&p, 0, 0), (size_t)(2 * p.sites));
    genotype_bits g = planes_of(&p, 0, 1);
    related_pair *pairs;
    int64_t n;
    assert_int_equal(relatives_find(&g, 0, 1, &pairs, &n), STATUS_OK);
    assert_int_equal(n, 0);
    genotype_bits_close(&g);
    free(p.hap);
}

static void chromosomes_that_count(void **state)
{
    (void)state;
    static const char *const yes[] = {"1", "chr22", "CHR7", "NC_000001.10", "scaffold_9"};
    static const char *const no[] = {"X", "chrY", "chrM", "MT", "chrMT", "NC_000023.11"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        assert_true(relatives_autosome(yes[i]));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_false(relatives_autosome(no[i]));
}

/* The verdict on a set: person 3's entries are given to person 1 as well. */
static void straddling_pair_is_named(void **state)
{
    (void)state;
    fixture f;
    dataset *d = NULL;
    related_pair *pairs = NULL;
    int64_t n = 0;
    fixture_make(&f, &(fixture_shape){8, 2, 2000, 450, 0, 0, 0, 0}, 21);
    const dataset_part *w = &f.whole;
    entry *all = calloc((size_t)w->run[16] * 2, sizeof *all);
    int64_t *run = calloc(17, sizeof *run);
    for (int64_t r = 0; r < 16; r++) {
        int64_t from = r / 2 == 1 ? 6 + r % 2 : r, count = w->run[from + 1] - w->run[from];
        memcpy(all + run[r], w->entries + w->run[from], (size_t)count * sizeof *all);
        run[r + 1] = run[r] + count;
    }
    free(f.entries);
    free(f.run);
    f.whole.entries = f.entries = all;
    f.whole.run = f.run = run;
    dataset_part p = fixture_part(&f, comm_rank(world), comm_size(world));
    assert_int_equal(dataset_write("relatives.h5", world, &p, NULL), STATUS_OK);
    assert_int_equal(dataset_open("relatives.h5", world, &d), STATUS_OK);
    assert_int_equal(dataset_verify_chunks("relatives.h5"), STATUS_OK);
    assert_int_equal(dataset_verify_people(d), STATUS_OK);
    assert_int_equal(dataset_relatives(d, world, &pairs, &n), STATUS_OK);
    assert_int_equal(n, 1);
    if (comm_rank(world) == 0) {
        assert_true(pairs[0].a == 1 && pairs[0].b == 3);
        assert_int_equal(dataset_verify_relatives(d, pairs, n), STATUS_DATA);
        const char *text = failure_last()->text;
        assert_non_null(strstr(text, "person1 (train) and person3 (valid)"));
        pairs[0].b = 0; /* both training: one side */
        assert_int_equal(dataset_verify_relatives(d, pairs, n), STATUS_OK);
    }
    free(pairs);
    dataset_close(&d);
    fixture_free(&f);
    assert_int_equal(comm_barrier(world), STATUS_OK);
    if (comm_rank(world) == 0)
        remove("relatives.h5");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planes_equal_sums),      cmocka_unit_test(families),
        cmocka_unit_test(linkage_makes_no_kin),   cmocka_unit_test(few_sites_prove_nothing),
        cmocka_unit_test(chromosomes_that_count), cmocka_unit_test(straddling_pair_is_named),
    };
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed && comm_size(world) > 1)
        comm_abort(world, 1);
    comm_end(&world);
    return failed;
}
