/* Sequences drawn from a class-conditional site head. A site is carried where a uniform number of
 * its own, a pure function of (seed, key of the sequence, site), lies below the probability that
 * the model gives it after the sites before: ancestral sampling, of which all that follows is fixed
 * by the seed.
 *
 * A forward pass answers for many sites at once if it is told what is carried among them. So what
 * is carried ahead is guessed, the pass is made, and everything up to the first site at which the
 * answer is not the guess holds: there the guesses before it were right. The answers behind it are
 * the next guesses. The result is that of one site at a time, in a fraction of the passes.
 *
 * Within a block (no gap above data.max_gap) a window grows from the block's first carried site.
 * Once it holds `context` tokens its first half is dropped, and it goes on as a window that begins
 * with the token that is first then. A site's probability is therefore that of a window of the
 * training length, of which at least half lies before it (less near a block's beginning). */
#ifndef CROCUTA_TRAIN_SAMPLER_H
#define CROCUTA_TRAIN_SAMPLER_H

#include "io/dataset.h"
#include "model/model.h"

typedef struct sampler sampler;

/* One sequence over one block of sites. */
typedef struct {
    int32_t label;      /* class of the model */
    uint64_t key;       /* which person and haplotype of the label: < 2^40 */
    int64_t first, end; /* sites of the block */
    uint8_t *base;      /* (end - first) written: 0 absent, 1 + base that is carried */
    double nll;         /* written: -log p, nats, of the sites from the first carried to the last */
    int64_t judged;     /* how many these are */
    int64_t carried;    /* carried ones among them */
} sampled;

typedef struct {
    int64_t context; /* tokens that the model sees at most, 4 or more */
    int64_t room;    /* sequences a forward pass */
    int64_t ahead;   /* sites that are guessed ahead, 1 or more: only the time depends on it */
    uint64_t seed;
} sampler_options;

/* A model with a site head and its rows placed (model_sites_place), and the sites that it knows.
 * Both must outlive the sampler; the model is prepared anew. */
status sampler_open(model *m, const dataset *d, const sampler_options *o, sampler **out);
void sampler_close(sampler **s);

/* Draws n sequences; longer blocks first in the array keep passes full. Which sequences are drawn
 * in one call moves roundings, and so may move a draw in ten million. */
status sampler_run(sampler *s, sampled *list, int64_t n);

/* Forward passes, and sequences in them, so far. */
void sampler_effort(const sampler *s, int64_t *passes, int64_t *sequences);

#endif
