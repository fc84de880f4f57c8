/* The rows of a batch: which rows its tokens use, their values replayed to the present (exact-lazy
 * Adam leaves rows behind that had no gradient), and the sums of their gradients until the
 * optimizer takes them. */
#include "model/parts.h"
#include "runtime/core/array.h"

#include <stdlib.h>
#include <string.h>

/* Activation memory of the rows of one level: slot, unique, place, row, values. A batch touches at
 * most
 * its columns. Row numbers are the host's alone. */
static int64_t level_bytes(const model *m, int64_t columns)
{
    const size_t row = arena_round((size_t)columns * sizeof(int64_t));
    return (int64_t)(3 * arena_round((size_t)columns * sizeof(int32_t)) +
                     (device_is_host(m->dev) ? row : 0) +
                     arena_round((size_t)(columns * m->rank) * sizeof(float)));
}

int64_t rows_bytes(const model *m, batch_shape s)
{
    const size_t next = m->next ? arena_round((size_t)(s.B * s.Lp) * sizeof(int32_t)) : 0;
    return m->levels * (level_bytes(m, s.B * s.Lp) + (int64_t)next);
}

int64_t rows_twins(const model *m, batch_shape s)
{
    const size_t columns = (size_t)(s.B * s.Lp), slots = arena_round(columns * sizeof(int32_t));
    return m->levels * (int64_t)((3 + m->next) * slots + arena_round(columns * sizeof(int64_t)));
}

static int32_t *take_slots(model *m, size_t columns, int32_t **on)
{
    void *there = NULL;
    int32_t *host = take_twin(m, columns * sizeof *host, &there);
    *on = there;
    return host;
}

status rows_reserve(model *m, batch_shape s)
{
    const size_t columns = (size_t)(s.B * s.Lp);
    for (int i = 0; i < m->levels; i++) {
        batch_rows *r = &m->rows[i];
        r->slot = take_slots(m, columns, &r->slot_on);
        r->unique = take_slots(m, columns, &r->unique_on);
        r->place = take_slots(m, columns, &r->place_on);
        r->row = take_host(m, columns * sizeof *r->row);
        r->values = take_floats(&m->activations, (int64_t)columns * m->rank);
        if (m->next)
            m->next_slot[i] = take_slots(m, columns, &m->next_slot_on[i]);
        if (!r->slot || !r->unique || !r->place || !r->row || !r->values ||
            (m->next && !m->next_slot[i]))
            return arena_short(&m->activations);
    }
    return STATUS_OK;
}

void rows_free(model *m)
{
    for (int i = 0; i < ROW_TABLES; i++) {
        free(m->rows[i].mark);
        free(m->rows[i].base);
        free(m->pending[i].slot);
        free(m->pending[i].place);
        free(m->pending[i].seen);
        if (m->pending[i].sum)
            device_memory_give(m->dev, m->pending[i].sum);
    }
}

/* ---- the batch's marks ---- */

#define WORD 64 /* slots of a mark */

static int64_t words_of(int64_t slots)
{
    return (slots + WORD - 1) / WORD;
}

static int64_t marks_bytes(int64_t words)
{
    return words * (int64_t)(sizeof(uint64_t) + sizeof(int32_t));
}

static status marks_reserve(batch_rows *r, int64_t slots)
{
    const int64_t words = words_of(slots);
    if (words <= r->words)
        return STATUS_OK;
    bool ok = true;
    r->mark = array_resized(r->mark, words, sizeof *r->mark, &ok);
    r->base = array_resized(r->base, words, sizeof *r->base, &ok);
    if (!ok)
        return fail(STATUS_MEMORY,
                    "position: no memory for the marks of %lld rows; raise position.alpha",
                    (long long)slots);
    memset(r->mark + r->words, 0, (size_t)(words - r->words) * sizeof *r->mark);
    r->words = words;
    return STATUS_OK;
}

int64_t model_table_bytes(int64_t slots, int64_t rows, int64_t k)
{
    return position_table_bytes(slots, rows, k) + marks_bytes(words_of(slots));
}

int64_t model_tables_bytes(const model *m)
{
    int64_t bytes = m->position ? position_bytes(m->position) : 0;
    for (int i = 0; i < ROW_TABLES; i++)
        bytes += marks_bytes(m->rows[i].words);
    return bytes;
}

static int by_slot(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Slots of the table become indices into `unique`, ascending: a slot's is the number of marks
 * before its own. */
static void compact(batch_rows *r, int64_t columns)
{
    r->count = 0;
    for (int64_t i = 0; i < columns; i++) {
        const int32_t slot = r->slot[i];
        if (slot < 0 || r->mark[slot / WORD] >> slot % WORD & 1)
            continue;
        r->mark[slot / WORD] |= UINT64_C(1) << slot % WORD;
        r->unique[r->count++] = slot;
    }
    if (r->count > 1)
        qsort(r->unique, (size_t)r->count, sizeof *r->unique, by_slot);
    for (int64_t i = r->count - 1; i >= 0; i--)
        r->base[r->unique[i] / WORD] = (int32_t)i; /* the first of a word stays */
    for (int64_t i = 0; i < columns; i++) {
        const int32_t slot = r->slot[i];
        if (slot < 0)
            continue;
        const uint64_t before = r->mark[slot / WORD] & ((UINT64_C(1) << slot % WORD) - 1);
        r->slot[i] = r->base[slot / WORD] + __builtin_popcountll(before);
    }
    for (int64_t i = 0; i < r->count; i++)
        r->mark[r->unique[i] / WORD] = 0;
}

/* ---- pending gradients ---- */

static status short_of_memory(int64_t rows)
{
    return fail(STATUS_MEMORY,
                "position: no memory for the gradients of %lld rows; raise position.alpha",
                (long long)rows);
}

/* Room for `rows`, and a quarter more than there was. */
static int64_t grown(int64_t room, int64_t rows)
{
    const int64_t more = room + room / 4;
    return rows > more ? rows : more;
}

static status list_reserve(pending_rows *p, int64_t rows)
{
    if (rows <= p->room)
        return STATUS_OK;
    const int64_t room = grown(p->room, rows);
    bool ok = true;
    p->slot = array_resized(p->slot, room, sizeof *p->slot, &ok);
    p->place = array_resized(p->place, room, sizeof *p->place, &ok);
    if (!ok)
        return short_of_memory(rows);
    p->room = room;
    return STATUS_OK;
}

/* Room for the sums of so many rows; those that are there stay. */
static status sums_reserve(model *m, pending_rows *p, int64_t rows, int64_t k)
{
    if (rows <= p->sum_room)
        return STATUS_OK;
    const int64_t room = grown(p->sum_room, rows);
    void *sum = NULL;
    if (device_memory_take(m->dev, (size_t)(room * k) * sizeof *p->sum, &sum) != STATUS_OK)
        return short_of_memory(rows);
    status st = device_copy(m->dev, sum, p->sum, (size_t)(p->count * k) * sizeof *p->sum);
    if (st == STATUS_OK)
        st = model_wait(m); /* before the old ones go */
    if (st != STATUS_OK) {
        device_memory_give(m->dev, sum);
        return st;
    }
    if (p->sum)
        device_memory_give(m->dev, p->sum);
    p->sum = sum;
    p->sum_room = room;
    return STATUS_OK;
}

status model_reserve_gradients(model *m, int table, int64_t rows)
{
    row_table *tables[ROW_TABLES];
    pending_rows *p = &m->pending[table];
    position_tables(m->position, tables);
    if (rows <= p->sum_room)
        return STATUS_OK;
    TRY(list_reserve(p, rows));
    TRY(model_wait(m)); /* what is there holds nothing any more, and goes first */
    if (p->sum)
        device_memory_give(m->dev, p->sum);
    p->sum = NULL;
    p->sum_room = p->count = 0;
    return sums_reserve(m, p, rows, tables[table]->k);
}

/* A place for the gradient of every row of the batch: its own from batches before, or the next one.
 * Both lists ascend; they are merged from the back, in place. */
static status pending_enter(model *m, int table, int64_t k)
{
    batch_rows *r = &m->rows[table];
    pending_rows *p = &m->pending[table];
    int64_t shared = 0;
    for (int64_t i = 0, j = 0; i < p->count && j < r->count;) {
        shared += p->slot[i] == r->unique[j];
        const bool left = p->slot[i] <= r->unique[j], right = r->unique[j] <= p->slot[i];
        i += left;
        j += right;
    }
    const int64_t before = p->count, total = before + r->count - shared;
    TRY(list_reserve(p, total));
    TRY(sums_reserve(m, p, total, k));
    int64_t i = before - 1, j = r->count - 1, fresh = total - 1;
    for (int64_t to = total - 1; to >= 0; to--) {
        const bool left = i >= 0 && (j < 0 || p->slot[i] >= r->unique[j]);
        const bool right = j >= 0 && (i < 0 || r->unique[j] >= p->slot[i]);
        const int32_t slot = left ? p->slot[i] : r->unique[j];
        const int32_t place = left ? p->place[i] : (int32_t)fresh--;
        if (right)
            r->place[j] = place;
        p->slot[to] = slot;
        p->place[to] = place;
        i -= left;
        j -= right;
    }
    p->count = total;
    if (total > before)
        TRY(device_clear(m->dev, p->sum + before * k,
                         (size_t)((total - before) * k) * sizeof *p->sum));
    return device_upload(m->dev, r->place_on, r->place, (size_t)r->count * sizeof *r->place);
}

/* ---- the rows of a batch ---- */

status rows_present(model *m, int table, int64_t n, bool create)
{
    batch_rows *r = &m->rows[table];
    TRY(position_slots(m->position, table, n, r->row, create, r->slot));
    row_table *tables[ROW_TABLES];
    position_tables(m->position, tables);
    const row_table *t = tables[table];
    const int64_t used = t->slots + position_scratch(m->position, table);
    TRY(marks_reserve(r, used > t->room ? used : t->room));
    compact(r, n);
    TRY(device_upload(m->dev, r->slot_on, r->slot, (size_t)n * sizeof *r->slot));
    TRY(device_upload(m->dev, r->unique_on, r->unique, (size_t)r->count * sizeof *r->unique));
    if (create)
        TRY(pending_enter(m, table, t->k));
    if (m->schedule.step >= 0 || !device_is_host(m->dev))
        return rows_catch_up(m->dev, &m->schedule, r->count, t->k, r->unique_on, t->p, t->m, t->v,
                             t->last, r->values);
    for (int64_t i = 0; i < r->count; i++)
        memcpy(r->values + i * t->k, t->p + r->unique[i] * t->k, (size_t)t->k * sizeof(float));
    return STATUS_OK;
}

static status level_prepare(model *m, int level, const batch *b, bool create)
{
    batch_rows *r = &m->rows[level];
    const batch_shape s = b->s;
    for (int64_t i = 0; i < s.B; i++)
        for (int64_t t = 0; t < s.Lp; t++) {
            const int64_t at = i * s.Lp + t;
            r->row[at] =
                t < s.L && b->position
                    ? position_row(m->position, level, b->chromosome ? b->chromosome[i] : 0,
                                   b->position[at], b->site ? b->site[at] : -1)
                    : -1;
        }
    if (!m->position) { /* no data set was placed: check_batch lets only batches without positions
                           through */
        const size_t bytes = (size_t)(s.B * s.Lp) * sizeof *r->slot;
        memset(r->slot, -1, bytes);
        r->count = 0;
        return device_upload(m->dev, r->slot_on, r->slot, bytes);
    }
    return rows_present(m, level, s.B * s.Lp, create);
}

/* Slots of the tokens that come next, from those of the tokens. */
static status next_prepare(model *m, int level, batch_shape s)
{
    const int32_t *slot = m->rows[level].slot;
    int32_t *next = m->next_slot[level];
    for (int64_t i = 0; i < s.B * s.Lp; i++)
        next[i] = i % s.Lp + 1 < s.L ? slot[i + 1] : -1;
    return device_upload(m->dev, m->next_slot_on[level], next, (size_t)(s.B * s.Lp) * sizeof *next);
}

status rows_prepare(model *m, const batch *b, bool create)
{
    for (int i = 0; i < m->levels; i++) {
        TRY(level_prepare(m, i, b, create));
        if (m->next)
            TRY(next_prepare(m, i, b->s));
    }
    return STATUS_OK;
}

status rows_collect(model *m, int table, int64_t n, const int32_t *slot, const float *grad,
                    const int32_t *of, arena *ws)
{
    const batch_rows *r = &m->rows[table];
    row_table *tables[ROW_TABLES];
    position_tables(m->position, tables);
    return rows_reduce(m->dev, n, r->count, tables[table]->k, slot, of, grad, r->place_on,
                       m->pending[table].sum, ws);
}

int64_t rows_workspace(const model *m, batch_shape s)
{
    return (int64_t)rows_reduce_workspace(m->dev, s.B * s.Lp, m->rank);
}

/* A replay of no step. */
const rows_adam_args rows_as_they_are = {
    .b1 = 0.9, .b2 = 0.999, .eps = 1e-8, .scale = 1, .step = -1};

void model_rows_schedule(model *m, const rows_adam_args *s)
{
    if (s)
        m->schedule = *s;
    else
        m->schedule = rows_as_they_are;
}

touched_rows model_touched_rows(const model *m, int table)
{
    const pending_rows *p = &m->pending[table];
    return (touched_rows){p->count, p->slot, p->place, p->sum};
}

status model_row_gradients(model *m, int table, int64_t *count, const int32_t **slots,
                           const float **sum)
{
    pending_rows *p = &m->pending[table];
    row_table *tables[ROW_TABLES];
    position_tables(m->position, tables);
    const size_t k = (size_t)tables[table]->k, bytes = (size_t)p->count * k * sizeof *p->sum;
    device_view view;
    float *seen = realloc(p->seen, bytes + 1);
    if (!seen)
        return short_of_memory(p->count);
    p->seen = seen;
    TRY(device_view_open(m->dev, p->sum, bytes, true, &view));
    const float *from = view.host;
    for (int64_t i = 0; i < p->count; i++)
        memcpy(seen + (size_t)i * k, from + (size_t)p->place[i] * k, k * sizeof *seen);
    *count = p->count;
    *slots = p->slot;
    *sum = seen;
    return device_view_close(&view, false, STATUS_OK);
}

void model_rows_clear(model *m)
{
    for (int i = 0; i < ROW_TABLES; i++)
        m->pending[i].count = 0;
}
