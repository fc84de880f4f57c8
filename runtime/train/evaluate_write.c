/* The tables of an evaluation: windows.tsv.gz, people.tsv, confusion.tsv, and evaluate.json last,
 * each under a temporary name until it is whole. */
#include "runtime/train/evaluate.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define PATH_ROOM 4096

/* A file that gets its name when it is whole. */
typedef struct {
    char path[PATH_ROOM], hidden[PATH_ROOM + 8];
} pending;

static status pending_name(pending *p, const char *folder, const char *name)
{
    const int n = snprintf(p->path, sizeof p->path, "%s/%s", folder, name);
    if (n < 0 || n >= (int)sizeof p->path)
        return fail(STATUS_USAGE, "%s: the name is too long; give a shorter -o", folder);
    snprintf(p->hidden, sizeof p->hidden, "%s.tmp", p->path);
    return STATUS_OK;
}

/* `sound`: everything was written and closed without an error. */
static status pending_end(const pending *p, bool sound)
{
    if (sound && rename(p->hidden, p->path) == 0)
        return STATUS_OK;
    const int why = errno;
    unlink(p->hidden);
    return fail(STATUS_RESOURCE, "%s: %s; make room or write elsewhere with -o", p->path,
                strerror(why));
}

static status write_text(const char *folder, const char *name, const char *text)
{
    pending p;
    TRY(pending_name(&p, folder, name));
    FILE *f = fopen(p.hidden, "w");
    if (!f)
        return pending_end(&p, false);
    bool sound = fputs(text, f) >= 0;
    sound = fflush(f) == 0 && fsync(fileno(f)) == 0 && sound;
    sound = fclose(f) == 0 && sound;
    return pending_end(&p, sound);
}

static bool windows_of_context(const evaluation *e, const context_result *r, gzFile f)
{
    const method_result *m = reported_method(r);
    const dataset *d = e->d;
    bool sound = true;
    for (int64_t i = 0; m && i < r->windows.n && sound; i++) {
        const window *w = &r->windows.at[i];
        sound = gzprintf(f, "%s\t%d\t%s\t%d\t%d\t%lld\t%s\t%s", d->people[w->person].id, w->hap,
                         d->chromosomes[w->chromosome].name,
                         d->sites[r->windows.first_site[i]].position,
                         d->sites[r->windows.last_site[i]].position, (long long)w->count,
                         d->labels[r->windows.label[i]], d->labels[m->predicted[i]]) > 0;
        for (int c = 0; c < e->classes && sound; c++)
            sound = gzprintf(f, "\t%.6f", exp(m->logp[i * e->classes + c])) > 0;
        sound = sound && gzprintf(f, "\t%s\n", m->method) > 0;
    }
    return sound;
}

/* All contexts; n_snps tells them apart. The last column names the method whose predictions these
 * are. */
static status write_windows(const evaluation *e)
{
    pending p;
    TRY(pending_name(&p, e->o.output, "windows.tsv.gz"));
    gzFile f = gzopen(p.hidden, "wb6");
    if (!f)
        return pending_end(&p, false);
    bool sound = gzprintf(f, "sample\thap\tchrom\tstart\tend\tn_snps\tlabel\tpredicted") > 0;
    for (int c = 0; c < e->classes && sound; c++)
        sound = gzprintf(f, "\tp_%s", e->d->labels[c]) > 0;
    sound = sound && gzprintf(f, "\tmethod\n") > 0;
    for (int k = 0; k < e->n_contexts && sound; k++)
        sound = windows_of_context(e, &e->context[k], f);
    sound = gzclose(f) == Z_OK && sound;
    return pending_end(&p, sound);
}

static bool print_people(const evaluation *e, double *probability, FILE *f)
{
    const context_result *r = &e->context[e->main_context];
    const method_result *m = reported_method(r);
    fprintf(f, "sample\tpopulation\tlabel\tpredicted\tn_windows");
    for (int c = 0; c < e->classes; c++)
        fprintf(f, "\tp_%s", e->d->labels[c]);
    fprintf(f, "\tcontext\tmethod\n");
    for (int64_t i = 0; m && i < e->d->n_people; i++) {
        const individual *who = &e->d->people[i];
        const int64_t n = person_probabilities(r, m, e->classes, (int32_t)i, probability);
        if (n == 0)
            continue;
        fprintf(f, "%s\t%s\t%s\t%s\t%lld", who->id, who->population, e->d->labels[who->label],
                e->d->labels[best_class(probability, e->classes)], (long long)n);
        for (int c = 0; c < e->classes; c++)
            fprintf(f, "\t%.6f", probability[c]);
        fprintf(f, "\t%lld\t%s\n", (long long)r->windows.context, m->method);
    }
    return !ferror(f);
}

static bool print_confusion(const evaluation *e, double *unused, FILE *f)
{
    const method_result *m = reported_method(&e->context[e->main_context]);
    (void)unused;
    fprintf(f, "true");
    for (int c = 0; c < e->classes; c++)
        fprintf(f, "\t%s", e->d->labels[c]);
    fprintf(f, "\n");
    for (int t = 0; m && t < e->classes; t++) {
        fprintf(f, "%s", e->d->labels[t]);
        for (int c = 0; c < e->classes; c++)
            fprintf(f, "\t%lld", (long long)m->confusion[t * e->classes + c]);
        fprintf(f, "\n");
    }
    return !ferror(f);
}

static status write_table(const evaluation *e, const char *name,
                          bool (*print)(const evaluation *, double *, FILE *))
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    double *room = calloc((size_t)e->classes + 1, sizeof *room);
    status st = STATUS_OK;
    bool sound = f && room && print(e, room, f);
    if (f)
        sound = fclose(f) == 0 && sound;
    if (!sound)
        st = fail(STATUS_MEMORY, "%s: no memory for %s; close other programs", e->o.output, name);
    if (st == STATUS_OK)
        st = write_text(e->o.output, name, text);
    free(room);
    free(text);
    return st;
}

static status make_folder(const char *path)
{
    struct stat s;
    if (mkdir(path, 0777) == 0)
        return STATUS_OK;
    if (errno == EEXIST && stat(path, &s) == 0 && S_ISDIR(s.st_mode))
        return STATUS_OK;
    const int why = errno;
    return fail(why == ENOSPC ? STATUS_RESOURCE : STATUS_USAGE,
                "%s: the folder cannot be made (%s); give another -o", path, strerror(why));
}

status evaluate_write(const evaluation *e)
{
    TRY(make_folder(e->o.output));
    TRY(write_windows(e));
    TRY(write_table(e, "people.tsv", print_people));
    TRY(write_table(e, "confusion.tsv", print_confusion));
    char *json = evaluate_json(e);
    if (!json)
        return fail(STATUS_MEMORY, "%s: no memory for evaluate.json; close other programs",
                    e->o.output);
    const status st = write_text(e->o.output, "evaluate.json", json);
    free(json);
    return st;
}
