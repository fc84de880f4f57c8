/* What the methods of baseline_panel.h share and nobody else needs: a unit of work is a range of
 * sites of one block with the stretches that lie in it, and training people as rows of bits over
 * those sites. Memory of a unit is bounded by its range, however long a block is. */
#ifndef CROCUTA_TRAIN_BASELINE_UNIT_H
#define CROCUTA_TRAIN_BASELINE_UNIT_H

#include "runtime/train/baseline_panel.h"

/* Sites after the first stretch's first at which stretches may begin; the unit ends with the last
 * of them. Long enough that what neighbouring units both read is little. */
#define UNIT_SITES 8192

#define NGRAM_ORDER 7          /* carried sites of the longest context */
#define NGRAM_MATINGS 2000     /* children of random pairs of haplotypes, a class and block */
#define NGRAM_BACK_OFF 0.5     /* counts that the order below is worth */
#define PANEL_MISMATCH 0.01    /* a site: pair, haplotype, li-stephens */
#define LI_STEPHENS_JUMP 0.005 /* a site */

typedef struct {
    int64_t first; /* entry of the sequence: with count, what tells stretches apart */
    int32_t count; /* entries */
    int32_t person, chromosome, hap;
    int32_t block, first_site, last_site;
} stretch;

struct panel {
    const dataset *d;
    alleles_kind alleles;
    uint64_t seed;
    int threads, classes;
    int64_t unit_sites; /* UNIT_SITES: no answer depends on it */
    bool phased;        /* no training person has an unphased heterozygote */
    int64_t *begin;     /* (classes + 1) into person */
    int32_t *person;    /* training people with a label, by label */
    site_counts counts;
    struct judged {
        const draws *x; /* whose windows these are of */
        int64_t n;
        stretch *at;    /* (n) by first, count */
        double *loglik; /* (n, classes) */
    } judged[BASELINE_KINDS];
};

typedef struct {
    const panel *p;
    const dataset *d; /* of the judged people */
    baseline_kind kind;
    int32_t chromosome, block;
    int32_t first_site, end_site; /* covers every stretch */
    int64_t n;
    const stretch *at; /* (n) by first site */
    double *loglik;    /* (n, classes) to be filled */
    const uint64_t
        *read; /* (n_sites bits) called in any of the stretches of all units; NULL: all */
} unit;

/* Rows of bits over the sites [first_site, end_site) of a unit, bit s - first_site. */
typedef struct {
    int64_t rows, words;
    uint64_t *carried;  /* (rows, words) */
    uint64_t *uncalled; /* (rows, words), NULL where the data set has no missing call */
} bit_rows;

/* Two rows, one a haplotype, for each training person of a class; an unphased heterozygote is on
 * both. */
status unit_class_rows(const unit *u, int label, bit_rows *out);
void bit_rows_free(bit_rows *b);

/* A judged stretch: both haplotypes (what is unphased on both) and the sites without a whole call;
 * the stretch's sites alone, with room for unit_words(u) words each. Where windows are of
 * haplotypes, both are the one that the window is of. */
void unit_stretch_bits(const unit *u, const stretch *s, uint64_t *hap1, uint64_t *hap2,
                       uint64_t *uncalled);

/* The words that a stretch touches: from .. to, both counted. */
typedef struct {
    int64_t from, to;
} word_range;
static inline word_range stretch_words(const unit *u, const stretch *s)
{
    return (word_range){(s->first_site - u->first_site) / 64, (s->last_site - u->first_site) / 64};
}

/* Sites of the stretch at which `carried` is known: called, or carried by half a genotype. Returns
 * how many. */
int64_t stretch_called(const unit *u, const stretch *s, const uint64_t *carried,
                       const uint64_t *uncalled, uint64_t *called);

/* Marks the sites of a stretch that its person has a call at. read (n_sites bits). */
void stretch_read_sites(const dataset *d, const stretch *s, uint64_t *read);

static inline int64_t unit_words(const unit *u)
{
    return ((int64_t)u->end_site - u->first_site + 63) / 64;
}

static inline bool bit_at(const uint64_t *bits, int64_t k)
{
    return bits[k >> 6] >> (k & 63) & 1;
}

/* log sum exp of n numbers; -INFINITY without any. */
double log_sum_exp(const double *x, int64_t n);

/* The methods. Each fills u->loglik; pure functions of the unit. */
status ngram_unit(const unit *u);
status pair_unit(const unit *u);
status haplotype_unit(const unit *u);
status li_stephens_unit(const unit *u);

#endif
