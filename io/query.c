/* From what a query's files tell to a data set on the model's sites, and the judgement whether they
 * tell enough: see query.h. */
#include "io/query.h"

#include "io/query_state.h"
#include "runtime/core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLIPPED_MOST 0.01 /* of the matched sites: more is another reference genome, not chance */
#define OVERLAP_LEAST 0.5
#define OVERLAP_GOOD 0.8

static status no_memory(const query_state *s)
{
    return fail(STATUS_MEMORY, "%s: no memory for its %lld people; judge fewer at once",
                s->o->files[0], (long long)s->n_people);
}

static status state_open(query_state *s)
{
    const dataset *d = s->panel;
    s->told = calloc((size_t)d->n_sites + 1, sizeof *s->told);
    s->name = calloc((size_t)d->n_chromosomes + 1, sizeof *s->name);
    s->ordered = true;
    s->last = -1;
    for (int k = 0; k < CHROMOSOMES; k++)
        s->of_identity[k] = -1;
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        const int k = chromosome_identity(d->chromosomes[c].name);
        if (k > 0)
            s->of_identity[k] = c;
    }
    return s->told && s->name ? STATUS_OK : no_memory(s);
}

static void state_close(query_state *s)
{
    for (int64_t i = 0; s->name && i < s->panel->n_chromosomes; i++)
        free(s->name[i]);
    for (int64_t i = 0; i < s->n_people; i++) {
        free(s->id[i]);
        free(s->people[i].list);
        free(s->people[i].marked);
    }
    free(s->id);
    free(s->people);
    free(s->name);
    free(s->told);
}

/* ---- does it tell enough? ---- */

static void count_sites(const query_state *s)
{
    query_report *r = s->report;
    const dataset *d = s->panel;
    for (int64_t c = 0; c < d->n_chromosomes; c++)
        *(s->name[c] ? &r->model_sites : &r->other_chromosome) += d->chromosomes[c].sites;
    r->absent = r->model_sites - r->matched;
    const int64_t own = r->matched + r->unknown_site + r->clash;
    const int64_t of = s->o->missing_to_ref ? own : r->model_sites;
    r->overlap = of ? (double)r->matched / (double)of : 0;
}

/* What may be wrong where sites meet but alleles do not. */
static const char *strand_hint(const query_report *r)
{
    return r->clash_strand > r->matched ? "most alleles are those of the other strand; " : "";
}

static status judge(const query_state *s)
{
    const query_report *r = s->report;
    const char *path = s->o->files[0];
    if (r->matched == 0)
        return fail(STATUS_DATA,
                    "%s: none of its %lld records is a site of the model (%lld sites, assembly %s; "
                    "%lld sites have other alleles); %sgive genotypes of that assembly",
                    path, (long long)r->records, (long long)s->panel->n_sites, s->panel->assembly,
                    (long long)r->clash, strand_hint(r));
    const double flipped = (double)r->flipped / (double)r->matched;
    if (flipped > FLIPPED_MOST && !s->o->force)
        return fail(STATUS_DATA,
                    "%s: REF and ALT are swapped at %lld of %lld sites of the model (%.1f %%, 1 %% "
                    "is the most): another reference genome, or none; correct REF (bcftools norm "
                    "-c s), or --force to turn them back",
                    path, (long long)r->flipped, (long long)r->matched, 100 * flipped);
    char what[160];
    snprintf(what, sizeof what,
             s->o->missing_to_ref ? "the model knows %lld of its %lld sites (%.1f %%)"
                                  : "it tells %lld of the model's %lld sites (%.1f %%)",
             (long long)r->matched,
             (long long)(s->o->missing_to_ref ? r->matched + r->unknown_site + r->clash
                                              : r->model_sites),
             100 * r->overlap);
    if (r->overlap < OVERLAP_LEAST && !s->o->force)
        return fail(STATUS_DATA,
                    "%s: %s, 50 %% is the least; %sgive the sites that the model knows%s, or "
                    "--force",
                    path, what, strand_hint(r),
                    s->o->missing_to_ref
                        ? ""
                        : ", --missing-to-ref where sites without variation were left out");
    if (flipped > FLIPPED_MOST)
        log_warning("%s: REF and ALT are swapped at %lld of %lld sites of the model (%.1f %%); "
                    "turned back",
                    path, (long long)r->flipped, (long long)r->matched, 100 * flipped);
    if (r->overlap < OVERLAP_GOOD)
        log_warning("%s: %s; predictions rest on fewer sites than the model was trained with", path,
                    what);
    return STATUS_OK;
}

/* ---- the data set ---- */

typedef struct {
    char *text; /* names of people and chromosomes */
    individual *people;
    chromosome *chromosomes;
    char **labels;
    site *sites;
    entry *entries;
    int64_t *run, *missing_of;
    missing_run *missing;
    int64_t n_missing, room_missing;
} made;

static void made_free(made *m)
{
    free(m->text);
    free(m->people);
    free(m->chromosomes);
    free(m->labels);
    free(m->sites);
    free(m->entries);
    free(m->run);
    free(m->missing_of);
    free(m->missing);
}

static const char *name_put(char **at, const char *name)
{
    const size_t n = strlen(name) + 1;
    char *here = memcpy(*at, name, n);
    *at += n;
    return here;
}

/* Names of people, chromosomes (as the query spells them) and labels, and the site table. */
static status tables_make(const query_state *s, made *m)
{
    const dataset *d = s->panel;
    size_t bytes = 1;
    for (int64_t i = 0; i < s->n_people; i++)
        bytes += strlen(s->id[i]) + 1;
    for (int64_t c = 0; c < d->n_chromosomes; c++)
        bytes += strlen(s->name[c] ? s->name[c] : d->chromosomes[c].name) + 1;
    for (int64_t i = 0; i < d->n_labels; i++)
        bytes += strlen(d->labels[i]) + 1;
    m->text = malloc(bytes);
    m->people = calloc((size_t)s->n_people + 1, sizeof *m->people);
    m->chromosomes = calloc((size_t)d->n_chromosomes + 1, sizeof *m->chromosomes);
    m->labels = calloc((size_t)d->n_labels + 1, sizeof *m->labels);
    m->sites = malloc(((size_t)d->n_sites + 1) * sizeof *m->sites);
    if (!m->text || !m->people || !m->chromosomes || !m->labels || !m->sites)
        return no_memory(s);
    char *at = m->text;
    for (int64_t i = 0; i < s->n_people; i++)
        m->people[i] = (individual){.id = name_put(&at, s->id[i]),
                                    .population = "",
                                    .superpopulation = "",
                                    .family = "",
                                    .split = SPLIT_TEST,
                                    .label = -1,
                                    .shard = -1};
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        m->chromosomes[c] = d->chromosomes[c];
        m->chromosomes[c].name = name_put(&at, s->name[c] ? s->name[c] : d->chromosomes[c].name);
    }
    for (int64_t i = 0; i < d->n_labels; i++)
        m->labels[i] = (char *)name_put(&at, d->labels[i]);
    memcpy(m->sites, d->sites, (size_t)d->n_sites * sizeof *m->sites);
    return STATUS_OK;
}

static int by_site(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->site != y->site)
        return x->site < y->site ? -1 : 1;
    return (int)x->allele - (int)y->allele;
}

static int by_index(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Entries of all people, one after the other; each person's own list is let go. */
static status entries_make(query_state *s, made *m)
{
    const dataset *d = s->panel;
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_people; i++)
        n += s->people[i].n;
    m->entries = malloc(((size_t)n + 1) * sizeof *m->entries);
    m->run = malloc((size_t)(s->n_people * d->n_chromosomes + 1) * sizeof *m->run);
    if (!m->entries || !m->run)
        return no_memory(s);
    int64_t at = 0;
    for (int64_t i = 0; i < s->n_people; i++) {
        query_person *p = &s->people[i];
        if (!s->ordered && p->n > 0)
            qsort(p->list, (size_t)p->n, sizeof *p->list, by_site);
        if (!s->ordered && p->n_marked > 0)
            qsort(p->marked, (size_t)p->n_marked, sizeof *p->marked, by_index);
        int64_t e = 0;
        for (int64_t c = 0; c < d->n_chromosomes; c++) {
            const chromosome *k = &d->chromosomes[c];
            m->run[i * d->n_chromosomes + c] = at + e;
            while (e < p->n && p->list[e].site < k->site0 + k->sites)
                e++;
        }
        if (p->n > 0)
            memcpy(m->entries + at, p->list, (size_t)p->n * sizeof *m->entries);
        at += p->n;
        free(p->list);
        p->list = NULL;
    }
    m->run[s->n_people * d->n_chromosomes] = at;
    return STATUS_OK;
}

/* Sites [first, first + count) are missing; joined with the run before where that ends here and is
 * of the same person and chromosome (begins at `from` or later in the list). */
static status missing_add(const query_state *s, made *m, int64_t from, int32_t first, int32_t count)
{
    missing_run *last = m->n_missing > from ? &m->missing[m->n_missing - 1] : NULL;
    if (last && last->first + last->count == first) {
        last->count += count;
        return STATUS_OK;
    }
    if (m->n_missing == m->room_missing) {
        const int64_t room = m->room_missing + m->room_missing / 2 + 256;
        missing_run *more = realloc(m->missing, (size_t)room * sizeof *more);
        if (!more)
            return no_memory(s);
        m->missing = more;
        m->room_missing = room;
    }
    m->missing[m->n_missing++] = (missing_run){first, count};
    return STATUS_OK;
}

/* Is a site missing for everybody? With missing_to_ref only on chromosomes without a record. */
static bool untold(const query_state *s, int64_t c, int64_t i)
{
    return !s->told[i] && !(s->o->missing_to_ref && s->name[c]);
}

/* Runs of sites that the query does not tell, by chromosome: the same for everybody. */
static status absent_make(const query_state *s, made *absent)
{
    const dataset *d = s->panel;
    absent->missing_of = calloc((size_t)d->n_chromosomes + 1, sizeof *absent->missing_of);
    if (!absent->missing_of)
        return no_memory(s);
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        const chromosome *k = &d->chromosomes[c];
        const int64_t from = absent->missing_of[c] = absent->n_missing;
        for (int64_t i = k->site0; i < k->site0 + k->sites; i++)
            if (untold(s, c, i))
                TRY(missing_add(s, absent, from, (int32_t)i, 1));
    }
    absent->missing_of[d->n_chromosomes] = absent->n_missing;
    return STATUS_OK;
}

/* One person's own missing calls between the runs of everybody. */
static status missing_of_person(const query_state *s, const made *absent, int64_t person, made *m)
{
    const dataset *d = s->panel;
    const query_person *p = &s->people[person];
    int64_t own = 0;
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        const chromosome *k = &d->chromosomes[c];
        const int64_t from = m->missing_of[person * d->n_chromosomes + c] = m->n_missing;
        int64_t all = absent->missing_of[c];
        const int64_t end = absent->missing_of[c + 1];
        for (;;) {
            const bool mine = own < p->n_marked && p->marked[own] < k->site0 + k->sites;
            if (mine && (all == end || p->marked[own] < absent->missing[all].first)) {
                TRY(missing_add(s, m, from, p->marked[own++], 1));
            } else if (all < end) {
                TRY(missing_add(s, m, from, absent->missing[all].first,
                                absent->missing[all].count));
                all++;
            } else {
                break;
            }
        }
    }
    return STATUS_OK;
}

static status missing_make(const query_state *s, made *m)
{
    made absent = {0};
    const int64_t runs = s->n_people * s->panel->n_chromosomes;
    status st = absent_make(s, &absent);
    m->missing_of = malloc((size_t)(runs + 1) * sizeof *m->missing_of);
    if (st == STATUS_OK && !m->missing_of)
        st = no_memory(s);
    for (int64_t i = 0; i < s->n_people && st == STATUS_OK; i++)
        st = missing_of_person(s, &absent, i, m);
    if (st == STATUS_OK)
        m->missing_of[runs] = m->n_missing;
    made_free(&absent);
    return st;
}

static bool all_phased(const made *m, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (m->entries[i].mask == 0)
            return false;
    return true;
}

static status data_make(query_state *s, dataset **out)
{
    const dataset *d = s->panel;
    made m = {0};
    status st;
    TRY_GOTO(failed, tables_make(s, &m));
    TRY_GOTO(failed, entries_make(s, &m));
    TRY_GOTO(failed, missing_make(s, &m));
    dataset view = {.seed = d->seed,
                    .n_people = s->n_people,
                    .n_chromosomes = d->n_chromosomes,
                    .n_sites = d->n_sites,
                    .n_entries = m.run[s->n_people * d->n_chromosomes],
                    .n_labels = d->n_labels,
                    .people = m.people,
                    .chromosomes = m.chromosomes,
                    .labels = (const char *const *)m.labels,
                    .sites = m.sites,
                    .entries = m.entries,
                    .run = m.run,
                    .missing = m.missing,
                    .missing_run_of = m.missing_of};
    snprintf(view.path, sizeof view.path, "%.1000s", s->o->files[0]);
    strcpy(view.assembly, d->assembly);
    strcpy(view.split_hash, d->split_hash);
    view.phased = all_phased(&m, view.n_entries);
    void *const owned[] = {m.text,    m.people, m.chromosomes, m.labels,    m.sites,
                           m.entries, m.run,    m.missing,     m.missing_of};
    return dataset_make(&view, owned, (int)(sizeof owned / sizeof *owned), out);
failed:
    made_free(&m);
    return st;
}

static status query_make(query_state *s, dataset **out)
{
    TRY(state_open(s));
    for (int64_t f = 0; f < s->o->n_files; f++)
        TRY(query_read(s, f));
    count_sites(s);
    TRY(judge(s));
    return data_make(s, out);
}

status query_open(const query_options *o, const dataset *panel, comm *c, dataset **out,
                  query_report *r)
{
    query_state s = {.o = o, .panel = panel, .report = r};
    *r = (query_report){0};
    *out = NULL;
    const status st = comm_agree(c, query_make(&s, out));
    if (st != STATUS_OK)
        dataset_close(out);
    state_close(&s);
    return st;
}
