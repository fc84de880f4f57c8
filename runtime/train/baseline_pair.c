/* Two training haplotypes of the class, each drawn alone and with replacement, explain what a
 * person carries: a site where either carries it should be carried, and is not with probability
 * PANEL_MISMATCH, and the other way round. The likelihood is the mean over pairs; only pairs within
 * REACH mismatches of the nearest count, as (1 / 99)^5 times all pairs is nothing beside it.
 *
 * Search: a haplotype's sites that the person does not carry are mismatches of every pair with it,
 * and so are carried sites that two haplotypes together are too few to cover. */
#include "runtime/train/baseline_unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REACH 4
#define SEEDS 4 /* haplotypes tried with everybody for a first bound */

/* One stretch against the haplotypes of a class. */
typedef struct {
    int64_t rows, words; /* words that the stretch touches */
    int64_t carried;     /* sites that the person carries */
    const uint64_t *target;
    uint64_t *row;  /* (rows, words) within the stretch and its called sites */
    int32_t *extra; /* (rows) sites that the person does not carry */
    int32_t *cover; /* (rows) sites that it shares */
    uint64_t *best_row;
    int32_t *best_extra, *best_cover; /* the same, candidates alone, by cover, most first */
    int32_t *start;                   /* room for counting covers */
    int64_t *pairs;                   /* by mismatches */
} matcher;

static inline int64_t distance(const matcher *m, const uint64_t *a, const uint64_t *b)
{
    int64_t d = 0;
    for (int64_t w = 0; w < m->words; w++)
        d += __builtin_popcountll((a[w] | b[w]) ^ m->target[w]);
    return d;
}

static void load_rows(matcher *m, const bit_rows *rows, int64_t w0, const uint64_t *called)
{
    for (int64_t i = 0; i < m->rows; i++) {
        uint64_t *to = m->row + i * m->words;
        const uint64_t *from = rows->carried + i * rows->words + w0;
        const uint64_t *holes = rows->uncalled ? rows->uncalled + i * rows->words + w0 : NULL;
        int32_t extra = 0, cover = 0;
        for (int64_t w = 0; w < m->words; w++) {
            /* Where the training haplotype has no call it agrees with everybody. */
            const uint64_t known = holes ? from[w] | (m->target[w] & holes[w]) : from[w];
            to[w] = known & called[w];
            extra += __builtin_popcountll(to[w] & ~m->target[w]);
            cover += __builtin_popcountll(to[w] & m->target[w]);
        }
        m->extra[i] = extra;
        m->cover[i] = cover;
    }
}

/* Mismatches of a good pair: the nearest single haplotypes, each with its best partner. */
static int64_t first_bound(const matcher *m)
{
    int64_t bound = INT64_MAX, tried[SEEDS];
    for (int k = 0; k < SEEDS; k++) {
        int64_t best = -1, best_alone = INT64_MAX;
        for (int64_t i = 0; i < m->rows; i++) {
            const int64_t alone = m->extra[i] + m->carried - m->cover[i];
            bool new = alone < best_alone;
            for (int j = 0; j < k; j++)
                new = new &&tried[j] != i;
            if (new) {
                best = i;
                best_alone = alone;
            }
        }
        tried[k] = best;
        for (int64_t j = 0; best >= 0 && j < m->rows; j++) {
            const int64_t d = distance(m, m->row + best * m->words, m->row + j * m->words);
            bound = d < bound ? d : bound;
        }
    }
    return bound;
}

/* Haplotypes that a pair within the limit may have, most covering first. Returns how many. */
static int64_t candidates(matcher *m, int64_t limit)
{
    int64_t n = 0;
    memset(m->start, 0, (size_t)(m->carried + 2) * sizeof *m->start);
    for (int64_t i = 0; i < m->rows; i++)
        if (m->extra[i] <= limit) {
            m->start[m->carried - m->cover[i] + 1]++;
            n++;
        }
    for (int64_t c = 0; c <= m->carried; c++)
        m->start[c + 1] += m->start[c];
    for (int64_t i = 0; i < m->rows; i++) {
        if (m->extra[i] > limit)
            continue;
        const int32_t to = m->start[m->carried - m->cover[i]]++;
        memcpy(m->best_row + to * m->words, m->row + i * m->words,
               (size_t)m->words * sizeof *m->row);
        m->best_extra[to] = m->extra[i];
        m->best_cover[to] = m->cover[i];
    }
    return n;
}

/* Ordered pairs by mismatches up to the nearest's + REACH into m->pairs; returns the nearest's. */
static int64_t count_pairs(matcher *m)
{
    int64_t best = first_bound(m), limit = best + REACH;
    memset(m->pairs, 0, (size_t)(limit + 1) * sizeof *m->pairs);
    const int64_t n = candidates(m, limit);
    for (int64_t i = 0; i < n; i++) {
        const uint64_t *a = m->best_row + i * m->words;
        const int64_t bare = m->carried - m->best_cover[i] + m->best_extra[i];
        for (int64_t j = i; j < n; j++) {
            if (bare - m->best_cover[j] > limit)
                break; /* and so for every later one */
            const int64_t d = distance(m, a, m->best_row + j * m->words);
            if (d > limit)
                continue;
            m->pairs[d] += i == j ? 1 : 2;
            if (d < best) {
                best = d;
                limit = best + REACH;
            }
        }
    }
    return best;
}

static double score(matcher *m, int64_t called)
{
    const double step = log((1 - PANEL_MISMATCH) / PANEL_MISMATCH);
    const int64_t best = count_pairs(m);
    double sum = 0;
    for (int64_t k = 0; k <= REACH; k++)
        sum += (double)m->pairs[best + k] * exp(-step * (double)k);
    return (double)called * log1p(-PANEL_MISMATCH) - step * (double)best +
           log(sum / ((double)m->rows * (double)m->rows));
}

static status matcher_open(matcher *m, int64_t rows, int64_t words)
{
    const size_t n = (size_t)rows;
    *m = (matcher){.rows = rows};
    m->row = malloc((2 * n * (size_t)words + 1) * sizeof *m->row);
    m->extra = malloc((4 * n + 1) * sizeof *m->extra);
    m->start = malloc((size_t)(words * 64 + 2) * sizeof *m->start);
    m->pairs = malloc((size_t)(words * 64 + REACH + 1) * sizeof *m->pairs);
    if (!m->row || !m->extra || !m->start || !m->pairs)
        return fail(STATUS_MEMORY,
                    "pair: no memory for %lld haplotypes; leave it out of "
                    "--baselines",
                    (long long)rows);
    m->best_row = m->row + n * (size_t)words;
    m->cover = m->extra + n;
    m->best_extra = m->cover + n;
    m->best_cover = m->best_extra + n;
    return STATUS_OK;
}

static void matcher_close(matcher *m)
{
    free(m->row);
    free(m->extra);
    free(m->start);
    free(m->pairs);
}

/* bits: 4 * words of room. */
static void score_stretch(const unit *u, const stretch *s, int label, const bit_rows *rows,
                          matcher *m, uint64_t *bits)
{
    const int64_t words = rows->words;
    uint64_t *target = bits, *hap2 = bits + words;
    uint64_t *uncalled = bits + 2 * words, *called = bits + 3 * words;
    const word_range r = stretch_words(u, s);
    unit_stretch_bits(u, s, target, hap2, uncalled);
    m->carried = 0;
    for (int64_t w = r.from; w <= r.to; w++) {
        target[w] |= hap2[w];
        m->carried += __builtin_popcountll(target[w]);
    }
    const int64_t n = stretch_called(u, s, target, uncalled, called);
    m->words = r.to - r.from + 1;
    m->target = target + r.from;
    load_rows(m, rows, r.from, called + r.from);
    u->loglik[(s - u->at) * u->p->classes + label] = score(m, n);
}

status pair_unit(const unit *u)
{
    const int64_t words = unit_words(u);
    uint64_t *bits = malloc((size_t)(4 * words + 1) * sizeof *bits);
    status st = bits ? STATUS_OK
                     : fail(STATUS_MEMORY,
                            "pair: no memory for %lld sites; leave it out of "
                            "--baselines",
                            (long long)words * 64);
    for (int label = 0; label < u->p->classes && st == STATUS_OK; label++) {
        bit_rows rows = {0};
        matcher m = {0};
        st = unit_class_rows(u, label, &rows);
        if (st == STATUS_OK)
            st = matcher_open(&m, rows.rows, words);
        for (int64_t i = 0; i < u->n && st == STATUS_OK; i++)
            score_stretch(u, &u->at[i], label, &rows, &m, bits);
        matcher_close(&m);
        bit_rows_free(&rows);
    }
    free(bits);
    return st;
}
