/* A whole run, from roles to the last line: ranks agree on every step of the way in, so that a
 * refusal is one line and leaves nothing behind. */
#include "runtime/core/log.h"
#include "runtime/train/last_seen.h"
#include "runtime/train/plan_data.h"
#include "runtime/train/signals.h"
#include "runtime/train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static status roles_take(const config *c, comm *world, train_roles *r)
{
    *r = (train_roles){.world = world};
    r->dedicated = c->comm.coordinator == COORDINATOR_DEDICATED && comm_size(world) > 1;
    const bool trains = !r->dedicated || comm_rank(world) > 0;
    TRY(comm_split(world, trains ? 1 : -1, comm_rank(world), &r->workers));
    if (r->workers) {
        comm_set_timeout(r->workers, (double)c->comm.timeout_s);
        if (comm_rank(r->workers) == 0)
            log_open(0, log_quiet()); /* its warnings are the run's */
    }
    return STATUS_OK;
}

/* What the coordinator must know of the workers' state. */
typedef struct {
    int64_t step, total, last;
} outlook;

static status share_outlook(const train_roles *r, const trainer *t, outlook *o)
{
    if (r->workers)
        *o = (outlook){t->state.step, t->sched.steps, t->last};
    return comm_bcast(r->world, o, sizeof *o, r->dedicated ? 1 : 0);
}

/* Who sits where, on every rank (freed by the caller). Collective over the world. */
static status share_seats(const train_request *ask, const train_roles *r, seat **out)
{
    const int n = comm_size(r->world);
    seat mine = {.pid = getpid()};
    snprintf(mine.host, sizeof mine.host, "%s", comm_host(r->world));
    *out = calloc((size_t)n, sizeof **out);
    TRY(comm_agree(r->world,
                   *out ? STATUS_OK
                        : fail(STATUS_MEMORY, "%s: no memory; use more memory", ask->run)));
    return comm_allgather(r->world, &mine, sizeof mine, *out);
}

/* A job before this one that was killed could not say who was lost: its journal gets that now. */
static status tell_of_last(coordinator *c, const last_seen *x)
{
    if (!x->died)
        return STATUS_OK;
    report r = {.kind = REPORT_EVENT, .step = x->who.step};
    r.worker = x->who.worker;
    snprintf(r.event, sizeof r.event, "%s", x->one ? "worker_lost" : "job_lost");
    snprintf(r.detail, sizeof r.detail, "the job before this one ended without a word: %s",
             x->who.detail);
    snprintf(r.host, sizeof r.host, "%s", x->who.host);
    return coordinator_receive(c, &r);
}

/* World rank 0 makes the run directory its own, with everything in it that is known before a step.
 */
static status enter(const train_request *ask, const train_roles *r, run_directory *dir,
                    const outlook *o, const seat *seats, coordinator **out)
{
    if (comm_rank(r->world) != 0)
        return STATUS_OK;
    dir->fresh = !ask->resume;
    last_seen before = {0};
    if (ask->resume)
        TRY(last_seen_read(ask->run, &before));
    TRY(run_directory_enter(dir, ask->config, ask->command, ask->versions));
    const int workers = comm_size(r->world) - r->dedicated;
    const coordinator_setting at = {.name = ask->finetune ? "finetune" : "pretrain",
                                    .first = o->step,
                                    .total = o->total,
                                    .worker0 = r->dedicated,
                                    .workers = workers,
                                    .seats = seats + r->dedicated,
                                    .host = comm_host(r->world)};
    TRY(coordinator_open(dir, ask->config, &at, out));
    TRY(tell_of_last(*out, &before));
    char detail[256];
    snprintf(detail, sizeof detail, "%d worker%s of %d thread%s, coordinator %s", workers,
             workers == 1 ? "" : "s", ask->threads, ask->threads == 1 ? "" : "s",
             r->dedicated ? "on rank 0" : "in worker 0");
    return coordinator_event(*out, ask->resume && o->step > 0 ? "resume" : "start", o->step,
                             detail);
}

static status write_plan(const trainer *t)
{
    if (t->worker != 0)
        return STATUS_OK;
    char *text = plan_json(t->ask->config, &t->memory, NULL, NULL, 0);
    if (!text)
        return fail(STATUS_MEMORY, "%s: no memory for plan.json; use more memory", t->ask->run);
    status st = run_directory_write(t->ask->run, "plan.json", text, true);
    free(text);
    return st;
}

static status work(trainer *t, coordinator *c)
{
    t->link = (coordinator_link){.world = t->roles.world,
                                 .worker = t->worker,
                                 .inside = c,
                                 .answer_within_s = (double)t->ask->config->comm.timeout_s};
    TRY(trainer_open_saver(t));
    TRY(comm_agree(t->roles.workers, c && t->workers > 1 ? coordinator_guard(c) : STATUS_OK));
    status st = trainer_loop(t);
    /* Nobody leaves before worker 0 has committed the last checkpoint. A worker that failed alone
     * does not come here: the end of the program waits for the others only so long. */
    if (st == STATUS_OK)
        st = comm_barrier(t->roles.workers);
    else if (st == STATUS_STOPPED && comm_barrier(t->roles.workers) != STATUS_OK)
        return STATUS_RANK;
    return st;
}

static status run_with(const train_request *ask, const train_roles *r, run_directory *dir,
                       trainer *t)
{
    outlook o = {0};
    coordinator *c = NULL;
    TRY(comm_agree(r->world, r->workers ? trainer_open(t, ask, r) : STATUS_OK));
    TRY(share_outlook(r, t, &o));
    seat *seats = NULL;
    status st = share_seats(ask, r, &seats);
    if (st == STATUS_OK)
        st = comm_agree(r->world, enter(ask, r, dir, &o, seats, &c));
    free(seats);
    if (st == STATUS_OK && r->workers)
        st = write_plan(t);
    if (st == STATUS_OK)
        st = comm_agree(r->world, st);
    if (st == STATUS_OK)
        st = r->workers ? work(t, c) : coordinator_serve(c, r->world);
    coordinator_close(&c);
    return st;
}

status train_run(const train_request *ask, comm *world)
{
    run_directory dir = {.lock = -1};
    train_roles roles;
    trainer *t = calloc(1, sizeof *t);
    status st = t ? STATUS_OK : fail(STATUS_MEMORY, "train: no memory; close other programs");
    if (st == STATUS_OK && ask->config->checkpoint.on_signal)
        st = signals_watch();
    if (st == STATUS_OK && comm_rank(world) == 0)
        st = run_directory_check(&dir, ask->run, ask->resume, ask->force);
    st = comm_agree(world, st);
    if (st == STATUS_OK)
        st = comm_agree(world, roles_take(ask->config, world, &roles));
    if (st == STATUS_OK) {
        st = run_with(ask, &roles, &dir, t);
        if (st != STATUS_OK && st != STATUS_STOPPED) {
            /* the others may be where it will never come */
            gradient_sum_abort(&t->sum);
            sharing_abort(&t->share);
            sharing_abort(&t->valid_share);
        }
        trainer_close(t);
        comm_free(&roles.workers);
    }
    run_directory_leave(&dir);
    free(t);
    return st;
}
