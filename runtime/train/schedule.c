/* Learning rate and stages: see schedule.h. */
#include "runtime/train/schedule.h"

#include <math.h>

/* The stage that begins where the last one ends, of at most so many steps. */
static stage stage_next(const schedule *s, const config *c, int64_t seq_len, int64_t steps,
                        int64_t context_parallel)
{
    const int64_t first = s->n_stages ? s->stages[s->n_stages - 1].end : 0;
    const int64_t slots = c->train.tokens_per_step / seq_len;
    return (stage){.index = s->n_stages,
                   .first = first,
                   .end = steps < s->steps - first ? first + steps : s->steps,
                   .seq_len = seq_len,
                   .slots = slots < 1 ? 1 : slots,
                   .context_parallel = context_parallel};
}

static void stage_add(schedule *s, const stage *next)
{
    if (next->end > next->first || s->n_stages == 0)
        s->stages[s->n_stages++] = *next;
}

status schedule_open(const config *c, bool finetune, schedule *out)
{
    *out = (schedule){
        .steps = finetune ? c->finetune.steps : c->train.steps,
        .kind = c->scheduler.name,
        .floor = c->optimizer.lr > 0 ? c->scheduler.min_lr / c->optimizer.lr : 1,
    };
    if (out->floor > 1)
        out->floor = 1;
    out->warmup = (int64_t)ceil(c->scheduler.warmup * (double)out->steps);
    for (int i = 0; i < c->n_stages && !finetune; i++) {
        const config_stage *s = &c->stages[i];
        const stage next = stage_next(out, c, s->seq_len, s->steps, s->context_parallel);
        stage_add(out, &next);
    }
    out->final = stage_next(out, c, c->data.seq_len, out->steps, c->train.context_parallel);
    stage_add(out, &out->final);
    return STATUS_OK;
}

double schedule_factor(const schedule *s, int64_t step)
{
    if (step < s->warmup)
        return (double)(step + 1) / (double)s->warmup;
    if (s->kind == SCHEDULE_CONSTANT)
        return 1;
    int64_t fall = s->steps - 1 - s->warmup;
    double x = fall > 0 ? (double)(step - s->warmup) / (double)fall : 1;
    if (x > 1)
        x = 1;
    return s->floor + (1 - s->floor) * 0.5 * (1 + cos(M_PI * x));
}

const stage *schedule_stage(const schedule *s, int64_t step)
{
    int i = 0;
    while (i + 1 < s->n_stages && step >= s->stages[i].end)
        i++;
    return &s->stages[i];
}
