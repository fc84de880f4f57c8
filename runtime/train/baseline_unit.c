/* Rows of bits over a range of sites, of training people and of the person that is judged. */
#include "runtime/train/baseline_unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* First entry of a person's chromosome at a site or after it. */
static int64_t entry_from(const dataset *d, int64_t cell, int32_t first_site)
{
    int64_t low = d->run[cell], high = d->run[cell + 1];
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (d->entries[middle].site < first_site)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static inline void set_bit(uint64_t *bits, int64_t k)
{
    bits[k >> 6] |= (uint64_t)1 << (k & 63);
}

/* Sites [first, end) of one person into bits that begin at `origin`. mask 0, unphased, is both. */
static void carried_bits(const dataset *d, int64_t cell, int32_t first, int32_t end, int32_t origin,
                         uint64_t *hap1, uint64_t *hap2)
{
    for (int64_t k = entry_from(d, cell, first); k < d->run[cell + 1]; k++) {
        const entry e = d->entries[k];
        if (e.site >= end)
            break;
        if (e.mask != 2)
            set_bit(hap1, e.site - origin);
        if (e.mask != 1)
            set_bit(hap2, e.site - origin);
    }
}

static void uncalled_bits(const dataset *d, int64_t cell, int32_t first, int32_t end,
                          int32_t origin, uint64_t *uncalled)
{
    if (!d->missing_run_of)
        return;
    for (int64_t k = d->missing_run_of[cell]; k < d->missing_run_of[cell + 1]; k++) {
        const missing_run r = d->missing[k];
        const int64_t from = r.first > first ? r.first : first;
        const int64_t to = (int64_t)r.first + r.count < end ? (int64_t)r.first + r.count : end;
        for (int64_t s = from; s < to; s++)
            set_bit(uncalled, s - origin);
    }
}

status unit_class_rows(const unit *u, int label, bit_rows *out)
{
    const panel *p = u->p;
    const dataset *d = p->d;
    const int64_t people = p->begin[label + 1] - p->begin[label], words = unit_words(u);
    const size_t cells = (size_t)(2 * people * words);
    *out = (bit_rows){.rows = 2 * people, .words = words};
    out->carried = calloc(cells + 1, sizeof *out->carried);
    const bool missing = d->missing_run_of && d->missing_run_of[d->n_people * d->n_chromosomes] > 0;
    if (missing)
        out->uncalled = calloc(cells + 1, sizeof *out->uncalled);
    if (!out->carried || (missing && !out->uncalled)) {
        bit_rows_free(out);
        return fail(STATUS_MEMORY, "%s: no memory for %lld haplotypes; leave %s out of --baselines",
                    d->path, (long long)(2 * people), baseline_name(u->kind));
    }
    for (int64_t i = 0; i < people; i++) {
        const int64_t cell =
            (int64_t)p->person[p->begin[label] + i] * d->n_chromosomes + u->chromosome;
        uint64_t *row = out->carried + 2 * i * words;
        carried_bits(d, cell, u->first_site, u->end_site, u->first_site, row, row + words);
        if (!missing)
            continue;
        uint64_t *holes = out->uncalled + 2 * i * words;
        uncalled_bits(d, cell, u->first_site, u->end_site, u->first_site, holes);
        for (int64_t w = 0; w < words; w++) {
            /* Half of a genotype may be called: what is carried is known. */
            holes[words + w] = holes[w] & ~row[words + w];
            holes[w] &= ~row[w];
        }
    }
    return STATUS_OK;
}

void bit_rows_free(bit_rows *b)
{
    free(b->carried);
    free(b->uncalled);
    *b = (bit_rows){0};
}

void unit_stretch_bits(const unit *u, const stretch *s, uint64_t *hap1, uint64_t *hap2,
                       uint64_t *uncalled)
{
    const word_range r = stretch_words(u, s);
    const int64_t cell = (int64_t)s->person * u->d->n_chromosomes + s->chromosome;
    const size_t bytes = (size_t)(r.to - r.from + 1) * sizeof(uint64_t);
    memset(hap1 + r.from, 0, bytes);
    memset(hap2 + r.from, 0, bytes);
    memset(uncalled + r.from, 0, bytes);
    carried_bits(u->d, cell, s->first_site, s->last_site + 1, u->first_site, hap1, hap2);
    uncalled_bits(u->d, cell, s->first_site, s->last_site + 1, u->first_site, uncalled);
    if (s->hap == 1)
        memcpy(hap2 + r.from, hap1 + r.from, bytes);
    if (s->hap == 2)
        memcpy(hap1 + r.from, hap2 + r.from, bytes);
}

int64_t stretch_called(const unit *u, const stretch *s, const uint64_t *carried,
                       const uint64_t *uncalled, uint64_t *called)
{
    const word_range r = stretch_words(u, s);
    int64_t n = 0;
    for (int64_t w = r.from; w <= r.to; w++)
        called[w] = ~uncalled[w] | carried[w];
    called[r.from] &= ~(uint64_t)0 << ((s->first_site - u->first_site) & 63);
    called[r.to] &= ~(uint64_t)0 >> (63 - ((s->last_site - u->first_site) & 63));
    for (int64_t w = r.from; w <= r.to; w++)
        n += __builtin_popcountll(called[w]);
    return n;
}

void stretch_read_sites(const dataset *d, const stretch *s, uint64_t *read)
{
    const int64_t cell = (int64_t)s->person * d->n_chromosomes + s->chromosome;
    int64_t from = s->first_site;
    for (int64_t k = d->missing_run_of[cell]; k < d->missing_run_of[cell + 1]; k++) {
        const missing_run r = d->missing[k];
        for (; from < r.first && from <= s->last_site; from++)
            set_bit(read, from);
        if (from < (int64_t)r.first + r.count)
            from = (int64_t)r.first + r.count;
    }
    for (; from <= s->last_site; from++)
        set_bit(read, from);
    /* Half of a genotype may be called. */
    for (int64_t k = entry_from(d, cell, s->first_site);
         k < d->run[cell + 1] && d->entries[k].site <= s->last_site; k++)
        set_bit(read, d->entries[k].site);
}

double log_sum_exp(const double *x, int64_t n)
{
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, x[i]);
    if (!isfinite(largest))
        return largest;
    for (int64_t i = 0; i < n; i++)
        sum += exp(x[i] - largest);
    return largest + log(sum);
}
