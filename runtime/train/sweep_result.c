/* The numbers of a trial from what its runs left: journals, the newest checkpoint's shapes,
 * evaluations. */
#include "runtime/train/run_directory.h"
#include "runtime/train/sweep.h"

#include "io/checkpoint.h"
#include "runtime/core/array.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_PATH (CONFIG_TEXT + 256)

trial_result trial_result_none(void)
{
    return (trial_result){.params = -1,
                          .rows = -1,
                          .table_bytes = -1,
                          .dense_bytes = -1,
                          .peak_bytes = -1,
                          .tokens = -1,
                          .n_people = -1,
                          .n_windows = -1,
                          .step_ms = NAN,
                          .perplexity = NAN,
                          .perplexity_position = NAN,
                          .lookup = NAN,
                          .lookup_position = NAN,
                          .next_site = NAN,
                          .accuracy = NAN,
                          .ci_low = NAN,
                          .ci_high = NAN};
}

static double number_of(const json_t *o, const char *key)
{
    const json_t *x = json_object_get(o, key);
    return json_is_number(x) ? json_number_value(x) : NAN;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* ---- journals ---- */

typedef void (*take_line)(const json_t *line, void *to);

static void each_line(const char *run, const char *name, take_line take, void *to)
{
    char path[RUN_PATH + 64], *line = NULL;
    size_t room = 0;
    snprintf(path, sizeof path, "%s/%s", run, name);
    FILE *f = fopen(path, "r");
    while (f && getline(&line, &room, f) > 0) {
        json_t *o = json_loads(line, 0, NULL);
        if (json_is_object(o)) /* a line that was cut is passed over */
            take(o, to);
        json_decref(o);
    }
    free(line);
    if (f)
        fclose(f);
}

static void take_end(const json_t *o, void *to)
{
    bool *ended = to;
    const char *event = text_of(o, "event"), *detail = text_of(o, "detail");
    if (strcmp(event, "end") == 0)
        *ended = strcmp(detail, "done") == 0 || strcmp(detail, "early stopping") == 0;
    else if (strcmp(event, "start") == 0 || strcmp(event, "resume") == 0)
        *ended = false;
}

bool run_ended(const char *run)
{
    bool ended = false;
    each_line(run, "events.jsonl", take_end, &ended);
    return ended;
}

typedef struct {
    double *ms, *tokens; /* by step: the last line of a step wins */
    int64_t steps, room;
    int64_t memory;
    double valid; /* least loss on validation people */
} course;

static void take_metric(const json_t *o, void *to)
{
    course *c = to;
    const double memory = number_of(o, "memory_bytes"), loss = number_of(o, "loss");
    if (memory > (double)c->memory)
        c->memory = (int64_t)memory;
    if (strcmp(text_of(o, "split"), "train") != 0) {
        c->valid = fmin(c->valid, loss);
        return;
    }
    const int64_t step = (int64_t)json_integer_value(json_object_get(o, "step"));
    if (step < 1 || step > 1 << 30)
        return;
    if (step > c->room) {
        const int64_t room = step > 2 * c->room ? step + 64 : 2 * c->room;
        bool ok = true;
        c->ms = array_resized(c->ms, room, sizeof *c->ms, &ok);
        c->tokens = array_resized(c->tokens, room, sizeof *c->tokens, &ok);
        if (!ok)
            return; /* the numbers of this step are left out */
        for (int64_t i = c->room; i < room; i++)
            c->ms[i] = c->tokens[i] = NAN;
        c->room = room;
    }
    c->ms[step - 1] = number_of(o, "step_ms");
    c->tokens[step - 1] = number_of(o, "tokens");
    c->steps = step > c->steps ? step : c->steps;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Steps that were not logged stand for as many tokens as those that were. */
static void read_course(const char *run, bool first, trial_result *r, double *valid)
{
    course c = {.valid = NAN};
    int64_t n = 0;
    double tokens = 0;
    each_line(run, "metrics.jsonl", take_metric, &c);
    for (int64_t i = 0; i < c.steps; i++)
        if (isfinite(c.ms[i]) && isfinite(c.tokens[i])) {
            tokens += c.tokens[i];
            c.ms[n++] = c.ms[i];
        }
    if (n > 0) {
        qsort(c.ms, (size_t)n, sizeof *c.ms, by_size);
        if (first)
            r->step_ms = c.ms[n / 2];
        tokens *= (double)c.steps / (double)n;
        r->tokens = (r->tokens > 0 ? r->tokens : 0) + (int64_t)tokens;
    }
    if (c.memory > 0 && c.memory > r->peak_bytes)
        r->peak_bytes = c.memory;
    *valid = c.valid;
    free(c.ms);
    free(c.tokens);
}

/* ---- shapes of the newest checkpoint ---- */

static status read_shapes(const char *run, trial_result *r)
{
    char dir[CONFIG_TEXT + 16];
    checkpoint *file = NULL;
    const checkpoint_tensor *list = NULL;
    run_directory_checkpoints(run, dir);
    TRY(checkpoint_newest(dir, &file));
    if (!file)
        return fail(STATUS_DATA, "%s: there is no checkpoint; remove the folder and run it again",
                    dir);
    r->params = 0;
    const int64_t n = checkpoint_tensors(file, &list);
    for (int64_t i = 0; i < n; i++) {
        int64_t count = 1;
        for (int k = 0; k < list[i].ndim; k++)
            count *= list[i].shape[k];
        const bool wide = list[i].kind == ELEMENT_I64;
        if (strncmp(list[i].name, "parameters/", 11) == 0)
            r->params += count;
        if (strncmp(list[i].name, "rows/", 5) != 0 || strcmp(list[i].name, "rows/lr") == 0)
            continue;
        r->table_bytes = (r->table_bytes > 0 ? r->table_bytes : 0) + count * (wide ? 8 : 4);
        if (strstr(list[i].name, "/row"))
            r->rows = (r->rows > 0 ? r->rows : 0) + count;
    }
    checkpoint_close(&file);
    return STATUS_OK;
}

/* ---- evaluations ---- */

/* The result of the model at a context; any of the model's where that one is not there. */
static const json_t *of_model(const json_t *document, int64_t context)
{
    const json_t *found = NULL, *r;
    size_t i;
    json_array_foreach(json_object_get(document, "results"), i, r)
    {
        if (strcmp(text_of(r, "method"), "model") != 0)
            continue;
        if (!found || json_integer_value(json_object_get(r, "context")) == context)
            found = r;
    }
    return found;
}

static void take_number(const json_t *o, const char *key, double *to)
{
    const double x = number_of(o, key);
    if (isfinite(x))
        *to = x;
}

static status read_evaluation(const char *run, const config *c, trial_result *r)
{
    char path[RUN_PATH + 64];
    snprintf(path, sizeof path, "%s/evaluate/evaluate.json", run);
    json_t *document = json_load_file(path, 0, NULL);
    if (!json_is_object(document)) {
        json_decref(document);
        return fail(STATUS_DATA,
                    "%s: it is not there or no JSON; remove it and run the sweep again", path);
    }
    const json_t *p = json_object_get(document, "perplexity");
    take_number(p, "autoregressive", &r->perplexity);
    take_number(p, "position_conditioned", &r->perplexity_position);
    take_number(p, "lookup_autoregressive", &r->lookup);
    take_number(p, "lookup_position", &r->lookup_position);
    take_number(p, "next_site", &r->next_site);
    const json_t *m = of_model(document, c->data.seq_len);
    if (m) {
        const json_t *ci = json_object_get(m, "ci_people");
        take_number(m, "accuracy", &r->accuracy);
        r->ci_low =
            json_is_number(json_array_get(ci, 0)) ? json_number_value(json_array_get(ci, 0)) : NAN;
        r->ci_high =
            json_is_number(json_array_get(ci, 1)) ? json_number_value(json_array_get(ci, 1)) : NAN;
        r->n_people = json_integer_value(json_object_get(m, "n_people"));
        r->n_windows = json_integer_value(json_object_get(m, "n_windows"));
    }
    json_decref(document);
    return STATUS_OK;
}

status trial_collect(const sweep *s, const sweep_trial *t, trial_result *out)
{
    const sweep_parts *p = &s->file->parts;
    const struct {
        const char *name;
        bool there, position;
    } parts[] = {{"pretrain", p->pretrain, false},
                 {"position", p->position, true},
                 {"finetune", p->finetune, false}};
    trial_result r = trial_result_none();
    bool first = true;
    for (int i = 0; i < 3; i++) {
        char run[RUN_PATH];
        double valid = NAN;
        if (!parts[i].there)
            continue;
        snprintf(run, sizeof run, "%s/trials/%s/%s", s->ask->dir, t->name, parts[i].name);
        read_course(run, first, &r, &valid);
        first = false;
        if (p->evaluate)
            TRY(read_evaluation(run, t->c, &r));
        else if (i < 2 && (parts[i].position || t->c->objective != OBJECTIVE_NEXT_SITE))
            *(parts[i].position || t->c->objective == OBJECTIVE_POSITION_CONDITIONED
                  ? &r.perplexity_position
                  : &r.perplexity) = exp(valid);
        if (parts[i].position && r.run[0])
            continue; /* tables and run are those of the other parts */
        snprintf(r.run, sizeof r.run, "trials/%s/%s", t->name, parts[i].name);
        r.table_bytes = r.rows = -1;
        TRY(read_shapes(run, &r));
    }
    *out = r;
    return STATUS_OK;
}
