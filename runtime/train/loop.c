/* The training loop. A step: this worker's windows through the model in micro-batches, gradients
 * summed over workers, one update; then, in this order, log, validation, checkpoint, signals. What
 * is decided at run time (stop, checkpoint) rides on the step's small all-reduce, so that all
 * workers do it at the same step. */
#include "runtime/core/log.h"
#include "runtime/train/deal.h"
#include "runtime/train/signals.h"
#include "runtime/train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_STEPS 5   /* planned steps for which a worker may be silent */
#define PATIENCE 2      /* and times longer until those who wait for it give up themselves */
#define QUIET_SET_UP 10 /* and times longer while it sets a stage up */

/* A place for the loss of every micro-batch. */
static status losses_reserve(trainer *t, int64_t n)
{
    if (n <= t->losses_room)
        return STATUS_OK;
    loss_sum *losses = realloc(t->losses, (size_t)n * sizeof *losses);
    if (!losses)
        return fail(STATUS_MEMORY, "train.micro_batch: no memory for %lld losses; raise it",
                    (long long)n);
    t->losses = losses;
    t->losses_room = n;
    return STATUS_OK;
}

/* Forward and backward over this worker's windows; buckets leave during the last micro-batch. All
 * of it is queued, then waited for once. */
static status gradients(trainer *t, const feed *f, int64_t step, train_sums *sums)
{
    const bool classify = t->ask->finetune;
    const int64_t micro_steps = (f->n + t->micro_batch - 1) / t->micro_batch;
    TRY(losses_reserve(t, micro_steps));
    gradient_sum_begin(&t->sum);
    TRY(device_clear(t->dev, model_gradients(t->m), (size_t)model_floats(t->m) * sizeof(float)));
    for (int64_t at = 0; at < f->n; at += t->micro_batch) {
        const int64_t n = f->n - at < t->micro_batch ? f->n - at : t->micro_batch;
        const batch whole = feed_slice(f, at, n, classify);
        batch now = sharing_cut(&t->share, &whole);
        now.step = (uint64_t)step;
        now.training = true;
        const bool last = at + n == f->n && comm_size(t->roles.workers) > 1;
        loss_sum *loss = &t->losses[at / t->micro_batch];
        *loss = (loss_sum){0};
        TRY(model_backward(t->m, &now, loss, last ? gradient_sum_ready : NULL, &t->sum));
    }
    TRY(gradient_sum_start(&t->sum));
    if (comm_size(t->roles.workers) == 1)
        TRY(optimizer_begin(&t->opt));
    TRY(model_wait(t->m)); /* for the losses */
    for (int64_t i = 0; i < micro_steps; i++) {
        sums->loss += t->losses[i].sum;
        sums->targets += t->losses[i].count;
    }
    return STATUS_OK;
}

/* Losses are added, and the decisions of worker 0 and of the system reach everybody. */
static status exchange(trainer *t, step_sums *s)
{
    unsigned commands = 0;
    if (t->worker == 0 && t->ask->tick)
        t->ask->tick(t->ask->tick_context, t->state.step, t->sched.steps);
    TRY(coordinator_ask(&t->link, &commands));
    const bool signalled = t->ask->config->checkpoint.on_signal && signals_seen();
    const double start_s = clock_monotonic_s();
    s->mine_bad = !isfinite(s->sums.loss);
    double v[6] = {s->sums.loss,
                   (double)s->sums.targets,
                   commands & COMMAND_CHECKPOINT ? 1 : 0,
                   commands & COMMAND_STOP ? 1 : 0,
                   signalled,
                   s->mine_bad};
    TRY(comm_sum_f64(t->roles.workers, v, 6));
    s->sums.loss = v[0];
    s->sums.targets = (int64_t)v[1];
    s->commands = (v[2] > 0 ? COMMAND_CHECKPOINT : 0) | (v[3] > 0 ? COMMAND_STOP : 0);
    s->signalled = v[4] > 0;
    s->some_bad = v[5] > 0;
    s->wait_s += clock_monotonic_s() - start_s;
    return STATUS_OK;
}

static status event_of(trainer *t, const char *name, const char *detail)
{
    report r = {.kind = REPORT_EVENT, .worker = t->worker, .step = t->state.step};
    snprintf(r.event, sizeof r.event, "%s", name);
    snprintf(r.detail, sizeof r.detail, "%s", detail);
    snprintf(r.host, sizeof r.host, "%s", comm_host(t->roles.world));
    return coordinator_tell(&t->link, &r);
}

static status event(trainer *t, const char *name, const char *detail)
{
    return t->worker == 0 ? event_of(t, name, detail) : STATUS_OK;
}

/* A step whose loss or gradient is no number, or far outside what came before, changes nothing, on
 * all workers alike; a worker whose own loss it is says so. */
static status skip(trainer *t, int64_t step, const char *what, double value, step_sums *s)
{
    char detail[160], more[240];
    const bool number = isfinite(value);
    snprintf(detail, sizeof detail, "step %lld: the %s is %g", (long long)step + 1, what,
             isnan(value) ? NAN : value); /* a NaN has a sign, which says nothing */
    snprintf(more, sizeof more, "%s%s", detail,
             s->mine_bad ? ", of windows of this worker"
             : number    ? ", far above those before"
                         : "");
    t->state.step = step + 1;
    s->skipped = true;
    if (s->mine_bad || (t->worker == 0 && !s->some_bad))
        TRY(event_of(t, number ? "skip" : "nan", more));
    TRY(optimizer_present(&t->opt, step));
    const bool many = steady_bad(&t->state.steady, t->ask->config->train.skip_most);
    /* Nor does a run end on such steps: its model would be none. */
    if (!many && !(t->state.step >= t->last && t->state.steady.strain > 1.5))
        return STATUS_OK;
    TRY(trainer_roll_back(t, detail));
    s->rolled = true;
    snprintf(more, sizeof more, "%s: back to step %lld, other windows from there on", detail,
             (long long)t->state.step);
    return event(t, "rollback", more);
}

/* Longer than this no operation of a step should last: what is configured, and where steps are
 * planned to be long, several of them. */
static double quiet_s(const trainer *t)
{
    double planned_s = 0;
    if (t->flops_per_s > 0 && t->bytes_per_s > 0)
        planned_s = t->step_flops / t->flops_per_s + t->step_bytes / t->bytes_per_s;
    return fmax((double)t->ask->config->comm.timeout_s, QUIET_STEPS * planned_s);
}

static status sum_gradients(trainer *t, step_sums *s)
{
    const double start_s = clock_monotonic_s();
    TRY(gradient_sum_wait(&t->sum, &s->busy_s));
    s->wait_s += clock_monotonic_s() - start_s;
    return STATUS_OK;
}

status trainer_gradients(trainer *t, int64_t step, step_sums *s)
{
    const feed *f = NULL;
    TRY(loader_next(t->load, step, &f));
    TRY(gradients(t, f, step, &s->sums));
    TRY(beats_phase(&t->beats, step + 1, "exchange", quiet_s(t), true));
    TRY(exchange(t, s));
    return sum_gradients(t, s);
}

/* One step: t->state.step becomes step + 1. */
static status train_step(trainer *t, int64_t step, step_sums *s, optimizer_report *o)
{
    TRY(trainer_gradients(t, step, s));
    if (!isfinite(s->sums.loss)) {
        TRY(optimizer_skip(&t->opt));
        return skip(t, step, "loss", s->sums.loss / (double)s->sums.targets, s);
    }
    if (s->sums.targets == 0)
        return fail(STATUS_DATA,
                    "%s: no window of step %lld has a target; give people labels (import -m)",
                    t->data->path, (long long)step + 1);
    TRY(beats_phase(&t->beats, step + 1, "update", quiet_s(t), true));
    const double limit = steady_limit(&t->state.steady, t->ask->config->train.skip_norm);
    t->opt.norm_limit = limit;
    status st = optimizer_step(&t->opt, step, s->sums.targets, o);
    if (st == STATUS_INTERNAL && (!isfinite(o->norm) || (limit > 0 && o->norm > limit)))
        return skip(t, step, "gradient's norm", o->norm, s);
    TRY(st);
    t->state.step = step + 1;
    steady_good(&t->state.steady, o->norm);
    t->good_since = true;
    return STATUS_OK;
}

/* The most that was taken so far: of the process's memory, or of the GPU's. */
static int64_t memory_now(const trainer *t)
{
    device_room room = {0};
    return device_room_of(t->dev, &room) == STATUS_OK ? room.peak : 0;
}

static report report_of(const trainer *t, report_kind kind, double seconds)
{
    const int64_t tokens = t->stage->slots * t->stage->seq_len;
    report r = {.kind = kind,
                .worker = t->worker,
                .step = t->state.step,
                .stage = t->stage->index,
                .seq_len = t->stage->seq_len,
                .tokens = tokens,
                .lookup = t->lookup,
                .accuracy = NAN,
                .classifies = t->ask->finetune,
                .lr = t->opt.lr * schedule_factor(&t->sched, t->state.step - 1),
                .grad_norm = NAN,
                .tokens_per_s = (double)tokens / seconds,
                .step_ms = 1e3 * seconds,
                .sum_ms = NAN,
                .fraction_gemm = NAN,
                .fraction_bandwidth = NAN,
                .memory_bytes = memory_now(t)};
    return r;
}

static status log_step(trainer *t, const step_sums *s, const optimizer_report *o, double seconds)
{
    report r = report_of(t, REPORT_STEP, seconds);
    r.loss = s->sums.loss / (double)s->sums.targets;
    r.lr = o->lr;
    r.grad_norm = o->norm;
    r.clipped = o->clipped;
    r.skipped = s->skipped;
    r.wait_ms = 1e3 * s->wait_s;
    r.sum_ms = 1e3 * s->busy_s;
    if (t->flops_per_s > 0) {
        r.fraction_gemm = t->step_flops / t->flops_per_s / seconds;
        r.fraction_bandwidth = t->step_bytes / t->bytes_per_s / seconds;
    }
    const config *c = t->ask->config;
    if (t->worker != 0 || (t->state.step % c->train.log_every != 0 && t->state.step != t->last))
        return STATUS_OK;
    return coordinator_tell(&t->link, &r);
}

/* Is this validation better than the best so far? Pooled classifiers by accuracy, then loss; site
 * heads by loss, which says more on as few windows. */
static bool better(const trainer *t, double loss, double accuracy)
{
    const train_state *s = &t->state;
    if (!isfinite(loss))
        return false;
    if (s->best_step < 0)
        return true;
    if (t->ask->finetune && !model_site_head(t->m) && accuracy != s->best_accuracy)
        return accuracy > s->best_accuracy;
    return loss < s->best_loss;
}

/* *best: a checkpoint is due because this is the best so far. */
static status validate(trainer *t, bool *best)
{
    train_sums v = {0};
    const double start_s = clock_monotonic_s();
    *best = false;
    TRY(validation_run(t, &v));
    if (v.targets == 0)
        return STATUS_OK;
    report r = report_of(t, REPORT_VALID, clock_monotonic_s() - start_s);
    r.loss = v.loss / (double)v.targets;
    r.seq_len = t->sched.final.seq_len;
    r.windows = t->validation_windows;
    r.tokens = t->validation_windows * r.seq_len;
    r.tokens_per_s = 1e3 * (double)r.tokens / r.step_ms;
    if (t->ask->finetune)
        r.accuracy = v.labelled ? (double)v.hits / (double)v.labelled : NAN;
    if (better(t, r.loss, r.accuracy)) {
        *best = true;
        t->state.best_step = t->state.step;
        t->state.best_loss = r.loss;
        t->state.best_accuracy = r.accuracy;
        t->state.without = 0;
    } else if (t->stage->seq_len == r.seq_len) { /* stages that lead up to it are not the end */
        t->state.without++;
    }
    return t->worker == 0 ? coordinator_tell(&t->link, &r) : STATUS_OK;
}

/* Log, validation, checkpoint, signals: in this order. *stop: NULL, or why the run ends here. */
static status after_step(trainer *t, const step_sums *s, const optimizer_report *o, double seconds,
                         const char **stop)
{
    const config *c = t->ask->config;
    const bool last = t->state.step >= t->last;
    const bool stage_ends = t->state.step == t->stage->end;
    bool best = false;
    TRY(log_step(t, s, o, seconds));
    if (c->train.eval_every > 0 &&
        (t->state.step % c->train.eval_every == 0 || t->state.step == t->sched.steps || stage_ends))
        TRY(validate(t, &best));
    if (c->train.early_stop > 0 && t->state.without >= c->train.early_stop) {
        t->state.finished = true;
        *stop = "early stopping";
    }
    if (s->commands & COMMAND_STOP || s->signalled)
        *stop = s->signalled ? "signal" : "time";
    const bool due =
        c->checkpoint.every_steps > 0 && t->state.step % c->checkpoint.every_steps == 0;
    if (best || due || last || *stop || s->commands & COMMAND_CHECKPOINT)
        TRY(trainer_save(t));
    return trainer_tend(t, seconds);
}

/* What a stage is, where there are several. */
static status tell_stage(trainer *t)
{
    const plan *p = &t->memory;
    char detail[200];
    if (t->sched.n_stages == 1)
        return STATUS_OK;
    snprintf(detail, sizeof detail,
             "%lld of %d: windows of %lld tokens, %lld a step, %lld at once, %lld worker%s a "
             "window, recompute %s, %.3g GiB planned",
             (long long)t->stage->index + 1, t->sched.n_stages, (long long)t->stage->seq_len,
             (long long)t->stage->slots, (long long)t->micro_batch, (long long)t->how.stage,
             t->how.stage == 1 ? "" : "s", keep_name(t->keep), (double)p->total / (1 << 30));
    return event(t, "stage", detail);
}

static status steps(trainer *t, const char **stop)
{
    const stage *told = NULL;
    while (t->state.step < t->last && !*stop) {
        const int64_t step = t->state.step;
        const double start_s = clock_monotonic_s();
        step_sums s = {0};
        optimizer_report o = {0};
        if (schedule_stage(&t->sched, step) != t->stage)
            TRY(beats_phase(&t->beats, step + 1, "stage", QUIET_SET_UP * quiet_s(t), false));
        TRY(trainer_enter_stage(t, step));
        if (t->stage != told)
            TRY(tell_stage(t));
        told = t->stage;
        TRY(train_step(t, step, &s, &o));
        if (!s.rolled)
            TRY(after_step(t, &s, &o, clock_monotonic_s() - start_s, stop));
        else if (s.commands & COMMAND_STOP || s.signalled)
            *stop = s.signalled ? "signal" : "time"; /* at a checkpoint already */
    }
    return STATUS_OK;
}

static status say_goodbye(trainer *t, const char *how)
{
    if (t->worker != 0)
        return STATUS_OK;
    report r = {.kind = REPORT_END, .step = t->state.step, .event = "end"};
    snprintf(r.detail, sizeof r.detail, "%s", how);
    snprintf(r.host, sizeof r.host, "%s", comm_host(t->roles.world));
    return coordinator_settle(&t->link, &r, COMMAND_GOODBYE);
}

status trainer_loop(trainer *t)
{
    const char *stop = NULL;
    beats_begin(&t->beats, t->link.alone ? NULL : &t->link, t->worker, t->dev);
    TRY(beats_phase(&t->beats, t->state.step + 1, "start", quiet_s(t), false));
    /* The coordinator knows who is silent, and says it first. */
    comm_set_timeout(t->roles.workers, PATIENCE * quiet_s(t));
    t->committed = t->state.step > 0 ? t->state.step : -1;
    status st = steps(t, &stop);
    const bool asked = stop && !t->state.finished;
    bool everybody = st == STATUS_INTERNAL;
    if (st == STATUS_OK) { /* the last checkpoint ends on every worker alike */
        st = trainer_settle(t);
        everybody = st != STATUS_OK && st != STATUS_RANK;
    }
    if (everybody) { /* the coordinator must not wait for more */
        const failure why = *failure_last();
        trainer_settle(t);
        if (say_goodbye(t, "failed") == STATUS_OK)
            failure_set(&why);
        return st;
    }
    TRY(st);
    if (asked && strcmp(stop, "signal") == 0)
        TRY(event(t, "signal", signals_seen() ? signals_name(signals_seen()) : "another worker"));
    TRY(say_goodbye(t, asked                            ? "stopped"
                       : stop                           ? stop
                       : t->state.step < t->sched.steps ? "max-steps"
                                                        : "done"));
    if (asked)
        return fail(STATUS_STOPPED,
                    "%s: stopped on request after step %lld with a checkpoint; --resume continues",
                    t->ask->run, (long long)t->state.step);
    return STATUS_OK;
}
