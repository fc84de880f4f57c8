/* Who is lost: see watch.h. */
#include "runtime/train/watch.h"

#include "runtime/core/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_S 0.2

typedef struct {
    seat who;
    bool local; /* a process that can be seen from here */
    bool seen;  /* it has sent a beat */
    double last_s;
    beat b;
} worker;

struct watch {
    pthread_mutex_t lock;
    int n, first;
    double looked_s;
    worker w[];
};

/* State letter of a process, 0: it is not there. */
static char state_of(int64_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    const size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *end = strrchr(text, ')'); /* the name may hold anything */
    return end && end[1] == ' ' ? end[2] : 0;
}

status watch_open(const seat *seats, int workers, int first, const char *host, watch **out)
{
    watch *w = calloc(1, sizeof *w + (size_t)workers * sizeof *w->w);
    *out = w;
    if (!w)
        return fail(STATUS_MEMORY, "coordinator: no memory; use more memory");
    pthread_mutex_init(&w->lock, NULL);
    w->n = workers;
    w->first = first;
    for (int i = 0; i < workers; i++) {
        w->w[i].who = seats[i];
        w->w[i].local = strcmp(seats[i].host, host) == 0 && state_of(seats[i].pid) != 0;
    }
    return STATUS_OK;
}

void watch_close(watch **w)
{
    if (*w)
        pthread_mutex_destroy(&(*w)->lock);
    free(*w);
    *w = NULL;
}

void watch_beat(watch *w, const beat *b)
{
    if (b->worker < 0 || b->worker >= w->n)
        return;
    pthread_mutex_lock(&w->lock);
    worker *x = &w->w[b->worker];
    x->b = *b;
    x->b.phase[sizeof x->b.phase - 1] = '\0';
    x->seen = true;
    x->last_s = clock_monotonic_s();
    pthread_mutex_unlock(&w->lock);
}

status watch_poll(watch *w, comm *world)
{
    for (;;) {
        beat b;
        int from = 0;
        size_t bytes = 0;
        TRY(comm_poll(world, &from, TAG_BEAT, &b, sizeof b, &bytes));
        if (bytes != sizeof b)
            return STATUS_OK;
        watch_beat(w, &b);
    }
}

static void tell(const watch *w, int i, const char *what, watch_loss *loss)
{
    const worker *x = &w->w[i];
    *loss = (watch_loss){.worker = i, .rank = w->first + i, .step = x->b.step};
    snprintf(loss->host, sizeof loss->host, "%s", x->who.host);
    if (x->seen)
        snprintf(loss->detail, sizeof loss->detail,
                 "worker %d (rank %d, process %lld) on %s %s in step %lld, phase %s", i,
                 w->first + i, (long long)x->who.pid, x->who.host, what, (long long)x->b.step,
                 x->b.phase);
    else
        snprintf(loss->detail, sizeof loss->detail,
                 "worker %d (rank %d, process %lld) on %s %s before its first step", i,
                 w->first + i, (long long)x->who.pid, x->who.host, what);
}

static bool is_gone(char state)
{
    return state == 0 || state == 'Z' || state == 'X';
}

static bool is_stopped(char state)
{
    return state == 'T' || state == 't';
}

static bool look_for_dead(const watch *w, watch_loss *loss)
{
    for (int i = 0; i < w->n; i++) {
        if (!w->w[i].local)
            continue;
        if (is_gone(state_of(w->w[i].who.pid))) {
            tell(w, i, "died", loss);
            return true;
        }
    }
    return false;
}

/* Workers wait for each other, so that one that hangs silences all: it is the one that is stopped,
 * else the one that has met the others least often, else the one that was heard least recently. */
static int culprit(const watch *w, bool *stopped)
{
    int found = 0;
    for (int i = 0; i < w->n; i++) {
        *stopped = w->w[i].local && is_stopped(state_of(w->w[i].who.pid));
        if (*stopped)
            return i;
        const worker *x = &w->w[i], *y = &w->w[found];
        if (x->b.met < y->b.met || (x->b.met == y->b.met && x->last_s < y->last_s))
            found = i;
    }
    return found;
}

static bool look(watch *w, int self, watch_loss *loss)
{
    const double now_s = clock_monotonic_s();
    if (now_s - w->looked_s < LOOK_S)
        return false;
    w->looked_s = now_s;
    if (look_for_dead(w, loss))
        return true;
    bool silent = false, stopped = false;
    for (int i = 0; i < w->n; i++) {
        const worker *x = &w->w[i];
        silent |= (self < 0 || self == i) && x->seen && x->b.quiet_s > 0 &&
                  now_s - x->last_s > x->b.quiet_s;
    }
    if (!silent)
        return false;
    const int i = culprit(w, &stopped);
    char what[96];
    snprintf(what, sizeof what, "%s: nothing came from it for %.0f s",
             stopped ? "is stopped" : "does not go on", now_s - w->w[i].last_s);
    tell(w, i, what, loss);
    return true;
}

bool watch_look(watch *w, int self, watch_loss *loss)
{
    pthread_mutex_lock(&w->lock);
    const bool lost = look(w, self, loss);
    pthread_mutex_unlock(&w->lock);
    return lost;
}

int watch_workers(const watch *w)
{
    return w->n;
}

void watch_view_of(watch *w, int i, watch_view *v)
{
    pthread_mutex_lock(&w->lock);
    const worker *x = &w->w[i];
    const char state = x->local ? state_of(x->who.pid) : 'S';
    *v = (watch_view){.who = x->who,
                      .rank = w->first + i,
                      .heard = x->seen,
                      .stopped = is_stopped(state),
                      .gone = is_gone(state),
                      .ago_s = clock_monotonic_s() - x->last_s,
                      .b = x->b};
    v->b.worker = i;
    pthread_mutex_unlock(&w->lock);
}
