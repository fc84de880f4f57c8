/* A sweep from roles to the end: world rank 0 has the desk, the other ranks (or all, where the desk
 * is inside the first worker) are workers in groups. */
#include "runtime/train/sweep_desk.h"

#include "runtime/core/log.h"
#include "runtime/train/signals.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TELL_EVERY_S 1.0 /* progress of a trial */

typedef struct {
    sweep *s;
    comm *world;
    sweep_desk *desk; /* inside this rank; NULL: elsewhere */
    int group, trial;
    double told_s;
    trial_group g;
    status st; /* of the desk, where it failed inside a step */
    failure why;
} worker;

static void nap(void)
{
    const struct timespec t = {0, 2000000}; /* 2 ms: trials take minutes */
    nanosleep(&t, NULL);
}

/* ---- a worker ---- */

static sweep_news news_of(const worker *w, news_kind kind)
{
    sweep_news n = {.kind = kind, .group = w->group, .trial = w->trial};
    snprintf(n.part, sizeof n.part, "%.15s", w->g.part ? w->g.part : "");
    snprintf(n.host, sizeof n.host, "%.63s", comm_host(w->world));
    n.result = trial_result_none();
    return n;
}

static void serve_inside(worker *w)
{
    bool over = false;
    if (!w->desk || w->st != STATUS_OK)
        return;
    w->st = sweep_desk_serve(w->desk, &over);
    if (w->st != STATUS_OK) {
        w->why = *failure_last();
        signals_pass_on(SIGUSR1); /* the trial ends with a checkpoint; then the sweep with this */
    }
}

/* Once a step of the group's first rank. */
static void tick(void *context, int64_t step, int64_t steps)
{
    worker *w = context;
    int number = 0, from = 0;
    size_t bytes = 0;
    const double now = clock_monotonic_s();
    if (now - w->told_s > TELL_EVERY_S) {
        sweep_news n = news_of(w, NEWS_STEP);
        n.step = step;
        n.steps = steps;
        w->told_s = now;
        if (comm_post(w->world, 0, TAG_NEWS, &n, sizeof n) != STATUS_OK)
            signals_pass_on(SIGUSR1);
    }
    serve_inside(w);
    if (comm_poll(w->world, &from, TAG_HALT, &number, sizeof number, &bytes) == STATUS_OK &&
        bytes == sizeof number)
        signals_pass_on(number);
}

/* Whoever knows of the end tells it: the first rank, or one that was left alone. */
static status tell_end(worker *w, status st, bool together, const trial_result *r)
{
    if (comm_rank(w->g.c) != 0 && together)
        return STATUS_OK;
    sweep_news n = news_of(w, together ? NEWS_END : NEWS_LOST);
    n.outcome = st;
    n.result = *r;
    if (st != STATUS_OK)
        snprintf(n.why, sizeof n.why, "%s", failure_last()->text);
    return comm_post(w->world, 0, TAG_NEWS, &n, sizeof n);
}

static status run_order(worker *w, const sweep_order *o, bool *lost)
{
    trial_result r = trial_result_none();
    bool together = true;
    w->trial = o->trial;
    w->told_s = 0;
    w->g.part = NULL;
    status st = trial_run(w->s, &w->s->trials[o->trial], &w->g, &together, &r);
    if (!together)
        *lost = true;
    TRY(tell_end(w, st, together, &r));
    if (w->st != STATUS_OK)
        return failure_set(&w->why);
    return STATUS_OK;
}

static status work(worker *w)
{
    bool lost = false;
    for (;;) {
        sweep_order o;
        int from = 0;
        size_t bytes = 0;
        serve_inside(w);
        if (w->st != STATUS_OK)
            return failure_set(&w->why);
        TRY(comm_poll(w->world, &from, TAG_ORDER, &o, sizeof o, &bytes));
        if (bytes == 0)
            nap();
        else if (o.trial == ORDER_LEAVE)
            return lost ? fail(STATUS_RANK, "%s: group %d has lost a rank; look at the lines above",
                               w->s->ask->dir, w->group)
                        : STATUS_OK;
        else
            TRY(run_order(w, &o, &lost));
    }
}

static status serve(sweep_desk *d)
{
    for (bool over = false;;) {
        TRY(sweep_desk_serve(d, &over));
        if (over)
            return STATUS_OK;
        nap();
    }
}

/* ---- roles ---- */

static status check_groups(const sweep *s, int workers)
{
    const int size = s->ask->group_size;
    if (size > workers || workers % size != 0)
        return fail(STATUS_USAGE,
                    "--group-size: %d worker%s cannot be divided into groups of %d; choose a size "
                    "that divides them",
                    workers, workers == 1 ? "" : "s", size);
    for (int i = 0; i < s->n; i++) {
        const int64_t sharers = s->trials[i].c ? s->trials[i].c->train.context_parallel : 1;
        if (sharers != CONFIG_AUTO && size % sharers != 0)
            return fail(STATUS_USAGE,
                        "--group-size: %d workers cannot share sequences by "
                        "train.context_parallel %lld of trial %s; choose a multiple of it",
                        size, (long long)sharers, s->trials[i].name);
    }
    return STATUS_OK;
}

/* Groups on one node share its memory and its GPUs. */
static status take_roles(sweep *s, comm *world, worker *w, int *first, int *groups)
{
    const int rank = comm_rank(world), size = comm_size(world);
    comm *workers = NULL;
    *first = size > 1 && !s->inside;
    TRY(comm_agree(world, check_groups(s, size - *first)));
    *groups = (size - *first) / s->ask->group_size;
    w->group = rank < *first ? -1 : (rank - *first) / s->ask->group_size;
    TRY(comm_split(world, rank < *first ? -1 : 0, rank, &workers));
    status st = comm_split(world, w->group, rank, &w->g.c);
    if (st == STATUS_OK && workers)
        comm_set_place(w->g.c, comm_local_rank(workers), comm_local_size(workers));
    comm_free(&workers);
    return comm_agree(world, st);
}

status sweep_run(sweep *s, comm *world)
{
    worker w = {.s = s, .world = world, .group = -1, .g = {.tick = tick, .context = &w}};
    int first = 0, groups = 0;
    const bool leads = comm_rank(world) == 0;
    status st = s->on_signal ? signals_watch() : STATUS_OK;
    TRY(comm_agree(world, st));
    TRY(take_roles(s, world, &w, &first, &groups));
    st = sweep_weigh(s, world);
    if (st == STATUS_OK)
        st = comm_agree(world,
                        leads ? sweep_desk_open(s, world, first, groups, &w.desk) : STATUS_OK);
    if (st == STATUS_OK) {
        if (!leads)
            log_open(comm_rank(world), true); /* of runs only warnings: the desk speaks */
        st = w.group >= 0 ? work(&w) : serve(w.desk);
        if (st == STATUS_OK && leads)
            st = sweep_desk_conclude(w.desk);
    }
    sweep_desk_close(&w.desk);
    comm_free(&w.g.c);
    return st;
}
