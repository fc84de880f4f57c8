/* What the two readers of records (text and BCF) share; private to io/vcf_*.c. */
#ifndef CROCUTA_IO_VCF_FILE_H
#define CROCUTA_IO_VCF_FILE_H

#include "io/line_source.h"
#include "io/name_table.h"
#include "io/vcf.h"

struct vcf_bcf;

struct vcf_file {
    char path[1024];
    file_content content;
    vcf_header header;
    line_source *lines; /* text */
    struct vcf_bcf *bcf;
    char *held; /* text: a line that was looked at before its turn */
    size_t held_length;
    vcf_record record;
    call *calls;         /* (n_samples) */
    uint32_t *phase_set; /* (n_samples) */
    uint8_t *code;       /* (code_room) of each allele number */
    int64_t code_room;
    char *last_chrom;   /* spelling of the record before, to number spellings */
    name_table contigs; /* spellings met so far (names are owned below) */
    char **spelling;
    int64_t n_spellings, room_spellings;
    int64_t contig;
};

/* Numbers the spelling of a chromosome; fills record.chrom and record.contig. */
status vcf_spelling(vcf_file *f, const char *chrom, size_t n);

/* Alleles of a record: REF, then ALT texts one by one; fills record.ref, .alts, .kinds and code[].
 * `line` stands in messages. */
status vcf_ref(vcf_file *f, const char *ref, size_t n);
status vcf_alt(vcf_file *f, const char *alt, size_t n);

/* Header checks and the arrays of a file whose header is read. */
status vcf_ready(vcf_file *f);

status vcf_text_header(vcf_file *f);
status vcf_text_next(vcf_file *f, const vcf_record **record);
status vcf_text_any(vcf_file *f, bool *any);

status vcf_bcf_open(vcf_file *f);
status vcf_bcf_next(vcf_file *f, const vcf_record **record);
status vcf_bcf_any(vcf_file *f, bool *any);
void vcf_bcf_close(vcf_file *f);

#endif
