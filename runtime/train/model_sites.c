/* Sites of a model from its checkpoint, its export or its data set: see model_sites.h. */
#include "runtime/train/model_sites.h"

#include "model/weights.h"
#include "runtime/train/space.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[SITE_TENSORS] = {"sites/position", "sites/alleles"};
static const char *const flat_names[SITE_TENSORS] = {"sites.position", "sites.alleles"};

/* ---- columns ---- */

static status columns_open(int64_t n, const char *path, site_columns *x)
{
    x->position = malloc(((size_t)n + 1) * sizeof *x->position);
    x->alleles = malloc((size_t)n + 1);
    if (x->position && x->alleles)
        return STATUS_OK;
    site_columns_free(x);
    return fail(STATUS_MEMORY, "%s: no memory for %lld sites; free some", path, (long long)n);
}

status site_columns_make(const dataset *d, site_columns *x)
{
    TRY(columns_open(d->n_sites, d->path, x));
    for (int64_t i = 0; i < d->n_sites; i++) {
        x->position[i] = d->sites[i].position;
        x->alleles[i] = (uint8_t)(d->sites[i].ref | d->sites[i].alts << 2);
    }
    return STATUS_OK;
}

void site_columns_free(site_columns *x)
{
    free(x->position);
    free(x->alleles);
    *x = (site_columns){0};
}

void site_columns_tensors(const dataset *d, const site_columns *x,
                          checkpoint_tensor list[SITE_TENSORS])
{
    const void *const data[] = {x->position, x->alleles};
    const element_kind kind[] = {ELEMENT_I32, ELEMENT_U8};
    for (int i = 0; i < SITE_TENSORS; i++) {
        list[i] =
            (checkpoint_tensor){.kind = kind[i], .shape = {d->n_sites}, .ndim = 1, .data = data[i]};
        snprintf(list[i].name, sizeof list[i].name, "%s", names[i]);
    }
}

/* ---- from a model's file ---- */

/* What a file says of its sites: JSON with chromosomes, labels, assembly, split_hash; or NULL. */
static const char *identity_text(const model_file *f)
{
    return f->h5 ? checkpoint_head(f->h5)->state : safetensors_meta(f->flat, "crocuta_sites");
}

/* How many sites the columns of the file have, -1: it has none. */
static int64_t sites_in_file(const model_file *f)
{
    int64_t count[SITE_TENSORS] = {-1, -1};
    const checkpoint_tensor *list = NULL;
    const int64_t n = f->h5 ? checkpoint_tensors(f->h5, &list) : 0;
    for (int k = 0; k < SITE_TENSORS; k++) {
        for (int64_t i = 0; i < n; i++)
            if (!strcmp(list[i].name, names[k]) && list[i].ndim == 1)
                count[k] = list[i].shape[0];
        const safetensor *t = f->flat ? safetensors_find(f->flat, flat_names[k]) : NULL;
        if (t && t->ndim == 1)
            count[k] = t->count;
    }
    return count[0] == count[1] ? count[0] : -1;
}

static status columns_read(const model_file *f, int64_t n, site_columns *x)
{
    TRY(columns_open(n, f->path, x));
    status st = STATUS_OK;
    if (f->h5) {
        TRY_GOTO(failed, checkpoint_read(f->h5, names[0], x->position, n));
        TRY_GOTO(failed, checkpoint_read(f->h5, names[1], x->alleles, n));
    } else {
        TRY_GOTO(failed,
                 safetensors_read_integers(f->flat, safetensors_find(f->flat, flat_names[0]), "I32",
                                           x->position));
        TRY_GOTO(failed, safetensors_read_integers(
                             f->flat, safetensors_find(f->flat, flat_names[1]), "U8", x->alleles));
    }
    return STATUS_OK;
failed:
    site_columns_free(x);
    return st;
}

static status damaged(const model_file *f, const char *what)
{
    return fail(STATUS_DATA, "%s: its table of sites is damaged (%s); use another checkpoint",
                f->path, what);
}

/* Where a table is being built; everything of it is in `owned` of a data set in the end. */
typedef struct {
    dataset view;
    chromosome *chromosomes;
    char **labels;
    site *sites;
    char *text; /* the identity once more: names point into this JSON's copies */
    size_t text_bytes, text_used;
} building;

/* A copy that lives as long as the table. */
static const char *keep(building *b, const char *name)
{
    const size_t n = strlen(name) + 1;
    if (b->text_used + n > b->text_bytes)
        return NULL;
    char *at = b->text + b->text_used;
    memcpy(at, name, n);
    b->text_used += n;
    return at;
}

static status identity_fill(const model_file *f, const json_t *o, int64_t n, building *b)
{
    const json_t *chromosomes = json_object_get(o, "chromosomes"),
                 *labels = json_object_get(o, "labels");
    const char *assembly = json_string_value(json_object_get(o, "assembly")),
               *hash = json_string_value(json_object_get(o, "split_hash"));
    if (!json_is_array(chromosomes) || !json_is_array(labels) || !assembly || !hash)
        return damaged(f, "no chromosomes, labels or assembly");
    dataset *d = &b->view;
    d->n_chromosomes = (int64_t)json_array_size(chromosomes);
    d->n_labels = (int64_t)json_array_size(labels);
    d->n_sites = n;
    b->chromosomes = calloc((size_t)d->n_chromosomes + 1, sizeof *b->chromosomes);
    b->labels = calloc((size_t)d->n_labels + 1, sizeof *b->labels);
    b->sites = calloc((size_t)n + 1, sizeof *b->sites);
    if (!b->chromosomes || !b->labels || !b->sites)
        return fail(STATUS_MEMORY, "%s: no memory for %lld sites; free some", f->path,
                    (long long)n);
    snprintf(d->path, sizeof d->path, "%.1000s", f->path);
    snprintf(d->assembly, sizeof d->assembly, "%s", assembly);
    snprintf(d->split_hash, sizeof d->split_hash, "%s", hash);
    int64_t at = 0;
    for (int64_t i = 0; i < d->n_chromosomes; i++) {
        const json_t *k = json_array_get(chromosomes, (size_t)i);
        const char *name = json_string_value(json_object_get(k, "name"));
        const int64_t length = json_integer_value(json_object_get(k, "length")),
                      sites = json_integer_value(json_object_get(k, "sites"));
        if (!name || length < 0 || sites < 0 || sites > n - at)
            return damaged(f, "its chromosomes have other sites");
        b->chromosomes[i] = (chromosome){keep(b, name), length, at, sites};
        if (!b->chromosomes[i].name)
            return damaged(f, "a chromosome has no name");
        at += sites;
    }
    for (int64_t i = 0; i < d->n_labels; i++) {
        const char *name = json_string_value(json_array_get(labels, (size_t)i));
        if (!name || !(b->labels[i] = (char *)keep(b, name)))
            return damaged(f, "a label has no name");
    }
    return at == n ? STATUS_OK : damaged(f, "its chromosomes have other sites");
}

static status sites_fill(const model_file *f, const site_columns *x, building *b)
{
    for (int64_t c = 0; c < b->view.n_chromosomes; c++) {
        const chromosome *k = &b->chromosomes[c];
        for (int64_t i = k->site0; i < k->site0 + k->sites; i++) {
            const site s = {x->position[i], x->alleles[i] & 3, x->alleles[i] >> 2};
            if (s.position < 1 || (i > k->site0 && s.position <= x->position[i - 1]) ||
                s.alts > 15 || s.alts & 1u << s.ref)
                return damaged(f, "a site is out of order, or its bases are none");
            b->sites[i] = s;
        }
    }
    return STATUS_OK;
}

status model_sites_of_file(const model_file *f, dataset **out)
{
    building b = {0};
    site_columns x = {0};
    json_t *o = NULL;
    status st = STATUS_OK;
    *out = NULL;
    const char *text = identity_text(f);
    const int64_t n = sites_in_file(f);
    if (!text || n < 0)
        return STATUS_OK;
    o = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    b.text_bytes = strlen(text) + 1; /* more than its names together */
    b.text = malloc(b.text_bytes);
    if (!b.text) {
        st = fail(STATUS_MEMORY, "%s: no memory to open it; free some", f->path);
        goto done;
    }
    TRY_GOTO(done, columns_read(f, n, &x));
    TRY_GOTO(done, identity_fill(f, o, n, &b));
    TRY_GOTO(done, sites_fill(f, &x, &b));
    b.view.chromosomes = b.chromosomes;
    b.view.labels = (const char *const *)b.labels;
    b.view.sites = b.sites;
    void *const owned[] = {b.text, b.chromosomes, b.labels, b.sites};
    b = (building){.view = b.view};
    st = dataset_make(&b.view, owned, 4, out);

done:
    json_decref(o);
    site_columns_free(&x);
    free(b.text);
    free(b.chromosomes);
    free(b.labels);
    free(b.sites);
    return st;
}

/* ---- from the data set of an older checkpoint ---- */

/* Is the set at `path` the one that the model was trained on? *out NULL where it is not. */
static status set_if_same(const char *path, const char *hash, int64_t n_sites, comm *c,
                          dataset **out)
{
    dataset *d = NULL;
    *out = NULL;
    int found = 0;
    if (comm_rank(c) == 0) {
        FILE *f = fopen(path, "rb");
        found = f != NULL;
        if (f)
            fclose(f);
    }
    TRY(comm_bcast(c, &found, sizeof found, 0));
    if (!found)
        return STATUS_OK;
    TRY(dataset_open(path, c, &d));
    if (!strcmp(d->split_hash, hash) && d->n_sites == n_sites)
        *out = d;
    else
        dataset_close(&d);
    return STATUS_OK;
}

/* A relative data.path belongs to a configuration's folder, which an older checkpoint does not
 * name: this folder, the run's, and the one that holds the run are tried. */
static status sites_of_set(const model_file *f, const char *name, comm *c, dataset **out)
{
    config *cfg = calloc(1, sizeof *cfg);
    const checkpoint_header *h = checkpoint_head(f->h5);
    json_t *state = json_loads(h->state, 0, NULL);
    const char *hash = json_string_value(json_object_get(state, "split_hash"));
    const int64_t n = json_integer_value(json_object_get(state, "n_sites"));
    status st = STATUS_OK;
    if (!cfg) {
        st = fail(STATUS_MEMORY, "%s: no memory to open it; free some", name);
        goto done;
    }
    config_defaults(cfg);
    TRY_GOTO(done, config_read_text(cfg, f->path, h->config, strlen(h->config)));
    const char *const folders[] = {"", name, "/", name, "/../"};
    char path[3][3 * CONFIG_TEXT];
    snprintf(path[0], sizeof path[0], "%s", cfg->data.path);
    snprintf(path[1], sizeof path[1], "%s%s%s", folders[1], folders[2], cfg->data.path);
    snprintf(path[2], sizeof path[2], "%s%s%s", folders[3], folders[4], cfg->data.path);
    for (int i = 0; hash && !*out && i < (cfg->data.path[0] == '/' ? 1 : 3); i++)
        TRY_GOTO(done, set_if_same(path[i], hash, n, c, out));
    if (!*out)
        st = fail(STATUS_DATA,
                  "%s: carries no table of its sites (an older version wrote it), and %.200s is "
                  "not the data set it was trained on; bring that set back, or train it again",
                  name, cfg->data.path);

done:
    json_decref(state);
    free(cfg);
    return st;
}

status model_sites_open(const char *name, comm *c, dataset **out)
{
    model_file *f = NULL;
    *out = NULL;
    status st;
    TRY_GOTO(done, comm_agree(c, model_file_find(name, &f)));
    TRY_GOTO(done, comm_agree(c, model_sites_of_file(f, out)));
    if (!*out && f->flat)
        st = fail(STATUS_DATA,
                  "%s: carries no table of its sites; use the run it was exported from, or export "
                  "it again (crocuta checkpoint export)",
                  name);
    else if (!*out)
        st = sites_of_set(f, name, c, out);
done:
    model_file_close(&f);
    return st;
}

/* ---- use ---- */

status model_sites_place(model_file *f, const dataset *d)
{
    position_space space;
    status st = space_of_dataset(d, &space);
    if (st == STATUS_OK)
        st = model_file_place(f, &space);
    space_free(&space);
    return st;
}

/* ---- export ---- */

status model_sites_beside(const model_file *f, const dataset *d, site_columns *columns,
                          safetensor_out tensors[SITE_TENSORS], char **text)
{
    TRY(site_columns_make(d, columns));
    json_t *o = json_loads(identity_text(f), 0, NULL), *kept = json_object();
    static const char *const keys[] = {"chromosomes", "labels",  "assembly",
                                       "split_hash",  "n_sites", "sites_hash"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        json_object_set(kept, keys[i], json_object_get(o, keys[i]));
    *text = json_dumps(kept, JSON_COMPACT);
    json_decref(kept);
    json_decref(o);
    if (!*text)
        return fail(STATUS_MEMORY, "%s: no memory for its sites; free some", f->path);
    tensors[0] =
        (safetensor_out){flat_names[0], {d->n_sites}, 1, "I32", sizeof(int32_t), columns->position};
    tensors[1] = (safetensor_out){flat_names[1], {d->n_sites}, 1, "U8", 1, columns->alleles};
    return STATUS_OK;
}
