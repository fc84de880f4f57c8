/* --fasta-ref: every REF of the set's sites is held against a reference genome, read once from
 * front to end, so that no index is needed and none is trusted. */
#include "io/import_state.h"
#include "io/line_source.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const import_state *s;
    int32_t *order; /* raw sites by chromosome and position */
    int64_t first[CHROMOSOMES + 1];
    bool seen[CHROMOSOMES];
    int k;            /* chromosome of the record in hand, 0: none of ours */
    int64_t at, next; /* bases read of it; next site to hold */
} holding;

static int by_place(const void *a, const void *b, void *raw)
{
    const raw_site *x = (const raw_site *)raw + *(const int32_t *)a;
    const raw_site *y = (const raw_site *)raw + *(const int32_t *)b;
    if (x->chromosome != y->chromosome)
        return x->chromosome < y->chromosome ? -1 : 1;
    return (x->position > y->position) - (x->position < y->position);
}

static status bases_hold(holding *h, const char *line, size_t n)
{
    const import_state *s = h->s;
    for (; h->next < h->first[h->k + 1]; h->next++) {
        const raw_site *x = &s->raw[h->order[h->next]];
        if (x->position > h->at + (int64_t)n)
            break;
        char base = (char)toupper((unsigned char)line[x->position - h->at - 1]);
        /* N and ambiguity letters of the reference say nothing against a REF */
        if (strchr("ACGT", base) && base != "ACGT"[x->ref])
            return fail(STATUS_DATA,
                        "%s:%lld: REF of %s:%d is %c, but %s has %c; the file is of another "
                        "reference, give the right one",
                        s->files[x->file].path, (long long)x->line, s->name[h->k], x->position,
                        "ACGT"[x->ref], s -> o -> reference, base);
    }
    h->at += (int64_t)n;
    return STATUS_OK;
}

static status record_end(const holding *h)
{
    if (h->k == 0 || h->next == h->first[h->k + 1])
        return STATUS_OK;
    const raw_site *x = &h->s->raw[h->order[h->next]];
    return fail(STATUS_DATA,
                "%s:%lld: position %d is behind the end of %s in %s (%lld); the file is "
                "of another reference, give the right one",
                h->s->files[x->file].path, (long long)x->line, x->position, h->s->name[h->k],
                h->s->o->reference, (long long)h->at);
}

static status record_begin(holding *h, char *line)
{
    TRY(record_end(h));
    line[strcspn(line, " \t")] = '\0';
    h->k = chromosome_identity(line + 1);
    if (h->k && h->seen[h->k])
        h->k = 0; /* a second copy under another name; the first was held */
    if (h->k)
        h->seen[h->k] = true;
    h->at = 0;
    h->next = h->first[h->k];
    return STATUS_OK;
}

status import_reference(const import_state *s)
{
    if (!s->o->reference)
        return STATUS_OK;
    line_source *source = NULL;
    holding h = {.s = s};
    status st;
    h.order = malloc(((size_t)s->n_raw + 1) * sizeof *h.order);
    if (!h.order)
        return fail(STATUS_MEMORY, "import: no memory for the sites; free some memory");
    for (int32_t i = 0; i < s->n_raw; i++)
        h.order[i] = i;
    qsort_r(h.order, (size_t)s->n_raw, sizeof *h.order, by_place, s->raw);
    for (int k = 0, i = 0; k <= CHROMOSOMES; k++) {
        while (i < s->n_raw && s->raw[h.order[i]].chromosome < k)
            i++;
        h.first[k] = i;
    }
    TRY_GOTO(done, line_source_open(s->o->reference, &source));
    line_source_take_cut_line(source);
    for (bool any = false;;) {
        char *line;
        size_t n;
        TRY_GOTO(done, line_source_next(source, &line, &n));
        if (!line)
            break;
        if (!any && line[0] != '>') {
            st = fail(STATUS_DATA, "%s:1: is no FASTA; give the reference genome as FASTA",
                      s->o->reference);
            goto done;
        }
        any = true;
        if (line[0] == '>')
            TRY_GOTO(done, record_begin(&h, line));
        else if (h.k)
            TRY_GOTO(done, bases_hold(&h, line, n));
    }
    TRY_GOTO(done, record_end(&h));
    for (int k = 1; k < CHROMOSOMES && st == STATUS_OK; k++)
        if (s->name[k] && h.first[k] < h.first[k + 1] && !h.seen[k])
            st = fail(STATUS_DATA,
                      "%s: has no chromosome %s, which %s tells; give the whole "
                      "reference",
                      s->o->reference, s->name[k], s->files[s->raw[h.order[h.first[k]]].file].path);
done:
    line_source_close(&source);
    free(h.order);
    return st;
}
