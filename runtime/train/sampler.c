/* Ancestral sampling with guesses ahead: see sampler.h. */
#include "runtime/train/sampler.h"

#include "runtime/core/rng.h"
#include "runtime/train/feed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BIAS_SITES 4096 /* of one pass that reads the biases */

/* A sequence that is being drawn. */
typedef struct {
    sampled *to;
    int64_t at;     /* the first site that is not decided */
    int64_t until;  /* the last pass answers for sites [at, until) */
    int64_t count;  /* tokens of the window */
    int64_t first;  /* site of its first token: where the span of the last pass begins */
    uint8_t *ids;   /* (context) the window's tokens, then those that are guessed */
    int32_t *site;  /* (context) */
    double *u;      /* (sites of the block) */
    uint8_t *guess; /* (sites of the block) */
    double pending; /* -log p of the absent sites since the last token */
    int64_t n_pending;
    int64_t room; /* sites that u and guess hold */
} slot;

struct sampler {
    model *m;
    const dataset *d;
    sampler_options o;
    int64_t classes;
    float *bias; /* (sites, classes) log-odds of a site without anything before it */
    float *logits;
    int64_t logits_room; /* floats */
    feed f;
    slot *slots; /* (room) */
    int64_t passes, sequences;
};

static status no_memory(int64_t n)
{
    return fail(STATUS_MEMORY, "simulate: no memory for %lld sites; close other programs",
                (long long)n);
}

/* ---- probabilities ---- */

/* -log p of what was drawn, from the log-odds of carrying. */
static double surprise(double logit, bool carried)
{
    const double z = carried ? -logit : logit;
    return z > 0 ? z + log1p(exp(-z)) : log1p(exp(z));
}

static bool drawn_carried(double u, double logit)
{
    return u < 1 / (1 + exp(-logit));
}

/* Numbers of one site of one sequence: a uniform one in [0, 1) of 53 bits, and a word beside. */
static double number_at(const sampler *s, const sampled *q, int64_t at, uint32_t *beside)
{
    uint32_t w[4];
    rng_words(s->o.seed, RNG_SIMULATE, (uint64_t)q->label << 40 | q->key, (uint32_t)at, 0, w);
    if (beside)
        *beside = w[2];
    return (double)(((uint64_t)w[0] << 32 | w[1]) >> 11) * 0x1.0p-53;
}

/* Which alternate base: the head says that the site is carried and not by which. Each is as likely
 * as the other. */
static uint8_t base_at(const sampler *s, const sampled *q, int64_t at)
{
    const uint8_t alts = s->d->sites[at].alts;
    uint32_t word, n = 0, chosen;
    for (int b = 0; b < 4; b++)
        n += alts >> b & 1;
    number_at(s, q, at, &word);
    chosen = (uint32_t)((uint64_t)word * n >> 32);
    for (uint8_t b = 0; b < 4; b++)
        if (alts >> b & 1 && chosen-- == 0)
            return b;
    return 0; /* no site is without an alternate base */
}

/* ---- a window's tokens ---- */

static void token_put(const sampler *s, slot *x, int64_t n, int64_t at)
{
    x->ids[n] = (uint8_t)(TOKEN_A + base_at(s, x->to, at));
    x->site[n] = (int32_t)at;
}

/* Site `at` is decided. */
static void decide(const sampler *s, slot *x, int64_t at, double logit, bool carried)
{
    x->pending += surprise(logit, carried);
    x->n_pending++;
    x->to->base[at - x->to->first] = 0;
    x->at = at + 1;
    if (!carried)
        return;
    token_put(s, x, x->count, at);
    x->to->base[at - x->to->first] = (uint8_t)(1 + x->ids[x->count] - TOKEN_A);
    x->to->carried++;
    x->to->nll += x->pending;
    x->to->judged += x->n_pending;
    x->pending = 0;
    x->n_pending = 0;
    if (++x->count < s->o.context)
        return;
    const int64_t keep = s->o.context / 2, drop = x->count - keep;
    memmove(x->ids, x->ids + drop, (size_t)keep);
    memmove(x->site, x->site + drop, (size_t)keep * sizeof *x->site);
    x->count = keep;
}

static status slot_reserve(slot *x, int64_t n)
{
    if (n <= x->room)
        return STATUS_OK;
    free(x->u);
    free(x->guess);
    x->u = malloc((size_t)n * sizeof *x->u);
    x->guess = malloc((size_t)n);
    x->room = x->u && x->guess ? n : 0;
    return x->room ? STATUS_OK : no_memory(n);
}

/* Draws the block's first carried site, before which there is no state. *open: sites are left. */
static status slot_begin(const sampler *s, slot *x, sampled *to, bool *open)
{
    const int64_t n = to->end - to->first;
    TRY(slot_reserve(x, n));
    x->to = to;
    to->nll = 0;
    to->judged = to->carried = 0;
    x->count = 0;
    x->at = to->first;
    for (int64_t i = 0; i < n; i++) {
        x->u[i] = number_at(s, to, to->first + i, NULL);
        x->guess[i] =
            drawn_carried(x->u[i], (double)s->bias[(to->first + i) * s->classes + to->label]);
    }
    while (x->at < to->end && x->count == 0) {
        x->pending = 0; /* the span begins with the first carried site */
        x->n_pending = 0;
        const int64_t at = x->at;
        decide(s, x, at, (double)s->bias[at * s->classes + to->label], x->guess[at - to->first]);
    }
    *open = x->at < to->end;
    return STATUS_OK;
}

/* The window with the guesses behind it into sequence i of the feed. */
static status slot_feed(sampler *s, slot *x, int64_t i)
{
    const int64_t from = x->to->first;
    const int64_t most = x->at + s->o.ahead < x->to->end ? x->at + s->o.ahead : x->to->end;
    int64_t n = x->count, at = x->at;
    while (at < most && n < s->o.context) {
        if (x->guess[at - from])
            token_put(s, x, n++, at);
        at++;
    }
    x->until = at;
    x->first = x->site[0];
    int64_t c = 0;
    while (x->first >= s->d->chromosomes[c].site0 + s->d->chromosomes[c].sites)
        c++;
    const drawn seen = {.chromosome = (int32_t)c,
                        .label = x->to->label,
                        .count = n,
                        .ids = x->ids,
                        .site = x->site,
                        .first_site = x->first,
                        .end_site = x->until};
    return feed_put(&s->f, i, s->d, &seen, true);
}

/* Decides what the pass answers, up to the first guess that was wrong; z (sites of the span,
 * classes). */
static void slot_take(const sampler *s, slot *x, const float *z)
{
    const sampled *q = x->to;
    const int64_t until = x->until, first = x->first;
    bool held = true;
    for (int64_t at = x->at; at < until; at++) {
        const double logit = (double)z[(at - first) * s->classes + q->label];
        const bool carried = drawn_carried(x->u[at - q->first], logit);
        if (held)
            decide(s, x, at, logit, carried);
        held = held && carried == (x->guess[at - q->first] != 0);
        x->guess[at - q->first] = carried;
    }
}

/* ---- passes ---- */

static status logits_reserve(sampler *s, int64_t floats)
{
    if (floats <= s->logits_room)
        return STATUS_OK;
    free(s->logits);
    s->logits_room = floats + floats / 4;
    s->logits = malloc((size_t)s->logits_room * sizeof *s->logits);
    if (s->logits)
        return STATUS_OK;
    s->logits_room = 0;
    return no_memory(floats / s->classes);
}

static status pass(sampler *s, int64_t n)
{
    const batch b = feed_slice(&s->f, 0, n, true);
    TRY(logits_reserve(s, b.span.start[n] * s->classes));
    const model_outputs out = {.site_logits = s->logits};
    TRY(model_forward(s->m, &b, &out, NULL));
    s->passes++;
    s->sequences += n;
    for (int64_t i = 0; i < n; i++)
        slot_take(s, &s->slots[i], s->logits + b.span.start[i] * s->classes);
    return STATUS_OK;
}

static void slots_swap(slot *a, slot *b)
{
    const slot kept = *a;
    *a = *b;
    *b = kept;
}

status sampler_run(sampler *s, sampled *list, int64_t n)
{
    int64_t next = 0, active = 0;
    for (;;) {
        while (active < s->o.room && next < n) {
            bool open = false;
            TRY(slot_begin(s, &s->slots[active], &list[next++], &open));
            active += open;
        }
        if (active == 0)
            return STATUS_OK;
        for (int64_t i = 0; i < active; i++)
            TRY(slot_feed(s, &s->slots[i], i));
        TRY(pass(s, active));
        for (int64_t i = active - 1; i >= 0; i--)
            if (s->slots[i].at == s->slots[i].to->end)
                slots_swap(&s->slots[i], &s->slots[--active]);
    }
}

/* ---- opening ---- */

/* Log-odds of every site without a token before it: as of the first carried site of a window. */
static status biases_read(sampler *s)
{
    const int64_t n = s->d->n_sites;
    int32_t which[BIAS_SITES], token[BIAS_SITES];
    uint8_t carried[BIAS_SITES], id = TOKEN_A;
    s->bias = malloc((size_t)(n * s->classes + 1) * sizeof *s->bias);
    if (!s->bias)
        return no_memory(n);
    for (int64_t from = 0; from < n; from += BIAS_SITES) {
        const int64_t m = n - from < BIAS_SITES ? n - from : BIAS_SITES;
        const int64_t start[2] = {0, m};
        for (int64_t i = 0; i < m; i++) {
            which[i] = (int32_t)(from + i);
            token[i] = -1;
            carried[i] = 0;
        }
        const drawn one = {.count = 1,
                           .ids = &id,
                           .site = which,
                           .first_site = which[0],
                           .end_site = which[0] + 1};
        TRY(feed_put(&s->f, 0, s->d, &one, true));
        batch b = feed_slice(&s->f, 0, 1, true);
        b.span = (span_sites){start, which, token, carried};
        const model_outputs out = {.site_logits = s->bias + from * s->classes};
        const status st = model_forward(s->m, &b, &out, NULL);
        if (st != STATUS_OK)
            device_abandon(model_device(s->m)); /* it may read the arrays of this function */
        TRY(st);
    }
    return STATUS_OK;
}

static status slots_open(sampler *s)
{
    s->slots = calloc((size_t)s->o.room, sizeof *s->slots);
    if (!s->slots)
        return no_memory(s->o.room);
    for (int64_t i = 0; i < s->o.room; i++) {
        slot *x = &s->slots[i];
        x->ids = malloc((size_t)s->o.context);
        x->site = malloc((size_t)s->o.context * sizeof *x->site);
        if (!x->ids || !x->site)
            return no_memory(s->o.room * s->o.context);
    }
    return STATUS_OK;
}

status sampler_open(model *m, const dataset *d, const sampler_options *o, sampler **out)
{
    sampler *s = *out = calloc(1, sizeof *s);
    const batch_shape shape = {o->room, o->context, length_padded(o->context)};
    status st;
    if (!s)
        return no_memory(d->n_sites);
    s->m = m;
    s->d = d;
    s->o = *o;
    s->classes = model_site_head(m);
    TRY_GOTO(failed, slots_open(s));
    TRY_GOTO(failed, feed_open(o->room, o->context, true, &s->f));
    TRY_GOTO(failed, model_prepare(m, shape, KEEP_INPUT, false));
    TRY_GOTO(failed, biases_read(s));
    return STATUS_OK;

failed:
    sampler_close(out);
    return st;
}

void sampler_close(sampler **out)
{
    sampler *s = *out;
    if (!s)
        return;
    for (int64_t i = 0; s->slots && i < s->o.room; i++) {
        free(s->slots[i].ids);
        free(s->slots[i].site);
        free(s->slots[i].u);
        free(s->slots[i].guess);
    }
    free(s->slots);
    feed_close(&s->f);
    free(s->bias);
    free(s->logits);
    free(s);
    *out = NULL;
}

void sampler_effort(const sampler *s, int64_t *passes, int64_t *sequences)
{
    *passes = s->passes;
    *sequences = s->sequences;
}
