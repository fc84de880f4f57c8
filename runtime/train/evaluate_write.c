/* The tables of an evaluation: windows.tsv.gz, people.tsv, confusion.tsv, and evaluate.json last,
 * each under a temporary name until it is whole. */
#include "runtime/train/evaluate.h"
#include "runtime/train/tables.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static bool windows_of_context(const evaluation *e, const context_result *r, gzFile f)
{
    const method_result *m = reported_method(r);
    bool sound = true;
    for (int64_t i = 0; m && i < r->windows.n && sound; i++) {
        sound = windows_row(f, &r->windows, i, m->logp + i * e->classes, e->classes, true) &&
                gzprintf(f, "\t%s\n", m->method) > 0;
    }
    return sound;
}

/* All contexts; n_snps tells them apart. The last column names the method whose predictions these
 * are. */
static status write_windows(const evaluation *e)
{
    pending_file p;
    TRY(pending_name(&p, e->o.output, "windows.tsv.gz"));
    gzFile f = gzopen(p.hidden, "wb6");
    if (!f)
        return pending_end(&p, false);
    bool sound = windows_head(f, e->d, true) && gzprintf(f, "\tmethod\n") > 0;
    for (int k = 0; k < e->n_contexts && sound; k++)
        sound = windows_of_context(e, &e->context[k], f);
    sound = gzclose(f) == Z_OK && sound;
    return pending_end(&p, sound);
}

/* Windows of sequences that a model has foretold, so that models are compared window by window. */
static status write_bases(const evaluation *e)
{
    pending_file p;
    TRY(pending_name(&p, e->o.output, "next_base.tsv.gz"));
    gzFile f = gzopen(p.hidden, "wb6");
    if (!f)
        return pending_end(&p, false);
    bool sound = gzprintf(f, "sequence\tstart\tend\tcontext\tblock\ttargets\tloglik\tright\n") > 0;
    for (int k = 0; k < e->n_contexts; k++) {
        const window_set *w = &e->context[k].windows;
        const double *of = e->context[k].base_sums.window;
        for (int64_t i = 0; i < w->n && sound; i++, of += WINDOW_NUMBERS)
            sound =
                gzprintf(f, "%s\t%d\t%d\t%lld\t%d\t%.0f\t%.6f\t%.0f\n",
                         e->d->people[w->at[i].person].id, e->d->sites[w->first_site[i]].position,
                         e->d->sites[w->last_site[i]].position, (long long)w->context, w->block[i],
                         of[OF_TARGETS], -of[OF_LOSS], of[OF_HITS]) > 0;
    }
    sound = gzclose(f) == Z_OK && sound;
    return pending_end(&p, sound);
}

static bool print_people(const evaluation *e, double *probability, FILE *f)
{
    const context_result *r = &e->context[e->main_context];
    const method_result *m = reported_method(r);
    people_head(f, e->d, true);
    fprintf(f, "\tcontext\tmethod\n");
    for (int64_t i = 0; m && i < e->d->n_people; i++) {
        const int64_t n = person_probabilities(r, m, e->classes, (int32_t)i, probability);
        if (n == 0)
            continue;
        people_row(f, e->d, i, n, probability, e->classes, true);
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
        st = result_text(e->o.output, name, text);
    free(room);
    free(text);
    return st;
}

status evaluate_write(const evaluation *e)
{
    TRY(result_folder(e->o.output));
    TRY(write_windows(e));
    if (e->set && e->model && evaluate_model_predicts(e->model))
        TRY(write_bases(e));
    TRY(write_table(e, "people.tsv", print_people));
    TRY(write_table(e, "confusion.tsv", print_confusion));
    char *json = evaluate_json(e);
    if (!json)
        return fail(STATUS_MEMORY, "%s: no memory for evaluate.json; close other programs",
                    e->o.output);
    const status st = result_text(e->o.output, "evaluate.json", json);
    free(json);
    return st;
}
