/* The plan of a step: the model's own answers (model_plan), the optimizer's moments and the touched
 * rows, summed for the micro-batch and keep level that fit. */
#include "runtime/train/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Columns (tokens) of a micro-batch that `auto` aims at: enough for products to run at full rate;
 * more would only leave the caches and take memory. */
#define MICRO_TOKENS 8192

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Gradient of a row that a step touches: pending with its slot, packed for the other workers with
 * its row, received from all of them, merged. */
static int64_t row_gradient_bytes(int64_t k, int64_t workers)
{
    const int64_t grad = k * (int64_t)sizeof(float), row = (int64_t)sizeof(int64_t),
                  slot = (int64_t)sizeof(int32_t);
    return grad + slot + (1 + (workers > 1 ? workers : 0)) * (grad + row) + grad + row + slot;
}

/* Of the two batches that the loader holds: a token's allele, target, position and site; a site's
 * number, token and mark, in arrays that grow by half. */
#define TOKEN_BYTES 14
#define SPAN_BYTES 9

static void sum_rows(const config *c, const plan_request *q, bool spans, plan *p)
{
    const int64_t share = (p->sequences + p->data_parallel - 1) / p->data_parallel;
    const int64_t tokens = share * c->data.seq_len;
    const int64_t sites =
        (int64_t)((q->sites_a_token > 0 ? q->sites_a_token : 2.2) * (double)tokens);
    p->position_table = q->site_bytes;
    p->row_gradients = 0;
    for (int i = 0; i < q->tables; i++) {
        const plan_table *t = &q->table[i];
        p->position_table += model_table_bytes(t->rows, t->space, t->k);
        p->row_gradients += least(t->rows, t->of_sites ? sites : tokens) *
                            row_gradient_bytes(t->k, p->data_parallel);
    }
    p->batches = 2 * share * length_padded(c->data.seq_len) * TOKEN_BYTES +
                 (spans ? 3 * sites * SPAN_BYTES : 0);
    if (!q->training)
        p->row_gradients = p->batches = 0;
}

/* Fills the sums for one choice. */
static status sum_up(const model *m, const config *c, const plan_request *q, int64_t micro_batch,
                     keep_level keep, plan *p)
{
    model_cost cost;
    const int64_t L = c->data.seq_len;
    TRY(model_plan(m, (batch_shape){micro_batch, L, length_padded(L)}, keep, q->training, &cost));
    p->micro_batch = micro_batch;
    p->keep = keep;
    p->weights = cost.weights;
    sum_rows(c, q, cost.ragged > 0, p);
    p->ragged = cost.ragged;
    p->gradients = cost.gradients + p->row_gradients;
    p->optimizer = q->training ? 2 * cost.weights : 0;
    p->activations = cost.activations;
    p->workspace = cost.workspace + p->ragged + p->batches;
    p->total = p->weights + p->gradients + p->optimizer + p->position_table + p->activations +
               p->workspace;
    p->fits = q->available == 0 || p->total <= q->available;

    const int64_t share = (p->sequences + p->data_parallel - 1) / p->data_parallel;
    p->micro_steps = (share + micro_batch - 1) / micro_batch;
    const int64_t micro_steps = (p->sequences + micro_batch - 1) / micro_batch;
    const int64_t members = p->context_parallel; /* each does its part of a micro-step */
    p->flops_per_step =
        members * micro_steps * (cost.flops_forward + (q->training ? cost.flops_backward : 0));
    p->bytes_per_step =
        members * micro_steps * (cost.bytes_forward + (q->training ? cost.bytes_backward : 0));
    return STATUS_OK;
}

static status layout(const config *c, const plan_request *q, plan *p)
{
    p->context_parallel = c->train.context_parallel;
    if (q->workers % p->context_parallel != 0)
        return fail(STATUS_USAGE,
                    "%s: train.context_parallel is %lld, which does not divide %d workers; change "
                    "one of them",
                    c->file[0] ? c->file : "plan", (long long)p->context_parallel, q->workers);
    p->data_parallel = q->workers / p->context_parallel;
    p->sequences = c->train.tokens_per_step / c->data.seq_len;
    if (p->sequences < 1)
        p->sequences = 1;
    return STATUS_OK;
}

status plan_make(model *m, const config *c, const plan_request *q, plan *out)
{
    static const keep_level levels[] = {KEEP_ALL, KEEP_SELECTED, KEEP_INPUT};
    static const recompute_kind meaning[] = {RECOMPUTE_NONE, RECOMPUTE_SELECTED, RECOMPUTE_ALL};
    memset(out, 0, sizeof *out);
    out->available = q->available;
    out->tables = q->tables;
    memcpy(out->table, q->table, sizeof out->table);
    TRY(layout(c, q, out));
    if (model_sharers(m) != out->context_parallel)
        TRY(model_share(m, &(context_group){.size = (int)out->context_parallel}));
    if (q->sites_a_token > 0)
        model_expect_spans(m, q->sites_a_token);

    const int64_t share = (out->sequences + out->data_parallel - 1) / out->data_parallel;
    int64_t B = c->train.micro_batch;
    const bool open = B == CONFIG_AUTO;
    if (open)
        B = MICRO_TOKENS / c->data.seq_len > 1 ? MICRO_TOKENS / c->data.seq_len : 1;
    B = least(B, share);
    for (;; B /= 2) {
        for (int i = 0; i < 3; i++) {
            if (c->train.recompute != RECOMPUTE_AUTO && c->train.recompute != meaning[i])
                continue;
            TRY(sum_up(m, c, q, B, levels[i], out));
            if (out->fits)
                return STATUS_OK;
        }
        if (!open || B == 1)
            return STATUS_OK;
    }
}

status plan_refuse(const plan *p, const char *host)
{
    const double gib = 1024.0 * 1024.0 * 1024.0;
    char what[96] = "use a shorter data.seq_len or more memory";
    if (p->micro_batch > 1)
        snprintf(what, sizeof what, "lower train.micro_batch to %lld or set train.recompute: all",
                 (long long)(p->micro_batch / 2));
    else if (p->keep != KEEP_INPUT)
        snprintf(what, sizeof what, "set train.recompute: all");
    else if (p->position_table > p->total / 2)
        snprintf(what, sizeof what, "raise position.alpha or set position.rows: site");
    return fail(STATUS_RESOURCE, "plan: %.3g GiB a worker needed, %.3g GiB free on %s; %s",
                (double)p->total / gib, (double)p->available / gib, host, what);
}
