/* The coordinator: see coordinator.h. */
#include "runtime/train/coordinator.h"

#include "runtime/core/log.h"
#include "runtime/train/journal.h"
#include "runtime/train/keeper.h"
#include "runtime/train/last_seen.h"
#include "runtime/train/metrics.h"
#include "runtime/train/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SYNC_EVERY_S 2.0 /* journals reach the disk at least so often; checkpoints wait for it */
#define SEEN_EVERY_S 0.5 /* workers.json is so old at most */
#define ENDING_S 0.2     /* or so, once somebody wants an end: little time may be left */

struct coordinator {
    run_directory run;
    journal metrics, events;
    keeper *saves;
    watch *watched;
    pthread_t guard; /* looks where the coordinator stands inside a worker */
    bool guarded;
    atomic_bool over;
    progress show;
    int worker0; /* world rank */
    int64_t done;
    double started_s, checkpoint_s, synced_s, seen_s;
    bool unseen;             /* workers.json could not be written, and that has been said */
    double every_s, limit_s; /* 0: never */
    bool on_signal, stopping;
    bool alone; /* a rank of its own */
    report valid;
    bool has_valid;
    char host[64], tail[256];
};

status coordinator_open(const run_directory *run, const config *c, const coordinator_setting *at,
                        coordinator **out)
{
    char dir[CONFIG_TEXT + 16];
    *out = NULL;
    coordinator *k = calloc(1, sizeof *k);
    if (!k)
        return fail(STATUS_MEMORY, "%s: no memory for the coordinator; use more memory", run->path);
    k->run = *run;
    k->metrics.fd = k->events.fd = -1;
    k->worker0 = at->worker0;
    k->done = at->first;
    k->started_s = k->checkpoint_s = k->synced_s = clock_monotonic_s();
    k->every_s = 60 * c->checkpoint.every_minutes;
    k->limit_s = 3600 * c->train.max_hours;
    k->on_signal = c->checkpoint.on_signal;
    snprintf(k->host, sizeof k->host, "%s", at->host);
    run_directory_checkpoints(run->path, dir);
    status st = journal_open(&k->metrics, run->path, "metrics.jsonl");
    if (st == STATUS_OK)
        st = journal_open(&k->events, run->path, "events.jsonl");
    if (st == STATUS_OK)
        st = keeper_open(dir, c, at->worker0, at->workers, &k->saves);
    if (st == STATUS_OK)
        st = watch_open(at->seats, at->workers, at->worker0, at->host, &k->watched);
    if (st == STATUS_OK)
        st = last_seen_write(run->path, k->watched);
    if (st != STATUS_OK) {
        coordinator_close(&k);
        return st;
    }
    progress_start(&k->show, at->name, at->first, at->total);
    *out = k;
    return STATUS_OK;
}

void coordinator_close(coordinator **c)
{
    if (!*c)
        return;
    if ((*c)->guarded) {
        atomic_store(&(*c)->over, true);
        pthread_join((*c)->guard, NULL);
    }
    journal_close(&(*c)->metrics);
    journal_close(&(*c)->events);
    keeper_close(&(*c)->saves);
    watch_close(&(*c)->watched);
    free(*c);
    *c = NULL;
}

static status journals_sync(coordinator *c)
{
    c->synced_s = clock_monotonic_s();
    TRY(journal_sync(&c->metrics));
    return journal_sync(&c->events);
}

static status write_event(coordinator *c, const report *r, int rank)
{
    TRY(journal_write(&c->events, event_line(r, rank, clock_wall_s())));
    return journal_sync(&c->events);
}

status coordinator_event(coordinator *c, const char *event, int64_t step, const char *detail)
{
    report r = {.kind = REPORT_EVENT, .step = step};
    snprintf(r.event, sizeof r.event, "%s", event);
    snprintf(r.detail, sizeof r.detail, "%s", detail);
    snprintf(r.host, sizeof r.host, "%s", c->host);
    return write_event(c, &r, 0);
}

status coordinator_receive(coordinator *c, const report *r)
{
    switch (r->kind) {
    case REPORT_STEP:
        TRY(journal_write(&c->metrics, metrics_line(r, clock_wall_s())));
        c->done = r->step;
        metrics_tail(r, c->has_valid ? &c->valid : NULL, c->tail, sizeof c->tail);
        progress_show(&c->show, r->step, c->tail);
        break;
    case REPORT_VALID:
        TRY(journal_write(&c->metrics, metrics_line(r, clock_wall_s())));
        c->valid = *r;
        c->has_valid = true;
        break;
    case REPORT_EVENT:
        TRY(write_event(c, r, c->worker0 + r->worker));
        break;
    case REPORT_END:
        TRY(write_event(c, r, c->worker0 + r->worker));
        progress_end(&c->show, c->done, c->tail[0] ? c->tail : NULL);
        return journals_sync(c);
    }
    if (clock_monotonic_s() - c->synced_s > SYNC_EVERY_S)
        return journals_sync(c);
    return STATUS_OK;
}

static status save(coordinator *c, comm *world)
{
    const int journals[] = {c->metrics.fd, c->events.fd};
    keeper_state state;
    keeper_news news;
    TRY(keeper_poll(c->saves, world, &state));
    if (state == KEEPER_WRITTEN)
        return keeper_commit(c->saves, journals, 2);
    if (state == KEEPER_NOTHING)
        return STATUS_OK;
    TRY(keeper_end(c->saves, world, &news));
    if (!news.committed)
        log_warning("%s: no checkpoint at step %lld: %s", c->run.path, (long long)news.step,
                    news.detail);
    c->checkpoint_s = clock_monotonic_s();
    return coordinator_event(c, news.committed ? "checkpoint" : "checkpoint_failed", news.step,
                             news.detail);
}

unsigned coordinator_due(coordinator *c)
{
    unsigned due = 0;
    double now = clock_monotonic_s();
    if (c->every_s > 0 && now - c->checkpoint_s > c->every_s) {
        due |= COMMAND_CHECKPOINT;
        c->checkpoint_s = now;
    }
    bool signalled = c->on_signal && signals_seen();
    bool late = c->limit_s > 0 && now - c->started_s > c->limit_s;
    if (!c->stopping && (signalled || late)) {
        due |= COMMAND_STOP;
        c->stopping = true;
    }
    return due;
}

static void nap(void)
{
    struct timespec t = {0, 1000000}; /* 1 ms: a step is rarely shorter, and a poll costs 1 us */
    nanosleep(&t, NULL);
}

static status send_command(comm *world, unsigned bits)
{
    return comm_post(world, 1, TAG_COMMAND, &bits, sizeof bits);
}

/* Who was where, for those who come after a job that could not say a word. */
static void note_workers(coordinator *c)
{
    const double now_s = clock_monotonic_s();
    if (now_s - c->seen_s < (c->stopping ? ENDING_S : SEEN_EVERY_S))
        return;
    c->seen_s = now_s;
    if (last_seen_write(c->run.path, c->watched) == STATUS_OK || c->unseen)
        return;
    log_warning("%s", failure_last()->text);
    c->unseen = true;
}

/* Somebody is lost: the journal says so, and the run ends. */
static status say_lost(coordinator *c, const watch_loss *x)
{
    report r = {.kind = REPORT_EVENT, .worker = x->rank, .step = x->step, .event = "worker_lost"};
    snprintf(r.detail, sizeof r.detail, "%s", x->detail);
    snprintf(r.host, sizeof r.host, "%s", x->host);
    TRY(write_event(c, &r, x->rank));
    return fail(STATUS_RANK,
                "%s: %s; look at that machine and at the launcher's message, and continue with "
                "--resume",
                c->run.path, x->detail);
}

status coordinator_tend(coordinator *c, comm *world, bool *over)
{
    watch_loss lost;
    *over = false;
    for (;;) {
        report r;
        int from = 0;
        size_t bytes = 0;
        TRY(comm_poll(world, &from, TAG_REPORT, &r, sizeof r, &bytes));
        if (bytes != sizeof r)
            break;
        TRY(coordinator_receive(c, &r));
        *over = r.kind == REPORT_END;
        if (*over)
            return STATUS_OK;
    }
    TRY(save(c, world));
    TRY(watch_poll(c->watched, world));
    note_workers(c);
    return c->alone && watch_look(c->watched, -1, &lost) ? say_lost(c, &lost) : STATUS_OK;
}

static void *look_on(void *argument)
{
    coordinator *c = argument;
    watch_loss lost;
    sigset_t all; /* signals are for others */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!atomic_load(&c->over)) {
        const struct timespec t = {0, 50000000}; /* ns */
        nanosleep(&t, NULL);
        if (!watch_look(c->watched, 0, &lost) || atomic_load(&c->over))
            continue;
        const status st = say_lost(c, &lost);
        const struct timespec grace = {2, 0}; /* a worker that failed has said why itself */
        nanosleep(&grace, NULL);
        log_failure(failure_last());
        _exit(st); /* the launcher ends the others: MPI may not be called from here */
    }
    return NULL;
}

status coordinator_guard(coordinator *c)
{
    if (pthread_create(&c->guard, NULL, look_on, c) != 0)
        return fail(STATUS_RESOURCE, "coordinator: the system gives no thread; look at ulimit -u");
    c->guarded = true;
    return STATUS_OK;
}

status coordinator_serve(coordinator *c, comm *world)
{
    c->alone = true;
    for (;;) {
        bool over = false;
        TRY(coordinator_tend(c, world, &over));
        if (over)
            return send_command(world, COMMAND_GOODBYE);
        unsigned due = coordinator_due(c);
        if (due)
            TRY(send_command(world, due));
        nap();
    }
}

status coordinator_beat(coordinator_link *l, const beat *b)
{
    if (l->inside)
        watch_beat(l->inside->watched, b);
    return l->inside || l->alone ? STATUS_OK : comm_post(l->world, 0, TAG_BEAT, b, sizeof *b);
}

status coordinator_tell(coordinator_link *l, const report *r)
{
    if (l->inside)
        return coordinator_receive(l->inside, r);
    return l->alone ? STATUS_OK : comm_post(l->world, 0, TAG_REPORT, r, sizeof *r);
}

/* Everything that has come is put with what was waiting. */
static status gather(coordinator_link *l)
{
    for (;;) {
        unsigned bits = 0;
        int from = 0;
        size_t bytes = 0;
        TRY(comm_poll(l->world, &from, TAG_COMMAND, &bits, sizeof bits, &bytes));
        if (bytes == 0)
            return STATUS_OK;
        l->waiting |= bits;
    }
}

status coordinator_ask(coordinator_link *l, unsigned *commands)
{
    *commands = 0;
    if (l->inside)
        *commands = coordinator_due(l->inside);
    if (l->inside || l->alone || l->worker != 0)
        return STATUS_OK;
    TRY(gather(l));
    *commands = l->waiting;
    l->waiting = 0;
    return STATUS_OK;
}

status coordinator_settle(coordinator_link *l, const report *r, unsigned answer)
{
    TRY(coordinator_tell(l, r));
    if (l->inside || l->alone)
        return STATUS_OK;
    const double start_s = clock_monotonic_s();
    for (;;) {
        TRY(gather(l));
        if (l->waiting & answer)
            break;
        if (l->answer_within_s > 0 && clock_monotonic_s() - start_s > l->answer_within_s)
            return fail(
                STATUS_RANK,
                "coordinator: no answer within %.0f s; look at rank 0 and at the file system "
                "of the run directory, or raise comm.timeout_s, and resume",
                l->answer_within_s);
        nap();
    }
    l->waiting &= ~answer;
    return STATUS_OK;
}
