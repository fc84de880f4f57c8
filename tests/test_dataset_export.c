/* ranks: 1
 * Export gives the genotypes back: a VCF read by a plain parser of its own yields the very entries,
 * haplotypes and missing calls of the set, as text and as bgzip. */
#include "io/dataset_export.h"
#include "tests/dataset_fixture.h"

#include <zlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

static comm *world;
static dataset *d;
static fixture f;

static int letter(char c)
{
    const char *at = strchr("ACGT", c);
    assert_true(at && c);
    return (int)(at - "ACGT");
}

/* Cursors into what must come, by person. */
static int64_t next_entry[64], next_missing[64];

/* The call of a person at a site against the set. */
static void call_holds(const char *gt, int64_t p, int64_t c, int64_t s, const int *allele)
{
    int64_t run = p * d->n_chromosomes + c, n = 0;
    const entry *e = &d->entries[next_entry[p]];
    while (next_entry[p] + n < d->run[run + 1] && e[n].site == s)
        n++;
    while (next_missing[p] < d->missing_run_of[run + 1] &&
           d->missing[next_missing[p]].first + d->missing[next_missing[p]].count <= s)
        next_missing[p]++;
    bool missing =
        next_missing[p] < d->missing_run_of[run + 1] && d->missing[next_missing[p]].first <= s;
    assert_int_equal(strlen(gt), 3);
    assert_true(gt[1] == '|' || gt[1] == '/');
    uint8_t mask[4] = {0};
    bool carried[4] = {false};
    for (int h = 0; h < 2; h++) {
        char a = gt[2 * h];
        assert_true(a == '.' ? missing : a == '0' ? !missing : allele[a - '0'] >= 0);
        if (a == '.' || a == '0')
            continue;
        carried[allele[a - '0']] = true;
        if (gt[1] == '|')
            mask[allele[a - '0']] |= (uint8_t)(1 << h);
    }
    int64_t seen = 0;
    for (uint8_t b = 0; b < 4; b++)
        if (carried[b]) {
            assert_true(seen < n);
            assert_int_equal(e[seen].allele, b);
            assert_int_equal(e[seen].mask, mask[b]);
            seen++;
        }
    assert_int_equal(seen, n);
    next_entry[p] += n;
}

/* One line: chromosome, position, reference, alternates, then a call a person. */
static void line_holds(char *line, int64_t c, int64_t s)
{
    int allele[5] = {-1, -1, -1, -1, -1}, alts = 0, n = 1;
    char *rest = NULL, *field[9];
    for (int i = 0; i < 9; i++)
        field[i] = strtok_r(i ? NULL : line, "\t", &rest);
    assert_string_equal(field[0], d->chromosomes[c].name);
    assert_int_equal(atoll(field[1]), d->sites[s].position);
    assert_int_equal(letter(field[3][0]), d->sites[s].ref);
    assert_string_equal(field[8], "GT");
    for (char *a = field[4]; *a; a++)
        if (*a != ',') {
            allele[n++] = letter(*a);
            alts |= 1 << letter(*a);
        }
    assert_int_equal(alts, d->sites[s].alts);
    for (int64_t p = 0; p < d->n_people; p++)
        call_holds(strtok_r(NULL, "\t\n", &rest), p, c, s, allele);
    assert_null(strtok_r(NULL, "\t\n", &rest));
}

static void file_holds(const char *path)
{
    static char line[1 << 16];
    gzFile in = gzopen(path, "rb"); /* reads text as it is */
    assert_non_null(in);
    int contigs = 0;
    bool names = false;
    while (!names && gzgets(in, line, sizeof line)) {
        contigs += strncmp(line, "##contig=<ID=chr", 16) == 0;
        names = strncmp(line, "#CHROM", 6) == 0;
    }
    assert_int_equal(contigs, d->n_chromosomes);
    assert_non_null(strstr(line, "\tFORMAT\tperson0\tperson1\t"));
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        for (int64_t p = 0; p < d->n_people; p++) {
            next_entry[p] = d->run[p * d->n_chromosomes + c];
            next_missing[p] = d->missing_run_of[p * d->n_chromosomes + c];
        }
        for (int64_t s = d->chromosomes[c].site0;
             s < d->chromosomes[c].site0 + d->chromosomes[c].sites; s++) {
            assert_non_null(gzgets(in, line, sizeof line));
            line_holds(line, c, s);
        }
        for (int64_t p = 0; p < d->n_people; p++)
            assert_int_equal(next_entry[p], d->run[p * d->n_chromosomes + c + 1]);
    }
    assert_null(gzgets(in, line, sizeof line));
    gzclose(in);
}

static void as_text(void **state)
{
    (void)state;
    assert_int_equal(dataset_export(d, "export.vcf", 1), STATUS_OK);
    FILE *in = fopen("export.vcf", "rb");
    assert_non_null(in);
    assert_int_equal(fgetc(in), '#');
    fclose(in);
    file_holds("export.vcf");
    unlink("export.vcf");
}

static void as_bgzip(void **state)
{
    (void)state;
    static const uint8_t end_block[] = {0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, 'B', 'C'};
    uint8_t tail[28];
    assert_int_equal(dataset_export(d, "export.vcf.gz", 2), STATUS_OK);
    file_holds("export.vcf.gz");
    FILE *in = fopen("export.vcf.gz", "rb");
    assert_true(in && fseek(in, -28, SEEK_END) == 0 && fread(tail, 1, 28, in) == 28);
    fclose(in);
    assert_memory_equal(tail, end_block, sizeof end_block); /* bgzip's own end */
    unlink("export.vcf.gz");
}

static void nothing_left_where_it_fails(void **state)
{
    (void)state;
    assert_int_equal(dataset_export(d, "no/such/export.vcf", 1), STATUS_RESOURCE);
    assert_non_null(strstr(failure_last()->text, "No such file"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_text),
        cmocka_unit_test(as_bgzip),
        cmocka_unit_test(nothing_left_where_it_fails),
    };
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    fixture_make(&f, &(fixture_shape){20, 3, 500, 350, 100, 500, 30, 100}, 31);
    int failed = 1;
    dataset_part p = fixture_part(&f, 0, 1);
    if (dataset_write("export.h5", world, &p, NULL) == STATUS_OK &&
        dataset_open("export.h5", world, &d) == STATUS_OK)
        failed = cmocka_run_group_tests(tests, NULL, NULL);
    else
        fprintf(stderr, "%s\n", failure_last()->text);
    dataset_close(&d);
    fixture_free(&f);
    unlink("export.h5");
    comm_end(&world);
    return failed;
}
