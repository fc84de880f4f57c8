/* Initial values (docs/model.md): a pure function of (seed, index of the tensor, index of the
 * element), so that every rank makes the same weights without sending any. */
#include "model/parts.h"

#include "runtime/core/rng.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

typedef struct {
    enum { FILL_CONSTANT, FILL_NORMAL, FILL_UNIFORM } kind;
    double size; /* value, standard deviation, half-width */
} fill;

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), k = strlen(tail);
    return n >= k && !strcmp(name + n - k, tail);
}

/* Linear layers as PyTorch leaves them: uniform within 1 / sqrt(inputs), biases too. */
static fill fan_in_of(const model *m, const parameter *p)
{
    if (ends_with(p->name, "word_embeddings.weight"))
        return (fill){FILL_NORMAL, 0.3};
    if (p->ndim == 2)
        return (fill){FILL_UNIFORM, 1.0 / sqrt((double)p->shape[1])};
    /* The weight of a bias stands just before it in the list, or just after in the filters. */
    const int i = (int)(p - m->list);
    const parameter *w = i > 0 && m->list[i - 1].ndim == 2 && m->list[i - 1].shape[0] == p->count
                             ? &m->list[i - 1]
                             : NULL;
    return w ? (fill){FILL_UNIFORM, 1.0 / sqrt((double)w->shape[1])} : (fill){FILL_CONSTANT, 0.0};
}

static fill fill_of(const model *m, const parameter *p)
{
    const double narrow =
        m->cfg.model.residual_init / sqrt(2.0 * (double)(m->layers > 0 ? m->layers : 1));
    if (ends_with(p->name, "sites.scale"))
        return (fill){FILL_CONSTANT, 0.5};
    if (ends_with(p->name, "evidence.hidden.weight"))
        return (fill){FILL_UNIFORM, 1.0 / sqrt((double)m->d)};
    if (ends_with(p->name, "short_filter.weight") || ends_with(p->name, "short_filter.bias"))
        return (fill){FILL_UNIFORM, 1.0 / sqrt(3.0)};
    if (ends_with(p->name, "filter_fn.bias"))
        return (fill){FILL_NORMAL, 1.0};
    if (ends_with(p->name, ".freq"))
        return (fill){FILL_CONSTANT, 10.0};
    if (ends_with(p->name, "norm1.weight") || ends_with(p->name, "norm2.weight") ||
        ends_with(p->name, "ln_f.weight"))
        return (fill){FILL_CONSTANT, 1.0};
    if (ends_with(p->name, "bias") &&
        (m->cfg.model.init == WEIGHTS_PUBLISHED || p->group == GROUP_HEAD ||
         ends_with(p->name, "fc2.bias") || ends_with(p->name, "out_proj.bias") ||
         strstr(p->name, "norm") || strstr(p->name, "ln_f")))
        return (fill){FILL_CONSTANT, 0.0};
    if (ends_with(p->name, "out_proj.weight") || ends_with(p->name, "fc2.weight"))
        return (fill){FILL_NORMAL, narrow};
    /* Rows of unit-free size: E(p) = A B has the scale of A where B ~ N(0, 1/k). */
    if (p->group == GROUP_POSITION)
        return (fill){FILL_NORMAL, 1.0 / sqrt((double)m->rank)};
    if (m->cfg.model.init == WEIGHTS_FAN_IN && p->group != GROUP_HEAD)
        return fan_in_of(m, p);
    return (fill){FILL_NORMAL, 0.02};
}

static void fill_with(fill f, uint64_t seed, int i, int64_t count, float *x)
{
    for (int64_t e = 0; e < count; e++) {
        if (f.kind == FILL_CONSTANT) {
            x[e] = (float)f.size;
            continue;
        }
        rng r = rng_at(seed, RNG_WEIGHTS, (uint64_t)i << 40 | (uint64_t)e, 0);
        x[e] = (float)(f.kind == FILL_NORMAL ? f.size * rng_normal(&r)
                                             : f.size * (2.0 * rng_uniform(&r) - 1.0));
    }
}

status model_initialise(model *m, uint64_t seed)
{
    device_view view;
    TRY(device_view_open(m->dev, m->values.base, (size_t)m->floats * sizeof(float), true, &view));
    for (int i = 0; i < m->n; i++) {
        const parameter *p = &m->list[i];
        fill_with(fill_of(m, p), seed, i, p->count, (float *)view.host + p->offset);
    }
    return device_view_close(&view, true, STATUS_OK);
}
