/* trace: see trace.h. */
#include "runtime/train/trace.h"

#include "model/weights.h"
#include "runtime/train/sharing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRACE_LR 6e-4
#define TRACE_DECAY 0.1
#define TRACE_CLIP 1.0
#define CLIP_EPS 1e-6 /* added to the norm by the published trainer's clipping */

typedef struct {
    model *m;
    device *dev;
    comm *world;
    sharing share;
    batch b; /* whole sequences */
    uint8_t *ids, *targets;
    int64_t *position;
    float *hidden, *logits; /* (d, B, Lp), (V, B, Lp) */
    arena moments;          /* of the optimizer: first, second */
    float *first, *second;
    double *losses, *norms; /* (steps) */
    float *lr;              /* (steps) the device's */
    arena room;             /* of the norm */
} tracing;

static status out_of_memory(void)
{
    return fail(STATUS_MEMORY, "trace: no memory for the batch; cut it");
}

static status rates_make(tracing *t, int64_t steps)
{
    const size_t bytes = ((size_t)steps + 1) * sizeof(float);
    void *rates = NULL;
    device_view view;
    TRY(device_memory_take(t->dev, bytes, &rates));
    t->lr = rates;
    TRY(device_view_open(t->dev, rates, bytes, false, &view));
    for (int64_t i = 0; i <= steps; i++)
        ((float *)view.host)[i] = (float)TRACE_LR;
    return device_view_close(&view, true, STATUS_OK);
}

/* train.context_parallel: all ranks share each sequence, or every one has all of them. */
static status share(tracing *t, const config *c)
{
    int64_t size = c->train.context_parallel;
    if (size == CONFIG_AUTO)
        size = model_can_share(t->m) && !model_position(t->m) ? comm_size(t->world) : 1;
    if (size > 1 && size != comm_size(t->world))
        return fail(STATUS_USAGE,
                    "train.context_parallel: %lld, but %d ranks; start as many as share a sequence",
                    (long long)size, comm_size(t->world));
    if (size > 1 && model_position(t->m))
        return fail(STATUS_USAGE, "train.context_parallel: trace compares rows of positions on one "
                                  "rank alone; set it to 1");
    TRY(context_check(t->b.s.L, (int)size));
    TRY(sharing_open(t->world, size, t->dev, c, &t->share));
    return model_share(t->m, &t->share.group);
}

static status tracing_open(tracing *t, model_file *f, const trace_batch *b, int64_t steps,
                           comm *world)
{
    memset(t, 0, sizeof *t);
    t->m = f->m;
    t->world = world;
    t->share.group.size = 1;
    t->dev = model_device(f->m);
    const batch_shape s = {b->B, b->L, length_padded(b->L)};
    const size_t columns = (size_t)(s.B * s.Lp);
    const int64_t d = model_config(f->m)->model.d_model;
    t->ids = malloc(columns);
    t->targets = malloc(columns);
    t->position = calloc(columns, sizeof *t->position);
    t->hidden = malloc(columns * (size_t)d * sizeof(float));
    t->logits = malloc(columns * VOCABULARY_PADDED * sizeof(float));
    t->losses = calloc((size_t)steps + 1, sizeof *t->losses);
    t->norms = calloc((size_t)steps + 1, sizeof *t->norms);
    if (!t->ids || !t->targets || !t->position || !t->hidden || !t->logits || !t->losses ||
        !t->norms)
        return out_of_memory();
    memset(t->ids, TOKEN_PAD, columns);
    memset(t->targets, TARGET_NONE, columns);
    for (int64_t i = 0; i < b->B; i++) {
        memcpy(t->ids + i * s.Lp, b->ids + i * b->L, (size_t)b->L);
        memcpy(t->targets + i * s.Lp, b->targets + i * b->L, (size_t)b->L);
        if (b->position)
            memcpy(t->position + i * s.Lp, b->position + i * b->L,
                   (size_t)b->L * sizeof *t->position);
    }
    t->b = (batch){.s = s,
                   .ids = t->ids,
                   .targets = t->targets,
                   .position = b->position ? t->position : NULL,
                   .chromosome = b->chromosome};
    const size_t floats = (size_t)model_floats(f->m), bytes = arena_round(floats * sizeof(float));
    TRY(device_arena_open(t->dev, &t->room, "workspace", (floats / 64 + 4096) * sizeof(double)));
    TRY(device_arena_open(t->dev, &t->moments, "optimizer", 2 * bytes));
    t->first = arena_take(&t->moments, bytes);
    t->second = arena_take(&t->moments, bytes);
    TRY(rates_make(t, steps));
    TRY(share(t, &f->c));
    TRY(model_prepare(t->m, s, model_keep(&f->c), true));
    return sharing_prepare(&t->share, s);
}

static void tracing_close(tracing *t)
{
    device_abandon(t->dev); /* it may read what follows */
    sharing_close(&t->share);
    free(t->ids);
    free(t->targets);
    free(t->position);
    free(t->hidden);
    free(t->logits);
    free(t->losses);
    free(t->norms);
    if (!t->dev)
        return;
    device_arena_close(t->dev, &t->moments);
    device_arena_close(t->dev, &t->room);
    if (t->lr)
        device_memory_give(t->dev, t->lr);
}

/* Stretches of (rows, Lp) from all members to rank 0, in place. */
static status gather(const tracing *t, int64_t rows, float *x)
{
    const int size = t->share.group.size;
    if (size <= 1)
        return STATUS_OK;
    const batch_shape whole = t->b.s;
    size_t *counts = calloc((size_t)size, sizeof *counts);
    float *all = malloc((size_t)(rows * (whole.Lp + size * LENGTH_ALIGN)) * sizeof *all);
    status st = counts && all ? STATUS_OK : out_of_memory();
    for (int r = 0; st == STATUS_OK && r < size; r++)
        counts[r] =
            (size_t)(rows * length_padded(context_stretch_of(whole.L, size, r).count)) * sizeof *x;
    if (st == STATUS_OK)
        st = comm_gatherv(t->world, x, counts[comm_rank(t->world)], all, counts, 0);
    const float *from = all;
    for (int r = 0; st == STATUS_OK && comm_rank(t->world) == 0 && r < size; r++) {
        const context_stretch p = context_stretch_of(whole.L, size, r);
        for (int64_t i = 0; i < rows; i++, from += length_padded(p.count))
            memcpy(x + i * whole.Lp + p.first, from, (size_t)p.count * sizeof *x);
    }
    free(counts);
    free(all);
    return st;
}

/* (c, B, Lp) -> (B, L, c), as the published model has it. */
static status write_channels(trace_writer *w, const char *name, int64_t channels, batch_shape s,
                             const float *x)
{
    float *y = malloc((size_t)(s.B * s.L * channels) * sizeof *y);
    if (!y)
        return out_of_memory();
    for (int64_t b = 0; b < s.B; b++)
        for (int64_t t = 0; t < s.L; t++)
            for (int64_t c = 0; c < channels; c++)
                y[(b * s.L + t) * channels + c] = x[(c * s.B + b) * s.Lp + t];
    status st = trace_write(w, name, TRACE_F32, 3, (const int64_t[]){s.B, s.L, channels}, y);
    free(y);
    return st;
}

static status write_rows(const tracing *t, trace_writer *w, double scale)
{
    row_table *tables[ROW_TABLES];
    position_encoding *x = model_position(t->m);
    const int levels = x ? position_tables(x, tables) : 0;
    for (int i = 0; i < levels; i++) {
        int64_t count;
        const int32_t *slots;
        const float *sum;
        TRY(model_row_gradients(t->m, i, &count, &slots, &sum));
        const int64_t k = tables[i]->k, dims[2] = {count, k};
        int64_t *row = malloc(((size_t)count + 1) * sizeof *row);
        float *g = malloc(((size_t)(count * k) + 1) * sizeof *g);
        status st = row && g ? STATUS_OK : out_of_memory();
        for (int64_t j = 0; j < count && st == STATUS_OK; j++)
            row[j] = tables[i]->row[slots[j]];
        for (int64_t j = 0; j < count * k && st == STATUS_OK; j++)
            g[j] = (float)(scale * (double)sum[j]);
        char name[64];
        snprintf(name, sizeof name, "grad/" WEIGHTS_PREFIX "position.%d.values", i);
        if (st == STATUS_OK)
            st = trace_write(w, name, TRACE_F32, 2, dims, g);
        snprintf(name, sizeof name, "rows/%d", i);
        if (st == STATUS_OK)
            st = trace_write(w, name, TRACE_I64, 1, dims, row);
        free(g);
        free(row);
        TRY(st);
    }
    return STATUS_OK;
}

static status write_gradient(trace_writer *w, const parameter *p, const float *g, int64_t count)
{
    float *scaled = malloc((size_t)p->count * sizeof *scaled);
    if (!scaled)
        return out_of_memory();
    for (int64_t j = 0; j < p->count; j++)
        scaled[j] = (float)((double)g[j] / (double)count);
    char name[160];
    snprintf(name, sizeof name, "grad/" WEIGHTS_PREFIX "%s", p->name);
    const status st = trace_write(w, name, TRACE_F32, p->ndim, p->shape, scaled);
    free(scaled);
    return st;
}

/* Hidden states to gradients; the gradient is of the mean. */
static status write_first(const tracing *t, trace_writer *w, loss_sum loss)
{
    const double mean = loss.sum / (double)loss.count;
    TRY(write_channels(w, "hidden", model_config(t->m)->model.d_model, t->b.s, t->hidden));
    TRY(write_channels(w, "logits", VOCABULARY_PADDED, t->b.s, t->logits));
    TRY(trace_write(w, "loss", TRACE_F64, 0, NULL, &mean));
    const parameter *p;
    const int n = model_parameters(t->m, &p);
    device_view view;
    TRY(device_view_open(t->dev, model_gradients(t->m), (size_t)model_floats(t->m) * sizeof(float),
                         true, &view));
    status st = STATUS_OK;
    for (int i = 0; st == STATUS_OK && i < n; i++)
        st = write_gradient(w, &p[i], (const float *)view.host + p[i].offset, loss.count);
    TRY(device_view_close(&view, false, st));
    return write_rows(t, w, 1.0 / (double)loss.count);
}

/* Losses and gradients of all members. */
static status sum(const tracing *t, loss_sum *loss)
{
    if (t->share.group.size <= 1)
        return STATUS_OK;
    double v[2] = {loss->sum, (double)loss->count};
    device_view g;
    TRY(comm_sum_f64(t->world, v, 2));
    *loss = (loss_sum){.sum = v[0], .count = (int64_t)v[1]};
    TRY(device_view_open(t->dev, model_gradients(t->m), (size_t)model_floats(t->m) * sizeof(float),
                         true, &g));
    return device_view_close(&g, true, comm_sum_f32(t->world, g.host, model_floats(t->m)));
}

static status backward(tracing *t, loss_sum *loss)
{
    const batch mine = sharing_cut(&t->share, &t->b);
    TRY(device_clear(t->dev, model_gradients(t->m), (size_t)model_floats(t->m) * sizeof(float)));
    model_rows_clear(t->m);
    TRY(model_backward(t->m, &mine, loss, NULL, NULL));
    TRY(model_wait(t->m));
    TRY(sum(t, loss));
    if (loss->count == 0)
        return fail(STATUS_DATA, "trace: the batch has no target; give target_ids below 255");
    return STATUS_OK;
}

/* Gradients of a level's rows where the device has them: copies, but on a CPU. */
typedef struct {
    int64_t n;
    const int32_t *slots;
    const float *sum;
    void *copies;
} level_rows;

static status level_rows_open(const tracing *t, int level, int64_t k, level_rows *x)
{
    *x = (level_rows){0};
    TRY(model_row_gradients(t->m, level, &x->n, &x->slots, &x->sum));
    if (device_is_host(t->dev))
        return STATUS_OK;
    const size_t slots = (size_t)x->n * sizeof *x->slots,
                 sums = (size_t)(x->n * k) * sizeof *x->sum;
    TRY(device_memory_take(t->dev, arena_round(slots) + sums + 1, &x->copies));
    float *sum = (float *)(void *)((char *)x->copies + arena_round(slots));
    TRY(device_upload(t->dev, x->copies, x->slots, slots));
    TRY(device_upload(t->dev, sum, x->sum, sums));
    x->slots = x->copies;
    x->sum = sum;
    return STATUS_OK;
}

static status level_rows_close(const tracing *t, level_rows *x, status st)
{
    if (st == STATUS_OK)
        st = device_wait(t->dev);
    if (x->copies)
        device_memory_give(t->dev, x->copies);
    return st;
}

static status gradient_norm(tracing *t, int64_t count, double *norm)
{
    double squares = 0, part = 0;
    TRY(norm_squares(t->dev, model_gradients(t->m), model_floats(t->m), &squares, &t->room));
    TRY(device_wait(t->dev));
    row_table *tables[ROW_TABLES];
    const int levels = model_position(t->m) ? position_tables(model_position(t->m), tables) : 0;
    for (int i = 0; i < levels; i++) {
        level_rows x;
        const int64_t k = tables[i]->k;
        status st = level_rows_open(t, i, k, &x);
        if (st == STATUS_OK)
            st = norm_squares(t->dev, x.sum, x.n * k, &part, &t->room);
        TRY(level_rows_close(t, &x, st));
        squares += part;
    }
    *norm = sqrt(squares) / (double)count;
    return STATUS_OK;
}

static status update(tracing *t, int64_t step, int64_t count, double norm)
{
    const double scale = fmin(1.0, TRACE_CLIP / (norm + CLIP_EPS)) / (double)count;
    adamw_args a = {
        .lr = TRACE_LR, .b1 = 0.9, .b2 = 0.999, .eps = 1e-8, .scale = scale, .step = step};
    const parameter *p;
    const int n = model_parameters(t->m, &p);
    float *value = model_values(t->m), *gradient = model_gradients(t->m);
    for (int i = 0; i < n; i++) {
        a.decay = p[i].decay ? TRACE_DECAY : 0.0;
        TRY(adamw_update(t->dev, &a, p[i].count, value + p[i].offset, gradient + p[i].offset,
                         t->first + p[i].offset, t->second + p[i].offset));
    }
    const rows_adam_args r = {
        .b1 = 0.9, .b2 = 0.999, .eps = 1e-8, .scale = scale, .step = step, .lr_of_step = t->lr};
    row_table *tables[ROW_TABLES];
    const int levels = model_position(t->m) ? position_tables(model_position(t->m), tables) : 0;
    for (int i = 0; i < levels; i++) {
        level_rows x;
        row_table *to = tables[i];
        status st = level_rows_open(t, i, to->k, &x);
        if (st == STATUS_OK)
            st = rows_adam(t->dev, &r, x.n, to->k, x.slots, x.sum, to->p, to->m, to->v, to->last);
        TRY(level_rows_close(t, &x, st));
    }
    model_rows_schedule(t->m, &r);
    return STATUS_OK;
}

static status forward(tracing *t, loss_sum *loss)
{
    const batch mine = sharing_cut(&t->share, &t->b);
    const model_outputs out = {.hidden = t->hidden, .logits = t->logits};
    TRY(model_forward(t->m, &mine, &out, loss));
    TRY(gather(t, model_config(t->m)->model.d_model * t->b.s.B, t->hidden));
    return gather(t, VOCABULARY_PADDED * t->b.s.B, t->logits);
}

status trace_run(model_file *f, const trace_batch *b, int64_t steps, const char *path, comm *world)
{
    tracing t;
    trace_writer *w = NULL;
    loss_sum loss;
    status st;
    TRY_GOTO(done, tracing_open(&t, f, b, steps, world));
    TRY_GOTO(done, forward(&t, &loss));
    TRY_GOTO(done, backward(&t, &loss));
    if (path) {
        TRY_GOTO(done, trace_writer_open(path, &w));
        TRY_GOTO(done, write_first(&t, w, loss));
    }
    for (int64_t i = 0; i < steps; i++) {
        if (i > 0)
            TRY_GOTO(done, backward(&t, &loss));
        t.losses[i] = loss.sum / (double)loss.count;
        TRY_GOTO(done, gradient_norm(&t, loss.count, &t.norms[i]));
        TRY_GOTO(done, update(&t, i, loss.count, t.norms[i]));
    }
    if (path && steps > 0) {
        TRY_GOTO(done, trace_write(w, "adamw_loss", TRACE_F64, 1, &steps, t.losses));
        TRY_GOTO(done, trace_write(w, "adamw_grad_norm", TRACE_F64, 1, &steps, t.norms));
    }
done:
    st = trace_writer_close(&w, st);
    tracing_close(&t);
    return st;
}
