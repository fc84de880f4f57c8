/* One person's genotype in one record, as import needs it: which bases it carries on which
 * haplotype, and what of it is not known. A call of 0 says: every allele is the reference. Ploidy
 * belongs to the call. */
#ifndef CROCUTA_IO_VCF_CALL_H
#define CROCUTA_IO_VCF_CALL_H

#include <stdbool.h>
#include <stdint.h>

/* bits 0-7: for base b (0..3: A C G T) the haplotypes 1, 2 that carry it, at 2 b
 * bits 8-11: bases carried on a haplotype that is not known; bits 12-15: how many copies of them
 * bits 16-19: ploidy (15: that or more)
 * then what the call holds beside bases and reference */
typedef uint32_t call;

#define CALL_UNKNOWN (UINT32_C(1) << 20) /* some allele is not known */
#define CALL_MISSING (UINT32_C(1) << 21) /* no allele is known */
#define CALL_OTHER (UINT32_C(1) << 22)   /* an allele that is neither a base nor the reference */
#define CALL_LOCAL (UINT32_C(1) << 23)   /* a phased heterozygote: its phase set counts */
#define CALL_CARRIES UINT32_C(0xfff)

/* What an allele number of a record stands for. */
enum { ALLELE_REF = 4, ALLELE_OTHER = 5, ALLELE_UNKNOWN = 6, ALLELE_INVALID = 7 };

static inline unsigned call_mask(call c, int base)
{
    return c >> (2 * base) & 3;
}

static inline bool call_unphased(call c, int base)
{
    return c >> (8 + base) & 1;
}

static inline unsigned call_ploidy(call c)
{
    return c >> 16 & 15;
}

/* Nucleotides in a call, haplotype known or not. */
unsigned call_copies(call c);

/* Bases that a call carries: bit b. */
static inline unsigned call_bases(call c)
{
    unsigned m = (c | c >> 1) & 0x55; /* bits 0 2 4 6 */
    return ((m & 1) | (m >> 1 & 2) | (m >> 2 & 4) | (m >> 3 & 8)) | (c >> 8 & 15);
}

/* From allele codes (0..3 and the above), in order; `phased`: every separator is |. */
call call_of(const uint8_t *code, int ploidy, bool phased);

/* Several records of one site in one call; false where two bases stand on one haplotype. */
bool call_join(call *into, call other);

/* Neither fully known nor reference where nothing is carried: belongs to the missing runs. A call
 * with a seen base and an unknown half is both carried and marked. */
static inline bool call_marked(call c)
{
    return (c & (CALL_UNKNOWN | CALL_OTHER)) != 0;
}

#endif
