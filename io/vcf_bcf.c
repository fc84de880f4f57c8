/* Records of a BCF through htslib. What pads a vector is no allele: a call ends at the first
 * end-of-vector value, whatever the width of its record. */
#include "io/vcf_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <htslib/bgzf.h>
#include <htslib/hts.h>
#include <htslib/vcf.h>

struct vcf_bcf {
    htsFile *file;
    bcf_hdr_t *header;
    bcf1_t *record;
    bool held;    /* record was read before its turn */
    bool checked; /* the container is whole */
    int64_t number;
};

void vcf_bcf_close(vcf_file *f)
{
    if (!f->bcf)
        return;
    if (f->bcf->record)
        bcf_destroy(f->bcf->record);
    if (f->bcf->header)
        bcf_hdr_destroy(f->bcf->header);
    if (f->bcf->file)
        hts_close(f->bcf->file);
    free(f->bcf);
    f->bcf = NULL;
}

/* The header's text goes the way of a VCF's, so that people and contigs are judged alike. It stands
 * behind "BCF\2\2" and its length in 4 bytes (little-endian). */
static status header_text(vcf_file *f)
{
    const char *p;
    size_t n;
    TRY(line_source_peek(f->lines, 9, &p, &n));
    if (n < 9)
        return fail(STATUS_DATA, "%s: the header is cut; get the file again", f->path);
    const unsigned char *b = (const unsigned char *)p;
    uint32_t bytes = b[5] | (uint32_t)b[6] << 8 | (uint32_t)b[7] << 16 | (uint32_t)b[8] << 24;
    if (bytes > INT32_MAX)
        return fail(STATUS_DATA,
                    "%s: the header claims %u bytes, the file is damaged; get it again", f->path,
                    bytes);
    TRY(line_source_peek(f->lines, 9 + (size_t)bytes, &p, &n));
    if (n < 9 + (size_t)bytes)
        return fail(STATUS_DATA, "%s: the header is cut; get the file again", f->path);
    char *text = strndup(p + 9, bytes);
    if (!text)
        return fail(STATUS_MEMORY, "%s: no memory for the header; free some memory", f->path);
    status st = STATUS_OK;
    int64_t number = 0;
    for (char *line = text; line && *line && !f->header.complete && st == STATUS_OK;) {
        char *newline = strchr(line, '\n');
        if (newline)
            *newline = '\0';
        size_t length = strlen(line);
        if (length > 0 && line[length - 1] == '\r')
            line[--length] = '\0';
        number++;
        if (length > 0 && line[0] != '#')
            st = fail(STATUS_DATA,
                      "%s:%lld: a header line without #, the file is damaged; get it "
                      "again",
                      f->path, (long long)number);
        else if (length > 0)
            st = vcf_header_line(&f->header, f->path, number, line, length);
        line = newline ? newline + 1 : NULL;
    }
    free(text);
    if (st == STATUS_OK && !f->header.complete)
        st = fail(STATUS_DATA, "%s: no header line (#CHROM), so there are no people; get it again",
                  f->path);
    return st;
}

status vcf_bcf_open(vcf_file *f)
{
    TRY(header_text(f));
    line_source_close(&f->lines);
    /* a refusal that the header allows comes before htslib sees it */
    TRY(vcf_header_check(&f->header, f->path));
    f->bcf = calloc(1, sizeof *f->bcf);
    if (!f->bcf)
        return fail(STATUS_MEMORY, "%s: no memory to read it; free some memory", f->path);
    hts_set_log_level(HTS_LOG_OFF);
    f->bcf->file = hts_open(f->path, "r");
    if (!f->bcf->file)
        return fail(STATUS_DATA, "%s: cannot be opened: %s; check the name and its permissions",
                    f->path, strerror(errno));
    f->bcf->header = bcf_hdr_read(f->bcf->file);
    f->bcf->record = bcf_init();
    if (!f->bcf->header || !f->bcf->record)
        return fail(STATUS_DATA,
                    "%s: htslib cannot read the header, the file is damaged; get it "
                    "again",
                    f->path);
    if (bcf_hdr_nsamples(f->bcf->header) != f->header.n_samples)
        return fail(STATUS_DATA,
                    "%s: the header names %lld people, htslib sees %d, the file is "
                    "damaged; get it again",
                    f->path, (long long)f->header.n_samples, bcf_hdr_nsamples(f->bcf->header));
    return STATUS_OK;
}

/* htslib inflates for the records; our own reader goes once through the container: each checksum,
 * the end block, nothing behind it. */
static status container_check(vcf_file *f)
{
    line_source *s = NULL;
    if (f->bcf->checked)
        return STATUS_OK;
    TRY(line_source_open(f->path, &s));
    status st = line_source_drain(s);
    line_source_close(&s);
    f->bcf->checked = st == STATUS_OK;
    return st;
}

static status record_hold(vcf_file *f, bool *any)
{
    struct vcf_bcf *b = f->bcf;
    *any = true;
    if (b->held)
        return STATUS_OK;
    int r = bcf_read(b->file, b->header, b->record);
    *any = r == 0;
    if (r != 0) /* what the container says of its damage is said better */
        TRY(container_check(f));
    if (r < -1 || (r == 0 && b->record->errcode))
        return fail(STATUS_DATA, "%s:%lld: the record is damaged or cut; get the file again",
                    f->path, (long long)b->number + 1);
    b->number += r == 0;
    b->held = r == 0;
    return STATUS_OK;
}

status vcf_bcf_any(vcf_file *f, bool *any)
{
    return record_hold(f, any);
}

/* A genotype vector of width 1, 2 or 4 bytes: value j of person i. */
static int32_t vector_at(const bcf_fmt_t *fmt, int64_t i, int j, bool *end, bool *absent)
{
    const uint8_t *p = fmt->p + i * fmt->size;
    int16_t v16;
    int32_t v32;
    switch (fmt->type) {
    case BCF_BT_INT8:
        *end = (int8_t)p[j] == bcf_int8_vector_end;
        *absent = (int8_t)p[j] == bcf_int8_missing;
        return (int8_t)p[j];
    case BCF_BT_INT16:
        memcpy(&v16, p + 2 * j, 2);
        *end = v16 == bcf_int16_vector_end;
        *absent = v16 == bcf_int16_missing;
        return v16;
    default:
        memcpy(&v32, p + 4 * j, 4);
        *end = v32 == bcf_int32_vector_end;
        *absent = v32 == bcf_int32_missing;
        return v32;
    }
}

static bool vector_is_whole(const bcf_fmt_t *fmt)
{
    return fmt->type == BCF_BT_INT8 || fmt->type == BCF_BT_INT16 || fmt->type == BCF_BT_INT32;
}

static status genotype_decode(vcf_file *f, const bcf_fmt_t *fmt, int64_t i, call *out)
{
    uint8_t code[64];
    int ploidy = 0;
    bool phased = true;
    for (int j = 0; j < fmt->n; j++) {
        bool end, absent;
        int32_t v = vector_at(fmt, i, j, &end, &absent);
        if (end)
            break;
        int64_t allele = absent ? -1 : (int64_t)(v >> 1) - 1;
        if (allele > f->record.n_alts || (!absent && v < 0) || ploidy == (int)sizeof code)
            return fail(STATUS_DATA,
                        "%s:%lld: the genotype of %s has allele %lld, with %lld alternate alleles "
                        "in the record; correct it",
                        f->path, (long long)f->record.line, f->header.samples[i], (long long)allele,
                        (long long)f->record.n_alts);
        if (j > 0)
            phased = phased && (v & 1);
        code[ploidy++] = allele < 0 ? ALLELE_UNKNOWN : f->code[allele];
    }
    if (ploidy == 0)
        code[ploidy++] = ALLELE_UNKNOWN;
    *out = call_of(code, ploidy, phased);
    return STATUS_OK;
}

static uint32_t phase_set_decode(const bcf_fmt_t *fmt, int64_t i)
{
    if (fmt->type == BCF_BT_CHAR) {
        const char *p = (const char *)fmt->p + i * fmt->size;
        size_t n = strnlen(p, (size_t)fmt->n);
        if (n == 0 || (n == 1 && (*p == '.' || *p == bcf_str_missing)))
            return 0;
        return (uint32_t)name_hash(NAME_HASH_START, p, n) | 1;
    }
    if (!vector_is_whole(fmt) || fmt->n < 1)
        return 0;
    bool end, absent;
    int32_t v = vector_at(fmt, i, 0, &end, &absent);
    return end || absent ? 0 : (uint32_t)name_hash(NAME_HASH_START, &v, sizeof v) | 1;
}

static status calls_decode(vcf_file *f)
{
    struct vcf_bcf *b = f->bcf;
    vcf_record *r = &f->record;
    bcf_fmt_t *gt = bcf_get_fmt(b->header, b->record, "GT");
    bcf_fmt_t *ps = bcf_get_fmt(b->header, b->record, "PS");
    r->has_gt = gt != NULL && gt->p != NULL;
    r->phase_set = NULL;
    if (!r->has_gt)
        return STATUS_OK;
    if (b->record->n_sample != (uint32_t)f->header.n_samples)
        return fail(STATUS_DATA,
                    "%s:%lld: %u genotypes but the header names %lld people; the file is damaged, "
                    "get it again",
                    f->path, (long long)r->line, b->record->n_sample,
                    (long long)f->header.n_samples);
    if (!vector_is_whole(gt))
        return fail(STATUS_DATA, "%s:%lld: GT holds no whole numbers; make the file again", f->path,
                    (long long)r->line);
    for (int64_t i = 0; i < f->header.n_samples; i++) {
        TRY(genotype_decode(f, gt, i, &f->calls[i]));
        call c = f->calls[i];
        r->missing += (c & CALL_MISSING) != 0;
        r->half += (c & (CALL_MISSING | CALL_UNKNOWN)) == CALL_UNKNOWN;
        f->phase_set[i] = ps && (c & CALL_LOCAL) ? phase_set_decode(ps, i) : 0;
    }
    if (ps)
        r->phase_set = f->phase_set;
    return STATUS_OK;
}

status vcf_bcf_next(vcf_file *f, const vcf_record **record)
{
    *record = NULL;
    struct vcf_bcf *b = f->bcf;
    bool any;
    TRY(record_hold(f, &any));
    if (!any)
        return STATUS_OK;
    b->held = false;
    vcf_record *r = &f->record;
    r->line = b->number;
    r->missing = r->half = 0;
    r->calls = f->calls;
    if (bcf_unpack(b->record, BCF_UN_STR | BCF_UN_FMT) < 0)
        return fail(STATUS_DATA, "%s:%lld: the record is damaged; get the file again", f->path,
                    (long long)r->line);
    const char *chrom = bcf_seqname(b->header, b->record);
    if (!chrom || !*chrom)
        return fail(STATUS_DATA,
                    "%s:%lld: the record's chromosome is not in the header; make the "
                    "file again",
                    f->path, (long long)r->line);
    TRY(vcf_spelling(f, chrom, strlen(chrom)));
    if (b->record->pos < 0 || b->record->pos >= INT32_MAX)
        return fail(
            STATUS_DATA,
            "%s:%lld: the position is %lld and must be a whole number from 1 to 2147483647; "
            "correct the record",
            f->path, (long long)r->line, (long long)b->record->pos + 1);
    r->position = (int32_t)(b->record->pos + 1);
    if (b->record->n_allele < 1)
        return fail(STATUS_DATA, "%s:%lld: REF is empty; give the reference base", f->path,
                    (long long)r->line);
    TRY(vcf_ref(f, b->record->d.allele[0], strlen(b->record->d.allele[0])));
    for (uint32_t i = 1; i < b->record->n_allele; i++)
        TRY(vcf_alt(f, b->record->d.allele[i], strlen(b->record->d.allele[i])));
    TRY(calls_decode(f));
    *record = r;
    return STATUS_OK;
}
