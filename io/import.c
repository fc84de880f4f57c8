/* An import from end to end: people, sites, merging, dealing; then every rank gets the people whom
 * it writes, in the order of the file (training people by virtual shard, then the others), and all
 * ranks write together. */
#include "io/import.h"

#include "io/dataset_write.h"
#include "io/import_state.h"
#include "runtime/core/log.h"

#include <stdlib.h>
#include <string.h>

static status no_memory(void)
{
    return fail(STATUS_MEMORY,
                "import: no memory for the entries; use more ranks on more machines");
}

/* ---- the order of people in the file ---- */

static int by_shard(const void *a, const void *b, void *people)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    const individual *p = (const individual *)people + x, *q = (const individual *)people + y;
    if (p->split != q->split)
        return p->split < q->split ? -1 : 1;
    if (p->shard != q->shard)
        return p->shard < q->shard ? -1 : 1;
    return (x > y) - (x < y);
}

/* What travels before a person's entries. */
typedef struct {
    int64_t place; /* in the file */
    int64_t n_entries, n_missing;
} parcel;

typedef struct {
    size_t *send, *send_at, *recv, *recv_at; /* (ranks) bytes */
    char *out, *in;
} mail;

static void mail_close(mail *m)
{
    free(m->send);
    free(m->send_at);
    free(m->recv);
    free(m->recv_at);
    free(m->out);
    free(m->in);
}

static int64_t first_of(int64_t n_people, int64_t rank, int64_t size)
{
    return n_people * rank / size;
}

/* Who writes the person at a place of the file. */
static int64_t owner_of(int64_t n_people, int64_t place, int64_t size)
{
    int64_t r = place * size / n_people;
    while (first_of(n_people, r + 1, size) <= place)
        r++;
    while (first_of(n_people, r, size) > place)
        r--;
    return r;
}

static size_t parcel_bytes(const parcel *p)
{
    return sizeof *p + (size_t)p->n_entries * sizeof(entry) +
           (size_t)p->n_missing * sizeof(missing_run);
}

static parcel parcel_of(const import_state *s, int64_t person, int64_t place)
{
    int64_t from = (person - s->first) * s->n_chromosomes, to = from + s->n_chromosomes;
    return (parcel){place, s->run[to] - s->run[from],
                    s->missing_run_of[to] - s->missing_run_of[from]};
}

static size_t parcel_put(const import_state *s, int64_t person, const parcel *p, char *to)
{
    int64_t from = (person - s->first) * s->n_chromosomes;
    size_t entries = (size_t)p->n_entries * sizeof(entry);
    size_t missing = (size_t)p->n_missing * sizeof(missing_run);
    memcpy(to, p, sizeof *p);
    memcpy(to + sizeof *p, s->entries + s->run[from], entries);
    memcpy(to + sizeof *p + entries, s->missing + s->missing_run_of[from], missing);
    return sizeof *p + entries + missing;
}

/* place_of (n_people): where each person goes in the file. */
static status mail_pack(const import_state *s, const int32_t *order, const int32_t *place_of,
                        mail *m)
{
    int64_t size = comm_size(s->c);
    size_t n = (size_t)size + 1, total = 0;
    m->send = calloc(n, sizeof *m->send);
    m->send_at = calloc(n, sizeof *m->send_at);
    m->recv = calloc(n, sizeof *m->recv);
    m->recv_at = calloc(n, sizeof *m->recv_at);
    if (!m->send || !m->send_at || !m->recv || !m->recv_at)
        return no_memory();
    for (int64_t p = s->first; p < s->first + s->mine; p++) {
        parcel one = parcel_of(s, p, place_of[p]);
        m->send[owner_of(s->n_people, one.place, size)] += parcel_bytes(&one);
        total += parcel_bytes(&one);
    }
    m->out = malloc(total + 1);
    if (!m->out)
        return no_memory();
    size_t at = 0;
    for (int64_t r = 0; r < size; r++) {
        m->send_at[r] = at;
        for (int64_t i = first_of(s->n_people, r, size); i < first_of(s->n_people, r + 1, size);
             i++)
            if (import_is_own(s, order[i])) {
                parcel one = parcel_of(s, order[i], i);
                at += parcel_put(s, order[i], &one, m->out + at);
            }
    }
    return STATUS_OK;
}

static status mail_send(const import_state *s, mail *m)
{
    int64_t size = comm_size(s->c), rank = comm_rank(s->c);
    size_t *all = malloc((size_t)(size * size) * sizeof *all), total = 0;
    status st = comm_agree(s->c, all ? STATUS_OK : no_memory());
    if (st != STATUS_OK)
        goto done;
    TRY_GOTO(done, comm_allgather(s->c, m->send, (size_t)size * sizeof *m->send, all));
    for (int64_t r = 0; r < size; r++) {
        m->recv[r] = all[r * size + rank];
        m->recv_at[r] = total;
        total += m->recv[r];
    }
    m->in = malloc(total + 1);
    TRY_GOTO(done, comm_agree(s->c, m->in ? STATUS_OK : no_memory()));
    st = comm_alltoallv(s->c, m->out, m->send, m->send_at, m->in, m->recv, m->recv_at);
    free(m->out);
    m->out = NULL;
    m->recv_at[size] = total;
done:
    free(all);
    return st;
}

/* One person's entries and missing runs at their place among mine; runs by chromosome again. */
static void person_unpack(const import_state *s, const char *from, const parcel *p,
                          dataset_part *to, entry *entries, int64_t *run, missing_run *missing,
                          int64_t *missing_of)
{
    int64_t x = (p->place - to->first_person) * s->n_chromosomes, e = run[x], r = missing_of[x];
    int64_t e_end = e + p->n_entries, r_end = r + p->n_missing;
    memcpy(entries + e, from, (size_t)p->n_entries * sizeof *entries);
    memcpy(missing + r, from + (size_t)p->n_entries * sizeof *entries,
           (size_t)p->n_missing * sizeof *missing);
    for (int64_t c = 0; c < s->n_chromosomes; c++) {
        int64_t end = s->chromosomes[c].site0 + s->chromosomes[c].sites;
        while (e < e_end && entries[e].site < end)
            e++;
        while (r < r_end && missing[r].first < end)
            r++;
        run[x + c + 1] = e;
        missing_of[x + c + 1] = r;
    }
}

static status mail_open(const import_state *s, const mail *m, dataset_part *to)
{
    int64_t size = comm_size(s->c), n = s->n_chromosomes;
    size_t total = m->recv_at[size], people = (size_t)to->mine;
    size_t *at = calloc(people + 1, sizeof *at);
    int64_t *run = calloc(people * (size_t)n + 1, sizeof *run);
    int64_t *missing_of = calloc(people * (size_t)n + 1, sizeof *missing_of);
    entry *entries = malloc(total + 1);
    missing_run *missing = malloc(total + 1);
    to->run = run;
    to->missing_run_of = missing_of;
    to->entries = entries;
    to->missing = missing;
    if (!at || !run || !missing_of || !entries || !missing) {
        free(at);
        return no_memory();
    }
    for (size_t i = 0; i < total;) {
        parcel p;
        memcpy(&p, m->in + i, sizeof p);
        at[p.place - to->first_person] = i;
        i += parcel_bytes(&p);
    }
    for (int64_t i = 0; i < to->mine; i++) {
        parcel p;
        memcpy(&p, m->in + at[i], sizeof p);
        person_unpack(s, m->in + at[i] + sizeof p, &p, to, entries, run, missing, missing_of);
    }
    free(at);
    return STATUS_OK;
}

/* ---- the report ---- */

/* Mean number of non-reference sites of the people of each label. */
static status nonref_count(const import_state *s, import_report *r)
{
    int64_t n = s->n_labels + 1;
    int64_t *sums = calloc((size_t)n, sizeof *sums);
    r->labels = calloc((size_t)n, sizeof *r->labels);
    r->nonref_mean = calloc((size_t)n, sizeof *r->nonref_mean);
    r->label_people = calloc((size_t)n, sizeof *r->label_people);
    status st = comm_agree(
        s->c, sums && r->labels && r->nonref_mean && r->label_people ? STATUS_OK : no_memory());
    if (st != STATUS_OK)
        goto done;
    int64_t n_entries = s->run[s->mine * s->n_chromosomes], loose = 0;
    for (int64_t p = 0; p < s->mine; p++) {
        int32_t label = s->people[s->first + p].label;
        int64_t from = p * s->n_chromosomes, *sum = &sums[label < 0 ? n - 1 : label];
        for (int64_t e = s->run[from]; e < s->run[from + s->n_chromosomes]; e++) {
            *sum += e == s->run[from] || s->entries[e].site != s->entries[e - 1].site;
            loose += s->entries[e].mask == 0;
        }
    }
    TRY_GOTO(done, comm_sum_i64(s->c, sums, n));
    TRY_GOTO(done, comm_sum_i64(s->c, &n_entries, 1));
    TRY_GOTO(done, comm_sum_i64(s->c, &loose, 1));
    for (int64_t p = 0; p < s->n_people; p++)
        r->label_people[s->people[p].label < 0 ? n - 1 : s->people[p].label]++;
    for (int64_t i = 0; i < n; i++) {
        r->nonref_mean[i] = r->label_people[i] ? (double)sums[i] / (double)r->label_people[i] : 0;
        r->labels[i] = strdup(i < s->n_labels ? s->labels[i] : "");
        if (!r->labels[i]) {
            st = no_memory();
            goto done;
        }
    }
    r->n_labels = s->n_labels;
    r->n_people = s->n_people;
    r->n_entries = n_entries;
    r->n_shards = s->split.n_shards;
    r->phased = loose == 0;
    r->sites.kept = s->n_sites;
done:
    free(sums);
    return st;
}

void import_report_close(import_report *r)
{
    for (int64_t i = 0; r->labels && i <= r->n_labels; i++)
        free(r->labels[i]);
    free(r->labels);
    free(r->nonref_mean);
    free(r->label_people);
    memset(r, 0, sizeof *r);
}

/* ---- writing ---- */

static status import_write(import_state *s, import_report *r)
{
    int64_t size = comm_size(s->c), rank = comm_rank(s->c);
    size_t n = (size_t)s->n_people + 1;
    mail m = {0};
    int32_t *order = malloc(n * sizeof *order), *place_of = malloc(n * sizeof *place_of);
    individual *people = malloc(n * sizeof *people);
    dataset_part part = {.assembly = r->assembly,
                         .split_hash = r->split_hash,
                         .phased = r->phased,
                         .seed = s->o->seed,
                         .n_people = s->n_people,
                         .n_chromosomes = s->n_chromosomes,
                         .n_labels = s->n_labels,
                         .n_shards = s->split.n_shards,
                         .n_sites = s->n_sites,
                         .people = people,
                         .chromosomes = s->chromosomes,
                         .labels = (const char *const *)s->labels,
                         .sites = s->sites};
    status st = comm_agree(s->c, order && place_of && people ? STATUS_OK : no_memory());
    if (st != STATUS_OK)
        goto done;
    for (int32_t i = 0; i < s->n_people; i++)
        order[i] = i;
    qsort_r(order, (size_t)s->n_people, sizeof *order, by_shard, s->people);
    for (int32_t i = 0; i < s->n_people; i++) {
        people[i] = s->people[order[i]];
        place_of[order[i]] = i;
    }
    part.first_person = first_of(s->n_people, rank, size);
    part.mine = first_of(s->n_people, rank + 1, size) - part.first_person;
    TRY_GOTO(done, comm_agree(s->c, mail_pack(s, order, place_of, &m)));
    free(s->entries);
    s->entries = NULL;
    TRY_GOTO(done, mail_send(s, &m));
    TRY_GOTO(done, comm_agree(s->c, mail_open(s, &m, &part)));
    free(m.in);
    m.in = NULL;
    st = dataset_write(s->o->output, s->c, &part, &r->file_bytes);
done:
    free((void *)part.entries);
    free((void *)part.run);
    free((void *)part.missing);
    free((void *)part.missing_run_of);
    mail_close(&m);
    free(order);
    free(place_of);
    free(people);
    return st;
}

static void state_close(import_state *s)
{
    for (int64_t f = 0; s->files && f < s->o->n_files; f++) {
        free(s->files[f].person);
        free(s->files[f].has);
    }
    for (int64_t p = 0; s->own && p < s->mine; p++) {
        free(s->own[p].list);
        free(s->own[p].missing);
    }
    for (int64_t p = 0; s->id && p < s->n_people; p++)
        free(s->id[p]);
    for (int k = 0; k < CHROMOSOMES; k++)
        free(s->name[k]);
    free(s->files);
    free(s->own);
    free(s->id);
    free(s->people);
    free(s->labels);
    free(s->raw);
    free(s->sites);
    free(s->chromosomes);
    free(s->site_of_raw);
    free(s->entries);
    free(s->run);
    free(s->missing);
    free(s->missing_run_of);
    split_close(&s->split);
    labels_close(&s->map);
}

status import_run(const import_options *o, comm *c, import_report *r)
{
    memset(r, 0, sizeof *r);
    double started = clock_monotonic_s();
    import_state s = {.o = o, .c = c, .report = r};
    status st;
    /* every rank reads the same and finds the same fault; agreeing makes it one line */
    TRY_GOTO(done, comm_agree(c, import_people(&s)));
    TRY_GOTO(done, comm_agree(c, import_sites(&s)));
    TRY_GOTO(done, comm_agree(c, import_reference(&s)));
    TRY_GOTO(done, comm_agree(c, import_merge(&s)));
    TRY_GOTO(done, comm_agree(c, import_gather(&s)));
    TRY_GOTO(done, import_deal(&s));
    TRY_GOTO(done, nonref_count(&s, r));
    TRY_GOTO(done, import_write(&s, r));
    r->seconds = clock_monotonic_s() - started;
done:
    state_close(&s);
    return st;
}
