/* The course of a prediction: the model's sites, the query on them, windows, the model's answers,
 * and their mean over each person. */
#include "runtime/train/predict.h"

#include "runtime/core/log.h"
#include "runtime/train/model_sites.h"
#include "runtime/train/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* A person without a whole window is judged on stretches of at least this share of one. */
#define SHORT_LEAST 4

static status no_memory(const prediction *p)
{
    return fail(STATUS_MEMORY, "%s: no memory for its windows; judge fewer people at once",
                p->o.query.files[0]);
}

/* ---- opening ---- */

static status open_query(prediction *p, comm *c)
{
    dataset *panel = NULL;
    const double start = clock_monotonic_s();
    TRY(model_sites_open(p->o.model, c, &panel));
    const status st = query_open(&p->o.query, panel, c, &p->d, &p->query);
    dataset_close(&panel);
    p->seconds_reading = clock_monotonic_s() - start;
    return st;
}

static status open_model(prediction *p, comm *c)
{
    TRY(evaluate_model_open(p->o.model, p->d, c, p->o.device, p->o.threads, &p->model));
    if (!evaluate_model_classifies(p->model))
        return fail(STATUS_DATA,
                    "%s: it has no classifier; train one from it first (crocuta finetune CONFIG "
                    "--from %s -o RUN)",
                    p->o.model, p->o.model);
    const config *cfg = evaluate_model_config(p->model);
    p->classes = (int)p->d->n_labels;
    p->context = p->o.context > 0 ? p->o.context : cfg->data.seq_len;
    TRY(window_set_config(cfg, &p->data));
    TRY(dataset_block(p->d, p->data.max_gap));
    return draws_open(p->d, &p->data, 1, &p->x);
}

/* ---- windows ---- */

static void count_windows(prediction *p, const window_set *w)
{
    for (int64_t i = 0; i < w->n; i++)
        p->windows_of[w->at[i].person]++;
}

/* Who has no whole window: the pieces that are a fourth of one or more. *n of them in *list. */
static status short_windows(const prediction *p, window **list, int64_t *n)
{
    const piece *pieces;
    const int64_t n_pieces = draws_pieces(p->x, &pieces);
    const int64_t least = p->context / SHORT_LEAST > 2 ? p->context / SHORT_LEAST : 2;
    *n = 0;
    *list = NULL;
    for (int pass = 0; pass < 2; pass++) {
        int64_t count = 0;
        for (int64_t i = 0; i < n_pieces; i++) {
            const piece *k = &pieces[i];
            if (p->windows_of[k->person] > 0 || k->count < least)
                continue;
            if (pass == 1)
                (*list)[count] = (window){k->person, k->chromosome, k->hap, k->first, k->count};
            count++;
        }
        *n = count;
        if (pass == 0 && count > 0 && !(*list = malloc((size_t)count * sizeof **list)))
            return no_memory(p);
        if (count == 0)
            break;
    }
    return STATUS_OK;
}

/* By length, then as they were: places in an array are unique. */
static int by_length(const void *a, const void *b)
{
    const window *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? -1 : 1;
    if (x->person != y->person)
        return x->person < y->person ? -1 : 1;
    return (x->first > y->first) - (x->first < y->first);
}

/* One set a length: a batch holds windows of one length. */
static status short_sets(prediction *p)
{
    window *list = NULL;
    int64_t n = 0, lengths = 0;
    status st = short_windows(p, &list, &n);
    if (st != STATUS_OK || n == 0)
        return st;
    qsort(list, (size_t)n, sizeof *list, by_length);
    for (int64_t i = 0; i < n; i++)
        lengths += i == 0 || list[i].count != list[i - 1].count;
    judged_set *more = realloc(p->sets, (size_t)(1 + lengths) * sizeof *more);
    if (!more) {
        free(list);
        return no_memory(p);
    }
    p->sets = more;
    for (int64_t from = 0, to; from < n && st == STATUS_OK; from = to) {
        for (to = from + 1; to < n && list[to].count == list[from].count;)
            to++;
        window *own = malloc((size_t)(to - from) * sizeof *own);
        if (!own) {
            st = no_memory(p);
            break;
        }
        memcpy(own, list + from, (size_t)(to - from) * sizeof *own);
        judged_set *set = &p->sets[p->n_sets++];
        *set = (judged_set){0};
        st = window_set_from(p->d, p->x, own, to - from, own->count, &set->windows);
    }
    free(list);
    return st;
}

static status cut_windows(prediction *p)
{
    const int64_t people = p->d->n_people;
    p->sets = calloc(1, sizeof *p->sets);
    p->windows_of = calloc((size_t)people + 1, sizeof *p->windows_of);
    p->probability = calloc((size_t)people * (size_t)p->classes + 1, sizeof *p->probability);
    if (!p->sets || !p->windows_of || !p->probability)
        return no_memory(p);
    p->n_sets = 1;
    TRY(window_set_tile_all(p->d, p->x, SPLIT_TEST, p->context, &p->sets[0].windows));
    count_windows(p, &p->sets[0].windows);
    TRY(short_sets(p));
    for (int64_t i = 0; i < people; i++)
        p->people_short -= p->windows_of[i] > 0;
    for (int64_t k = 1; k < p->n_sets; k++)
        count_windows(p, &p->sets[k].windows);
    for (int64_t i = 0; i < people; i++) {
        p->people_short += p->windows_of[i] > 0;
        p->people_without += p->windows_of[i] == 0;
    }
    if (p->people_without == people)
        return fail(STATUS_DATA,
                    "%s: nobody carries %lld sites of the model in a row without a gap (a fourth "
                    "of a window of %lld); ask for shorter windows with --context",
                    p->o.query.files[0],
                    (long long)(p->context / SHORT_LEAST > 2 ? p->context / SHORT_LEAST : 2),
                    (long long)p->context);
    return STATUS_OK;
}

/* ---- answers ---- */

static status judge_set(prediction *p, judged_set *set, comm *c)
{
    const window_set *w = &set->windows;
    status st = STATUS_OK;
    set->logp = calloc((size_t)w->n * (size_t)p->classes + 1, sizeof *set->logp);
    if (!set->logp)
        st = no_memory(p);
    TRY(comm_agree(c, st));
    if (w->n == 0)
        return STATUS_OK;
    TRY(evaluate_model_classes(p->model, w, c, set->logp));
    for (int64_t i = 0; i < w->n; i++)
        for (int k = 0; k < p->classes; k++)
            p->probability[(int64_t)w->at[i].person * p->classes + k] +=
                exp(set->logp[i * p->classes + k]);
    return STATUS_OK;
}

/* What one person takes: genotypes, missing calls, and the windows with their answers. */
static int64_t bytes_of_person(const prediction *p)
{
    const dataset *d = p->d;
    const int64_t runs = d->n_people * d->n_chromosomes;
    int64_t bytes = d->n_entries * (int64_t)sizeof *d->entries +
                    runs * 2 * (int64_t)sizeof *d->run +
                    d->missing_run_of[runs] * (int64_t)sizeof *d->missing;
    for (int64_t k = 0; k < p->n_sets; k++)
        bytes += p->sets[k].windows.n * ((int64_t)(sizeof(window) + 4 * sizeof(int32_t)) +
                                         p->classes * (int64_t)sizeof(double));
    return bytes / d->n_people;
}

static void sum_up(prediction *p)
{
    struct rusage used = {0};
    for (int64_t i = 0; i < p->d->n_people; i++)
        for (int k = 0; p->windows_of[i] > 0 && k < p->classes; k++)
            p->probability[i * p->classes + k] /= (double)p->windows_of[i];
    p->bytes_per_person = bytes_of_person(p);
    if (getrusage(RUSAGE_SELF, &used) == 0)
        p->peak_bytes = (int64_t)used.ru_maxrss * 1024; /* Linux counts KiB */
}

static void say_people(const prediction *p)
{
    const char *path = p->o.query.files[0];
    if (p->people_short > 0)
        log_warning(
            "%s: %lld people carry no %lld sites in a row without a gap; they are judged on "
            "shorter windows",
            path, (long long)p->people_short, (long long)p->context);
    if (p->people_without > 0)
        log_warning("%s: %lld people carry too few sites for any window; they have no prediction",
                    path, (long long)p->people_without);
}

status predict_run(const predict_options *o, comm *c, prediction **out)
{
    const double start = clock_monotonic_s();
    prediction *p = *out = calloc(1, sizeof *p);
    status st = STATUS_OK;
    if (!p)
        st = fail(STATUS_MEMORY, "%s: no memory for a prediction; close other programs", o->model);
    TRY(comm_agree(c, st));
    p->o = *o;
    p->ranks = comm_size(c);
    TRY(open_query(p, c));
    TRY(comm_agree(c, open_model(p, c)));
    TRY(comm_agree(c, cut_windows(p)));
    say_people(p);
    for (int64_t k = 0; k < p->n_sets; k++)
        TRY(judge_set(p, &p->sets[k], c));
    sum_up(p);
    p->seconds = clock_monotonic_s() - start;
    return STATUS_OK;
}

void predict_close(prediction **out)
{
    prediction *p = *out;
    if (!p)
        return;
    for (int64_t k = 0; k < p->n_sets; k++) {
        window_set_free(&p->sets[k].windows);
        free(p->sets[k].logp);
    }
    free(p->sets);
    free(p->windows_of);
    free(p->probability);
    evaluate_model_close(&p->model);
    draws_close(&p->x);
    dataset_close(&p->d);
    free(p);
    *out = NULL;
}
