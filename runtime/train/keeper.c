/* The coordinator's half of writing checkpoints: see keeper.h. */
#include "runtime/train/keeper.h"

#include "io/checkpoint.h"
#include "runtime/core/log.h"
#include "runtime/train/save.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILES 2

struct keeper {
    char dir[CONFIG_TEXT + 16];
    int64_t keep;
    int first, workers;

    bool busy, asked; /* asked: the request has come, its body not yet */
    save_request q;
    char *body;
    checkpoint_tensor *tensors; /* in body */
    checkpoint_header head;
    int64_t *offset;
    checkpoint_piece *pieces;
    int64_t n_pieces;
    int came; /* workers that have told */
    bool placed;
    failure why;

    bool committing; /* the thread is there */
    pthread_t thread;
    atomic_bool ended;
    int files[FILES], n_files;
    double stall_s, start_s;
};

status keeper_open(const char *dir, const config *c, int first, int workers, keeper **out)
{
    keeper *k = calloc(1, sizeof *k);
    *out = k;
    if (!k)
        return fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    snprintf(k->dir, sizeof k->dir, "%s", dir);
    k->keep = c->checkpoint.keep;
    k->first = first;
    k->workers = workers;
    checkpoint_sweep(dir);
    return STATUS_OK;
}

static void forget(keeper *k)
{
    free(k->body);
    free(k->offset);
    free(k->pieces);
    k->body = NULL;
    k->offset = NULL;
    k->pieces = NULL;
    k->busy = k->asked = k->placed = k->committing = false;
    atomic_store(&k->ended, false);
    k->n_pieces = k->came = 0;
    k->stall_s = 0;
    k->why = (failure){.code = STATUS_OK};
}

void keeper_close(keeper **k)
{
    if (!*k)
        return;
    if ((*k)->committing)
        pthread_join((*k)->thread, NULL);
    else if ((*k)->busy && (*k)->placed)
        checkpoint_discard((*k)->dir, (*k)->head.step);
    forget(*k);
    free(*k);
    *k = NULL;
}

static void note(keeper *k, status st)
{
    if (st != STATUS_OK && k->why.code == STATUS_OK)
        k->why = *failure_last();
}

static status tell_all(const keeper *k, comm *world, int tag, const void *data, size_t bytes)
{
    for (int w = 0; w < k->workers; w++)
        TRY(comm_post(world, k->first + w, tag, data, bytes));
    return STATUS_OK;
}

static status tell_place(const keeper *k, comm *world)
{
    const save_place head = {.step = k->q.step, .n = k->q.n};
    const size_t offsets = (size_t)k->q.n * sizeof *k->offset;
    char *text = malloc(sizeof head + offsets);
    if (!text)
        return fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    memcpy(text, &head, sizeof head);
    memcpy(text + sizeof head, k->offset, offsets);
    const status st = tell_all(k, world, TAG_PLACE, text, sizeof head + offsets);
    free(text);
    return st;
}

/* ---- what comes ---- */

static status take_request(keeper *k, comm *world)
{
    int from = 0;
    size_t bytes = 0;
    if (k->busy)
        return STATUS_OK;
    if (!k->asked) {
        TRY(comm_poll(world, &from, TAG_SAVE, &k->q, sizeof k->q, &bytes));
        if (bytes == 0)
            return STATUS_OK;
        k->asked = true;
        k->start_s = clock_monotonic_s();
        k->body = malloc((size_t)k->q.n * sizeof *k->tensors +
                         (size_t)(k->q.config_bytes + k->q.state_bytes));
        k->offset = calloc((size_t)k->q.n + 1, sizeof *k->offset);
        k->pieces = calloc((size_t)(k->q.n * k->workers) + 1, sizeof *k->pieces);
        if (!k->body || !k->offset || !k->pieces)
            return fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    }
    const size_t list = (size_t)k->q.n * sizeof *k->tensors;
    const size_t size = list + (size_t)(k->q.config_bytes + k->q.state_bytes);
    TRY(comm_poll(world, &from, TAG_SAVE_BODY, k->body, size, &bytes));
    if (bytes == 0)
        return STATUS_OK;
    k->asked = false;
    k->busy = true;
    k->tensors = (checkpoint_tensor *)(void *)k->body;
    k->head = (checkpoint_header){.step = k->q.step,
                                  .stage = k->q.stage,
                                  .ranks = k->q.ranks,
                                  .config = k->body + list,
                                  .state = k->body + list + k->q.config_bytes};
    const status st = checkpoint_lay_out(k->dir, &k->head, k->tensors, k->q.n, k->offset);
    note(k, st);
    k->placed = st == STATUS_OK;
    return k->placed ? tell_place(k, world) : STATUS_OK;
}

static status take_written(keeper *k, comm *world)
{
    const size_t size = sizeof(save_written) + (size_t)k->q.n * sizeof *k->pieces;
    int from = 0;
    size_t bytes = 0;
    char *text = malloc(size);
    if (!text)
        return fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    status st = comm_poll(world, &from, TAG_WRITTEN, text, size, &bytes);
    if (st == STATUS_OK && bytes > 0) {
        save_written *w = (save_written *)(void *)text;
        if (w->code != STATUS_OK)
            note(k, fail(w->code, "%s", w->text));
        k->stall_s = w->stall_s > k->stall_s ? w->stall_s : k->stall_s;
        if (w->n > 0)
            memcpy(k->pieces + k->n_pieces, text + sizeof *w, (size_t)w->n * sizeof *k->pieces);
        k->n_pieces += w->n;
        k->came++;
    }
    free(text);
    return st;
}

status keeper_poll(keeper *k, comm *world, keeper_state *state)
{
    *state = KEEPER_NOTHING;
    TRY(take_request(k, world));
    if (k->busy && k->placed && k->came < k->workers)
        TRY(take_written(k, world));
    if (!k->busy)
        return STATUS_OK;
    if (k->committing ? atomic_load(&k->ended) : !k->placed)
        *state = KEEPER_ENDED;
    else if (!k->committing && k->came == k->workers)
        *state = KEEPER_WRITTEN;
    return STATUS_OK;
}

/* ---- the end ---- */

/* `latest` and `best` come after the checkpoint: a job that dies between leaves one that counts. */
static status commit(keeper *k)
{
    int64_t removed = 0;
    for (int i = 0; i < k->n_files; i++)
        if (fsync(k->files[i]) != 0 && errno != EINVAL)
            return fail(STATUS_RESOURCE, "%s: fsync of the journals: %s; look at the disk", k->dir,
                        strerror(errno));
    TRY(checkpoint_commit(k->dir, &k->head, k->tensors, k->q.n, k->pieces, k->n_pieces));
    TRY(checkpoint_point(k->dir, "latest", k->head.step));
    if (k->q.best)
        TRY(checkpoint_point(k->dir, "best", k->head.step));
    if (checkpoint_prune(k->dir, k->keep, &removed) != STATUS_OK)
        log_warning("%s", failure_last()->text);
    return STATUS_OK;
}

static void *work(void *argument)
{
    keeper *k = argument;
    sigset_t all; /* signals are for others */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    if (k->why.code == STATUS_OK)
        note(k, commit(k));
    else
        checkpoint_discard(k->dir, k->head.step);
    atomic_store(&k->ended, true);
    return NULL;
}

status keeper_commit(keeper *k, const int *files, int n)
{
    k->n_files = n < FILES ? n : FILES;
    for (int i = 0; i < k->n_files; i++)
        k->files[i] = files[i];
    if (pthread_create(&k->thread, NULL, work, k) != 0)
        return fail(STATUS_RESOURCE, "checkpoint: the system gives no thread; look at ulimit -u");
    k->committing = true;
    return STATUS_OK;
}

status keeper_end(keeper *k, comm *world, keeper_news *news)
{
    if (k->committing)
        pthread_join(k->thread, NULL);
    *news = (keeper_news){.step = k->head.step, .committed = k->why.code == STATUS_OK};
    if (news->committed)
        snprintf(news->detail, sizeof news->detail,
                 "checkpoints/step-%07lld.h5 in %.0f ms, training stood still for %.1f ms",
                 (long long)k->head.step, 1e3 * (clock_monotonic_s() - k->start_s),
                 1e3 * k->stall_s);
    else
        snprintf(news->detail, sizeof news->detail, "%.470s", k->why.text);
    save_end e = {.step = k->head.step, .code = k->why.code};
    memcpy(e.text, k->why.text, sizeof e.text);
    forget(k);
    return tell_all(k, world, TAG_SAVED, &e, sizeof e);
}
