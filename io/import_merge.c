/* Raw sites of all files become the sites of the set. The same site in two files of the same people
 * is taken once where every call is equal, and refused otherwise; files of different people must
 * tell the same sites, or the user says what a site means that a file lacks. */
#include "io/import_state.h"
#include "runtime/core/log.h"

#include <stdlib.h>
#include <string.h>

static status no_memory(void)
{
    return fail(STATUS_MEMORY, "import: no memory for the sites; use more ranks on more machines");
}

typedef struct {
    import_state *s;
    int32_t *order; /* (n_raw) raw sites by chromosome, position, file */
    int32_t *base;  /* (n_raw) the raw site whose site it shares, itself otherwise */
    int32_t *on;    /* (n_groups, CHROMOSOMES)  1 + its first file there, 0: none */
    int32_t *met;   /* (n_groups) 1 + the raw site at the position in hand */
    int64_t n_same; /* sites that two files tell alike */
    int64_t same_a, same_b;
} merging;

static int by_place(const void *a, const void *b, void *raw)
{
    const raw_site *sorting = raw;
    const raw_site *x = &sorting[*(const int32_t *)a], *y = &sorting[*(const int32_t *)b];
    if (x->chromosome != y->chromosome)
        return x->chromosome < y->chromosome ? -1 : 1;
    if (x->position != y->position)
        return x->position < y->position ? -1 : 1;
    return (x->file > y->file) - (x->file < y->file);
}

static const import_file *file_of(const import_state *s, int32_t raw)
{
    return &s->files[s->raw[raw].file];
}

/* ---- who must be where ---- */

/* A person of one file whom the other lacks; NULL: none. */
static const char *lacking(const import_state *s, const import_file *a, const import_file *b)
{
    for (int64_t i = 0, j = 0; i < a->n_has; i++) {
        while (j < b->n_has && b->has[j] < a->has[i])
            j++;
        if (j == b->n_has || b->has[j] != a->has[i])
            return s->id[a->has[i]];
    }
    return NULL;
}

static bool disjoint(const import_file *a, const import_file *b)
{
    for (int64_t i = 0, j = 0; i < a->n_has && j < b->n_has;) {
        if (a->has[i] == b->has[j])
            return false;
        if (a->has[i] < b->has[j])
            i++;
        else
            j++;
    }
    return true;
}

/* The first file of a group that has a chromosome. */
static const import_file *file_with(const merging *m, int64_t group, int k)
{
    int32_t f = m->on[group * CHROMOSOMES + k];
    return f ? &m->s->files[f - 1] : NULL;
}

/* Every person in exactly one group of files on each chromosome. */
static status people_check(const merging *m, int k)
{
    const import_state *s = m->s;
    int64_t covered = 0;
    const import_file *any = NULL;
    for (int64_t g = 0; g < s->n_groups; g++) {
        const import_file *a = file_with(m, g, k);
        if (!a)
            continue;
        any = a;
        covered += a->n_has;
        for (int64_t h = 0; h < g; h++) {
            const import_file *b = file_with(m, h, k);
            if (!b || disjoint(a, b))
                continue;
            const char *who = lacking(s, b, a);
            const import_file *has = who ? b : a, *lacks = who ? a : b;
            return fail(STATUS_DATA,
                        "%s: %s is in %s but not here, and both files tell %s; give files of the "
                        "same people (bcftools merge)",
                        lacks->path, who ? who : lacking(s, a, b), has->path, s->name[k]);
        }
    }
    if (!any || covered == s->n_people || s->o->missing_to_ref)
        return STATUS_OK;
    for (int64_t f = 0; f < s->o->n_files; f++) {
        const char *who = s->files[f].empty ? NULL : lacking(s, &s->files[f], any);
        if (who && !m->on[s->files[f].group * CHROMOSOMES + k])
            return fail(STATUS_DATA,
                        "%s: %s is in %s but not here, so nobody knows what %s carries on %s; give "
                        "a file with everybody, or --missing-to-ref",
                        any->path, who, s->files[f].path, who, s->name[k]);
    }
    return STATUS_OK;
}

/* ---- one position ---- */

static status pair_check(merging *m, int32_t a, int32_t b)
{
    const import_state *s = m->s;
    if (a == b)
        return STATUS_OK;
    const raw_site *x = &s->raw[a], *y = &s->raw[b];
    const import_file *fx = file_of(s, a), *fy = file_of(s, b);
    const char *name = s->name[x->chromosome];
    if (x->ref != y->ref)
        return fail(STATUS_DATA,
                    "%s:%lld: %s:%d has the reference base (REF) %c here and %c in %s:%lld; "
                    "give files of one reference",
                    fy->path, (long long)y->line, name, y->position, "ACGT"[y->ref], "ACGT"[x->ref],
                    fx -> path, (long long)x -> line);
    if (fx->group != fy->group)
        return STATUS_OK;
    if (x->calls != y->calls || x->told != y->told)
        return fail(STATUS_DATA,
                    "%s:%lld: %s:%d is in %s:%lld too, with other alleles or genotypes; give each "
                    "site once",
                    fy->path, (long long)y->line, name, y->position, fx->path, (long long)x->line);
    m->same_a = x->file;
    m->same_b = y->file;
    m->n_same++;
    return STATUS_OK;
}

static status site_lists_differ(const merging *m, const int32_t *raw, int64_t n)
{
    const import_state *s = m->s;
    const raw_site *x = &s->raw[raw[0]];
    for (int64_t g = 0; g < s->n_groups; g++) {
        bool here = !m->on[g * CHROMOSOMES + x->chromosome];
        for (int64_t i = 0; i < n; i++)
            here = here || file_of(s, raw[i])->group == g;
        if (here)
            continue;
        const import_file *lacks = file_with(m, g, x->chromosome);
        return fail(STATUS_DATA,
                    "%s: has no %s:%d, which %s tells of other people; merge the files (bcftools "
                    "merge), or give --missing-to-ref where the reference is meant",
                    lacks->path, s->name[x->chromosome], x->position, file_of(s, raw[0])->path);
    }
    return STATUS_OK;
}

/* raw[0 .. n): the same chromosome and position, each of another file. */
static status position_merge(merging *m, const int32_t *raw, int64_t n, int64_t groups_here)
{
    import_state *s = m->s;
    unsigned all = 0, told = 0;
    int64_t groups = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t *met = &m->met[file_of(s, raw[i])->group];
        bool repeated = *met > 0;
        TRY(pair_check(m, repeated ? *met - 1 : raw[0], raw[i]));
        if (!repeated)
            *met = raw[i] + 1;
        groups += !repeated;
        m->base[raw[i]] = repeated ? -1 : raw[0];
        all |= s->raw[raw[i]].carried;
        told |= s->raw[raw[i]].told;
    }
    for (int64_t i = 0; i < n; i++)
        m->met[file_of(s, raw[i])->group] = 0;
    if (groups < groups_here && !s->o->missing_to_ref)
        return site_lists_differ(m, raw, n);
    s->report->sites.multiallelic += (told & (told - 1)) != 0;
    s->report->sites.monomorphic += all == 0;
    for (int64_t i = 0; i < n; i++)
        s->site_of_raw[raw[i]] = m->base[raw[i]] < 0 || all == 0 ? -1 : (int32_t)s->n_sites;
    if (all == 0)
        return STATUS_OK;
    const raw_site *x = &s->raw[raw[0]];
    s->sites[s->n_sites++] = (site){.position = x->position, .ref = x->ref, .alts = (uint8_t)all};
    return STATUS_OK;
}

/* ---- all positions ---- */

/* One file writes chr21 and another 22: the set names them one way, with the prefix. */
static status names_unify(import_state *s)
{
    bool with = false, without = false;
    for (int k = 1; k < CHROMOSOMES; k++) {
        bool prefixed;
        if (!s->name[k] || !chromosome_plain(s->name[k], &prefixed))
            continue;
        with = with || prefixed;
        without = without || !prefixed;
    }
    for (int k = 1; k < CHROMOSOMES && with && without; k++) {
        bool prefixed;
        if (!s->name[k] || !chromosome_plain(s->name[k], &prefixed) || prefixed)
            continue;
        char *name = strdup(chromosome_prefixed_name(k));
        if (!name)
            return no_memory();
        free(s->name[k]);
        s->name[k] = name;
    }
    return STATUS_OK;
}

static status tables_open(merging *m)
{
    import_state *s = m->s;
    size_t n = (size_t)s->n_raw + 1;
    m->order = malloc(n * sizeof *m->order);
    m->base = malloc(n * sizeof *m->base);
    m->on = calloc((size_t)(s->n_groups + 1) * CHROMOSOMES, sizeof *m->on);
    m->met = calloc((size_t)s->n_groups + 1, sizeof *m->met);
    s->site_of_raw = malloc(n * sizeof *s->site_of_raw);
    s->sites = malloc(n * sizeof *s->sites);
    s->chromosomes = calloc(CHROMOSOMES, sizeof *s->chromosomes);
    if (!m->order || !m->base || !m->on || !m->met || !s->site_of_raw || !s->sites ||
        !s->chromosomes)
        return no_memory();
    bool sorted = true;
    for (int32_t i = 0; i < s->n_raw; i++) {
        m->order[i] = i;
        int32_t *on = &m->on[file_of(s, i)->group * CHROMOSOMES + s->raw[i].chromosome];
        if (*on == 0)
            *on = s->raw[i].file + 1;
        sorted = sorted && (i == 0 || by_place(&m->order[i - 1], &m->order[i], s->raw) <= 0);
    }
    if (!sorted)
        qsort_r(m->order, (size_t)s->n_raw, sizeof *m->order, by_place, s->raw);
    return STATUS_OK;
}

static status chromosome_merge(merging *m, int k, int64_t *at)
{
    import_state *s = m->s;
    int64_t groups = 0, first = s->n_sites;
    for (int64_t g = 0; g < s->n_groups; g++)
        groups += m->on[g * CHROMOSOMES + k] > 0;
    TRY(people_check(m, k));
    while (*at < s->n_raw && s->raw[m->order[*at]].chromosome == k) {
        int64_t n = 1;
        const raw_site *x = &s->raw[m->order[*at]];
        while (*at + n < s->n_raw && s->raw[m->order[*at + n]].chromosome == k &&
               s->raw[m->order[*at + n]].position == x->position)
            n++;
        TRY(position_merge(m, m->order + *at, n, groups));
        *at += n;
    }
    s->identity_of[s->n_chromosomes] = k;
    s->chromosomes[s->n_chromosomes++] = (chromosome){
        .name = s->name[k], .length = s->length[k], .site0 = first, .sites = s->n_sites - first};
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
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Entries by site of the set; dropped ones go. */
static void entries_convert(const import_state *s, carried *own)
{
    int64_t n = 0;
    bool sorted = true;
    for (int64_t i = 0; i < own->n; i++) {
        entry e = own->list[i];
        e.site = s->site_of_raw[e.site];
        if (e.site < 0)
            continue;
        sorted = sorted && (n == 0 || by_site(&own->list[n - 1], &e) <= 0);
        own->list[n++] = e;
    }
    own->n = n;
    if (!sorted)
        qsort(own->list, (size_t)n, sizeof *own->list, by_site);
}

/* Missing runs by site of the set; runs end at chromosome ends later. */
static status missing_convert(const import_state *s, carried *own)
{
    int64_t most = 0, n = 0;
    for (int64_t i = 0; i < own->n_missing; i++)
        most += own->missing[i].count;
    int32_t *list = malloc(((size_t)most + 1) * sizeof *list);
    if (!list)
        return no_memory();
    for (int64_t i = 0; i < own->n_missing; i++)
        for (int32_t j = 0; j < own->missing[i].count; j++) {
            int32_t to = s->site_of_raw[own->missing[i].first + j];
            if (to >= 0)
                list[n++] = to;
        }
    qsort(list, (size_t)n, sizeof *list, by_index);
    int64_t runs = 0; /* never more than before: sites of one run may only part at sorted borders */
    missing_run *out = malloc(((size_t)n + 1) * sizeof *out);
    if (!out) {
        free(list);
        return no_memory();
    }
    for (int64_t i = 0; i < n; i++) {
        if (i > 0 && list[i] == list[i - 1])
            continue;
        if (runs > 0 && out[runs - 1].first + out[runs - 1].count == list[i])
            out[runs - 1].count++;
        else
            out[runs++] = (missing_run){list[i], 1};
    }
    free(list);
    free(own->missing);
    own->missing = out;
    own->n_missing = own->room_missing = runs;
    return STATUS_OK;
}

status import_merge(import_state *s)
{
    merging m = {.s = s};
    int64_t at = 0;
    status st;
    TRY(names_unify(s));
    TRY_GOTO(done, tables_open(&m));
    for (int k = 1; k < CHROMOSOMES; k++)
        if (at < s->n_raw && s->raw[m.order[at]].chromosome == k)
            TRY_GOTO(done, chromosome_merge(&m, k, &at));
    s->report->sites.duplicates = m.n_same;
    if (m.n_same > 0)
        log_warning("%s: %lld sites are in %s too, with the same calls; taken once",
                    s->files[m.same_b].path, (long long)m.n_same, s->files[m.same_a].path);
    if (s->n_sites == 0) {
        st = fail(STATUS_DATA,
                  "%s: nobody carries a base other than the reference at any of %lld "
                  "records; give a file with variation",
                  s->files[0].path, (long long)s->report->sites.read);
        goto done;
    }
    for (int64_t p = 0; p < s->mine; p++) {
        entries_convert(s, &s->own[p]);
        TRY_GOTO(done, missing_convert(s, &s->own[p]));
    }
done:
    free(m.order);
    free(m.base);
    free(m.on);
    free(m.met);
    return st;
}
