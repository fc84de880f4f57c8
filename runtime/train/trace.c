/* trace: see trace.h. */
#include "runtime/train/trace.h"

#include "model/weights.h"

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
    batch b;
    uint8_t *ids, *targets;
    int64_t *position;
    float *hidden, *logits; /* (d, B, Lp), (V, B, Lp) */
    float *moments;         /* (2, floats) */
    double *losses, *norms; /* (steps) */
    float *lr;              /* (steps) */
    arena room;             /* of the norm */
} tracing;

static status out_of_memory(void)
{
    return fail(STATUS_MEMORY, "trace: no memory for the batch; cut it");
}

static status tracing_open(tracing *t, model_file *f, const trace_batch *b, int64_t steps)
{
    memset(t, 0, sizeof *t);
    t->m = f->m;
    t->dev = model_device(f->m);
    const batch_shape s = {b->B, b->L, length_padded(b->L)};
    const size_t columns = (size_t)(s.B * s.Lp);
    const int64_t d = model_config(f->m)->model.d_model;
    t->ids = malloc(columns);
    t->targets = malloc(columns);
    t->position = calloc(columns, sizeof *t->position);
    t->hidden = malloc(columns * (size_t)d * sizeof(float));
    t->logits = malloc(columns * VOCABULARY_PADDED * sizeof(float));
    t->moments = calloc(2 * (size_t)model_floats(f->m), sizeof(float));
    t->losses = calloc((size_t)steps + 1, sizeof *t->losses);
    t->norms = calloc((size_t)steps + 1, sizeof *t->norms);
    t->lr = malloc(((size_t)steps + 1) * sizeof *t->lr);
    if (!t->ids || !t->targets || !t->position || !t->hidden || !t->logits || !t->moments ||
        !t->losses || !t->norms || !t->lr)
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
    for (int64_t i = 0; i < steps; i++)
        t->lr[i] = (float)TRACE_LR;
    t->b = (batch){.s = s,
                   .ids = t->ids,
                   .targets = t->targets,
                   .position = b->position ? t->position : NULL,
                   .chromosome = b->chromosome};
    TRY(arena_open(&t->room, "workspace",
                   (size_t)(model_floats(f->m) / 64 + 4096) * sizeof(double)));
    return model_prepare(t->m, s, model_keep(&f->c), true);
}

static void tracing_close(tracing *t)
{
    free(t->ids);
    free(t->targets);
    free(t->position);
    free(t->hidden);
    free(t->logits);
    free(t->moments);
    free(t->losses);
    free(t->norms);
    free(t->lr);
    arena_close(&t->room);
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
        model_row_gradients(t->m, i, &count, &slots, &sum);
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

/* Hidden states to gradients; the gradient is of the mean. */
static status write_first(const tracing *t, trace_writer *w, loss_sum loss)
{
    const double mean = loss.sum / (double)loss.count;
    TRY(write_channels(w, "hidden", model_config(t->m)->model.d_model, t->b.s, t->hidden));
    TRY(write_channels(w, "logits", VOCABULARY_PADDED, t->b.s, t->logits));
    TRY(trace_write(w, "loss", TRACE_F64, 0, NULL, &mean));
    const parameter *p;
    const int n = model_parameters(t->m, &p);
    const float *g = model_gradients(t->m);
    for (int i = 0; i < n; i++) {
        float *scaled = malloc((size_t)p[i].count * sizeof *scaled);
        if (!scaled)
            return out_of_memory();
        for (int64_t j = 0; j < p[i].count; j++)
            scaled[j] = (float)((double)g[p[i].offset + j] / (double)loss.count);
        char name[160];
        snprintf(name, sizeof name, "grad/" WEIGHTS_PREFIX "%s", p[i].name);
        status st = trace_write(w, name, TRACE_F32, p[i].ndim, p[i].shape, scaled);
        free(scaled);
        TRY(st);
    }
    return write_rows(t, w, 1.0 / (double)loss.count);
}

static status backward(tracing *t, loss_sum *loss)
{
    memset(model_gradients(t->m), 0, (size_t)model_floats(t->m) * sizeof(float));
    model_rows_clear(t->m);
    TRY(model_backward(t->m, &t->b, loss, NULL, NULL));
    if (loss->count == 0)
        return fail(STATUS_DATA, "trace: the batch has no target; give target_ids below 255");
    return STATUS_OK;
}

static status gradient_norm(tracing *t, int64_t count, double *norm)
{
    double squares, part;
    TRY(norm_squares(t->dev, model_gradients(t->m), model_floats(t->m), &squares, &t->room));
    row_table *tables[ROW_TABLES];
    const int levels = model_position(t->m) ? position_tables(model_position(t->m), tables) : 0;
    for (int i = 0; i < levels; i++) {
        int64_t n;
        const int32_t *slots;
        const float *sum;
        model_row_gradients(t->m, i, &n, &slots, &sum);
        TRY(norm_squares(t->dev, sum, n * tables[i]->k, &part, &t->room));
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
    const int64_t floats = model_floats(t->m);
    for (int i = 0; i < n; i++) {
        a.decay = p[i].decay ? TRACE_DECAY : 0.0;
        TRY(adamw_update(t->dev, &a, p[i].count, value + p[i].offset, gradient + p[i].offset,
                         t->moments + p[i].offset, t->moments + floats + p[i].offset));
    }
    const rows_adam_args r = {
        .b1 = 0.9, .b2 = 0.999, .eps = 1e-8, .scale = scale, .step = step, .lr_of_step = t->lr};
    row_table *tables[ROW_TABLES];
    const int levels = model_position(t->m) ? position_tables(model_position(t->m), tables) : 0;
    for (int i = 0; i < levels; i++) {
        int64_t rows;
        const int32_t *slots;
        const float *sum;
        model_row_gradients(t->m, i, &rows, &slots, &sum);
        TRY(rows_adam(t->dev, &r, rows, tables[i]->k, slots, sum, tables[i]->p, tables[i]->m,
                      tables[i]->v, tables[i]->last));
    }
    model_rows_schedule(t->m, &r);
    return STATUS_OK;
}

status trace_run(model_file *f, const trace_batch *b, int64_t steps, const char *path)
{
    tracing t;
    trace_writer *w = NULL;
    loss_sum loss;
    status st;
    TRY_GOTO(done, tracing_open(&t, f, b, steps));
    TRY_GOTO(done, model_forward(t.m, &t.b,
                                 &(model_outputs){.hidden = t.hidden, .logits = t.logits}, &loss));
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
