/* Rows of the tables, and files that appear whole: see tables.h. */
#include "runtime/train/tables.h"

#include "runtime/train/statistics.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files ---- */

status pending_name(pending_file *p, const char *folder, const char *name)
{
    const int n = snprintf(p->path, sizeof p->path, "%s/%s", folder, name);
    if (n < 0 || n >= (int)sizeof p->path)
        return fail(STATUS_USAGE, "%s: the name is too long; give a shorter -o", folder);
    snprintf(p->hidden, sizeof p->hidden, "%s.tmp", p->path);
    return STATUS_OK;
}

status pending_end(const pending_file *p, bool sound)
{
    if (sound && rename(p->hidden, p->path) == 0)
        return STATUS_OK;
    const int why = errno;
    unlink(p->hidden);
    return fail(STATUS_RESOURCE, "%s: %s; make room or write elsewhere with -o", p->path,
                strerror(why));
}

status result_text(const char *folder, const char *name, const char *text)
{
    pending_file p;
    TRY(pending_name(&p, folder, name));
    FILE *f = fopen(p.hidden, "w");
    if (!f)
        return pending_end(&p, false);
    bool sound = fputs(text, f) >= 0;
    sound = fflush(f) == 0 && fsync(fileno(f)) == 0 && sound;
    sound = fclose(f) == 0 && sound;
    return pending_end(&p, sound);
}

status result_folder(const char *path)
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

/* ---- windows ---- */

bool windows_head(gzFile f, const dataset *d, bool truth)
{
    bool sound = gzprintf(f, "sample\thap\tchrom\tstart\tend\tn_snps%s\tpredicted",
                          truth ? "\tlabel" : "") > 0;
    for (int64_t c = 0; c < d->n_labels && sound; c++)
        sound = gzprintf(f, "\tp_%s", d->labels[c]) > 0;
    return sound;
}

bool windows_row(gzFile f, const window_set *w, int64_t i, const double *logp, int classes,
                 bool truth)
{
    const dataset *d = w->d;
    const window *at = &w->at[i];
    bool sound = gzprintf(f, "%s\t%d\t%s\t%d\t%d\t%lld", d->people[at->person].id, at->hap,
                          d->chromosomes[at->chromosome].name, d->sites[w->first_site[i]].position,
                          d->sites[w->last_site[i]].position, (long long)at->count) > 0;
    if (truth)
        sound = sound && gzprintf(f, "\t%s", d->labels[w->label[i]]) > 0;
    sound = sound && gzprintf(f, "\t%s", d->labels[best_class(logp, classes)]) > 0;
    for (int c = 0; c < classes && sound; c++)
        sound = gzprintf(f, "\t%.6f", exp(logp[c])) > 0;
    return sound;
}

/* ---- people ---- */

void people_head(FILE *f, const dataset *d, bool truth)
{
    fprintf(f, "sample%s\tpredicted\tn_windows", truth ? "\tpopulation\tlabel" : "");
    for (int64_t c = 0; c < d->n_labels; c++)
        fprintf(f, "\tp_%s", d->labels[c]);
}

void people_row(FILE *f, const dataset *d, int64_t person, int64_t n_windows, const double *p,
                int classes, bool truth)
{
    const individual *who = &d->people[person];
    fprintf(f, "%s", who->id);
    if (truth)
        fprintf(f, "\t%s\t%s", who->population, d->labels[who->label]);
    fprintf(f, "\t%s\t%lld", n_windows > 0 ? d->labels[best_class(p, classes)] : "NA",
            (long long)n_windows);
    for (int c = 0; c < classes; c++)
        if (n_windows > 0)
            fprintf(f, "\t%.6f", p[c]);
        else
            fprintf(f, "\tNA");
}
