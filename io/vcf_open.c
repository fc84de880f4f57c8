/* Recognition of a file by its content, and what both readers share: alleles and spellings. */
#include "io/vcf_file.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- which format ---- */

typedef struct {
    const char *bytes;
    size_t n;
    const char *what; /* NULL: ours */
    file_content content;
} signature;

static const signature signatures[] = {
    {"##", 2, NULL, FILE_VCF},
    {"#CHROM", 6, NULL, FILE_VCF},
    {"BCF\2", 4, NULL, FILE_BCF},
    {"BCF\4", 4, "BCF of version 1, convert it with an old bcftools", FILE_NOTHING},
    {"\x1f\x8b", 2, "compressed twice, decompress it once", FILE_NOTHING},
    {"BAM\1", 4, "BAM, reads and no genotypes", FILE_NOTHING},
    {"CRAM", 4, "CRAM, reads and no genotypes", FILE_NOTHING},
    {"TBI\1", 4, "an index, give the file it belongs to", FILE_NOTHING},
    {"CSI\1", 4, "an index, give the file it belongs to", FILE_NOTHING},
    {"@HD\t", 4, "SAM, reads and no genotypes", FILE_NOTHING},
    {"\x89HDF", 4, "HDF5, perhaps a data set that was imported already", FILE_NOTHING},
    {"PK\3\4", 4, "a zip archive, unpack it", FILE_NOTHING},
    {"\x42\x5a\x68", 3, "compressed by bzip2, decompress it", FILE_NOTHING},
    {"\x28\xb5\x2f\xfd", 4, "compressed by zstd, decompress it", FILE_NOTHING},
    {"\xfd"
     "7zXZ",
     5, "compressed by xz, decompress it", FILE_NOTHING},
    {"\x6c\x1b", 2, "a PLINK .bed, convert it to VCF", FILE_NOTHING},
    {"@", 1, "FASTQ, reads and no genotypes", FILE_NOTHING},
};

static bool looks_like_records(const char *p, size_t n)
{
    const char *end = memchr(p, '\n', n);
    size_t line = end ? (size_t)(end - p) : n, tabs = 0;
    for (size_t i = 0; i < line; i++)
        tabs += p[i] == '\t';
    return tabs >= 7;
}

static status recognise(vcf_file *f)
{
    const char *p;
    size_t n;
    TRY(line_source_peek(f->lines, 1 << 12, &p, &n));
    if (n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) {
        p += 3;
        n -= 3;
    }
    if (n == 0) {
        f->content = FILE_NOTHING;
        return STATUS_OK;
    }
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        const signature *s = &signatures[i];
        if (n < s->n || memcmp(p, s->bytes, s->n) != 0)
            continue;
        f->content = s->content;
        if (!s->what)
            return STATUS_OK;
        return fail(STATUS_DATA, "%s: is no VCF, BCF or FASTA: it is %s; give a VCF or BCF file",
                    f->path, s->what);
    }
    size_t blank = 0;
    while (blank < n && isspace((unsigned char)p[blank]))
        blank++;
    if (blank == n) /* blank lines alone: read as text, that finds no header */
        f->content = FILE_VCF;
    else if (p[blank] == '>' || p[blank] == ';')
        f->content = FILE_FASTA;
    else if (blank > 0 && p[blank] == '#')
        f->content = FILE_VCF;
    else if (looks_like_records(p, n))
        return fail(STATUS_DATA,
                    "%s:1: records without a header line (#CHROM), so nobody knows whose they are; "
                    "put the header back",
                    f->path);
    else
        return fail(STATUS_DATA,
                    "%s: is no VCF, BCF or FASTA (it begins with %.24s); give a VCF "
                    "or BCF file",
                    f->path, p);
    return STATUS_OK;
}

/* ---- opening ---- */

status vcf_ready(vcf_file *f)
{
    TRY(vcf_header_check(&f->header, f->path));
    size_t n = (size_t)f->header.n_samples;
    f->calls = calloc(n, sizeof *f->calls);
    f->phase_set = calloc(n, sizeof *f->phase_set);
    f->code_room = 64;
    f->code = malloc((size_t)f->code_room);
    if (!f->calls || !f->phase_set || !f->code)
        return fail(STATUS_MEMORY, "%s: no memory for the calls of %zu people; free some memory",
                    f->path, n);
    return STATUS_OK;
}

status vcf_file_open(const char *path, vcf_file **out)
{
    *out = NULL;
    vcf_file *f = calloc(1, sizeof *f);
    if (!f)
        return fail(STATUS_MEMORY, "%s: no memory to read it; free some memory", path);
    strncpy(f->path, path, sizeof f->path - 1);
    status st;
    TRY_GOTO(failed, line_source_open(path, &f->lines));
    TRY_GOTO(failed, recognise(f));
    if (f->content == FILE_VCF)
        st = vcf_text_header(f);
    else if (f->content == FILE_BCF)
        st = vcf_bcf_open(f);
    if (st != STATUS_OK)
        goto failed;
    if (f->content == FILE_VCF || f->content == FILE_BCF)
        TRY_GOTO(failed, vcf_ready(f));
    *out = f;
    return STATUS_OK;
failed:
    vcf_file_close(&f);
    return st;
}

void vcf_file_close(vcf_file **out)
{
    vcf_file *f = *out;
    if (!f)
        return;
    line_source_close(&f->lines);
    vcf_bcf_close(f);
    vcf_header_close(&f->header);
    name_table_close(&f->contigs);
    for (int64_t i = 0; i < f->n_spellings; i++)
        free(f->spelling[i]);
    free(f->spelling);
    free(f->calls);
    free(f->phase_set);
    free(f->code);
    free(f);
    *out = NULL;
}

file_content vcf_content(const vcf_file *f)
{
    return f->content;
}

const vcf_header *vcf_header_of(const vcf_file *f)
{
    return &f->header;
}

status vcf_any(vcf_file *f, bool *any)
{
    *any = false;
    if (f->content == FILE_VCF)
        return vcf_text_any(f, any);
    return f->content == FILE_BCF ? vcf_bcf_any(f, any) : STATUS_OK;
}

status vcf_next(vcf_file *f, const vcf_record **record)
{
    *record = NULL;
    if (f->content == FILE_VCF)
        return vcf_text_next(f, record);
    return f->content == FILE_BCF ? vcf_bcf_next(f, record) : STATUS_OK;
}

double vcf_fraction(const vcf_file *f)
{
    if (f->content != FILE_VCF || line_source_file_bytes(f->lines) == 0)
        return 0;
    return (double)line_source_read_bytes(f->lines) / (double)line_source_file_bytes(f->lines);
}

/* ---- what a record says of its place and alleles ---- */

status vcf_spelling(vcf_file *f, const char *chrom, size_t n)
{
    if (f->n_spellings > 0) {
        const char *last = f->spelling[f->contig];
        if (strncmp(last, chrom, n) == 0 && last[n] == '\0') {
            f->record.chrom = last;
            f->record.contig = f->contig;
            return STATUS_OK;
        }
    }
    char *name = strndup(chrom, n);
    if (!name)
        goto no_memory;
    int64_t known = name_table_find(&f->contigs, name);
    if (known >= 0) {
        free(name);
    } else {
        if (f->n_spellings == f->room_spellings) {
            int64_t room = f->room_spellings ? 2 * f->room_spellings : 32;
            char **more = realloc(f->spelling, (size_t)room * sizeof *more);
            if (!more) {
                free(name);
                goto no_memory;
            }
            f->spelling = more;
            f->room_spellings = room;
        }
        known = f->n_spellings;
        f->spelling[f->n_spellings++] = name;
        TRY(name_table_add(&f->contigs, name, known, NULL));
    }
    f->contig = known;
    f->record.chrom = f->spelling[known];
    f->record.contig = known;
    return STATUS_OK;
no_memory:
    return fail(STATUS_MEMORY, "%s: no memory for a contig's name; free some memory", f->path);
}

/* A C G T in either case: 0..3; -1 for everything else. No letter has a default code. */
static int base_of(char letter)
{
    switch (letter) {
    case 'A':
    case 'a':
        return 0;
    case 'C':
    case 'c':
        return 1;
    case 'G':
    case 'g':
        return 2;
    case 'T':
    case 't':
        return 3;
    default:
        return -1;
    }
}

status vcf_ref(vcf_file *f, const char *ref, size_t n)
{
    vcf_record *r = &f->record;
    if (n == 0 || (n == 1 && *ref == '.'))
        return fail(STATUS_DATA, "%s:%lld: REF is empty; give the reference base", f->path,
                    (long long)r->line);
    r->ref = base_of(ref[0]);
    r->ref_single = n == 1;
    r->alts = 0;
    r->n_alts = 0;
    memset(&r->kinds, 0, sizeof r->kinds);
    f->code[0] = ALLELE_REF;
    if (n == 1 && r->ref < 0)
        r->kinds.non_acgt++;
    return STATUS_OK;
}

/* What an ALT that is no single base is. */
static void count_other(allele_kinds *kinds, const char *alt, size_t n)
{
    size_t letters = 0;
    for (size_t i = 0; i < n; i++)
        letters += isalpha((unsigned char)alt[i]) != 0;
    if (alt[0] == '<' || memchr(alt, '[', n) || memchr(alt, ']', n) || alt[0] == '.' ||
        alt[n - 1] == '.')
        kinds->symbolic++;
    else if (n == 1 && alt[0] == '*')
        kinds->star++;
    else if (n == 1 || letters < n)
        kinds->non_acgt++;
    else
        kinds->not_snv++;
}

status vcf_alt(vcf_file *f, const char *alt, size_t n)
{
    vcf_record *r = &f->record;
    if (n == 0)
        return fail(STATUS_DATA, "%s:%lld: an ALT allele is empty; correct the line", f->path,
                    (long long)r->line);
    r->n_alts++;
    if (r->n_alts >= f->code_room) {
        uint8_t *more = realloc(f->code, (size_t)(2 * f->code_room));
        if (!more)
            return fail(STATUS_MEMORY, "%s:%lld: no memory for %lld alleles; free some memory",
                        f->path, (long long)r->line, (long long)r->n_alts);
        f->code = more;
        f->code_room *= 2;
    }
    f->code[r->n_alts] = ALLELE_OTHER;
    int base = n == 1 ? base_of(alt[0]) : -1;
    if (base < 0) {
        count_other(&r->kinds, alt, n);
        return STATUS_OK;
    }
    if (!r->ref_single) {
        r->kinds.not_snv++; /* a deletion down to one base */
        return STATUS_OK;
    }
    if (r->ref < 0)
        return STATUS_OK; /* counted with its REF */
    if (base == r->ref || (r->alts & 1u << base))
        return fail(STATUS_DATA, "%s:%lld: ALT %c %s; correct the line", f->path,
                    (long long)r->line, "ACGT"[base],
                    base == r->ref ? "is the reference base" : "is named twice");
    r->alts |= 1u << base;
    f->code[r->n_alts] = (uint8_t)base;
    return STATUS_OK;
}
