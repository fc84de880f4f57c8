/* Philox4x32-10 and what is drawn from it. */
#include "runtime/core/rng.h"

#include <math.h>

void rng_words(uint64_t seed, rng_purpose purpose, uint64_t a, uint32_t b, uint32_t c,
               uint32_t out[4])
{
    uint32_t x0 = (uint32_t)a, x1 = (uint32_t)(a >> 32), x2 = b, x3 = c;
    /* The purpose goes into the key, so that streams of two purposes never meet. */
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32) ^ ((uint32_t)purpose * 0x9E3779B9u);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
        uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0, y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)p1;
        x3 = (uint32_t)p0;
        x0 = y0;
        x2 = y2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

rng rng_at(uint64_t seed, rng_purpose purpose, uint64_t a, uint32_t b)
{
    return (rng){.seed = seed, .a = a, .purpose = (uint32_t)purpose, .b = b};
}

uint32_t rng_u32(rng *r)
{
    if (r->left == 0) {
        rng_words(r->seed, (rng_purpose)r->purpose, r->a, r->b, r->c++, r->words);
        r->left = 4;
    }
    return r->words[4 - r->left--];
}

uint64_t rng_below(rng *r, uint64_t n)
{
    /* Rejection: numbers beyond the last whole multiple of n would favour small results. */
    uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    for (;;) {
        uint64_t hi = rng_u32(r), x = hi << 32 | rng_u32(r);
        if (x < limit)
            return x % n;
    }
}

double rng_uniform(rng *r)
{
    uint64_t hi = rng_u32(r), x = hi << 32 | rng_u32(r);
    return (double)(x >> 11) * 0x1.0p-53;
}

double rng_normal(rng *r)
{
    double u = 1.0 - rng_uniform(r), v = rng_uniform(r); /* u in (0, 1] */
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}
