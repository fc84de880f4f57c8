/* Checkpoints of a run: see snapshot.h. */
#include "runtime/train/snapshot.h"

#include "runtime/train/model_file.h"
#include "runtime/train/model_sites.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- state ---- */

static json_t *real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static char *state_text(const train_state *s, const dataset *d, bool classify)
{
    json_t *labels = json_array(), *chromosomes = json_array();
    for (int64_t i = 0; i < d->n_labels; i++)
        json_array_append_new(labels, json_string(d->labels[i]));
    for (int64_t i = 0; i < d->n_chromosomes; i++)
        json_array_append_new(chromosomes,
                              json_pack("{s:s, s:I, s:I}", "name", d->chromosomes[i].name, "length",
                                        (json_int_t)d->chromosomes[i].length, "sites",
                                        (json_int_t)d->chromosomes[i].sites));
    char sites[17];
    dataset_sites_hash(d, sites);
    json_t *o =
        json_pack("{s:s, s:i, s:o, s:s, s:s, s:I, s:s, s:o, s:I, s:o, s:o, s:I, s:b, s:o}", "kind",
                  classify ? "finetune" : "pretrain", "classes", classify ? (int)d->n_labels : 0,
                  "labels", labels, "assembly", d->assembly, "split_hash", d->split_hash, "n_sites",
                  (json_int_t)d->n_sites, "sites_hash", sites, "chromosomes", chromosomes,
                  "best_step", (json_int_t)s->best_step, "best_loss", real(s->best_loss),
                  "best_accuracy", real(s->best_accuracy), "without", (json_int_t)s->without,
                  "finished", (int)s->finished, "steady",
                  json_pack("{s:f, s:I, s:f, s:I, s:I, s:I}", "norm", s->steady.norm, "norms",
                            (json_int_t)s->steady.norms, "strain", s->steady.strain, "skipped",
                            (json_int_t)s->steady.skipped, "rolled", (json_int_t)s->steady.rolled,
                            "shift", (json_int_t)s->steady.shift));
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(o);
    return text;
}

static double number_of(const json_t *o, const char *key)
{
    const json_t *x = json_object_get(o, key);
    return json_is_number(x) ? json_number_value(x) : NAN;
}

static int64_t integer_of(const json_t *o, const char *key, int64_t otherwise)
{
    const json_t *x = json_object_get(o, key);
    return json_is_integer(x) ? json_integer_value(x) : otherwise;
}

static status state_parse(const checkpoint_header *h, const char *name, train_state *s)
{
    json_t *o = json_loads(h->state, 0, NULL);
    if (!json_is_object(o)) {
        json_decref(o);
        return fail(STATUS_DATA, "%s: its state is no JSON object; use another checkpoint", name);
    }
    *s = (train_state){.step = h->step,
                       .best_step = integer_of(o, "best_step", -1),
                       .best_loss = number_of(o, "best_loss"),
                       .best_accuracy = number_of(o, "best_accuracy"),
                       .without = integer_of(o, "without", 0),
                       .finished = json_is_true(json_object_get(o, "finished"))};
    const json_t *x = json_object_get(o, "steady");
    if (x)
        s->steady = (steady){.norm = number_of(x, "norm"),
                             .norms = integer_of(x, "norms", 0),
                             .strain = number_of(x, "strain"),
                             .skipped = integer_of(x, "skipped", 0),
                             .rolled = integer_of(x, "rolled", 0),
                             .shift = integer_of(x, "shift", 0)};
    json_decref(o);
    return STATUS_OK;
}

bool snapshot_same_split(const char *state, const dataset *d)
{
    json_t *o = json_loads(state, 0, NULL);
    const char *hash = json_string_value(json_object_get(o, "split_hash"));
    const bool same = !hash || strcmp(hash, d->split_hash) == 0;
    json_decref(o);
    return same;
}

bool snapshot_same_sites(const char *state, const dataset *d)
{
    char sites[17];
    json_t *o = json_loads(state, 0, NULL);
    const char *hash = json_string_value(json_object_get(o, "sites_hash"));
    bool same = integer_of(o, "n_sites", d->n_sites) == d->n_sites;
    if (same && hash) {
        dataset_sites_hash(d, sites);
        same = strcmp(hash, sites) == 0;
    }
    json_decref(o);
    return same;
}

status snapshot_same_data(const checkpoint_header *h, const char *name, const dataset *d)
{
    json_t *o = json_loads(h->state, 0, NULL);
    const char *hash = json_string_value(json_object_get(o, "split_hash"));
    const bool same = hash && strcmp(hash, d->split_hash) == 0 && snapshot_same_sites(h->state, d);
    json_decref(o);
    if (same)
        return STATUS_OK;
    return fail(STATUS_USAGE,
                "%s: it was trained on another data set than %s (people, split or sites differ); "
                "give the same data.path, or begin a new run",
                name, d->path);
}

/* ---- tensors ---- */

static status config_text(const config *c, char **text)
{
    size_t bytes = 0;
    *text = NULL;
    FILE *f = open_memstream(text, &bytes);
    if (!f)
        return fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    status st = config_write(c, f, false);
    if (fclose(f) != 0 && st == STATUS_OK)
        st = fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    return st;
}

status snapshot_header(const config *c, const dataset *d, bool classify, int ranks,
                       const optimizer *o, const train_state *state, checkpoint_header *h,
                       char *texts[2])
{
    texts[0] = NULL;
    texts[1] = state_text(state, d, classify);
    if (!texts[1])
        return fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    TRY(config_text(c, &texts[0]));
    *h = (checkpoint_header){.step = state->step,
                             .stage = schedule_stage(o->plan, state->step)->index,
                             .ranks = ranks,
                             .config = texts[0],
                             .state = texts[1]};
    return STATUS_OK;
}

status snapshot_write(const char *dir, const config *c, const dataset *d, bool classify, int ranks,
                      model *m, const optimizer *o, const train_state *state)
{
    const parameter *list = NULL;
    const int64_t room = 3 * model_parameters(m, &list) + 5 * ROW_TABLES + 1 + SITE_TENSORS;
    int64_t n = 0;
    checkpoint_tensor *tensors = calloc((size_t)room, sizeof *tensors);
    checkpoint_header h;
    site_columns sites = {0};
    void *copies = NULL;
    char *texts[2] = {NULL, NULL};
    status st = tensors ? snapshot_header(c, d, classify, ranks, o, state, &h, texts)
                        : fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    if (st == STATUS_OK)
        st = site_columns_make(d, &sites);
    if (st == STATUS_OK) {
        model_tensors(m, o->first, o->second, o->rows_rate, state->step, tensors,
                      room - SITE_TENSORS, &n);
        st = model_tensors_to_host(m, tensors, n, &copies);
    }
    if (st == STATUS_OK) {
        site_columns_tensors(d, &sites, tensors + n);
        st = checkpoint_write(dir, &h, tensors, n + SITE_TENSORS);
    }
    if (st == STATUS_OK)
        st = checkpoint_point(dir, "latest", state->step);
    if (st == STATUS_OK && state->best_step == state->step)
        st = checkpoint_point(dir, "best", state->step);
    site_columns_free(&sites);
    free(copies);
    free(tensors);
    free(texts[0]);
    free(texts[1]);
    return st;
}

status snapshot_read(checkpoint *file, const char *name, model *m, optimizer *o, train_state *state)
{
    TRY(state_parse(checkpoint_head(file), name, state));
    return model_restore(m, file, o->first, o->second);
}
