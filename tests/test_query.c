/* ranks: 1
 * A query's genotypes on a panel's sites, entry by entry: swapped alleles, a site told in two
 * lines, a third base, calls that are missing in whole or in part, chromosomes in another order and
 * spelling, sites that are not told (missing for everybody, or reference), counts of all of it. */
#include "io/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static comm *world;

enum { A, C, G, T };
/* chr2 is the panel's first chromosome on purpose. */
static const site sites[] = {{100, A, 1 << G}, {200, C, 1 << T}, {300, A, 1 << C | 1 << G},
                             {400, G, 1 << A}, {500, T, 1 << C}, {100, A, 1 << T},
                             {250, C, 1 << G}, {900, G, 1 << T}};
static const chromosome chromosomes[] = {{"chr2", 1000, 0, 5}, {"chr7", 0, 5, 3}};
static const char *const labels[] = {"X", "Y"};
static const dataset panel = {.path = "panel",
                              .assembly = "invented",
                              .split_hash = "0123456789abcdef",
                              .n_chromosomes = 2,
                              .n_sites = 8,
                              .n_labels = 2,
                              .chromosomes = chromosomes,
                              .labels = labels,
                              .sites = sites};

#define HEAD                                                                                       \
    "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\ts3\n"
#define LINE(chrom, pos, ref, alt, calls)                                                          \
    chrom "\t" pos "\t.\t" ref "\t" alt "\t.\tPASS\t.\tGT\t" calls "\n"

static status ask(const char *text, bool to_ref, bool force, dataset **d, query_report *r)
{
    FILE *f = fopen("test_query.vcf", "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    const char *const files[] = {"test_query.vcf"};
    const query_options o = {
        .files = files, .n_files = 1, .missing_to_ref = to_ref, .force = force};
    const status st = query_open(&o, &panel, world, d, r);
    unlink("test_query.vcf");
    return st;
}

/* "site:base:mask ..." and "first+count ..." of a person, over all chromosomes. */
static void expect(const dataset *d, int person, const char *carried, const char *missing)
{
    char have[256] = "", none[256] = "";
    int64_t first = person * d->n_chromosomes, end = first + d->n_chromosomes;
    size_t n = 0;
    for (int64_t e = d->run[first]; e < d->run[end]; e++)
        n += (size_t)snprintf(have + n, sizeof have - n, "%s%d:%c:%d", n ? " " : "",
                              d->entries[e].site, "ACGT"[d->entries[e].allele],
                              d -> entries[e].mask);
    n = 0;
    for (int64_t m = d->missing_run_of[first]; m < d->missing_run_of[end]; m++)
        n += (size_t)snprintf(none + n, sizeof none - n, "%s%d+%d", n ? " " : "",
                              d->missing[m].first, d->missing[m].count);
    assert_string_equal(have, carried);
    assert_string_equal(none, missing);
    for (int64_t k = first; k < end; k++) { /* each run within its chromosome */
        const chromosome *c = &d->chromosomes[k - first];
        for (int64_t e = d->run[k]; e < d->run[k + 1]; e++)
            assert_in_range(d->entries[e].site, c->site0, c->site0 + c->sites - 1);
        for (int64_t m = d->missing_run_of[k]; m < d->missing_run_of[k + 1]; m++) {
            assert_true(d->missing[m].first >= c->site0);
            assert_true(d->missing[m].first + d->missing[m].count <= c->site0 + c->sites);
        }
    }
}

#define EVERYTHING                                                                                 \
    HEAD LINE("7", "100", "A", "T", "0/1\t./.\t1/1")    /* site 5 */                               \
        LINE("7", "250", "G", "C", "0|0\t0|1\t1|1")     /* site 6, swapped */                      \
        LINE("7", "260", "G", "C", "0|0\t0|1\t1|1")     /* unknown */                              \
        LINE("7", "900", "C", "A", "0|1\t0|1\t1|1")     /* site 7, the other strand */             \
        LINE("chrUn", "900", "C", "A", "0|1\t0|1\t1|1") /* no chromosome */                        \
        LINE("9", "900", "C", "A", "0|1\t0|1\t1|1")     /* not of the model */                     \
        LINE("2", "100", "A", "AT", "0|1\t0|1\t1|1")    /* no SNV */                               \
        LINE("2", "100", "A", "G", "0|1\t1|0\t1|1")     /* site 0 */                               \
        LINE("2", "200", "T", "C", "0|.\t.|1\t./0")     /* site 1, swapped */                      \
        LINE("2", "300", "A", "C", "0|1\t0|0\t0|.")     /* site 2 in two lines */                  \
        LINE("2", "300", "A", "G", "1|0\t0|1\t.|0")                                                \
            LINE("2", "400", "G", "C", "0|1\t0|0\t1|1") /* other alleles than site 3 */            \
        LINE("2", "500", "T", "A,C", "1|2\t0|1\t2")     /* site 4: A is no base of it */

static void test_everything(void **unused)
{
    dataset *d = NULL;
    query_report r;
    (void)unused;
    assert_int_equal(ask(EVERYTHING, false, true, &d, &r), STATUS_OK);
    assert_string_equal(d->chromosomes[0].name, "2");
    assert_string_equal(d->chromosomes[1].name, "7");
    assert_string_equal(d->assembly, "invented");
    assert_string_equal(d->split_hash, panel.split_hash);
    assert_int_equal(d->n_people, 3);
    assert_int_equal(d->n_sites, 8);
    assert_int_equal(d->people[1].label, -1);
    assert_string_equal(d->people[2].id, "s3");
    assert_string_equal(d->labels[1], "Y");
    assert_false(d->phased);
    /* 3 and 7 are not told; 1 has a half, 4 another base */
    expect(d, 0, "0:G:2 1:T:0 2:C:2 2:G:1 4:C:2 5:T:0 6:G:3", "1+1 3+2 7+1");
    expect(d, 1, "0:G:1 2:G:2 6:G:1", "1+1 3+2 5+1 7+1");
    expect(d, 2, "0:G:3 1:T:0 4:C:1 5:T:3", "1+3 7+1");
    assert_int_equal(r.records, 13);
    assert_int_equal(r.model_sites, 8);
    assert_int_equal(r.other_chromosome, 0);
    assert_int_equal(r.matched, 6);
    assert_int_equal(r.absent, 2);
    assert_int_equal(r.flipped, 2);
    assert_int_equal(r.unknown_site, 1);
    assert_int_equal(r.clash, 2);
    assert_int_equal(r.clash_strand, 1);
    assert_int_equal(r.not_snv, 1);
    assert_int_equal(r.other_contig, 2);
    assert_int_equal(r.other_alleles, 2);
    assert_int_equal(r.missing_calls, 7);
    assert_true(r.overlap == 0.75);
    dataset_close(&d);
}

/* chr7 has no record at all: there nothing is known, whatever a missing site means elsewhere. */
static void test_missing_to_ref(void **unused)
{
    static const char *const text = HEAD LINE("chr2", "100", "A", "G", "0|1\t./.\t0|0")
        LINE("chr2", "500", "T", "C", "0|0\t0|1\t0|0");
    dataset *d = NULL;
    query_report r;
    (void)unused;
    assert_int_equal(ask(text, true, false, &d, &r), STATUS_OK);
    expect(d, 0, "0:G:2", "5+3");
    expect(d, 1, "4:C:2", "0+1 5+3");
    expect(d, 2, "", "5+3");
    assert_int_equal(r.other_chromosome, 3);
    assert_int_equal(r.absent, 3);
    assert_true(r.overlap == 1.0);
    dataset_close(&d);
    assert_int_equal(ask(text, false, false, &d, &r), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "2 of the model's 5 sites (40.0 %)"));
    assert_null(d);
    assert_int_equal(ask(text, false, true, &d, &r), STATUS_OK);
    expect(d, 0, "0:G:2", "1+3 5+3");
    dataset_close(&d);
}

/* What is no query: one line each. */
static void test_refusals(void **unused)
{
    static const struct {
        const char *text, *says;
    } wrong[] = {
        {HEAD LINE("2", "1001", "A", "G", "0|1\t./.\t0|0"), ":3: position 1001 is behind the end"},
        {HEAD LINE("2", "150", "A", "G", "0|1\t./.\t0|0"), "none of its 1 records"},
        {HEAD LINE("2", "100", "A", "G", "0|1\t./.\t0|0") LINE(
             "2", "200", "T", "C", "0|1\t0|0\t0|0") LINE("2", "300", "A", "G", "0|1\t./.\t0|0"),
         "swapped at 1 of 3 sites"},
        {HEAD LINE("2", "100", "A", "G", "0|1\t./.\t0|0")
             LINE("2", "100", "A", "G", "0|1\t./.\t0|0"),
         ":4: 2:100 is told twice"},
        {HEAD LINE("2", "100", "A", "G", "0|1\t./.\t0|0") LINE(
             "2", "200", "C", "T", "0|1\t./.\t0|0") LINE("2", "100", "A", "G", "0|1\t./.\t0|0"),
         ":5: 2:100 is told twice"},
        {HEAD LINE("2", "300", "A", "C", "0|1\t./.\t0|0")
             LINE("2", "300", "C", "G", "0|1\t./.\t0|0"),
         ":4: 2:300 has the reference base (REF) C here and A in line 3"},
        {HEAD, "holds no record"},
        {"", "the file is empty"},
        {"##fileformat=VCFv4.2\n##contig=<ID=chr2,length=999>\n" HEAD LINE("2", "100", "A", "G",
                                                                           "0|1\t./.\t0|0"),
         "a second header"},
        {"##contig=<ID=2,length=999>\n#"
         "CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\n" LINE("2", "100", "A", "G",
                                                                          "0|1"),
         "2 has 999 bp (of no known assembly), but the model was trained on assembly invented"},
        {">FASTA\nACGT\n", "is FASTA"},
    };
    dataset *d = NULL;
    query_report r;
    (void)unused;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(ask(wrong[i].text, false, false, &d, &r), STATUS_DATA);
        assert_null(d);
        if (!strstr(failure_last()->text, wrong[i].says))
            fail_msg("%s: %s", wrong[i].says, failure_last()->text);
    }
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_everything),
                                       cmocka_unit_test(test_missing_to_ref),
                                       cmocka_unit_test(test_refusals)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_end(&world);
    return failed;
}
