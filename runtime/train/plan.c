/* The plan of a step: the model's own answers (model_plan), the optimizer's moments and the touched
 * rows, summed for the micro-batch and keep level that fit. */
#include "runtime/train/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Columns (tokens) of a micro-batch that `auto` aims at. On a CPU enough for products to run at
 * full rate; more would only leave the caches and take memory. On a GPU products of so few take
 * microseconds, no longer than their launch: sixteen times as many (reckoned, not measured). */
static int64_t micro_tokens(const model *m)
{
    return model_device(m)->kind == DEVICE_CPU ? 8192 : 131072;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Gradient of a row that a step touches: pending with its slot and place; by row, with the same and
 * its row, and what is sorted by it; and with several workers packed with its row and received from
 * all of them. */
static int64_t row_gradient_bytes(int64_t k, int64_t workers)
{
    const int64_t grad = k * (int64_t)sizeof(float), row = (int64_t)sizeof(int64_t),
                  slot = (int64_t)sizeof(int32_t);
    const int64_t messages = workers > 1 ? 1 + workers : 0, sorted = row + 2 * slot;
    return 2 * (grad + 2 * slot) + row + sorted + messages * (grad + row);
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
        p->touched[i] = q->training ? least(t->rows, t->of_sites ? sites : tokens) : 0;
        p->row_gradients += p->touched[i] * row_gradient_bytes(t->k, p->data_parallel);
    }
    p->batches = 2 * share * length_padded(c->data.seq_len) * TOKEN_BYTES +
                 (spans ? 3 * sites * SPAN_BYTES : 0);
    if (!q->training)
        p->batches = 0;
}

/* Fills the sums for one choice; `other`: of the passes that take turns with it. */
static status sum_up(const model *m, const config *c, const plan_request *q,
                     const model_cost *other, int64_t micro_batch, keep_level keep, plan *p)
{
    model_cost cost;
    const int64_t L = c->data.seq_len;
    TRY(model_plan(m, (batch_shape){micro_batch, L, length_padded(L)}, keep, q->training, &cost));
    p->micro_batch = micro_batch;
    p->keep = keep;
    p->weights = cost.weights;
    sum_rows(c, q, cost.ragged > 0, p);
    p->batches += p->valid_micro_batch * length_padded(q->valid_len) * TOKEN_BYTES;
    p->ragged = most(cost.ragged, other->ragged);
    p->gradients = cost.gradients + p->row_gradients;
    p->optimizer = q->training ? 2 * cost.weights : 0;
    p->activations = most(cost.activations, other->activations);
    p->arena = most(cost.workspace, other->workspace);
    p->workspace = p->arena + p->ragged + p->batches;
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

/* From here on the plan is that of groups of so many workers. */
static status share(model *m, int64_t size)
{
    return model_sharers(m) == size ? STATUS_OK
                                    : model_share(m, &(context_group){.size = (int)size});
}

/* The forward passes over q's other windows: at most as many at once as fill the machine. */
static status plan_other(model *m, const config *c, const plan_request *q, plan *p,
                         model_cost *cost)
{
    memset(cost, 0, sizeof *cost);
    p->valid_micro_batch = 0;
    if (q->valid_len == 0)
        return STATUS_OK;
    const int64_t groups = q->workers / q->valid_sharers, given = c->train.micro_batch;
    const int64_t windows = (c->train.eval_windows + groups - 1) / groups; /* of a group */
    const int64_t B = least(most(micro_tokens(m) / q->valid_len, 1), windows);
    p->valid_micro_batch = given == CONFIG_AUTO ? B : least(B, given);
    const batch_shape s = {p->valid_micro_batch, q->valid_len, length_padded(q->valid_len)};
    TRY(share(m, q->valid_sharers));
    return model_plan(m, s, KEEP_INPUT, false, cost);
}

/* Groups of so many workers. */
static status plan_shared(model *m, const config *c, const plan_request *q, int64_t size, plan *out)
{
    static const keep_level levels[] = {KEEP_ALL, KEEP_SELECTED, KEEP_INPUT};
    static const recompute_kind meaning[] = {RECOMPUTE_NONE, RECOMPUTE_SELECTED, RECOMPUTE_ALL};
    model_cost other;
    out->context_parallel = size;
    out->data_parallel = q->workers / size;
    TRY(plan_other(m, c, q, out, &other));
    TRY(share(m, size));
    const int64_t windows = (out->sequences + out->data_parallel - 1) / out->data_parallel;
    int64_t B = c->train.micro_batch;
    const bool open = B == CONFIG_AUTO;
    if (open)
        B = most(micro_tokens(m) / c->data.seq_len, 1);
    B = least(B, windows);
    for (;; B /= 2) {
        for (int i = 0; i < 3; i++) {
            if (c->train.recompute != RECOMPUTE_AUTO && c->train.recompute != meaning[i])
                continue;
            TRY(sum_up(m, c, q, &other, B, levels[i], out));
            if (out->fits)
                return STATUS_OK;
        }
        if (!open || B == 1)
            return STATUS_OK;
    }
}

/* The next larger group that the workers divide into and the model allows; 0: none. */
static int64_t larger(const model *m, const config *c, const plan_request *q, int64_t size)
{
    for (int64_t n = size + 1; n <= q->workers && model_can_share(m); n++)
        if (q->workers % n == 0)
            return context_long_enough(c->data.seq_len, (int)n) ? n : 0;
    return 0;
}

/* Can groups of `size` workers share sequences of L tokens? */
static status can_share(const config *c, int workers, int64_t size, int64_t L)
{
    if (workers % size != 0)
        return fail(STATUS_USAGE,
                    "%s: context_parallel is %lld, which does not divide %d workers; change one "
                    "of them",
                    c->file[0] ? c->file : "plan", (long long)size, workers);
    return context_check(L, (int)size);
}

status plan_make(model *m, const config *c, const plan_request *q, plan *out)
{
    memset(out, 0, sizeof *out);
    out->available = q->available;
    out->shareable = model_can_share(m);
    out->tables = q->tables;
    memcpy(out->table, q->table, sizeof out->table);
    out->sequences = most(c->train.tokens_per_step / c->data.seq_len, 1);
    if (q->sites_a_token > 0)
        model_expect_spans(m, q->sites_a_token);
    const int64_t given = c->train.context_parallel;
    if (given != CONFIG_AUTO)
        TRY(can_share(c, q->workers, given, c->data.seq_len));
    if (q->valid_len > 0)
        TRY(can_share(c, q->workers, q->valid_sharers, q->valid_len));
    int64_t size = given == CONFIG_AUTO ? 1 : given, next;
    for (;; size = next) {
        next = larger(m, c, q, size);
        /* fewer sequences than groups: some would have nothing to do */
        const bool idle = q->workers / size > out->sequences;
        if (given == CONFIG_AUTO && next > 0 && idle)
            continue;
        TRY(plan_shared(m, c, q, size, out));
        if (given != CONFIG_AUTO || out->fits || next == 0)
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
    else if (p->shareable)
        snprintf(what, sizeof what,
                 "let more workers share a sequence (train.context_parallel=auto)");
    return fail(STATUS_RESOURCE, "plan%s: %.3g GiB a worker needed, %.3g GiB free on %s; %s",
                p->stage, (double)p->total / gib, (double)p->available / gib, host, what);
}
