/* Baselines that know linkage: a site n-gram, the nearest pair of training haplotypes (both judge
 * unphased people), the nearest haplotype and Li-Stephens (phased people only). A window is cut
 * into stretches of 128 carried sites and its log-likelihood is the sum over them; a stretch that
 * several windows or contexts share is judged once. Missing calls of the judged person are neither
 * carried nor absent: their sites say nothing. */
#ifndef CROCUTA_TRAIN_BASELINE_PANEL_H
#define CROCUTA_TRAIN_BASELINE_PANEL_H

#include "comm/comm.h"
#include "runtime/train/baseline.h"
#include "runtime/train/window_set.h"

#define STRETCH_ENTRIES                                                                            \
    128 /* carried sites of a stretch; the last one of a window may be shorter */

typedef struct panel panel;

/* Training people of `d` by label. Windows are of unions or of haplotypes, as `alleles` says. Keeps
 * a pointer to d; what has been judged is kept for the next set of windows. */
status panel_open(const dataset *d, alleles_kind alleles, uint64_t seed, int threads, panel **out);
void panel_close(panel **p);

/* Can this method judge these people? STATUS_DATA, in one line, where it needs phase that training
 * people or people of the split do not have, or whole people where windows are haplotypes. */
status panel_check(const panel *p, baseline_kind kind, split_kind split);

/* loglik (n, classes): log p(sites of the window's stretches | class), in nats, not normalised over
 * classes: what another method's log-likelihood can be added to. Collective: stretches of a block
 * are divided over the ranks of c; every rank gets the same bits, for any number of ranks and
 * threads. w may come from another dataset than the panel's, with the same sites. */
status panel_scores(panel *p, comm *c, baseline_kind kind, const window_set *w, double *loglik);

/* logp (n, classes) normalised, with equal prior weight of the classes: loglik / *temperature, the
 * temperature (of the least log loss) from the validation windows, 1 where there are none. */
status baseline_panel(panel *p, comm *c, baseline_kind kind, const window_set *valid,
                      const window_set *test, double *logp, double *temperature);

#endif
