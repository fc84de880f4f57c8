/* One trial, by the ranks of one group: its parts in order, each a run with its evaluation. What is
 * done already is seen from the folders, so that a trial that was cut goes on where it was. */
#include "runtime/train/sweep.h"

#include "runtime/core/log.h"
#include "runtime/core/memory.h"
#include "runtime/train/run_directory.h"
#include "runtime/train/signals.h"
#include "runtime/train/tables.h"
#include "runtime/train/trainer.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A rank of the group that failed alone waits so long for the others, who may hang in a sum. */
#define GRACE_S 5.0

#define RUN_PATH (CONFIG_TEXT + 256)

typedef struct {
    const sweep *s;
    const sweep_trial *t;
    trial_group *g;
    bool *together;
    config c; /* of the part */
    char run[RUN_PATH], evaluation[RUN_PATH + 32];
} work;

/* What the first rank sees in the folder decides for all. */
enum { RUN_FRESH, RUN_CUT, RUN_ENDED };

static int64_t look(const work *w)
{
    char dir[CONFIG_TEXT + 16];
    int64_t *steps = NULL, n = 0;
    if (run_ended(w->run))
        return RUN_ENDED;
    run_directory_checkpoints(w->run, dir);
    if (checkpoint_list(dir, &steps, &n) != STATUS_OK)
        n = 0;
    free(steps);
    return n > 0 ? RUN_CUT : RUN_FRESH;
}

static bool judged(const work *w)
{
    char path[RUN_PATH + 64];
    snprintf(path, sizeof path, "%s/evaluate.json", w->evaluation);
    json_t *o = json_load_file(path, 0, NULL);
    const bool whole = json_is_object(o);
    json_decref(o);
    return whole;
}

static status make_folder(const char *path)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return STATUS_OK;
    return fail(STATUS_RESOURCE, "%s: %s; look at permissions and free space", path,
                strerror(errno));
}

static status make_folders(const work *w)
{
    char path[RUN_PATH];
    snprintf(path, sizeof path, "%s/trials", w->s->ask->dir);
    TRY(make_folder(path));
    snprintf(path, sizeof path, "%s/trials/%s", w->s->ask->dir, w->t->name);
    return make_folder(path);
}

/* A run that begins anew leaves no evaluation of an older one behind. */
static status forget_evaluation(const work *w)
{
    char path[RUN_PATH + 64];
    snprintf(path, sizeof path, "%s/evaluate.json", w->evaluation);
    if (unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR)
        return STATUS_OK;
    return fail(STATUS_RESOURCE, "%s: %s; look at the folder's permissions", path, strerror(errno));
}

/* The end of something that a rank may have left alone. */
static status meet(work *w, status st)
{
    return comm_conclude(w->g->c, st, GRACE_S, w->together);
}

static status train(work *w, bool finetune, const char *from, int64_t seen)
{
    const sweep_request *ask = w->s->ask;
    const train_request q = {.config = &w->c,
                             .finetune = finetune,
                             .from = from,
                             .run = w->run,
                             .resume = seen == RUN_CUT,
                             .force = seen == RUN_FRESH,
                             .device = ask->device,
                             .threads = ask->threads,
                             .command = ask->command,
                             .versions = ask->versions,
                             .tick = w->g->tick,
                             .tick_context = w->g->context};
    memory_peak_begin();
    return meet(w, train_run(&q, w->g->c));
}

static status judge(work *w)
{
    const sweep *s = w->s;
    evaluate_options o = {.model = w->run,
                          .data = w->c.data.path,
                          .output = w->evaluation,
                          .command = s->ask->command,
                          .split = s->split,
                          .n_contexts = s->n_contexts,
                          .contexts_given = s->n_contexts > 0,
                          .rounds = s->file->parts.bootstrap,
                          .seed = s->ask->seed,
                          .threads = s->ask->threads,
                          .device = s->ask->device,
                          .stop = s->on_signal ? signals_seen : NULL};
    evaluation *e = NULL;
    memcpy(o.contexts, s->contexts, sizeof o.contexts);
    memcpy(o.baselines, s->baselines, sizeof o.baselines);
    if (o.n_contexts == 0)
        o.contexts[o.n_contexts++] = w->c.data.seq_len;
    status st = evaluate_run(&o, w->g->c, &e);
    if (st == STATUS_OK && comm_rank(w->g->c) == 0) {
        st = evaluate_record(e, comm_host(w->g->c), comm_rank(w->g->c));
        if (st == STATUS_OK)
            st = evaluate_write(e);
    }
    evaluate_close(&e);
    return meet(w, st);
}

static status part(work *w, const char *name, bool finetune, const char *from)
{
    comm *c = w->g->c;
    const bool leads = comm_rank(c) == 0;
    int64_t seen = RUN_FRESH, done = 0;
    status st = STATUS_OK;
    w->g->part = name;
    snprintf(w->run, sizeof w->run, "%s/trials/%s/%s", w->s->ask->dir, w->t->name, name);
    snprintf(w->evaluation, sizeof w->evaluation, "%s/evaluate", w->run);
    if (leads) {
        seen = look(w);
        done = judged(w);
        st = seen == RUN_ENDED ? STATUS_OK : forget_evaluation(w);
    }
    TRY(comm_agree(c, st));
    TRY(comm_bcast(c, &seen, sizeof seen, 0));
    TRY(comm_bcast(c, &done, sizeof done, 0));
    if (seen != RUN_ENDED)
        TRY(train(w, finetune, from, seen));
    if (!w->s->file->parts.evaluate || (done && seen == RUN_ENDED))
        return STATUS_OK;
    return judge(w);
}

static status parts(work *w, trial_result *result)
{
    const sweep_parts *p = &w->s->file->parts;
    char from[RUN_PATH] = "none";
    const bool leads = comm_rank(w->g->c) == 0;
    TRY(comm_agree(w->g->c, leads ? make_folders(w) : STATUS_OK));
    w->c = *w->t->c;
    if (p->pretrain) {
        TRY(part(w, "pretrain", false, NULL));
        snprintf(from, sizeof from, "%s", w->run);
    }
    if (p->position) {
        w->c.objective = OBJECTIVE_POSITION_CONDITIONED;
        TRY(part(w, "position", false, NULL));
        w->c.objective = w->t->c->objective;
    }
    if (p->finetune)
        TRY(part(w, "finetune", true, from));
    w->g->part = "results";
    return comm_agree(w->g->c, leads ? trial_collect(w->s, w->t, result) : STATUS_OK);
}

status trial_run(const sweep *s, const sweep_trial *t, trial_group *g, bool *together,
                 trial_result *result)
{
    *together = true;
    work *w = calloc(1, sizeof *w);
    status st = w ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more memory", t->name);
    st = meet(&(work){.g = g, .together = together}, st);
    if (st == STATUS_OK) {
        w->s = s;
        w->t = t;
        w->g = g;
        w->together = together;
        st = parts(w, result);
    }
    free(w);
    return st;
}
