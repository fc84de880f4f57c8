/* The parameter arena: every tensor by its published name, in the order in which backward finishes
 * gradients (heads, final norm, blocks from the last to the first, position factors, embedding),
 * each at a multiple of 16 floats. */
#include "model/parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN_FLOATS 16

typedef struct {
    model *m;
    int room;
    bool full;
} layout;

/* Adds a tensor and returns its index. */
static int add(layout *l, parameter_group group, bool decay, int ndim, int64_t a, int64_t b,
               int64_t c, const char *format, ...)
{
    model *m = l->m;
    if (m->n == l->room) {
        int room = l->room ? 2 * l->room : 64;
        parameter *list = realloc(m->list, (size_t)room * sizeof *list);
        if (!list) {
            l->full = true;
            return -1;
        }
        m->list = list;
        l->room = room;
    }
    parameter *p = &m->list[m->n];
    *p = (parameter){.shape = {a, ndim > 1 ? b : 0, ndim > 2 ? c : 0},
                     .ndim = ndim,
                     .count = a * (ndim > 1 ? b : 1) * (ndim > 2 ? c : 1),
                     .offset = m->floats,
                     .group = group,
                     .decay = decay};
    va_list args;
    va_start(args, format);
    vsnprintf(p->name, sizeof p->name, format, args);
    va_end(args);
    m->floats += (p->count + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
    m->learned += p->count;
    return m->n++;
}

static int vector(layout *l, int64_t n, const char *format, int layer)
{
    char name[96];
    snprintf(name, sizeof name, "layers.%d.%s", layer, format);
    return add(l, GROUP_BODY, true, 1, n, 0, 0, "%s", name);
}

static int matrix(layout *l, int64_t rows, int64_t columns, const char *format, int layer)
{
    char name[96];
    snprintf(name, sizeof name, "layers.%d.%s", layer, format);
    return add(l, GROUP_BODY, true, 2, rows, columns, 0, "%s", name);
}

static void filter_layout(layout *l, block_parameters *p, int i)
{
    const config_model *c = &l->m->cfg.model;
    const int64_t F = c->filter_order, channels = (l->m->order - 1) * l->m->d;
#define FILTER(ndim, a, b, name)                                                                   \
    add(l, GROUP_FILTER, false, ndim, a, b, 0, "layers.%d.mixer.filter_fn.implicit_filter." name, i)
    p->f6_w = FILTER(2, channels, F, "6.weight");
    p->f4_w = FILTER(2, F, F, "4.weight");
    p->f4_b = FILTER(1, F, 0, "4.bias");
    p->f2_w = FILTER(2, F, F, "2.weight");
    p->f2_b = FILTER(1, F, 0, "2.bias");
    p->f0_w = FILTER(2, F, c->emb_dim, "0.weight");
    p->f0_b = FILTER(1, F, 0, "0.bias");
    p->freq = FILTER(2, 1, F, "1.freq");
#undef FILTER
}

static void block_layout(layout *l, block_parameters *p, int i)
{
    const model *m = l->m;
    const int64_t d = m->d, N = m->order;
    *p = (block_parameters){-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                            -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    p->fc2_w = matrix(l, d, m->inner, "mlp.fc2.weight", i);
    p->fc2_b = vector(l, d, "mlp.fc2.bias", i);
    p->fc1_w = matrix(l, m->inner, d, "mlp.fc1.weight", i);
    p->fc1_b = vector(l, m->inner, "mlp.fc1.bias", i);
    p->norm2_w = vector(l, d, "norm2.weight", i);
    p->norm2_b = vector(l, d, "norm2.bias", i);
    if (m->cfg.model.mixer == MIXER_NONE)
        return;
    p->out_w = matrix(l, d, d, "mixer.out_proj.weight", i);
    p->out_b = vector(l, d, "mixer.out_proj.bias", i);
    p->skip = vector(l, (N - 1) * d, "mixer.filter_fn.bias", i);
    filter_layout(l, p, i);
    p->short_w = add(l, GROUP_BODY, true, 3, (N + 1) * d, 1, m->cfg.model.short_filter_order,
                     "layers.%d.mixer.short_filter.weight", i);
    p->short_b = vector(l, (N + 1) * d, "mixer.short_filter.bias", i);
    p->in_w = matrix(l, (N + 1) * d, d, "mixer.in_proj.weight", i);
    p->in_b = vector(l, (N + 1) * d, "mixer.in_proj.bias", i);
    p->norm1_w = vector(l, d, "norm1.weight", i);
    p->norm1_b = vector(l, d, "norm1.bias", i);
}

/* Site head: queries of the state and of the run, and for several classes the evidence of the
 * states themselves with the scale of the likelihoods beside it. */
static void site_head_layout(layout *l)
{
    model *m = l->m;
    const int64_t C = m->site_classes, r = m->cfg.model.head_rank;
    const int64_t H = m->classes ? m->cfg.finetune.head_hidden : 0;
    if (H) {
        m->head_out_w = add(l, GROUP_HEAD, true, 2, C, H, 0, "head.evidence.output.weight");
        m->head_out_b = add(l, GROUP_HEAD, true, 1, C, 0, 0, "head.evidence.output.bias");
        m->head_hidden_w = add(l, GROUP_HEAD, true, 2, H, m->d, 0, "head.evidence.hidden.weight");
        m->head_hidden_b = add(l, GROUP_HEAD, true, 1, H, 0, 0, "head.evidence.hidden.bias");
    }
    if (m->classes)
        m->scale = add(l, GROUP_HEAD, false, 1, 1, 0, 0, "head.sites.scale");
    m->state_w = add(l, GROUP_HEAD, true, 2, C * r, m->d, 0, "head.sites.state.weight");
    m->state_b = add(l, GROUP_HEAD, true, 1, C * r, 0, 0, "head.sites.state.bias");
    m->run_w = add(l, GROUP_HEAD, true, 2, C * r, r, 0, "head.sites.run.weight");
}

static void head_layout(layout *l)
{
    model *m = l->m;
    m->head_hidden_w = m->head_hidden_b = m->head_out_w = m->head_out_b = -1;
    m->state_w = m->state_b = m->run_w = m->scale = -1;
    if (m->site_classes) {
        site_head_layout(l);
        return;
    }
    if (m->classes == 0)
        return;
    /* Without blocks the head is linear: rows, pool and head alone. */
    const int64_t H = m->layers ? m->cfg.finetune.head_hidden : 0;
    m->head_out_w = add(l, GROUP_HEAD, true, 2, m->classes, H ? H : m->d, 0, "head.output.weight");
    m->head_out_b = add(l, GROUP_HEAD, true, 1, m->classes, 0, 0, "head.output.bias");
    if (H) {
        m->head_hidden_w = add(l, GROUP_HEAD, true, 2, H, m->d, 0, "head.hidden.weight");
        m->head_hidden_b = add(l, GROUP_HEAD, true, 1, H, 0, 0, "head.hidden.bias");
    }
}

status parameters_layout(model *m)
{
    layout l = {.m = m};
    m->block = calloc((size_t)m->layers + 1, sizeof *m->block);
    if (!m->block)
        return fail(STATUS_MEMORY, "model: no memory for %lld layers; lower model.n_layer",
                    (long long)m->layers);
    head_layout(&l);
    m->ln_f_w = m->ln_f_b = -1;
    if (m->layers > 0) {
        m->ln_f_w = add(&l, GROUP_BODY, true, 1, m->d, 0, 0, "ln_f.weight");
        m->ln_f_b = add(&l, GROUP_BODY, true, 1, m->d, 0, 0, "ln_f.bias");
    }
    for (int i = (int)m->layers - 1; i >= 0; i--)
        block_layout(&l, &m->block[i], i);
    /* B and A are two factors of one table: decay on one of them only rescales the other, so
     * neither has any. */
    static const char *const kind[] = {"", "absent.", "next."};
    for (int part = 0, at = 0; part < 3; part++)
        for (int i = 0; i < m->levels && (part == 0 || (part == 1 ? m->absent : m->next)); i++)
            m->base[at++] = add(&l, GROUP_POSITION, false, 2, m->rank, m->d, 0, "position.%s%d.B",
                                kind[part], i);
    m->embedding = add(&l, GROUP_BODY, true, 2, VOCABULARY_PADDED, m->d, 0,
                       "embeddings.word_embeddings.weight");
    if (l.full)
        return fail(STATUS_MEMORY, "model: no memory for the list of its tensors; free some");
    return STATUS_OK;
}

void parameters_free(model *m)
{
    free(m->list);
    free(m->block);
    m->list = NULL;
    m->block = NULL;
}

int model_parameters(const model *m, const parameter **list)
{
    *list = m->list;
    return m->n;
}

int64_t model_floats(const model *m)
{
    return m->floats;
}

int64_t model_parameter_count(const model *m)
{
    return m->learned;
}

float *model_values(model *m)
{
    return (float *)(void *)m->values.base;
}

float *model_gradients(model *m)
{
    if (!m->gradients.base && device_arena_open(m->dev, &m->gradients, "gradients",
                                                (size_t)m->floats * sizeof(float)) != STATUS_OK)
        return NULL;
    return (float *)(void *)m->gradients.base;
}
