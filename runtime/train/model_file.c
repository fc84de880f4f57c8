/* From a path to a model, and between a model and the tensors of its checkpoint. */
#include "runtime/train/model_file.h"

#include "model/weights.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), k = strlen(tail);
    return n >= k && !strcmp(name + n - k, tail);
}

/* ---- between a model and its tensors ---- */

static void put(checkpoint_tensor *list, int64_t room, int64_t *n, checkpoint_tensor t)
{
    if (*n < room)
        list[*n] = t;
    ++*n;
}

static void put_arena(model *m, const char *folder, const float *values, checkpoint_tensor *list,
                      int64_t room, int64_t *n)
{
    const parameter *p;
    const int count = model_parameters(m, &p);
    for (int i = 0; i < count; i++) {
        checkpoint_tensor t = {
            .kind = ELEMENT_F32, .ndim = p[i].ndim, .data = values + p[i].offset};
        snprintf(t.name, sizeof t.name, "%s/%s", folder, p[i].name);
        memcpy(t.shape, p[i].shape, sizeof t.shape);
        put(list, room, n, t);
    }
}

static checkpoint_tensor row_tensor(int level, const char *what, element_kind kind, int64_t slots,
                                    int64_t k, const void *data)
{
    checkpoint_tensor t = {.kind = kind, .shape = {slots, k}, .ndim = k ? 2 : 1, .data = data};
    snprintf(t.name, sizeof t.name, "rows/%d/%s", level, what);
    return t;
}

void model_tensors(model *m, const float *adam_m, const float *adam_v, const float *lr_of_step,
                   int64_t steps, checkpoint_tensor *list, int64_t room, int64_t *n)
{
    *n = 0;
    put_arena(m, "parameters", model_values(m), list, room, n);
    if (adam_m && adam_v) {
        put_arena(m, "adam_m", adam_m, list, room, n);
        put_arena(m, "adam_v", adam_v, list, room, n);
    }
    position_encoding *x = model_position(m);
    row_table *tables[ROW_TABLES];
    const int levels = x ? position_tables(x, tables) : 0;
    for (int i = 0; i < levels; i++) {
        const row_table *t = tables[i];
        put(list, room, n, row_tensor(i, "row", ELEMENT_I64, t->slots, 0, t->row));
        put(list, room, n, row_tensor(i, "p", ELEMENT_F32, t->slots, t->k, t->p));
        put(list, room, n, row_tensor(i, "m", ELEMENT_F32, t->slots, t->k, t->m));
        put(list, room, n, row_tensor(i, "v", ELEMENT_F32, t->slots, t->k, t->v));
        put(list, room, n, row_tensor(i, "last", ELEMENT_I64, t->slots, 0, t->last));
    }
    if (levels && lr_of_step) {
        checkpoint_tensor t = {.name = "rows/lr",
                               .kind = ELEMENT_F32,
                               .shape = {steps},
                               .ndim = 1,
                               .data = lr_of_step};
        put(list, room, n, t);
    }
}

/* Row numbers and learning rates are the host's. */
static bool of_device(const checkpoint_tensor *t)
{
    return strncmp(t->name, "rows/", 5) != 0 ||
           !(ends_with(t->name, "/row") || ends_with(t->name, "/lr"));
}

static size_t bytes_of(const checkpoint_tensor *t)
{
    size_t bytes = t->kind == ELEMENT_F32 ? sizeof(float) : sizeof(int64_t);
    for (int i = 0; i < t->ndim; i++)
        bytes *= (size_t)t->shape[i];
    return bytes;
}

status model_tensors_to_host(model *m, checkpoint_tensor *list, int64_t n, void **copies)
{
    size_t total = 0;
    *copies = NULL;
    if (device_is_host(model_device(m)))
        return STATUS_OK;
    for (int64_t i = 0; i < n; i++)
        total += of_device(&list[i]) ? arena_round(bytes_of(&list[i])) : 0;
    char *at = *copies = malloc(total + 1);
    if (!at)
        return fail(STATUS_MEMORY, "checkpoint: no memory for %zu bytes; use more memory", total);
    for (int64_t i = 0; i < n; i++) {
        if (!of_device(&list[i]))
            continue;
        TRY(device_download(model_device(m), at, list[i].data, bytes_of(&list[i])));
        list[i].data = at;
        at += arena_round(bytes_of(&list[i]));
    }
    return STATUS_OK;
}

static const checkpoint_tensor *find_tensor(const checkpoint *c, const char *name)
{
    const checkpoint_tensor *list;
    const int64_t n = checkpoint_tensors(c, &list);
    for (int64_t i = 0; i < n; i++)
        if (!strcmp(list[i].name, name))
            return &list[i];
    return NULL;
}

/* `heads` false: the classifier keeps its initial values. */
static status restore_arena(model *m, checkpoint *c, const char *folder, float *values, bool heads)
{
    const parameter *p;
    const int count = model_parameters(m, &p);
    device_view view;
    TRY(device_view_open(model_device(m), values, (size_t)model_floats(m) * sizeof(float), true,
                         &view));
    status st = STATUS_OK;
    for (int i = 0; st == STATUS_OK && i < count; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s/%s", folder, p[i].name);
        if (heads || p[i].group != GROUP_HEAD)
            st = checkpoint_read(c, name, (float *)view.host + p[i].offset, p[i].count);
    }
    return device_view_close(&view, true, st);
}

/* One column of a table, from the file to where it belongs: a table may be most of the memory. */
static status restore_column(device *dev, checkpoint *c, int level, const char *what, void *column,
                             int64_t count, size_t width)
{
    char name[64];
    device_view view;
    snprintf(name, sizeof name, "rows/%d/%s", level, what);
    TRY(device_view_open(dev, column, (size_t)count * width, false, &view));
    const status st = checkpoint_read(c, name, view.host, count);
    return device_view_close(&view, true, st);
}

static status restore_level(model *m, checkpoint *c, int level)
{
    position_encoding *x = model_position(m);
    device *dev = model_device(m);
    row_table *tables[ROW_TABLES];
    position_tables(x, tables);
    const row_table *t = tables[level];
    char name[64];
    snprintf(name, sizeof name, "rows/%d/row", level);
    const checkpoint_tensor *rows = find_tensor(c, name);
    const int64_t slots = rows ? rows->shape[0] : 0;
    int64_t *row = malloc(((size_t)slots + 1) * sizeof *row);
    status st = row ? checkpoint_read(c, name, row, slots)
                    : fail(STATUS_MEMORY, "position: no memory for %lld rows; use more workers",
                           (long long)slots);
    if (st == STATUS_OK)
        st = position_restore(x, level, slots, row, NULL, NULL, NULL, NULL);
    free(row);
    TRY(st);
    TRY(restore_column(dev, c, level, "p", t->p, slots * t->k, sizeof *t->p));
    TRY(restore_column(dev, c, level, "m", t->m, slots * t->k, sizeof *t->m));
    TRY(restore_column(dev, c, level, "v", t->v, slots * t->k, sizeof *t->v));
    return restore_column(dev, c, level, "last", t->last, slots, sizeof *t->last);
}

static status restore_rows(model *m, checkpoint *c)
{
    row_table *tables[ROW_TABLES];
    const int levels = model_position(m) ? position_tables(model_position(m), tables) : 0;
    for (int i = 0; i < levels; i++)
        TRY(restore_level(m, c, i));
    return STATUS_OK;
}

status model_restore(model *m, checkpoint *c, float *adam_m, float *adam_v)
{
    TRY(restore_arena(m, c, "parameters", model_values(m), true));
    TRY(restore_arena(m, c, "adam_m", adam_m, true));
    TRY(restore_arena(m, c, "adam_v", adam_v, true));
    return restore_rows(m, c);
}

/* ---- opening ---- */

/* A folder: RUN, or its checkpoints themselves. */
static status open_folder(const char *path, model_file *f)
{
    char dir[CONFIG_TEXT];
    struct stat info;
    int n = snprintf(dir, sizeof dir, "%s/checkpoints", path);
    if (n < 0 || n >= (int)sizeof dir)
        return fail(STATUS_USAGE, "%.100s...: the name is too long; move the run", path);
    if (stat(dir, &info) != 0 || !S_ISDIR(info.st_mode))
        snprintf(dir, sizeof dir, "%s", path);
    TRY(checkpoint_named(dir, "best", &f->h5));
    if (!f->h5)
        return fail(STATUS_DATA,
                    "%s: no checkpoint is in this folder; name a run directory, a .h5 or a "
                    ".safetensors file",
                    path);
    checkpoint_path(dir, checkpoint_head(f->h5)->step, f->path);
    return STATUS_OK;
}

/* Finds out what `path` is and opens it. */
static status open_any(const char *path, model_file *f)
{
    struct stat info;
    if (strlen(path) >= CONFIG_TEXT)
        return fail(STATUS_USAGE, "%.100s...: the name is too long; move the file", path);
    snprintf(f->path, sizeof f->path, "%s", path);
    if (stat(path, &info) != 0)
        return fail(STATUS_DATA,
                    "%s: %s; name a run directory, a checkpoint .h5 or a .safetensors file", path,
                    strerror(errno));
    if (S_ISDIR(info.st_mode))
        return open_folder(path, f);
    if (ends_with(path, ".h5"))
        return checkpoint_open(path, &f->h5);
    return safetensors_open(path, &f->flat);
}

status model_file_find(const char *path, model_file **out)
{
    model_file *f = *out = calloc(1, sizeof *f);
    if (!f)
        return fail(STATUS_MEMORY, "%s: no memory to open it; free some", path);
    const status st = open_any(path, f);
    if (st != STATUS_OK)
        model_file_close(out);
    return st;
}

/* "labels" of a JSON object, or a JSON list itself. */
static status read_labels(model_file *f, const char *text, int classes)
{
    json_t *root = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const json_t *list = json_is_object(root) ? json_object_get(root, "labels") : root;
    status st = STATUS_OK;
    if (json_is_array(list) && (int)json_array_size(list) == classes && classes > 0) {
        f->labels = calloc((size_t)classes + 1, sizeof *f->labels);
        for (int i = 0; i < classes && st == STATUS_OK; i++) {
            const char *name = json_string_value(json_array_get(list, (size_t)i));
            if (!f->labels || !(f->labels[i] = strdup(name ? name : "?")))
                st = fail(STATUS_MEMORY, "%s: no memory for its labels; free some", f->path);
        }
    }
    json_decref(root);
    return st;
}

/* Classes of a checkpoint: the rows of its head. */
static int checkpoint_classes(const checkpoint *c)
{
    const checkpoint_tensor *t = find_tensor(c, "parameters/head.output.bias");
    int64_t classes = t ? t->shape[0] : 0;
    if (find_tensor(c, "parameters/head.sites.scale")) /* the site head has a query a class */
        if ((t = find_tensor(c, "parameters/head.sites.run.weight")) && t->ndim == 2)
            classes = t->shape[0] / t->shape[1];
    return classes > 0 && classes <= 64 ? (int)classes : 0;
}

static status read_config(model_file *f, int *in_file)
{
    if (f->flat)
        return weights_config(f->flat, &f->c, in_file);
    const checkpoint_header *h = checkpoint_head(f->h5);
    f->step = h->step;
    *in_file = checkpoint_classes(f->h5);
    config_defaults(&f->c);
    TRY(config_read_text(&f->c, f->path, h->config, strlen(h->config)));
    return config_finish(&f->c, false);
}

static status fill(model_file *f, int in_file)
{
    if (f->flat)
        return model_load_safetensors(f->m, f->flat);
    return restore_arena(f->m, f->h5, "parameters", model_values(f->m), f->classes == in_file);
}

status model_file_open(const char *path, int classes, const char *const *overrides, int n,
                       device *dev, model_file **out)
{
    *out = NULL;
    model_file *f = calloc(1, sizeof *f);
    if (!f)
        return fail(STATUS_MEMORY, "%s: no memory to open it; free some", path);
    int in_file = 0;
    status st;
    TRY_GOTO(failed, open_any(path, f));
    TRY_GOTO(failed, read_config(f, &in_file));
    for (int i = 0; i < n; i++)
        TRY_GOTO(failed, config_override(&f->c, overrides[i]));
    if (n > 0 && f->h5)
        TRY_GOTO(failed, config_finish(&f->c, false));
    f->classes = classes < 0 ? in_file : classes;
    TRY_GOTO(failed, model_open(&f->c, f->classes, dev, &f->m));
    if (f->classes != in_file) /* the head that the file does not have */
        TRY_GOTO(failed, model_initialise(f->m, (uint64_t)f->c.seed));
    TRY_GOTO(failed, fill(f, in_file));
    f->state = strdup(f->h5 ? checkpoint_head(f->h5)->state : "{}");
    if (!f->state) {
        st = fail(STATUS_MEMORY, "%s: no memory to open it; free some", path);
        goto failed;
    }
    if (f->classes == in_file)
        TRY_GOTO(failed, read_labels(f, f->h5 ? f->state : weights_labels(f->flat), f->classes));
    *out = f;
    return STATUS_OK;

failed:
    model_file_close(&f);
    return st;
}

void model_file_close(model_file **f)
{
    if (!*f)
        return;
    model_close(&(*f)->m);
    checkpoint_close(&(*f)->h5);
    safetensors_close(&(*f)->flat);
    for (int i = 0; (*f)->labels && i < (*f)->classes; i++)
        free((*f)->labels[i]);
    free((*f)->labels);
    free((*f)->state);
    free(*f);
    *f = NULL;
}

/* Values replayed, moments zero, as if never updated. */
static status replay_table(device *dev, const rows_adam_args *a, row_table *r)
{
    const size_t bytes = (size_t)(r->slots * r->k) * sizeof(float);
    void *now = NULL;
    device_view last = {0};
    status st;
    TRY_GOTO(done, device_memory_take(dev, bytes, &now));
    TRY_GOTO(done, rows_catch_up(dev, a, r->slots, r->k, NULL, r->p, r->m, r->v, r->last, now));
    TRY_GOTO(done, device_copy(dev, r->p, now, bytes));
    TRY_GOTO(done, device_clear(dev, r->m, bytes));
    TRY_GOTO(done, device_clear(dev, r->v, bytes));
    TRY_GOTO(done,
             device_view_open(dev, r->last, (size_t)r->slots * sizeof *r->last, false, &last));
    for (int64_t j = 0; j < r->slots; j++)
        ((int64_t *)last.host)[j] = -1;
    TRY_GOTO(done, device_view_close(&last, true, STATUS_OK));
    st = device_wait(dev);
done:
    device_drain(dev);
    st = device_view_close(&last, false, st);
    if (now)
        device_memory_give(dev, now);
    return st;
}

/* Rows as a dense optimizer would have left them at the checkpoint's step; moments are not needed
 * any more. */
static status replay(model_file *f, device *dev)
{
    const checkpoint_tensor *t = find_tensor(f->h5, "rows/lr");
    if (f->step == 0 || !t)
        return STATUS_OK;
    if (t->shape[0] < f->step)
        return fail(STATUS_DATA,
                    "%s: learning rates of %lld steps for %lld steps done; use another checkpoint "
                    "of the run",
                    f->path, (long long)t->shape[0], (long long)f->step);
    device_view lr = {0};
    void *rates = NULL;
    const int64_t n = t->shape[0];
    status st;
    TRY_GOTO(done, device_memory_take(dev, (size_t)n * sizeof(float), &rates));
    TRY_GOTO(done, device_view_open(dev, rates, (size_t)n * sizeof(float), false, &lr));
    st = checkpoint_read(f->h5, t->name, lr.host, n);
    TRY_GOTO(done, device_view_close(&lr, true, st));
    const rows_adam_args a = {.b1 = f->c.optimizer.betas[0],
                              .b2 = f->c.optimizer.betas[1],
                              .eps = f->c.optimizer.eps,
                              .scale = 1.0,
                              .step = f->step - 1,
                              .lr_of_step = rates};
    row_table *tables[ROW_TABLES];
    const int levels = position_tables(model_position(f->m), tables);
    for (int i = 0; i < levels; i++)
        TRY_GOTO(done, replay_table(dev, &a, tables[i]));
done:
    device_drain(dev);
    if (rates)
        device_memory_give(dev, rates);
    return st;
}

status model_file_place(model_file *f, const position_space *space)
{
    TRY(model_place(f->m, space));
    if (!model_position(f->m))
        return STATUS_OK;
    if (f->flat)
        return weights_load_rows(f->m, f->flat);
    TRY(restore_rows(f->m, f->h5));
    return replay(f, model_device(f->m));
}
