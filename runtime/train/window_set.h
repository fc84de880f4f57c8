/* The windows that every method of an evaluation is judged on: the same list, the same truth, for
 * the model and for each baseline, so that differences are paired. Windows come from io/draws;
 * nothing is drawn at random here. */
#ifndef CROCUTA_TRAIN_WINDOW_SET_H
#define CROCUTA_TRAIN_WINDOW_SET_H

#include "io/draws.h"

typedef struct {
    const dataset *d;
    const draws *x;
    int64_t context; /* carried sites a window */
    int64_t n;
    window *at;     /* (n) by person, haplotype, chromosome, place */
    int32_t *label; /* (n) class of the person, >= 0: people without a label are left out */
    int32_t *block; /* (n) block of sites that the window lies in */
    int32_t *first_site,
        *last_site; /* (n) first and last carried site, indices into the site table */
} window_set;

/* Non-overlapping windows (stride = context) or overlapping ones of the labelled people of one
 * split. */
status window_set_tile(const dataset *d, const draws *x, split_kind split, int64_t context,
                       int64_t stride, window_set *out);
/* The same of everybody, labelled or not (label -1), and from a list of windows: the set takes it
 * over, and frees it also where this fails. `context` is their length. */
status window_set_tile_all(const dataset *d, const draws *x, split_kind split, int64_t context,
                           window_set *out);
status window_set_from(const dataset *d, const draws *x, window *list, int64_t n, int64_t context,
                       window_set *out);
void window_set_free(window_set *w);

/* How windows of an evaluation are cut: alleles and gaps as `model` says (NULL: as the defaults
 * do), no training length asked for. */
status window_set_config(const config *model, config_data *out);

/* The distinct carried sites of window i, ascending: fills sites (context), returns how many. Two
 * alternate alleles of one person at one site are two tokens but one site. */
int64_t window_sites(const window_set *w, int64_t i, int32_t *sites);

/* Base pairs from the first to the last carried site, both counted. */
int64_t window_span_bp(const window_set *w, int64_t i);

/* How many different people and the median span; n 0 gives 0 and 0. */
int64_t window_set_people(const window_set *w);
double window_set_median_span_bp(const window_set *w);

#endif
