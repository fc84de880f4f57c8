/* Each haplotype of a person against every training haplotype of the class over the whole stretch:
 * a site differs with probability PANEL_MISMATCH, the likelihood is the mean over training
 * haplotypes, which the nearest make, and the log-likelihoods of a person's two are added. Phased
 * people only.
 */
#include "runtime/train/baseline_unit.h"

#include <math.h>
#include <stdlib.h>

/* distance (rows): called sites of the stretch at which the training haplotypes differ from hap. */
static void count_mismatches(const bit_rows *rows, const uint64_t *hap, const uint64_t *called,
                             int64_t w0, int64_t w1, double *distance)
{
    for (int64_t i = 0; i < rows->rows; i++) {
        const uint64_t *row = rows->carried + i * rows->words;
        const uint64_t *holes = rows->uncalled ? rows->uncalled + i * rows->words : NULL;
        int64_t d = 0;
        for (int64_t w = w0; w <= w1; w++)
            d += __builtin_popcountll((row[w] ^ hap[w]) & called[w] & ~(holes ? holes[w] : 0));
        distance[i] = (double)d;
    }
}

/* bits: 3 * words of room; room (rows). */
static double score_stretch(const unit *u, const stretch *s, const bit_rows *rows, uint64_t *bits,
                            double *room)
{
    const double step = log((1 - PANEL_MISMATCH) / PANEL_MISMATCH);
    const int64_t words = rows->words;
    uint64_t *hap[2] = {bits, bits + words}, *called = bits + 2 * words;
    const int64_t from = s->first_site - u->first_site, to = s->last_site - u->first_site;
    const int64_t w0 = from >> 6, w1 = to >> 6;
    unit_stretch_bits(u, s, hap[0], hap[1], called);
    int64_t n = 0;
    for (int64_t w = w0; w <= w1; w++) {
        called[w] = ~called[w];
        if (w == w0)
            called[w] &= ~(uint64_t)0 << (from & 63);
        if (w == w1)
            called[w] &= ~(uint64_t)0 >> (63 - (to & 63));
        n += __builtin_popcountll(called[w]);
    }
    double sum = 0;
    for (int h = 0; h < (s->hap ? 1 : 2); h++) {
        count_mismatches(rows, hap[h], called, w0, w1, room);
        for (int64_t i = 0; i < rows->rows; i++)
            room[i] *= -step;
        sum += (double)n * log1p(-PANEL_MISMATCH) + log_sum_exp(room, rows->rows) -
               log((double)rows->rows);
    }
    return sum;
}

status haplotype_unit(const unit *u)
{
    const int64_t words = unit_words(u);
    uint64_t *bits = malloc((size_t)(3 * words + 1) * sizeof *bits);
    double *room = malloc((size_t)(2 * u->p->d->n_people + 1) * sizeof *room);
    status st = bits && room ? STATUS_OK
                             : fail(STATUS_MEMORY,
                                    "haplotype: no memory for %lld sites; leave it "
                                    "out of --baselines",
                                    (long long)words * 64);
    for (int label = 0; label < u->p->classes && st == STATUS_OK; label++) {
        bit_rows rows = {0};
        st = unit_class_rows(u, label, &rows);
        for (int64_t i = 0; i < u->n && st == STATUS_OK; i++)
            u->loglik[i * u->p->classes + label] = score_stretch(u, &u->at[i], &rows, bits, room);
        bit_rows_free(&rows);
    }
    free(bits);
    free(room);
    return st;
}
