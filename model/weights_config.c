/* The configuration of published weights: metadata strings (this project's files), or config.json
 * in the two forms that are published (flat keys, or the mixer's under "layer"). Nothing is
 * allocated by what they claim before the tensors themselves bear it out. */
#include "model/weights.h"

#include "model/weights_names.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS_MOST 1024
#define TENSORS_MOST                                                                               \
    (LAYERS_MOST * 40)         /* buffers and all; more would make looking names up slow           \
                                */
#define JSON_LARGEST (1 << 20) /* bytes of a config.json */

typedef struct {
    const safetensors *s;
    json_t *json; /* config.json, or NULL */
    char source[4096];
} source;

/* The value of a key as text, from the metadata, else from config.json (top level, then "layer").
 */
static bool look(const source *x, const char *key, char *text, size_t size)
{
    const char *meta = safetensors_meta(x->s, key);
    if (meta) {
        snprintf(text, size, "%s", meta);
        return true;
    }
    const json_t *v = json_object_get(x->json, key);
    if (!v)
        v = json_object_get(json_object_get(x->json, "layer"), key);
    if (json_is_integer(v))
        snprintf(text, size, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(text, size, "%.17g", json_real_value(v));
    else if (json_is_string(v))
        snprintf(text, size, "%s", json_string_value(v));
    else
        return false;
    return true;
}

static status whole(const source *x, const char *key, int64_t *to, bool *found)
{
    char text[64], *end;
    bool there = look(x, key, text, sizeof text);
    if (found)
        *found = there;
    if (!there)
        return STATUS_OK;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n < 0)
        return fail(
            STATUS_DATA,
            "%s: %s is \"%s\", not a whole number; correct the configuration of the weights",
            x->source, key, text);
    *to = n;
    return STATUS_OK;
}

static status real(const source *x, const char *key, double *to)
{
    char text[64], *end;
    if (!look(x, key, text, sizeof text))
        return STATUS_OK;
    double n = strtod(text, &end);
    if (end == text || *end || !isfinite(n))
        return fail(STATUS_DATA,
                    "%s: %s is \"%s\", not a number; correct the configuration of the weights",
                    x->source, key, text);
    *to = n;
    return STATUS_OK;
}

static status beside_open(source *x)
{
    const char *slash = strrchr(x->s->path, '/');
    const int n = slash ? (int)(slash - x->s->path) + 1 : 0;
    char path[4096];
    snprintf(path, sizeof path, "%.*sconfig.json", n, x->s->path);
    FILE *f = fopen(path, "rb");
    if (!f)
        return STATUS_OK;
    char *text = malloc(JSON_LARGEST + 1);
    const size_t bytes = text ? fread(text, 1, JSON_LARGEST + 1, f) : 0;
    fclose(f);
    status st = STATUS_OK;
    json_error_t error = {.text = "too long"};
    if (!text)
        st = fail(STATUS_MEMORY, "%s: no memory to read it; free some", path);
    else if (bytes <= JSON_LARGEST)
        x->json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (st == STATUS_OK && !json_is_object(x->json))
        st = fail(STATUS_DATA,
                  "%s: is no JSON object (%s); get it again from where the weights come from", path,
                  error.text);
    snprintf(x->source, sizeof x->source, "%s", path);
    return st;
}

/* Dimension `axis` of a tensor; -1 where it is not there. */
static int64_t dimension(const safetensors *s, const char *name, int axis)
{
    const safetensor *t = weights_find(s, name);
    return t && axis < t->ndim ? t->shape[axis] : -1;
}

static status agrees(const source *x, const char *key, int64_t said, const char *tensor,
                     int64_t there)
{
    if (there < 0)
        return fail(STATUS_DATA,
                    "%s: tensor %s is missing; these are not the weights of a Hyena model",
                    x->s->path, tensor);
    if (said != there)
        return fail(
            STATUS_DATA,
            "%s: %s is %lld in %s, tensor %s says %lld; use the configuration of these weights",
            x->s->path, key, (long long)said, x->source, tensor, (long long)there);
    return STATUS_OK;
}

/* Whatever sizes memory must be what a tensor of the file has. */
static status bear_out(const source *x, const config *c)
{
    const config_model *m = &c->model;
    const safetensors *s = x->s;
    char name[160];
    TRY(agrees(x, "the padded vocabulary", VOCABULARY_PADDED, "embeddings.word_embeddings.weight",
               dimension(s, "embeddings.word_embeddings.weight", 0)));
    TRY(agrees(x, "d_model", m->d_model, "embeddings.word_embeddings.weight",
               dimension(s, "embeddings.word_embeddings.weight", 1)));
    int64_t layers = 0;
    for (; layers <= LAYERS_MOST; layers++) {
        snprintf(name, sizeof name, "layers.%lld.norm2.weight", (long long)layers);
        if (!weights_find(s, name))
            break;
    }
    snprintf(name, sizeof name, "layers.%lld.norm2.weight", (long long)layers);
    TRY(agrees(x, "n_layer", m->n_layer, name, layers));
    if (layers == 0)
        return STATUS_OK;
    TRY(agrees(x, "d_inner", m->d_inner, "layers.0.mlp.fc1.weight",
               dimension(s, "layers.0.mlp.fc1.weight", 0)));
    if (m->mixer != MIXER_HYENA)
        return STATUS_OK;
    TRY(agrees(x, "(order + 1) d_model", (m->order + 1) * m->d_model,
               "layers.0.mixer.in_proj.weight", dimension(s, "layers.0.mixer.in_proj.weight", 0)));
    TRY(agrees(x, "filter_order", m->filter_order,
               "layers.0.mixer.filter_fn.implicit_filter.0.weight",
               dimension(s, "layers.0.mixer.filter_fn.implicit_filter.0.weight", 0)));
    return agrees(x, "emb_dim", m->emb_dim, "layers.0.mixer.filter_fn.implicit_filter.0.weight",
                  dimension(s, "layers.0.mixer.filter_fn.implicit_filter.0.weight", 1));
}

static status read_published(const source *x, config *c)
{
    config_model *m = &c->model;
    const char *path = x->s->path;
    bool has_l_max = false, has_length = false, has_inner = false;
    int64_t length = 0, vocabulary = VOCABULARY;
    double epsilon = 1e-5;
    m->preset[0] = '\0';
    m->mixer = MIXER_HYENA;
    m->order = 2;
    m->d_model = dimension(x->s, "embeddings.word_embeddings.weight", 1);
    m->n_layer = -1;
    m->filter_order = 64;
    m->emb_dim = 5;
    m->short_filter_order = 3;
    m->filter_shift = 0.05; /* published inference code; it is in no checkpoint */
    c->position.encoding = ENCODING_NONE;
    TRY(whole(x, "d_model", &m->d_model, NULL));
    TRY(whole(x, "n_layer", &m->n_layer, NULL));
    TRY(whole(x, "d_inner", &m->d_inner, &has_inner));
    TRY(whole(x, "order", &m->order, NULL));
    TRY(whole(x, "hyena_order", &m->order, NULL));
    TRY(whole(x, "filter_order", &m->filter_order, NULL));
    TRY(whole(x, "emb_dim", &m->emb_dim, NULL));
    TRY(whole(x, "short_filter_order", &m->short_filter_order, NULL));
    TRY(whole(x, "vocab_size", &vocabulary, NULL));
    TRY(whole(x, "l_max", &m->l_max, &has_l_max));
    TRY(whole(x, "max_seq_len", &length, &has_length));
    TRY(real(x, "filter_shift", &m->filter_shift));
    TRY(real(x, "layer_norm_epsilon", &epsilon));
    if (m->n_layer < 0)
        return fail(STATUS_DATA,
                    "%s: no configuration in its metadata and no config.json beside it; put the "
                    "published config.json there",
                    path);
    if (!has_inner)
        m->d_inner = m->d_model <= INT32_MAX ? 4 * m->d_model : -1;
    if (!has_l_max)
        m->l_max = has_length && length < INT32_MAX ? length + 2 : -1; /* two special tokens */
    if (m->l_max < 2 || m->l_max > 1073741824)
        return fail(
            STATUS_DATA,
            "%s: l_max (or max_seq_len) is missing or out of range in %s; the filters depend on it",
            path, x->source);
    if (fabs(epsilon - 1e-5) > 1e-12)
        return fail(STATUS_DATA,
                    "%s: layer_norm_epsilon is %g, only 1e-5 is computed here; these weights "
                    "cannot be used",
                    path, epsilon);
    if (vocabulary != VOCABULARY && vocabulary != VOCABULARY_PADDED)
        return fail(STATUS_DATA,
                    "%s: vocab_size is %lld, the tokens here are 12; these weights cannot be used",
                    path, (long long)vocabulary);
    if (m->order < 2 || m->order > 8 || m->short_filter_order != 3)
        return fail(STATUS_DATA,
                    "%s: order %lld or short_filter_order %lld is out of range (2 to 8; 3) in %s; "
                    "correct it",
                    path, (long long)m->order, (long long)m->short_filter_order, x->source);
    c->data.seq_len = m->l_max > 4 ? m->l_max - 2 : 2;
    return STATUS_OK;
}

status weights_config(const safetensors *s, config *c, int *classes)
{
    source x = {.s = s};
    snprintf(x.source, sizeof x.source, "its metadata");
    *classes = 0;
    if (s->n > TENSORS_MOST)
        return fail(STATUS_DATA, "%s: %lld tensors; these are not the weights of a Hyena model",
                    s->path, (long long)s->n);
    config_defaults(c);
    snprintf(c->file, sizeof c->file, "%s", s->path);
    const char *own = safetensors_meta(s, "crocuta_config");
    status st;
    if (own) {
        st = config_read_text(c, s->path, own, strlen(own));
        if (st == STATUS_OK)
            st = config_finish(c, false);
        if (st != STATUS_OK) { /* a damaged file, not a mistake of who calls */
            failure f = *failure_last();
            f.code = STATUS_DATA;
            st = failure_set(&f);
        }
    } else {
        st = safetensors_meta(s, "d_model") ? STATUS_OK : beside_open(&x);
        if (st == STATUS_OK)
            st = read_published(&x, c);
    }
    if (st == STATUS_OK)
        st = bear_out(&x, c);
    json_decref(x.json);
    TRY(st);
    if (dimension(s, "head.sites.scale", 0) > 0) { /* the configuration came with it */
        const int64_t rank = dimension(s, "head.sites.run.weight", 1);
        *classes = rank > 0 ? (int)(dimension(s, "head.sites.run.weight", 0) / rank) : 0;
        return STATUS_OK;
    }
    const int64_t rows = dimension(s, "head.output.weight", 0),
                  hidden = dimension(s, "head.hidden.weight", 0);
    if (rows > 64)
        return fail(
            STATUS_DATA,
            "%s: tensor head.output.weight is for %lld classes, at most 64 are possible; these "
            "weights cannot be used",
            s->path, (long long)rows);
    *classes = rows > 0 ? (int)rows : 0;
    if (*classes)
        c->finetune.head_hidden = hidden > 0 ? hidden : 0;
    if (hidden > (1 << 20))
        return fail(STATUS_DATA,
                    "%s: tensor head.hidden.weight has %lld rows; these weights cannot be used",
                    s->path, (long long)hidden);
    return STATUS_OK;
}

const char *weights_labels(const safetensors *s)
{
    return safetensors_meta(s, "labels");
}
