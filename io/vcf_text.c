/* Records of a VCF in text. Columns are counted, numbers and genotypes are read letter by letter,
 * so that what a library would repair in silence is an error with its line. The usual record
 * (FORMAT GT alone, three letters a call) takes a path of its own: 4 bytes a person. */
#include "io/vcf_file.h"

#include <stdlib.h>
#include <string.h>

/* ---- header ---- */

status vcf_text_header(vcf_file *f)
{
    for (;;) {
        char *line;
        size_t n;
        TRY(line_source_next(f->lines, &line, &n));
        if (!line)
            break;
        if (n == 0)
            continue;
        int64_t number = line_source_line(f->lines);
        if (line[0] != '#')
            return fail(STATUS_DATA,
                        "%s:%lld: a record before the header line (#CHROM); put the header first",
                        f->path, (long long)number);
        TRY(vcf_header_line(&f->header, f->path, number, line, n));
        if (f->header.complete)
            return STATUS_OK;
    }
    return fail(STATUS_DATA,
                "%s:%lld: no header line (#CHROM), so there are no people; give a "
                "whole VCF",
                f->path, (long long)line_source_line(f->lines));
}

/* The next line that is not blank; held by vcf_text_any until it is wanted. */
static status line_hold(vcf_file *f)
{
    if (f->held)
        return STATUS_OK;
    do {
        TRY(line_source_next(f->lines, &f->held, &f->held_length));
    } while (f->held && f->held_length == 0);
    return STATUS_OK;
}

status vcf_text_any(vcf_file *f, bool *any)
{
    TRY(line_hold(f));
    *any = f->held != NULL;
    return STATUS_OK;
}

/* ---- the nine fixed columns ---- */

typedef struct {
    char *at[10]; /* beginnings of the first nine columns, and of the first call */
    char *end;    /* of the line */
} columns;

static status columns_find(vcf_file *f, char *line, size_t length, columns *c)
{
    c->end = line + length;
    char *p = line;
    for (int i = 0; i < 10; i++) {
        c->at[i] = p;
        if (i == 9)
            return STATUS_OK;
        char *tab = memchr(p, '\t', (size_t)(c->end - p));
        if (tab) {
            p = tab + 1;
            continue;
        }
        if (i == 0)
            return fail(STATUS_DATA,
                        "%s:%lld: the columns are not separated by tabs; convert blanks to tabs",
                        f->path, (long long)f->record.line);
        return fail(STATUS_DATA,
                    "%s:%lld: %d columns but the header names %lld; the file was cut or joined "
                    "wrongly, make it again",
                    f->path, (long long)f->record.line, i + 1, (long long)f->header.n_samples + 9);
    }
    return STATUS_OK;
}

static size_t column_length(const columns *c, int i)
{
    return (size_t)(c->at[i + 1] - c->at[i]) - 1;
}

static status position_parse(vcf_file *f, const char *p, size_t n)
{
    int64_t x = 0;
    size_t i = 0;
    for (; i < n && p[i] >= '0' && p[i] <= '9' && x <= INT32_MAX; i++)
        x = 10 * x + (p[i] - '0');
    if (n == 0 || i < n || x < 1 || x > INT32_MAX)
        return fail(STATUS_DATA,
                    "%s:%lld: the position is \"%.*s\" and must be a whole number from 1 to "
                    "2147483647; correct the line",
                    f->path, (long long)f->record.line, n < 40 ? (int)n : 40, p);
    f->record.position = (int32_t)x;
    return STATUS_OK;
}

static status alleles_parse(vcf_file *f, const columns *c)
{
    TRY(vcf_ref(f, c->at[3], column_length(c, 3)));
    const char *p = c->at[4];
    size_t n = column_length(c, 4);
    if (n == 1 && *p == '.')
        return STATUS_OK;
    for (;;) {
        const char *comma = memchr(p, ',', n);
        size_t one = comma ? (size_t)(comma - p) : n;
        TRY(vcf_alt(f, p, one));
        if (!comma)
            return STATUS_OK;
        p += one + 1;
        n -= one + 1;
    }
}

/* Index of a field among those of FORMAT, -1: not there. A field named twice is refused. */
static status format_index(const vcf_file *f, const columns *c, const char *name, int *index)
{
    const char *p = c->at[8], *end = c->at[9] - 1;
    size_t length = strlen(name);
    *index = -1;
    for (int i = 0; p <= end; i++) {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        const char *stop = colon ? colon : end;
        if ((size_t)(stop - p) == length && memcmp(p, name, length) == 0) {
            if (*index >= 0)
                return fail(STATUS_DATA, "%s:%lld: FORMAT names %s twice; correct the line",
                            f->path, (long long)f->record.line, name);
            *index = i;
        }
        p = stop + 1;
    }
    return STATUS_OK;
}

/* ---- calls ---- */

typedef struct {
    uint8_t code[256];  /* by letter: allele codes of 0..9 and '.', ALLELE_INVALID otherwise */
    call pair[2][8][8]; /* by phased, first, second code */
} call_letters;

static void letters_make(const vcf_file *f, call_letters *l)
{
    memset(l->code, ALLELE_INVALID, sizeof l->code);
    for (int64_t i = 0; i <= f->record.n_alts && i < 10; i++)
        l->code['0' + i] = f->code[i];
    l->code['.'] = ALLELE_UNKNOWN;
    for (int phased = 0; phased < 2; phased++)
        for (uint8_t a = 0; a < ALLELE_INVALID; a++)
            for (uint8_t b = 0; b < ALLELE_INVALID; b++)
                l->pair[phased][a][b] = call_of((uint8_t[2]){a, b}, 2, phased);
}

static status genotype_refuse(const vcf_file *f, int64_t person, const char *p, size_t n)
{
    return fail(STATUS_DATA,
                "%s:%lld: the genotype of %s is \"%.*s\", with %lld alternate alleles in the line; "
                "correct it",
                f->path, (long long)f->record.line, f->header.samples[person], n < 60 ? (int)n : 60,
                p, (long long)f->record.n_alts);
}

/* Any spelling: alleles of any number of digits, any ploidy, empty. */
static status genotype_parse(const vcf_file *f, int64_t person, const char *text, size_t n,
                             call *out)
{
    uint8_t code[64];
    int ploidy = 0;
    bool phased = true;
    const char *p = text, *end = text + n;
    if (n == 0) {
        *out = call_of((uint8_t[1]){ALLELE_UNKNOWN}, 1, false);
        return STATUS_OK;
    }
    if (*p == '|' || *p == '/') /* VCF 4.4 writes the phase of the first allele too */
        p++;
    for (;;) {
        int64_t number = 0;
        if (p == end || ploidy == (int)sizeof code)
            return genotype_refuse(f, person, text, n);
        if (*p == '.') {
            code[ploidy++] = ALLELE_UNKNOWN;
            p++;
        } else {
            const char *digit = p;
            for (; p < end && *p >= '0' && *p <= '9' && p - digit < 9; p++)
                number = 10 * number + (*p - '0');
            if (p == digit || number > f->record.n_alts)
                return genotype_refuse(f, person, text, n);
            code[ploidy++] = f->code[number];
        }
        if (p == end)
            break;
        if (*p != '|' && *p != '/')
            return genotype_refuse(f, person, text, n);
        phased = phased && *p == '|';
        p++;
    }
    *out = call_of(code, ploidy, phased);
    return STATUS_OK;
}

static inline void call_count(vcf_record *r, call c)
{
    r->missing += (c & CALL_MISSING) != 0;
    r->half += (c & (CALL_MISSING | CALL_UNKNOWN)) == CALL_UNKNOWN;
}

/* All calls are three letters: nothing but calls in the line, each of 4 bytes. */
static bool calls_fast(vcf_file *f, const columns *c, const call_letters *l)
{
    int64_t n = f->header.n_samples;
    const char *p = c->at[9];
    if (c->end - p != 4 * n - 1)
        return false;
    int64_t missing = 0, half = 0;
    for (int64_t i = 0; i < n; i++, p += 4) {
        unsigned char sep = (unsigned char)p[1];
        unsigned a = l->code[(unsigned char)p[0]], b = l->code[(unsigned char)p[2]];
        bool phased = sep == '|';
        if (a == ALLELE_INVALID || b == ALLELE_INVALID || !(phased || sep == '/') ||
            (i + 1 < n && p[3] != '\t'))
            return false; /* the careful way says what is wrong, or reads it */
        call x = l->pair[phased][a][b];
        f->calls[i] = x;
        missing += (x & CALL_MISSING) != 0;
        half += (x & (CALL_MISSING | CALL_UNKNOWN)) == CALL_UNKNOWN;
    }
    f->record.missing = missing;
    f->record.half = half;
    return true;
}

/* The field of number `index` of a call; empty where it was dropped. */
static const char *field_of(const char *p, const char *end, int index, size_t *n)
{
    for (; index > 0; index--) {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        if (!colon) {
            *n = 0;
            return end;
        }
        p = colon + 1;
    }
    const char *colon = memchr(p, ':', (size_t)(end - p));
    *n = (size_t)((colon ? colon : end) - p);
    return p;
}

static uint32_t phase_set_of(const char *p, size_t n)
{
    if (n == 0 || (n == 1 && *p == '.'))
        return 0;
    uint32_t h = (uint32_t)name_hash(NAME_HASH_START, p, n);
    return h ? h : 1;
}

static status calls_careful(vcf_file *f, const columns *c, int gt, int ps)
{
    vcf_record *r = &f->record;
    int64_t n = f->header.n_samples, i = 0;
    const char *p = c->at[9];
    for (; p; i++) {
        const char *tab = memchr(p, '\t', (size_t)(c->end - p));
        const char *end = tab ? tab : c->end;
        if (i < n && gt >= 0) {
            size_t length;
            const char *text = field_of(p, end, gt, &length);
            TRY(genotype_parse(f, i, text, length, &f->calls[i]));
            call_count(r, f->calls[i]);
            f->phase_set[i] = 0;
            if (ps >= 0 && (f->calls[i] & CALL_LOCAL)) {
                text = field_of(p, end, ps, &length);
                f->phase_set[i] = phase_set_of(text, length);
            }
        }
        p = tab ? tab + 1 : NULL;
    }
    if (i != n)
        return fail(STATUS_DATA,
                    "%s:%lld: %lld columns of genotypes but the header names %lld people; the file "
                    "was cut or joined wrongly, make it again",
                    f->path, (long long)r->line, (long long)i, (long long)n);
    return STATUS_OK;
}

status vcf_text_next(vcf_file *f, const vcf_record **record)
{
    *record = NULL;
    TRY(line_hold(f));
    if (!f->held)
        return STATUS_OK;
    char *line = f->held;
    vcf_record *r = &f->record;
    f->held = NULL;
    r->line = line_source_line(f->lines);
    if (line[0] == '#')
        return fail(STATUS_DATA,
                    "%s:%lld: a second header inside the file, two files were joined; give them "
                    "one by one",
                    f->path, (long long)r->line);
    columns c;
    TRY(columns_find(f, line, f->held_length, &c));
    if (column_length(&c, 0) == 0)
        return fail(STATUS_DATA, "%s:%lld: the chromosome is empty; correct the line", f->path,
                    (long long)r->line);
    TRY(vcf_spelling(f, c.at[0], column_length(&c, 0)));
    TRY(position_parse(f, c.at[1], column_length(&c, 1)));
    TRY(alleles_parse(f, &c));

    r->missing = r->half = 0;
    r->calls = f->calls;
    r->phase_set = NULL;
    bool gt_alone = column_length(&c, 8) == 2 && memcmp(c.at[8], "GT", 2) == 0;
    int gt = 0, ps = -1;
    if (!gt_alone) {
        TRY(format_index(f, &c, "GT", &gt));
        TRY(format_index(f, &c, "PS", &ps));
    }
    r->has_gt = gt >= 0;
    call_letters letters;
    if (gt_alone) {
        letters_make(f, &letters);
        if (calls_fast(f, &c, &letters)) {
            *record = r;
            return STATUS_OK;
        }
        r->missing = r->half = 0;
    }
    TRY(calls_careful(f, &c, gt, ps));
    r->phase_set = ps >= 0 && gt >= 0 ? f->phase_set : NULL;
    *record = r;
    return STATUS_OK;
}
