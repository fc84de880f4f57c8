/* Checkpoints beside training, a worker's half: what is copied and when; see saver.h. */
#include "runtime/train/saver.h"

#include "runtime/core/log.h"
#include "runtime/train/model_file.h"
#include "runtime/train/model_sites.h"
#include "runtime/train/save.h"
#include "runtime/train/save_writer.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES (1 << 20)     /* of rows copied at once: some 0.1 ms */
#define STAGED_BYTES (64ll << 20) /* copies that wait for the disk; more only where they must */
#define OWNER_ROWS 64             /* neighbouring rows have one owner */

/* The rows of a table as they stood. */
typedef struct {
    int tensor;       /* of rows/I/row; p, m, v and last follow */
    int64_t slots, k; /* at that moment */
    int64_t per_block, blocks;
    int64_t first;   /* rows of the file before this worker's */
    int64_t own;     /* rows of this worker's */
    int64_t counted; /* slots whose owners are counted: those never change */
    int64_t *owned;  /* (workers) */
    int64_t *before; /* (block_room) this worker's rows before each block */
    int64_t block_room;
    uint8_t *copied;           /* (blocks) */
    int64_t copied_room, next; /* no block before `next` is missing */
} table_part;

struct saver {
    saver_place at;
    bool busy, placed, told;
    int64_t step, n;
    checkpoint_tensor *tensors;
    int64_t room;
    table_part table[ROW_TABLES];
    int tables;
    int64_t missing; /* blocks that are to be copied */
    double stall_s;
    void *scratch; /* a block as it lies in the table */
    save_writer *writer;
    char *place; /* room for the message that says where this one lies in the file */
    bool early;  /* it holds that of the next one, come before this one's end was heard */
    failure end;
};

status saver_open(const saver_place *at, saver **out)
{
    const parameter *list = NULL;
    *out = NULL;
    saver *s = calloc(1, sizeof *s);
    if (!s)
        return fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    s->at = *at;
    s->room = 3 * model_parameters(at->m, &list) + 5 * ROW_TABLES + 1 + SITE_TENSORS;
    s->tensors = calloc((size_t)s->room, sizeof *s->tensors);
    s->place = calloc(1, sizeof(save_place) + (size_t)s->room * sizeof(int64_t));
    status st = s->tensors && s->place
                    ? save_writer_open(s->room, at->d, &s->writer)
                    : fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    if (st != STATUS_OK) {
        saver_close(&s);
        return st;
    }
    *out = s;
    return STATUS_OK;
}

void saver_close(saver **s)
{
    if (!*s)
        return;
    save_writer_close(&(*s)->writer);
    for (int i = 0; i < ROW_TABLES; i++) {
        free((*s)->table[i].owned);
        free((*s)->table[i].before);
        free((*s)->table[i].copied);
    }
    free((*s)->tensors);
    free((*s)->scratch);
    free((*s)->place);
    free(*s);
    *s = NULL;
}

/* ---- who writes what ---- */

static int owner_of(const saver *s, int64_t row)
{
    return (int)(row / OWNER_ROWS % s->at.workers);
}

static status no_memory(int64_t slots)
{
    return fail(STATUS_MEMORY,
                "checkpoint: no memory for the account of %lld rows; use more "
                "workers",
                (long long)slots);
}

static status grow(void **at, int64_t *room, int64_t need, size_t width)
{
    if (need <= *room)
        return STATUS_OK;
    void *more = realloc(*at, (size_t)(2 * need) * width);
    if (!more)
        return no_memory(need);
    *at = more;
    *room = 2 * need;
    return STATUS_OK;
}

/* Counts the owners of rows that came since the last time. */
static status count_owners(saver *s, table_part *p, const row_table *t)
{
    const int64_t blocks = t->slots / p->per_block + 1;
    if (!p->owned)
        p->owned = calloc((size_t)s->at.workers, sizeof *p->owned);
    if (!p->owned)
        return no_memory(t->slots);
    void *before = p->before;
    TRY(grow(&before, &p->block_room, blocks + 1, sizeof *p->before));
    p->before = before;
    for (int64_t i = p->counted; i < t->slots; i++) {
        if (i % p->per_block == 0)
            p->before[i / p->per_block] = p->owned[s->at.worker];
        p->owned[owner_of(s, t->row[i])]++;
    }
    p->counted = t->slots;
    return STATUS_OK;
}

static status table_begin(saver *s, table_part *p, const row_table *t, int tensor)
{
    const int64_t width = 2 * (int64_t)sizeof(int64_t) + 3 * t->k * (int64_t)sizeof(float);
    p->tensor = tensor;
    p->slots = t->slots;
    p->k = t->k;
    if (!p->per_block)
        p->per_block = (s->at.block_bytes > 0 ? s->at.block_bytes : BLOCK_BYTES) / width + 1;
    p->blocks = (t->slots + p->per_block - 1) / p->per_block;
    TRY(count_owners(s, p, t));
    p->first = 0;
    for (int w = 0; w < s->at.worker; w++)
        p->first += p->owned[w];
    p->own = p->owned[s->at.worker];
    void *copied = p->copied;
    TRY(grow(&copied, &p->copied_room, p->blocks + 1, sizeof *p->copied));
    p->copied = copied;
    memset(p->copied, 0, (size_t)p->blocks);
    p->next = 0;
    s->missing += p->blocks;
    return STATUS_OK;
}

/* Whole dense tensors are dealt by the middle of their bytes. */
static int dealt_to(const saver *s, int64_t middle, int64_t total)
{
    return total > 0 ? (int)((double)middle / (double)total * s->at.workers) : 0;
}

static bool is_dense(const checkpoint_tensor *t)
{
    return t->data != NULL;
}

static status copy_dense(saver *s)
{
    int64_t total = 0, at = 0;
    for (int64_t i = 0; i < s->n; i++)
        total += is_dense(&s->tensors[i]) ? checkpoint_tensor_bytes(&s->tensors[i]) : 0;
    for (int64_t i = 0; i < s->n; i++) {
        const checkpoint_tensor *t = &s->tensors[i];
        if (!is_dense(t))
            continue;
        const int64_t bytes = checkpoint_tensor_bytes(t);
        if (bytes > 0 && dealt_to(s, at + bytes / 2, total) == s->at.worker) {
            void *to = NULL;
            TRY(save_writer_dense(s->writer, i, bytes, &to));
            if (strcmp(t->name, "rows/lr") == 0) /* the host's, whatever the device */
                memcpy(to, t->data, (size_t)bytes);
            else
                TRY(device_download(model_device(s->at.m), to, t->data, (size_t)bytes));
        }
        at += bytes;
    }
    return STATUS_OK;
}

/* Every tensor by name and shape; data of the dense ones alone. */
static status list_tensors(saver *s)
{
    const optimizer *o = s->at.o;
    row_table *tables[ROW_TABLES];
    s->missing = 0;
    model_tensors(s->at.m, o->first, o->second, o->rows_rate, s->step, s->tensors,
                  s->room - SITE_TENSORS, &s->n);
    s->tables = model_position(s->at.m) ? position_tables(model_position(s->at.m), tables) : 0;
    int64_t at = 0;
    for (int i = 0; i < s->tables; i++) {
        while (at < s->n && strncmp(s->tensors[at].name, "rows/", 5) != 0)
            at++;
        TRY(table_begin(s, &s->table[i], tables[i], (int)at));
        for (int k = 0; k < 5; k++)
            s->tensors[at++].data = NULL;
    }
    const site_columns none = {0};
    site_columns_tensors(s->at.d, &none, s->tensors + s->n);
    save_writer_sites(s->writer, s->n, s->at.d->n_sites * s->at.worker / s->at.workers,
                      s->at.d->n_sites * (s->at.worker + 1) / s->at.workers);
    s->n += SITE_TENSORS;
    return STATUS_OK;
}

/* ---- asking ---- */

static status ask(const saver *s, const checkpoint_header *h, bool best)
{
    const save_request q = {.step = h->step,
                            .stage = h->stage,
                            .n = s->n,
                            .config_bytes = (int64_t)strlen(h->config) + 1,
                            .state_bytes = (int64_t)strlen(h->state) + 1,
                            .ranks = h->ranks,
                            .best = best};
    const size_t list = (size_t)s->n * sizeof *s->tensors;
    char *body = malloc(list + (size_t)(q.config_bytes + q.state_bytes));
    if (!body)
        return fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    memcpy(body, s->tensors, list);
    memcpy(body + list, h->config, (size_t)q.config_bytes);
    memcpy(body + list + q.config_bytes, h->state, (size_t)q.state_bytes);
    status st = comm_post(s->at.world, s->at.home, TAG_SAVE, &q, sizeof q);
    if (st == STATUS_OK)
        st = comm_post(s->at.world, s->at.home, TAG_SAVE_BODY, body,
                       list + (size_t)(q.config_bytes + q.state_bytes));
    free(body);
    return st;
}

status saver_take(saver *s, const checkpoint_header *h, bool best, double waited_s)
{
    const double start_s = clock_monotonic_s();
    if (s->busy)
        return fail(STATUS_INTERNAL, "checkpoint: one is under way still; report this");
    s->step = h->step;
    s->end = (failure){.code = STATUS_OK};
    TRY(save_writer_begin(s->writer));
    TRY(list_tensors(s));
    TRY(copy_dense(s));
    save_writer_expect(s->writer, s->missing);
    s->busy = true;
    s->placed = s->told = false;
    if (s->at.worker == 0)
        TRY(ask(s, h, best));
    s->stall_s = waited_s + clock_monotonic_s() - start_s;
    return STATUS_OK;
}

/* ---- rows ---- */

/* This worker's of n rows, out of columns as they lie in the table. */
static int64_t pick(const saver *s, const int64_t *row, const char *from, size_t width, int64_t n,
                    char *to)
{
    int64_t own = 0;
    for (int64_t i = 0; i < n; i++) {
        if (owner_of(s, row[i]) != s->at.worker)
            continue;
        memcpy(to + (size_t)own * width, from + (size_t)i * width, width);
        own++;
    }
    return own;
}

/* One column of a block, from slot `from` on. */
static status copy_column(saver *s, const row_table *t, int64_t from, int64_t n, const void *column,
                          size_t width, bool host, char *to)
{
    const char *there = (const char *)column + (size_t)from * width;
    if (host && s->at.workers == 1) {
        memcpy(to, there, (size_t)n * width);
        return STATUS_OK;
    }
    if (s->at.workers == 1)
        return device_download(model_device(s->at.m), to, there, (size_t)n * width);
    if (!host && !device_is_host(model_device(s->at.m))) {
        TRY(device_download(model_device(s->at.m), s->scratch, there, (size_t)n * width));
        there = s->scratch;
    }
    pick(s, t->row + from, there, width, n, to);
    return STATUS_OK;
}

static status copy_block(saver *s, int table, int64_t block)
{
    table_part *p = &s->table[table];
    if (p->copied[block])
        return STATUS_OK;
    p->copied[block] = 1;
    s->missing--;
    row_table *tables[ROW_TABLES];
    position_tables(model_position(s->at.m), tables);
    const row_table *t = tables[table];
    const int64_t from = block * p->per_block;
    const int64_t n = p->slots - from < p->per_block ? p->slots - from : p->per_block;
    const int64_t own = (block + 1 < p->blocks ? p->before[block + 1] : p->own) - p->before[block];
    const size_t wide = sizeof(int64_t), narrow = (size_t)p->k * sizeof(float);
    const void *column[5] = {t->row, t->p, t->m, t->v, t->last};
    save_block *b = NULL;
    TRY(save_writer_block(s->writer, (size_t)own * (2 * wide + 3 * narrow), &b));
    if (!b) /* writing has failed: nobody wants it */
        return STATUS_OK;
    if (!s->scratch && !device_is_host(model_device(s->at.m))) {
        s->scratch = malloc((size_t)p->per_block * (narrow > wide ? narrow : wide));
        if (!s->scratch)
            return no_memory(p->slots);
    }
    *b = (save_block){.next = NULL,
                      .tensor = p->tensor,
                      .block = block,
                      .rows = own,
                      .first = p->first + p->before[block],
                      .width = {wide, narrow, narrow, narrow, wide},
                      .room = b->room,
                      .data = b->data};
    char *to = b->data;
    for (int c = 0; c < 5 && own > 0; c++) {
        TRY(copy_column(s, t, from, n, column[c], b->width[c], c == 0, to));
        to += (size_t)own * b->width[c];
    }
    save_writer_put(s->writer, b);
    return STATUS_OK;
}

status saver_before(void *saver_of, int table, int64_t n, const int32_t *slot)
{
    saver *s = saver_of;
    if (!s->busy || s->missing == 0)
        return STATUS_OK;
    const double start_s = clock_monotonic_s();
    const table_part *p = &s->table[table];
    for (int64_t i = 0; i < n; i++)
        if (slot[i] < p->slots)
            TRY(copy_block(s, table, slot[i] / p->per_block));
    s->stall_s += clock_monotonic_s() - start_s;
    return STATUS_OK;
}

static status copy_some(saver *s, double copy_s)
{
    const double start_s = clock_monotonic_s();
    for (int i = 0; i < s->tables; i++) {
        table_part *p = &s->table[i];
        for (; p->next < p->blocks; p->next++) {
            if (clock_monotonic_s() - start_s >= copy_s ||
                save_writer_staged(s->writer) > STAGED_BYTES)
                return STATUS_OK;
            TRY(copy_block(s, i, p->next));
        }
    }
    return STATUS_OK;
}

/* ---- messages ---- */

/* The place of this checkpoint, if it has come. Worker 0 may have heard of the end and asked for
 * the next one before this worker looks: then the end and the next place are both in the mail, and
 * the place stays until its checkpoint is taken. */
static status take_place(saver *s)
{
    const size_t size = sizeof(save_place) + (size_t)s->n * sizeof(int64_t);
    int from = 0;
    size_t bytes = 0;
    save_place head;
    if (s->placed)
        return STATUS_OK;
    if (!s->early) {
        TRY(comm_poll(s->at.world, &from, TAG_PLACE, s->place, size, &bytes));
        if (bytes != size)
            return STATUS_OK;
    }
    memcpy(&head, s->place, sizeof head);
    s->early = head.step > s->step;
    if (head.step != s->step)
        return STATUS_OK;
    char path[1100];
    checkpoint_part_path(s->at.dir, s->step, path);
    save_writer_start(s->writer, path, (const int64_t *)(void *)(s->place + sizeof head), s->n);
    s->placed = true;
    return STATUS_OK;
}

static status tell_written(saver *s)
{
    const checkpoint_piece *pieces = NULL;
    save_written head = {.step = s->step, .stall_s = s->stall_s};
    failure why;
    if (!save_writer_done(s->writer, &pieces, &head.n, &why))
        return STATUS_OK;
    head.code = why.code;
    memcpy(head.text, why.text, sizeof head.text);
    const size_t size = sizeof head + (size_t)head.n * sizeof *pieces;
    char *text = malloc(size);
    if (!text)
        return fail(STATUS_MEMORY, "checkpoint: no memory; use more memory");
    memcpy(text, &head, sizeof head);
    if (head.n > 0)
        memcpy(text + sizeof head, pieces, (size_t)head.n * sizeof *pieces);
    status st = comm_post(s->at.world, s->at.home, TAG_WRITTEN, text, size);
    s->told = st == STATUS_OK;
    free(text);
    return st;
}

static status take_end(saver *s)
{
    save_end e;
    int from = 0;
    size_t bytes = 0;
    TRY(comm_poll(s->at.world, &from, TAG_SAVED, &e, sizeof e, &bytes));
    if (bytes != sizeof e || e.step != s->step)
        return STATUS_OK;
    s->end.code = e.code;
    memcpy(s->end.text, e.text, sizeof s->end.text);
    s->end.source = __FILE__;
    s->end.source_line = __LINE__;
    s->busy = false;
    save_writer_cancel(s->writer);
    return STATUS_OK;
}

status saver_tend(saver *s, double copy_s)
{
    if (!s->busy)
        return STATUS_OK;
    TRY(take_place(s));
    if (s->missing > 0)
        TRY(copy_some(s, copy_s));
    if (!s->told)
        TRY(tell_written(s));
    return take_end(s);
}

void saver_waited(saver *s, double seconds)
{
    s->stall_s += seconds;
}

bool saver_busy(const saver *s)
{
    return s && s->busy;
}

int64_t saver_moved(saver *s)
{
    return save_writer_moved(s->writer);
}

status saver_outcome(const saver *s)
{
    return s->end.code == STATUS_OK ? STATUS_OK : failure_set(&s->end);
}
