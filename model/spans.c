/* The sites of a batch's spans: the sums of the absent rows that each token skipped, which the
 * embedding adds up like rows, and the rows of every site for the site head. How many sites lie in
 * the windows differs from batch to batch; the arrays grow to the largest that came. */
#include "model/parts.h"

#include <stdlib.h>
#include <string.h>

bool spans_needed(const model *m)
{
    return m->absent || m->site_classes > 0;
}

int64_t spans_bytes(const model *m, batch_shape s)
{
    if (!m->absent)
        return 0;
    const size_t columns = (size_t)(s.B * s.Lp);
    return (int64_t)(arena_round((columns + 1) * sizeof(int64_t)) +
                     arena_round(columns * sizeof(int32_t))) +
           m->levels * (int64_t)arena_round(columns * (size_t)m->rank * sizeof(float));
}

int64_t spans_twins(const model *m, batch_shape s)
{
    const size_t columns = (size_t)(s.B * s.Lp);
    return m->absent ? (int64_t)(arena_round((columns + 1) * sizeof(int64_t)) +
                                 arena_round(columns * sizeof(int32_t)))
                     : 0;
}

void model_expect_spans(model *m, double sites_a_token)
{
    m->sites_a_token = sites_a_token > 1 ? sites_a_token : 1;
}

int64_t spans_expected(const model *m, batch_shape s)
{
    return (int64_t)(m->sites_a_token * (double)(s.B * s.L));
}

/* Numbers of a site's row in the site head. */
static int64_t site_width(const model *m)
{
    return 2 * m->cfg.model.head_rank + m->site_classes;
}

/* Arrays are made a quarter larger than the batch that they must hold. */
static int64_t grown(int64_t n)
{
    return n + n / 4;
}

/* slot, unique, place, row, values of ragged_reserve. */
static int64_t ragged_row_bytes(int64_t k)
{
    return (int64_t)(3 * sizeof(int32_t) + sizeof(int64_t)) + k * (int64_t)sizeof(float);
}

#define ABSENT_BYTES ((int64_t)(2 * sizeof(int32_t))) /* absent_site, absent_column */

int64_t spans_ragged(const model *m, batch_shape s, bool training)
{
    const int64_t mean = spans_expected(m, s), n = mean + mean / 10;
    const int64_t absent = n > s.B * s.L ? n - s.B * s.L : 0;
    int64_t bytes = 0, reductions = 0;
    if (m->absent) {
        bytes += grown(absent) * (ABSENT_BYTES + m->levels * ragged_row_bytes(m->rank));
        reductions = (int64_t)rows_reduce_workspace(m->dev, absent, m->rank);
    }
    if (m->site_classes) {
        const int64_t width = site_width(m), own = (int64_t)rows_reduce_workspace(m->dev, n, width);
        bytes += grown(n) * ragged_row_bytes(width);
        bytes += training ? (grown(n * width) + 16) * (int64_t)sizeof(float) : 0;
        reductions = own > reductions ? own : reductions;
    }
    return bytes + (training ? grown(reductions) : 0);
}

int64_t model_ragged_bytes(const model *m)
{
    const batch_spans *x = &m->spans;
    int64_t bytes = x->room * ABSENT_BYTES + x->drows_room * (int64_t)sizeof(float);
    for (int i = 0; i < ROW_TABLES; i++) /* the room of carried rows is 0: they are in the arena */
        bytes += m->rows[i].room * ragged_row_bytes(i == site_table(m) ? site_width(m) : m->rank);
    return bytes + (int64_t)x->reductions.size;
}

status spans_reserve(model *m, batch_shape s)
{
    if (!m->absent)
        return STATUS_OK;
    const int64_t columns = s.B * s.Lp;
    batch_spans *x = &m->spans;
    void *start_on = NULL, *identity_on = NULL;
    x->start = take_twin(m, (size_t)(columns + 1) * sizeof *x->start, &start_on);
    x->identity = take_twin(m, (size_t)columns * sizeof *x->identity, &identity_on);
    x->start_on = start_on;
    x->identity_on = identity_on;
    bool all = x->start && x->identity;
    for (int i = 0; i < m->levels; i++) {
        x->sums[i] = take_floats(&m->activations, columns * m->rank);
        all = all && x->sums[i];
    }
    return all ? STATUS_OK : arena_short(&m->activations);
}

static void ragged_free(device *dev, batch_rows *r)
{
    if (r->room == 0)
        return;
    twin slot = {r->slot, r->slot_on}, unique = {r->unique, r->unique_on},
         place = {r->place, r->place_on};
    twin_free(dev, &slot);
    twin_free(dev, &unique);
    twin_free(dev, &place);
    free(r->row);
    if (r->values)
        device_memory_give(dev, r->values);
    r->slot = r->slot_on = r->unique = r->unique_on = r->place = r->place_on = NULL;
    r->row = NULL;
    r->values = NULL;
    r->room = 0;
}

void spans_free(model *m)
{
    for (int i = 0; i < ROW_TABLES; i++)
        ragged_free(m->dev, &m->rows[i]);
    free(m->spans.absent_site);
    twin_free(m->dev, &m->spans.absent_column);
    if (m->spans.drows)
        device_memory_give(m->dev, m->spans.drows);
    device_arena_close(m->dev, &m->spans.reductions);
}

static status short_of_memory(int64_t n)
{
    return fail(STATUS_MEMORY,
                "model: no memory for the %lld sites of a batch's windows; lower train.micro_batch",
                (long long)n);
}

/* Room for n entries of a table; what they held is lost. As with all below that grow, the batch
 * before may still read it. */
static status ragged_reserve(model *m, batch_rows *r, int64_t n, int64_t k)
{
    device *dev = m->dev;
    if (n <= r->room)
        return STATUS_OK;
    TRY(model_wait(m));
    ragged_free(dev, r);
    twin slot = {0}, unique = {0}, place = {0};
    void *values = NULL;
    r->room = grown(n);
    status st = twin_make(dev, (size_t)r->room * sizeof *r->slot, &slot);
    if (st == STATUS_OK)
        st = twin_make(dev, (size_t)r->room * sizeof *r->unique, &unique);
    if (st == STATUS_OK)
        st = twin_make(dev, (size_t)r->room * sizeof *r->place, &place);
    if (st == STATUS_OK)
        st = device_memory_take(dev, (size_t)(r->room * k) * sizeof *r->values, &values);
    r->slot = slot.host;
    r->slot_on = slot.on;
    r->unique = unique.host;
    r->unique_on = unique.on;
    r->place = place.host;
    r->place_on = place.on;
    r->values = values;
    r->row = malloc((size_t)r->room * sizeof *r->row);
    return st == STATUS_OK && r->row ? STATUS_OK : short_of_memory(n);
}

/* Workspace of a reduction of n entries of k numbers. */
static status reductions_reserve(model *m, batch_spans *x, int64_t n, int64_t k)
{
    const size_t bytes = rows_reduce_workspace(m->dev, n, k);
    if (bytes <= x->reductions.size)
        return STATUS_OK;
    TRY(model_wait(m));
    device_arena_close(m->dev, &x->reductions);
    return device_arena_open(m->dev, &x->reductions, "reductions", bytes + bytes / 4);
}

static status absent_reserve(model *m, batch_spans *x, int64_t n)
{
    device *dev = m->dev;
    if (n <= x->room)
        return STATUS_OK;
    TRY(model_wait(m));
    free(x->absent_site);
    twin_free(dev, &x->absent_column);
    x->room = grown(n);
    x->absent_site = malloc((size_t)x->room * sizeof *x->absent_site);
    const status st = twin_make(dev, (size_t)x->room * sizeof(int32_t), &x->absent_column);
    return st == STATUS_OK && x->absent_site ? STATUS_OK : short_of_memory(n);
}

/* The absent entries by the token that comes after them; the token itself is `token` + 1, and those
 * behind a sequence's last token have none. */
static status absent_list(model *m, const batch *b)
{
    batch_spans *x = &m->spans;
    const batch_shape s = b->s;
    const span_sites *p = &b->span;
    TRY(absent_reserve(m, x, x->n));
    int32_t *absent_column = x->absent_column.host;
    x->absent = 0;
    int64_t column = 0;
    for (int64_t i = 0; i < s.B; i++) {
        const int64_t tokens = b->count ? b->count[i] : s.L;
        for (int64_t e = p->start[i]; e < p->start[i + 1]; e++) {
            if (p->carried[e] || p->token[e] < 0 || p->token[e] + 1 >= tokens)
                continue;
            const int64_t of = i * s.Lp + p->token[e] + 1;
            while (column <= of)
                x->start[column++] = x->absent;
            x->absent_site[x->absent] = p->site[e];
            absent_column[x->absent++] = (int32_t)of;
        }
    }
    while (column <= s.B * s.Lp)
        x->start[column++] = x->absent;
    for (int64_t i = 0; i < s.B * s.Lp; i++)
        x->identity[i] = x->start[i + 1] > x->start[i] ? (int32_t)i : -1;
    const size_t columns = (size_t)(s.B * s.Lp);
    TRY(device_upload(m->dev, x->absent_column.on, absent_column,
                      (size_t)x->absent * sizeof *absent_column));
    TRY(device_upload(m->dev, x->start_on, x->start, (columns + 1) * sizeof *x->start));
    return device_upload(m->dev, x->identity_on, x->identity, columns * sizeof *x->identity);
}

static status absent_prepare(model *m, const batch *b, bool create)
{
    batch_spans *x = &m->spans;
    TRY(absent_list(m, b));
    const int32_t *absent_column = x->absent_column.host;
    for (int i = 0; i < m->levels; i++) {
        const int table = absent_table(m, i);
        batch_rows *r = &m->rows[table];
        TRY(ragged_reserve(m, r, x->absent, m->rank));
        for (int64_t e = 0; e < x->absent; e++) {
            const int64_t sequence = absent_column[e] / b->s.Lp;
            r->row[e] = position_row_of_site(
                m->position, table, b->chromosome ? b->chromosome[sequence] : 0, x->absent_site[e]);
        }
        TRY(rows_present(m, table, x->absent, create));
        const ranges_args a = {.columns = b->s.B * b->s.Lp,
                               .k = m->rank,
                               .start = x->start_on,
                               .slot = r->slot_on,
                               .A = r->values};
        TRY(ranges_forward(m->dev, &a, x->sums[i], &m->workspace));
    }
    return STATUS_OK;
}

static status sites_prepare(model *m, const batch *b, bool create)
{
    const int table = site_table(m);
    batch_rows *r = &m->rows[table];
    const int64_t width = site_width(m);
    TRY(ragged_reserve(m, r, m->spans.n, width));
    for (int64_t e = 0; e < m->spans.n; e++)
        r->row[e] = b->span.site[b->span.start[0] + e];
    return rows_present(m, table, m->spans.n, create);
}

status spans_prepare(model *m, const batch *b, bool create)
{
    if (!spans_needed(m))
        return STATUS_OK;
    m->spans.first = b->span.start[0];
    m->spans.n = b->span.start[b->s.B] - m->spans.first;
    if (m->absent)
        TRY(absent_prepare(m, b, create));
    return m->site_classes ? sites_prepare(m, b, create) : STATUS_OK;
}

status spans_collect_absent(model *m, int level, const float *dsums)
{
    batch_spans *x = &m->spans;
    const int table = absent_table(m, level);
    TRY(reductions_reserve(m, x, x->absent, m->rank));
    return rows_collect(m, table, x->absent, m->rows[table].slot_on, dsums, x->absent_column.on,
                        &x->reductions);
}

float *spans_site_gradients(model *m)
{
    batch_spans *x = &m->spans;
    const int64_t floats = x->n * site_width(m);
    if (floats > x->drows_room || !x->drows) {
        void *drows = NULL;
        if (model_wait(m) != STATUS_OK)
            return NULL;
        if (x->drows)
            device_memory_give(m->dev, x->drows);
        x->drows = NULL;
        x->drows_room = grown(floats) + 16;
        if (device_memory_take(m->dev, (size_t)x->drows_room * sizeof *x->drows, &drows) !=
            STATUS_OK)
            short_of_memory(x->n);
        x->drows = drows;
    }
    return x->drows;
}

status spans_collect_sites(model *m)
{
    batch_spans *x = &m->spans;
    const int table = site_table(m);
    TRY(reductions_reserve(m, x, x->n, site_width(m)));
    return rows_collect(m, table, x->n, m->rows[table].slot_on, x->drows, NULL, &x->reductions);
}
