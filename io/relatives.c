/* Kinship over bit planes: see relatives.h. The pair loop is the only part that costs time (n^2 / 2
 * pairs); threads and ranks share its rows. */
#include "io/relatives.h"

#include "runtime/core/rng.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define JACKKNIFE 64 /* stretches of sites */
#define SAMPLE 256   /* pairs whose error is taken for typical */

status genotype_bits_open(genotype_bits *g, int64_t n_people, int64_t n_sites)
{
    memset(g, 0, sizeof *g);
    g->n_people = n_people;
    g->n_sites = n_sites;
    g->words = (n_sites + 63) / 64;
    size_t count = (size_t)n_people * (size_t)g->words + 1;
    g->het = calloc(count, sizeof *g->het);
    g->hom = calloc(count, sizeof *g->hom);
    g->missing = calloc(count, sizeof *g->missing);
    if (g->het && g->hom && g->missing)
        return STATUS_OK;
    genotype_bits_close(g);
    return fail(STATUS_MEMORY,
                "relatives: no memory for the genotypes of %lld people at %lld sites; "
                "use a machine with more memory",
                (long long)n_people, (long long)n_sites);
}

void genotype_bits_close(genotype_bits *g)
{
    free(g->het);
    free(g->hom);
    free(g->missing);
    free(g->by_name);
    memset(g, 0, sizeof *g);
}

/* What the estimate is made of, over some words of the planes. */
typedef struct {
    int64_t square, het_i, het_j; /* sum of (g_i - g_j)^2; heterozygous sites of each */
} tally;

static tally tally_words(const genotype_bits *g, int64_t i, int64_t j, int64_t first, int64_t last)
{
    const uint64_t *het_i = g->het + i * g->words, *het_j = g->het + j * g->words;
    const uint64_t *hom_i = g->hom + i * g->words, *hom_j = g->hom + j * g->words;
    const uint64_t *no_i = g->missing + i * g->words, *no_j = g->missing + j * g->words;
    int64_t both = 0, opposite = 0, n_i = 0, n_j = 0;
    for (int64_t w = first; w < last; w++) {
        uint64_t called = ~(no_i[w] | no_j[w]);
        uint64_t ref_i = ~(het_i[w] | hom_i[w]), ref_j = ~(het_j[w] | hom_j[w]);
        both += __builtin_popcountll(het_i[w] & het_j[w] & called);
        opposite += __builtin_popcountll(((hom_i[w] & ref_j) | (ref_i & hom_j[w])) & called);
        n_i += __builtin_popcountll(het_i[w] & called);
        n_j += __builtin_popcountll(het_j[w] & called);
    }
    /* the difference is 1 where exactly one is het and 2 at opposite homozygotes */
    return (tally){n_i + n_j - 2 * both + 4 * opposite, n_i, n_j};
}

static int64_t least_hets(tally t)
{
    return t.het_i < t.het_j ? t.het_i : t.het_j;
}

static double kinship_of(tally t)
{
    int64_t hets = least_hets(t);
    return hets > 0 ? 0.5 - 0.25 * (double)t.square / (double)hets : 0;
}

double relatives_kinship(const genotype_bits *g, int64_t i, int64_t j, int64_t *hets)
{
    tally t = tally_words(g, i, j, 0, g->words);
    if (hets)
        *hets = least_hets(t);
    return kinship_of(t);
}

double relatives_error(const genotype_bits *g, int64_t i, int64_t j)
{
    int64_t n = g->words < JACKKNIFE ? g->words : JACKKNIFE;
    if (n < 2)
        return 0;
    tally all = tally_words(g, i, j, 0, g->words);
    double without[JACKKNIFE], mean = 0, sum = 0;
    for (int64_t k = 0; k < n; k++) {
        tally t = tally_words(g, i, j, g->words * k / n, g->words * (k + 1) / n);
        without[k] =
            kinship_of((tally){all.square - t.square, all.het_i - t.het_i, all.het_j - t.het_j});
        mean += without[k] / (double)n;
    }
    for (int64_t k = 0; k < n; k++)
        sum += (without[k] - mean) * (without[k] - mean);
    return sqrt(sum * (double)(n - 1) / (double)n);
}

static int by_kinship(const void *a, const void *b)
{
    const related_pair *p = a, *q = b;
    return p->kinship < q->kinship ? 1 : p->kinship > q->kinship ? -1 : 0;
}

double relatives_typical_error(const genotype_bits *g)
{
    related_pair sample[SAMPLE];
    rng r = rng_at(0, RNG_SPLIT, 0, 0); /* the same pairs always: import and verify agree */
    int64_t n = 0;
    if (g->n_people < 2)
        return 0;
    for (; n < SAMPLE; n++) {
        int32_t i = (int32_t)rng_below(&r, (uint64_t)g->n_people);
        int32_t j = (int32_t)rng_below(&r, (uint64_t)g->n_people - 1);
        j += j >= i;
        if (g->by_name) { /* the sample must not depend on where a file keeps its people */
            i = g->by_name[i];
            j = g->by_name[j];
        }
        sample[n] = (related_pair){i, j, relatives_kinship(g, i, j, NULL)};
    }
    qsort(sample, (size_t)n, sizeof *sample, by_kinship);
    double sum = 0;
    for (int64_t k = 0; k < n / 2; k++)
        sum += relatives_error(g, sample[k].a, sample[k].b);
    return sum / (double)(n / 2);
}

bool relatives_related(const genotype_bits *g, int64_t i, int64_t j, double typical_error,
                       double *kinship)
{
    int64_t hets;
    *kinship = relatives_kinship(g, i, j, &hets);
    if (hets == 0 || *kinship <= RELATIVES_KINSHIP || *kinship <= 4 * typical_error ||
        *kinship <= 5 * 0.4 / sqrt((double)hets))
        return false;
    return *kinship > 4 * relatives_error(g, i, j); /* few pairs come this far */
}

status relatives_find(const genotype_bits *g, int64_t first, int64_t step, related_pair **out,
                      int64_t *n)
{
    related_pair *pairs = NULL;
    int64_t count = 0, room = 0;
    double typical_error = relatives_typical_error(g);
    *out = NULL;
    *n = 0;
    for (int64_t a = first; a < g->n_people; a += step) {
        for (int64_t b = a + 1; b < g->n_people; b++) {
            double kinship;
            if (!relatives_related(g, a, b, typical_error, &kinship))
                continue;
            if (count == room) {
                room = room ? 2 * room : 16;
                related_pair *more = realloc(pairs, (size_t)room * sizeof *pairs);
                if (!more) {
                    free(pairs);
                    return fail(STATUS_MEMORY,
                                "relatives: no memory for %lld related pairs; "
                                "use a machine with more memory",
                                (long long)room);
                }
                pairs = more;
            }
            pairs[count++] = (related_pair){(int32_t)a, (int32_t)b, kinship};
        }
    }
    *out = pairs;
    *n = count;
    return STATUS_OK;
}

bool relatives_autosome(const char *chromosome_name)
{
    const char *name =
        strncasecmp(chromosome_name, "chr", 3) == 0 ? chromosome_name + 3 : chromosome_name;
    static const char *const others[] = {"X", "Y", "XY", "M", "MT", "23", "24", "25", "26"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcasecmp(name, others[i]) == 0)
            return false;
    /* RefSeq accessions of GRCh37/38: NC_000023 is X, NC_000024 is Y, NC_012920 the mitochondrion
     */
    return strncasecmp(name, "NC_000023", 9) != 0 && strncasecmp(name, "NC_000024", 9) != 0 &&
           strncasecmp(name, "NC_012920", 9) != 0;
}

/* Index of each site among the chosen ones, -1: not looked at. */
static int64_t choose_sites(const dataset *d, int32_t *chosen)
{
    int64_t usable = 0;
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        const chromosome *k = &d->chromosomes[c];
        bool autosome = relatives_autosome(k->name);
        for (int64_t s = k->site0; s < k->site0 + k->sites; s++) {
            bool one_alt = d->sites[s].alts && !(d->sites[s].alts & (d->sites[s].alts - 1));
            chosen[s] = autosome && one_alt ? 0 : -1;
            usable += chosen[s] == 0;
        }
    }
    int64_t stride = (usable + RELATIVES_SITES - 1) / RELATIVES_SITES, seen = 0, n = 0;
    for (int64_t s = 0; s < d->n_sites; s++)
        if (chosen[s] == 0)
            chosen[s] = seen++ % stride == 0 ? (int32_t)n++ : -1;
    return n;
}

static int by_id(const void *a, const void *b, void *people)
{
    const individual *p = people;
    return strcmp(p[*(const int32_t *)a].id, p[*(const int32_t *)b].id);
}

/* Import looks at people in the order of names, a file keeps them by split and shard. */
static status names_sort(const dataset *d, genotype_bits *g)
{
    g->by_name = malloc(((size_t)d->n_people + 1) * sizeof *g->by_name);
    if (!g->by_name)
        return fail(STATUS_MEMORY, "%s: no memory for a table of people; use more memory", d->path);
    for (int32_t p = 0; p < d->n_people; p++)
        g->by_name[p] = p;
    qsort_r(g->by_name, (size_t)d->n_people, sizeof *g->by_name, by_id, (void *)d->people);
    return STATUS_OK;
}

status relatives_of_dataset(const dataset *d, genotype_bits *g)
{
    memset(g, 0, sizeof *g);
    int32_t *chosen = malloc(((size_t)d->n_sites + 1) * sizeof *chosen);
    if (!chosen)
        return fail(STATUS_MEMORY, "%s: no memory for a table of sites; use more memory", d->path);
    int64_t n = choose_sites(d, chosen);
    status st = genotype_bits_open(g, d->n_people, n);
    if (st == STATUS_OK)
        st = names_sort(d, g);
    if (st != STATUS_OK)
        goto done;
    for (int64_t p = 0; p < d->n_people; p++) {
        int64_t first = p * d->n_chromosomes, last = first + d->n_chromosomes;
        for (int64_t e = d->run[first]; e < d->run[last]; e++) {
            int32_t s = chosen[d->entries[e].site];
            if (s >= 0)
                genotype_bit_set(g, d->entries[e].mask == 3 ? g->hom : g->het, p, s);
        }
        for (int64_t r = d->missing_run_of[first]; r < d->missing_run_of[last]; r++)
            for (int64_t s = d->missing[r].first; s < d->missing[r].first + d->missing[r].count;
                 s++)
                if (chosen[s] >= 0)
                    genotype_bit_set(g, g->missing, p, chosen[s]);
    }
done:
    free(chosen);
    return st;
}
