/* The header of a VCF file: people and contigs. Names are the bytes between tabs. */
#ifndef CROCUTA_IO_VCF_HEADER_H
#define CROCUTA_IO_VCF_HEADER_H

#include "runtime/core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *name;
    int64_t length; /* bp, 0: not said */
} vcf_contig;

typedef struct {
    int64_t n_samples, n_contigs, room_samples, room_contigs;
    char **samples;
    vcf_contig *contigs;
    int64_t lines;    /* of the header, the #CHROM line included */
    bool has_format;  /* a ##fileformat line was first */
    bool complete;    /* the #CHROM line was seen */
    bool has_columns; /* it names FORMAT */
} vcf_header;

/* Takes one header line (that begins with #) into account. */
status vcf_header_line(vcf_header *h, const char *path, int64_t number, char *line, size_t length);

/* After the #CHROM line: somebody must be in it, nobody twice. */
status vcf_header_check(const vcf_header *h, const char *path);

void vcf_header_close(vcf_header *h);

#endif
