/* Class-conditional n-gram over carried sites: P_c(next carried site | the last m), m to 7, each
 * order backed off to the one below with half a count, order 0 being the naive Bayes chain (a
 * Bernoulli at every site from the last carried one to the next). Counted on children of random
 * pairs of training haplotypes of the class, on the training people themselves where they are
 * unphased, on their haplotypes where windows are haplotypes. Sites that nobody judged has a call
 * at are left out of both: contexts would never meet.
 *
 * One sort counts everything. Training and judged sequences of a unit stand in one array, each
 * after a separator; places are sorted by the 8 symbols that end there, latest first. Places whose
 * last m symbols agree are then neighbours, and the common prefix of neighbours bounds the groups
 * of every m at once: the count of a context of m and of the same with its next site are two group
 * sizes. 13 bytes a place and 32 more a judged one, for the sites of one unit at a time. */
#include "runtime/core/rng.h"
#include "runtime/train/baseline_unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SYMBOLS (NGRAM_ORDER + 1)
#define SEPARATOR 0 /* other symbols: site - first_site + 1 */

typedef struct {
    uint32_t *symbol; /* SYMBOLS separators before the first sequence */
    int64_t n, room;
    int64_t training; /* places before this one are of training sequences */
} sequences;

static status append(sequences *q, const uint64_t *bits, int64_t first, int64_t end)
{
    if (q->n + (end - first) + 1 > q->room) {
        const int64_t room = 2 * (q->n + (end - first) + 1);
        uint32_t *more = realloc(q->symbol, (size_t)room * sizeof *more);
        if (!more)
            return fail(STATUS_MEMORY,
                        "ngram: no memory for %lld carried sites; leave it out of --baselines",
                        (long long)room);
        q->symbol = more;
        q->room = room;
    }
    q->symbol[q->n++] = SEPARATOR;
    for (int64_t w = first >> 6; w <= (end - 1) >> 6; w++)
        for (uint64_t left = bits[w]; left; left &= left - 1)
            q->symbol[q->n++] = (uint32_t)(w * 64 + __builtin_ctzll(left)) + 1;
    return STATUS_OK;
}

/* The class's sequences; the draws of a block are the same in every unit of it. */
static status append_training(const unit *u, int label, const bit_rows *rows, sequences *q)
{
    const panel *p = u->p;
    const int64_t words = rows->words, sites = u->end_site - u->first_site;
    const bool single = p->alleles == ALLELES_HAPLOTYPE, mate = !single && p->phased;
    const int64_t n = single ? rows->rows : mate ? NGRAM_MATINGS : rows->rows / 2;
    uint64_t *child = malloc((size_t)(2 * words + 1) * sizeof *child);
    uint64_t *read = child ? child + words : NULL;
    status st = child ? STATUS_OK
                      : fail(STATUS_MEMORY,
                             "ngram: no memory for %lld sites; leave it out of "
                             "--baselines",
                             (long long)sites);
    for (int64_t w = 0; w < words && st == STATUS_OK; w++) {
        read[w] = ~(uint64_t)0;
        for (int64_t k = 0; u->read && k < 64 && w * 64 + k < sites; k++)
            if (!bit_at(u->read, u->first_site + w * 64 + k))
                read[w] &= ~((uint64_t)1 << k);
    }
    for (int64_t i = 0; i < n && st == STATUS_OK; i++) {
        int64_t a = single ? i : 2 * i, b = single ? i : 2 * i + 1;
        if (mate) {
            rng r = rng_at(p->seed, RNG_BASELINE, (uint64_t)1 << 32 | (uint64_t)u->block,
                           (uint32_t)(label * NGRAM_MATINGS + i));
            a = (int64_t)rng_below(&r, (uint64_t)rows->rows);
            b = (int64_t)rng_below(&r, (uint64_t)rows->rows - 1);
            b += b >= a;
        }
        for (int64_t w = 0; w < words; w++)
            child[w] = read[w] & (rows->carried[a * words + w] | rows->carried[b * words + w]);
        st = append(q, child, 0, sites);
    }
    q->training = q->n;
    free(child);
    return st;
}

/* Judged stretches after the training sequences; begin (n + 1): where each begins. */
static status append_judged(const unit *u, const uint64_t *carried, int64_t words, sequences *q,
                            int64_t *begin)
{
    for (int64_t i = 0; i < u->n; i++) {
        begin[i] = q->n + 1; /* after its separator */
        TRY(append(q, carried + i * words, u->at[i].first_site - u->first_site,
                   u->at[i].last_site + 1 - u->first_site));
    }
    begin[u->n] = q->n + 1;
    return STATUS_OK;
}

/* Places (n) by symbol[place], symbol[place - 1], ...: least significant first, stable. Places from
 * SYMBOLS on; other (n) and bucket (alphabet + 1) are room. Returns the sorted one of the two. */
static int32_t *sort_places(const uint32_t *symbol, int64_t n, int64_t alphabet, int32_t *at,
                            int32_t *other, int64_t *bucket)
{
    for (int64_t k = 0; k < n; k++)
        at[k] = (int32_t)(k + SYMBOLS);
    for (int back = NGRAM_ORDER; back >= 0; back--) {
        memset(bucket, 0, (size_t)(alphabet + 1) * sizeof *bucket);
        for (int64_t k = 0; k < n; k++)
            bucket[symbol[k + SYMBOLS - back] + 1]++;
        for (int64_t s = 0; s < alphabet; s++)
            bucket[s + 1] += bucket[s];
        for (int64_t k = 0; k < n; k++) {
            if (k + 24 < n)
                __builtin_prefetch(&symbol[at[k + 24] - back]);
            other[bucket[symbol[at[k] - back]]++] = at[k];
        }
        int32_t *swap = at;
        at = other;
        other = swap;
    }
    return at;
}

static int common(const uint32_t *symbol, int32_t a, int32_t b)
{
    int m = 0;
    while (m < SYMBOLS && symbol[a - m] == symbol[b - m])
        m++;
    return m;
}

/* count (judged places, SYMBOLS): training places whose last m + 1 symbols are those of the judged
 * place. Training places so far at the last border of each m, from the left and from the right;
 * the difference is the group. */
static void count_groups(const sequences *q, const int32_t *at, int64_t n, uint8_t *shared,
                         int32_t *count)
{
    int32_t border[SYMBOLS] = {0}, seen = 0;
    for (int64_t k = 0; k < n; k++) {
        shared[k] = k ? (uint8_t)common(q->symbol, at[k], at[k - 1]) : 0;
        for (int m = shared[k]; m < SYMBOLS; m++)
            border[m] = seen;
        if (at[k] < q->training)
            seen++;
        else
            memcpy(count + (at[k] - q->training) * SYMBOLS, border, sizeof border);
    }
    for (int m = 0; m < SYMBOLS; m++)
        border[m] = seen;
    for (int64_t k = n - 1; k >= 0; k--) {
        if (at[k] < q->training)
            seen--;
        else
            for (int m = 0; m < SYMBOLS; m++) {
                int32_t *c = count + (at[k] - q->training) * SYMBOLS + m;
                *c = border[m] - *c;
            }
        for (int m = shared[k]; m < SYMBOLS; m++)
            border[m] = seen;
    }
}

/* log f and log (1 - f) of the class's carriers at the unit's sites, smoothed as nb-absent's. */
static void chain_tables(const unit *u, int label, double *on, double *off)
{
    const site_counts *c = &u->p->counts;
    for (int32_t s = u->first_site; s < u->end_site; s++) {
        const int64_t cell = (int64_t)label * c->d->n_sites + s;
        int64_t called = c->sequences[label] - c->missing[cell];
        if (called < c->carriers[cell])
            called = c->carriers[cell];
        const double f = (c->carriers[cell] + 0.5) / ((double)called + 1);
        on[s - u->first_site] = log(f);
        off[s - u->first_site] = log1p(-f);
    }
}

/* symbol, count: of the stretch's n carried sites. */
static double stretch_score(const uint32_t *symbol, int64_t n, const int32_t *count,
                            const uint64_t *uncalled, const double *on, const double *off)
{
    double sum = n ? on[symbol[0] - 1] : 0;
    for (int64_t t = 1; t < n; t++) {
        double chain = on[symbol[t] - 1];
        for (int64_t s = symbol[t - 1]; s < (int64_t)symbol[t] - 1; s++)
            if (!bit_at(uncalled, s))
                chain += off[s];
        double p = exp(chain);
        for (int64_t m = 1; m <= NGRAM_ORDER && m <= t; m++)
            p = (count[t * SYMBOLS + m] + NGRAM_BACK_OFF * p) /
                (count[(t - 1) * SYMBOLS + m - 1] + NGRAM_BACK_OFF);
        sum += log(p);
    }
    return sum;
}

static status score_class(const unit *u, int label, const uint64_t *carried,
                          const uint64_t *uncalled)
{
    const int64_t words = unit_words(u), sites = u->end_site - u->first_site;
    sequences q = {0};
    bit_rows rows = {0};
    int64_t *begin = malloc((size_t)(u->n + 1) * sizeof *begin);
    int64_t *bucket = malloc((size_t)(sites + 2) * sizeof *bucket);
    double *on = malloc((size_t)(2 * sites + 1) * sizeof *on);
    int32_t *places = NULL, *count = NULL;
    uint8_t *shared = NULL;
    status st = begin && bucket && on ? STATUS_OK
                                      : fail(STATUS_MEMORY,
                                             "ngram: no memory for %lld sites; leave "
                                             "it out of --baselines",
                                             (long long)sites);
    if (st != STATUS_OK)
        goto done;
    TRY_GOTO(done, unit_class_rows(u, label, &rows));
    for (int m = 0; m < SYMBOLS; m++)
        TRY_GOTO(done, append(&q, (const uint64_t[]){0}, 0, 1)); /* separators */
    TRY_GOTO(done, append_training(u, label, &rows, &q));
    TRY_GOTO(done, append_judged(u, carried, words, &q, begin));
    const int64_t n = q.n - SYMBOLS;
    if (n > INT32_MAX - SYMBOLS) {
        st = fail(STATUS_MEMORY, "ngram: %lld carried sites at once; leave it out of --baselines",
                  (long long)n);
        goto done;
    }
    places = malloc((size_t)(2 * n + 1) * sizeof *places);
    shared = malloc((size_t)n + 1);
    count = malloc((size_t)((q.n - q.training) * SYMBOLS + 1) * sizeof *count);
    if (!places || !shared || !count) {
        st = fail(STATUS_MEMORY,
                  "ngram: no memory for %lld carried sites; leave it out of --baselines",
                  (long long)n);
        goto done;
    }
    const int32_t *sorted = sort_places(q.symbol, n, sites + 1, places, places + n, bucket);
    count_groups(&q, sorted, n, shared, count);
    chain_tables(u, label, on, on + sites);
    for (int64_t i = 0; i < u->n; i++)
        u->loglik[i * u->p->classes + label] = stretch_score(
            q.symbol + begin[i], begin[i + 1] - 1 - begin[i],
            count + (begin[i] - q.training) * SYMBOLS, uncalled + i * words, on, on + sites);

done:
    bit_rows_free(&rows);
    free(q.symbol);
    free(begin);
    free(bucket);
    free(on);
    free(places);
    free(shared);
    free(count);
    return st;
}

status ngram_unit(const unit *u)
{
    const int64_t words = unit_words(u);
    uint64_t *bits = calloc((size_t)(2 * u->n * words + words + 1), sizeof *bits);
    if (!bits)
        return fail(STATUS_MEMORY,
                    "ngram: no memory for %lld stretches; leave it out of --baselines",
                    (long long)u->n);
    uint64_t *uncalled = bits + u->n * words, *hap2 = uncalled + u->n * words;
    for (int64_t i = 0; i < u->n; i++) {
        const stretch *s = &u->at[i];
        const word_range r = stretch_words(u, s);
        uint64_t *row = bits + i * words;
        unit_stretch_bits(u, s, row, hap2, uncalled + i * words);
        for (int64_t w = r.from; w <= r.to; w++)
            row[w] |= hap2[w];
    }
    status st = STATUS_OK;
    for (int label = 0; label < u->p->classes && st == STATUS_OK; label++)
        st = score_class(u, label, bits, uncalled);
    free(bits);
    return st;
}
