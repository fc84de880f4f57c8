/* Validation: the loss on a fixed set of windows of held-out people, divided over the workers, and
 * the counting look-up on the very same windows. */
#include "runtime/train/deal.h"
#include "runtime/train/trainer.h"

#include <math.h>
#include <string.h>

void count_hits(const batch *b, const float *logits, int classes, train_sums *sums)
{
    for (int64_t i = 0; i < b->s.B; i++) {
        if (b->label[i] < 0)
            continue;
        const float *z = logits + i * classes;
        int best = 0;
        for (int k = 1; k < classes; k++)
            if (z[k] > z[best])
                best = k;
        sums->labelled++;
        sums->hits += best == b->label[i];
    }
}

/* This worker's windows [from, from + n) of the set into the feed. */
static status fill(trainer *t, int64_t from, int64_t n)
{
    const int64_t L = t->sched.final.seq_len;
    t->validation.n = n;
    t->validation.first = from;
    for (int64_t i = 0; t->bases.set && i < n; i++) {
        const base_window w = sequence_draws_valid(t->bases.draws, from + i, L);
        TRY(feed_put_bases(&t->validation, i, &t->bases, &w, t->ask->finetune));
    }
    for (int64_t i = 0; !t->bases.set && i < n; i++) {
        const window w = draws_valid(t->draws, from + i, L);
        if (t->ask->config->data.alleles == ALLELES_BOTH) /* trains on haplotypes: one of the two */
            TRY(feed_fill_haplotype(&t->validation, i, t->data, t->draws, &w,
                                    1 + (int)((from + i) / 2 % 2), t->ask->finetune));
        else
            TRY(feed_fill(&t->validation, i, t->data, t->draws, &w, t->ask->finetune));
        if (t->ask->config->data.direction == DIRECTION_BOTH && (from + i) % 2)
            feed_reverse(&t->validation, i);
    }
    return STATUS_OK;
}

static status sum_windows(trainer *t, train_sums *sums)
{
    const sharing_place place = sharing_place_of(t->workers, t->worker, t->how.valid);
    const share mine = deal_share(t->validation_windows, place.groups, place.group);
    const bool classify = t->ask->finetune;
    for (int64_t at = 0; at < mine.count; at += t->valid_batch) {
        const int64_t left = mine.count - at, n = left < t->valid_batch ? left : t->valid_batch;
        TRY(fill(t, mine.first + at, n));
        const batch whole = feed_slice(&t->validation, 0, n, classify);
        const batch b = sharing_cut(trainer_valid_sharing(t), &whole);
        const model_outputs out = {.class_logits = classify ? t->class_logits : NULL};
        loss_sum loss = {0};
        TRY(model_forward(t->m, &b, &out, &loss));
        sums->loss += loss.sum;
        sums->targets += loss.count;
        if (classify)
            count_hits(&b, t->class_logits, model_classes(t->m), sums);
    }
    return STATUS_OK;
}

status validation_run(trainer *t, train_sums *sums)
{
    *sums = (train_sums){0};
    if (t->validation_windows == 0)
        return STATUS_OK;
    TRY(trainer_turn(t, true));
    TRY(sum_windows(t, sums));
    TRY(trainer_turn(t, false));
    double v[4] = {sums->loss, (double)sums->targets, (double)sums->hits, (double)sums->labelled};
    TRY(comm_sum_f64(t->roles.workers, v, 4));
    *sums = (train_sums){v[0], (int64_t)v[1], (int64_t)v[2], (int64_t)v[3]};
    return STATUS_OK;
}

status validation_lookup(trainer *t, double *perplexity)
{
    const share mine = deal_share(t->validation_windows, t->workers, t->worker);
    const int64_t L = t->sched.final.seq_len;
    double v[2] = {0, 0}; /* nats, targets */
    *perplexity = NAN;
    for (int64_t i = 0; i < mine.count; i++) {
        TRY(fill(t, mine.first + i, 1));
        v[0] += lookup_window(t->counts, t->validation.ids, t->validation.site, L);
        v[1] += (double)L - 1;
    }
    TRY(comm_sum_f64(t->roles.workers, v, 2));
    if (v[1] > 0)
        *perplexity = exp(v[0] / v[1]);
    return STATUS_OK;
}
