/* The whole model once more, in double precision and by the formulas alone (docs/model.md): direct
 * sums, no transforms, no tiles, no keeping. What the tests hold the real one against. */
#ifndef CROCUTA_TESTS_NAIVE_MODEL_H
#define CROCUTA_TESTS_NAIVE_MODEL_H

#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    model *m;
    double *w;                         /* parameters, laid out as model_values */
    double *A[EMBED_LEVELS];           /* rows by slot */
    const int32_t *slot[EMBED_LEVELS]; /* (B, Lp) */
    int levels;
} naive;

static inline const parameter *naive_find(const naive *n, const char *name)
{
    const parameter *p;
    const int count = model_parameters(n->m, &p);
    for (int i = 0; i < count; i++)
        if (!strcmp(p[i].name, name))
            return &p[i];
    return NULL;
}

/* layer -1: a name without a layer. */
static inline const double *naive_get(const naive *n, int layer, const char *what)
{
    char name[128];
    if (layer < 0)
        snprintf(name, sizeof name, "%s", what);
    else
        snprintf(name, sizeof name, "layers.%d.%s", layer, what);
    const parameter *p = naive_find(n, name);
    return p ? n->w + p->offset : NULL;
}

/* y (L, d) = LN(x); a NULL weight: no norm */
static inline void naive_norm(int64_t L, int64_t d, const double *x, const double *w,
                              const double *b, double *y)
{
    for (int64_t t = 0; t < L; t++) {
        double mean = 0, var = 0;
        for (int64_t c = 0; c < d; c++)
            mean += x[t * d + c] / (double)d;
        for (int64_t c = 0; c < d; c++)
            var += (x[t * d + c] - mean) * (x[t * d + c] - mean) / (double)d;
        for (int64_t c = 0; c < d; c++)
            y[t * d + c] =
                w ? (x[t * d + c] - mean) / sqrt(var + 1e-5) * w[c] + b[c] : x[t * d + c];
    }
}

/* y (L, out) = x W^T + b */
static inline void naive_linear(int64_t L, int64_t in, int64_t out, const double *x,
                                const double *W, const double *b, double *y)
{
    for (int64_t t = 0; t < L; t++)
        for (int64_t o = 0; o < out; o++) {
            double s = b ? b[o] : 0;
            for (int64_t c = 0; c < in; c++)
                s += W[o * in + c] * x[t * in + c];
            y[t * out + o] = s;
        }
}

static inline double naive_gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

/* k (L, channels) */
static inline void naive_filter(const naive *n, int layer, int64_t L, double *k)
{
    const config_model *c = &model_config(n->m)->model;
    const int64_t F = c->filter_order, emb = c->emb_dim, bands = (emb - 1) / 2,
                  channels = (c->order - 1) * c->d_model;
    static const char *const W[] = {"0", "2", "4"};
    const double *freq = naive_get(n, layer, "mixer.filter_fn.implicit_filter.1.freq");
    double *a = calloc((size_t)(F > emb ? F : emb), sizeof *a),
           *z = calloc((size_t)(F > emb ? F : emb), sizeof *z);
    for (int64_t i = 0; i < L; i++) {
        const double tau = (double)i / (double)(c->l_max - 1),
                     w = 2 * M_PI * (double)i / (double)c->l_max;
        z[0] = tau;
        for (int64_t j = 0; j < bands; j++) {
            const double f =
                bands > 1 ? 1e-4 + (double)j * ((double)bands - 1 - 1e-4) / (double)(bands - 1)
                          : 1e-4;
            z[1 + j] = cos(f * w);
            z[1 + bands + j] = -sin(f * w);
        }
        for (int l = 0; l < 3; l++) {
            char name[96];
            snprintf(name, sizeof name, "mixer.filter_fn.implicit_filter.%s.weight", W[l]);
            const double *weight = naive_get(n, layer, name);
            snprintf(name, sizeof name, "mixer.filter_fn.implicit_filter.%s.bias", W[l]);
            naive_linear(1, l ? F : emb, F, z, weight, naive_get(n, layer, name), a);
            for (int64_t j = 0; j < F; j++)
                z[j] = sin(freq[j] * a[j]);
        }
        naive_linear(1, F, channels, z,
                     naive_get(n, layer, "mixer.filter_fn.implicit_filter.6.weight"), NULL,
                     k + i * channels);
        const double fast = log(0.01) / 0.3, slow = log(0.01) / 1.5;
        for (int64_t ch = 0; ch < channels; ch++) {
            const double delta =
                channels > 1 ? slow + (double)ch * (fast - slow) / (double)(channels - 1) : slow;
            k[i * channels + ch] *= exp(-tau * fabs(delta)) + c->filter_shift;
        }
    }
    free(a);
    free(z);
}

/* r (L, d) += Hyena(LN1(r)) */
static inline void naive_hyena(const naive *n, int layer, int64_t L, double *r)
{
    const config_model *c = &model_config(n->m)->model;
    const int64_t d = c->d_model, N = c->order, wide = (N + 1) * d, channels = (N - 1) * d;
    double *x = calloc((size_t)(L * d), sizeof *x), *u = calloc((size_t)(L * wide), sizeof *u);
    double *uc = calloc((size_t)(L * wide), sizeof *uc),
           *k = calloc((size_t)(L * channels), sizeof *k);
    double *v = calloc((size_t)(L * d), sizeof *v), *g = calloc((size_t)(L * d), sizeof *g);
    naive_norm(L, d, r, naive_get(n, layer, "norm1.weight"), naive_get(n, layer, "norm1.bias"), x);
    naive_linear(L, d, wide, x, naive_get(n, layer, "mixer.in_proj.weight"),
                 naive_get(n, layer, "mixer.in_proj.bias"), u);
    const double *taps = naive_get(n, layer, "mixer.short_filter.weight");
    const double *tap_b = naive_get(n, layer, "mixer.short_filter.bias"),
                 *D = naive_get(n, layer, "mixer.filter_fn.bias");
    for (int64_t t = 0; t < L; t++)
        for (int64_t ch = 0; ch < wide; ch++) {
            uc[t * wide + ch] = tap_b[ch];
            for (int64_t j = 0; j < 3; j++)
                if (t - 2 + j >= 0)
                    uc[t * wide + ch] += taps[ch * 3 + j] * u[(t - 2 + j) * wide + ch];
        }
    naive_filter(n, layer, L, k);
    for (int64_t t = 0; t < L; t++)
        for (int64_t ch = 0; ch < d; ch++)
            v[t * d + ch] = uc[t * wide + N * d + ch];
    for (int64_t i = N - 1; i >= 1; i--) {
        const int64_t o = N - 1 - i; /* which of the filters */
        for (int64_t j = 0; j < L * d; j++)
            g[j] = v[j] * uc[j / d * wide + i * d + j % d];
        for (int64_t t = 0; t < L; t++)
            for (int64_t ch = 0; ch < d; ch++) {
                double s = D[o * d + ch] * g[t * d + ch];
                for (int64_t from = 0; from <= t; from++)
                    s += k[(t - from) * channels + o * d + ch] * g[from * d + ch];
                v[t * d + ch] = s;
            }
    }
    for (int64_t j = 0; j < L * d; j++)
        v[j] *= uc[j / d * wide + j % d];
    naive_linear(L, d, d, v, naive_get(n, layer, "mixer.out_proj.weight"),
                 naive_get(n, layer, "mixer.out_proj.bias"), g);
    for (int64_t j = 0; j < L * d; j++)
        r[j] += g[j];
    free(x);
    free(u);
    free(uc);
    free(k);
    free(v);
    free(g);
}

static inline void naive_mlp(const naive *n, int layer, int64_t L, double *r)
{
    const config_model *c = &model_config(n->m)->model;
    const int64_t d = c->d_model, inner = c->d_inner;
    double *x = calloc((size_t)(L * d), sizeof *x), *h = calloc((size_t)(L * inner), sizeof *h);
    naive_norm(L, d, r, naive_get(n, layer, "norm2.weight"), naive_get(n, layer, "norm2.bias"), x);
    naive_linear(L, d, inner, x, naive_get(n, layer, "mlp.fc1.weight"),
                 naive_get(n, layer, "mlp.fc1.bias"), h);
    for (int64_t j = 0; j < L * inner; j++)
        h[j] = naive_gelu(h[j]);
    naive_linear(L, inner, d, h, naive_get(n, layer, "mlp.fc2.weight"),
                 naive_get(n, layer, "mlp.fc2.bias"), x);
    for (int64_t j = 0; j < L * d; j++)
        r[j] += x[j];
    free(x);
    free(h);
}

/* -log softmax(x)[target] */
static inline double naive_cross_entropy(int64_t n, const double *x, int target)
{
    double top = x[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        top = fmax(top, x[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp(x[i] - top);
    return top + log(sum) - x[target];
}

static inline double naive_classify(const naive *n, int64_t L, const double *hidden, int label)
{
    const config *c = model_config(n->m);
    const int64_t d = c->model.d_model, classes = model_classes(n->m);
    double pooled[256] = {0}, middle[256], logits[64];
    for (int64_t t = c->finetune.pool == POOL_LAST ? L - 1 : 0; t < L; t++)
        for (int64_t ch = 0; ch < d; ch++)
            pooled[ch] += hidden[t * d + ch] / (c->finetune.pool == POOL_LAST ? 1.0 : (double)L);
    const double *Wh = naive_get(n, -1, "head.hidden.weight"), *x = pooled;
    int64_t H = d;
    if (Wh) {
        H = naive_find(n, "head.hidden.weight")->shape[0];
        naive_linear(1, d, H, pooled, Wh, naive_get(n, -1, "head.hidden.bias"), middle);
        for (int64_t i = 0; i < H; i++)
            middle[i] = naive_gelu(middle[i]);
        x = middle;
    }
    naive_linear(1, H, classes, x, naive_get(n, -1, "head.output.weight"),
                 naive_get(n, -1, "head.output.bias"), logits);
    return naive_cross_entropy(classes, logits, label);
}

/* Loss sum of a batch: of the labels where there are any, else of the targets. */
static inline double naive_loss(const naive *n, const batch *b)
{
    const config *c = model_config(n->m);
    const int64_t d = c->model.d_model, L = b->s.L;
    const double *E = naive_get(n, -1, "embeddings.word_embeddings.weight");
    double *r = calloc((size_t)(L * d), sizeof *r),
           *hidden = calloc((size_t)(L * d), sizeof *hidden), sum = 0;
    for (int64_t i = 0; i < b->s.B; i++) {
        for (int64_t t = 0; t < L; t++)
            for (int64_t ch = 0; ch < d; ch++) {
                const int64_t at = i * b->s.Lp + t;
                double x = E[b->ids[at] * d + ch];
                for (int l = 0; l < n->levels; l++) {
                    char name[32];
                    snprintf(name, sizeof name, "position.%d.B", l);
                    const double *B = naive_get(n, -1, name);
                    const int64_t k = c->position.rank;
                    for (int64_t e = 0; e < k && n->slot[l][at] >= 0; e++)
                        x += n->A[l][n->slot[l][at] * k + e] * B[e * d + ch];
                }
                r[t * d + ch] = x;
            }
        for (int l = 0; l < c->model.n_layer; l++) {
            if (c->model.mixer == MIXER_HYENA)
                naive_hyena(n, l, L, r);
            naive_mlp(n, l, L, r);
        }
        naive_norm(L, d, r, naive_get(n, -1, "ln_f.weight"), naive_get(n, -1, "ln_f.bias"), hidden);
        if (b->label) {
            if (b->label[i] >= 0)
                sum += naive_classify(n, L, hidden, b->label[i]);
            continue;
        }
        for (int64_t t = 0; t < L; t++) {
            double logits[VOCABULARY_PADDED];
            if (b->targets[i * b->s.Lp + t] == TARGET_NONE)
                continue;
            naive_linear(1, d, VOCABULARY_PADDED, hidden + t * d, E, NULL, logits);
            sum += naive_cross_entropy(VOCABULARY_PADDED, logits, b->targets[i * b->s.Lp + t]);
        }
    }
    free(r);
    free(hidden);
    return sum;
}

#endif
