/* The optimizer: see optimizer.h. */
#include "runtime/train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CLIP_EPS 1e-6 /* as PyTorch's clip_grad_norm_ */

int64_t optimizer_bytes(int64_t floats)
{
    return 2 * (int64_t)arena_round((size_t)floats * sizeof(float));
}

/* Neighbours in the arena with the same rates become one range; the gaps between tensors are zero
 * in values and gradients alike and stay zero. */
static status ranges_make(optimizer *o, const config *c)
{
    const parameter *list = NULL;
    const int n = model_parameters(o->m, &list);
    const double head = c->optimizer.head_lr > 0 ? c->optimizer.head_lr : o->lr;
    o->ranges = calloc((size_t)n + 1, sizeof *o->ranges);
    if (!o->ranges)
        return fail(STATUS_MEMORY, "optimizer: no memory; use more memory");
    for (int i = 0; i < n; i++) {
        const double lr = list[i].group == GROUP_HEAD ? head : o->lr;
        const bool decays = list[i].decay && (c->optimizer.decay_vectors || list[i].ndim > 1);
        const double decay = decays                          ? c->optimizer.weight_decay
                             : list[i].group == GROUP_FILTER ? c->optimizer.filter_weight_decay
                                                             : 0;
        const int64_t end = i + 1 < n ? list[i + 1].offset : model_floats(o->m);
        optimizer_range *last = o->n_ranges ? &o->ranges[o->n_ranges - 1] : NULL;
        if (last && last->lr == lr && last->decay == decay)
            last->count = end - last->first;
        else
            o->ranges[o->n_ranges++] =
                (optimizer_range){list[i].offset, end - list[i].offset, lr, decay};
    }
    return STATUS_OK;
}

status optimizer_open(const config *c, bool finetune, const schedule *plan, model *m, device *dev,
                      comm *workers, optimizer *out)
{
    *out = (optimizer){.m = m,
                       .dev = dev,
                       .workers = workers,
                       .plan = plan,
                       .b1 = c->optimizer.betas[0],
                       .b2 = c->optimizer.betas[1],
                       .eps = c->optimizer.eps,
                       .clip = c->train.grad_clip,
                       .clip_rows = c->optimizer.clip_rows,
                       .lr = finetune ? c->finetune.lr : c->optimizer.lr};
    out->rows_lr = c->optimizer.rows_lr > 0 ? c->optimizer.rows_lr : out->lr;
    const size_t floats = (size_t)model_floats(m);
    status st = ranges_make(out, c);
    if (st == STATUS_OK)
        st = device_arena_open(dev, &out->moments, "optimizer",
                               (size_t)optimizer_bytes(model_floats(m)));
    if (st == STATUS_OK)
        st = device_arena_open(dev, &out->room, "norm", 1 << 16);
    if (st == STATUS_OK) {
        out->first = arena_take(&out->moments, floats * sizeof(float));
        out->second = arena_take(&out->moments, floats * sizeof(float));
        if (!out->first || !out->second)
            st = fail(STATUS_MEMORY, "optimizer: no memory; use more memory");
    }
    if (st != STATUS_OK) {
        optimizer_close(out);
        return st;
    }
    row_table *tables[ROW_TABLES];
    out->levels = model_position(m) ? position_tables(model_position(m), tables) : 0;
    return STATUS_OK;
}

void optimizer_close(optimizer *o)
{
    if (o->dev) {
        device_arena_close(o->dev, &o->moments);
        device_arena_close(o->dev, &o->room);
        if (o->rows_rate_on && o->rows_rate_on != o->rows_rate)
            device_memory_give(o->dev, o->rows_rate_on);
    }
    free(o->ranges);
    free(o->rows_rate);
    for (int l = 0; l < o->levels; l++)
        row_exchange_close(&o->rows[l]);
    *o = (optimizer){0};
}

/* The rates where the device reads them. */
static status rates_lend(optimizer *o)
{
    if (device_is_host(o->dev)) {
        o->rows_rate_on = o->rows_rate;
        return STATUS_OK;
    }
    const size_t bytes = (size_t)o->rates * sizeof *o->rows_rate;
    void *on = NULL;
    TRY(device_wait(o->dev)); /* somebody may read the old ones */
    if (o->rows_rate_on)
        device_memory_give(o->dev, o->rows_rate_on);
    o->rows_rate_on = NULL;
    TRY(device_memory_take(o->dev, bytes, &on));
    o->rows_rate_on = on;
    TRY(device_upload(o->dev, on, o->rows_rate, bytes));
    return device_wait(o->dev);
}

/* The rows' learning rates up to a step. */
static status rates_until(optimizer *o, int64_t step)
{
    if (step < o->rates)
        return STATUS_OK;
    const int64_t room = step + step / 2 + 1024;
    float *more = realloc(o->rows_rate, (size_t)room * sizeof *more);
    if (!more)
        return fail(STATUS_MEMORY, "optimizer: no memory for %lld learning rates; use more memory",
                    (long long)room);
    o->rows_rate = more;
    for (; o->rates < room; o->rates++)
        more[o->rates] = (float)(o->rows_lr * schedule_factor(o->plan, o->rates));
    return rates_lend(o);
}

static rows_adam_args rows_args(const optimizer *o, int64_t step, double scale)
{
    return (rows_adam_args){.b1 = o->b1,
                            .b2 = o->b2,
                            .eps = o->eps,
                            .scale = scale,
                            .step = step,
                            .lr_of_step = o->rows_rate_on};
}

status optimizer_present(optimizer *o, int64_t step)
{
    if (o->levels == 0)
        return STATUS_OK;
    TRY(rates_until(o, step));
    const rows_adam_args a = rows_args(o, step, 1);
    model_rows_schedule(o->m, &a);
    return STATUS_OK;
}

static status update_rows(optimizer *o, int level, int64_t step, double scale)
{
    row_exchange *x = &o->rows[level];
    row_table *tables[ROW_TABLES];
    TRY(row_exchange_slots(x, o->m, level));
    if (o->before_rows)
        TRY(o->before_rows(o->before_context, level, x->count, x->slot));
    position_tables(model_position(o->m), tables);
    row_table *t = tables[level];
    const rows_adam_args a = rows_args(o, step, scale);
    return rows_adam(o->dev, &a, x->count, x->k, x->slot_on, x->grad_on, t->p, t->m, t->v, t->last);
}

/* Sums of squares of what is clipped together; there after the next wait. */
static status norms(optimizer *o)
{
    memset(o->squares, 0, sizeof o->squares);
    TRY(norm_squares(o->dev, model_gradients(o->m), model_floats(o->m), &o->squares[0], &o->room));
    for (int l = 0; l < o->levels; l++) {
        const row_exchange *x = &o->rows[l];
        if (x->count > 0 && o->clip_rows)
            TRY(norm_squares(o->dev, x->grad_on, x->count * x->k, &o->squares[1 + l], &o->room));
    }
    return STATUS_OK;
}

status optimizer_begin(optimizer *o)
{
    TRY(device_upload_wait(o->dev)); /* of the lists of the step before */
    for (int l = 0; l < o->levels; l++)
        TRY(row_exchange_take(&o->rows[l], o->m, l));
    o->begun = true;
    return comm_size(o->workers) > 1 ? STATUS_OK : norms(o);
}

/* The rows of all workers. */
static status merge_rows(optimizer *o)
{
    if (!o->begun)
        TRY(optimizer_begin(o));
    o->begun = false;
    for (int l = 0; l < o->levels; l++)
        TRY(row_exchange_merge(&o->rows[l], o->m, l, o->workers));
    return STATUS_OK;
}

static status squares_of(optimizer *o, double *squares)
{
    TRY(merge_rows(o));
    if (comm_size(o->workers) > 1)
        TRY(norms(o));
    TRY(device_wait(o->dev));
    *squares = 0;
    for (int l = 0; l <= o->levels; l++)
        *squares += o->squares[l];
    return STATUS_OK;
}

/* Gradients are dropped; rows that any worker has met stay, with what they begin with. */
static status drop_rows(optimizer *o)
{
    for (int l = 0; l < o->levels; l++)
        if (o->rows[l].count > 0)
            TRY(row_exchange_slots(&o->rows[l], o->m, l));
    model_rows_clear(o->m);
    return STATUS_OK;
}

status optimizer_skip(optimizer *o)
{
    TRY(merge_rows(o));
    return drop_rows(o);
}

status optimizer_step(optimizer *o, int64_t step, int64_t tokens, optimizer_report *report)
{
    double squares = 0;
    TRY(squares_of(o, &squares));
    double scale = 1 / (double)tokens;
    const double whole = scale;
    *report = (optimizer_report){.norm = sqrt(squares) * scale,
                                 .lr = o->lr * schedule_factor(o->plan, step)};
    if (!isfinite(report->norm) || (o->norm_limit > 0 && report->norm > o->norm_limit)) {
        TRY(drop_rows(o));
        return fail(STATUS_INTERNAL,
                    "step %lld: the gradient's norm is %g; lower optimizer.lr or train.grad_clip",
                    (long long)step + 1, report->norm);
    }
    if (o->clip > 0 && report->norm > o->clip) {
        report->clipped = true;
        scale *= o->clip / (report->norm + CLIP_EPS);
    }
    const double factor = schedule_factor(o->plan, step);
    float *p = model_values(o->m), *g = model_gradients(o->m);
    for (int i = 0; i < o->n_ranges; i++) {
        const optimizer_range *r = &o->ranges[i];
        const adamw_args a = {.lr = r->lr * factor,
                              .b1 = o->b1,
                              .b2 = o->b2,
                              .eps = o->eps,
                              .decay = r->decay,
                              .scale = scale,
                              .step = step};
        TRY(adamw_update(o->dev, &a, r->count, p + r->first, g + r->first, o->first + r->first,
                         o->second + r->first));
    }
    TRY(rates_until(o, step));
    for (int l = 0; l < o->levels; l++)
        if (o->rows[l].count > 0)
            TRY(update_rows(o, l, step, o->clip_rows ? scale : whole));
    model_rows_clear(o->m);
    return optimizer_present(o, step);
}

/* Slots of a table that lag behind a step; as many as there are in *n. */
static status behind(const optimizer *o, const row_table *t, int64_t step, int32_t *slot,
                     int64_t *n)
{
    device_view last;
    *n = 0;
    TRY(device_view_open(o->dev, t->last, (size_t)t->slots * sizeof *t->last, true, &last));
    const int64_t *at = last.host;
    for (int64_t i = 0; i < t->slots; i++)
        if (at[i] >= 0 && at[i] < step)
            slot[(*n)++] = (int32_t)i;
    return device_view_close(&last, false, STATUS_OK);
}

/* A step without gradients for the slots of one table that lag behind. */
static status settle(const optimizer *o, row_table *t, int64_t step)
{
    const size_t slots = (size_t)t->slots + 1, k = (size_t)t->k;
    void *slot = NULL, *none = NULL;
    int64_t n = 0;
    device_view view = {0};
    status st;
    TRY_GOTO(done, device_memory_take(o->dev, slots * sizeof(int32_t), &slot));
    TRY_GOTO(done, device_memory_take(o->dev, slots * k * sizeof(float), &none));
    TRY_GOTO(done, device_clear(o->dev, none, slots * k * sizeof(float)));
    TRY_GOTO(done, device_view_open(o->dev, slot, slots * sizeof(int32_t), false, &view));
    TRY_GOTO(done, behind(o, t, step, view.host, &n));
    TRY_GOTO(done, device_view_close(&view, true, STATUS_OK));
    if (n > 0) {
        const rows_adam_args a = rows_args(o, step, 1);
        TRY_GOTO(done, rows_adam(o->dev, &a, n, t->k, slot, none, t->p, t->m, t->v, t->last));
    }
    st = device_wait(o->dev);
done:
    device_drain(o->dev);
    st = device_view_close(&view, false, st);
    if (slot)
        device_memory_give(o->dev, slot);
    if (none)
        device_memory_give(o->dev, none);
    return st;
}

status optimizer_settle_rows(optimizer *o, int64_t step)
{
    row_table *tables[ROW_TABLES];
    TRY(rates_until(o, step));
    if (o->levels > 0)
        position_tables(model_position(o->m), tables);
    for (int l = 0; l < o->levels; l++)
        TRY(settle(o, tables[l], step));
    return STATUS_OK;
}
