/* Random mating: a training person is two haplotypes of two training people of one class, or one
 * haplotype where those are what is learned; mosaics of several; flips, of real people too. A draw
 * walks one section of the parents' entries, never the whole person. */
#include "io/assembly.h"
#include "io/draws_state.h"
#include "runtime/core/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 100          /* sections and parents that are tried for a class */
#define STRETCH_SITES 8192 /* a longer section is drawn from by stretches of at least so many */
#define STRETCH_SITES_PER_TOKEN 8

int64_t rng_gap(rng *r, double rate, int64_t most)
{
    const double gap = rate < 1 ? floor(log1p(-rng_uniform(r)) / log1p(-rate)) : 0;
    return gap < (double)most ? (int64_t)gap : most;
}

/* ---- index ---- */

/* A training person with unphased heterozygotes: how many have any; *first is the first one. */
static int64_t unphased_people(const dataset *d, int64_t *first)
{
    int64_t n = 0;
    for (int64_t p = 0; p < d->n_people; p++) {
        if (d->people[p].split != SPLIT_TRAIN)
            continue;
        const int64_t end = d->run[(p + 1) * d->n_chromosomes];
        int64_t e = d->run[p * d->n_chromosomes];
        while (e < end && d->entries[e].mask != 0)
            e++;
        if (e < end && n++ == 0)
            *first = p;
    }
    return n;
}

/* Who has one haplotype of a chromosome alone: nothing lies on the second, or a man's X. */
static void find_haploid(draws *x)
{
    const dataset *d = x->d;
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        const bool is_x = chromosome_identity(d->chromosomes[c].name) == CHROMOSOME_X;
        bool anybody = false, two = false;
        for (int64_t p = 0; p < d->n_people; p++) {
            const int64_t run = p * d->n_chromosomes + c;
            bool second = false;
            for (int64_t e = d->run[run]; e < d->run[run + 1] && !second; e++)
                second = on_haplotype(&d->entries[e], 2);
            const bool one = !second || (is_x && d->people[p].sex == SEX_MALE);
            x->haploid[run] = one && d->run[run] < d->run[run + 1];
            if (d->people[p].split != SPLIT_TRAIN || d->run[run] == d->run[run + 1])
                continue;
            anybody = true;
            two = two || !x->haploid[run];
        }
        x->haploid_chromosome[c] = anybody && !two;
    }
}

typedef struct {
    int64_t most, index;
} ranked;

static int by_most(const void *a, const void *b)
{
    const ranked *p = a, *q = b;
    if (p->most != q->most)
        return p->most > q->most ? -1 : 1;
    return (p->index > q->index) - (p->index < q->index);
}

static status order_sections(draws *x)
{
    ranked *list = malloc(((size_t)x->n_sections + 1) * sizeof *list);
    if (!list)
        return fail(STATUS_MEMORY, "%s: no memory for its blocks; use more memory", x->d->path);
    for (int64_t i = 0; i < x->n_sections; i++)
        list[i] = (ranked){x->sections[i].most, i};
    qsort(list, (size_t)x->n_sections, sizeof *list, by_most);
    for (int64_t i = 0; i < x->n_sections; i++) {
        const section *s = &x->sections[list[i].index];
        x->order[i] = list[i].index;
        x->sites_before[i + 1] = x->sites_before[i] + s->end - s->first;
    }
    free(list);
    return STATUS_OK;
}

status mating_make(draws *x, const config_data *c)
{
    const dataset *d = x->d;
    int64_t first = 0, unphased;
    x->mosaic_rate = c->mosaic_rate;
    x->flip_rate = c->flip_rate;
    x->augment_from = c->augment_from;
    if (c->sampling != SAMPLING_MATING)
        return STATUS_OK;
    if ((unphased = unphased_people(d, &first)) > 0) {
        log_warning("%s: %lld training people have unphased heterozygous calls (%s ...), which "
                    "mating cannot put on haplotypes; real people are drawn instead",
                    d->path, (long long)unphased, d->people[first].id);
        return STATUS_OK;
    }
    x->order = calloc((size_t)x->n_sections + 1, sizeof *x->order);
    x->sites_before = calloc((size_t)x->n_sections + 1, sizeof *x->sites_before);
    x->haploid = calloc((size_t)(d->n_people * d->n_chromosomes) + 1, sizeof *x->haploid);
    x->haploid_chromosome = calloc((size_t)d->n_chromosomes + 1, sizeof *x->haploid_chromosome);
    if (!x->order || !x->sites_before || !x->haploid || !x->haploid_chromosome)
        return fail(STATUS_MEMORY, "%s: no memory for mating; use more memory", d->path);
    TRY(order_sections(x));
    find_haploid(x);
    TRY(draws_pool_make(x, SPLIT_TRAIN, c->sharding == SHARDING_VIRTUAL, true, &x->mates));
    x->mating = true;
    return STATUS_OK;
}

void mating_free(draws *x)
{
    free(x->order);
    free(x->sites_before);
    free(x->haploid);
    free(x->haploid_chromosome);
    draws_pool_free(&x->mates);
}

/* ---- a child ---- */

typedef struct {
    const draws *x;
    const int32_t *person; /* the class's people of the shard */
    int64_t n;
    const section *s;
    int64_t from, end; /* sites that the child is made of */
    double mosaic, flip;
    rng *r;
} nursery;

/* A section by its number of sites, of those in which `most` reaches; NULL: there is none. */
static const section *pick_section(const draws *x, int64_t most, rng *r)
{
    int64_t low = 0, high = x->n_sections;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (x->sections[x->order[middle]].most >= most)
            low = middle + 1;
        else
            high = middle;
    }
    const int64_t sites = x->sites_before[low];
    if (sites == 0)
        return NULL;
    const int64_t at = (int64_t)rng_below(r, (uint64_t)sites);
    int64_t first = 0; /* sites_before[first] <= at < sites_before[low] */
    while (low - first > 1) {
        const int64_t middle = first + (low - first) / 2;
        *(x->sites_before[middle] <= at ? &first : &low) = middle;
    }
    return &x->sections[x->order[first]];
}

/* The sites that a try works on: all of a section, or a stretch of a long one, longer each time. */
static void pick_stretch(nursery *y, int64_t length, int try_number)
{
    const int64_t all = y->s->end - y->s->first;
    int64_t sites = STRETCH_SITES_PER_TOKEN * length;
    sites = sites > STRETCH_SITES ? sites : STRETCH_SITES;
    for (int k = 0; k < try_number && sites < all; k++)
        sites *= 2;
    y->from = y->s->first;
    y->end = y->s->end;
    if (sites >= all)
        return;
    /* Centres are uniform; what hangs over an end is cut off: no site is more than a third below
     * the mean. Were stretches kept inside, the ends would hardly be seen. */
    const int64_t from = y->from - sites / 2 + (int64_t)rng_below(y->r, (uint64_t)all);
    y->from = from > y->from ? from : y->from;
    y->end = from + sites < y->end ? from + sites : y->end;
}

/* One strand: a haplotype of somebody of the class, and with mosaics at each further site with that
 * chance another one. Returns the first haplotype in *parent. */
static status make_strand(nursery *y, int half, drawn *into, int32_t *parent)
{
    const int64_t chromosomes = y->x->d->n_chromosomes, c = y->s->chromosome;
    for (int64_t at = y->from; at < y->end;) {
        const int64_t left = y->end - at - 1;
        const int64_t person = y->person[rng_below(y->r, (uint64_t)y->n)];
        int hap = 1 + (int)rng_below(y->r, 2);
        if (y->x->haploid[person * chromosomes + c])
            hap = 1;
        if (at == y->from)
            *parent = (int32_t)(2 * person + hap - 1);
        const int64_t end = y->mosaic > 0 ? at + 1 + rng_gap(y->r, y->mosaic, left) : y->end;
        TRY(strand_append(y->x, half, person * chromosomes + c, hap, at, end, into));
        at = end;
    }
    return STATUS_OK;
}

/* A window of a sequence that has been assembled: start uniform; none where it is too short. */
static status cut(nursery *y, int64_t length, drawn *into)
{
    TRY(strands_join(into));
    if (y->flip > 0)
        TRY(strands_flip(y->x, y->flip, y->from, y->end, y->r, into));
    const int64_t starts = into->work->whole.n - length + 1;
    if (starts < 1)
        return STATUS_OK;
    return drawn_cut(into, (int64_t)rng_below(y->r, (uint64_t)starts), length);
}

/* A child of one class; into->count 0 where no try gave one. */
static status child_of(nursery *y, int64_t length, drawn *into)
{
    const draws *x = y->x;
    const bool pairs = x->alleles == ALLELES_UNION;
    for (int k = 0; k < TRIES; k++) {
        y->s = pick_section(x, pairs ? (length + 1) / 2 : length, y->r);
        if (!y->s)
            return STATUS_OK;
        pick_stretch(y, length, k);
        TRY(drawn_begin(into));
        TRY(make_strand(y, 0, into, &into->parent[0]));
        into->parent[1] = into->parent[0];
        if (pairs && !x->haploid_chromosome[y->s->chromosome])
            TRY(make_strand(y, 1, into, &into->parent[1]));
        TRY(cut(y, length, into));
        if (into->count == 0)
            continue;
        into->chromosome = y->s->chromosome;
        into->label = x->d->people[into->parent[0] / 2].label;
        return STATUS_OK;
    }
    return STATUS_OK;
}

status mating_draw(const draws *x, int64_t step, int64_t slot, int64_t length, bool augment,
                   drawn *into)
{
    const pool *p = &x->mates;
    const int64_t least = x->alleles == ALLELES_UNION ? (length + 1) / 2 : length;
    rng r = rng_at(x->seed, RNG_MATING, (uint64_t)step, (uint32_t)slot);
    nursery y = {.x = x,
                 .mosaic = augment ? x->mosaic_rate : 0,
                 .flip = augment ? x->flip_rate : 0,
                 .r = &r};
    into->count = 0;
    for (int64_t k = 0; k < p->shards; k++) {
        const int64_t first = (slot + k) % p->shards * p->classes;
        int64_t classes = 0, seen = 0;
        for (int64_t c = 0; c < p->classes; c++)
            classes += draws_pool_fitting(x, p, first + c, least) > 0;
        if (classes == 0)
            continue;
        const int64_t begin = (int64_t)rng_below(&r, (uint64_t)classes);
        for (int64_t c = 0; c < 2 * p->classes && seen < begin + classes; c++) {
            const int64_t group = first + c % p->classes;
            if (draws_pool_fitting(x, p, group, least) == 0 || seen++ < begin)
                continue; /* from the class that was drawn on, each once */
            y.person = p->person + p->begin[group];
            y.n = p->begin[group + 1] - p->begin[group];
            TRY(child_of(&y, length, into));
            if (into->count > 0)
                return STATUS_OK;
        }
    }
    return STATUS_OK;
}

status flips_draw(const draws *x, const window *w, rng *r, drawn *into)
{
    const int32_t at = x->d->entries[draws_entry(x, w->first)].site;
    nursery y = {.x = x, .s = &x->sections[x->section_of[at]], .flip = x->flip_rate, .r = r};
    into->count = 0;
    for (int k = 0; k < TRIES && into->count == 0; k++) {
        pick_stretch(&y, w->count, k);
        TRY(drawn_begin(into));
        TRY(strand_append(x, 0, w->person * x->d->n_chromosomes + w->chromosome, w->hap, y.from,
                          y.end, into));
        TRY(cut(&y, w->count, into));
    }
    into->chromosome = w->chromosome;
    into->label = x->d->people[w->person].label;
    into->parent[0] = into->parent[1] = -1;
    return STATUS_OK;
}
