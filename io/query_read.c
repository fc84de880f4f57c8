/* Reading a query: every record once. Records of one position are one site, told in one line or in
 * several; it is matched with the panel's site there, and what the calls carry goes to its people
 * in the panel's alleles. */
#include "io/name_table.h"
#include "io/query_state.h"
#include "runtime/core/log.h"

#include <stdlib.h>
#include <string.h>

/* The site that is being told. */
typedef struct {
    int64_t chromosome, line; /* of the panel; first line that counts */
    int32_t position;
    int ref;
    unsigned told; /* bases that ALT names */
    bool is_site, has_gt, reference_only;
    call *calls; /* (n_samples) */
} telling;

typedef struct {
    query_state *s;
    const char *path;
    vcf_file *v;
    int64_t *person;      /* (n_samples) number of each column's person */
    int64_t *identity_of; /* by spelling of the file, -1: not asked yet */
    int64_t n_spellings, gt_records;
    telling now;
} reading;

static status no_memory(const reading *t)
{
    return fail(STATUS_MEMORY, "%s: no memory for what its people carry; judge fewer at once",
                t->path);
}

/* Room for one more element of `size` bytes. */
static bool grow(void **array, int64_t n, int64_t *room, size_t size)
{
    if (n < *room)
        return true;
    const int64_t more = *room + *room / 2 + 256;
    void *grown = realloc(*array, (size_t)more * size);
    if (!grown)
        return false;
    *array = grown;
    *room = more;
    return true;
}

/* ---- a call in the panel's alleles ---- */

/* Haplotypes of a call that carry the file's reference base, where that is an alternate of the
 * panel: those that carry nothing else. *mask 0 and true: carried, but nobody knows where. */
static bool carries_ref(call c, unsigned *mask)
{
    unsigned taken = 0;
    *mask = 3;
    if (c == 0)
        return true; /* of a haploid call too: its ploidy is not kept where all is reference */
    for (int base = 0; base < 4; base++)
        taken |= call_mask(c, base);
    const unsigned ploidy = call_ploidy(c);
    const bool loose = (c & CALL_UNKNOWN) || (c >> 8 & 15);
    if (c & (CALL_MISSING | CALL_OTHER))
        return false;
    if (!loose) {
        *mask = ploidy == 1 ? 1 & ~taken : 3 & ~taken;
        return *mask != 0;
    }
    *mask = 0; /* 0/1 unphased, ./0: one copy at least is neither the base nor unknown */
    return call_copies(c) + ((c & CALL_UNKNOWN) != 0) < ploidy;
}

static status entry_add(const reading *t, query_person *p, int32_t at, int base, unsigned mask)
{
    if (!grow((void **)&p->list, p->n, &p->room, sizeof *p->list))
        return no_memory(t);
    p->list[p->n++] = (entry){.site = at, .allele = (uint8_t)base, .mask = (uint8_t)mask};
    return STATUS_OK;
}

/* alts: bases that the panel knows as alternates; swapped: the file's reference base is one. */
static status call_keep(const reading *t, query_person *p, int32_t at, call c, unsigned alts,
                        bool swapped)
{
    query_report *r = t->s->report;
    const site *s = &t->s->panel->sites[at];
    bool marked = call_marked(c);
    for (int base = 0; base < 4; base++) {
        unsigned mask = call_mask(c, base);
        bool carried = mask || call_unphased(c, base);
        if (swapped && base == t->now.ref)
            carried = carries_ref(c, &mask);
        if (!carried || base == s->ref)
            continue;
        if (alts & 1u << base) {
            TRY(entry_add(t, p, at, base, mask));
        } else {
            marked = true;
            r->other_alleles++;
        }
    }
    if (!marked)
        return STATUS_OK;
    r->missing_calls++;
    if (!grow((void **)&p->marked, p->n_marked, &p->room_marked, sizeof *p->marked))
        return no_memory(t);
    p->marked[p->n_marked++] = at;
    return STATUS_OK;
}

/* ---- a site ---- */

static int32_t site_find(const dataset *d, int64_t c, int32_t position)
{
    int64_t low = d->chromosomes[c].site0, high = low + d->chromosomes[c].sites;
    const int64_t end = high;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (d->sites[middle].position < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && d->sites[low].position == position ? (int32_t)low : -1;
}

static unsigned complement(unsigned bases) /* A C G T = bits 0..3 */
{
    return (bases & 1) << 3 | (bases & 2) << 1 | (bases & 4) >> 1 | (bases & 8) >> 3;
}

/* Do the alleles of the file belong to those of the panel; *swapped: with REF among its alternates?
 */
static bool alleles_match(const site *s, unsigned ref, unsigned told, bool *swapped)
{
    *swapped = (s->alts & ref) && (told & 1u << s->ref);
    return *swapped || (ref == 1u << s->ref && (told == 0 || (told & s->alts)));
}

static void count_clash(query_report *r, const site *s, unsigned ref, unsigned told)
{
    bool swapped;
    r->clash++;
    r->clash_strand += alleles_match(s, complement(ref), complement(told), &swapped);
}

static status told_twice(const reading *t, int64_t line)
{
    const telling *now = &t->now;
    return fail(STATUS_DATA,
                "%s:%lld: %s:%d is told twice; leave one of its lines (bcftools norm -d exact), "
                "and those of one site together",
                t->path, (long long)line, t->s->name[now->chromosome], now->position);
}

/* The site is whole: matched, and what its calls carry kept. */
static status site_finish(reading *t)
{
    query_state *s = t->s;
    query_report *r = s->report;
    telling *now = &t->now;
    if (!now->is_site)
        return STATUS_OK;
    now->is_site = false;
    const int32_t at = site_find(s->panel, now->chromosome, now->position);
    const unsigned ref = 1u << now->ref;
    bool swapped = false;
    if (at < 0) {
        *(now->told ? &r->unknown_site : &r->reference_only) += 1;
        return STATUS_OK;
    }
    const site *known = &s->panel->sites[at];
    if (!alleles_match(known, ref, now->told, &swapped)) {
        count_clash(r, known, ref, now->told);
        return STATUS_OK;
    }
    if (!now->has_gt) {
        r->without_gt++;
        return STATUS_OK;
    }
    if (s->told[at])
        return told_twice(t, now->line);
    s->told[at] = 1;
    r->matched++;
    r->flipped += swapped;
    s->ordered = s->ordered && at > s->last;
    s->last = at;
    const int64_t n = vcf_header_of(t->v)->n_samples;
    for (int64_t i = 0; i < n; i++)
        if (now->calls[i] || swapped)
            TRY(call_keep(t, &s->people[t->person[i]], at, now->calls[i], known->alts, swapped));
    return STATUS_OK;
}

static status site_add(reading *t, const vcf_record *r)
{
    telling *now = &t->now;
    if (!r->ref_single || r->ref < 0 || (r->n_alts > 0 && r->alts == 0)) {
        t->s->report->not_snv++;
        return STATUS_OK;
    }
    if (now->is_site && now->ref != r->ref)
        return fail(STATUS_DATA,
                    "%s:%lld: %s:%d has the reference base (REF) %c here and %c in line %lld; one "
                    "of the lines is of another reference, correct it",
                    t->path, (long long)r->line, r->chrom, r->position, "ACGT"[r->ref],
                    "ACGT"[now->ref], (long long)now -> line);
    if (now->is_site && ((now->told & r->alts) || (now->reference_only && r->alts == 0)))
        return told_twice(t, r->line);
    if (r->has_gt) {
        const int64_t n = vcf_header_of(t->v)->n_samples;
        if (!now->has_gt)
            memcpy(now->calls, r->calls, (size_t)n * sizeof *now->calls);
        for (int64_t i = 0; now->has_gt && i < n; i++)
            if (!call_join(&now->calls[i], r->calls[i]))
                return fail(STATUS_DATA,
                            "%s:%lld: %s carries two bases on one haplotype at %s:%d, the other in "
                            "a line before; correct one of the lines",
                            t->path, (long long)r->line, vcf_header_of(t->v)->samples[i], r->chrom,
                            r->position);
        now->has_gt = true;
    }
    if (!now->is_site)
        now->line = r->line;
    now->is_site = true;
    now->ref = r->ref;
    now->told |= r->alts;
    now->reference_only = now->reference_only || r->alts == 0;
    return STATUS_OK;
}

/* ---- records ---- */

/* The panel's chromosome of a record, -1: it has none. */
static status chromosome_of(reading *t, const vcf_record *r, int64_t *which)
{
    query_state *s = t->s;
    if (r->contig >= t->n_spellings) {
        const int64_t n = r->contig + 16;
        int64_t *more = realloc(t->identity_of, (size_t)n * sizeof *more);
        if (!more)
            return no_memory(t);
        for (int64_t i = t->n_spellings; i < n; i++)
            more[i] = -1;
        t->identity_of = more;
        t->n_spellings = n;
    }
    int64_t *known = &t->identity_of[r->contig];
    if (*known < 0)
        *known = chromosome_identity(r->chrom);
    *which = *known > 0 ? s->of_identity[*known] : -1;
    if (*which < 0)
        return STATUS_OK;
    char **name = &s->name[*which];
    if (!*name && !(*name = strdup(r->chrom)))
        return no_memory(t);
    const int64_t length = s->panel->chromosomes[*which].length;
    if (length > 0 && r->position > length)
        return fail(STATUS_DATA,
                    "%s:%lld: position %d is behind the end of %s in the model's assembly, %s "
                    "(%lld); give genotypes of that assembly",
                    t->path, (long long)r->line, r->position, r->chrom, s->panel->assembly,
                    (long long)length);
    return STATUS_OK;
}

static status record_take(reading *t, const vcf_record *r)
{
    int64_t c;
    telling *now = &t->now;
    t->s->report->records++;
    t->gt_records += r->has_gt;
    TRY(chromosome_of(t, r, &c));
    if (c < 0) {
        TRY(site_finish(t));
        t->s->report->other_contig++;
        return STATUS_OK;
    }
    if (now->chromosome != c || now->position != r->position) {
        TRY(site_finish(t));
        call *calls = now->calls;
        *now = (telling){.chromosome = c, .position = r->position, .calls = calls};
    }
    return site_add(t, r);
}

static status records_read(reading *t, progress *p)
{
    int64_t n = 0;
    for (;;) {
        const vcf_record *r;
        TRY(vcf_next(t->v, &r));
        if (!r)
            break;
        TRY(record_take(t, r));
        if ((++n & 1023) == 0)
            progress_show(p, (int64_t)(100 * vcf_fraction(t->v)), NULL);
    }
    TRY(site_finish(t));
    progress_end(p, 100, NULL);
    if (t->gt_records == 0)
        return fail(STATUS_DATA, "%s: no record has genotypes (GT); give a file with genotypes",
                    t->path);
    return STATUS_OK;
}

/* ---- header ---- */

/* The contig lengths must be those of the model's assembly; *fits: assemblies they allow. */
static status assembly_check(const reading *t, unsigned *fits)
{
    const dataset *d = t->s->panel;
    const int model = assembly_find(d->assembly);
    const vcf_header *h = vcf_header_of(t->v);
    for (int64_t i = 0; i < h->n_contigs; i++) {
        const int64_t length = h->contigs[i].length;
        const int k = chromosome_identity(h->contigs[i].name);
        if (k == 0 || length == 0)
            continue;
        const unsigned here = assembly_fits(k, length);
        const int64_t c = t->s->of_identity[k], other = c >= 0 ? d->chromosomes[c].length : 0;
        const bool wrong = model >= 0 ? !(here & 1u << model) : other > 0 && other != length;
        *fits &= here;
        if (!wrong)
            continue;
        const char *name = NULL;
        for (int a = 0; a < assemblies(); a++)
            if (here & 1u << a && !name)
                name = assembly_name(a);
        return fail(STATUS_DATA,
                    "%s: %s has %lld bp (%s), but the model was trained on assembly %s; give "
                    "genotypes of that assembly, or lift them over",
                    t->path, h->contigs[i].name, (long long)length,
                    name ? name : "of no known assembly", d->assembly);
    }
    return STATUS_OK;
}

static bool any_length(const vcf_header *h)
{
    for (int64_t i = 0; i < h->n_contigs; i++)
        if (h->contigs[i].length > 0 && chromosome_identity(h->contigs[i].name) > 0)
            return true;
    return false;
}

static status assembly_of(reading *t)
{
    unsigned fits = ~0u;
    char *name = t->s->report->assembly;
    const dataset *d = t->s->panel;
    TRY(assembly_check(t, &fits));
    if (!any_length(vcf_header_of(t->v))) {
        log_warning("%s: its contig lines have no lengths: the assembly is taken to be %s, that of "
                    "the model",
                    t->path, d->assembly);
        if (!*name)
            strcpy(name, "unknown");
        return STATUS_OK;
    }
    if (fits && (fits & (fits - 1)) == 0)
        strcpy(name, assembly_name(__builtin_ctz(fits)));
    else /* nothing was wrong, so the lengths are those of the model */
        strcpy(name, d->assembly);
    return STATUS_OK;
}

/* The people of the first file; of the others their columns by name. */
static status people_of(reading *t, bool first)
{
    query_state *s = t->s;
    const vcf_header *h = vcf_header_of(t->v);
    t->person = calloc((size_t)h->n_samples + 1, sizeof *t->person);
    t->now.calls = calloc((size_t)h->n_samples + 1, sizeof *t->now.calls);
    if (first) {
        s->id = calloc((size_t)h->n_samples + 1, sizeof *s->id);
        s->people = calloc((size_t)h->n_samples + 1, sizeof *s->people);
    }
    if (!t->person || !t->now.calls || !s->id || !s->people)
        return no_memory(t);
    for (int64_t i = 0; first && i < h->n_samples; i++, s->n_people++)
        if (!(s->id[i] = strdup(h->samples[i])))
            return no_memory(t);
    name_table numbers = {0};
    status st = STATUS_OK;
    for (int64_t i = 0; i < s->n_people && st == STATUS_OK; i++)
        st = name_table_add(&numbers, s->id[i], i, NULL);
    if (st == STATUS_OK && h->n_samples != s->n_people)
        st =
            fail(STATUS_DATA, "%s: has %lld people, but %s has %lld; give files of the same people",
                 t->path, (long long)h->n_samples, s->o->files[0], (long long)s->n_people);
    for (int64_t i = 0; i < h->n_samples && st == STATUS_OK; i++) {
        t->person[i] = name_table_find(&numbers, h->samples[i]);
        if (t->person[i] < 0)
            st = fail(STATUS_DATA, "%s: %s is not in %s; give files of the same people", t->path,
                      h->samples[i], s->o->files[0]);
    }
    name_table_close(&numbers);
    return st;
}

static status header_take(reading *t, bool first)
{
    bool any = false;
    if (vcf_content(t->v) == FILE_FASTA)
        return fail(STATUS_DATA, "%s: is FASTA; give the genotypes of people as VCF or BCF",
                    t->path);
    TRY(vcf_any(t->v, &any));
    if (!any)
        return fail(STATUS_DATA, "%s: %s; give a file with genotypes", t->path,
                    vcf_content(t->v) == FILE_NOTHING ? "the file is empty" : "holds no record");
    TRY(assembly_of(t));
    return people_of(t, first);
}

status query_read(query_state *s, int64_t file)
{
    reading t = {.s = s, .path = s->o->files[file]};
    progress p;
    status st;
    TRY_GOTO(done, vcf_file_open(t.path, &t.v));
    TRY_GOTO(done, header_take(&t, file == 0));
    progress_start(&p, "genotypes", 0, 100);
    st = records_read(&t, &p);
done:
    vcf_file_close(&t.v);
    free(t.person);
    free(t.identity_of);
    free(t.now.calls);
    return st;
}
