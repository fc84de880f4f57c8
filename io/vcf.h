/* Records of a VCF or BCF file, one after the other, with genotypes as calls. What a file is, its
 * content says. Positions, columns, alleles and genotypes are read strictly: what is not exactly
 * right is an error with its line (of BCF: the number of the record). */
#ifndef CROCUTA_IO_VCF_H
#define CROCUTA_IO_VCF_H

#include "io/vcf_call.h"
#include "io/vcf_header.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    FILE_VCF,
    FILE_BCF,
    FILE_FASTA,
    FILE_NOTHING, /* no bytes, or compressed nothing */
} file_content;

/* What the alternate alleles of a record are, beside the bases. */
typedef struct {
    int64_t not_snv, symbolic, star, non_acgt;
} allele_kinds;

typedef struct {
    int64_t line;
    const char *chrom; /* until the next record */
    int64_t contig;    /* index of the spelling in this file: the same number, the same spelling */
    int32_t position;  /* 1-based */
    int ref;           /* base 0..3 of the first letter; -1: another letter */
    bool ref_single;   /* one letter */
    unsigned alts;     /* bit b: ALT names base b (single REF of A C G T only) */
    int64_t n_alts;    /* as written; 0: "." */
    allele_kinds kinds;
    bool has_gt;
    int64_t missing, half; /* calls without a known allele, with some */
    call *calls;           /* (n_samples), meaningless without GT */
    uint32_t *phase_set;   /* (n_samples), 0: none; NULL: the record has no PS */
} vcf_record;

typedef struct vcf_file vcf_file;

/* Recognises the file and reads its header. FASTA and nothing are no error here (the header is
 * empty then); other formats are. */
status vcf_file_open(const char *path, vcf_file **out);
void vcf_file_close(vcf_file **f);

file_content vcf_content(const vcf_file *f);
const vcf_header *vcf_header_of(const vcf_file *f);

/* Is there a record? (The header alone is an empty file.) */
status vcf_any(vcf_file *f, bool *any);

/* The next record, *record NULL at the end; it belongs to the file and lasts until the next. */
status vcf_next(vcf_file *f, const vcf_record **record);

/* Fraction of the file read so far, for progress. */
double vcf_fraction(const vcf_file *f);

#endif
