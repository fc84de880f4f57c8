/* Draws from sequences: see sequence_draws.h. The index holds how many known bases stand before
 * every 4096th base, and depends on no length; starts are found by trying, each try uniform. */
#include "io/sequence_draws.h"

#include "runtime/core/rng.h"

#include <stdlib.h>

#define STEP ((int64_t)4096) /* bases between two entries of the index */
#define TRIES 10000

struct sequence_draws {
    const sequences *s;
    sequence_draws_how how;
    int64_t *before;               /* known bases before base STEP * k */
    uint8_t token[16], turned[16]; /* of a stored base, forward and complemented */
};

static bool is_known(uint8_t token)
{
    return token >= TOKEN_BASE_A && token <= TOKEN_BASE_T;
}

static void tokens_make(sequence_draws *x)
{
    for (int b = 0; b < 16; b++) {
        const int code = b & 7;
        uint8_t token = code < BASE_N    ? (uint8_t)(TOKEN_BASE_A + code)
                        : code == BASE_N ? TOKEN_N
                                         : TOKEN_UNKNOWN;
        if (b & BASE_MASKED && x->how.hide_masked && code < BASE_N)
            token = TOKEN_N;
        x->token[b] = token;
        x->turned[b] =
            is_known(token) ? (uint8_t)(TOKEN_BASE_A + TOKEN_BASE_T - token) : token; /* A-T C-G */
    }
}

/* Known bases among all those before `at`. */
static int64_t known_before(const sequence_draws *x, int64_t at)
{
    int64_t n = x->before[at / STEP];
    for (int64_t i = at / STEP * STEP; i < at; i++)
        n += is_known(x->token[sequences_base(x->s, i)]);
    return n;
}

static int64_t known_in(const sequence_draws *x, int64_t first, int64_t count)
{
    return known_before(x, first + count) - known_before(x, first);
}

static status index_make(sequence_draws *x)
{
    const int64_t bases = 2 * x->s->n_bytes, n = bases / STEP + 1;
    int64_t known = 0;
    x->before = malloc((size_t)n * sizeof *x->before);
    if (!x->before)
        return fail(STATUS_MEMORY, "%s: no memory for its index; use more memory", x->s->path);
    /* the half byte behind an odd sequence reads as A, and lies in no window */
    for (int64_t i = 0; i < bases; i++) {
        if (i % STEP == 0)
            x->before[i / STEP] = known;
        known += is_known(x->token[sequences_base(x->s, i)]);
    }
    if (bases % STEP == 0)
        x->before[n - 1] = known;
    return STATUS_OK;
}

status sequence_draws_open(const sequences *s, const sequence_draws_how *how, sequence_draws **out)
{
    sequence_draws *x = *out = calloc(1, sizeof *x);
    if (!x)
        return fail(STATUS_MEMORY, "%s: no memory for its index; use more memory", s->path);
    x->s = s;
    x->how = *how;
    tokens_make(x);
    status st = index_make(x);
    if (st == STATUS_OK && how->seq_len > sequence_draws_longest(x, SPLIT_TRAIN))
        st = fail(STATUS_DATA,
                  "%s: data.seq_len is %lld, the longest training sequence%s has %lld bases; lower "
                  "data.seq_len (or the stage's)",
                  s->path, (long long)how->seq_len, how->by_label ? " with a label" : "",
                  (long long)sequence_draws_longest(x, SPLIT_TRAIN));
    if (st != STATUS_OK)
        sequence_draws_close(out);
    return st;
}

void sequence_draws_close(sequence_draws **x)
{
    if (!*x)
        return;
    free((*x)->before);
    free(*x);
    *x = NULL;
}

static bool takes_part(const sequence_draws *x, const sequence *q, split_kind split)
{
    return q->split == split && (!x->how.by_label || q->label >= 0);
}

int64_t sequence_draws_longest(const sequence_draws *x, split_kind split)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < x->s->n; i++)
        if (takes_part(x, &x->s->list[i], split) && x->s->list[i].length > longest)
            longest = x->s->list[i].length;
    return longest;
}

/* Starts to try in a sequence: 0 where none can be allowed. A short sequence has one. */
static int64_t starts_of(const sequence_draws *x, const sequence *q, split_kind split,
                         int64_t length)
{
    const base_counts *b = &q->count;
    if (!takes_part(x, q, split) || 2 * (b->a + b->c + b->g + b->t) < length)
        return 0;
    return q->length > length ? q->length - length + 1 : 1;
}

/* A try: the sequence and the start, -1 where there is nothing to draw from. */
static base_window try_start(const sequence_draws *x, split_kind split, int64_t length, rng *r)
{
    const sequences *s = x->s;
    base_window w = {.sequence = -1};
    int64_t all = 0, starts;
    for (int64_t i = 0; i < s->n; i++)
        all += starts_of(x, &s->list[i], split, length);
    if (all == 0)
        return w;
    int64_t k = (int64_t)rng_below(r, (uint64_t)all);
    for (int64_t i = 0; i < s->n; i++, k -= starts) {
        starts = starts_of(x, &s->list[i], split, length);
        if (k < starts) {
            w.sequence = i;
            w.start = k;
            break;
        }
    }
    return w;
}

static bool label_has(const sequence_draws *x, int64_t label, split_kind split, int64_t length)
{
    for (int64_t i = 0; i < x->s->n; i++)
        if (x->s->list[i].label == label && starts_of(x, &x->s->list[i], split, length) > 0)
            return true;
    return false;
}

/* The label whose turn it is among those that have a window (turn -1: one by lot), -1: none. */
static int64_t pick_label(const sequence_draws *x, split_kind split, int64_t length, int64_t turn,
                          rng *r)
{
    int64_t labels = 0;
    for (int64_t l = 0; l < x->s->n_labels; l++)
        labels += label_has(x, l, split, length);
    if (labels == 0)
        return -1;
    int64_t k = turn < 0 ? (int64_t)rng_below(r, (uint64_t)labels) : turn % labels;
    for (int64_t l = 0; l < x->s->n_labels; l++)
        if (label_has(x, l, split, length) && k-- == 0)
            return l;
    return -1;
}

/* A label and one of its sequences, uniform. */
static base_window pick_sequence(const sequence_draws *x, split_kind split, int64_t length,
                                 int64_t turn, rng *r)
{
    const sequences *s = x->s;
    base_window w = {.sequence = -1};
    const int64_t label = pick_label(x, split, length, turn, r);
    int64_t mine = 0;
    for (int64_t i = 0; i < s->n && label >= 0; i++)
        if (s->list[i].label == label && starts_of(x, &s->list[i], split, length) > 0 &&
            rng_below(r, (uint64_t)++mine) == 0)
            w.sequence = i;
    return w;
}

static bool allowed(const sequence_draws *x, base_window *w, int64_t length)
{
    const sequence *q = &x->s->list[w->sequence];
    w->count = q->length - w->start < length ? q->length - w->start : length;
    return 2 * known_in(x, q->first + w->start, w->count) >= length;
}

/* By label: what is drawn first stays, and starts are tried within it. */
static base_window draw(const sequence_draws *x, split_kind split, int64_t length, int64_t turn,
                        rng *r)
{
    base_window w = {.sequence = -1};
    if (x->how.by_label)
        w = pick_sequence(x, split, length, turn, r);
    for (int i = 0; i < TRIES; i++) {
        if (!x->how.by_label)
            w = try_start(x, split, length, r);
        else if (w.sequence >= 0)
            w.start = (int64_t)rng_below(
                r, (uint64_t)starts_of(x, &x->s->list[w.sequence], split, length));
        if (w.sequence < 0 || allowed(x, &w, length))
            return w;
    }
    return (base_window){.sequence = -1};
}

base_window sequence_draws_train(const sequence_draws *x, int64_t step, int64_t slot,
                                 int64_t length)
{
    rng r = rng_at(x->how.seed, RNG_WINDOW, (uint64_t)step, (uint32_t)slot);
    base_window w = draw(x, SPLIT_TRAIN, length, step + slot, &r);
    w.reverse = x->how.reverse && rng_below(&r, 2) == 1;
    return w;
}

base_window sequence_draws_valid(const sequence_draws *x, int64_t i, int64_t length)
{
    rng r = rng_at(x->how.seed, RNG_VALID, (uint64_t)i, 0);
    return draw(x, SPLIT_VALID, length, -1, &r);
}

status sequence_draws_tile(const sequence_draws *x, split_kind split, int64_t length,
                           int64_t stride, base_window **out, int64_t *n)
{
    const sequences *s = x->s;
    int64_t room = 0, kept = 0;
    for (int64_t i = 0; i < s->n; i++)
        if (takes_part(x, &s->list[i], split) && s->list[i].length >= length)
            room += (s->list[i].length - length) / stride + 1;
    base_window *list = malloc(((size_t)room + 1) * sizeof *list);
    if (!list)
        return fail(STATUS_MEMORY, "%s: no memory for %lld windows; use longer ones", s->path,
                    (long long)room);
    for (int64_t i = 0; i < s->n; i++) {
        const sequence *q = &s->list[i];
        for (int64_t at = 0; takes_part(x, q, split) && at + length <= q->length; at += stride) {
            list[kept] = (base_window){.sequence = i, .start = at};
            kept += allowed(x, &list[kept], length);
        }
    }
    *out = list;
    *n = kept;
    return STATUS_OK;
}

void sequence_draws_fill(const sequence_draws *x, const base_window *w, uint8_t *ids)
{
    const int64_t first = x->s->list[w->sequence].first + w->start, n = w->count;
    for (int64_t i = 0; i < n; i++) {
        const unsigned base = sequences_base(x->s, first + i);
        if (w->reverse)
            ids[n - 1 - i] = x->turned[base];
        else
            ids[i] = x->token[base];
    }
}
