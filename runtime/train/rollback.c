/* Back to the newest checkpoint, after too many steps had to be skipped: what such steps have in
 * common is the state before them, or the windows. So the state is an older one, and the windows
 * from there on are others. */
#include "runtime/core/log.h"
#include "runtime/train/resume.h"
#include "runtime/train/trainer.h"

#include <stdio.h>

#define ROLLS 3 /* in a run; what does not help then will not help */

static status give_up(const trainer *t, const char *why, const char *what)
{
    return fail(STATUS_INTERNAL,
                "%s: %s, and %s; lower optimizer.lr or train.grad_clip, and continue from an "
                "earlier checkpoint with --resume or begin again",
                t->ask->run, why, what);
}

status trainer_roll_back(trainer *t, const char *why)
{
    const train_request *ask = t->ask;
    const steady was = t->state.steady;
    const int64_t from = t->state.step;
    if (was.rolled >= ROLLS)
        return give_up(t, why, "going back did not help");
    (void)trainer_settle(t); /* one that failed is not gone back to */
    /* Where nothing good came of the last one, an older one. */
    const int64_t before = t->rolled_to >= 0 && !t->good_since ? t->rolled_to : from;
    train_state then = t->state;
    then.step = -1;
    TRY(resume_newest(t->checkpoints, before, ask->config, ask->finetune, t->data, t->m, &t->opt,
                      &then));
    if (then.step < 0)
        return give_up(t, why, "there is no checkpoint to go back to");
    t->state = then;
    t->state.steady.rolled = was.rolled + 1;
    t->state.steady.skipped = was.skipped;
    t->state.steady.strain = 0;
    t->state.steady.shift = was.shift + from - then.step;
    t->rolled_to = then.step;
    t->good_since = false;
    t->committed = then.step;
    TRY(optimizer_present(&t->opt, then.step - 1));
    TRY(trainer_open_saver(t));
    return comm_agree(t->roles.workers, trainer_load_windows(t));
}
