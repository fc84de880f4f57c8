/* What a pooled head of sequences is to begin with. The means over a window differ little from
 * window to window beside what they have in common, and labels differ by less still: a head on them
 * as they are learns the common part first, over and over, each step another way. So the last
 * LayerNorm is set such that, over some training windows, every pooled feature has mean 0 and
 * spread 1, or ten times what it had; but where the head was trained already: it knows the features
 * as they are. */
#include "runtime/train/start.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_AT ((int64_t)1 << 20) /* bases */
#define LEAST_WINDOWS 16
#define MOST_WINDOWS 400
/* Ten times larger at most: what the body's steps move is enlarged, too. */
#define LEAST_SPREAD 0.1

/* Sums and sums of squares of the pooled features over training windows; how many there are. */
static status look(trainer *t, int64_t d, float *pooled, double *sum, double *square, int64_t *n)
{
    const int64_t L = t->stage->seq_len, fit = LOOK_AT / L;
    const int64_t all = fit < LEAST_WINDOWS  ? LEAST_WINDOWS
                        : fit > MOST_WINDOWS ? MOST_WINDOWS
                                             : fit;
    for (int64_t at = 0; at < all; at += t->micro_batch) {
        const int64_t k = all - at < t->micro_batch ? all - at : t->micro_batch;
        for (int64_t i = 0; i < k; i++) {
            const base_window w = sequence_draws_train(t->bases.draws, 0, at + i, L);
            TRY(feed_put_bases(&t->validation, i, &t->bases, &w, true));
        }
        const batch b = feed_slice(&t->validation, 0, k, true);
        const model_outputs out = {.pooled = pooled};
        TRY(model_forward(t->m, &b, &out, NULL));
        for (int64_t i = 0; i < k * d; i++) {
            sum[i % d] += (double)pooled[i];
            square[i % d] += (double)pooled[i] * (double)pooled[i];
        }
    }
    *n = all;
    return STATUS_OK;
}

/* A parameter's values times `by`, after `less` was taken from them (NULL: nothing). */
static status change(trainer *t, const char *tail, const double *less, const double *by)
{
    const parameter *list = NULL;
    const int n = model_parameters(t->m, &list);
    for (int i = 0; i < n; i++) {
        const size_t length = strlen(list[i].name), end = strlen(tail);
        if (length < end || strcmp(list[i].name + length - end, tail) != 0)
            continue;
        device_view v;
        TRY(device_view_open(t->dev, model_values(t->m) + list[i].offset,
                             (size_t)list[i].count * sizeof(float), true, &v));
        float *x = v.host;
        for (int64_t k = 0; k < list[i].count; k++)
            x[k] = (float)(((double)x[k] - (less ? less[k] : 0)) * by[k]);
        return device_view_close(&v, true, STATUS_OK);
    }
    return fail(STATUS_INTERNAL, "model: it has no %s; report this", tail);
}

status start_pooled(trainer *t)
{
    const config *c = t->ask->config;
    if (!t->ask->finetune || !t->bases.set || t->state.step > 0 || t->head_kept ||
        c->model.head != HEAD_POOLED)
        return STATUS_OK;
    const int64_t d = c->model.d_model;
    int64_t n = 0;
    float *pooled = malloc((size_t)(t->micro_batch * d) * sizeof *pooled);
    double *sum = calloc((size_t)(2 * d), sizeof *sum), *square = sum ? sum + d : NULL;
    status st = STATUS_OK;
    if (!pooled || !sum)
        st = fail(STATUS_MEMORY, "model: no memory for its features; lower train.micro_batch");
    if (st == STATUS_OK)
        st = look(t, d, pooled, sum, square, &n);
    st = comm_agree(t->roles.workers, st);
    if (st == STATUS_OK) /* to the last bit the same on all workers, whatever their threads */
        st = comm_bcast(t->roles.workers, sum, (size_t)(2 * d) * sizeof *sum, 0);
    for (int64_t k = 0; st == STATUS_OK && k < d; k++) {
        sum[k] /= (double)n; /* the mean, and 1 / spread */
        square[k] = 1 / fmax(LEAST_SPREAD, sqrt(fmax(0, square[k] / (double)n - sum[k] * sum[k])));
    }
    if (st == STATUS_OK)
        st = change(t, "ln_f.bias", sum, square);
    if (st == STATUS_OK)
        st = change(t, "ln_f.weight", NULL, square);
    free(pooled);
    free(sum);
    return st;
}
