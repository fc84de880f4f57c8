/* Streaming: every file once, record by record. Records of one position are one site, told in one
 * line or in several; what a call carries goes to its person. Every rank sees every record, so that
 * counts and errors are the same everywhere; only own people's entries are kept. */
#include "io/import_state.h"
#include "runtime/core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINES_KEPT 8 /* lines of one site that a message can name */
#define OTHERS_KEPT                                                                                \
    4 /* contigs that are no chromosomes: three are told, a fourth says there are more */

/* The site that is being told. */
typedef struct {
    int32_t position;
    int chromosome;
    int64_t n_lines, line[LINES_KEPT]; /* lines that count as the site */
    unsigned told_by[LINES_KEPT];      /* their bases */
    int ref;                           /* first letter of REF, -1: none of A C G T so far */
    int64_t ref_line;
    bool is_site, has_gt;
    unsigned told;
    call *calls; /* (n_columns) */
} pending;

typedef struct {
    int64_t records, n_unknown, gt_records;
    int chromosome; /* identity of the record before */
    int32_t position;
    bool seen[CHROMOSOMES];
    int64_t *identity_of; /* by spelling of the file, -1: not asked yet */
    int64_t n_spellings;
} file_progress;

/* Phase sets: a person with two of them on a chromosome is phased only locally. */
typedef struct {
    uint32_t *set; /* (n_people) the first one met on this chromosome */
    bool *several;
    int64_t most; /* people with several, on the chromosome with most of them */
    char where[128];
} phase_sets;

typedef struct {
    import_state *s;
    import_file *file;
    int64_t f;
    vcf_file *v;
    pending now;
    file_progress at;
    phase_sets *phase;
    name_table *others; /* contigs that are no chromosomes */
    const char **other_name;
    int64_t *other_line;
} streaming;

/* ---- what people carry ---- */

static status no_memory(const streaming *t)
{
    return fail(STATUS_MEMORY, "%s: no memory for the entries; use more ranks on more machines",
                t->file->path);
}

static status entry_add(const streaming *t, carried *own, int32_t raw, int base, unsigned mask)
{
    if (own->n == own->room) {
        int64_t room = own->room ? own->room + own->room / 2 : 256;
        entry *more = realloc(own->list, (size_t)room * sizeof *more);
        if (!more)
            return no_memory(t);
        own->list = more;
        own->room = room;
    }
    own->list[own->n++] = (entry){.site = raw, .allele = (uint8_t)base, .mask = (uint8_t)mask};
    return STATUS_OK;
}

static status missing_add(const streaming *t, carried *own, int32_t raw)
{
    missing_run *last = own->n_missing ? &own->missing[own->n_missing - 1] : NULL;
    if (last && last->first + last->count == raw) {
        last->count++;
        return STATUS_OK;
    }
    if (own->n_missing == own->room_missing) {
        int64_t room = own->room_missing ? own->room_missing + own->room_missing / 2 : 64;
        missing_run *more = realloc(own->missing, (size_t)room * sizeof *more);
        if (!more)
            return no_memory(t);
        own->missing = more;
        own->room_missing = room;
    }
    own->missing[own->n_missing++] = (missing_run){raw, 1};
    return STATUS_OK;
}

static status call_keep(const streaming *t, carried *own, int32_t raw, call c)
{
    for (int base = 0; base < 4 && (c & CALL_CARRIES); base++) {
        unsigned mask = call_mask(c, base);
        if (mask || call_unphased(c, base))
            TRY(entry_add(t, own, raw, base, mask));
    }
    return call_marked(c) ? missing_add(t, own, raw) : STATUS_OK;
}

/* Order of columns must not matter: a sum over people. */
static uint64_t call_hash(int64_t person, call c)
{
    uint64_t x = (uint64_t)person << 32 | c;
    x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 33;
}

/* The pending site is whole: a row of raw sites, and entries for own people. */
static status site_finish(streaming *t)
{
    import_state *s = t->s;
    pending *now = &t->now;
    if (!now->is_site)
        return STATUS_OK;
    now->is_site = false;
    if (s->n_raw == INT32_MAX)
        return fail(STATUS_DATA, "%s: more than %d sites; import fewer chromosomes at once",
                    t->file->path, INT32_MAX);
    if (s->n_raw == s->room_raw) {
        int64_t room = s->room_raw ? 2 * s->room_raw : 4096;
        raw_site *more = realloc(s->raw, (size_t)room * sizeof *more);
        if (!more)
            return no_memory(t);
        s->raw = more;
        s->room_raw = room;
    }
    int32_t raw = (int32_t)s->n_raw;
    unsigned bases = 0;
    uint64_t hash = 0;
    const bool hashed = s->o->n_files > 1;
    for (int64_t i = 0; i < t->file->n_columns; i++) {
        call c = now->has_gt ? now->calls[i] : CALL_MISSING | CALL_UNKNOWN;
        int64_t person = t->file->person[i];
        if (c == 0 || person < 0)
            continue;
        bases |= call_bases(c);
        if (hashed)
            hash += call_hash(person, c);
        if (import_is_own(s, person))
            TRY(call_keep(t, &s->own[person - s->first], raw, c));
    }
    s->raw[s->n_raw++] = (raw_site){.line = now->line[0],
                                    .position = now->position,
                                    .file = (int32_t)t->f,
                                    .chromosome = (uint8_t)now->chromosome,
                                    .ref = (uint8_t)now->ref,
                                    .told = (uint8_t)now->told,
                                    .carried = (uint8_t)bases,
                                    .calls = hash};
    return STATUS_OK;
}

/* ---- several lines of one site ---- */

static status told_twice(const streaming *t, const vcf_record *r, int64_t line)
{
    char alts[16];
    int n = 0;
    for (int b = 0; b < 4; b++)
        if (r->alts & t->now.told & 1u << b)
            n += snprintf(alts + n, sizeof alts - (size_t)n, "%s%c", n ? "," : "", "ACGT"[b]);
    return fail(STATUS_DATA,
                "%s:%lld: %s:%d %c>%s is told twice, in lines %lld and %lld; leave one of them "
                "(bcftools norm -d exact)",
                t->file->path, (long long)r->line, r->chrom, r->position, "ACGT"[t->now.ref],
                n ? alts : ".", (long long)line, (long long)r->line);
}

static status ref_check(streaming *t, const vcf_record *r)
{
    pending *now = &t->now;
    if (r->ref < 0)
        return STATUS_OK;
    if (now->ref >= 0 && now->ref != r->ref)
        return fail(STATUS_DATA,
                    "%s:%lld: %s:%d has the reference base (REF) %c here and %c in line %lld; "
                    "one of the lines is of another reference, correct it",
                    t->file->path, (long long)r->line, r->chrom, r->position, "ACGT"[r->ref],
                    "ACGT"[now->ref], (long long)now -> ref_line);
    if (now->ref < 0) {
        now->ref = r->ref;
        now->ref_line = r->line;
    }
    return STATUS_OK;
}

static status calls_join(streaming *t, const vcf_record *r)
{
    pending *now = &t->now;
    for (int64_t i = 0; i < t->file->n_columns; i++)
        if (!call_join(&now->calls[i], r->calls[i]))
            return fail(
                STATUS_DATA,
                "%s:%lld: %s carries two bases on one haplotype at %s:%d, the other in line "
                "%lld; correct one of the lines",
                t->file->path, (long long)r->line, vcf_header_of(t->v)->samples[i], r->chrom,
                r->position,
                (long long)
                    now->line[now->n_lines - 1 < LINES_KEPT ? now->n_lines - 1 : LINES_KEPT - 1]);
    return STATUS_OK;
}

static status site_add(streaming *t, const vcf_record *r)
{
    pending *now = &t->now;
    TRY(ref_check(t, r));
    /* a base, or nothing but the reference: what else a line tells is counted and left out */
    if (!r->ref_single || r->ref < 0 || (r->n_alts > 0 && r->alts == 0))
        return STATUS_OK;
    for (int64_t i = 0; i < now->n_lines && i < LINES_KEPT; i++)
        if ((now->told_by[i] & r->alts) || (now->told_by[i] == 0 && r->alts == 0))
            return told_twice(t, r, now->line[i]);
    if (now->told & r->alts)
        return told_twice(t, r, now->line[0]);
    if (r->has_gt) {
        if (now->has_gt)
            TRY(calls_join(t, r));
        else
            memcpy(now->calls, r->calls, (size_t)t->file->n_columns * sizeof *now->calls);
        now->has_gt = true;
    }
    if (now->n_lines < LINES_KEPT) {
        now->line[now->n_lines] = r->line;
        now->told_by[now->n_lines] = r->alts;
    }
    now->n_lines++;
    now->told |= r->alts;
    now->is_site = true;
    return STATUS_OK;
}

/* ---- chromosomes, order, phase sets ---- */

static status identity_of(streaming *t, const vcf_record *r, int *identity)
{
    if (r->contig >= t->at.n_spellings) {
        int64_t n = r->contig + 16;
        int64_t *more = realloc(t->at.identity_of, (size_t)n * sizeof *more);
        if (!more)
            return no_memory(t);
        for (int64_t i = t->at.n_spellings; i < n; i++)
            more[i] = -1;
        t->at.identity_of = more;
        t->at.n_spellings = n;
    }
    int64_t *known = &t->at.identity_of[r->contig];
    if (*known < 0) {
        *known = chromosome_identity(r->chrom);
        char **name = &t->s->name[*known];
        /* parts of one chromosome may be spelled in several ways: the shortest, then the first by
         * bytes, so that the order of files does not matter */
        if (*known > 0 && (!*name || strlen(r->chrom) < strlen(*name) ||
                           (strlen(r->chrom) == strlen(*name) && strcmp(r->chrom, *name) < 0))) {
            free(*name);
            if (!(*name = strdup(r->chrom)))
                return no_memory(t);
        }
    }
    *identity = (int)*known;
    return STATUS_OK;
}

static void phase_chromosome_end(streaming *t)
{
    phase_sets *ps = t->phase;
    int64_t n = 0;
    for (int64_t p = 0; p < t->s->n_people; p++)
        n += ps->several[p];
    if (n > ps->most) {
        ps->most = n;
        snprintf(ps->where, sizeof ps->where, "%.100s", t->s->name[t->at.chromosome]);
    }
    memset(ps->set, 0, (size_t)t->s->n_people * sizeof *ps->set);
    memset(ps->several, 0, (size_t)t->s->n_people * sizeof *ps->several);
}

static void phase_sets_see(streaming *t, const vcf_record *r)
{
    if (!r->phase_set)
        return;
    for (int64_t i = 0; i < t->file->n_columns; i++) {
        int64_t p = t->file->person[i];
        if (p < 0 || r->phase_set[i] == 0)
            continue;
        if (t->phase->set[p] == 0)
            t->phase->set[p] = r->phase_set[i];
        else if (t->phase->set[p] != r->phase_set[i])
            t->phase->several[p] = true;
    }
}

static status order_check(streaming *t, const vcf_record *r, int k)
{
    file_progress *at = &t->at;
    int64_t length = t->file->length[k] ? t->file->length[k] : t->s->length[k];
    if (length > 0 && r->position > length)
        return fail(STATUS_DATA,
                    "%s:%lld: position %d is behind the end of %s (%lld); correct the line or "
                    "the header",
                    t->file->path, (long long)r->line, r->position, r->chrom, (long long)length);
    if (k == at->chromosome) {
        if (r->position < at->position)
            return fail(
                STATUS_DATA, "%s:%lld: %s:%d stands after %s:%d; sort the file (bcftools sort)",
                t->file->path, (long long)r->line, r->chrom, r->position, r->chrom, at->position);
        at->position = r->position;
        return STATUS_OK;
    }
    if (at->seen[k])
        return fail(STATUS_DATA,
                    "%s:%lld: %s begins again after another chromosome; sort the file (bcftools "
                    "sort)",
                    t->file->path, (long long)r->line, r->chrom);
    if (at->chromosome)
        phase_chromosome_end(t);
    at->seen[k] = true;
    at->chromosome = k;
    at->position = r->position;
    return STATUS_OK;
}

static status other_contig(streaming *t, const vcf_record *r)
{
    t->at.n_unknown++;
    t->s->report->sites.other_contigs++;
    if (name_table_find(t->others, r->chrom) >= 0)
        return STATUS_OK;
    int64_t n = t->others->count;
    if (n < OTHERS_KEPT) {
        char *name = strdup(r->chrom);
        if (!name)
            return no_memory(t);
        t->other_name[n] = name;
        t->other_line[n] = r->line;
        return name_table_add(t->others, name, n, NULL);
    }
    return STATUS_OK;
}

/* ---- a record, a file, all files ---- */

static void count(import_counts *n, const vcf_record *r)
{
    n->read++;
    n->not_snv += r->kinds.not_snv;
    n->symbolic += r->kinds.symbolic;
    n->star += r->kinds.star;
    n->non_acgt += r->kinds.non_acgt;
    n->records_without_gt += !r->has_gt;
    if (r->has_gt) {
        n->missing_calls += r->missing;
        n->half_missing_calls += r->half;
    }
}

static status record_take(streaming *t, const vcf_record *r)
{
    import_state *s = t->s;
    pending *now = &t->now;
    int k = 0;
    t->at.records++;
    t->at.gt_records += r->has_gt;
    TRY(identity_of(t, r, &k));
    if (k == 0) {
        TRY(site_finish(t));
        if (s->o->where->count == 0)
            count(&s->report->sites, r);
        return other_contig(t, r);
    }
    TRY(order_check(t, r, k));
    if (!regions_hold(s->o->where, k, r->position))
        return STATUS_OK;
    count(&s->report->sites, r);
    if (now->chromosome != k || now->position != r->position) {
        TRY(site_finish(t));
        call *calls = now->calls;
        *now = (pending){.position = r->position, .chromosome = k, .ref = -1, .calls = calls};
    }
    phase_sets_see(t, r);
    return site_add(t, r);
}

static status file_stream(streaming *t, progress *p)
{
    char tail[64];
    double started = clock_monotonic_s();
    t->now.calls = calloc((size_t)t->file->n_columns + 1, sizeof *t->now.calls);
    if (!t->now.calls)
        return no_memory(t);
    TRY(vcf_file_open(t->file->path, &t->v));
    if (vcf_header_of(t->v)->n_samples != t->file->n_columns)
        return fail(STATUS_DATA, "%s: changed while it was read; import it again", t->file->path);
    for (;;) {
        const vcf_record *r;
        TRY(vcf_next(t->v, &r));
        if (!r)
            break;
        TRY(record_take(t, r));
        if ((t->at.records & 1023) == 0) {
            snprintf(tail, sizeof tail, "%.0f sites/s",
                     (double)t->at.records / (clock_monotonic_s() - started + 1e-9));
            progress_show(p, (int64_t)(100 * ((double)t->f + vcf_fraction(t->v))), tail);
        }
    }
    TRY(site_finish(t));
    if (t->at.chromosome)
        phase_chromosome_end(t);
    if (t->at.gt_records == 0)
        return fail(STATUS_DATA, "%s: no record has genotypes (GT); give a file with genotypes",
                    t->file->path);
    if (t->at.n_unknown == t->at.records)
        return fail(STATUS_DATA,
                    "%s:%lld: %s is no chromosome that is known, nor is any other contig of the "
                    "file; name chromosomes 1 to 22, X, Y, MT",
                    t->file->path, (long long)t->other_line[0], t->other_name[0]);
    return STATUS_OK;
}

static void warn_phase_sets(const import_state *s, const phase_sets *ps)
{
    if (ps->most > 0)
        log_warning("%s: %lld people have more than one phase set (PS) on %s: phase holds only "
                    "within a set, haplotypes are taken as written",
                    s->files[0].path, (long long)ps->most, ps->where);
}

/* names: the first of them, n at most OTHERS_KEPT; three are told */
static void warn_others(const import_state *s, const char *const *names, int64_t n)
{
    char text[256] = "";
    size_t at = 0;
    for (int64_t i = 0; i < n && i < 3; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%.60s", i ? ", " : "", names[i]);
    if (n > 0)
        log_warning("%lld records on contigs that are no chromosomes (%s%s); left out",
                    (long long)s->report->sites.other_contigs, text, n > 3 ? ", ..." : "");
}

status import_sites(import_state *s)
{
    phase_sets phase = {0};
    name_table others = {0};
    const char *other_name[OTHERS_KEPT] = {NULL};
    int64_t other_line[OTHERS_KEPT] = {0};
    progress p;
    status st = STATUS_OK;
    phase.set = calloc((size_t)s->n_people + 1, sizeof *phase.set);
    phase.several = calloc((size_t)s->n_people + 1, sizeof *phase.several);
    if (!phase.set || !phase.several) {
        st = fail(STATUS_MEMORY, "import: no memory for %lld people; free some memory",
                  (long long)s->n_people);
        goto done;
    }
    progress_start(&p, "import", 0, 100 * s->o->n_files);
    for (int64_t f = 0; f < s->o->n_files && st == STATUS_OK; f++) {
        if (s->files[f].empty)
            continue;
        streaming t = {.s = s,
                       .file = &s->files[f],
                       .f = f,
                       .phase = &phase,
                       .others = &others,
                       .other_name = other_name,
                       .other_line = other_line};
        st = file_stream(&t, &p);
        vcf_file_close(&t.v);
        free(t.now.calls);
        free(t.at.identity_of);
    }
    if (st != STATUS_OK)
        goto done;
    if (s->report->sites.read == 0) {
        st = fail(STATUS_DATA, "%s: no record in the regions asked for; widen -r or -R",
                  s->files[0].path);
        goto done;
    }
    warn_phase_sets(s, &phase);
    warn_others(s, other_name, others.count);
done:
    for (int i = 0; i < OTHERS_KEPT; i++)
        free((char *)other_name[i]);
    name_table_close(&others);
    free(phase.set);
    free(phase.several);
    return st;
}
