/* The memory and work of a step, as the sum of what each operation answers for its shape, and the
 * arenas that are allocated from that very sum. Each phase below takes workspace in the order of
 * hyena.c, backward.c and rows.c: who changes one changes the other (tests/test_plan.c holds the
 * sums against the high-water marks). */
#include "model/parts.h"

#include <string.h>

#define F32 ((int64_t)sizeof(float))

typedef struct {
    op_cost embed, mixin, filter, conv, mixout, mlp, head, classify, sites;
    int64_t plane;  /* bytes of a (d, B, Lp) tensor */
    int64_t wide;   /* of a wide intermediate of that shape */
    int64_t chunks; /* of one convolution */
    int64_t fills;  /* of its filters, each of some chunks */
    int64_t k;      /* bytes of the filters of a fill */
    int64_t convs;
    int64_t halo, there, back; /* of shared sequences: the halo, channels forward and backward */
} costs;

/* s: as this worker holds the sequences. */
static costs costs_of(const model *m, batch_shape s, batch_shape whole, keep_level keep)
{
    /* Without a body the block's costs stay zero. */
    const int64_t plane = m->d * s.B * s.Lp;
    costs c = {.plane = plane * F32, .wide = plane * wide_bytes(m)};
    const embed_args e = embed_of(m, NULL, s);
    c.embed = embed_cost(m->dev, &e);
    const head_args h = head_of(m, NULL, s);
    c.head = head_cost(m->dev, &h);
    if (m->site_classes) {
        const sites_args a = sites_of(m, NULL, s);
        c.sites = sites_cost(m->dev, &a, spans_expected(m, s));
    } else if (m->classes) {
        const classify_args a = classify_of(m, NULL, s);
        c.classify = classify_cost(m->dev, &a);
    }
    if (m->layers == 0)
        return c;
    const block_parameters *p = &m->block[0];
    const mlp_args l = mlp_of(m, p, s);
    c.mlp = mlp_cost(m->dev, &l, keep);
    if (m->cfg.model.mixer == MIXER_NONE)
        return c;
    mixin_args mi = mixin_of(m, p, s);
    if (m->share.size > 1)
        mi.halo = value_of(m, p->in_w); /* that there is one */
    /* u is at hand in every backward pass: kept, or made by the forward pass that is done again. */
    c.mixin = mixin_cost(m->dev, &mi, KEEP_SELECTED);
    const mixout_args mo = mixout_of(m, p, s);
    c.mixout = mixout_cost(m->dev, &mo);
    const int64_t chunk = context_width(m, whole.L), fill = context_fill(m, whole.L);
    const filter_args f = filter_of(m, p, whole.L, 0, fill);
    c.filter = filter_cost(m->dev, &f);
    const conv_args v = conv_of(m, whole, chunk);
    c.conv = conv_cost(m->dev, &v);
    c.chunks = context_groups(m, whole.L);
    c.fills = context_fills(m, whole.L);
    c.k = (int64_t)arena_round((size_t)(fill * whole.Lp * F32));
    c.convs = m->order - 1;
    c.halo = context_halo_bytes(m, s);
    c.there = context_bytes(m, whole, c.convs > 1 ? 3 : 2);
    c.back = context_bytes(m, whole, c.convs > 1 ? 5 : 3);
    return c;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Peak of hyena_forward; `conv` and `u` say that the caller keeps them. */
static int64_t forward_peak(const costs *c, bool conv)
{
    const int64_t held = c->halo + (c->convs + 1 + (conv ? 0 : c->convs)) * c->wide;
    return held + most(most(c->mixin.workspace, c->mixout.workspace),
                       c->k + c->there + most(c->filter.workspace, c->conv.workspace));
}

static int64_t backward_peak(const costs *c)
{
    const int64_t outer = 2 * c->halo + 2 * c->convs * c->wide;
    const int64_t inner = (c->convs > 1 ? 3 : 2) * c->wide;
    const int64_t chunk = 2 * c->k + c->back + most(c->filter.workspace, c->conv.workspace);
    return outer + most(inner + most(most(c->mixin.workspace, c->mixout.workspace), chunk),
                        c->mixin.workspace);
}

static int64_t workspace_of(const model *m, const costs *c, batch_shape s, keep_level keep,
                            bool training)
{
    int64_t bytes = most(c->embed.workspace,
                         most(c->mlp.workspace, most(most(c->head.workspace, c->sites.workspace),
                                                     c->classify.workspace)));
    const bool mixer = c->convs > 0;
    if (mixer)
        bytes = most(bytes, forward_peak(c, training && keep != KEEP_INPUT));
    if (!training)
        return bytes;
    const int64_t dA = embed_levels(m) * (int64_t)arena_round((size_t)(s.B * s.Lp * m->rank * F32));
    bytes = most(bytes, dA + most(c->embed.workspace, m->levels ? rows_workspace(m, s) : 0));
    if (!mixer)
        return bytes;
    if (keep != KEEP_INPUT)
        return most(bytes, backward_peak(c));
    const int64_t again = (m->order + 1 + c->convs) * c->wide; /* u and the convolutions' results */
    bytes = most(bytes, again + c->plane + most(forward_peak(c, true), c->mlp.workspace));
    return most(bytes, again + backward_peak(c));
}

/* What model_prepare takes from the activations, in bytes; every piece is rounded as the arena
 * rounds. */
static int64_t activations_of(const model *m, const costs *c, batch_shape s, keep_level keep,
                              bool training)
{
    const int64_t plane = c->plane; /* a multiple of 64 positions: never rounded */
    int64_t bytes = plane + lend_bytes(m, s) + rows_bytes(m, s) + spans_bytes(m, s);
    if (m->cfg.position.encoding == ENCODING_SINUSOIDAL)
        bytes += plane;
    if (!training)
        return bytes;
    bytes += plane; /* dresidual */
    const bool mixer = m->cfg.model.mixer != MIXER_NONE;
    int64_t block = plane;
    if (keep != KEEP_INPUT && mixer)
        block += c->mixin.kept + c->convs * c->wide + plane;
    if (keep == KEEP_ALL)
        block += c->mlp.kept;
    return bytes + m->layers * block;
}

status model_plan(const model *m, batch_shape whole, keep_level keep, bool training,
                  model_cost *cost)
{
    char at[CONFIG_PLACE];
    memset(cost, 0, sizeof *cost);
    if (whole.B < 1 || whole.L < 1 || whole.Lp != length_padded(whole.L))
        return fail(STATUS_USAGE,
                    "plan: a batch of %lld sequences of %lld tokens; both must be at least 1",
                    (long long)whole.B, (long long)whole.L);
    if (training && m->cfg.train.precision == PRECISION_MIXED && !m->mixed)
        return fail(STATUS_USAGE,
                    "%s: train.precision: mixed needs a GPU and this is a CPU; use "
                    "train.precision=fp32, or --device cuda where a GPU is",
                    config_place(&m->cfg, "train.precision", at));
    if (m->layers && m->cfg.model.mixer == MIXER_HYENA && whole.L > m->cfg.model.l_max)
        return fail(STATUS_USAGE,
                    "%s: sequences of %lld tokens, but model.l_max is %lld; shorten data.seq_len",
                    m->cfg.file[0] ? m->cfg.file : "model", (long long)whole.L,
                    (long long)m->cfg.model.l_max);
    const batch_shape s = context_shape(&m->share, whole);
    const costs c = costs_of(m, s, whole, keep);
    cost->weights = m->floats * F32;
    cost->gradients = training ? m->floats * F32 : 0;
    cost->activations = activations_of(m, &c, s, keep, training);
    cost->workspace = workspace_of(m, &c, s, keep, training);
    cost->ragged = spans_ragged(m, s, training);

    const op_cost *top = m->site_classes ? &c.sites : m->classes ? &c.classify : &c.head;
    const int64_t fills = c.convs * c.fills, convs = c.convs * c.chunks;
#define SUM(what) (c.mixin.what + fills * c.filter.what + convs * c.conv.what + c.mixout.what)
    const int64_t mixer_flops = SUM(flops_forward), mixer_bytes = SUM(bytes_forward);
    cost->flops_forward = c.embed.flops_forward + m->layers * (mixer_flops + c.mlp.flops_forward) +
                          top->flops_forward;
    cost->bytes_forward = c.embed.bytes_forward + m->layers * (mixer_bytes + c.mlp.bytes_forward) +
                          top->bytes_forward;
    if (!training)
        return STATUS_OK;
    /* Filters are never kept; at KEEP_INPUT the whole mixer runs again. */
    const bool again = keep == KEEP_INPUT;
    const int64_t flops =
        SUM(flops_backward) + (again ? mixer_flops : 0) + fills * c.filter.flops_forward;
    const int64_t bytes =
        SUM(bytes_backward) + (again ? mixer_bytes : 0) + fills * c.filter.bytes_forward;
#undef SUM
    cost->flops_backward =
        c.embed.flops_backward + m->layers * (flops + c.mlp.flops_backward) + top->flops_backward;
    cost->bytes_backward =
        c.embed.bytes_backward + m->layers * (bytes + c.mlp.bytes_backward) + top->bytes_backward;
    return STATUS_OK;
}

static status take_kept(model *m, block_kept *k, int64_t plane, keep_level keep)
{
    arena *a = &m->activations;
    memset(k, 0, sizeof *k);
    const bool mixer = m->cfg.model.mixer != MIXER_NONE;
    k->in = take_floats(a, plane);
    if (keep != KEEP_INPUT && mixer) {
        k->u = take_wide(m, a, (m->order + 1) * plane);
        k->conv = take_wide(m, a, (m->order - 1) * plane);
        k->middle = take_floats(a, plane);
    }
    if (keep == KEEP_ALL)
        k->h = take_wide(m, a, plane / m->d * m->inner);
    const bool missing = !k->in ||
                         (keep != KEEP_INPUT && mixer && (!k->u || !k->conv || !k->middle)) ||
                         (keep == KEEP_ALL && !k->h);
    return missing ? arena_short(a) : STATUS_OK;
}

void arenas_close(model *m)
{
    device_arena_close(m->dev, &m->activations);
    device_arena_close(m->dev, &m->workspace);
    device_host_give(m->dev, m->twins.base);
    m->twins = (arena){0};
}

void model_reserve(model *m, int64_t activations, int64_t workspace)
{
    m->reserved[0] = activations;
    m->reserved[1] = workspace;
}

static size_t arena_want(int64_t bytes, int64_t reserved)
{
    return arena_round((size_t)most(most(bytes, reserved), ARENA_ALIGN));
}

/* Arenas of these sizes, empty. Those that have them stay where they are; what has not goes before
 * anything else is taken. */
static status arenas_fit(model *m, size_t activations, size_t workspace)
{
    arena *all[2] = {&m->activations, &m->workspace};
    const size_t want[2] = {activations, workspace};
    static const char *const name[2] = {"activations", "workspace"};
    device_drain(m->dev); /* queued work may be inside */
    for (int i = 0; i < 2; i++)
        if (all[i]->size != want[i])
            device_arena_close(m->dev, all[i]);
    for (int i = 0; i < 2; i++) {
        if (!all[i]->base)
            TRY(device_arena_open(m->dev, all[i], name[i], want[i]));
        all[i]->used = all[i]->high = 0;
    }
    return STATUS_OK;
}

static status twins_fit(model *m, batch_shape s)
{
    int64_t bytes = rows_twins(m, s) + spans_twins(m, s) + lend_bytes(m, s) + ARENA_ALIGN;
    if (m->cfg.position.encoding == ENCODING_SINUSOIDAL)
        bytes += m->d * s.B * s.Lp * F32;
    if ((size_t)bytes <= m->twins.size) {
        m->twins.used = 0;
        memset(m->twins.base, 0, (size_t)bytes);
        return STATUS_OK;
    }
    device_host_give(m->dev, m->twins.base);
    m->twins = (arena){0};
    void *base = NULL;
    TRY(device_host_take(m->dev, (size_t)bytes, &base));
    m->twins = (arena){.name = "twins", .base = base, .size = (size_t)bytes};
    memset(base, 0, (size_t)bytes);
    return STATUS_OK;
}

status model_prepare(model *m, batch_shape whole, keep_level keep, bool training)
{
    model_cost cost;
    const batch_shape s = context_shape(&m->share, whole);
    TRY(model_plan(m, whole, keep, training, &cost));
    m->shape = (batch_shape){0, 0, 0};
    graph_close(m);
    if (training && !model_gradients(m))
        return failure_last()->code;
    TRY(arenas_fit(m, arena_want(cost.activations, m->reserved[0]),
                   arena_want(cost.workspace, m->reserved[1])));
    if (!device_is_host(m->dev))
        TRY(twins_fit(m, s));
    const int64_t plane = m->d * s.B * s.Lp;
    m->residual = take_floats(&m->activations, plane);
    void *added = NULL;
    m->added = m->cfg.position.encoding == ENCODING_SINUSOIDAL
                   ? take_twin(m, (size_t)plane * sizeof(float), &added)
                   : NULL;
    m->added_on = added;
    TRY(lend_reserve(m, s));
    TRY(rows_reserve(m, s));
    TRY(spans_reserve(m, s));
    m->dresidual = NULL;
    if (training) {
        m->dresidual = take_floats(&m->activations, plane);
        for (int64_t i = 0; i < m->layers; i++)
            TRY(take_kept(m, &m->kept[i], plane, keep));
    }
    if (!m->residual || (training && !m->dresidual))
        return arena_short(&m->activations);
    m->shape = s;
    m->keep = keep;
    m->training = training;
    return STATUS_OK;
}

void model_high_water(const model *m, size_t *activations, size_t *workspace)
{
    *activations = m->activations.high;
    *workspace = m->workspace.high;
}
