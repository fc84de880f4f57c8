/* Draws: see draws.h. The index holds pieces and, for every pool of people (a shard's class), its
 * people by their longest piece: who can give a window of any length is then a prefix, found by
 * bisection, and no index depends on the length. */
#include "io/draws_state.h"

#include "runtime/core/rng.h"

#include <stdlib.h>
#include <string.h>

#define RANK_STEP 64 /* entries between two samples of a haplotype's rank */
#define TOKEN_A 7    /* A C G T are 7..10 in the vocabulary: docs/model.md */

/* ---- sequences ---- */

static inline bool on_haplotype(const entry *e, int hap)
{
    return hap == 0 || (e->mask >> (hap - 1) & 1);
}

/* Samples of how many entries of each haplotype stand before an entry. */
static status ranks_make(draws *x)
{
    const dataset *d = x->d;
    int64_t samples = d->n_entries / RANK_STEP + 1;
    for (int h = 0; h < 2; h++) {
        x->rank[h] = malloc((size_t)samples * sizeof *x->rank[h]);
        if (!x->rank[h])
            return fail(STATUS_MEMORY, "%s: no memory for its haplotypes; use more memory",
                        d->path);
    }
    for (int64_t e = 0; e < d->n_entries; e++) {
        if (e % RANK_STEP == 0) {
            x->rank[0][e / RANK_STEP] = x->carried[0];
            x->rank[1][e / RANK_STEP] = x->carried[1];
        }
        x->carried[0] += on_haplotype(&d->entries[e], 1);
        x->carried[1] += on_haplotype(&d->entries[e], 2);
    }
    if (d->n_entries % RANK_STEP == 0) {
        x->rank[0][samples - 1] = x->carried[0];
        x->rank[1][samples - 1] = x->carried[1];
    }
    return STATUS_OK;
}

int64_t draws_entry(const draws *x, int64_t i)
{
    if (!x->haplotypes)
        return i;
    int hap = i < x->carried[0] ? 1 : 2;
    int64_t rank = hap == 1 ? i : i - x->carried[0];
    const int64_t *sample = x->rank[hap - 1];
    int64_t low = 0,
            high = x->d->n_entries / RANK_STEP + 1; /* sample[low] <= rank < sample[high] */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        *(sample[middle] <= rank ? &low : &high) = middle;
    }
    int64_t e = low * RANK_STEP, left = rank - sample[low];
    while (!on_haplotype(&x->d->entries[e], hap) || left-- > 0)
        e++;
    return e;
}

void draws_fill(const draws *x, const window *w, uint8_t *ids, int32_t *position, int32_t *at_site)
{
    const dataset *d = x->d;
    if (w->count == 0)
        return;
    int64_t e = draws_entry(x, w->first);
    for (int64_t i = 0; i < w->count; e++) {
        const entry *k = &d->entries[e];
        if (!on_haplotype(k, w->hap))
            continue;
        if (ids)
            ids[i] = (uint8_t)(TOKEN_A + k->allele);
        if (position)
            position[i] = d->sites[k->site].position;
        if (at_site)
            at_site[i] = k->site;
        i++;
    }
}

/* ---- pieces ---- */

static status piece_add(draws *x, int64_t *room, piece p)
{
    if (x->n_pieces == *room) {
        *room = *room ? 2 * *room : 1024;
        piece *more = realloc(x->pieces, (size_t)*room * sizeof *more);
        if (!more)
            return fail(STATUS_MEMORY, "%s: no memory for its pieces; use more memory", x->d->path);
        x->pieces = more;
    }
    x->pieces[x->n_pieces++] = p;
    return STATUS_OK;
}

/* Pieces of one person, chromosome and haplotype; *next is the number of its next entry in the
 * sequence. */
static status pieces_of_run(draws *x, int64_t run, int hap, int64_t *next, int64_t *room)
{
    const dataset *d = x->d;
    piece p = {(int32_t)(run / d->n_chromosomes), (int32_t)(run % d->n_chromosomes), hap, *next, 0};
    int32_t block = -1;
    for (int64_t e = d->run[run]; e < d->run[run + 1]; e++) {
        if (!on_haplotype(&d->entries[e], hap))
            continue;
        int32_t here = d->block[d->entries[e].site];
        if (here != block && p.count > 0) {
            TRY(piece_add(x, room, p));
            p.first += p.count;
            p.count = 0;
        }
        block = here;
        p.count++;
    }
    if (p.count > 0)
        TRY(piece_add(x, room, p));
    *next = p.first + p.count;
    return STATUS_OK;
}

static status pieces_make(draws *x)
{
    const dataset *d = x->d;
    int64_t runs = d->n_people * d->n_chromosomes, room = 0;
    int64_t next[3] = {0, 0, x->carried[0]}; /* union, haplotype 1, haplotype 2 */
    x->piece_of = calloc((size_t)runs + 1, sizeof *x->piece_of);
    x->longest = calloc((size_t)d->n_people, sizeof *x->longest);
    if (!x->piece_of || !x->longest)
        return fail(STATUS_MEMORY, "%s: no memory for its pieces; use more memory", d->path);
    for (int64_t r = 0; r < runs; r++) {
        x->piece_of[r] = x->n_pieces;
        for (int hap = x->haplotypes; hap <= 2 * x->haplotypes; hap++)
            TRY(pieces_of_run(x, r, hap, &next[hap], &room));
    }
    x->piece_of[runs] = x->n_pieces;
    for (int64_t i = 0; i < x->n_pieces; i++) {
        int64_t *longest = &x->longest[x->pieces[i].person];
        if (x->pieces[i].count > *longest)
            *longest = x->pieces[i].count;
    }
    return STATUS_OK;
}

/* ---- pools ---- */

/* Classes by name: a person's superpopulation, else the label, else one class for all. */
static const char *class_name(const dataset *d, int64_t person)
{
    const individual *p = &d->people[person];
    return p->superpopulation[0] ? p->superpopulation : p->label >= 0 ? d->labels[p->label] : "";
}

typedef struct {
    int32_t person;
    int64_t group, longest; /* group: shard * classes + class */
    const char *class_name;
} member;

static int by_class(const void *a, const void *b)
{
    return strcmp(((const member *)a)->class_name, ((const member *)b)->class_name);
}

static int by_group(const void *a, const void *b)
{
    const member *m = a, *n = b;
    if (m->group != n->group)
        return m->group < n->group ? -1 : 1;
    if (m->longest != n->longest)
        return m->longest > n->longest ? -1 : 1;
    return m->person < n->person ? -1 : m->person > n->person;
}

static status pool_make(const draws *x, split_kind split, bool by_shard, pool *p)
{
    const dataset *d = x->d;
    int64_t n = 0, class_now = -1;
    member *m = calloc((size_t)d->n_people, sizeof *m);
    status st = STATUS_OK;
    if (!m) {
        st = fail(STATUS_MEMORY, "%s: no memory for its people; use more memory", d->path);
        goto done;
    }
    for (int64_t i = 0; i < d->n_people; i++)
        if (d->people[i].split == split)
            m[n++] = (member){(int32_t)i, 0, x->longest[i], class_name(d, i)};
    qsort(m, (size_t)n, sizeof *m, by_class);
    for (int64_t i = 0; i < n; i++) {
        class_now += i == 0 || strcmp(m[i].class_name, m[i - 1].class_name);
        m[i].group = class_now;
    }
    p->classes = class_now + 1;
    p->shards = by_shard ? d->n_shards : 1;
    for (int64_t i = 0; i < n && by_shard; i++)
        m[i].group += d->people[m[i].person].shard * p->classes;
    qsort(m, (size_t)n, sizeof *m, by_group);
    int64_t groups = p->shards * p->classes, at = 0;
    p->begin = calloc((size_t)groups + 1, sizeof *p->begin);
    p->person = calloc((size_t)n + 1, sizeof *p->person);
    if (!p->begin || !p->person) {
        st = fail(STATUS_MEMORY, "%s: no memory for its people; use more memory", d->path);
        goto done;
    }
    for (int64_t g = 0; g < groups; g++) {
        p->begin[g] = at;
        for (; at < n && m[at].group == g; at++)
            p->person[at] = m[at].person;
    }
    p->begin[groups] = n;
done:
    free(m);
    return st;
}

/* How many people of a group have a piece of at least `length`: a prefix of it. */
static int64_t fitting(const draws *x, const pool *p, int64_t group, int64_t length)
{
    int64_t low = p->begin[group], high = p->begin[group + 1];
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (x->longest[p->person[middle]] >= length)
            low = middle + 1;
        else
            high = middle;
    }
    return low - p->begin[group];
}

/* ---- one window ---- */

/* Starts that leave `length` entries, over the pieces of one person and chromosome. */
static int64_t starts_of(const draws *x, int64_t run, int64_t length)
{
    int64_t starts = 0;
    for (int64_t i = x->piece_of[run]; i < x->piece_of[run + 1]; i++)
        if (x->pieces[i].count >= length)
            starts += x->pieces[i].count - length + 1;
    return starts;
}

/* Chromosome, then start, of a person who has a piece that is long enough. */
static window window_of_person(const draws *x, int64_t person, int64_t length, rng *r)
{
    int64_t first = person * x->d->n_chromosomes, chromosomes = 0, run = first;
    for (int64_t c = 0; c < x->d->n_chromosomes; c++)
        chromosomes += starts_of(x, first + c, length) > 0;
    int64_t skip = (int64_t)rng_below(r, (uint64_t)chromosomes), starts;
    while ((starts = starts_of(x, run, length)) == 0 || skip-- > 0)
        run++;
    int64_t start = (int64_t)rng_below(r, (uint64_t)starts), i = x->piece_of[run];
    for (;; i++) {
        int64_t here = x->pieces[i].count >= length ? x->pieces[i].count - length + 1 : 0;
        if (start < here)
            break;
        start -= here;
    }
    const piece *p = &x->pieces[i];
    return (window){p->person, p->chromosome, p->hap, p->first + start, length};
}

static window draw(const draws *x, const pool *p, int64_t shard, int64_t length, rng *r)
{
    window none = {0};
    if (length < 1)
        return none;
    for (int64_t k = 0; k < p->shards; k++) { /* the slot's shard, or the next where nobody fits */
        int64_t first = (shard + k) % p->shards * p->classes, classes = 0, group = first, n;
        for (int64_t c = 0; c < p->classes; c++)
            classes += fitting(x, p, first + c, length) > 0;
        if (classes == 0)
            continue;
        int64_t skip = (int64_t)rng_below(r, (uint64_t)classes);
        while ((n = fitting(x, p, group, length)) == 0 || skip-- > 0)
            group++;
        int64_t person = p->person[p->begin[group] + (int64_t)rng_below(r, (uint64_t)n)];
        return window_of_person(x, person, length, r);
    }
    return none;
}

window draws_train(const draws *x, int64_t step, int64_t slot, int64_t length)
{
    rng r = rng_at(x->seed, RNG_WINDOW, (uint64_t)step, (uint32_t)slot);
    return draw(x, &x->train, slot % (x->train.shards ? x->train.shards : 1), length, &r);
}

window draws_valid(const draws *x, int64_t i, int64_t length)
{
    rng r = rng_at(x->seed, RNG_VALID, (uint64_t)i, 0);
    return draw(x, &x->valid, 0, length, &r);
}

/* ---- windows for evaluation ---- */

status draws_tile(const draws *x, split_kind split, int64_t length, int64_t stride, window **out,
                  int64_t *n)
{
    int64_t count = 0, at = 0;
    *out = NULL;
    *n = 0;
    if (length < 1 || stride < 1)
        return fail(STATUS_USAGE, "windows: length %lld every %lld sites; both must be 1 or more",
                    (long long)length, (long long)stride);
    for (int64_t i = 0; i < x->n_pieces; i++)
        if (x->d->people[x->pieces[i].person].split == split && x->pieces[i].count >= length)
            count += (x->pieces[i].count - length) / stride + 1;
    if (count == 0)
        return STATUS_OK;
    window *list = malloc((size_t)count * sizeof *list);
    if (!list)
        return fail(STATUS_MEMORY, "windows: no memory for %lld of them; use a longer stride",
                    (long long)count);
    for (int64_t i = 0; i < x->n_pieces; i++) {
        const piece *p = &x->pieces[i];
        if (x->d->people[p->person].split != split)
            continue;
        for (int64_t first = 0; first + length <= p->count; first += stride)
            list[at++] = (window){p->person, p->chromosome, p->hap, p->first + first, length};
    }
    *out = list;
    *n = count;
    return STATUS_OK;
}

/* ---- opening ---- */

int64_t draws_pieces(const draws *x, const piece **list)
{
    *list = x->pieces;
    return x->n_pieces;
}

int64_t draws_longest(const draws *x, split_kind split)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < x->d->n_people; i++)
        if (x->d->people[i].split == split && x->longest[i] > longest)
            longest = x->longest[i];
    return longest;
}

static status refuse_unphased(const dataset *d)
{
    for (int64_t p = 0; p < d->n_people; p++) {
        int64_t n = 0, first = p * d->n_chromosomes;
        for (int64_t e = d->run[first]; e < d->run[first + d->n_chromosomes]; e++)
            n += d->entries[e].mask == 0;
        if (n > 0)
            return fail(STATUS_DATA,
                        "%s: %lld unphased heterozygous calls of %s cannot be put on haplotypes; "
                        "phase the data, set data.unphased: drop, or data.alleles: union",
                        d->path, (long long)n, d->people[p].id);
    }
    return STATUS_OK;
}

static status fits_somewhere(const draws *x, const config_data *c)
{
    int64_t longest = draws_longest(x, SPLIT_TRAIN);
    if (c->seq_len <= longest)
        return STATUS_OK;
    return fail(
        STATUS_DATA,
        "%s: a window of %lld carried sites is longer than every run of the training people "
        "(longest %lld; chromosome ends and gaps above %lld bp end a run); lower data.seq_len",
        x->d->path, (long long)c->seq_len, (long long)longest, (long long)c->max_gap);
}

status draws_open(const dataset *d, const config_data *c, uint64_t seed, draws **out)
{
    *out = NULL;
    if (!d->block)
        return fail(STATUS_INTERNAL, "%s: its blocks were not cut; report this", d->path);
    if (c->sampling != SAMPLING_STRATIFIED)
        return fail(STATUS_USAGE, "data.sampling: this version draws whole people; set stratified");
    if (c->alleles == ALLELES_HAPLOTYPE && c->unphased == UNPHASED_REFUSE)
        TRY(refuse_unphased(d));
    draws *x = calloc(1, sizeof *x);
    if (!x)
        return fail(STATUS_MEMORY, "%s: no memory for draws; use more memory", d->path);
    status st = STATUS_OK;
    x->d = d;
    x->seed = seed;
    x->haplotypes = c->alleles == ALLELES_HAPLOTYPE;
    if (x->haplotypes)
        TRY_GOTO(failed, ranks_make(x));
    TRY_GOTO(failed, pieces_make(x));
    TRY_GOTO(failed, pool_make(x, SPLIT_TRAIN, c->sharding == SHARDING_VIRTUAL, &x->train));
    TRY_GOTO(failed, pool_make(x, SPLIT_VALID, false, &x->valid));
    TRY_GOTO(failed, fits_somewhere(x, c));
    *out = x;
    return STATUS_OK;
failed:
    draws_close(&x);
    return st;
}

void draws_close(draws **x)
{
    if (!*x)
        return;
    free((*x)->pieces);
    free((*x)->piece_of);
    free((*x)->longest);
    free((*x)->rank[0]);
    free((*x)->rank[1]);
    free((*x)->train.begin);
    free((*x)->train.person);
    free((*x)->valid.begin);
    free((*x)->valid.person);
    free(*x);
    *x = NULL;
}
