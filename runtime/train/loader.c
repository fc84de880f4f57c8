/* The loader: see loader.h. Two feeds change hands: the loop reads one, the thread fills the other.
 * An error in the thread travels to the loop as a value. */
#include "runtime/train/loader.h"

#include "runtime/train/deal.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct loader {
    loader_source source;
    feed feeds[2];
    int64_t next; /* step that the thread makes or has made */
    bool ready;   /* feeds[next & 1] holds step `next` */
    bool stop;
    status st;
    failure why;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

/* This worker's windows of sequences: places of the batch are slots. */
static status make_bases(const loader_source *source, int64_t step, const stage *now, feed *into,
                         share mine)
{
    for (int64_t i = 0; i < mine.count; i++) {
        const base_window w = sequence_draws_train(source->bases->draws, step + source->shift,
                                                   mine.first + i, now->seq_len);
        if (w.sequence < 0)
            return fail(STATUS_DATA,
                        "%s: no window of %lld bases of a training sequence is known by half (A C "
                        "G T); lower data.seq_len (or the stage's)",
                        source->data->path, (long long)now->seq_len);
        TRY(feed_put_bases(into, i, source->bases, &w, source->classify));
    }
    return STATUS_OK;
}

status loader_make(const loader_source *source, int64_t step, feed *into)
{
    const stage *now = schedule_stage(source->plan, step);
    const sharing_place at = sharing_place_of(source->workers, source->worker, source->sharers);
    const share mine = deal_share(now->slots, at.groups, at.group);
    if (into->L != now->seq_len || into->room < mine.count) {
        feed_close(into);
        TRY(feed_open(mine.count, now->seq_len, source->spans, into));
    }
    into->n = mine.count;
    into->first = mine.first;
    into->predicted = 0;
    if (source->bases)
        return make_bases(source, step, now, into, mine);
    const bool augment = draws_augments(source->draws, step, source->plan->steps);
    for (int64_t i = 0; i < mine.count; i++) {
        const int64_t slot = deal_slot(now->slots, source->shards, mine.first + i);
        TRY(draws_make(source->draws, step + source->shift, slot, now->seq_len, augment,
                       &into->scratch));
        if (into->scratch.count == 0)
            return fail(STATUS_DATA,
                        "%s: no training person has a window of %lld carried sites; lower "
                        "data.seq_len (or the stage's)",
                        source->data->path, (long long)now->seq_len);
        TRY(feed_put(into, i, source->data, &into->scratch, source->classify));
        if (source->both && (slot + step + source->shift) % 2)
            feed_reverse(into, i);
    }
    return STATUS_OK;
}

static void *work(void *argument)
{
    loader *l = argument;
    sigset_t all; /* signals are for the loop's thread: its system calls must see them */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->stop && (l->ready || l->next >= l->source.end))
            pthread_cond_wait(&l->changed, &l->lock);
        if (l->stop)
            break;
        const int64_t step = l->next;
        pthread_mutex_unlock(&l->lock);
        status st = loader_make(&l->source, step, &l->feeds[step & 1]);
        pthread_mutex_lock(&l->lock);
        l->st = st;
        if (st != STATUS_OK)
            l->why = *failure_last();
        l->ready = true;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

status loader_open(const loader_source *source, int64_t step, loader **out)
{
    *out = NULL;
    loader *l = calloc(1, sizeof *l);
    if (!l)
        return fail(STATUS_MEMORY, "loader: no memory; use more memory");
    l->source = *source;
    l->next = step;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (pthread_create(&l->thread, NULL, work, l) != 0) {
        loader_close(&l);
        return fail(STATUS_RESOURCE, "loader: the system gives no thread; look at ulimit -u");
    }
    l->running = true;
    *out = l;
    return STATUS_OK;
}

void loader_close(loader **l)
{
    if (!*l)
        return;
    if ((*l)->running) {
        pthread_mutex_lock(&(*l)->lock);
        (*l)->stop = true;
        pthread_cond_broadcast(&(*l)->changed);
        pthread_mutex_unlock(&(*l)->lock);
        pthread_join((*l)->thread, NULL);
    }
    pthread_mutex_destroy(&(*l)->lock);
    pthread_cond_destroy(&(*l)->changed);
    feed_close(&(*l)->feeds[0]);
    feed_close(&(*l)->feeds[1]);
    free(*l);
    *l = NULL;
}

status loader_next(loader *l, int64_t step, const feed **out)
{
    *out = NULL;
    pthread_mutex_lock(&l->lock);
    status st = STATUS_OK;
    if (step != l->next || step >= l->source.end)
        st = fail(STATUS_INTERNAL, "loader: step %lld was asked for, %lld comes next",
                  (long long)step, (long long)l->next);
    while (st == STATUS_OK && !l->ready)
        pthread_cond_wait(&l->changed, &l->lock);
    if (st == STATUS_OK && l->st != STATUS_OK)
        st = failure_set(&l->why);
    if (st == STATUS_OK) {
        *out = &l->feeds[step & 1];
        l->next = step + 1; /* into the other feed, whose reader is done with it */
        l->ready = false;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return st;
}
