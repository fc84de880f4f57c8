/* Windows of an evaluation with their truth: see window_set.h. */
#include "runtime/train/window_set.h"

#include "runtime/train/statistics.h"

#include <stdlib.h>
#include <string.h>

static int32_t site_at(const window_set *w, int64_t i)
{
    return w->d->entries[draws_entry(w->x, i)].site;
}

/* Truth and place of the windows of a list; without `everybody` those of people without label go.
 */
static status describe(window_set *out, bool everybody)
{
    const dataset *d = out->d;
    const size_t room = (size_t)(out->n + 1);
    out->label = malloc(room * sizeof *out->label);
    out->block = malloc(room * sizeof *out->block);
    out->first_site = malloc(room * sizeof *out->first_site);
    out->last_site = malloc(room * sizeof *out->last_site);
    if (!out->label || !out->block || !out->first_site || !out->last_site) {
        const long long n = (long long)out->n;
        window_set_free(out);
        return fail(STATUS_MEMORY, "%s: no memory for %lld windows; evaluate longer contexts",
                    d->path, n);
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < out->n; i++) {
        const window w = out->at[i];
        const int32_t label = d->people[w.person].label;
        if (label < 0 && !everybody)
            continue;
        out->at[kept] = w;
        out->label[kept] = label;
        out->first_site[kept] = site_at(out, w.first);
        out->last_site[kept] = site_at(out, w.first + w.count - 1);
        out->block[kept] = d->block[out->first_site[kept]];
        kept++;
    }
    out->n = kept;
    return STATUS_OK;
}

status window_set_tile(const dataset *d, const draws *x, split_kind split, int64_t context,
                       int64_t stride, window_set *out)
{
    *out = (window_set){.d = d, .x = x, .context = context};
    TRY(draws_tile(x, split, context, stride, &out->at, &out->n));
    return describe(out, false);
}

status window_set_tile_all(const dataset *d, const draws *x, split_kind split, int64_t context,
                           window_set *out)
{
    *out = (window_set){.d = d, .x = x, .context = context};
    TRY(draws_tile(x, split, context, context, &out->at, &out->n));
    return describe(out, true);
}

status window_set_from(const dataset *d, const draws *x, window *list, int64_t n, int64_t context,
                       window_set *out)
{
    *out = (window_set){.d = d, .x = x, .context = context, .at = list, .n = n};
    return describe(out, true);
}

status window_set_config(const config *model, config_data *out)
{
    config *c = calloc(1, sizeof *c);
    if (!c)
        return fail(STATUS_MEMORY, "windows: no memory for a configuration; close other programs");
    config_defaults(c);
    *out = c->data;
    free(c);
    if (model) {
        out->alleles = model->data.alleles;
        out->max_gap = model->data.max_gap;
        out->unphased = model->data.unphased;
    }
    out->seq_len = 0; /* no training window is drawn here */
    out->sampling = SAMPLING_STRATIFIED;
    return STATUS_OK;
}

void window_set_free(window_set *w)
{
    free(w->at);
    free(w->label);
    free(w->block);
    free(w->first_site);
    free(w->last_site);
    *w = (window_set){0};
}

int64_t window_sites(const window_set *w, int64_t i, int32_t *sites)
{
    int64_t n = 0;
    draws_fill(w->x, &w->at[i], NULL, NULL, sites);
    for (int64_t k = 0; k < w->at[i].count; k++)
        if (n == 0 || sites[n - 1] != sites[k])
            sites[n++] = sites[k];
    return n;
}

int64_t window_span_bp(const window_set *w, int64_t i)
{
    const site *s = w->d->sites;
    return (int64_t)s[w->last_site[i]].position - s[w->first_site[i]].position + 1;
}

int64_t window_set_people(const window_set *w)
{
    int64_t people = 0;
    for (int64_t i = 0; i < w->n; i++)
        people += i == 0 || w->at[i].person != w->at[i - 1].person;
    return people;
}

double window_set_median_span_bp(const window_set *w)
{
    if (w->n == 0)
        return 0;
    double *span = malloc((size_t)w->n * sizeof *span);
    if (!span)
        return 0;
    for (int64_t i = 0; i < w->n; i++)
        span[i] = (double)window_span_bp(w, i);
    const double median = quantile(span, w->n, 0.5);
    free(span);
    return median;
}
