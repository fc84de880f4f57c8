/* Random numbers without history: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as
 * easy as 1, 2, 3"). A number is a pure function of (seed, purpose, a, b, c), so that a draw, a
 * dropout mask or an initial weight is the same on any rank, after any resume, in any order. */
#ifndef CROCUTA_CORE_RNG_H
#define CROCUTA_CORE_RNG_H

#include <stdint.h>

/* What a number is for: two purposes never share a stream. Values are stored nowhere; add at the
 * end. */
typedef enum {
    RNG_WEIGHTS = 1, /* a: parameter index, b: element */
    RNG_ROWS,        /* FPE rows by row number: a: row, b: element */
    RNG_WINDOW,      /* a: step, b: slot */
    RNG_VALID,       /* validation windows */
    RNG_DROPOUT,     /* a: step, b: element */
    RNG_SPLIT,       /* dealing people to splits and shards */
    RNG_BOOTSTRAP,
    RNG_MATING,
    RNG_BASELINE,
    RNG_TEST,
    RNG_ALTER,    /* changed people of an evaluation; a: site or person, b: site */
    RNG_SUBSET,   /* which training people take part */
    RNG_SIMULATE, /* a: label, person and haplotype, b: site */
} rng_purpose;

/* Four random words for the counter (a, b, c); c counts draws within one (a, b). */
void rng_words(uint64_t seed, rng_purpose purpose, uint64_t a, uint32_t b, uint32_t c,
               uint32_t out[4]);

/* A stream over c = 0, 1, 2 ... for code that needs several numbers for one (a, b). */
typedef struct {
    uint64_t seed, a;
    uint32_t purpose, b, c;
    int left;
    uint32_t words[4];
} rng;

rng rng_at(uint64_t seed, rng_purpose purpose, uint64_t a, uint32_t b);
uint32_t rng_u32(rng *r);
uint64_t rng_below(rng *r, uint64_t n); /* uniform in [0, n), n >= 1, without bias */
double rng_uniform(rng *r);             /* [0, 1), 53 bits */
double rng_normal(rng *r);              /* standard normal (Box-Muller) */

#endif
