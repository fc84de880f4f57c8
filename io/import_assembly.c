/* The assembly of a set: from contig lengths, only where all of them agree, within a file and
 * between files; else the name that --assembly gives. */
#include "io/import_state.h"
#include "runtime/core/log.h"

#include <stdio.h>
#include <string.h>

/* The first contig that narrowed the choice to what it is: one side of a disagreement. */
typedef struct {
    const char *file, *contig;
    int64_t length;
    unsigned fits;
} witness;

static const char *fits_text(unsigned fits)
{
    for (int a = 0; a < assemblies(); a++)
        if (fits == 1u << a)
            return assembly_name(a);
    return fits ? "several assemblies" : "no known assembly";
}

static status disagree(const witness *a, const witness *b)
{
    if (strcmp(a->file, b->file) == 0)
        return fail(STATUS_DATA,
                    "%s: the assembly is not one: %s of %lld bp is of %s, %s of %lld bp of %s; "
                    "correct the header, or give --assembly where it is one of its own",
                    a->file, a->contig, (long long)a->length, fits_text(a->fits), b->contig,
                    (long long)b->length, fits_text(b->fits));
    return fail(STATUS_DATA,
                "%s: %s of %lld bp is of %s, but in %s %s of %lld bp is of %s; give files of one "
                "assembly",
                a->file, a->contig, (long long)a->length, fits_text(a->fits), b->file, b->contig,
                (long long)b->length, fits_text(b->fits));
}

/* Lengths of one file by identity; two contigs of one chromosome must agree. */
static status lengths_of(import_file *file, const vcf_contig *contigs, int64_t n)
{
    const char *who[CHROMOSOMES] = {NULL};
    for (int64_t i = 0; i < n; i++) {
        int k = chromosome_identity(contigs[i].name);
        if (k == 0 || contigs[i].length == 0)
            continue;
        if (file->length[k] && file->length[k] != contigs[i].length)
            return fail(STATUS_DATA,
                        "%s: contigs %s and %s are one chromosome and have the lengths %lld and "
                        "%lld; correct the header",
                        file->path, who[k], contigs[i].name, (long long)file->length[k],
                        (long long)contigs[i].length);
        file->length[k] = contigs[i].length;
        who[k] = contigs[i].name;
    }
    return STATUS_OK;
}

typedef struct {
    unsigned fits;        /* assemblies that every length allows */
    witness known, other; /* a contig of a known assembly, one of none */
    bool any;
} evidence;

/* With a name of the user's own (`custom`) lengths of no known assembly are his business. */
static status weigh(evidence *e, const witness *w)
{
    if (w->fits == 0) {
        if (!e->other.file)
            e->other = *w;
    } else {
        if ((e->fits & w->fits) == 0)
            return disagree(&e->known, w);
        if (!e->known.file || (e->fits & w->fits) != e->fits)
            e->known = *w;
        e->fits &= w->fits;
    }
    e->any = true;
    return STATUS_OK;
}

static status between_files(const import_state *s)
{
    for (int k = 1; k < CHROMOSOMES; k++) {
        const import_file *one = NULL;
        for (int64_t f = 0; f < s->o->n_files; f++) {
            const import_file *file = &s->files[f];
            if (file->length[k] == 0)
                continue;
            if (one && one->length[k] != file->length[k])
                return fail(STATUS_DATA,
                            "%s: chromosome %s has %lld bp here and %lld bp in %s; give files of "
                            "one assembly",
                            one->path, chromosome_prefixed_name(k), (long long)one->length[k],
                            (long long)file->length[k], file->path);
            one = file;
        }
    }
    return STATUS_OK;
}

static status named(import_state *s, const evidence *e)
{
    const char *name = s->o->assembly;
    s->assembly = assembly_find(name);
    if (strlen(name) >= sizeof s->report->assembly)
        return fail(STATUS_USAGE,
                    "--assembly %.20s...: the name is longer than 63 bytes; shorten it", name);
    snprintf(s->report->assembly, sizeof s->report->assembly, "%s",
             s->assembly >= 0 ? assembly_name(s->assembly) : name);
    if (s->assembly >= 0 && e->known.file && !(e->fits & 1u << s->assembly))
        return fail(STATUS_DATA,
                    "%s: %s of %lld bp is of %s, but --assembly says %s; leave --assembly out or "
                    "give other files",
                    e->known.file, e->known.contig, (long long)e->known.length,
                    fits_text(e->known.fits), s->report->assembly);
    if (s->assembly >= 0 && e->other.file)
        log_warning("%s: %s of %lld bp is not that of %s, which --assembly names", e->other.file,
                    e->other.contig, (long long)e->other.length, s->report->assembly);
    return STATUS_OK;
}

/* A file whose header gives no length of a chromosome rests on what the others say. */
static void warn_silent(const import_state *s)
{
    const char *silent = NULL, *telling = NULL;
    int64_t more = -1;
    for (int64_t f = 0; f < s->o->n_files; f++) {
        bool any = false;
        for (int k = 1; k < CHROMOSOMES; k++)
            any = any || s->files[f].length[k];
        if (any && !telling)
            telling = s->files[f].path;
        if (!any && !s->files[f].empty) {
            silent = silent ? silent : s->files[f].path;
            more++;
        }
    }
    char others[48] = "";
    if (more > 0)
        snprintf(others, sizeof others, " (and %lld other files)", (long long)more);
    if (silent && telling)
        log_warning("%s%s: no contig line of a chromosome has a length; the assembly is taken to "
                    "be %s, that of %s, give --assembly to be sure",
                    silent, others, s->report->assembly, telling);
}

status import_assembly(import_state *s, vcf_contig *const *contigs, const int64_t *n_contigs)
{
    evidence e = {.fits = ~0u};
    s->assembly = -1;
    for (int64_t f = 0; f < s->o->n_files; f++) {
        TRY(lengths_of(&s->files[f], contigs[f], n_contigs[f]));
        for (int64_t i = 0; i < n_contigs[f]; i++) {
            const vcf_contig *contig = &contigs[f][i];
            int k = chromosome_identity(contig->name);
            if (k == 0 || contig->length == 0)
                continue;
            witness w = {s->files[f].path, contig->name, contig->length,
                         assembly_fits(k, contig->length)};
            TRY(weigh(&e, &w));
        }
    }
    bool given = s->o->assembly && strcmp(s->o->assembly, "auto") != 0;
    if (!given && e.known.file && e.other.file)
        return disagree(&e.known, &e.other);
    TRY(between_files(s));
    if (given) {
        TRY(named(s, &e));
    } else if (e.known.file && (e.fits & (e.fits - 1)) == 0) {
        s->assembly = __builtin_ctz(e.fits);
        snprintf(s->report->assembly, sizeof s->report->assembly, "%s", assembly_name(s->assembly));
        warn_silent(s);
    } else {
        snprintf(s->report->assembly, sizeof s->report->assembly, "unknown");
        log_warning("%s: the assembly is unknown: %s; give --assembly", s->o->files[0],
                    !e.any ? "no contig line of a chromosome has a length"
                           : "the contig lengths are those of no known assembly");
    }
    for (int k = 1; k < CHROMOSOMES; k++) {
        for (int64_t f = 0; f < s->o->n_files; f++)
            if (s->files[f].length[k])
                s->length[k] = s->files[f].length[k];
        if (s->length[k] == 0 && s->assembly >= 0)
            s->length[k] = assembly_length(s->assembly, k);
    }
    return STATUS_OK;
}
