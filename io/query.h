/* A query: genotypes of people whom nobody has labelled, brought onto the sites that a model knows.
 * Sites are matched by chromosome (whatever its spelling), position and alleles. What the query
 * does not tell is missing for everybody, what the model does not know is dropped; swapped alleles
 * are turned back. Everything is counted. */
#ifndef CROCUTA_IO_QUERY_H
#define CROCUTA_IO_QUERY_H

#include "io/dataset.h"

typedef struct {
    const char *const *files; /* parts of the same people */
    int64_t n_files;
    bool missing_to_ref; /* a site that the query does not tell is reference, not missing */
    bool force;          /* go on where flips or overlap forbid it */
} query_options;

typedef struct {
    char assembly[64];        /* that of the contig lengths, or "unknown" */
    int64_t records;          /* read, of any kind */
    int64_t model_sites;      /* on the chromosomes that the query tells */
    int64_t other_chromosome; /* sites of the model on chromosomes that the query does not tell */
    int64_t matched;          /* sites of the model that the query tells (flipped ones included) */
    int64_t absent;           /* of model_sites those that it does not tell */
    int64_t flipped;          /* of the matched ones: REF and ALT swapped; recoded */
    int64_t unknown_site;     /* sites of the query that the model does not know; dropped */
    int64_t clash;            /* at a site of the model with other alleles; dropped */
    int64_t clash_strand;     /* of these those that would match on the other strand */
    int64_t reference_only;   /* sites without an alternate that the model does not know; dropped */
    int64_t not_snv;          /* records that are no single bases; dropped */
    int64_t other_contig;     /* records on contigs and chromosomes that the model lacks; dropped */
    int64_t without_gt;       /* sites of the model without genotypes: as if they were not told */
    int64_t other_alleles;    /* calls of a base that the model does not know there: missing */
    int64_t missing_calls;    /* at matched sites, whole or in part, the former included */
    double overlap;           /* see query_open */
} query_report;

/* Collective; every rank reads and holds everybody. `panel` is a data set of which sites, labels
 * and identity are taken (its people are not looked at); the result has the same site table, labels
 * and identity, the chromosomes as the query spells them, and the query's people in its order:
 * without label, of the test split. It needs the panel no more.
 *
 * STATUS_DATA: another assembly (contig lengths, or a position behind a chromosome's end); nothing
 * in common; without `force`: more than 1 % of the matched sites flipped, or an overlap below one
 * half. Overlap is matched / model_sites; with missing_to_ref, where the query need not tell sites
 * without variation, the share of the query's own sites on those chromosomes that the model knows.
 * Below 80 % there is a warning. */
status query_open(const query_options *o, const dataset *panel, comm *c, dataset **out,
                  query_report *r);

#endif
