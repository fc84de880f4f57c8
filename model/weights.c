/* Parameters from and to safetensors. */
#include "model/weights.h"

#include "io/replace.h"
#include "model/parts.h"
#include "model/weights_names.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool weights_plain_name(const char *name, char *plain, size_t size)
{
    static const char *const prefixes[] = {"model.backbone.", "hyena.backbone.", "backbone."};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (!strncmp(name, prefixes[i], strlen(prefixes[i]))) {
            name += strlen(prefixes[i]);
            break;
        }
    if (snprintf(plain, size, "%s", name) >= (int)size)
        return false;
    static const char *const wrapped[] = {".mixer.layer.", ".mlp.layer."};
    for (size_t i = 0; i < sizeof wrapped / sizeof *wrapped; i++) {
        char *at = strstr(plain, wrapped[i]);
        if (!at)
            continue;
        const size_t whole = strlen(wrapped[i]), kept = whole - strlen("layer.");
        memmove(at + kept, at + whole, strlen(at + whole) + 1);
    }
    return true;
}

const safetensor *weights_find(const safetensors *s, const char *plain)
{
    char name[256];
    for (int64_t i = 0; i < s->n; i++)
        if (weights_plain_name(s->tensors[i].name, name, sizeof name) && !strcmp(name, plain))
            return &s->tensors[i];
    return NULL;
}

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), k = strlen(tail);
    return n >= k && !strcmp(name + n - k, tail);
}

/* Tensors that are no parameters: computed, tied, or read elsewhere. */
static bool is_known_extra(const char *plain)
{
    return ends_with(plain, ".filter_fn.pos_emb.z") || ends_with(plain, ".filter_fn.pos_emb.t") ||
           ends_with(plain, ".filter_fn.modulation.deltas") || !strncmp(plain, "sites.", 6) ||
           (!strncmp(plain, "position.", 9) &&
            (ends_with(plain, ".rows") || ends_with(plain, ".values")));
}

static bool same_shape(const parameter *p, const safetensor *t)
{
    if (p->ndim != t->ndim)
        return false;
    for (int i = 0; i < p->ndim; i++)
        if (p->shape[i] != t->shape[i])
            return false;
    return true;
}

static void shape_text(int ndim, const int64_t *shape, char text[96])
{
    int n = snprintf(text, 96, "(");
    for (int i = 0; i < ndim && n < 72; i++) /* one more has 21 characters at most */
        n += snprintf(text + n, 96 - (size_t)n, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + n, 96 - (size_t)n, ")");
}

/* A tensor that must equal one already read: the tied head, the vector that three sines share. */
static status check_equal(const safetensors *s, const safetensor *t, const float *have,
                          int64_t count, const char *other)
{
    if (t->count != count)
        return fail(STATUS_DATA,
                    "%s: tensor %s has %lld values, %s has %lld; these are other weights", s->path,
                    t->name, (long long)t->count, other, (long long)count);
    float *x = malloc((size_t)count * sizeof *x);
    if (!x)
        return fail(STATUS_MEMORY, "%s: no memory to read it; free some", s->path);
    status st = safetensors_read_f32(s, t, x);
    if (st == STATUS_OK && memcmp(x, have, (size_t)count * sizeof *x))
        st = fail(STATUS_DATA,
                  "%s: tensor %s differs from %s, in this model they are one; these weights cannot "
                  "be used",
                  s->path, t->name, other);
    free(x);
    return st;
}

static int find_parameter(const model *m, const char *plain)
{
    for (int i = 0; i < m->n; i++)
        if (!strcmp(m->list[i].name, plain))
            return i;
    return -1;
}

/* Freq under index 3 or 5 of the filter's list: the same vector as index 1. */
static int shared_freq(const model *m, const char *plain)
{
    char name[256];
    snprintf(name, sizeof name, "%s", plain);
    const size_t n = strlen(name), k = strlen("3.freq");
    if (n < k || (strcmp(name + n - k, "3.freq") && strcmp(name + n - k, "5.freq")))
        return -1;
    name[n - k] = '1';
    return find_parameter(m, name);
}

/* values: the parameters as the host sees them. other_head: the file's classifier is for other
 * classes than the model's. */
static status load_one(const model *m, const safetensors *s, const safetensor *t, bool other_head,
                       float *values, bool *loaded)
{
    char plain[256];
    if (!weights_plain_name(t->name, plain, sizeof plain))
        return fail(STATUS_DATA, "%s: tensor %.80s... has too long a name; these are other weights",
                    s->path, t->name);
    const int i = find_parameter(m, plain);
    if (i >= 0) {
        const parameter *p = &m->list[i];
        if (loaded[i])
            return fail(STATUS_DATA, "%s: tensor %s is there twice under two prefixes; keep one",
                        s->path, t->name);
        if (p->group == GROUP_HEAD && other_head)
            return STATUS_OK; /* ours keeps its initial values */
        if (!same_shape(p, t)) {
            char have[96], want[96];
            shape_text(t->ndim, t->shape, have);
            shape_text(p->ndim, p->shape, want);
            return fail(STATUS_DATA,
                        "%s: tensor %s has the shape %s, the model's is %s; use the configuration "
                        "of these weights",
                        s->path, t->name, have, want);
        }
        TRY(safetensors_read_f32(s, t, values + p->offset));
        loaded[i] = true;
        return STATUS_OK;
    }
    if (is_known_extra(plain) || !strcmp(plain, "lm_head.weight") ||
        ends_with(t->name, "lm_head.weight") || shared_freq(m, plain) >= 0 ||
        (other_head && !strncmp(plain, "head.", 5)))
        return STATUS_OK;
    return fail(STATUS_DATA,
                "%s: tensor %s has no place in this model; use the configuration of these weights",
                s->path, t->name);
}

/* Tied tensors, once everything else is there. */
static status check_tied(const model *m, const safetensors *s, const float *values)
{
    for (int64_t j = 0; j < s->n; j++) {
        const safetensor *t = &s->tensors[j];
        char plain[256];
        weights_plain_name(t->name, plain, sizeof plain);
        const int freq = shared_freq(m, plain);
        const int i = freq >= 0 ? freq : ends_with(t->name, "lm_head.weight") ? m->embedding : -1;
        if (i >= 0)
            TRY(check_equal(s, t, values + m->list[i].offset, m->list[i].count, m->list[i].name));
    }
    return STATUS_OK;
}

status model_load_safetensors(model *m, const safetensors *s)
{
    const bool sites = m->site_classes > 0;
    const safetensor *head =
        weights_find(s, sites ? "head.sites.run.weight" : "head.output.weight");
    const int64_t want = sites ? m->site_classes * m->cfg.model.head_rank : m->classes;
    const bool other_head = !head || head->ndim < 1 || head->shape[0] != want;
    bool *loaded = calloc((size_t)m->n + 1, sizeof *loaded);
    if (!loaded)
        return fail(STATUS_MEMORY, "%s: no memory to read it; free some", s->path);
    device_view view = {0};
    status st =
        device_view_open(m->dev, m->values.base, (size_t)m->floats * sizeof(float), true, &view);
    for (int64_t j = 0; j < s->n && st == STATUS_OK; j++)
        st = load_one(m, s, &s->tensors[j], other_head, view.host, loaded);
    for (int i = 0; i < m->n && st == STATUS_OK; i++)
        if (!loaded[i] && (m->list[i].group != GROUP_HEAD || !other_head))
            st = fail(STATUS_DATA,
                      "%s: tensor %s%s is missing; the file is not whole, or of another model",
                      s->path, WEIGHTS_PREFIX, m->list[i].name);
    free(loaded);
    if (st == STATUS_OK)
        st = check_tied(m, s, view.host);
    st = device_view_close(&view, true, st);
    return st == STATUS_OK ? safetensors_say_not_finite(s) : st;
}

static status load_level(model *m, const safetensors *s, int level, const safetensor *rows,
                         const safetensor *values)
{
    const int64_t n = rows->count;
    int64_t *row = malloc(((size_t)n + 1) * sizeof *row);
    float *p = malloc(((size_t)values->count + 1) * sizeof *p);
    status st = row && p ? safetensors_read_integers(s, rows, "I64", row)
                         : fail(STATUS_MEMORY, "%s: no memory for %lld rows; free some", s->path,
                                (long long)n);
    if (st == STATUS_OK)
        st = safetensors_read_f32(s, values, p);
    if (st == STATUS_OK)
        st = position_restore(m->position, level, n, row, p, NULL, NULL, NULL);
    free(p);
    free(row);
    return st;
}

status weights_load_rows(model *m, const safetensors *s)
{
    row_table *tables[ROW_TABLES];
    const int n = position_tables(m->position, tables);
    for (int i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "position.%d.rows", i);
        const safetensor *rows = weights_find(s, name);
        snprintf(name, sizeof name, "position.%d.values", i);
        const safetensor *values = weights_find(s, name);
        if (!rows || !values)
            return fail(STATUS_DATA, "%s: tensor %s is missing; export the checkpoint again",
                        s->path, name);
        if (rows->ndim != 1 || values->ndim != 2 || values->shape[0] != rows->count ||
            values->shape[1] != tables[i]->k)
            return fail(
                STATUS_DATA,
                "%s: tensor %s does not fit its rows or position.rank; export the checkpoint again",
                s->path, values->name);
        TRY(load_level(m, s, i, rows, values));
    }
    return STATUS_OK;
}

/* ---- export ---- */

typedef struct {
    safetensor_out *out;
    char (*names)[128];
    int64_t n;
    device_view values, rows[ROW_TABLES]; /* what `out` points into */
} outgoing;

static status gather(model *m, const weights_beside *beside, outgoing *x)
{
    const int64_t more = beside ? beside->n : 0;
    const size_t room = (size_t)(m->n + 2 * ROW_TABLES + more);
    x->out = calloc(room, sizeof *x->out);
    x->names = calloc(room, sizeof *x->names);
    if (!x->out || !x->names)
        return fail(STATUS_MEMORY, "export: no memory for the list of tensors; free some");
    TRY(device_view_open(m->dev, m->values.base, (size_t)m->floats * sizeof(float), true,
                         &x->values));
    for (int i = 0; i < m->n; i++) {
        const parameter *p = &m->list[i];
        const float *values = x->values.host;
        safetensor_out *t = &x->out[x->n];
        snprintf(x->names[x->n], sizeof *x->names, "%s%s", WEIGHTS_PREFIX, p->name);
        *t = (safetensor_out){x->names[x->n], {0},           p->ndim,
                              "F32",          sizeof(float), values + p->offset};
        memcpy(t->shape, p->shape, sizeof p->shape);
        x->n++;
    }
    row_table *tables[ROW_TABLES];
    const int levels = m->position ? position_tables(m->position, tables) : 0;
    for (int i = 0; i < levels; i++) {
        snprintf(x->names[x->n], sizeof *x->names, "position.%d.rows", i);
        x->out[x->n] = (safetensor_out){x->names[x->n], {tables[i]->slots}, 1,
                                        "I64",          sizeof(int64_t),    tables[i]->row};
        x->n++;
        const size_t bytes = (size_t)(tables[i]->slots * tables[i]->k) * sizeof(float);
        TRY(device_view_open(m->dev, tables[i]->p, bytes, true, &x->rows[i]));
        snprintf(x->names[x->n], sizeof *x->names, "position.%d.values", i);
        x->out[x->n] = (safetensor_out){
            x->names[x->n], {tables[i]->slots, tables[i]->k}, 2, "F32", sizeof(float),
            x->rows[i].host};
        x->n++;
    }
    for (int64_t i = 0; i < more; i++)
        x->out[x->n++] = beside->tensors[i];
    return STATUS_OK;
}

static status config_json_beside(const model *m, const char *path)
{
    const config_model *c = &m->cfg.model;
    char file[4096], *text = NULL;
    const char *slash = strrchr(path, '/');
    snprintf(file, sizeof file, "%.*sconfig.json", slash ? (int)(slash - path) + 1 : 0, path);
    /* The published flat keys; l_max beside max_seq_len, which is two shorter. */
    json_t *root = json_pack(
        "{s:s, s:I, s:I, s:I, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b}", "model_type",
        "hyenadna", "d_model", (json_int_t)c->d_model, "n_layer", (json_int_t)c->n_layer, "d_inner",
        (json_int_t)c->d_inner, "vocab_size", VOCABULARY, "pad_vocab_size_multiple", 8,
        "hyena_order", (json_int_t)m->order, "emb_dim", (json_int_t)c->emb_dim, "filter_order",
        (json_int_t)c->filter_order, "short_filter_order", (json_int_t)c->short_filter_order,
        "l_max", (json_int_t)c->l_max, "max_seq_len", (json_int_t)c->l_max - 2, "filter_shift",
        c->filter_shift, "layer_norm_epsilon", 1e-5, "tie_word_embeddings", 1);
    if (root)
        text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(root);
    if (!text)
        return fail(STATUS_MEMORY, "%s: no memory to write it; free some", file);
    status st = replace_text(file, text);
    free(text);
    return st;
}

static status config_text(const config *c, char **text)
{
    size_t size = 0;
    FILE *f = open_memstream(text, &size);
    if (!f)
        return fail(STATUS_MEMORY, "export: no memory for the configuration; free some");
    status st = config_write(c, f, false);
    if (fclose(f) != 0 && st == STATUS_OK)
        st = fail(STATUS_MEMORY, "export: no memory for the configuration; free some");
    return st;
}

status model_export_safetensors(model *m, const char *path, const char *labels,
                                const weights_beside *beside)
{
    outgoing x = {0};
    char *yaml = NULL, numbers[8][32];
    const config_model *c = &m->cfg.model;
    const int64_t value[] = {c->d_model, c->n_layer, c->d_inner,     c->l_max,
                             m->order,   c->emb_dim, c->filter_order};
    const char *key[12] = {"d_model", "n_layer", "d_inner",     "l_max",
                           "order",   "emb_dim", "filter_order"},
               *said[12];
    int64_t n = sizeof value / sizeof *value;
    for (int64_t i = 0; i < n; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%" PRId64, value[i]);
        said[i] = numbers[i];
    }
    snprintf(numbers[n], sizeof numbers[n], "%.17g", c->filter_shift);
    key[n] = "filter_shift";
    said[n] = numbers[n];
    n++;
    status st = config_text(&m->cfg, &yaml);
    key[n] = "crocuta_config";
    said[n++] = yaml;
    if (labels) {
        key[n] = "labels";
        said[n++] = labels;
    }
    if (beside) {
        key[n] = beside->key;
        said[n++] = beside->value;
    }
    if (st == STATUS_OK)
        st = gather(m, beside, &x);
    if (st == STATUS_OK)
        st = safetensors_write(path, x.out, x.n, key, said, n);
    if (st == STATUS_OK)
        st = config_json_beside(m, path);
    device_view_close(&x.values, false, STATUS_OK);
    for (int i = 0; i < ROW_TABLES; i++)
        device_view_close(&x.rows[i], false, STATUS_OK);
    free(x.out);
    free(x.names);
    free(yaml);
    return st;
}
