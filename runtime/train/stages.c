/* Entering a stage: its plan, on which all workers agree, the groups that share its sequences,
 * memory for its passes and, in turns with them, for validation, which is of the final length in
 * every stage. */
#include "runtime/core/log.h"
#include "runtime/train/trainer.h"

#include <math.h>
#include <stdlib.h>

/* ---- plans ---- */

/* Bytes that this worker may take for the stages, each in the place of the one before. */
static status room_of(const trainer *t, int64_t *available)
{
    device_room room;
    TRY(device_room_of(t->dev, &room));
    *available = room.available;
    if (device_is_host(t->dev)) /* the workers of a node share it */
        *available /= comm_places(t->roles.workers);
    return STATUS_OK;
}

static status plan_within(const trainer *t, const stage *s, sharers *how, plan *p)
{
    const stage_ground g = {.m = t->m,
                            .c = t->ask->config,
                            .d = t->bases.set ? NULL : t->data, /* nothing depends on sequences */
                            .x = t->draws,
                            .classes = model_classes(t->m),
                            .workers = t->workers,
                            .available = t->room};
    TRY(stage_plan(&g, &t->sched, s, how, p));
    return p->fits ? STATUS_OK : plan_refuse(p, comm_host(t->roles.workers));
}

status trainer_check_stages(trainer *t)
{
    TRY(room_of(t, &t->room));
    for (int i = 0; i < t->sched.n_stages; i++) {
        const stage *s = &t->sched.stages[i];
        sharers how = stage_sharers(&t->sched, s);
        plan p;
        TRY(plan_within(t, s, &how, &p));
        if (i == 0)
            t->memory = p;
    }
    return STATUS_OK;
}

/* Nodes may differ in memory: all workers share alike, in batches that fit everywhere, and keep the
 * same, since what is computed again is exchanged again. */
static status agree(trainer *t, const stage *now)
{
    comm *w = t->roles.workers;
    plan p;
    sharers how = stage_sharers(&t->sched, now);
    TRY(comm_agree(w, plan_within(t, now, &how, &p)));
    int64_t most[2] = {how.stage, how.valid};
    TRY(comm_max_i64(w, most, 2));
    t->how = (sharers){most[0], most[1]};
    TRY(comm_agree(w, plan_within(t, now, &t->how, &t->memory)));
    int64_t least[3] = {-t->memory.micro_batch, -(int64_t)t->memory.keep,
                        -t->memory.valid_micro_batch};
    TRY(comm_max_i64(w, least, 3));
    t->apart = stage_valid_apart(t->ask->config, &t->sched, now);
    t->micro_batch = -least[0];
    t->keep = (keep_level)-least[1];
    t->valid_batch = t->apart ? -least[2] : t->micro_batch;
    return STATUS_OK;
}

/* ---- groups ---- */

static status regroup(trainer *t, sharing *s, int64_t size)
{
    if (s->group.size == size)
        return STATUS_OK;
    sharing_close(s);
    return sharing_open(t->roles.workers, size, t->dev, t->ask->config, s);
}

sharing *trainer_valid_sharing(trainer *t)
{
    return t->how.valid == t->how.stage ? &t->share : &t->valid_share;
}

static status share_stage(trainer *t)
{
    TRY(regroup(t, &t->share, t->how.stage));
    TRY(regroup(t, &t->valid_share, t->how.valid == t->how.stage ? 1 : t->how.valid));
    return comm_agree(t->roles.workers, model_share(t->m, &t->share.group));
}

/* ---- memory ---- */

static batch_shape shape_of(int64_t B, int64_t L)
{
    return (batch_shape){B, L, length_padded(L)};
}

status trainer_turn(trainer *t, bool validation)
{
    if (!t->apart)
        return STATUS_OK;
    const sharing *s = validation ? trainer_valid_sharing(t) : &t->share;
    TRY(model_share(t->m, &s->group));
    if (validation)
        return model_prepare(t->m, shape_of(t->valid_batch, t->sched.final.seq_len), KEEP_INPUT,
                             false);
    return model_prepare(t->m, shape_of(t->micro_batch, t->stage->seq_len), t->keep, true);
}

static status prepare(trainer *t)
{
    const config *c = t->ask->config;
    const int64_t L = t->sched.final.seq_len;
    const batch_shape shape = shape_of(t->micro_batch, t->stage->seq_len);
    model_reserve(t->m, t->apart ? t->memory.activations : 0, t->apart ? t->memory.arena : 0);
    TRY(model_prepare(t->m, shape, t->keep, true));
    for (int i = 0; model_position(t->m) && i < t->memory.tables; i++)
        TRY(model_reserve_gradients(t->m, i, t->memory.touched[i]));
    TRY(sharing_prepare(&t->share, shape));
    TRY(sharing_prepare(trainer_valid_sharing(t), shape_of(t->valid_batch, L)));
    feed_close(&t->validation);
    TRY(feed_open(t->valid_batch, L, feed_wants_spans(c), &t->validation));
    free(t->class_logits);
    t->class_logits = calloc((size_t)(t->valid_batch * (t->data->n_labels + 1)), sizeof(float));
    return t->class_logits ? STATUS_OK
                           : fail(STATUS_MEMORY, "validation: no memory; lower train.micro_batch");
}

status trainer_enter_stage(trainer *t, int64_t step)
{
    const stage *now = schedule_stage(&t->sched, step);
    if (now == t->stage)
        return STATUS_OK;
    loader_close(&t->load); /* its windows are of the stage before */
    TRY(agree(t, now));
    TRY(share_stage(t));
    t->stage = now;
    t->step_flops = (double)t->memory.flops_per_step / t->workers;
    t->step_bytes = (double)t->memory.bytes_per_step / t->workers;
    TRY(comm_agree(t->roles.workers, prepare(t)));
    return comm_agree(t->roles.workers, trainer_load_windows(t));
}

status trainer_load_windows(trainer *t)
{
    loader_close(&t->load);
    if (schedule_stage(&t->sched, t->state.step) != t->stage)
        return STATUS_OK; /* entering that stage does it */
    const loader_source source = {.data = t->data,
                                  .draws = t->draws,
                                  .bases = t->bases.set ? &t->bases : NULL,
                                  .plan = &t->sched,
                                  .shards = t->ask->config->data.sharding == SHARDING_VIRTUAL &&
                                                    t->data->n_shards > 0
                                                ? t->data->n_shards
                                                : 1,
                                  .workers = t->workers,
                                  .worker = t->worker,
                                  .sharers = t->how.stage,
                                  .classify = t->ask->finetune,
                                  .both = t->ask->config->data.direction == DIRECTION_BOTH,
                                  .spans = feed_wants_spans(t->ask->config),
                                  .end = t->last < t->stage->end ? t->last : t->stage->end,
                                  .shift = t->state.steady.shift};
    return loader_open(&source, t->state.step, &t->load);
}
