/* What a sweep remembers: sweep.json says what its trials are, events.jsonl what became of them. */
#include "runtime/train/sweep.h"

#include "runtime/core/log.h"
#include "runtime/train/tables.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCHEMA "crocuta/sweep-folder/1"

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static status no_memory(const char *dir)
{
    return fail(STATUS_MEMORY, "%s: no memory for its trials; close other programs", dir);
}

bool sweep_is(const char *dir)
{
    char path[CONFIG_TEXT + 64];
    snprintf(path, sizeof path, "%s/sweep.json", dir);
    return access(path, R_OK) == 0;
}

/* ---- results ---- */

#define AT(member) offsetof(trial_result, member)
static const struct {
    const char *key;
    size_t at;
    bool whole;
} numbers[] = {
    {"params", AT(params), true},
    {"rows", AT(rows), true},
    {"table_bytes", AT(table_bytes), true},
    {"dense_bytes", AT(dense_bytes), true},
    {"peak_bytes", AT(peak_bytes), true},
    {"tokens", AT(tokens), true},
    {"n_people", AT(n_people), true},
    {"n_windows", AT(n_windows), true},
    {"step_ms", AT(step_ms), false},
    {"perplexity", AT(perplexity), false},
    {"perplexity_position", AT(perplexity_position), false},
    {"lookup", AT(lookup), false},
    {"lookup_position", AT(lookup_position), false},
    {"next_site", AT(next_site), false},
    {"accuracy", AT(accuracy), false},
    {"ci_low", AT(ci_low), false},
    {"ci_high", AT(ci_high), false},
};
#define N_NUMBERS (sizeof numbers / sizeof *numbers)

static json_t *result_json(const trial_result *r)
{
    json_t *o = json_pack("{s:s}", "run", r->run);
    for (size_t i = 0; o && i < N_NUMBERS; i++) {
        const char *from = (const char *)r + numbers[i].at;
        const int64_t whole = *(const int64_t *)(const void *)from;
        const double real = *(const double *)(const void *)from;
        json_t *x = numbers[i].whole ? (whole < 0 ? json_null() : json_integer(whole))
                                     : (isfinite(real) ? json_real(real) : json_null());
        json_object_set_new(o, numbers[i].key, x);
    }
    return o;
}

static trial_result result_of(const json_t *o)
{
    trial_result r = trial_result_none();
    snprintf(r.run, sizeof r.run, "%s", text_of(o, "run"));
    for (size_t i = 0; i < N_NUMBERS; i++) {
        const json_t *x = json_object_get(o, numbers[i].key);
        char *to = (char *)&r + numbers[i].at;
        if (numbers[i].whole && json_is_integer(x))
            *(int64_t *)(void *)to = json_integer_value(x);
        if (!numbers[i].whole && json_is_number(x))
            *(double *)(void *)to = json_number_value(x);
    }
    return r;
}

char *sweep_json(const sweep *s)
{
    json_t *trials = json_array();
    for (int i = 0; i < s->n; i++) {
        const sweep_trial *t = &s->trials[i];
        json_array_append_new(trials,
                              json_pack("{s:s, s:s, s:i, s:s, s:o}", "trial", t->name, "status",
                                        trial_state_name(t->state), "attempts", t->attempts,
                                        "reason", t->reason, "result", result_json(&t->result)));
    }
    json_t *o = json_pack("{s:s, s:s, s:o}", "schema", "crocuta/sweep/1", "dir", s->ask->dir,
                          "trials", trials);
    char *text = o ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(o);
    return text;
}

/* ---- writing the journal ---- */

status sweep_event(journal *j, const sweep_line *l)
{
    json_t *o = json_pack("{s:f, s:i, s:s, s:i, s:s, s:s}", "time", clock_wall_s(), "rank", 0,
                          "host", l->host, "step", l->step, "event", l->event, "detail",
                          l->detail ? l->detail : "");
    if (o && l->t) {
        json_object_set_new(o, "trial", json_string(l->t->name));
        json_object_set_new(o, "group", json_integer(l->group));
        json_object_set_new(o, "attempts", json_integer(l->t->attempts));
    }
    if (o && l->outcome)
        json_object_set_new(o, "outcome", json_string(l->outcome));
    if (o && l->outcome && strcmp(l->outcome, "done") == 0)
        json_object_set_new(o, "result", result_json(&l->t->result));
    TRY(journal_write(j, o));
    return journal_sync(j);
}

/* ---- reading it ---- */

typedef struct {
    sweep_trial *at;
    int n, room;
} list;

static sweep_trial *find(const list *l, const char *name)
{
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->at[i].name, name) == 0)
            return &l->at[i];
    return NULL;
}

static sweep_trial *append(list *l, const char *name)
{
    if (l->n == l->room) {
        const int room = l->room ? 2 * l->room : 64;
        sweep_trial *more = realloc(l->at, (size_t)room * sizeof *more);
        if (!more)
            return NULL;
        l->at = more;
        l->room = room;
    }
    sweep_trial *t = &l->at[l->n++];
    *t = (sweep_trial){.result = trial_result_none()};
    snprintf(t->name, sizeof t->name, "%s", name);
    return t;
}

/* A job that was killed leaves a start without an end. */
static void take_event(const json_t *o, sweep_trial *t)
{
    const char *event = text_of(o, "event"), *outcome = text_of(o, "outcome");
    if (strcmp(event, "trial_start") == 0) {
        t->state = TRIAL_RUNNING;
        t->begun = true;
        t->cut_short++;
    } else if (strcmp(event, "trial_retry") == 0) {
        t->state = TRIAL_QUEUED;
        t->attempts = 0;
    } else if (strcmp(event, "trial_end") == 0) {
        t->cut_short = 0;
        t->attempts = (int)json_integer_value(json_object_get(o, "attempts"));
        t->state = strcmp(outcome, "done") == 0     ? TRIAL_DONE
                   : strcmp(outcome, "failed") == 0 ? TRIAL_FAILED
                                                    : TRIAL_QUEUED;
        snprintf(t->reason, sizeof t->reason, "%s",
                 t->state == TRIAL_DONE ? "" : text_of(o, "detail"));
        if (t->state == TRIAL_DONE)
            t->result = result_of(json_object_get(o, "result"));
    }
}

/* Trials that are not in the list are appended. */
static status replay(const char *dir, list *l)
{
    char path[CONFIG_TEXT + 64], *line = NULL;
    size_t room = 0;
    status st = STATUS_OK;
    snprintf(path, sizeof path, "%s/events.jsonl", dir);
    FILE *f = fopen(path, "r");
    while (f && st == STATUS_OK && getline(&line, &room, f) > 0) {
        json_t *o = json_loads(line, 0, NULL);
        const char *name = text_of(o, "trial"); /* a cut line has none */
        if (name[0]) {
            sweep_trial *t = find(l, name);
            if (!t)
                t = append(l, name);
            if (t)
                take_event(o, t);
            else
                st = no_memory(dir);
        }
        json_decref(o);
    }
    free(line);
    if (f)
        fclose(f);
    return st;
}

/* ---- sweep.json ---- */

static json_t *parts_json(const sweep *s)
{
    const sweep_parts *p = &s->file->parts;
    json_t *parts = json_array();
    const struct {
        bool there;
        const char *name;
    } all[] = {{p->pretrain, "pretrain"},
               {p->position, "position-conditioned"},
               {p->finetune, "finetune"}};
    for (int i = 0; i < 3; i++)
        if (all[i].there)
            json_array_append_new(parts, json_string(all[i].name));
    if (!p->evaluate)
        return json_pack("{s:o, s:s}", "do", parts, "evaluate", "none");
    return json_pack("{s:o, s:{s:s, s:s, s:s, s:I}}", "do", parts, "evaluate", "split", p->split,
                     "contexts", p->contexts[0] ? p->contexts : "own", "baselines", p->baselines,
                     "bootstrap", (json_int_t)p->bootstrap);
}

static json_t *trial_json(const sweep_file *f, int i, const sweep_trial *t)
{
    json_t *settings = json_object();
    for (int k = 0; k < f->points[i].n; k++)
        json_object_set_new(settings, f->points[i].at[k].key,
                            json_string(f->points[i].at[k].value));
    char *text = config_json(t->c);
    json_t *full = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    return json_pack("{s:s, s:i, s:o, s:f, s:o*}", "name", t->name, "line", t->line, "settings",
                     settings, "work", t->work, "config", full);
}

status sweep_describe(const sweep *s)
{
    json_t *trials = json_array();
    for (int i = 0; i < s->file->n_points; i++)
        json_array_append_new(trials, trial_json(s->file, i, &s->trials[i]));
    json_t *o = json_pack("{s:s, s:s, s:b, s:s, s:o, s:o}", "schema", SCHEMA, "file", s->file->path,
                          "small", (int)s->ask->small, "command", s->ask->command, "parts",
                          parts_json(s), "trials", trials);
    char *text = o ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(o);
    if (!text)
        return no_memory(s->ask->dir);
    const status st = result_text(s->ask->dir, "sweep.json", text);
    free(text);
    return st;
}

static status load(const char *dir, json_t **out)
{
    char path[CONFIG_TEXT + 64];
    json_error_t why;
    snprintf(path, sizeof path, "%s/sweep.json", dir);
    *out = json_load_file(path, 0, &why);
    if (json_is_object(*out) && strcmp(text_of(*out, "schema"), SCHEMA) == 0)
        return STATUS_OK;
    const bool other = json_is_object(*out);
    json_decref(*out);
    *out = NULL;
    return fail(STATUS_DATA, "%s: it is no sweep's (%s); give another folder", path,
                other ? "another version" : why.text);
}

/* A value of the nested configuration by its dotted key. */
static const json_t *value_of(const json_t *nested, const char *key)
{
    const char *dot = strchr(key, '.');
    char section[SWEEP_KEY];
    if (!dot)
        return json_object_get(nested, key);
    snprintf(section, sizeof section, "%.*s", (int)(dot - key), key);
    return json_object_get(json_object_get(nested, section), dot + 1);
}

static void shown(const json_t *x, char *text, size_t size)
{
    char *dumped = x ? json_dumps(x, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12)) : NULL;
    snprintf(text, size, "%s", dumped ? dumped : "nothing");
    free(dumped);
}

/* What may change when a run is resumed may change here; but a trial's length is part of it. */
static status same_config(const sweep *s, const sweep_trial *t, const json_t *before)
{
    char *text = config_json(t->c);
    json_t *now = text ? json_loads(text, 0, NULL) : NULL;
    status st = now ? STATUS_OK : no_memory(s->ask->dir);
    free(text);
    for (int i = 0; st == STATUS_OK && config_key(i); i++) {
        const char *key = config_key(i);
        const bool length = strcmp(key, "train.steps") == 0 || strcmp(key, "finetune.steps") == 0;
        if (config_harmless(key) && !length)
            continue;
        const json_t *a = value_of(before, key), *b = value_of(now, key);
        char was[128], is[128];
        if (!a || json_equal(a, b)) /* an older version did not know the key */
            continue;
        shown(a, was, sizeof was);
        shown(b, is, sizeof is);
        st = fail(STATUS_USAGE,
                  "%s:%d: trial %s has %s %s, but %s was begun with %s; take the change back, name "
                  "the trial anew, or give another -o",
                  s->file->path, t->line, t->name, key, is, s->ask->dir, was);
    }
    json_decref(now);
    return st;
}

static status same_parts(const sweep *s, const json_t *before)
{
    json_t *now = parts_json(s);
    const bool same = json_equal(now, json_object_get(before, "parts"));
    char was[256], is[256];
    shown(json_object_get(before, "parts"), was, sizeof was);
    shown(now, is, sizeof is);
    json_decref(now);
    if (same)
        return STATUS_OK;
    return fail(STATUS_USAGE,
                "%s: its trials do %s, but %s was begun with %s; take the change back, or give "
                "another -o",
                s->file->path, is, s->ask->dir, was);
}

static status same_as_before(const sweep *s)
{
    json_t *before = NULL, *item;
    size_t k;
    TRY(load(s->ask->dir, &before));
    status st = same_parts(s, before);
    json_array_foreach(json_object_get(before, "trials"), k, item)
    {
        for (int i = 0; st == STATUS_OK && i < s->n; i++)
            if (strcmp(s->trials[i].name, text_of(item, "name")) == 0)
                st = same_config(s, &s->trials[i], json_object_get(item, "config"));
    }
    json_decref(before);
    return st;
}

status sweep_recall(sweep *s)
{
    if (!sweep_is(s->ask->dir))
        return STATUS_OK;
    TRY(same_as_before(s));
    list l = {s->trials, s->n, s->n};
    const int own = s->n;
    status st = replay(s->ask->dir, &l);
    s->trials = l.at;
    s->n = own;
    for (int i = 0; i < l.n; i++) {
        sweep_trial *t = &l.at[i];
        if (i < own && t->state == TRIAL_RUNNING)
            t->state = TRIAL_QUEUED;
        if (i >= own && t->state == TRIAL_DONE)
            l.at[s->n++] = *t;
    }
    return st;
}

status sweep_read(const char *dir, sweep_trial **trials, int *n)
{
    json_t *o = NULL, *item;
    size_t k;
    list l = {0};
    status st = load(dir, &o);
    json_array_foreach(json_object_get(o, "trials"), k, item)
    {
        if (st == STATUS_OK && !append(&l, text_of(item, "name")))
            st = no_memory(dir);
    }
    json_decref(o);
    if (st == STATUS_OK)
        st = replay(dir, &l);
    *trials = l.at;
    *n = l.n;
    return st;
}
