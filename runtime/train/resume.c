/* Going on from a checkpoint: see resume.h. */
#include "runtime/train/resume.h"

#include "runtime/core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A change of one key. */
static status judge(const char *name, const config *now, bool finetune, const char *key,
                    const char *was, const char *is, bool *grown)
{
    if (strcmp(key, finetune ? "finetune.steps" : "train.steps") == 0) {
        if (strtoll(is, NULL, 10) < strtoll(was, NULL, 10))
            return fail(STATUS_USAGE,
                        "%s: %s is %s, the run was begun with %s; it may grow on --resume, not "
                        "shrink (--max-steps stops earlier)",
                        now->file, key, is, was);
        *grown = true;
        return STATUS_OK;
    }
    if (config_harmless(key))
        return STATUS_OK;
    return fail(STATUS_USAGE,
                "%s: %s is %s, %s was made with %s; take the change back, or begin a new run",
                now->file, key, is, name, was);
}

/* Only how stages are shared differs. */
static bool same_stages(const config *a, const config *b)
{
    bool same = a->n_stages == b->n_stages;
    for (int i = 0; i < a->n_stages && same; i++)
        same = a->stages[i].seq_len == b->stages[i].seq_len &&
               a->stages[i].steps == b->stages[i].steps;
    return same;
}

status resume_same_config(const char *yaml, const char *name, const config *now, bool finetune,
                          bool warn, bool *grown)
{
    *grown = false;
    config *then = calloc(1, sizeof *then);
    if (!then)
        return fail(STATUS_MEMORY, "%s: no memory for its configuration; use more memory", name);
    config_defaults(then);
    status st = config_read_text(then, name, yaml, strlen(yaml));
    if (st == STATUS_OK)
        st = config_finish(then, false);
    char changed[512] = "";
    for (int i = 0; st == STATUS_OK && config_key(i); i++) {
        const char *key = config_key(i);
        char was[4 * CONFIG_TEXT], is[4 * CONFIG_TEXT]; /* stages are long */
        st = config_get(then, key, was, sizeof was);
        if (st == STATUS_OK)
            st = config_get(now, key, is, sizeof is);
        if (st != STATUS_OK || strcmp(was, is) == 0)
            continue;
        if (strcmp(key, "stages") != 0 || !same_stages(then, now))
            st = judge(name, now, finetune, key, was, is, grown);
        size_t n = strlen(changed);
        snprintf(changed + n, sizeof changed - n, "%s%s", n ? ", " : "", key);
    }
    if (st == STATUS_OK && changed[0] && warn)
        log_warning("%s: changed since %s was written: %s", now->file, name, changed);
    free(then);
    return st;
}

/* Rows that lag behind were to be replayed with the old curve: that is done before the new one
 * begins. */
static status settle_old_rows(const char *yaml, const char *name, bool finetune, optimizer *o,
                              int64_t step)
{
    config *then = malloc(sizeof *then);
    if (!then)
        return fail(STATUS_MEMORY, "%s: no memory for its configuration; use more memory", name);
    config_defaults(then);
    schedule old;
    optimizer was = {0};
    status st = config_read_text(then, name, yaml, strlen(yaml));
    if (st == STATUS_OK)
        st = config_finish(then, false);
    if (st == STATUS_OK)
        st = schedule_open(then, finetune, &old);
    if (st == STATUS_OK)
        st = optimizer_open(then, finetune, &old, o->m, o->dev, o->workers, &was);
    if (st == STATUS_OK)
        st = optimizer_settle_rows(&was, step - 1);
    optimizer_close(&was);
    free(then);
    return st;
}

/* The newest sound checkpoint as worker 0 sees it: its step, -1 for none. */
static status choose(const char *dir, int64_t before, comm *workers, checkpoint **file,
                     int64_t *step)
{
    status st = STATUS_OK;
    *step = -1;
    if (comm_rank(workers) == 0) {
        st = checkpoint_newest_before(dir, before, file);
        if (st == STATUS_OK && *file)
            *step = checkpoint_head(*file)->step;
    }
    TRY(comm_agree(workers, st));
    TRY(comm_bcast(workers, step, sizeof *step, 0));
    if (*step >= 0 && comm_rank(workers) != 0) {
        char path[1024];
        checkpoint_path(dir, *step, path);
        st = checkpoint_open(path, file);
    }
    return comm_agree(workers, st);
}

static status load(checkpoint *file, const char *name, const config *now, bool finetune,
                   const dataset *d, model *m, optimizer *o, train_state *state)
{
    const checkpoint_header *h = checkpoint_head(file);
    bool grown = false;
    TRY(resume_same_config(h->config, name, now, finetune, comm_rank(o->workers) == 0, &grown));
    TRY(snapshot_same_data(h, name, d));
    TRY(snapshot_read(file, name, m, o, state));
    if (grown && state->step > 0)
        TRY(settle_old_rows(h->config, name, finetune, o, state->step));
    if (grown)
        state->finished = false;
    return STATUS_OK;
}

status resume_newest(const char *dir, int64_t before, const config *now, bool finetune,
                     const dataset *d, model *m, optimizer *o, train_state *state)
{
    checkpoint *file = NULL;
    int64_t step = -1;
    status st = choose(dir, before, o->workers, &file, &step);
    if (st == STATUS_OK && step >= 0) {
        char name[1024];
        checkpoint_path(dir, step, name);
        st = comm_agree(o->workers, load(file, name, now, finetune, d, m, o, state));
    }
    checkpoint_close(&file);
    return st;
}
