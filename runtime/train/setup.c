/* What a worker needs before the first step: device, data, draws, model, optimizer, the starting
 * values, and the windows of its validation; for each stage: stages.c. Every function of this file
 * runs on every worker; the run directory is not touched before all of them have agreed. */
#include "runtime/core/log.h"
#include "runtime/train/deal.h"
#include "runtime/train/model_file.h"
#include "runtime/train/resume.h"
#include "runtime/train/space.h"
#include "runtime/train/start.h"
#include "runtime/train/trainer.h"
#include "runtime/train/worker_device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static status check_config(const config *c, bool finetune)
{
    return c->data.tokens == TOKENS_NUCLEOTIDE ? nucleotides_check(c, finetune) : STATUS_OK;
}

/* A class that nobody trains is learned to be nobody's. */
static void warn_of_empty_labels(const dataset *d, const sequences *bases)
{
    int64_t empty = 0, first = 0;
    for (int64_t l = 0; l < d->n_labels; l++) {
        int64_t people = 0;
        for (int64_t p = 0; p < d->n_people; p++)
            people += d->people[p].label == l && d->people[p].split == SPLIT_TRAIN;
        for (int64_t i = 0; bases && i < bases->n; i++)
            people += bases->list[i].label == l && bases->list[i].split == SPLIT_TRAIN;
        if (people == 0 && empty++ == 0)
            first = l;
    }
    if (empty > 0)
        log_warning("%s: %lld of %lld labels have no training %s (%s%s): the model will not "
                    "know them",
                    d->path, (long long)empty, (long long)d->n_labels,
                    bases ? "sequences" : "people", d->labels[first], empty > 1 ? " ..." : "");
}

/* Sequences for the longest stage, and their labels as t->data. */
static status open_bases(trainer *t)
{
    const config *c = t->ask->config;
    int64_t longest = 0;
    for (int i = 0; i < t->sched.n_stages; i++)
        if (t->sched.stages[i].seq_len > longest)
            longest = t->sched.stages[i].seq_len;
    TRY(nucleotides_open(c, t->ask->finetune, longest, t->roles.workers, &t->bases));
    TRY(sequences_identity(t->bases.set, &t->data));
    if (t->ask->finetune && t->data->n_labels < 2)
        return fail(STATUS_DATA,
                    "%s: its sequences have %lld label%s, a classifier needs two at least; import "
                    "it with -m",
                    t->data->path, (long long)t->data->n_labels, t->data->n_labels == 1 ? "" : "s");
    if (t->ask->finetune)
        warn_of_empty_labels(t->data, t->bases.set);
    return STATUS_OK;
}

static status open_data(trainer *t)
{
    const config *c = t->ask->config;
    char path[CONFIG_TEXT];
    if (c->data.tokens == TOKENS_NUCLEOTIDE)
        return open_bases(t);
    config_data_path(c, path);
    TRY(dataset_open(path, t->roles.workers, &t->data));
    TRY(dataset_block(t->data, c->data.max_gap));
    TRY(dataset_take(t->data, c->data.train_people, (uint64_t)c->seed));
    if (t->ask->finetune && t->data->n_labels < 2)
        return fail(STATUS_DATA,
                    "%s: its people have %lld label%s, a classifier needs two at least; import it "
                    "with -m",
                    path, (long long)t->data->n_labels, t->data->n_labels == 1 ? "" : "s");
    if (t->ask->finetune)
        warn_of_empty_labels(t->data, NULL);
    TRY(draws_open(t->data, &c->data, (uint64_t)c->seed, &t->draws));
    for (int i = 0; i < t->sched.n_stages; i++)
        if (t->sched.stages[i].seq_len > draws_longest(t->draws, SPLIT_TRAIN))
            return fail(STATUS_DATA,
                        "%s: a stage has windows of %lld carried sites, the longest piece of a "
                        "training person has %lld; lower stages.seq_len",
                        path, (long long)t->sched.stages[i].seq_len,
                        (long long)draws_longest(t->draws, SPLIT_TRAIN));
    return STATUS_OK;
}

static status open_model(trainer *t)
{
    const config *c = t->ask->config;
    position_space space = {0};
    TRY(model_open(c, t->ask->finetune ? (int)t->data->n_labels : 0, t->dev, &t->m));
    status st = space_of_dataset(t->data, &space);
    if (st == STATUS_OK)
        st = model_place(t->m, &space);
    if (st == STATUS_OK)
        st = model_initialise(t->m, (uint64_t)c->seed);
    if (st == STATUS_OK)
        st = start_site_rows(t);
    if (st == STATUS_OK)
        st = start_from_model(t, &space);
    space_free(&space);
    return st;
}

/* Room for the rows that the plan counts: no step makes any. */
static status reserve_rows(trainer *t)
{
    position_encoding *x = model_position(t->m);
    for (int i = 0; x && i < t->memory.tables; i++)
        TRY(position_reserve(x, i, t->memory.table[i].rows));
    return STATUS_OK;
}

static status open_lookup(trainer *t)
{
    const config *c = t->ask->config;
    if (t->ask->finetune || t->bases.set || c->objective == OBJECTIVE_NEXT_SITE)
        return STATUS_OK; /* it counts alleles, not sites */
    int64_t alpha = 1;    /* the finest row that the model may see */
    if (c->position.encoding == ENCODING_FPE)
        alpha = c->position.alpha;
    else if (c->position.encoding == ENCODING_NONE)
        alpha = INT32_MAX; /* none: one row for all */
    return lookup_open(t->data, c->data.alleles, alpha, c->position.rows, c->objective, &t->counts);
}

/* The windows that validation judges, of the final length in every stage, and the look-up. */
static status open_validation(trainer *t)
{
    const config *c = t->ask->config;
    const int64_t L = t->sched.final.seq_len;
    if (c->train.eval_every == 0)
        return STATUS_OK;
    if (t->bases.set && sequence_draws_valid(t->bases.draws, 0, L).sequence < 0) {
        log_warning("%s: no validation sequence has a window of %lld bases; the run goes without "
                    "validation",
                    t->data->path, (long long)L);
        return STATUS_OK;
    }
    if (!t->bases.set && draws_valid(t->draws, 0, L).count == 0) {
        log_warning("%s: no validation person has a window of %lld carried sites; the run goes "
                    "without validation",
                    t->data->path, (long long)L);
        return STATUS_OK;
    }
    t->validation_windows = c->train.eval_windows;
    TRY(open_lookup(t));
    return t->counts ? validation_lookup(t, &t->lookup) : STATUS_OK;
}

static status open_all(trainer *t)
{
    const train_request *ask = t->ask;
    const config *c = ask->config;
    TRY(schedule_open(c, ask->finetune, &t->sched));
    TRY(open_data(t));
    TRY(open_model(t));
    TRY(trainer_check_stages(t));
    TRY(reserve_rows(t));
    TRY(optimizer_open(c, ask->finetune, &t->sched, t->m, t->dev, t->roles.workers, &t->opt));
    if (!model_gradients(t->m))
        return fail(STATUS_MEMORY, "model: no memory for its gradients; use a smaller model");
    gradient_sum_open(t->dev, model_gradients(t->m), model_floats(t->m), t->roles.workers, &t->sum);
    return STATUS_OK;
}

/* All workers at once: they share cores and memory in the steps as well. */
static status measure(trainer *t)
{
    TRY(comm_barrier(t->roles.workers));
    return device_measure(t->dev, t->ask->config->model.d_model,
                          model_mixed(t->ask->config, t->dev), &t->flops_per_s, &t->bytes_per_s);
}

status trainer_open(trainer *t, const train_request *ask, const train_roles *roles)
{
    *t = (trainer){.ask = ask,
                   .roles = *roles,
                   .worker = comm_rank(roles->workers),
                   .workers = comm_size(roles->workers),
                   .state = {.best_step = -1},
                   .share = {.group.size = 1},
                   .valid_share = {.group.size = 1},
                   .lookup = NAN};
    run_directory_checkpoints(ask->run, t->checkpoints);
    TRY(comm_agree(roles->workers, check_config(ask->config, ask->finetune)));
    TRY(worker_device_open(roles->workers, ask->device, ask->threads, &t->dev));
    TRY(comm_agree(roles->workers, open_all(t)));
    TRY(gradient_sum_connect(&t->sum, ask->config));
    if (ask->resume) {
        TRY(resume_newest(t->checkpoints, INT64_MAX, ask->config, ask->finetune, t->data, t->m,
                          &t->opt, &t->state));
        if (t->state.step == 0)
            log_warning("%s: there is no checkpoint to resume from; it starts at step 0", ask->run);
    }
    TRY(optimizer_present(&t->opt, t->state.step - 1));
    t->last = t->sched.steps;
    if (ask->max_steps > 0 && ask->max_steps < t->last)
        t->last = ask->max_steps;
    if (t->state.finished || t->state.step >= t->last)
        t->last = t->state.step;
    t->rolled_to = -1;
    TRY(trainer_enter_stage(t, t->state.step));
    TRY(comm_agree(roles->workers, open_validation(t)));
    TRY(comm_agree(roles->workers, start_pooled(t)));
    return comm_agree(roles->workers, measure(t));
}

void trainer_close(trainer *t)
{
    device_abandon(t->dev); /* it may read what follows */
    beats_end(t->dev);
    saver_close(&t->save);
    loader_close(&t->load);
    lookup_close(&t->counts);
    feed_close(&t->validation);
    free(t->class_logits);
    free(t->losses);
    gradient_sum_close(&t->sum);
    sharing_close(&t->share);
    sharing_close(&t->valid_share);
    optimizer_close(&t->opt);
    model_close(&t->m);
    draws_close(&t->draws);
    nucleotides_close(&t->bases);
    dataset_close(&t->data);
    device_close(&t->dev);
}
