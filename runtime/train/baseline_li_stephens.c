/* Haploid Li-Stephens forward likelihood (Li and Stephens 2003, "Modeling linkage disequilibrium
 * and identifying recombination hotspots"): a haplotype is copied from the training haplotypes of
 * the class, jumps to a random one with probability LI_STEPHENS_JUMP a site, and differs from what
 * it copies with probability PANEL_MISMATCH. Restarted at each stretch; the log-likelihoods of a
 * person's two haplotypes are added. Phased people only.
 *
 * The panel lies by site, one byte a haplotype, so that a step is one pass over neighbours; fp32,
 * scaled where the sum gets small. Sites of the unit times haplotypes of the class bytes. */
#include "runtime/train/baseline_unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LANES 32 /* partial sums: enough to hide the latency of an addition */
/* Jumps keep every state above this sum times jump, mismatch and 1 / haplotypes. */
#define SMALL 1e-18F
#define ABSENT 0
#define CARRIED 1
#define UNCALLED 2 /* of a training haplotype: agrees with everybody */
#define NEVER 3    /* the judged person has no call: nothing differs */

typedef struct {
    int64_t rows, stride; /* stride: rows, rounded up to whole lanes */
    uint8_t *allele;      /* (sites, stride), UNCALLED beyond the rows */
    float *state;         /* (stride), 0 beyond the rows */
    const float *inside;  /* (stride) 1 for a row, 0 beyond */
} site_panel;

/* One site: state = (stay * state + arrive) times the emission relative to a match. `differs` is
 * the allele that does not match. Returns the sum of the states. */
static float step(const site_panel *p, const uint8_t *allele, uint8_t differs, float arrive)
{
    const float stay = 1 - (float)LI_STEPHENS_JUMP,
                odds = (float)(PANEL_MISMATCH / (1 - PANEL_MISMATCH));
    float sum[LANES] = {0}, *restrict state = p->state;
    const float *restrict inside = p->inside;
    for (int64_t i = 0; i < p->stride; i += LANES)
        for (int64_t k = 0; k < LANES; k++) {
            const float moved = stay * state[i + k] + arrive * inside[i + k];
            const float seen = allele[i + k] == differs ? odds * moved : moved;
            state[i + k] = seen;
            sum[k] += seen;
        }
    float total = 0;
    for (int k = 0; k < LANES; k++)
        total += sum[k];
    return total;
}

static double forward(const site_panel *p, const uint64_t *hap, const uint64_t *uncalled,
                      int64_t from, int64_t to)
{
    double log_scale = 0;
    float total = 1;
    int64_t called = 0;
    for (int64_t i = 0; i < p->rows; i++)
        p->state[i] = 1 / (float)p->rows;
    for (int64_t s = from; s <= to; s++) {
        const bool carried = bit_at(hap, s), known = carried || !bit_at(uncalled, s);
        const uint8_t differs = !known ? NEVER : carried ? ABSENT : CARRIED;
        called += known;
        total = step(p, p->allele + s * p->stride, differs,
                     (float)LI_STEPHENS_JUMP * total / (float)p->rows);
        if (total < SMALL) {
            for (int64_t i = 0; i < p->rows; i++)
                p->state[i] /= total;
            log_scale += log((double)total);
            total = 1;
        }
    }
    return log_scale + log((double)total) + (double)called * log1p(-PANEL_MISMATCH);
}

static status site_panel_open(site_panel *p, const bit_rows *rows, int64_t sites)
{
    const int64_t stride = (rows->rows + LANES - 1) / LANES * LANES;
    *p = (site_panel){.rows = rows->rows, .stride = stride};
    p->allele = malloc((size_t)(sites * stride) + 1);
    p->state = calloc((size_t)(2 * stride) + 1, sizeof *p->state);
    if (!p->allele || !p->state)
        return fail(STATUS_MEMORY,
                    "li-stephens: no memory for %lld haplotypes at %lld sites; leave "
                    "it out of --baselines",
                    (long long)rows->rows, (long long)sites);
    float *inside = p->state + stride;
    for (int64_t i = 0; i < rows->rows; i++)
        inside[i] = 1;
    p->inside = inside;
    memset(p->allele, UNCALLED, (size_t)(sites * stride));
    for (int64_t i = 0; i < rows->rows; i++) {
        const uint64_t *row = rows->carried + i * rows->words;
        const uint64_t *holes = rows->uncalled ? rows->uncalled + i * rows->words : NULL;
        for (int64_t s = 0; s < sites; s++)
            p->allele[s * stride + i] = holes && bit_at(holes, s) ? UNCALLED
                                        : bit_at(row, s)          ? CARRIED
                                                                  : ABSENT;
    }
    return STATUS_OK;
}

static void score_class(const unit *u, int label, const site_panel *p, uint64_t *bits)
{
    const int64_t words = unit_words(u);
    uint64_t *hap[2] = {bits, bits + words}, *uncalled = bits + 2 * words;
    for (int64_t i = 0; i < u->n; i++) {
        const stretch *s = &u->at[i];
        double sum = 0;
        unit_stretch_bits(u, s, hap[0], hap[1], uncalled);
        for (int h = 0; h < (s->hap ? 1 : 2); h++)
            sum += forward(p, hap[h], uncalled, s->first_site - u->first_site,
                           s->last_site - u->first_site);
        u->loglik[i * u->p->classes + label] = sum;
    }
}

status li_stephens_unit(const unit *u)
{
    const int64_t words = unit_words(u);
    uint64_t *bits = malloc((size_t)(3 * words + 1) * sizeof *bits);
    status st = bits ? STATUS_OK
                     : fail(STATUS_MEMORY,
                            "li-stephens: no memory for %lld sites; leave it out of "
                            "--baselines",
                            (long long)words * 64);
    for (int label = 0; label < u->p->classes && st == STATUS_OK; label++) {
        bit_rows rows = {0};
        site_panel p = {0};
        st = unit_class_rows(u, label, &rows);
        if (st == STATUS_OK)
            st = site_panel_open(&p, &rows, u->end_site - u->first_site);
        if (st == STATUS_OK)
            score_class(u, label, &p, bits);
        free(p.allele);
        free(p.state);
        bit_rows_free(&rows);
    }
    free(bits);
    return st;
}
