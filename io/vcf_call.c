/* Calls from alleles, and the joining of lines that tell one site: see vcf_call.h. */
#include "io/vcf_call.h"

unsigned call_copies(call c)
{
    return (unsigned)__builtin_popcount(c & 0xff) + (c >> 12 & 15);
}

call call_of(const uint8_t *code, int ploidy, bool phased)
{
    call c = 0;
    unsigned known = 0, copies = 0, bases = 0;
    for (int i = 0; i < ploidy; i++) {
        known += code[i] != ALLELE_UNKNOWN;
        copies += code[i] < ALLELE_REF;
        if (code[i] < ALLELE_REF)
            bases |= 1u << code[i];
        if (code[i] == ALLELE_OTHER)
            c |= CALL_OTHER;
    }
    if (known < (unsigned)ploidy)
        c |= CALL_UNKNOWN;
    if (known == 0)
        c |= CALL_MISSING | CALL_UNKNOWN;
    bool same = ploidy == 2 && code[0] == code[1];
    if (ploidy == 1 || (ploidy == 2 && (phased || same))) {
        for (int i = 0; i < ploidy; i++)
            if (code[i] < ALLELE_REF)
                c |= 1u << (2 * code[i] + i);
        if (ploidy == 2 && !same && copies > 0)
            c |= CALL_LOCAL;
    } else {
        c |= bases << 8 | (copies < 15 ? copies : 15) << 12;
    }
    return c ? c | (unsigned)(ploidy < 15 ? ploidy : 15) << 16 : 0;
}

bool call_join(call *into, call other)
{
    call a = *into, b = other;
    if (b == 0 || a == 0) {
        *into = a | b;
        return true;
    }
    unsigned haps_a = 0, haps_b = 0;
    for (int base = 0; base < 4; base++) {
        haps_a |= call_mask(a, base);
        haps_b |= call_mask(b, base);
    }
    unsigned ploidy = call_ploidy(a) > call_ploidy(b) ? call_ploidy(a) : call_ploidy(b);
    unsigned copies = call_copies(a) + call_copies(b), loose = (a >> 12 & 15) + (b >> 12 & 15);
    if ((haps_a & haps_b) || (copies > ploidy && ploidy < 15))
        return false;
    call c = ((a | b) & CALL_CARRIES) | (loose < 15 ? loose : 15) << 12 | ploidy << 16 |
             ((a | b) & (CALL_UNKNOWN | CALL_OTHER | CALL_LOCAL)) | (a & b & CALL_MISSING);
    /* 1/. and ./1 of two lines are both halves of 1/2 */
    if (copies == ploidy)
        c &= ~(CALL_UNKNOWN | CALL_OTHER);
    *into = c;
    return true;
}
