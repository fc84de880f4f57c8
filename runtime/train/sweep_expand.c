/* From a sweep file to configurations: every trial is checked before the first one begins. */
#include "runtime/train/sweep.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *trial_state_name(trial_state s)
{
    static const char *const names[] = {"queued", "running", "done", "failed"};
    return names[s];
}

/* data.path in a sweep file is relative to that file. */
static status set_one(config *c, const char *file, const sweep_setting *s)
{
    char where[CONFIG_PLACE], path[CONFIG_TEXT];
    const char *value = s->value, *slash = strrchr(file, '/');
    snprintf(where, sizeof where, "%s:%d", file, s->line);
    if (strcmp(s->key, "data.path") == 0 && value[0] != '/' && slash) {
        const size_t folder = (size_t)(slash - file + 1);
        if (folder + strlen(value) >= sizeof path)
            return fail(STATUS_USAGE, "%s: data.path is too long; move the data set", where);
        memcpy(path, file, folder);
        strcpy(path + folder, value);
        value = path;
    }
    return config_set(c, s->key, value, where);
}

/* A trial may be run from wherever the sweep is continued. */
static void make_absolute(config *c)
{
    char path[CONFIG_TEXT], full[PATH_MAX];
    config_data_path(c, path);
    if (realpath(path, full) && strlen(full) < sizeof c->data.path)
        strcpy(c->data.path, full);
}

static status finish(const sweep_file *f, const sweep_point *p, config *c)
{
    for (int i = 0; i < p->n; i++)
        TRY(set_one(c, f->path, &p->at[i]));
    if (config_finish(c, true) != STATUS_OK)
        return fail(STATUS_USAGE, "%s:%d: trial %s: %.700s", f->path, p->line, p->name,
                    failure_last()->text);
    make_absolute(c);
    /* A group's coordinator stands in its first worker; hours are counted for the whole sweep. */
    c->comm.coordinator = COORDINATOR_WORKER;
    c->train.max_hours = 0;
    return STATUS_OK;
}

static bool swept(const sweep_file *f, const char *key, size_t length, int *line)
{
    for (int i = 0; i < f->n_points; i++)
        for (int k = 0; k < f->points[i].n; k++)
            if (strlen(f->points[i].at[k].key) == length &&
                strncmp(f->points[i].at[k].key, key, length) == 0) {
                *line = f->points[i].at[k].line;
                return true;
            }
    return false;
}

/* What all trials have in common. */
static status read_common(const sweep_file *f, const char *base, const char *const *overrides,
                          int n, config *c)
{
    int line = 0;
    config_defaults(c);
    TRY(config_read(c, base));
    for (int i = 0; i < f->set.n; i++)
        TRY(set_one(c, f->path, &f->set.at[i]));
    config_forget_overrides(c);
    for (int i = 0; i < n; i++) {
        const size_t key = strcspn(overrides[i], "=");
        if (swept(f, overrides[i], key, &line))
            return fail(STATUS_USAGE,
                        "%.80s: trials differ in %.*s, see %s:%d; change it there, or leave it out",
                        overrides[i], (int)key, overrides[i], f->path, line);
        TRY(config_override(c, overrides[i]));
    }
    return STATUS_OK;
}

static status read_evaluate(sweep *s)
{
    static const char *const splits[] = {"train", "valid", "test"};
    const sweep_parts *p = &s->file->parts;
    int split = 0;
    while (split < 3 && strcmp(splits[split], p->split) != 0)
        split++;
    if (split == 3)
        return fail(STATUS_USAGE, "%s: evaluate.split is %s; use train, valid or test",
                    s->file->path, p->split);
    s->split = (split_kind)split;
    for (const char *at = p->contexts; *at;) {
        char *end = NULL;
        const long long context = strtoll(at, &end, 10);
        if (end == at || (*end && *end != ',') || context < 2 || context > 1 << 24 ||
            s->n_contexts == EVALUATE_CONTEXTS)
            return fail(STATUS_USAGE,
                        "%s: evaluate.contexts is %s; write up to %d lengths of 2 SNPs or more as "
                        "[128, 512]",
                        s->file->path, p->contexts, EVALUATE_CONTEXTS);
        s->contexts[s->n_contexts++] = context;
        at = *end ? end + 1 : end;
    }
    if (baselines_parse(p->baselines, s->baselines) != STATUS_OK)
        return fail(STATUS_USAGE, "%s: evaluate.baselines: %.600s", s->file->path,
                    failure_last()->text);
    return STATUS_OK;
}

static status make_trials(const sweep_file *f, const config *common, sweep *s)
{
    s->trials = calloc((size_t)f->n_points, sizeof *s->trials);
    if (!s->trials)
        return fail(STATUS_MEMORY, "%s: no memory for its trials; close other programs", f->path);
    for (int i = 0; i < f->n_points; i++) {
        sweep_trial *t = &s->trials[s->n++];
        *t = (sweep_trial){.line = f->points[i].line, .result = trial_result_none()};
        snprintf(t->name, sizeof t->name, "%s", f->points[i].name);
        t->c = malloc(sizeof *t->c);
        if (!t->c)
            return fail(STATUS_MEMORY, "%s: no memory for its trials; close other programs",
                        f->path);
        *t->c = *common;
        TRY(finish(f, &f->points[i], t->c));
    }
    return STATUS_OK;
}

status sweep_expand(const sweep_request *ask, const sweep_file *f, const char *base,
                    const char *const *overrides, int n, sweep *out)
{
    *out = (sweep){.ask = ask, .file = f};
    config *common = calloc(1, sizeof *common);
    if (!common)
        return fail(STATUS_MEMORY, "%s: no memory for its trials; close other programs", f->path);
    status st = read_common(f, base, overrides, n, common);
    if (st == STATUS_OK)
        st = read_evaluate(out);
    if (st == STATUS_OK) {
        out->inside = common->comm.coordinator == COORDINATOR_WORKER;
        out->limit_s = 3600 * common->train.max_hours;
        out->on_signal = common->checkpoint.on_signal;
        st = make_trials(f, common, out);
    }
    free(common);
    return st;
}

void sweep_close(sweep *s)
{
    for (int i = 0; i < s->n; i++)
        free(s->trials[i].c);
    free(s->trials);
    *s = (sweep){0};
}
