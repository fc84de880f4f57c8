/* Changing the people of one split in memory: see dataset_alter.h. Entries and runs without a call
 * are written anew, person by person, in the order that the data set keeps. */
#include "io/dataset_alter.h"

#include "io/assembly.h"
#include "runtime/core/rng.h"

#include <stdlib.h>
#include <string.h>

/* Third word of the counter of a draw: for what. */
enum { DRAW_SITE, DRAW_GENOTYPE };

typedef struct {
    const dataset *d;
    const alteration *a;
    uint8_t *judged;   /* (n_sites) inside the regions */
    uint8_t *uncalled; /* (n_sites) made missing */
    uint8_t *missing;  /* (n_sites) scratch: of the person at hand, made or found missing */
    dataset_people made;
    int64_t entry_room, missing_room;
    alteration_counts n;
} alter;

static double uniform_of(const uint32_t word[4])
{
    return ((double)(word[0] >> 5) * 67108864.0 + (double)(word[1] >> 6)) / 9007199254740992.0;
}

static void sites_draw(alter *x)
{
    const dataset *d = x->d;
    const alteration *a = x->a;
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        const chromosome *k = &d->chromosomes[c];
        const int identity = chromosome_identity(k->name);
        for (int64_t s = k->site0; s < k->site0 + k->sites; s++) {
            const int64_t at = d->sites[s].position;
            const bool cut = a->exclude && a->exclude->count > 0;
            uint32_t word[4];
            rng_words(a->seed, RNG_ALTER, (uint64_t)s, 0, DRAW_SITE, word);
            x->judged[s] = (!a->where || regions_hold(a->where, identity, at)) &&
                           !(cut && regions_hold(a->exclude, identity, at));
            x->uncalled[s] = uniform_of(word) < a->missing;
            x->n.judged_sites += x->judged[s];
            x->n.missing_sites += x->judged[s] && x->uncalled[s];
        }
    }
}

static status entry_add(alter *x, entry e)
{
    dataset_people *p = &x->made;
    if (p->n_entries == x->entry_room) {
        const int64_t room = x->entry_room + x->entry_room / 4 + 4096;
        entry *more = realloc(p->entries, (size_t)room * sizeof *more);
        if (!more)
            return fail(STATUS_MEMORY,
                        "%s: no memory for %lld changed entries; use a node with more", x->d->path,
                        (long long)room);
        p->entries = more;
        x->entry_room = room;
    }
    p->entries[p->n_entries++] = e;
    return STATUS_OK;
}

static status missing_add(alter *x, missing_run r)
{
    dataset_people *p = &x->made;
    if (p->n_missing == x->missing_room) {
        const int64_t room = x->missing_room + x->missing_room / 4 + 4096;
        missing_run *more = realloc(p->missing, (size_t)room * sizeof *more);
        if (!more)
            return fail(STATUS_MEMORY,
                        "%s: no memory for %lld stretches without a call; use a node with more",
                        x->d->path, (long long)room);
        p->missing = more;
        x->missing_room = room;
    }
    p->missing[p->n_missing++] = r;
    return STATUS_OK;
}

/* The sites of one chromosome that a person has no call at now, into x->missing and as runs. */
static status missing_of(alter *x, int64_t run, const chromosome *k)
{
    const dataset *d = x->d;
    const int64_t end = k->site0 + k->sites;
    memcpy(x->missing + k->site0, x->uncalled + k->site0, (size_t)k->sites);
    for (int64_t i = d->missing_run_of[run]; i < d->missing_run_of[run + 1]; i++)
        memset(x->missing + d->missing[i].first, 1, (size_t)d->missing[i].count);
    for (int64_t s = k->site0; s < end;) {
        if (!x->missing[s]) {
            s++;
            continue;
        }
        const int64_t first = s;
        while (s < end && x->missing[s])
            s++;
        TRY(missing_add(x, (missing_run){(int32_t)first, (int32_t)(s - first)}));
    }
    return STATUS_OK;
}

/* Is the genotype turned? *hap: on which haplotype, where it becomes carried. */
static bool genotype_turned(const alter *x, int64_t person, int64_t s, uint8_t *hap)
{
    uint32_t word[4];
    if (x->a->wrong <= 0)
        return false;
    rng_words(x->a->seed, RNG_ALTER, (uint64_t)person, (uint32_t)s, DRAW_GENOTYPE, word);
    *hap = word[2] & 1 ? 1 : 2;
    return uniform_of(word) < x->a->wrong;
}

static uint8_t first_alt(const site *s)
{
    uint8_t base = 0;
    while (base < 3 && !(s->alts >> base & 1))
        base++;
    return base;
}

/* One person, one chromosome: site by site. Calls that were missing all along keep what is carried
 * of them (half-missing genotypes). */
static status run_alter(alter *x, int64_t person, int64_t run, const chromosome *k)
{
    const dataset *d = x->d;
    int64_t e = d->run[run];
    TRY(missing_of(x, run, k));
    for (int64_t s = k->site0; s < k->site0 + k->sites; s++) {
        const int64_t first = e;
        uint8_t hap = 0;
        while (e < d->run[run + 1] && d->entries[e].site == s)
            e++;
        if (!x->judged[s] || x->uncalled[s])
            continue;
        if (x->missing[s] || !genotype_turned(x, person, s, &hap)) {
            for (int64_t i = first; i < e; i++)
                TRY(entry_add(x, d->entries[i]));
            continue;
        }
        x->n.wrong_absent += e > first;
        x->n.wrong_carried += e == first;
        if (e == first)
            TRY(entry_add(x, (entry){(int32_t)s, first_alt(&d->sites[s]), hap}));
    }
    return STATUS_OK;
}

static status run_keep(alter *x, int64_t run)
{
    const dataset *d = x->d;
    for (int64_t e = d->run[run]; e < d->run[run + 1]; e++)
        TRY(entry_add(x, d->entries[e]));
    for (int64_t i = d->missing_run_of[run]; i < d->missing_run_of[run + 1]; i++)
        TRY(missing_add(x, d->missing[i]));
    return STATUS_OK;
}

static status people_alter(alter *x)
{
    const dataset *d = x->d;
    for (int64_t p = 0; p < d->n_people; p++)
        for (int64_t c = 0; c < d->n_chromosomes; c++) {
            const int64_t run = p * d->n_chromosomes + c;
            x->made.run[run] = x->made.n_entries;
            x->made.missing_run_of[run] = x->made.n_missing;
            if (d->people[p].split == x->a->split)
                TRY(run_alter(x, p, run, &d->chromosomes[c]));
            else
                TRY(run_keep(x, run));
        }
    x->made.run[d->n_people * d->n_chromosomes] = x->made.n_entries;
    x->made.missing_run_of[d->n_people * d->n_chromosomes] = x->made.n_missing;
    return STATUS_OK;
}

status dataset_alter(dataset *d, const alteration *a, alteration_counts *counts)
{
    const size_t sites = (size_t)d->n_sites + 1;
    const size_t runs = (size_t)(d->n_people * d->n_chromosomes) + 1;
    alter x = {.d = d, .a = a};
    status st = STATUS_OK;
    x.judged = calloc(3 * sites, 1);
    x.made.run = calloc(runs, sizeof *x.made.run);
    x.made.missing_run_of = calloc(runs, sizeof *x.made.missing_run_of);
    if (!x.judged || !x.made.run || !x.made.missing_run_of) {
        st = fail(STATUS_MEMORY, "%s: no memory for %lld sites; use a node with more", d->path,
                  (long long)d->n_sites);
        goto done;
    }
    x.uncalled = x.judged + sites;
    x.missing = x.uncalled + sites;
    sites_draw(&x);
    if (x.n.judged_sites == 0) {
        st = fail(
            STATUS_USAGE,
            "-r, -R, --exclude-regions: none of the %lld sites of %s is left to judge; give others",
            (long long)d->n_sites, d->path);
        goto done;
    }
    TRY_GOTO(done, people_alter(&x));
    dataset_block_cut(d, x.judged);
    dataset_people_replace(d, &x.made);
    *counts = x.n;

done:
    free(x.judged);
    free(x.made.run);
    free(x.made.missing_run_of);
    free(x.made.entries);
    free(x.made.missing);
    return st;
}
