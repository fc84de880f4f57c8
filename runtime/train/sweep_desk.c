/* The sweep's coordinator: see sweep_desk.h. */
#include "runtime/train/sweep_desk.h"

#include "runtime/core/log.h"
#include "runtime/train/run_directory.h"
#include "runtime/train/signals.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUT_SHORT_MOST 3 /* a trial whose job died so often comes after the others */

typedef struct {
    int trial;   /* -1: free */
    bool lost;   /* its ranks do not find together any more */
    double done; /* of the trial's work, 0 to 1 */
} desk_group;

struct sweep_desk {
    sweep *s;
    comm *world;
    int first, groups;
    desk_group *group;
    run_directory lock;
    journal events;
    double started_s;
    double work; /* of all trials */
    bool stopping, told, over;
    progress show;
};

/* ---- opening ---- */

static status remember_retries(sweep_desk *d)
{
    sweep *s = d->s;
    for (int i = 0; i < s->n && s->ask->retry; i++) {
        sweep_trial *t = &s->trials[i];
        if (t->state != TRIAL_FAILED)
            continue;
        t->state = TRIAL_QUEUED;
        t->attempts = 0;
        TRY(sweep_event(&d->events, &(sweep_line){.event = "trial_retry",
                                                  .host = comm_host(d->world),
                                                  .t = t,
                                                  .group = -1}));
    }
    return STATUS_OK;
}

static int finished(const sweep *s)
{
    return sweep_count(s, TRIAL_DONE) + sweep_count(s, TRIAL_FAILED);
}

static status say(sweep_desk *d, const char *event, const char *detail)
{
    return sweep_event(&d->events, &(sweep_line){.event = event,
                                                 .detail = detail,
                                                 .host = comm_host(d->world),
                                                 .group = -1,
                                                 .step = finished(d->s)});
}

static status enter(sweep_desk *d)
{
    sweep *s = d->s;
    char detail[160];
    const bool again = sweep_is(s->ask->dir);
    TRY(run_directory_hold(&d->lock, s->ask->dir, "sweep.json"));
    TRY(sweep_recall(s));
    TRY(sweep_describe(s));
    TRY(journal_open(&d->events, s->ask->dir, "events.jsonl"));
    snprintf(detail, sizeof detail, "%d trials, %d done; %d group%s of %d", s->n,
             sweep_count(s, TRIAL_DONE), d->groups, d->groups == 1 ? "" : "s", s->ask->group_size);
    TRY(say(d, again ? "resume" : "start", detail));
    TRY(remember_retries(d));
    log_note("sweep: %s", detail);
    return sweep_table(s);
}

/* Expected work of trials that are done, and the parts done of those that run. */
static double work_done(const sweep_desk *d)
{
    const sweep *s = d->s;
    double done = 0;
    for (int i = 0; i < s->n; i++)
        if (s->trials[i].state == TRIAL_DONE || s->trials[i].state == TRIAL_FAILED)
            done += s->trials[i].work;
    for (int g = 0; g < d->groups; g++)
        if (d->group[g].trial >= 0)
            done += d->group[g].done * s->trials[d->group[g].trial].work;
    return done;
}

static int64_t thousandths(const sweep_desk *d, double done)
{
    return d->work > 0 ? (int64_t)(1000 * done / d->work) : 0;
}

status sweep_desk_open(sweep *s, comm *world, int first, int groups, sweep_desk **out)
{
    *out = NULL;
    sweep_desk *d = calloc(1, sizeof *d);
    desk_group *group = calloc((size_t)groups, sizeof *group);
    if (!d || !group) {
        free(d);
        free(group);
        return fail(STATUS_MEMORY, "%s: no memory for the coordinator; use more memory",
                    s->ask->dir);
    }
    *d = (sweep_desk){.s = s,
                      .world = world,
                      .first = first,
                      .groups = groups,
                      .group = group,
                      .lock = {.lock = -1},
                      .events = {.fd = -1},
                      .started_s = clock_monotonic_s()};
    for (int g = 0; g < groups; g++)
        group[g].trial = -1;
    status st = enter(d);
    if (st != STATUS_OK) {
        sweep_desk_close(&d);
        return st;
    }
    for (int i = 0; i < s->n; i++)
        d->work += s->trials[i].work;
    progress_start(&d->show, "sweep", thousandths(d, work_done(d)), 1000);
    *out = d;
    return STATUS_OK;
}

void sweep_desk_close(sweep_desk **out)
{
    sweep_desk *d = *out;
    if (!d)
        return;
    journal_close(&d->events);
    run_directory_leave(&d->lock);
    free(d->group);
    free(d);
    *out = NULL;
}

/* ---- what groups report ---- */

static void show(sweep_desk *d, const sweep_news *n)
{
    const sweep *s = d->s;
    char tail[320];
    snprintf(tail, sizeof tail, "%d of %d trials done, %d running, %d failed  %s: %s %lld/%lld",
             sweep_count(s, TRIAL_DONE), s->n, sweep_count(s, TRIAL_RUNNING),
             sweep_count(s, TRIAL_FAILED), s->trials[n->trial].name, n->part, (long long)n->step,
             (long long)n->steps);
    progress_show(&d->show, thousandths(d, work_done(d)), tail);
}

/* Parts are taken to be alike: it is for the eye alone. */
static void take_step(sweep_desk *d, const sweep_news *n)
{
    const sweep_parts *p = &d->s->file->parts;
    const int parts = p->pretrain + p->position + p->finetune;
    const int before = strcmp(n->part, "pretrain") == 0   ? 0
                       : strcmp(n->part, "position") == 0 ? p->pretrain
                                                          : parts - 1;
    const double share = n->steps > 0 ? (double)n->step / (double)n->steps : 0;
    d->group[n->group].done = ((double)before + share) / (parts > 0 ? parts : 1);
    if (d->groups > 1 || d->first > 0) /* one process shows the run's own line */
        show(d, n);
}

/* A fault of the data or of the configuration would only come again. */
static bool worth_another(const sweep_trial *t, status st)
{
    return t->attempts < SWEEP_ATTEMPTS && st != STATUS_USAGE && st != STATUS_DATA;
}

static status take_end(sweep_desk *d, const sweep_news *n)
{
    sweep *s = d->s;
    sweep_trial *t = &s->trials[n->trial];
    sweep_line line = {.event = "trial_end", .host = n->host, .t = t, .group = n->group};
    d->group[n->group] = (desk_group){.trial = -1, .lost = n->kind == NEWS_LOST};
    t->cut_short = 0;
    snprintf(t->reason, sizeof t->reason, "%.470s", n->outcome == STATUS_OK ? "" : n->why);
    line.detail = t->reason;
    if (n->outcome == STATUS_OK) {
        t->state = TRIAL_DONE;
        t->result = n->result;
        t->result.dense_bytes = t->dense_bytes;
        line.outcome = "done";
    } else if (n->outcome == STATUS_STOPPED) {
        t->state = TRIAL_QUEUED;
        line.outcome = "stopped";
        d->stopping = true;
    } else {
        t->attempts++;
        t->state = worth_another(t, n->outcome) ? TRIAL_QUEUED : TRIAL_FAILED;
        line.outcome = t->state == TRIAL_FAILED ? "failed" : "again";
        log_warning("trial %s %s: %s", t->name,
                    t->state == TRIAL_FAILED ? "failed" : "failed and is tried once more",
                    t->reason);
    }
    if (n->kind == NEWS_LOST)
        log_warning("group %d has lost a rank and gets no more trials; the others go on", n->group);
    line.step = finished(s);
    TRY(sweep_event(&d->events, &line));
    if (t->state == TRIAL_DONE)
        log_note("trial %s done (%d of %d)", t->name, finished(s), s->n);
    return sweep_table(s);
}

static status take_news(sweep_desk *d)
{
    for (;;) {
        sweep_news n;
        int from = 0;
        size_t bytes = 0;
        TRY(comm_poll(d->world, &from, TAG_NEWS, &n, sizeof n, &bytes));
        if (bytes == 0)
            return STATUS_OK;
        if (d->group[n.group].trial != n.trial) /* of a group that was lost: told already */
            continue;
        if (n.kind == NEWS_STEP)
            take_step(d, &n);
        else
            TRY(take_end(d, &n));
    }
}

/* ---- what groups are told ---- */

static status order(const sweep_desk *d, int group, int trial)
{
    const int size = d->s->ask->group_size;
    const sweep_order o = {trial, trial >= 0 ? d->s->trials[trial].attempts : 0};
    for (int i = 0; i < size; i++)
        TRY(comm_post(d->world, d->first + group * size + i, TAG_ORDER, &o, sizeof o));
    return STATUS_OK;
}

/* Begun trials first (their checkpoints are there), then by expected length; those whose jobs died
 * again and again last. */
static int rank_of(const sweep_trial *t)
{
    return t->cut_short >= CUT_SHORT_MOST ? 2 : t->begun ? 0 : 1;
}

static int next_trial(const sweep *s)
{
    int best = -1;
    for (int i = 0; i < s->n; i++) {
        const sweep_trial *t = &s->trials[i], *b = best < 0 ? NULL : &s->trials[best];
        if (t->state != TRIAL_QUEUED)
            continue;
        if (!b || rank_of(t) < rank_of(b) || (rank_of(t) == rank_of(b) && t->work > b->work))
            best = i;
    }
    return best;
}

static status hand_out(sweep_desk *d)
{
    for (int g = 0; g < d->groups && !d->stopping; g++) {
        const int trial = next_trial(d->s);
        if (d->group[g].trial >= 0 || d->group[g].lost || trial < 0)
            continue;
        sweep_trial *t = &d->s->trials[trial];
        char detail[64];
        snprintf(detail, sizeof detail, "group %d%s", g, t->begun ? ", from where it was" : "");
        t->state = TRIAL_RUNNING;
        t->begun = true;
        d->group[g] = (desk_group){.trial = trial};
        TRY(sweep_event(&d->events, &(sweep_line){.event = "trial_start",
                                                  .detail = detail,
                                                  .host = comm_host(d->world),
                                                  .t = t,
                                                  .group = g,
                                                  .step = finished(d->s)}));
        TRY(sweep_table(d->s));
        TRY(order(d, g, trial));
        if (d->groups == 1 && d->first == 0)
            log_note("trial %s (%d of %d)", t->name, finished(d->s) + 1, d->s->n);
    }
    return STATUS_OK;
}

/* Groups that train stop at a step of theirs, with a checkpoint. */
static status halt(sweep_desk *d)
{
    const int number = signals_seen() ? signals_seen() : SIGUSR1;
    if (d->told)
        return STATUS_OK;
    d->told = true;
    for (int g = 0; g < d->groups; g++)
        if (d->group[g].trial >= 0 && !d->group[g].lost)
            TRY(comm_post(d->world, d->first + g * d->s->ask->group_size, TAG_HALT, &number,
                          sizeof number));
    return say(d, "signal", signals_seen() ? signals_name(number) : "another rank, or the time");
}

static status dismiss(sweep_desk *d)
{
    bool busy = false, any = false;
    for (int g = 0; g < d->groups; g++) {
        busy = busy || d->group[g].trial >= 0;
        any = any || !d->group[g].lost;
    }
    if (busy || (next_trial(d->s) >= 0 && !d->stopping && any))
        return STATUS_OK;
    for (int g = 0; g < d->groups; g++)
        TRY(order(d, g, ORDER_LEAVE));
    d->over = true;
    return STATUS_OK;
}

status sweep_desk_serve(sweep_desk *d, bool *over)
{
    const sweep *s = d->s;
    TRY(take_news(d));
    if (s->on_signal && signals_seen())
        d->stopping = true;
    if (s->limit_s > 0 && clock_monotonic_s() - d->started_s > s->limit_s)
        d->stopping = true;
    if (d->stopping)
        TRY(halt(d));
    TRY(hand_out(d));
    if (!d->over)
        TRY(dismiss(d));
    *over = d->over;
    return STATUS_OK;
}

/* ---- the end ---- */

status sweep_desk_conclude(sweep_desk *d)
{
    const sweep *s = d->s;
    const int done = sweep_count(s, TRIAL_DONE), failed = sweep_count(s, TRIAL_FAILED);
    const sweep_trial *first = NULL;
    if (d->show.shown_s > 0)
        progress_end(&d->show, thousandths(d, work_done(d)), NULL);
    for (int i = 0; i < s->n && !first; i++)
        first = s->trials[i].state == TRIAL_FAILED ? &s->trials[i] : NULL;
    const bool whole = done + failed == s->n;
    TRY(sweep_table(s));
    TRY(say(d, "end", whole ? (first ? "failed" : "done") : d->stopping ? "stopped" : "failed"));
    if (!whole && d->stopping)
        return fail(STATUS_STOPPED,
                    "%s: stopped on request, %d of %d trials done; the same command continues",
                    s->ask->dir, done, s->n);
    if (!whole)
        return fail(
            STATUS_RANK,
            "%s: every group lost a rank, %d of %d trials done; look at the lines above and "
            "give the same command again",
            s->ask->dir, done, s->n);
    if (!first)
        return STATUS_OK;
    return fail(STATUS_INTERNAL,
                "%s: %d of %d trials failed (%s: %.500s); mend it and give the command again with "
                "--retry",
                s->ask->dir, failed, s->n, first->name, first->reason);
}
