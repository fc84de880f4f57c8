/* Dealing: entries of own people in one array, relatives from them, splits and shards, and rare
 * sites off where a least frequency is asked for. */
#include "io/import_state.h"
#include "io/relatives.h"
#include "runtime/core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static status no_memory(void)
{
    return fail(STATUS_MEMORY,
                "import: no memory for the entries; use more ranks on more machines");
}

/* ---- per person and chromosome ---- */

/* run[] and missing_run_of[] of one person; missing runs are cut at chromosome ends. */
static status person_gather(import_state *s, int64_t p, int64_t *n_missing, int64_t *room)
{
    carried *own = &s->own[p];
    int64_t base = s->run[p * s->n_chromosomes], e = 0, r = 0;
    int32_t done = 0; /* sites of missing[r] that are placed */
    for (int64_t c = 0; c < s->n_chromosomes; c++) {
        int64_t end = s->chromosomes[c].site0 + s->chromosomes[c].sites;
        while (e < own->n && own->list[e].site < end)
            e++;
        s->run[p * s->n_chromosomes + c + 1] = base + e;
        while (r < own->n_missing && own->missing[r].first + done < end) {
            missing_run one = {own->missing[r].first + done, own->missing[r].count - done};
            bool cut = one.first + one.count > end;
            if (cut)
                one.count = (int32_t)(end - one.first);
            if (*n_missing == *room) {
                *room = *room ? 2 * *room : 1024;
                missing_run *more = realloc(s->missing, (size_t)*room * sizeof *more);
                if (!more)
                    return no_memory();
                s->missing = more;
            }
            s->missing[(*n_missing)++] = one;
            done = cut ? done + one.count : 0;
            r += !cut;
        }
        s->missing_run_of[p * s->n_chromosomes + c + 1] = *n_missing;
    }
    if (own->n > 0)
        memcpy(s->entries + base, own->list, (size_t)own->n * sizeof *own->list);
    free(own->list);
    free(own->missing);
    memset(own, 0, sizeof *own);
    return STATUS_OK;
}

status import_gather(import_state *s)
{
    int64_t n = 0, n_missing = 0, room = 0;
    size_t runs = (size_t)(s->mine * s->n_chromosomes) + 1;
    for (int64_t p = 0; p < s->mine; p++)
        n += s->own[p].n;
    s->entries = malloc(((size_t)n + 1) * sizeof *s->entries);
    s->run = calloc(runs, sizeof *s->run);
    s->missing_run_of = calloc(runs, sizeof *s->missing_run_of);
    s->missing = malloc(sizeof *s->missing);
    if (!s->entries || !s->run || !s->missing_run_of || !s->missing)
        return no_memory();
    for (int64_t p = 0; p < s->mine; p++)
        TRY(person_gather(s, p, &n_missing, &room));
    return STATUS_OK;
}

/* ---- relatives ---- */

/* Rows of one plane from every rank. */
static status plane_share(const import_state *s, const uint64_t *own, int64_t words, uint64_t *all)
{
    int size = comm_size(s->c);
    size_t *counts = calloc((size_t)size, sizeof *counts);
    if (!counts)
        return no_memory();
    for (int64_t r = 0; r < size; r++)
        counts[r] = (size_t)(s->n_people * (r + 1) / size - s->n_people * r / size) *
                    (size_t)words * sizeof *own;
    status st = comm_allgatherv(s->c, own, (size_t)(s->mine * words) * sizeof *own, all, counts);
    free(counts);
    return st;
}

static status genotypes_share(const import_state *s, genotype_bits *all)
{
    dataset own = {.n_people = s->mine,
                   .n_chromosomes = s->n_chromosomes,
                   .n_sites = s->n_sites,
                   .people = s->people + s->first,
                   .chromosomes = s->chromosomes,
                   .sites = s->sites,
                   .entries = s->entries,
                   .run = s->run,
                   .missing = s->missing,
                   .missing_run_of = s->missing_run_of};
    genotype_bits mine;
    status st = comm_agree(s->c, relatives_of_dataset(&own, &mine));
    if (st != STATUS_OK)
        goto done;
    st = comm_agree(s->c, genotype_bits_open(all, s->n_people, mine.n_sites));
    if (st != STATUS_OK)
        goto done;
    TRY_GOTO(done, plane_share(s, mine.het, mine.words, all->het));
    TRY_GOTO(done, plane_share(s, mine.hom, mine.words, all->hom));
    TRY_GOTO(done, plane_share(s, mine.missing, mine.words, all->missing));
done:
    genotype_bits_close(&mine);
    return st;
}

/* Every rank's share of the pairs, the same list everywhere. */
static status pairs_share(const import_state *s, const related_pair *own, int64_t n,
                          related_pair **all, int64_t *n_all)
{
    int size = comm_size(s->c);
    int64_t *counts = calloc((size_t)size, sizeof *counts);
    size_t *bytes = calloc((size_t)size, sizeof *bytes);
    status st = comm_agree(s->c, counts && bytes ? STATUS_OK : no_memory());
    if (st != STATUS_OK)
        goto done;
    TRY_GOTO(done, comm_allgather(s->c, &n, sizeof n, counts));
    *n_all = 0;
    for (int r = 0; r < size; r++) {
        bytes[r] = (size_t)counts[r] * sizeof *own;
        *n_all += counts[r];
    }
    *all = malloc(((size_t)*n_all + 1) * sizeof **all);
    TRY_GOTO(done, comm_agree(s->c, *all ? STATUS_OK : no_memory()));
    st = comm_allgatherv(s->c, own, (size_t)n * sizeof *own, *all, bytes);
done:
    free(counts);
    free(bytes);
    return st;
}

static status relatives_join(import_state *s, int32_t *component, related_pair **pairs, int64_t *n)
{
    genotype_bits bits = {0};
    related_pair *own = NULL;
    int64_t n_own = 0;
    status st;
    TRY_GOTO(done, genotypes_share(s, &bits));
    st = relatives_find(&bits, comm_rank(s->c), comm_size(s->c), &own, &n_own);
    TRY_GOTO(done, comm_agree(s->c, st));
    TRY_GOTO(done, pairs_share(s, own, n_own, pairs, n));
    for (int64_t i = 0; i < *n; i++)
        split_relate(component, (*pairs)[i].a, (*pairs)[i].b);
    name_table families = {0};
    for (int64_t p = 0; p < s->n_people && st == STATUS_OK; p++) {
        int64_t already = -1;
        if (*s->people[p].family)
            st = name_table_add(&families, s->people[p].family, p, &already);
        if (already >= 0)
            split_relate(component, (int32_t)already, (int32_t)p);
    }
    name_table_close(&families);
    for (int64_t p = 0; p < s->n_people; p++)
        component[p] = split_component(component, (int32_t)p);
done:
    genotype_bits_close(&bits);
    free(own);
    return st;
}

/* ---- what a person should know of the split ---- */

/* Populations of one or two people. */
static void warn_small(const import_state *s)
{
    char text[256] = "";
    size_t at = 0;
    int64_t small = 0;
    for (int64_t p = 0; p < s->n_people; p++) {
        const individual *one = &s->people[p];
        int64_t size = 0, before = 0;
        for (int64_t q = 0; q < s->n_people; q++)
            if (strcmp(s->people[q].population, one->population) == 0 &&
                strcmp(s->people[q].superpopulation, one->superpopulation) == 0) {
                size++;
                before += q < p;
            }
        if (size > 2 || before > 0)
            continue;
        if (small++ < 3)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%.30s of %.30s: %.30s%s",
                                   small > 1 ? ", " : "", one->population, one->superpopulation,
                                   one->id, size == 2 ? " and another" : "");
    }
    if (small > 0 && s->o->map)
        log_warning("%lld populations have one or two people (%s%s); whoever is alone is for "
                    "training",
                    (long long)small, text, small > 3 ? ", ..." : "");
}

static void warn_empty(const import_state *s)
{
    const int64_t *n = s->report->people;
    const char *which = n[SPLIT_VALID] == 0 && n[SPLIT_TEST] == 0 ? "valid and test are"
                        : n[SPLIT_VALID] == 0                     ? "valid is"
                        : n[SPLIT_TEST] == 0                      ? "test is"
                                                                  : NULL;
    if (n[SPLIT_TRAIN] == 0)
        log_warning("the split train is empty; this set serves evaluation only");
    if (which)
        log_warning("%s empty with %lld people; import more, or change --split", which,
                    (long long)s->n_people);
}

static void warn_straddling(const import_state *s, const related_pair *pairs, int64_t n)
{
    int64_t straddling = 0, first = -1;
    for (int64_t i = 0; i < n; i++)
        if (s->split.split[pairs[i].a] != s->split.split[pairs[i].b]) {
            first = straddling++ == 0 ? i : first;
        }
    if (straddling > 0)
        log_warning("%s: %lld pairs of close relatives are on two sides of its splits (%s and %s, "
                    "kinship %.2f, ...)",
                    s->map.path, (long long)straddling, s->id[pairs[first].a],
                    s->id[pairs[first].b], pairs[first].kinship);
}

/* ---- rare sites ---- */

/* Frequency among training people: copies that are not the reference over copies that are known (a
 * call counts two). */
static status frequencies(const import_state *s, int64_t *copies, int64_t *known)
{
    for (int64_t i = 0; i < s->n_sites; i++)
        copies[i] = known[i] = 0;
    int64_t trained = 0;
    for (int64_t p = 0; p < s->mine; p++) {
        if (s->split.split[s->first + p] != SPLIT_TRAIN)
            continue;
        trained++;
        const int64_t from = p * s->n_chromosomes, to = from + s->n_chromosomes;
        for (int64_t e = s->run[from]; e < s->run[to]; e++)
            copies[s->entries[e].site] += s->entries[e].mask == 3 ? 2 : 1;
        for (int64_t r = s->missing_run_of[from]; r < s->missing_run_of[to]; r++)
            for (int32_t k = 0; k < s->missing[r].count; k++)
                known[s->missing[r].first + k] -= 2;
    }
    for (int64_t i = 0; i < s->n_sites; i++)
        known[i] += 2 * trained;
    TRY(comm_sum_i64(s->c, copies, s->n_sites));
    return comm_sum_i64(s->c, known, s->n_sites);
}

/* Drops the sites below the least frequency from tables, entries and missing runs. */
static status rare_drop(import_state *s)
{
    if (s->o->min_maf <= 0)
        return STATUS_OK;
    size_t n = (size_t)s->n_sites + 1;
    int64_t *copies = malloc(n * sizeof *copies), *known = malloc(n * sizeof *known);
    int32_t *to = malloc(n * sizeof *to);
    status st = comm_agree(s->c, copies && known && to ? STATUS_OK : no_memory());
    if (st != STATUS_OK)
        goto done;
    TRY_GOTO(done, frequencies(s, copies, known));
    int64_t kept = 0;
    for (int64_t c = 0; c < s->n_chromosomes; c++) {
        chromosome *k = &s->chromosomes[c];
        int64_t first = kept;
        for (int64_t i = k->site0; i < k->site0 + k->sites; i++) {
            double f = known[i] > 0 ? (double)copies[i] / (double)known[i] : 0;
            f = f > 0.5 ? 1 - f : f;
            to[i] = f >= s->o->min_maf ? (int32_t)kept : -1;
            if (to[i] >= 0)
                s->sites[kept++] = s->sites[i];
        }
        k->site0 = first;
        k->sites = kept - first;
    }
    s->report->sites.below_maf = s->n_sites - kept;
    s->n_sites = kept;
    if (kept == 0) {
        st = fail(STATUS_DATA,
                  "--min-maf %g: no site is as frequent among the training people; "
                  "give a smaller one",
                  s->o->min_maf);
        goto done;
    }
    int64_t e = 0, begin = 0, r = 0, r_begin = 0;
    for (int64_t x = 0; x < s->mine * s->n_chromosomes; x++) {
        int64_t end = s->run[x + 1], r_end = s->missing_run_of[x + 1], r_first = r;
        for (int64_t i = begin; i < end; i++)
            if (to[s->entries[i].site] >= 0) {
                s->entries[e] = s->entries[i];
                s->entries[e++].site = to[s->entries[i].site];
            }
        begin = end;
        s->run[x + 1] = e;
        for (int64_t i = r_begin; i < r_end; i++) {
            missing_run one = {-1, 0};
            for (int32_t k = 0; k < s->missing[i].count; k++)
                if (to[s->missing[i].first + k] >= 0) {
                    one.first = one.count ? one.first : to[s->missing[i].first + k];
                    one.count++; /* neighbours stay neighbours: what was between is gone */
                }
            missing_run *last = r > r_first ? &s->missing[r - 1] : NULL;
            if (one.count && last && last->first + last->count == one.first)
                last->count += one.count;
            else if (one.count)
                s->missing[r++] = one;
        }
        r_begin = r_end;
        s->missing_run_of[x + 1] = r;
    }
done:
    free(copies);
    free(known);
    free(to);
    return st;
}

/* ---- all of it ---- */

static status splits_given(const import_state *s, int **given)
{
    *given = NULL;
    if (!s->map.has_split)
        return STATUS_OK;
    *given = malloc(((size_t)s->n_people + 1) * sizeof **given);
    if (!*given)
        return no_memory();
    for (int64_t p = 0; p < s->n_people; p++)
        (*given)[p] = labels_find(&s->map, s->id[p])->split;
    return STATUS_OK;
}

status import_deal(import_state *s)
{
    related_pair *pairs = NULL;
    int64_t n_pairs = 0;
    int *given = NULL;
    int32_t *component = malloc(((size_t)s->n_people + 1) * sizeof *component);
    status st = comm_agree(s->c, component ? splits_given(s, &given) : no_memory());
    if (st != STATUS_OK)
        goto done;
    for (int64_t p = 0; p < s->n_people; p++)
        component[p] = (int32_t)p;
    TRY_GOTO(done, relatives_join(s, component, &pairs, &n_pairs));
    split_input in = {.n_people = s->n_people,
                      .people = s->people,
                      .component = component,
                      .given = given,
                      .seed = s->o->seed};
    memcpy(in.fraction, s->o->fraction, sizeof in.fraction);
    TRY_GOTO(done, comm_agree(s->c, split_people(&in, &s->split)));
    memcpy(s->report->split_hash, s->split.hash, sizeof s->split.hash);
    for (int64_t p = 0; p < s->n_people; p++) {
        s->people[p].split = s->split.split[p];
        s->people[p].shard = s->split.shard[p];
        s->report->people[s->split.split[p]]++;
    }
    TRY_GOTO(done, rare_drop(s));
    if (given)
        warn_straddling(s, pairs, n_pairs);
    else
        warn_small(s);
    warn_empty(s);
done:
    free(component);
    free(given);
    free(pairs);
    return st;
}
