/* Signs of life: see beats.h. */
#include "runtime/train/beats.h"

#include "runtime/core/log.h"

#include <stdio.h>

#define APART_S 0.5

static status send_beat(beats *x, const char *phase, double now_s)
{
    snprintf(x->b.phase, sizeof x->b.phase, "%s", phase);
    x->sent_s = now_s;
    return coordinator_beat(x->link, &x->b);
}

/* An operation begins. One that cannot be told is told by the next message that must go. */
static void tick(void *context, const char *name, double now_s)
{
    beats *x = context;
    if (x->link && now_s - x->sent_s >= APART_S)
        (void)send_beat(x, name, now_s);
}

void beats_begin(beats *x, coordinator_link *link, int worker, device *dev)
{
    *x = (beats){.link = link, .b = {.worker = worker}};
    dev->tick = tick;
    dev->tick_context = x;
}

void beats_end(device *dev)
{
    if (dev)
        dev->tick = NULL;
}

status beats_phase(beats *x, int64_t step, const char *phase, double quiet_s, bool meets)
{
    if (!x->link)
        return STATUS_OK;
    x->b.step = step;
    x->b.quiet_s = quiet_s;
    x->b.met += meets;
    return send_beat(x, phase, clock_monotonic_s());
}

void beats_tick(beats *x, const char *phase)
{
    tick(x, phase, clock_monotonic_s());
}
