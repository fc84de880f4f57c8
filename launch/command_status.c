/* `crocuta status`: how a run is doing, from its folder alone. */
#include "launch/cli.h"
#include "runtime/train/last_seen.h"
#include "runtime/train/sweep_status.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FOLLOW_S 2

static const char about[] =
    "Says how a run is doing: its state, step, expected end, newest checkpoint and workers; of a\n"
    "sweep how many trials are queued, running, done and failed. Only reads, also while another\n"
    "machine writes.\n"
    "\nExample:\n  crocuta status runs/study --follow";

static void print_json(const run_status *s, const last_seen *lost)
{
    json_t *workers = json_loads(s->workers ? s->workers : "[]", 0, NULL);
    json_t *o = json_pack(
        "{s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:s, s:s, s:s?, s:o}", "schema", "crocuta/status/1",
        "state", s->state, "step", (json_int_t)s->step, "steps", (json_int_t)s->steps, "eta_s",
        isfinite(s->eta_s) ? json_real(s->eta_s) : json_null(), "last_checkpoint",
        s->last_checkpoint >= 0 ? json_integer(s->last_checkpoint) : json_null(), "loss",
        isfinite(s->loss) ? json_real(s->loss) : json_null(), "last_event", s->event,
        "last_event_detail", s->detail, "lost", lost->died ? lost->who.detail : NULL, "workers",
        workers ? workers : json_array());
    char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    if (text)
        puts(text);
    free(text);
    json_decref(o);
}

static void print_text(const run_status *s, const last_seen *lost)
{
    printf("%s  step %lld/%lld", s->state, (long long)s->step, (long long)s->steps);
    if (isfinite(s->loss))
        printf("  loss %.4f", s->loss);
    if (isfinite(s->valid_loss))
        printf("  validation %.4f", s->valid_loss);
    if (isfinite(s->eta_s))
        printf("  ETA %lld:%02lld", (long long)s->eta_s / 60, (long long)s->eta_s % 60);
    if (s->last_checkpoint >= 0)
        printf("  checkpoint at step %lld", (long long)s->last_checkpoint);
    if (s->event[0])
        printf("  last event: %s (%s)", s->event, s->detail);
    if (lost->died)
        printf("  it ended without a word: %s", lost->who.detail);
    printf("\n");
}

/* ---- sweeps: steps are trials ---- */

static void print_sweep_json(const sweep_status *s)
{
    json_t *trials = json_array();
    for (int i = 0; i < s->n; i++)
        json_array_append_new(trials, json_pack("{s:s, s:s, s:s}", "trial", s->trials[i].name,
                                                "status", trial_state_name(s->trials[i].state),
                                                "reason", s->trials[i].reason));
    json_t *o = json_pack("{s:s, s:s, s:i, s:i, s:o, s:o, s:{s:i, s:i, s:i, s:i}, s:o, s:o}",
                          "schema", "crocuta/status/1", "state", s->state, "step",
                          s->count[TRIAL_DONE] + s->count[TRIAL_FAILED], "steps", s->n, "eta_s",
                          isfinite(s->eta_s) ? json_real(s->eta_s) : json_null(), "last_checkpoint",
                          json_null(), "counts", "queued", s->count[TRIAL_QUEUED], "running",
                          s->count[TRIAL_RUNNING], "done", s->count[TRIAL_DONE], "failed",
                          s->count[TRIAL_FAILED], "trials", trials, "workers", json_array());
    char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    if (text)
        puts(text);
    free(text);
    json_decref(o);
}

static void print_sweep_text(const char *dir, const sweep_status *s)
{
    printf("%s  %d trials: %d done, %d running, %d queued, %d failed", s->state, s->n,
           s->count[TRIAL_DONE], s->count[TRIAL_RUNNING], s->count[TRIAL_QUEUED],
           s->count[TRIAL_FAILED]);
    if (isfinite(s->eta_s))
        printf("  ETA %lld:%02lld", (long long)s->eta_s / 60, (long long)s->eta_s % 60);
    printf("\n");
    for (int i = 0; i < s->n; i++) {
        const sweep_trial *t = &s->trials[i];
        run_status run;
        char part[16];
        if (t->state == TRIAL_FAILED)
            printf("  %s  failed: %s\n", t->name, t->reason);
        if (t->state != TRIAL_RUNNING || !sweep_status_run(dir, t, part, sizeof part, &run))
            continue;
        printf("  %s  %s step %lld/%lld", t->name, part, (long long)run.step, (long long)run.steps);
        if (isfinite(run.loss))
            printf("  loss %.4f", run.loss);
        printf("\n");
        free(run.workers);
    }
}

static status show_sweep(const char *dir, bool json, bool *running)
{
    sweep_status s;
    const status st = sweep_status_read(dir, &s);
    if (st == STATUS_OK && json)
        print_sweep_json(&s);
    else if (st == STATUS_OK)
        print_sweep_text(dir, &s);
    fflush(stdout);
    *running = st == STATUS_OK && strcmp(s.state, "running") == 0;
    sweep_status_free(&s);
    return st;
}

static status show(const char *run, bool json, bool *running)
{
    run_status s;
    if (sweep_is(run))
        return show_sweep(run, json, running);
    TRY(run_status_read(run, &s));
    last_seen lost = {0};
    const status st = strcmp(s.state, "failed") == 0 ? last_seen_read(run, &lost) : STATUS_OK;
    json ? print_json(&s, &lost) : print_text(&s, &lost);
    fflush(stdout);
    *running = strcmp(s.state, "running") == 0 || strcmp(s.state, "queued") == 0;
    free(s.workers);
    return st;
}

status command_status(const cli *c)
{
    cli_common common = {.seed = 1};
    bool follow = false, done = false, running = true;
    const option own[] = {
        {"follow", 0, OPTION_FLAG, &follow, NULL, "a line every two seconds until the run ends"},
        {NULL, 0, OPTION_FLAG, NULL, NULL, NULL},
    };
    const char **args;
    int n;
    TRY(cli_parse(c, "DIR [--follow]", about, own, &common, &args, &n, &done));
    if (done)
        return STATUS_OK;
    if (n != 1)
        return fail(STATUS_USAGE, "status: one run directory is needed; see crocuta status --help");
    status st = STATUS_OK;
    while (comm_rank(c->world) == 0 && running && st == STATUS_OK) {
        st = show(args[0], common.json, &running);
        if (!follow)
            break;
        const struct timespec nap = {FOLLOW_S, 0};
        if (running)
            nanosleep(&nap, NULL);
    }
    return comm_agree(c->world, st);
}
