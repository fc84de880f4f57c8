/* Sparse tables of rows: which row a position or a site has, and what a row begins with. A row that
 * nobody has touched takes no memory; its initial value is a function of the seed and its number.
 */
#include "model/position.h"

#include "model/row_store.h"

#include "runtime/core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int64_t multi_alpha[] = {1, 10, 100, 1000};
#define MULTI_LEVELS 4

/* What an untouched row begins with. */
typedef enum { FILL_CARRIED, FILL_ABSENT, FILL_SITE } fill_kind;

typedef struct {
    row_store s;
    fill_kind fill;
    int64_t *first;       /* rows: chromosome: first row of each */
    int32_t *row_of_site; /* rows: site */
} level_table;

struct position_encoding {
    device *dev;
    rows_kind rows;
    rows_init_kind init;
    uint64_t seed;
    int64_t n_chromosomes, n_sites;
    int32_t *position_of_site; /* NULL: sites are not known */
    int head_classes;
    int levels, tables;
    level_table level[ROW_TABLES];
};

const position_space position_unbounded = {0};

int position_levels(const config *c)
{
    return c->position.encoding == ENCODING_FPE         ? 1
           : c->position.encoding == ENCODING_FPE_MULTI ? MULTI_LEVELS
                                                        : 0;
}

status position_check(const config *c)
{
    static const char *const names[] = {"none",  "sinusoidal", "rope",     "fourier",
                                        "table", "fpe",        "fpe-multi"};
    const encoding_kind e = c->position.encoding;
    char at[CONFIG_PLACE];
    if (e == ENCODING_ROPE || e == ENCODING_FOURIER || e == ENCODING_TABLE)
        return fail(STATUS_USAGE,
                    "%s: position.encoding: %s is not in this version; use none, sinusoidal, "
                    "fpe or fpe-multi",
                    config_place(c, "position.encoding", at), names[e]);
    if (position_levels(c) && (c->position.alpha < 1 || c->position.rank < 1))
        return fail(STATUS_USAGE,
                    "%s: position.alpha and position.rank are whole numbers from 1; correct them",
                    c->file[0] ? c->file : "configuration");
    return STATUS_OK;
}

static int64_t bins(int64_t length, int64_t alpha)
{
    return length > 0 ? (length - 1) / alpha + 1 : 0;
}

static status rows_of_sites(level_table *l, const position_space *s)
{
    const int64_t n = s->site0[s->n_chromosomes];
    l->row_of_site = malloc(((size_t)n + 1) * sizeof *l->row_of_site);
    if (!l->row_of_site)
        return fail(STATUS_MEMORY,
                    "position: no memory for the rows of %lld sites; raise position.alpha",
                    (long long)n);
    int64_t rows = 0;
    for (int64_t c = 0; c < s->n_chromosomes; c++) {
        int64_t before = -1;
        for (int64_t i = s->site0[c]; i < s->site0[c + 1]; i++) {
            int64_t bin = (s->site_position[i] - 1) / l->s.t.alpha;
            rows += bin != before;
            before = bin;
            l->row_of_site[i] = (int32_t)(rows - 1);
        }
    }
    l->s.t.rows = rows;
    return STATUS_OK;
}

static status level_open(level_table *l, const config *c, const position_space *s)
{
    if (s == &position_unbounded) {
        l->s.t.rows = INT64_MAX;
        return STATUS_OK;
    }
    if (c->position.rows == ROWS_SITE)
        return rows_of_sites(l, s);
    if (c->position.rows == ROWS_CHROMOSOME) {
        l->first = malloc(((size_t)s->n_chromosomes + 1) * sizeof *l->first);
        if (!l->first)
            return fail(STATUS_MEMORY, "position: no memory for the chromosomes; free some");
        for (int64_t i = 0; i < s->n_chromosomes; i++) {
            l->first[i] = l->s.t.rows;
            l->s.t.rows += bins(s->length[i], l->s.t.alpha);
        }
        l->first[s->n_chromosomes] = l->s.t.rows;
        return STATUS_OK;
    }
    int64_t longest = c->position.length;
    if (longest == CONFIG_AUTO)
        for (int64_t i = 0; i < s->n_chromosomes; i++)
            longest = s->length[i] > longest ? s->length[i] : longest;
    l->s.t.rows = bins(longest, l->s.t.alpha);
    return STATUS_OK;
}

/* Tables of levels, carried or absent, behind those that are there. */
static status add_levels(position_encoding *x, const config *c, const position_space *space,
                         fill_kind fill)
{
    const int levels = position_levels(c);
    for (int i = 0; i < levels; i++) {
        level_table *l = &x->level[x->tables++];
        l->fill = fill;
        l->s.dev = x->dev;
        l->s.t.alpha = levels > 1 ? multi_alpha[i] : c->position.alpha;
        l->s.t.k = c->position.rank;
        TRY(level_open(l, c, space));
        if (l->s.t.rows < 1)
            return fail(STATUS_USAGE,
                        "%s: the position table has no row: no chromosome has a length; give "
                        "position.length",
                        c->file[0] ? c->file : "configuration");
    }
    return STATUS_OK;
}

/* Where the sites are: absent ones have no token that would say so. */
static status keep_sites(position_encoding *x, const config *c, const position_space *space)
{
    if (!space || space == &position_unbounded || !space->site_position)
        return fail(STATUS_USAGE,
                    "%s: data.absent: sums and heads over sites need the sites of a data set; give "
                    "data.path",
                    c->file[0] ? c->file : "configuration");
    const size_t bytes = ((size_t)x->n_sites + 1) * sizeof *x->position_of_site;
    if (!(x->position_of_site = malloc(bytes)))
        return fail(STATUS_MEMORY, "position: no memory for %lld sites; use more memory",
                    (long long)x->n_sites);
    memcpy(x->position_of_site, space->site_position, (size_t)x->n_sites * sizeof(int32_t));
    return STATUS_OK;
}

static status add_tables(position_encoding *x, const config *c, const position_space *space)
{
    TRY(add_levels(x, c, space, FILL_CARRIED));
    const bool absent = c->data.absent == ABSENT_SUMS;
    if (absent)
        TRY(add_levels(x, c, space, FILL_ABSENT));
    if (absent || x->head_classes)
        TRY(keep_sites(x, c, space));
    if (!x->head_classes)
        return STATUS_OK;
    level_table *l = &x->level[x->tables++];
    l->fill = FILL_SITE;
    l->s.dev = x->dev;
    l->s.t.alpha = 1;
    l->s.t.k = 2 * c->model.head_rank + x->head_classes;
    l->s.t.rows = x->n_sites;
    return STATUS_OK;
}

status position_open(device *dev, const config *c, int head_classes, const position_space *space,
                     uint64_t seed, position_encoding **out)
{
    *out = NULL;
    TRY(position_check(c));
    const bool enough = c->position.rows == ROWS_SHARED && c->position.length != CONFIG_AUTO;
    if (!space && !enough && position_levels(c))
        return fail(STATUS_USAGE,
                    "%s: position.length is auto and no data set says how long the chromosomes "
                    "are; give it",
                    c->file[0] ? c->file : "configuration");
    position_encoding *x = calloc(1, sizeof *x);
    if (!x)
        return fail(STATUS_MEMORY, "position: no memory; free some");
    x->dev = dev;
    x->rows = c->position.rows;
    x->init = c->position.init;
    x->seed = seed;
    x->n_chromosomes = space ? space->n_chromosomes : 0;
    x->n_sites = space && space->site0 ? space->site0[space->n_chromosomes] : 0;
    x->head_classes = head_classes;
    x->levels = position_levels(c);
    status st = add_tables(x, c, space);
    if (st != STATUS_OK) {
        position_close(&x);
        return st;
    }
    *out = x;
    return STATUS_OK;
}

void position_close(position_encoding **x)
{
    if (!*x)
        return;
    for (int i = 0; i < (*x)->tables; i++) {
        row_store_empty(&(*x)->level[i].s);
        free((*x)->level[i].first);
        free((*x)->level[i].row_of_site);
    }
    free((*x)->position_of_site);
    free(*x);
    *x = NULL;
}

int position_tables(position_encoding *x, row_table **tables)
{
    for (int i = 0; i < x->tables; i++)
        tables[i] = &x->level[i].s.t;
    return x->tables;
}

int64_t position_row(const position_encoding *x, int level, int32_t chromosome, int64_t position,
                     int32_t site)
{
    const level_table *l = &x->level[level];
    if (l->fill == FILL_SITE)
        return site >= 0 && site < x->n_sites ? site : -1;
    if (x->rows == ROWS_SITE)
        return site >= 0 && site < x->n_sites ? l->row_of_site[site] : -1;
    if (position < 1)
        return -1;
    int64_t row = (position - 1) / l->s.t.alpha;
    if (x->rows == ROWS_SHARED)
        return row < l->s.t.rows ? row : -1;
    if (chromosome < 0 || chromosome >= x->n_chromosomes)
        return -1;
    row += l->first[chromosome];
    return row < l->first[chromosome + 1] ? row : -1;
}

int64_t position_row_of_site(const position_encoding *x, int table, int32_t chromosome,
                             int32_t site)
{
    if (site < 0 || site >= x->n_sites)
        return -1;
    const bool needed = x->rows != ROWS_SITE && x->level[table].fill != FILL_SITE;
    return position_row(x, table, chromosome, needed ? x->position_of_site[site] : 0, site);
}

/* Spreads at the start, as the recipe of docs/model.md has them. */
#define CARRIED_SPREAD 0.3
#define ABSENT_SPREAD 0.09
#define G_SPREAD 0.3
#define RUN_SPREAD 0.1

static double level_spread(const position_encoding *x, const level_table *l)
{
    if (l->fill == FILL_SITE)
        return G_SPREAD;
    if (x->init == INIT_ZERO)
        return 0;
    const double spread = l->fill == FILL_ABSENT ? ABSENT_SPREAD : CARRIED_SPREAD;
    return spread / sqrt((double)x->levels);
}

/* A slot for a row, with its initial value. */
static status slot_fill(const position_encoding *x, int level, row_store *s, int64_t slot,
                        int64_t row)
{
    float *p;
    TRY(row_store_new(s, slot, row, &p));
    const level_table *l = &x->level[level];
    const double spread = level_spread(x, l);
    if (spread == 0)
        return STATUS_OK;
    /* By row number, so that the order of touch does not matter. */
    rng r = rng_at(x->seed, RNG_ROWS, (uint64_t)row, (uint32_t)level);
    const int64_t bias = l->fill == FILL_SITE ? x->head_classes : 0;
    const int64_t n = s->t.k - bias;
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)((bias && i >= n / 2 ? RUN_SPREAD : spread) * rng_normal(&r));
    return STATUS_OK;
}

status position_slots(position_encoding *x, int level, int64_t n, const int64_t *row, bool create,
                      int32_t *slot)
{
    level_table *l = &x->level[level];
    row_store *s = &l->s;
    s->scratch = 0;
    /* A site that training never saw must not decide anything: no random row for it. */
    const bool leave_out = !create && (x->init == INIT_ZERO || l->fill == FILL_SITE);
    for (int64_t i = 0; i < n; i++) {
        slot[i] = row[i] < 0 ? -1 : row_store_find(s, row[i]);
        if (row[i] < 0 || slot[i] >= 0 || leave_out)
            continue;
        const int64_t at = s->t.slots + s->scratch;
        TRY(row_store_grow(s, at + 1));
        TRY(slot_fill(x, level, s, at, row[i]));
        slot[i] = (int32_t)at;
        if (create)
            TRY(row_store_enter(s, row[i]));
        else
            s->scratch++;
    }
    return row_store_send(s);
}

int64_t position_scratch(const position_encoding *x, int level)
{
    return x->level[level].s.scratch;
}

/* Values of the sites' rows, as the host sees them in p. */
static void biases_set(const position_encoding *x, const row_table *t, const int32_t *slot,
                       const float *log_odds, const uint8_t *taught, float *p)
{
    const int classes = x->head_classes;
    for (int64_t site = 0; site < x->n_sites; site++) {
        float *row = p + slot[site] * t->k, *bias = row + t->k - classes;
        if (taught && !taught[site])
            memset(row, 0, (size_t)t->k * sizeof *row);
        for (int c = 0; c < classes; c++)
            bias[c] = log_odds ? log_odds[site * classes + c] : 0.0f;
    }
}

status position_site_biases(position_encoding *x, const float *log_odds, const uint8_t *taught)
{
    if (!x->head_classes)
        return STATUS_OK;
    const int table = x->tables - 1;
    const int64_t n = x->n_sites;
    row_store *s = &x->level[table].s;
    int64_t *row = malloc(((size_t)n + 1) * sizeof *row);
    int32_t *slot = malloc(((size_t)n + 1) * sizeof *slot);
    device_view view = {0};
    status st = row && slot ? row_store_reserve(s, n)
                            : fail(STATUS_MEMORY,
                                   "position: no memory for %lld sites; use more "
                                   "memory",
                                   (long long)n);
    for (int64_t site = 0; st == STATUS_OK && site < n; site++)
        row[site] = site;
    if (st == STATUS_OK)
        st = position_slots(x, table, n, row, true, slot);
    const size_t bytes = (size_t)(s->t.slots * s->t.k) * sizeof(float);
    if (st == STATUS_OK)
        st = device_view_open(x->dev, s->t.p, bytes, true, &view);
    if (st == STATUS_OK)
        biases_set(x, &s->t, slot, log_odds, taught, view.host);
    st = device_view_close(&view, true, st);
    free(row);
    free(slot);
    return st;
}

status position_restore(position_encoding *x, int level, int64_t slots, const int64_t *row,
                        const float *p, const float *m, const float *v, const int64_t *last)
{
    row_store *s = &x->level[level].s;
    row_store_clear(s);
    TRY(row_store_reserve(s, slots > 0 ? slots : 1));
    for (int64_t i = 0; i < slots; i++) {
        if (row[i] < 0 || row[i] >= s->t.rows)
            return fail(STATUS_DATA,
                        "position: row %lld is not in a table of %lld rows; use the data set it "
                        "was trained on",
                        (long long)row[i], (long long)s->t.rows);
        if (row_store_find(s, row[i]) >= 0)
            return fail(STATUS_DATA,
                        "position: row %lld is stored twice; the file is damaged, use another",
                        (long long)row[i]);
        TRY(row_store_enter(s, row[i]));
    }
    return row_store_fill(s, slots, p, m, v, last);
}

status position_reserve(position_encoding *x, int table, int64_t slots)
{
    return row_store_reserve(&x->level[table].s, slots);
}

int64_t position_table_bytes(int64_t slots, int64_t rows, int64_t k)
{
    return row_store_reserved(slots, rows, k);
}

/* row_of_site of each level, and position_of_site. */
int64_t position_site_bytes(const config *c, int head_classes, int64_t n_sites)
{
    const bool absent = c->data.absent == ABSENT_SUMS;
    const int levels = position_levels(c) * (absent ? 2 : 1);
    const int lists =
        (c->position.rows == ROWS_SITE ? levels : 0) + (absent || head_classes ? 1 : 0);
    return lists * (n_sites + 1) * (int64_t)sizeof(int32_t);
}

int64_t position_bytes(const position_encoding *x)
{
    int64_t bytes = 0, lists = x->position_of_site ? 1 : 0;
    for (int i = 0; i < x->tables; i++) {
        bytes += row_store_bytes(&x->level[i].s);
        lists += x->level[i].row_of_site ? 1 : 0;
    }
    return bytes + lists * (x->n_sites + 1) * (int64_t)sizeof(int32_t);
}

int64_t position_dense_bytes(const position_encoding *x)
{
    int64_t bytes = 0;
    for (int i = 0; i < x->tables && x->level[i].s.t.rows < INT64_MAX; i++)
        bytes += 4 * x->level[i].s.t.rows * x->level[i].s.t.k * (int64_t)sizeof(float);
    return bytes;
}

void position_sinusoid(int64_t d, int64_t columns, const int64_t *position, float *added)
{
    for (int64_t c = 0; c < d; c++) {
        const double w = pow(10000.0, -(double)(c / 2 * 2) / (double)d);
        for (int64_t i = 0; i < columns; i++) {
            const double x = w * (double)position[i];
            added[c * columns + i] = position[i] < 1 ? 0.0f : (float)(c % 2 ? cos(x) : sin(x));
        }
    }
}
