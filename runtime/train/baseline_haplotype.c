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
                             word_range r, double *distance)
{
    for (int64_t i = 0; i < rows->rows; i++) {
        const uint64_t *row = rows->carried + i * rows->words;
        const uint64_t *holes = rows->uncalled ? rows->uncalled + i * rows->words : NULL;
        int64_t d = 0;
        for (int64_t w = r.from; w <= r.to; w++)
            d += __builtin_popcountll((row[w] ^ hap[w]) & called[w] & ~(holes ? holes[w] : 0));
        distance[i] = (double)d;
    }
}

/* bits: 4 * words of room; room (rows). */
static double score_stretch(const unit *u, const stretch *s, const bit_rows *rows, uint64_t *bits,
                            double *room)
{
    const double step = log((1 - PANEL_MISMATCH) / PANEL_MISMATCH);
    const int64_t words = rows->words;
    uint64_t *hap[2] = {bits, bits + words};
    uint64_t *uncalled = bits + 2 * words, *called = bits + 3 * words;
    double sum = 0;
    unit_stretch_bits(u, s, hap[0], hap[1], uncalled);
    for (int h = 0; h < (s->hap ? 1 : 2); h++) {
        const int64_t n = stretch_called(u, s, hap[h], uncalled, called);
        count_mismatches(rows, hap[h], called, stretch_words(u, s), room);
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
    uint64_t *bits = malloc((size_t)(4 * words + 1) * sizeof *bits);
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
