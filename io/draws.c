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
    if (x->alleles == ALLELES_UNION || i < x->haplotype_base)
        return i;
    i -= x->haplotype_base;
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
    const bool train = d->people[p.person].split == SPLIT_TRAIN;
    int32_t now = -1;
    for (int64_t e = d->run[run]; e < d->run[run + 1]; e++) {
        if (!on_haplotype(&d->entries[e], hap))
            continue;
        const int32_t here = x->section_of[d->entries[e].site];
        if (here != now) {
            if (p.count > 0)
                TRY(piece_add(x, room, p));
            p.first = *next;
            p.count = 0;
            now = here;
        }
        ++*next;
        p.count += here >= 0;
        if (here >= 0 && train && p.count > x->sections[here].most)
            x->sections[here].most = p.count;
    }
    return p.count > 0 ? piece_add(x, room, p) : STATUS_OK;
}

/* Which sequences a person's windows are of: data.alleles; both trains on haplotypes and judges
 * unions. */
static bool of_haplotypes(const draws *x, int64_t person)
{
    return x->alleles == ALLELES_HAPLOTYPE ||
           (x->alleles == ALLELES_BOTH && x->d->people[person].split == SPLIT_TRAIN);
}

static status pieces_make(draws *x)
{
    const dataset *d = x->d;
    int64_t runs = d->n_people * d->n_chromosomes, room = 0;
    x->piece_of = calloc((size_t)runs + 1, sizeof *x->piece_of);
    x->longest = calloc((size_t)d->n_people, sizeof *x->longest);
    if (!x->piece_of || !x->longest)
        return fail(STATUS_MEMORY, "%s: no memory for its pieces; use more memory", d->path);
    int64_t next[3] = {0, x->haplotype_base, x->haplotype_base + x->carried[0]};
    for (int64_t r = 0; r < runs; r++) {
        const bool split = of_haplotypes(x, r / d->n_chromosomes);
        x->piece_of[r] = x->n_pieces;
        next[0] = d->run[r];
        for (int hap = split; hap <= 2 * split; hap++)
            TRY(pieces_of_run(x, r, hap, &next[hap], &room));
        if (!split && x->alleles == ALLELES_BOTH) /* their haplotypes are numbered all the same */
            for (int64_t e = d->run[r]; e < d->run[r + 1]; e++) {
                next[1] += on_haplotype(&d->entries[e], 1);
                next[2] += on_haplotype(&d->entries[e], 2);
            }
    }
    x->piece_of[runs] = x->n_pieces;
    for (int64_t i = 0; i < x->n_pieces; i++) {
        int64_t *longest = &x->longest[x->pieces[i].person];
        if (x->pieces[i].count > *longest)
            *longest = x->pieces[i].count;
    }
    return STATUS_OK;
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
            classes += draws_pool_fitting(x, p, first + c, length) > 0;
        if (classes == 0)
            continue;
        int64_t skip = (int64_t)rng_below(r, (uint64_t)classes);
        while ((n = draws_pool_fitting(x, p, group, length)) == 0 || skip-- > 0)
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

bool draws_augments(const draws *x, int64_t step, int64_t steps)
{
    return (x->mosaic_rate > 0 || x->flip_rate > 0) &&
           (double)step >= x->augment_from * (double)steps;
}

status draws_make(const draws *x, int64_t step, int64_t slot, int64_t length, bool augment,
                  drawn *into)
{
    if (length < 1) {
        into->count = 0;
        return STATUS_OK;
    }
    if (x->mating) {
        TRY(mating_draw(x, step, slot, length, augment, into));
        if (into->count > 0)
            return STATUS_OK;
    }
    const window w = draws_train(x, step, slot, length);
    if (w.count > 0 && augment && x->flip_rate > 0) {
        rng r = rng_at(x->seed, RNG_MATING, (uint64_t)step, (uint32_t)slot);
        TRY(flips_draw(x, &w, &r, into));
        if (into->count > 0)
            return STATUS_OK;
    }
    return draws_copy(x, &w, into);
}

bool draws_teach(const draws *x, int64_t at)
{
    return x->section_of[at] >= 0;
}

double draws_sites_per_token(const draws *x, int64_t length)
{
    int64_t sites = 0, tokens = 0;
    for (int64_t slot = 0; slot < 256; slot++) {
        const window w = draws_train(x, 0, slot, length);
        if (w.count == 0)
            break;
        sites += x->d->entries[draws_entry(x, w.first + w.count - 1)].site -
                 x->d->entries[draws_entry(x, w.first)].site + 1;
        tokens += w.count;
    }
    return tokens ? (double)sites / (double)tokens : 1;
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

status draws_check_phase(const dataset *d, const config_data *c)
{
    if (c->alleles == ALLELES_UNION || c->unphased != UNPHASED_REFUSE)
        return STATUS_OK;
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
        "(longest %lld; chromosome ends%s and gaps above %lld bp end a run); lower data.seq_len%s",
        x->d->path, (long long)c->seq_len, (long long)longest,
        c->exclude[0] ? ", regions of data.exclude" : "", (long long)c->max_gap,
        c->exclude[0] ? " or leave out less" : "");
}

status draws_open(const dataset *d, const config_data *c, uint64_t seed, draws **out)
{
    *out = NULL;
    if (!d->block)
        return fail(STATUS_INTERNAL, "%s: its blocks were not cut; report this", d->path);
    TRY(draws_check_phase(d, c));
    draws *x = calloc(1, sizeof *x);
    if (!x)
        return fail(STATUS_MEMORY, "%s: no memory for draws; use more memory", d->path);
    status st = STATUS_OK;
    x->d = d;
    x->seed = seed;
    x->alleles = c->alleles;
    x->haplotype_base = c->alleles == ALLELES_BOTH ? d->n_entries : 0;
    const bool by_shard = c->sharding == SHARDING_VIRTUAL;
    TRY_GOTO(failed, sections_make(x, c));
    if (c->alleles != ALLELES_UNION)
        TRY_GOTO(failed, ranks_make(x));
    TRY_GOTO(failed, pieces_make(x));
    TRY_GOTO(failed, draws_pool_make(x, SPLIT_TRAIN, by_shard, false, &x->train));
    TRY_GOTO(failed, draws_pool_make(x, SPLIT_VALID, false, false, &x->valid));
    TRY_GOTO(failed, fits_somewhere(x, c));
    TRY_GOTO(failed, mating_make(x, c));
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
    mating_free(*x);
    free((*x)->sections);
    free((*x)->section_of);
    free((*x)->pieces);
    free((*x)->piece_of);
    free((*x)->longest);
    free((*x)->rank[0]);
    free((*x)->rank[1]);
    draws_pool_free(&(*x)->train);
    draws_pool_free(&(*x)->valid);
    free(*x);
    *x = NULL;
}
