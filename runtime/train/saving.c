/* Checkpoints of a run while it goes on: taken at a step's end on all workers alike, tended once a
 * step, and waited for before the next one and at the end. */
#include "runtime/core/log.h"
#include "runtime/train/trainer.h"

#include <stdlib.h>
#include <time.h>

#define COPY_SHARE 0.02   /* of a step's time: rows that are copied before they must be */
#define COPY_LEAST_S 5e-4 /* short steps must not stretch a checkpoint over hundreds */

status trainer_open_saver(trainer *t)
{
    const saver_place at = {.dir = t->checkpoints,
                            .m = t->m,
                            .o = &t->opt,
                            .d = t->data,
                            .world = t->roles.world,
                            .worker = t->worker,
                            .workers = t->workers,
                            .home = 0};
    saver_close(&t->save);
    TRY(comm_agree(t->roles.workers, saver_open(&at, &t->save)));
    t->opt.before_rows = saver_before;
    t->opt.before_context = t->save;
    return STATUS_OK;
}

static status tend(trainer *t, double copy_s)
{
    const double start_s = clock_monotonic_s();
    bool over = false;
    if (t->link.inside)
        TRY(coordinator_tend(t->link.inside, t->roles.world, &over));
    TRY(saver_tend(t->save, copy_s));
    if (saver_busy(t->save))
        saver_waited(t->save, clock_monotonic_s() - start_s);
    return STATUS_OK;
}

status trainer_tend(trainer *t, double step_s)
{
    const double copy_s = COPY_SHARE * step_s;
    return tend(t, copy_s > COPY_LEAST_S ? copy_s : COPY_LEAST_S);
}

/* Until the one under way has ended; a disk that moves, however slowly, is waited for. */
static status wait(trainer *t)
{
    /* Worker 0 says it first: one line. */
    const double within_s = t->link.answer_within_s * (t->worker == 0 ? 1 : 2);
    const struct timespec nap = {0, 200000}; /* ns */
    double since_s = clock_monotonic_s();
    int64_t moved = saver_moved(t->save);
    while (saver_busy(t->save)) {
        beats_tick(&t->beats, "checkpoint");
        TRY(tend(t, 1.0));
        const double now_s = clock_monotonic_s();
        if (saver_moved(t->save) != moved) {
            moved = saver_moved(t->save);
            since_s = now_s;
        }
        if (within_s > 0 && now_s - since_s > within_s)
            return fail(STATUS_RANK,
                        "%s: the checkpoint of step %lld has not come to an end within %.0f s; "
                        "look at rank 0 and at the file system, or raise comm.timeout_s, and "
                        "resume",
                        t->ask->run, (long long)t->committed, within_s);
        if (saver_busy(t->save))
            nanosleep(&nap, NULL);
    }
    return STATUS_OK;
}

status trainer_save(trainer *t)
{
    if (t->committed == t->state.step)
        return STATUS_OK;
    const double start_s = clock_monotonic_s();
    TRY(wait(t));
    t->committed = t->state.step;
    checkpoint_header h = {.step = t->state.step};
    char *texts[2] = {NULL, NULL};
    status st = STATUS_OK;
    if (t->worker == 0)
        st = snapshot_header(t->ask->config, t->data, t->ask->finetune, t->workers, &t->opt,
                             &t->state, &h, texts);
    if (st == STATUS_OK)
        st = saver_take(t->save, &h, t->state.best_step == t->state.step,
                        clock_monotonic_s() - start_s);
    free(texts[0]);
    free(texts[1]);
    return st;
}

status trainer_settle(trainer *t)
{
    TRY(wait(t));
    return saver_outcome(t->save);
}
