/* Opening, closing and preparing a model: shape checks, arenas, and the arguments that each
 * operation takes from the parameters. Forward, backward and plan have files of their own. */
#include "model/parts.h"

#include <stdlib.h>
#include <string.h>

#define WIDTH_MAX (1 << 20)
#define CLASSES_MAX 64

static const char *name_of(const config *c)
{
    return c->file[0] ? c->file : "configuration";
}

static status check_config(const config *c, int classes)
{
    const config_model *m = &c->model;
    const char *f = name_of(c);
    char at[CONFIG_PLACE];
    TRY(position_check(c));
    if (m->mixer == MIXER_ATTENTION)
        return fail(STATUS_USAGE,
                    "%s: model.mixer: attention is not in this version; use hyena or none",
                    config_place(c, "model.mixer", at));
    const bool rows = position_levels(c) > 0;
    if (c->data.absent == ABSENT_SUMS && !rows)
        return fail(STATUS_USAGE,
                    "%s: data.absent: sums adds up rows of the position encoding; use "
                    "position.encoding: fpe or fpe-multi",
                    config_place(c, "data.absent", at));
    if (c->objective == OBJECTIVE_POSITION_CONDITIONED && !rows)
        return fail(STATUS_USAGE,
                    "%s: objective: position-conditioned needs rows of positions; use "
                    "position.encoding: fpe or fpe-multi",
                    config_place(c, "objective", at));
    if (m->d_model < 1 || m->d_model > WIDTH_MAX || m->n_layer < 0 || m->n_layer > 1024 ||
        m->d_inner < 1 || m->d_inner > WIDTH_MAX || m->order < 2 || m->order > 16 || m->l_max < 2 ||
        m->filter_order < 1 || m->filter_order > 4096 || m->emb_dim < 3 || m->emb_dim > 1025 ||
        m->emb_dim % 2 == 0)
        return fail(STATUS_USAGE,
                    "%s: the model's shape is out of range (d_model %lld, n_layer %lld, d_inner "
                    "%lld, order %lld, "
                    "l_max %lld, filter_order %lld, emb_dim %lld: odd from 3); correct it",
                    f, (long long)m->d_model, (long long)m->n_layer, (long long)m->d_inner,
                    (long long)m->order, (long long)m->l_max, (long long)m->filter_order,
                    (long long)m->emb_dim);
    if (m->short_filter_order != 3)
        return fail(STATUS_USAGE,
                    "%s: model.short_filter_order: the short convolution has 3 taps; write 3", f);
    if (classes < 0 || classes > CLASSES_MAX)
        return fail(STATUS_USAGE, "%s: %d classes, at most %d are possible; join some labels", f,
                    classes, CLASSES_MAX);
    if (m->n_layer == 0 && classes == 0)
        return fail(STATUS_USAGE,
                    "%s: model.n_layer: 0 is rows, pool and head alone and has no language model; "
                    "finetune it, or give "
                    "it layers",
                    f);
    return STATUS_OK;
}

/* A CPU evaluates such a model in fp32; model_plan refuses to train it there. */
bool model_mixed(const config *c, const device *dev)
{
    return c->train.precision == PRECISION_MIXED && dev->kind != DEVICE_CPU;
}

status model_open(const config *c, int classes, device *dev, model **out)
{
    *out = NULL;
    TRY(check_config(c, classes));
    model *m = calloc(1, sizeof *m);
    if (!m)
        return fail(STATUS_MEMORY, "model: no memory; free some");
    m->cfg = *c;
    m->classes = classes;
    m->dev = dev;
    m->d = c->model.d_model;
    m->order = c->model.mixer == MIXER_NONE ? 2 : c->model.order;
    m->inner = c->model.d_inner;
    m->layers = c->model.n_layer;
    m->mixed = model_mixed(c, dev);
    m->levels = position_levels(c);
    m->absent = c->data.absent == ABSENT_SUMS;
    m->next = c->objective == OBJECTIVE_POSITION_CONDITIONED && classes == 0;
    m->site_classes = classes > 0 ? (c->model.head == HEAD_CLASS_CONDITIONAL ? classes : 0)
                                  : c->objective == OBJECTIVE_NEXT_SITE;
    m->rank = c->position.rank;
    m->sites_a_token = 2.2; /* in the genotypes of docs/results.md */
    m->schedule = rows_as_they_are;
    m->share.size = 1;
    status st = parameters_layout(m);
    if (st == STATUS_OK)
        st = device_arena_open(dev, &m->values, "parameters", (size_t)m->floats * sizeof(float));
    if (st == STATUS_OK && !(m->kept = calloc((size_t)m->layers + 1, sizeof *m->kept)))
        st = fail(STATUS_MEMORY, "model: no memory; free some");
    const bool placed = c->position.rows == ROWS_SHARED && c->position.length != CONFIG_AUTO;
    if (st == STATUS_OK && m->levels && placed && !spans_needed(m))
        st = model_place(m, NULL);
    if (st != STATUS_OK) {
        model_close(&m);
        return st;
    }
    *out = m;
    return STATUS_OK;
}

void model_close(model **m)
{
    if (!*m)
        return;
    device_drain((*m)->dev); /* queued work may be inside */
    graph_close(*m);
    context_close(*m);
    rows_free(*m);
    spans_free(*m);
    position_close(&(*m)->position);
    device *dev = (*m)->dev;
    lend_free(*m);
    device_arena_close(dev, &(*m)->values);
    device_arena_close(dev, &(*m)->gradients);
    arenas_close(*m);
    parameters_free(*m);
    free((*m)->kept);
    free(*m);
    *m = NULL;
}

status model_place(model *m, const position_space *space)
{
    if (!m->levels && !m->site_classes)
        return STATUS_OK;
    position_encoding *x;
    TRY(position_open(m->dev, &m->cfg, (int)m->site_classes, space, (uint64_t)m->cfg.seed, &x));
    position_close(&m->position);
    m->position = x;
    return STATUS_OK;
}

/* What needs whole sequences on a worker; NULL: nothing. */
static const char *needs_whole(const model *m)
{
    if (m->classes > 0)
        return "fine-tuning";
    if (spans_needed(m))
        return "data.absent: sums, or objective: next-site,";
    return m->next ? "objective: position-conditioned" : NULL;
}

bool model_can_share(const model *m)
{
    return !needs_whole(m);
}

status model_share(model *m, const context_group *g)
{
    const char *what = g->size > 1 ? needs_whole(m) : NULL;
    if (what)
        return fail(STATUS_USAGE,
                    "%s: train.context_parallel: %s needs whole sequences on a worker; set it to 1",
                    name_of(&m->cfg), what);
    return context_open(m, g);
}

int model_sharers(const model *m)
{
    return m->share.size;
}

const config *model_config(const model *m)
{
    return &m->cfg;
}

int model_classes(const model *m)
{
    return m->classes;
}

int model_site_head(const model *m)
{
    return (int)m->site_classes;
}

device *model_device(const model *m)
{
    return m->dev;
}

position_encoding *model_position(model *m)
{
    return m->position;
}

keep_level model_keep(const config *c)
{
    switch (c->train.recompute) {
    case RECOMPUTE_NONE:
        return KEEP_ALL;
    case RECOMPUTE_ALL:
        return KEEP_INPUT;
    default:
        return KEEP_SELECTED;
    }
}

const char *keep_name(keep_level keep)
{
    static const char *const names[] = {
        [KEEP_INPUT] = "all", [KEEP_SELECTED] = "selected", [KEEP_ALL] = "none"};
    return names[keep];
}

float *take_floats(arena *a, int64_t n)
{
    return arena_take(a, (size_t)n * sizeof(float));
}

status arena_short(const arena *a)
{
    return fail(STATUS_INTERNAL,
                "model: the %s of %zu bytes are too small for this step; report this with the "
                "configuration",
                a->name, a->size);
}

/* Bytes of k that are generated at a time: a chunk needs the filter's MLP again, so chunks are
 * large. */
#define FILTER_BYTES ((int64_t)256 << 20)
#define FILTER_LEAST 32 /* channels */

int64_t filter_chunk(const model *m, int64_t L)
{
    int64_t dc = FILTER_BYTES / (length_padded(L) * (int64_t)sizeof(float));
    if (dc >= m->d)
        return m->d;
    if (dc < FILTER_LEAST)
        dc = FILTER_LEAST < m->d ? FILTER_LEAST : m->d;
    const int64_t chunks = (m->d + dc - 1) / dc;
    return (m->d + chunks - 1) / chunks;
}

mixin_args mixin_of(const model *m, const block_parameters *p, batch_shape s)
{
    return (mixin_args){.s = s,
                        .d = m->d,
                        .order = m->order,
                        .ln_w = value_of(m, p->norm1_w),
                        .ln_b = value_of(m, p->norm1_b),
                        .W = value_of(m, p->in_w),
                        .b = value_of(m, p->in_b),
                        .taps = value_of(m, p->short_w),
                        .tap_b = value_of(m, p->short_b),
                        .mixed = m->mixed};
}

mixout_args mixout_of(const model *m, const block_parameters *p, batch_shape s)
{
    return (mixout_args){.s = s,
                         .d = m->d,
                         .W = value_of(m, p->out_w),
                         .b = value_of(m, p->out_b),
                         .mixed = m->mixed};
}

mlp_args mlp_of(const model *m, const block_parameters *p, batch_shape s)
{
    return (mlp_args){.s = s,
                      .d = m->d,
                      .inner = m->inner,
                      .ln_w = value_of(m, p->norm2_w),
                      .ln_b = value_of(m, p->norm2_b),
                      .W1 = value_of(m, p->fc1_w),
                      .b1 = value_of(m, p->fc1_b),
                      .W2 = value_of(m, p->fc2_w),
                      .b2 = value_of(m, p->fc2_b),
                      .mixed = m->mixed};
}

filter_args filter_of(const model *m, const block_parameters *p, int64_t L, int64_t c0, int64_t dc)
{
    return (filter_args){.channels = (m->order - 1) * m->d,
                         .c0 = c0,
                         .dc = dc,
                         .F = m->cfg.model.filter_order,
                         .emb = m->cfg.model.emb_dim,
                         .l_max = m->cfg.model.l_max,
                         .L = L,
                         .shift = m->cfg.model.filter_shift,
                         .W0 = value_of(m, p->f0_w),
                         .b0 = value_of(m, p->f0_b),
                         .freq = value_of(m, p->freq),
                         .W2 = value_of(m, p->f2_w),
                         .b2 = value_of(m, p->f2_b),
                         .W4 = value_of(m, p->f4_w),
                         .b4 = value_of(m, p->f4_b),
                         .W6 = value_of(m, p->f6_w)};
}

conv_args conv_of(const model *m, batch_shape s, int64_t dc)
{
    return (conv_args){.s = s, .dc = dc, .k_stride = s.Lp, .mixed = m->mixed};
}

head_args head_of(const model *m, const batch *b, batch_shape s)
{
    return (head_args){.s = s,
                       .d = m->d,
                       .V = VOCABULARY_PADDED,
                       .ln_w = value_of(m, m->ln_f_w),
                       .ln_b = value_of(m, m->ln_f_b),
                       .E = value_of(m, m->embedding),
                       .targets = b ? b->targets : NULL};
}

classify_args classify_of(const model *m, const batch *b, batch_shape s)
{
    const int64_t H = m->head_hidden_w >= 0 ? m->cfg.finetune.head_hidden : 0;
    return (classify_args){.s = s,
                           .d = m->d,
                           .H = H,
                           .classes = m->classes,
                           .last = m->cfg.finetune.pool == POOL_LAST,
                           .ln_w = value_of(m, m->ln_f_w),
                           .ln_b = value_of(m, m->ln_f_b),
                           .Wh = value_of(m, m->head_hidden_w),
                           .bh = value_of(m, m->head_hidden_b),
                           .Wo = value_of(m, m->head_out_w),
                           .bo = value_of(m, m->head_out_b),
                           .labels = b ? b->label : NULL};
}

sites_args sites_of(const model *m, const batch *b, batch_shape s)
{
    sites_args a = {.s = s,
                    .d = m->d,
                    .classes = m->site_classes,
                    .rank = m->cfg.model.head_rank,
                    .H = m->head_hidden_w >= 0 ? m->cfg.finetune.head_hidden : 0,
                    .ln_w = value_of(m, m->ln_f_w),
                    .ln_b = value_of(m, m->ln_f_b),
                    .W = value_of(m, m->state_w),
                    .b = value_of(m, m->state_b),
                    .V = value_of(m, m->run_w),
                    .Eh = value_of(m, m->head_hidden_w),
                    .eh = value_of(m, m->head_hidden_b),
                    .Eo = value_of(m, m->head_out_w),
                    .eo = value_of(m, m->head_out_b),
                    .scale = value_of(m, m->scale),
                    .site_weight = m->cfg.finetune.site_weight};
    if (b) {
        a.rows = m->rows[site_table(m)].values;
        /* Slots are made for this batch, from its first entry on. */
        a.slot = (const int32_t *)((uintptr_t)m->rows[site_table(m)].slot_on -
                                   (size_t)m->spans.first * sizeof *a.slot);
        a.start = b->span.start;
        a.token = b->span.token;
        a.carried = b->span.carried;
        a.count = b->count;
        a.labels = m->classes > 0 ? b->label : NULL;
    }
    return a;
}

/* The levels of embed: rows of the tokens, sums of the rows that they skipped, rows of the tokens
 * that come next. */
static void embed_levels_of(const model *m, embed_args *a)
{
    for (int i = 0; i < m->levels; i++) {
        a->level[i] = (embed_level){
            .slot = m->rows[i].slot_on, .A = m->rows[i].values, .Bm = value_of(m, m->base[i])};
        int at = m->levels + i;
        if (m->absent) {
            a->level[at] = (embed_level){.slot = m->spans.identity_on,
                                         .A = m->spans.sums[i],
                                         .Bm = value_of(m, m->base[at])};
            at += m->levels;
        }
        if (m->next)
            a->level[at] = (embed_level){
                .slot = m->next_slot_on[i], .A = m->rows[i].values, .Bm = value_of(m, m->base[at])};
    }
    for (int i = 0; i < a->n_levels; i++)
        a->level[i].k = m->rank;
}

embed_args embed_of(const model *m, const batch *b, batch_shape s)
{
    embed_args a = {.s = s,
                    .d = m->d,
                    .V = VOCABULARY_PADDED,
                    .E = value_of(m, m->embedding),
                    .n_levels = embed_levels(m),
                    .added = m->added_on};
    embed_levels_of(m, &a);
    if (b) {
        a.ids = b->ids;
        a.dropout = b->training ? m->cfg.model.embed_dropout : 0.0;
        a.seed = (uint64_t)m->cfg.seed;
        a.step = b->step;
        a.stride = m->share.size > 1 ? length_padded(b->whole) : s.Lp;
        a.first_column = b->first_sequence * a.stride + b->first_position;
    }
    return a;
}
