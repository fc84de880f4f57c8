/* The writing thread: see save_writer.h. Neither HDF5 nor MPI is called here: neither may be used
 * beside the thread that trains. */
#include "runtime/train/save_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define SITES_AT_ONCE 65536

typedef struct {
    int64_t tensor, bytes;
    char *copy;
    size_t room;
} dense_part;

/* The sum over a column of a table, in the file's order; blocks come in any. */
typedef struct {
    int64_t tensor, at, bytes;
    uint32_t crc;
} block_sum;

struct save_writer {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool running, stop, started, cancelled, done, idle;
    char path[1100];
    int64_t *offset;
    int64_t tensors;

    dense_part *dense;
    int64_t n_dense;
    const dataset *d;
    int64_t sites, site_from, site_to;

    save_block *head, *tail, *spare;
    int64_t expected, taken, staged, moved; /* blocks, blocks, bytes, bytes */
    block_sum *sums;
    int64_t n_sums, room_sums;

    checkpoint_piece *pieces;
    int64_t n_pieces;
    failure why;
};

static status no_memory(void)
{
    return fail(STATUS_MEMORY, "checkpoint: no memory for copies; use more workers or memory");
}

/* ---- the thread ---- */

static status put_all(save_writer *w, int fd, const void *data, int64_t bytes, int64_t at)
{
    for (const char *p = data; bytes > 0;) {
        const ssize_t n = pwrite(fd, p, (size_t)bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(STATUS_RESOURCE, "%s: %s; look at free space and quota", w->path,
                        strerror(errno));
        p += n;
        at += n;
        bytes -= n;
        pthread_mutex_lock(&w->lock);
        w->moved += n;
        pthread_mutex_unlock(&w->lock);
    }
    return STATUS_OK;
}

static uint32_t sum_of(const void *data, int64_t bytes)
{
    return (uint32_t)crc32_z(crc32(0, NULL, 0), data, (size_t)bytes);
}

static bool goes_on(save_writer *w)
{
    pthread_mutex_lock(&w->lock);
    const bool yes = !w->stop && !w->cancelled;
    pthread_mutex_unlock(&w->lock);
    return yes;
}

static status write_dense(save_writer *w, int fd)
{
    for (int64_t i = 0; i < w->n_dense && goes_on(w); i++) {
        const dense_part *p = &w->dense[i];
        TRY(put_all(w, fd, p->copy, p->bytes, w->offset[p->tensor]));
        w->pieces[w->n_pieces++] =
            (checkpoint_piece){w->offset[p->tensor], p->bytes, sum_of(p->copy, p->bytes)};
    }
    return STATUS_OK;
}

/* The data set does not change: its sites are read here. */
static status write_sites(save_writer *w, int fd)
{
    const int64_t n = w->site_to - w->site_from;
    if (n == 0)
        return STATUS_OK;
    int32_t *position = malloc(SITES_AT_ONCE * sizeof *position);
    uint8_t *alleles = malloc(SITES_AT_ONCE);
    const int64_t at = w->offset[w->sites] + 4 * w->site_from,
                  beside = w->offset[w->sites + 1] + w->site_from;
    uLong sum = crc32(0, NULL, 0), sum_beside = crc32(0, NULL, 0);
    status st = position && alleles ? STATUS_OK : no_memory();
    for (int64_t i = 0; i < n && st == STATUS_OK && goes_on(w); i += SITES_AT_ONCE) {
        const int64_t m = n - i < SITES_AT_ONCE ? n - i : SITES_AT_ONCE;
        for (int64_t k = 0; k < m; k++) {
            const site *x = &w->d->sites[w->site_from + i + k];
            position[k] = x->position;
            alleles[k] = (uint8_t)(x->ref | x->alts << 2);
        }
        sum = crc32(sum, (const Bytef *)position, (uInt)(4 * m));
        sum_beside = crc32(sum_beside, alleles, (uInt)m);
        st = put_all(w, fd, position, 4 * m, at + 4 * i);
        if (st == STATUS_OK)
            st = put_all(w, fd, alleles, m, beside + i);
    }
    w->pieces[w->n_pieces++] = (checkpoint_piece){at, 4 * n, (uint32_t)sum};
    w->pieces[w->n_pieces++] = (checkpoint_piece){beside, n, (uint32_t)sum_beside};
    free(position);
    free(alleles);
    return st;
}

static status write_block(save_writer *w, int fd, const save_block *b)
{
    const char *data = b->data;
    if (b->rows == 0)
        return STATUS_OK;
    if (w->n_sums + 5 > w->room_sums) {
        const int64_t room = 2 * w->room_sums + 64;
        block_sum *more = realloc(w->sums, (size_t)room * sizeof *more);
        if (!more)
            return no_memory();
        w->sums = more;
        w->room_sums = room;
    }
    for (int c = 0; c < 5; c++) {
        const int64_t bytes = b->rows * (int64_t)b->width[c];
        const int64_t at = w->offset[b->tensor + c] + b->first * (int64_t)b->width[c];
        TRY(put_all(w, fd, data, bytes, at));
        w->sums[w->n_sums++] = (block_sum){b->tensor + c, at, bytes, sum_of(data, bytes)};
        data += bytes;
    }
    return STATUS_OK;
}

static save_block *next_block(save_writer *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->head && !w->stop && !w->cancelled && w->taken < w->expected)
        pthread_cond_wait(&w->changed, &w->lock);
    save_block *b = w->stop || w->cancelled ? NULL : w->head;
    if (b) {
        w->head = b->next;
        w->taken++;
    }
    pthread_mutex_unlock(&w->lock);
    return b;
}

static void give_back(save_writer *w, save_block *b)
{
    pthread_mutex_lock(&w->lock);
    w->staged -= (int64_t)b->room;
    b->next = w->spare;
    w->spare = b;
    pthread_mutex_unlock(&w->lock);
}

static status write_blocks(save_writer *w, int fd)
{
    for (save_block *b; (b = next_block(w)) != NULL;) {
        const status st = write_block(w, fd, b);
        give_back(w, b);
        TRY(st);
    }
    return STATUS_OK;
}

static int by_place(const void *a, const void *b)
{
    const block_sum *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* A worker's rows of one column lie one behind the other: one piece. */
static void join_sums(save_writer *w)
{
    if (w->n_sums > 1)
        qsort(w->sums, (size_t)w->n_sums, sizeof *w->sums, by_place);
    int64_t tensor = -1;
    for (int64_t i = 0; i < w->n_sums; i++) {
        const block_sum *s = &w->sums[i];
        if (s->tensor != tensor)
            w->pieces[w->n_pieces++] = (checkpoint_piece){s->at, 0, 0};
        tensor = s->tensor;
        checkpoint_piece *p = &w->pieces[w->n_pieces - 1];
        p->crc = (uint32_t)crc32_combine(p->crc, s->crc, (z_off_t)s->bytes);
        p->bytes += s->bytes;
    }
}

static status write_file(save_writer *w)
{
    const int fd = open(w->path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(STATUS_RESOURCE, "%s: %s; put the run directory where every node can write it",
                    w->path, strerror(errno));
    status st = write_dense(w, fd);
    if (st == STATUS_OK)
        st = write_sites(w, fd);
    if (st == STATUS_OK)
        st = write_blocks(w, fd);
    if (st == STATUS_OK && goes_on(w) && fsync(fd) != 0)
        st = fail(STATUS_RESOURCE, "%s: fsync: %s; look at free space and quota", w->path,
                  strerror(errno));
    if (close(fd) != 0 && st == STATUS_OK)
        st =
            fail(STATUS_RESOURCE, "%s: %s; look at free space and quota", w->path, strerror(errno));
    if (st == STATUS_OK)
        join_sums(w);
    return st;
}

static void *work(void *argument)
{
    save_writer *w = argument;
    sigset_t all; /* signals are for others */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_mutex_lock(&w->lock);
    for (;;) {
        w->idle = true;
        pthread_cond_broadcast(&w->changed);
        while (!w->stop && !w->started)
            pthread_cond_wait(&w->changed, &w->lock);
        if (w->stop)
            break;
        w->started = false;
        w->idle = false;
        pthread_mutex_unlock(&w->lock);
        const status st = write_file(w);
        pthread_mutex_lock(&w->lock);
        w->why = (failure){.code = STATUS_OK};
        if (st != STATUS_OK)
            w->why = *failure_last();
        w->done = true;
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- from the thread that trains ---- */

status save_writer_open(int64_t tensors, const dataset *d, save_writer **out)
{
    *out = NULL;
    save_writer *w = calloc(1, sizeof *w);
    if (!w)
        return no_memory();
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->d = d;
    w->tensors = tensors;
    w->offset = calloc((size_t)tensors, sizeof *w->offset);
    w->dense = calloc((size_t)tensors, sizeof *w->dense);
    w->pieces = calloc((size_t)tensors + 2, sizeof *w->pieces);
    status st = w->offset && w->dense && w->pieces ? STATUS_OK : no_memory();
    if (st == STATUS_OK && pthread_create(&w->thread, NULL, work, w) != 0)
        st = fail(STATUS_RESOURCE, "checkpoint: the system gives no thread; look at ulimit -u");
    w->running = st == STATUS_OK;
    if (st != STATUS_OK)
        save_writer_close(&w);
    *out = w;
    return st;
}

static void free_blocks(save_block *b)
{
    while (b) {
        save_block *next = b->next;
        free(b->data);
        free(b);
        b = next;
    }
}

void save_writer_close(save_writer **writer)
{
    save_writer *w = *writer;
    if (!w)
        return;
    if (w->running) {
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        pthread_cond_broadcast(&w->changed);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    free_blocks(w->head);
    free_blocks(w->spare);
    for (int64_t i = 0; w->dense && i < w->tensors; i++)
        free(w->dense[i].copy);
    free(w->dense);
    free(w->offset);
    free(w->pieces);
    free(w->sums);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    free(w);
    *writer = NULL;
}

void save_writer_cancel(save_writer *w)
{
    pthread_mutex_lock(&w->lock);
    w->cancelled = true;
    w->started = false;
    pthread_cond_broadcast(&w->changed);
    while (!w->idle)
        pthread_cond_wait(&w->changed, &w->lock);
    while (w->head) {
        save_block *b = w->head;
        w->head = b->next;
        w->staged -= (int64_t)b->room;
        b->next = w->spare;
        w->spare = b;
    }
    pthread_mutex_unlock(&w->lock);
}

status save_writer_begin(save_writer *w)
{
    save_writer_cancel(w);
    w->cancelled = w->done = false;
    w->n_dense = w->n_sums = w->n_pieces = 0;
    w->expected = w->taken = 0;
    return STATUS_OK;
}

status save_writer_dense(save_writer *w, int64_t tensor, int64_t bytes, void **to)
{
    dense_part *p = &w->dense[w->n_dense];
    if ((size_t)bytes > p->room) {
        free(p->copy);
        p->room = 0;
        p->copy = malloc((size_t)bytes);
        if (!p->copy)
            return no_memory();
        p->room = (size_t)bytes;
    }
    p->tensor = tensor;
    p->bytes = bytes;
    w->n_dense++;
    *to = p->copy;
    return STATUS_OK;
}

void save_writer_sites(save_writer *w, int64_t tensor, int64_t from, int64_t to)
{
    w->sites = tensor;
    w->site_from = from;
    w->site_to = to;
}

void save_writer_expect(save_writer *w, int64_t blocks)
{
    w->expected = blocks;
}

/* The first spare block that is large enough, else a new one. */
status save_writer_block(save_writer *w, size_t bytes, save_block **out)
{
    *out = NULL;
    pthread_mutex_lock(&w->lock);
    const bool wanted = !w->cancelled && !w->done;
    save_block **at = &w->spare;
    while (wanted && *at && (*at)->room < bytes)
        at = &(*at)->next;
    save_block *b = wanted ? *at : NULL;
    if (b)
        *at = b->next;
    pthread_mutex_unlock(&w->lock);
    if (!wanted || b) {
        *out = b;
        return STATUS_OK;
    }
    b = calloc(1, sizeof *b);
    if (b)
        b->data = malloc(bytes + 1);
    if (!b || !b->data) {
        free(b);
        return no_memory();
    }
    b->room = bytes;
    *out = b;
    return STATUS_OK;
}

void save_writer_put(save_writer *w, save_block *b)
{
    pthread_mutex_lock(&w->lock);
    b->next = NULL;
    if (w->head)
        w->tail->next = b;
    else
        w->head = b;
    w->tail = b;
    w->staged += (int64_t)b->room;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

int64_t save_writer_staged(save_writer *w)
{
    pthread_mutex_lock(&w->lock);
    const int64_t staged = w->staged;
    pthread_mutex_unlock(&w->lock);
    return staged;
}

void save_writer_start(save_writer *w, const char *path, const int64_t *offset, int64_t n)
{
    pthread_mutex_lock(&w->lock);
    snprintf(w->path, sizeof w->path, "%s", path);
    memcpy(w->offset, offset, (size_t)n * sizeof *offset);
    w->started = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

bool save_writer_done(save_writer *w, const checkpoint_piece **pieces, int64_t *n, failure *why)
{
    pthread_mutex_lock(&w->lock);
    const bool done = w->done;
    *pieces = w->pieces;
    *n = done && w->why.code == STATUS_OK ? w->n_pieces : 0;
    *why = w->why;
    pthread_mutex_unlock(&w->lock);
    return done;
}

int64_t save_writer_moved(save_writer *w)
{
    pthread_mutex_lock(&w->lock);
    const int64_t moved = w->moved;
    pthread_mutex_unlock(&w->lock);
    return moved;
}
