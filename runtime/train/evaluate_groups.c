/* Who is judged well and who is not: accuracies of each population and superpopulation with
 * intervals over their people and over blocks of sites, and the pairs of labels that are taken for
 * each other most. */
#include "runtime/train/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *name_of(const individual *who, group_kind kind)
{
    return kind == GROUP_POPULATION ? who->population : who->superpopulation;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const group_result *)a)->name, ((const group_result *)b)->name);
}

/* Names of the groups of the judged people, each once, ascending. */
static int64_t names_find(const evaluation *e, const window_set *w, group_kind kind,
                          group_result *groups)
{
    int64_t n = 0;
    for (int64_t i = 0; i < w->n; i++) {
        const char *name = name_of(&e->d->people[w->at[i].person], kind);
        if ((i > 0 && w->at[i].person == w->at[i - 1].person) || !name[0])
            continue;
        int64_t k = 0;
        while (k < n && strcmp(groups[k].name, name) != 0)
            k++;
        if (k == n)
            groups[n++] = (group_result){.name = name};
    }
    if (n > 0)
        qsort(groups, (size_t)n, sizeof *groups, by_name);
    return n;
}

/* Hits and windows of one group, by person and by block, then its numbers. */
static status judge_group(const evaluation *e, const context_result *r, const method_result *m,
                          group_kind kind, double *sums, group_result *g)
{
    const window_set *w = &r->windows;
    const dataset *d = e->d;
    const size_t people = (size_t)d->n_people, blocks = (size_t)d->n_blocks;
    double *person_hits = sums, *person_windows = sums + people;
    double *block_hits = sums + 2 * people, *block_windows = block_hits + blocks;
    int64_t hits = 0;
    memset(sums, 0, 2 * (people + blocks) * sizeof *sums);
    for (int64_t i = 0; i < w->n; i++) {
        const int32_t person = w->at[i].person;
        if (strcmp(name_of(&d->people[person], kind), g->name) != 0)
            continue;
        const bool hit = m->predicted[i] == w->label[i];
        g->n_people += i == 0 || w->at[i - 1].person != person;
        g->n_windows++;
        hits += hit;
        person_hits[person] += hit;
        person_windows[person] += 1;
        block_hits[w->block[i]] += hit;
        block_windows[w->block[i]] += 1;
    }
    g->accuracy = g->n_windows ? (double)hits / (double)g->n_windows : NAN;
    TRY(bootstrap_ratio(person_hits, person_windows, d->n_people, e->o.rounds, e->o.seed,
                        RESAMPLE_PEOPLE, &g->ci_people));
    return bootstrap_ratio(block_hits, block_windows, d->n_blocks, e->o.rounds, e->o.seed,
                           RESAMPLE_BLOCKS, &g->ci_blocks);
}

status groups_judge(const evaluation *e, const context_result *r, const method_result *m,
                    group_kind kind, group_result **out, int64_t *n)
{
    const dataset *d = e->d;
    group_result *groups = calloc((size_t)d->n_people + 1, sizeof *groups);
    double *sums = calloc(2 * (size_t)(d->n_people + d->n_blocks) + 1, sizeof *sums);
    status st = STATUS_OK;
    *out = NULL;
    *n = 0;
    if (!groups || !sums) {
        st = fail(STATUS_MEMORY, "%s: no memory for sums over %lld people; use a node with more",
                  d->path, (long long)d->n_people);
        goto done;
    }
    const int64_t found = names_find(e, &r->windows, kind, groups);
    for (int64_t k = 0; k < found; k++)
        TRY_GOTO(done, judge_group(e, r, m, kind, sums, &groups[k]));
    *out = groups;
    *n = found;
    groups = NULL;

done:
    free(groups);
    free(sums);
    return st;
}

static int by_share(const void *a, const void *b)
{
    const confused_pair *x = a, *y = b;
    if (x->share != y->share)
        return x->share > y->share ? -1 : 1;
    if (x->a != y->a)
        return x->a < y->a ? -1 : 1;
    return x->b < y->b ? -1 : x->b > y->b;
}

int confused_pairs(const method_result *m, int classes, confused_pair *out)
{
    confused_pair *all = calloc((size_t)classes * (size_t)classes + 1, sizeof *all);
    int n = 0;
    if (!all)
        return 0;
    for (int a = 0; a < classes; a++)
        for (int b = a + 1; b < classes; b++) {
            const int64_t a_as_b = m->confusion[a * classes + b];
            const int64_t b_as_a = m->confusion[b * classes + a];
            int64_t windows = 0;
            for (int p = 0; p < classes; p++)
                windows += m->confusion[a * classes + p] + m->confusion[b * classes + p];
            if (a_as_b + b_as_a > 0)
                all[n++] = (confused_pair){a, b, a_as_b, b_as_a,
                                           (double)(a_as_b + b_as_a) / (double)windows};
        }
    if (n > 0)
        qsort(all, (size_t)n, sizeof *all, by_share);
    n = n < CONFUSED_PAIRS ? n : CONFUSED_PAIRS;
    if (n > 0)
        memcpy(out, all, (size_t)n * sizeof *all);
    free(all);
    return n;
}
