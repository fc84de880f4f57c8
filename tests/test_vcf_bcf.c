/* ranks: 1
 * A BCF tells what the VCF tells from which it was made: htslib converts a text with calls of mixed
 * ploidy, missing halves, dropped fields and many alleles; both readers must give the same calls.
 */
#include "io/vcf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <htslib/hts.h>
#include <htslib/vcf.h>

#include <cmocka.h>

static const char text[] =
    "##fileformat=VCFv4.2\n"
    "##contig=<ID=chr21,length=46709983>\n"
    "##contig=<ID=chr22,length=50818468>\n"
    "##FORMAT=<ID=GT,Number=1,Type=String,Description=\"g\">\n"
    "##FORMAT=<ID=DP,Number=1,Type=Integer,Description=\"d\">\n"
    "##FORMAT=<ID=PS,Number=1,Type=Integer,Description=\"p\">\n"
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\ts3\tZo\xc3\xab\n"
    "chr22\t100\t.\tA\tG\t.\t.\t.\tGT\t0|1\t1\t.\t1|1\n"
    "chr22\t100\t.\tA\tC,<DEL>\t.\t.\t.\tGT:DP\t./1:3\t.|1\t0/2/1:4\t2|.:1\n"
    "chr22\t200\t.\tC\tT\t.\t.\t.\tDP\t1\t2\t3\t4\n"
    "chr22\t300\t.\tC\t.\t.\t.\t.\tGT\t0|0\t./.\t0\t.\n"
    "chr21\t1\t.\tg\tt,*,N,GA,a\t.\t.\t.\tGT:PS\t0|1:7\t5|1:9\t0/5:.\t4|2:8\n"
    "chr21\t46709983\t.\tAT\tA\t.\t.\t.\tGT\t0|1\t1|1\t0|0\t.|.\n";

/* A record with more alternate alleles than one byte can number. */
static void long_record(FILE *f)
{
    fputs("chr21\t46709983\t.\tA\tT", f);
    for (int i = 2; i < 152; i++) {
        fputs(",A", f);
        for (int k = 0; k < i; k++)
            fputc('C', f);
    }
    fputs("\t.\t.\t.\tGT\t0|1\t150|1\t1|151\t0/1\n", f);
}

static void write_text(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    long_record(f);
    fclose(f);
}

static void convert(const char *from, const char *to, const char *mode)
{
    htsFile *in = hts_open(from, "r"), *out = hts_open(to, mode);
    assert_non_null(in);
    assert_non_null(out);
    bcf_hdr_t *h = bcf_hdr_read(in);
    assert_non_null(h);
    assert_int_equal(bcf_hdr_write(out, h), 0);
    bcf1_t *r = bcf_init();
    while (bcf_read(in, h, r) == 0)
        assert_int_equal(bcf_write(out, h, r), 0);
    bcf_destroy(r);
    bcf_hdr_destroy(h);
    assert_int_equal(hts_close(in), 0);
    assert_int_equal(hts_close(out), 0);
}

static void same_records(const char *a_path, const char *b_path)
{
    vcf_file *a, *b;
    assert_int_equal(vcf_file_open(a_path, &a), STATUS_OK);
    assert_int_equal(vcf_file_open(b_path, &b), STATUS_OK);
    const vcf_header *h = vcf_header_of(a);
    assert_int_equal(h->n_samples, vcf_header_of(b)->n_samples);
    assert_int_equal(h->n_contigs, vcf_header_of(b)->n_contigs);
    for (int64_t i = 0; i < h->n_samples; i++)
        assert_string_equal(h->samples[i], vcf_header_of(b)->samples[i]);
    bool any;
    assert_int_equal(vcf_any(b, &any), STATUS_OK);
    assert_true(any);
    int64_t n = 0;
    for (;; n++) {
        const vcf_record *x, *y;
        assert_int_equal(vcf_next(a, &x), STATUS_OK);
        assert_int_equal(vcf_next(b, &y), STATUS_OK);
        assert_int_equal(x == NULL, y == NULL);
        if (!x)
            break;
        assert_string_equal(x->chrom, y->chrom);
        assert_int_equal(x->position, y->position);
        assert_int_equal(x->ref, y->ref);
        assert_int_equal(x->alts, y->alts);
        assert_int_equal(x->n_alts, y->n_alts);
        assert_memory_equal(&x->kinds, &y->kinds, sizeof x->kinds);
        assert_int_equal(x->has_gt, y->has_gt);
        assert_int_equal(y->line, n + 1);
        if (!x->has_gt)
            continue;
        assert_int_equal(x->missing, y->missing);
        assert_int_equal(x->half, y->half);
        assert_memory_equal(x->calls, y->calls, (size_t)h->n_samples * sizeof *x->calls);
        assert_int_equal(x->phase_set == NULL, y->phase_set == NULL);
        for (int64_t i = 0; x->phase_set && i < h->n_samples; i++)
            assert_int_equal(x->phase_set[i] == 0, y->phase_set[i] == 0);
    }
    assert_int_equal(n, 7);
    vcf_file_close(&a);
    vcf_file_close(&b);
}

static void calls_survive_bcf(void **state)
{
    (void)state;
    char path[64], bcf[64], plain[64];
    snprintf(path, sizeof path, "vcf_bcf_%d.vcf", (int)getpid());
    snprintf(bcf, sizeof bcf, "vcf_bcf_%d.bcf", (int)getpid());
    snprintf(plain, sizeof plain, "vcf_bcf_%d.ubcf", (int)getpid());
    write_text(path);
    convert(path, bcf, "wb");
    convert(path, plain, "wbu");
    same_records(path, bcf);
    same_records(path, plain);
    unlink(path);
    unlink(bcf);
    unlink(plain);
}

/* Reads to the end: the status that ends it. */
static status read_all(const char *path)
{
    vcf_file *f;
    status st = vcf_file_open(path, &f);
    const vcf_record *r = NULL;
    while (st == STATUS_OK && (st = vcf_next(f, &r)) == STATUS_OK && r)
        ;
    vcf_file_close(&f);
    return st;
}

/* Every cut and many flipped bits of a small BCF: refused or read, never a crash. */
static void damage_is_refused(void **state)
{
    (void)state;
    char path[64], bcf[64], bad[64];
    snprintf(path, sizeof path, "vcf_bad_%d.vcf", (int)getpid());
    snprintf(bcf, sizeof bcf, "vcf_bad_%d.bcf", (int)getpid());
    snprintf(bad, sizeof bad, "vcf_bad_%d.x", (int)getpid());
    write_text(path);
    convert(path, bcf, "wb");
    assert_int_equal(read_all(bcf), STATUS_OK);
    static unsigned char bytes[1 << 16];
    FILE *f = fopen(bcf, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_true(n > 100 && n < sizeof bytes);
    for (size_t cut = 1; cut < n; cut += 7) {
        f = fopen(bad, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(bytes, 1, cut, f), cut);
        fclose(f);
        assert_int_equal(read_all(bad), STATUS_DATA);
    }
    for (size_t at = 18; at + 28 < n; at += 5) { /* within the block: its checksum must speak */
        bytes[at] ^= 4;
        f = fopen(bad, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(bytes, 1, n, f), n);
        fclose(f);
        assert_int_equal(read_all(bad), STATUS_DATA);
        bytes[at] ^= 4;
    }
    unlink(path);
    unlink(bcf);
    unlink(bad);
}

int main(void)
{
    hts_set_log_level(HTS_LOG_OFF);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_survive_bcf),
        cmocka_unit_test(damage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
