/* Plans of stages: see stage_plan.h. */
#include "runtime/train/stage_plan.h"

#include "runtime/train/plan_data.h"

#include <stdio.h>
#include <stdlib.h>

sharers stage_sharers(const schedule *s, const stage *now)
{
    return (sharers){now->context_parallel, s->final.context_parallel};
}

bool stage_valid_apart(const config *c, const schedule *s, const stage *now)
{
    return c->train.eval_every > 0 && now->seq_len != s->final.seq_len;
}

/* c: the configuration with the stage's length and sharers. */
static status plan_with(const stage_ground *g, const config *c, int64_t valid_len,
                        int64_t valid_sharers, plan *out)
{
    plan_request q = {.workers = g->workers,
                      .available = g->available,
                      .training = true,
                      .valid_len = valid_len,
                      .valid_sharers = valid_sharers};
    TRY(g->d ? plan_of_data(c, g->d, g->x, g->classes, &q) : plan_without_data(c, &q));
    return plan_make(g->m, c, &q, out);
}

status stage_plan(const stage_ground *g, const schedule *s, const stage *now, sharers *how,
                  plan *out)
{
    const bool apart = stage_valid_apart(g->c, s, now);
    config *c = malloc(sizeof *c);
    if (!c)
        return fail(STATUS_MEMORY, "plan: no memory; use more memory");
    *c = *g->c;
    status st = STATUS_OK;
    if (apart && how->valid == CONFIG_AUTO) { /* as the final stage will be shared */
        c->train.context_parallel = CONFIG_AUTO;
        st = plan_with(g, c, 0, 0, out);
        how->valid = out->context_parallel;
    }
    c->data.seq_len = now->seq_len;
    c->train.context_parallel = how->stage;
    if (st == STATUS_OK)
        st = plan_with(g, c, apart ? s->final.seq_len : 0, how->valid, out);
    how->stage = out->context_parallel;
    if (!apart)
        how->valid = how->stage;
    if (s->n_stages > 1 && now->index < s->n_stages)
        snprintf(out->stage, sizeof out->stage, ": stage %lld of %d, windows of %lld tokens",
                 (long long)now->index + 1, s->n_stages, (long long)now->seq_len);
    free(c);
    return st;
}

status stage_plans(const stage_ground *g, const schedule *s, plan *list)
{
    for (int i = 0; i < s->n_stages; i++) {
        sharers how = stage_sharers(s, &s->stages[i]);
        TRY(stage_plan(g, s, &s->stages[i], &how, &list[i]));
    }
    return STATUS_OK;
}
