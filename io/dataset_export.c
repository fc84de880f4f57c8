/* Export: people are columns in memory and rows are wanted, so each person has a cursor into their
 * entries and missing calls, and all cursors walk the site table together. */
#include "io/dataset_export.h"

#include "runtime/core/version.h"

#include <htslib/bgzf.h>
#include <htslib/hts_log.h>
#include <htslib/kstring.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char base_letter[4] = {'A', 'C', 'G', 'T'};

typedef struct {
    int64_t entry, missing; /* the next of each that is not behind the current site */
} cursor;

typedef struct {
    const dataset *d;
    const char *title; /* lines of the header, NULL: ours */
    cursor *at;        /* by person */
    kstring_t line;
    BGZF *to;
} export;

static void header_put(export *x)
{
    const dataset *d = x->d;
    kputs("##fileformat=VCFv4.2\n", &x->line);
    if (x->title)
        kputs(x->title, &x->line);
    else
        ksprintf(&x->line, "##source=crocuta %s\n", version_number());
    kputs("##FILTER=<ID=PASS,Description=\"All filters passed\">\n", &x->line);
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        ksprintf(&x->line, "##contig=<ID=%s", d->chromosomes[c].name);
        if (d->chromosomes[c].length > 0)
            ksprintf(&x->line, ",length=%lld", (long long)d->chromosomes[c].length);
        if (strcmp(d->assembly, "unknown"))
            ksprintf(&x->line, ",assembly=%s", d->assembly);
        kputs(">\n", &x->line);
    }
    kputs("##FORMAT=<ID=GT,Number=1,Type=String,Description=\"Genotype\">\n"
          "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT",
          &x->line);
    for (int64_t p = 0; p < d->n_people; p++) {
        kputc('\t', &x->line);
        kputs(d->people[p].id, &x->line);
    }
    kputc('\n', &x->line);
}

/* One call. e: the person's n entries at the site; number: allele number by base; absent: what
 * stands for a haplotype without an entry, '0' or '.'. */
static void call_put(kstring_t *line, const entry *e, int64_t n, const char number[4], char absent,
                     bool phased_set)
{
    char hap[2] = {absent, absent};
    bool phased = true;
    for (int64_t i = 0; i < n; i++) {
        phased = phased && e[i].mask != 0;
        for (int h = 0; h < 2; h++)
            if (e[i].mask >> h & 1)
                hap[h] = number[e[i].allele];
    }
    if (n == 0)
        phased = phased_set && absent == '0';
    if (phased || n == 0) {
        kputc(hap[0], line);
        kputc(phased ? '|' : '/', line);
        kputc(hap[1], line);
        return;
    }
    if (n == 1) { /* the other allele is the reference, or not known */
        kputc(absent, line);
        kputc('/', line);
    }
    for (int64_t i = 0; i < n; i++) {
        if (i)
            kputc('/', line);
        kputc(number[e[i].allele], line);
    }
}

static void site_put(export *x, int64_t c, int64_t s)
{
    const dataset *d = x->d;
    const site *k = &d->sites[s];
    char number[4] = {0}, next = '1';
    ksprintf(&x->line, "%s\t%d\t.\t%c\t", d->chromosomes[c].name, k->position, base_letter[k->ref]);
    for (int b = 0; b < 4; b++) {
        if (!(k->alts >> b & 1))
            continue;
        if (next > '1')
            kputc(',', &x->line);
        kputc(base_letter[b], &x->line);
        number[b] = next++;
    }
    if (next == '1')
        kputc('.', &x->line);
    kputs("\t.\tPASS\t.\tGT", &x->line);
    for (int64_t p = 0; p < d->n_people; p++) {
        cursor *at = &x->at[p];
        int64_t run = p * d->n_chromosomes + c, n = 0;
        int64_t last = d->run[run + 1], last_missing = d->missing_run_of[run + 1];
        while (at->missing < last_missing &&
               d->missing[at->missing].first + d->missing[at->missing].count <= s)
            at->missing++;
        bool missing = at->missing < last_missing && d->missing[at->missing].first <= s;
        while (at->entry + n < last && d->entries[at->entry + n].site == s)
            n++;
        kputc('\t', &x->line);
        call_put(&x->line, &d->entries[at->entry], n, number, missing ? '.' : '0', d->phased);
        at->entry += n;
    }
    kputc('\n', &x->line);
}

static status line_write(export *x, const char *path)
{
    if (bgzf_write(x->to, x->line.s, x->line.l) != (ssize_t)x->line.l)
        return fail(STATUS_RESOURCE, "%s: %s while writing; free some disk space", path,
                    errno ? strerror(errno) : "error");
    x->line.l = 0;
    return STATUS_OK;
}

static status body_write(export *x, const char *path)
{
    const dataset *d = x->d;
    header_put(x);
    TRY(line_write(x, path));
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        for (int64_t p = 0; p < d->n_people; p++)
            x->at[p] = (cursor){d->run[p * d->n_chromosomes + c],
                                d->missing_run_of[p * d->n_chromosomes + c]};
        for (int64_t s = d->chromosomes[c].site0;
             s < d->chromosomes[c].site0 + d->chromosomes[c].sites; s++) {
            site_put(x, c, s);
            TRY(line_write(x, path));
        }
    }
    return STATUS_OK;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

status dataset_export(const dataset *d, const char *path, int threads)
{
    return dataset_export_titled(d, path, NULL, threads);
}

status dataset_export_titled(const dataset *d, const char *path, const char *title, int threads)
{
    export x = {.d = d, .title = title};
    char temporary[1100];
    status st = STATUS_OK;
    if (strlen(path) > sizeof temporary - 8)
        return fail(STATUS_USAGE, "%.80s...: the path is too long; choose a shorter one", path);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    bool packed = ends_in(path, ".gz") || ends_in(path, ".bgz");
    hts_set_log_level(HTS_LOG_OFF); /* our line says what failed */
    x.at = calloc((size_t)d->n_people, sizeof *x.at);
    if (!x.at)
        return fail(STATUS_MEMORY, "%s: no memory to export; use more memory", d->path);
    x.to = bgzf_open(temporary, packed ? "w" : "wu");
    if (!x.to) {
        st = fail(STATUS_RESOURCE, "%s: %s; choose a folder that can be written", path,
                  strerror(errno));
        free(x.at);
        return st;
    }
    if (packed && threads > 1)
        bgzf_mt(x.to, threads, 64); /* without more threads it is only slower */
    st = body_write(&x, path);
    if (bgzf_close(x.to) != 0 && st == STATUS_OK)
        st = fail(STATUS_RESOURCE, "%s: it could not be finished; free some disk space", path);
    if (st == STATUS_OK && rename(temporary, path) != 0)
        st = fail(STATUS_RESOURCE, "%s: %s; choose another name", path, strerror(errno));
    if (st != STATUS_OK)
        unlink(temporary);
    free(x.line.s);
    free(x.at);
    return st;
}
