/* crocuta checkpoint: list, show, verify, prune and export what training wrote, and look into
 * safetensors files. */
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "kernels/device.h"
#include "launch/cli.h"
#include "model/weights.h"
#include "runtime/core/log.h"
#include "runtime/train/model_file.h"
#include "runtime/train/model_sites.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ABOUT                                                                                      \
    "ls DIR       the checkpoints of a run\n"                                                      \
    "show MODEL   what is in one; a .safetensors file too\n"                                       \
    "verify MODEL every byte held against the checksums (a folder: all of its checkpoints)\n"      \
    "prune DIR    keep the newest (--keep), the latest and the best\n"                             \
    "export MODEL -o OUT.safetensors   weights under their published names, config.json "          \
    "beside\n\n"                                                                                   \
    "Examples:\n  crocuta checkpoint ls runs/study\n  crocuta checkpoint export runs/study -o "    \
    "model.safetensors\n"

#define SCHEMA "crocuta/checkpoint/1"

typedef struct {
    const cli *c;
    const cli_common *common;
    const char *path;
    int64_t keep;
} request;

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), k = strlen(tail);
    return n >= k && !strcmp(name + n - k, tail);
}

static status print_json(json_t *root)
{
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    return cli_print_json("checkpoint", text);
}

/* Names come from files: control characters must not reach a terminal. */
static void print_name(const char *name)
{
    for (; *name; name++) {
        const unsigned char b = (unsigned char)*name;
        if (b < 0x20 || b == 0x7f)
            printf("\\x%02x", b);
        else
            putchar(b);
    }
}

static status is_folder(const char *path, bool *folder)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return fail(STATUS_DATA,
                    "%s: %s; name a run directory, a checkpoint .h5 or a .safetensors file", path,
                    strerror(errno));
    *folder = S_ISDIR(info.st_mode);
    return STATUS_OK;
}

/* RUN/checkpoints, or the folder itself. */
static status folder_of(const char *path, char dir[CONFIG_TEXT])
{
    bool folder = false;
    TRY(is_folder(path, &folder));
    if (!folder)
        return fail(STATUS_USAGE, "%s: is a file; name the run directory", path);
    struct stat info;
    const int n = snprintf(dir, CONFIG_TEXT, "%s/checkpoints", path);
    if (n >= CONFIG_TEXT)
        return fail(STATUS_USAGE, "%.100s...: the name is too long; move the run", path);
    if (stat(dir, &info) != 0 || !S_ISDIR(info.st_mode))
        snprintf(dir, CONFIG_TEXT, "%s", path);
    return STATUS_OK;
}

/* ---- ls, prune ---- */

static status list(const request *r)
{
    char dir[CONFIG_TEXT], path[CONFIG_TEXT];
    TRY(folder_of(r->path, dir));
    int64_t *steps, n;
    TRY(checkpoint_list(dir, &steps, &n));
    const int64_t latest = checkpoint_pointed(dir, "latest"),
                  best = checkpoint_pointed(dir, "best");
    json_t *items = json_array();
    for (int64_t i = 0; i < n; i++) {
        struct stat info = {0};
        checkpoint_path(dir, steps[i], path);
        const long long bytes = stat(path, &info) == 0 ? (long long)info.st_size : -1;
        if (r->common->json)
            json_array_append_new(items, json_pack("{s:I, s:s, s:I, s:b, s:b}", "step",
                                                   (json_int_t)steps[i], "file", path, "bytes",
                                                   (json_int_t)bytes, "latest", steps[i] == latest,
                                                   "best", steps[i] == best));
        else
            printf("%10lld  %12lld bytes  %s%s%s\n", (long long)steps[i], bytes, path,
                   steps[i] == latest ? "  latest" : "", steps[i] == best ? "  best" : "");
    }
    free(steps);
    if (r->common->json)
        return print_json(json_pack("{s:s, s:o}", "schema", SCHEMA, "checkpoints", items));
    json_decref(items);
    if (n == 0)
        log_note("%s: no checkpoint yet", dir);
    return STATUS_OK;
}

static status prune(const request *r)
{
    char dir[CONFIG_TEXT];
    int64_t removed;
    TRY(folder_of(r->path, dir));
    TRY(checkpoint_prune(dir, r->keep, &removed));
    if (r->common->json)
        return print_json(
            json_pack("{s:s, s:I}", "schema", SCHEMA, "removed", (json_int_t)removed));
    printf("%lld removed\n", (long long)removed);
    return STATUS_OK;
}

/* ---- show ---- */

static json_t *tensor_json(const char *name, const char *dtype, const int64_t *shape, int ndim)
{
    json_t *dims = json_array();
    for (int i = 0; i < ndim; i++)
        json_array_append_new(dims, json_integer(shape[i]));
    return json_pack("{s:s, s:s, s:o}", "name", name, "dtype", dtype, "shape", dims);
}

static void print_tensor(const char *name, const char *dtype, const int64_t *shape, int ndim)
{
    printf("%-8s (", dtype);
    for (int i = 0; i < ndim; i++)
        printf("%s%lld", i ? ", " : "", (long long)shape[i]);
    printf(") ");
    print_name(name);
    putchar('\n');
}

static status show_safetensors(const request *r)
{
    safetensors *s;
    TRY(safetensors_open(r->path, &s));
    status st = safetensors_say_not_finite(s);
    json_t *tensors = json_array(), *meta = json_object();
    for (int64_t i = 0; i < s->n && st == STATUS_OK; i++) {
        const safetensor *t = &s->tensors[i];
        if (r->common->json)
            json_array_append_new(tensors, tensor_json(t->name, t->dtype, t->shape, t->ndim));
        else
            print_tensor(t->name, t->dtype, t->shape, t->ndim);
    }
    for (int64_t i = 0; i < s->n_meta; i++)
        json_object_set_new(meta, s->meta_key[i], json_string(s->meta_value[i]));
    if (st == STATUS_OK && r->common->json)
        st = print_json(
            json_pack("{s:s, s:O, s:O}", "schema", SCHEMA, "tensors", tensors, "metadata", meta));
    json_decref(tensors);
    json_decref(meta);
    safetensors_close(&s);
    return st;
}

static const char *kind_name(element_kind kind)
{
    static const char *const names[] = {"F32", "I64", "U8", "I32"};
    return names[kind];
}

static status show_checkpoint(const request *r, checkpoint *c)
{
    const checkpoint_header *h = checkpoint_head(c);
    const checkpoint_tensor *t;
    const int64_t n = checkpoint_tensors(c, &t);
    if (!r->common->json) {
        printf("step %lld, stage %lld, written by %d workers\n", (long long)h->step,
               (long long)h->stage, h->ranks);
        for (int64_t i = 0; i < n; i++)
            print_tensor(t[i].name, kind_name(t[i].kind), t[i].shape, t[i].ndim);
        return STATUS_OK;
    }
    json_t *tensors = json_array(), *state = json_loads(h->state, 0, NULL);
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(tensors,
                              tensor_json(t[i].name, kind_name(t[i].kind), t[i].shape, t[i].ndim));
    return print_json(json_pack("{s:s, s:I, s:I, s:i, s:s, s:o, s:o, s:{}}", "schema", SCHEMA,
                                "step", (json_int_t)h->step, "stage", (json_int_t)h->stage, "ranks",
                                h->ranks, "config", h->config, "state",
                                state ? state : json_object(), "tensors", tensors, "metadata"));
}

/* A folder's best, else newest checkpoint; or the file. */
static status open_checkpoint(const char *path, checkpoint **c)
{
    bool folder = false;
    TRY(is_folder(path, &folder));
    if (!folder)
        return checkpoint_open(path, c);
    char dir[CONFIG_TEXT];
    TRY(folder_of(path, dir));
    TRY(checkpoint_named(dir, "best", c));
    return *c ? STATUS_OK
              : fail(STATUS_DATA, "%s: no checkpoint is in this folder; name another", path);
}

static status show(const request *r)
{
    bool folder = false;
    TRY(is_folder(r->path, &folder));
    if (!folder && !ends_with(r->path, ".h5"))
        return show_safetensors(r);
    checkpoint *c = NULL;
    TRY(open_checkpoint(r->path, &c));
    status st = show_checkpoint(r, c);
    checkpoint_close(&c);
    return st;
}

/* ---- verify ---- */

/* Every fault is said; the first is the command's own failure. */
static status verify_folder(const char *path, int64_t *sound)
{
    char dir[CONFIG_TEXT], file[CONFIG_TEXT];
    TRY(folder_of(path, dir));
    int64_t *steps, n;
    TRY(checkpoint_list(dir, &steps, &n));
    failure first = {.code = STATUS_OK};
    for (int64_t i = 0; i < n; i++) {
        checkpoint *c = NULL;
        checkpoint_path(dir, steps[i], file);
        if (checkpoint_open(file, &c) == STATUS_OK)
            ++*sound;
        else if (first.code == STATUS_OK)
            first = *failure_last();
        else
            log_warning("%s", failure_last()->text);
        checkpoint_close(&c);
    }
    free(steps);
    if (first.code != STATUS_OK)
        return failure_set(&first);
    return n ? STATUS_OK
             : fail(STATUS_DATA, "%s: no checkpoint is in this folder; name another", path);
}

static status verify(const request *r)
{
    bool folder = false;
    int64_t sound = 0;
    TRY(is_folder(r->path, &folder));
    if (folder) {
        TRY(verify_folder(r->path, &sound));
    } else if (ends_with(r->path, ".h5")) {
        checkpoint *c = NULL;
        TRY(checkpoint_open(r->path, &c));
        checkpoint_close(&c);
        sound = 1;
    } else {
        safetensors *s = NULL;
        TRY(safetensors_open(r->path, &s));
        status st = safetensors_say_not_finite(s);
        safetensors_close(&s);
        TRY(st);
        sound = 1;
    }
    if (r->common->json)
        return print_json(json_pack("{s:s, s:I}", "schema", SCHEMA, "sound", (json_int_t)sound));
    printf("%lld sound\n", (long long)sound);
    return STATUS_OK;
}

/* ---- export ---- */

static char *labels_text(const model_file *f)
{
    if (!f->labels)
        return NULL;
    json_t *names = json_array();
    for (int i = 0; i < f->classes; i++)
        json_array_append_new(names, json_string(f->labels[i]));
    char *text = json_dumps(names, JSON_COMPACT);
    json_decref(names);
    return text;
}

static status export_model(const request *r)
{
    const char *out = r->common->output;
    if (!out || !ends_with(out, ".safetensors"))
        return fail(STATUS_USAGE,
                    "checkpoint export: -o OUT.safetensors is missing; say where the weights go");
    char beside[CONFIG_TEXT];
    const char *slash = strrchr(out, '/');
    snprintf(beside, sizeof beside, "%.*sconfig.json", slash ? (int)(slash - out) + 1 : 0, out);
    struct stat info;
    if (!r->common->force && (stat(out, &info) == 0 || stat(beside, &info) == 0))
        return fail(STATUS_USAGE,
                    "%s: exists already; choose another folder, or --force to replace it",
                    stat(out, &info) == 0 ? out : beside);
    TRY(cli_input_kept(out, r->path));
    device *dev = NULL;
    model_file *f = NULL;
    char *labels = NULL, *text = NULL;
    site_columns columns = {0};
    safetensor_out tensors[SITE_TENSORS];
    dataset *sites = NULL;
    status st;
    TRY_GOTO(done, device_open(DEVICE_CPU, cli_threads(r->c, r->common), &dev));
    TRY_GOTO(done, model_file_open(r->path, -1, NULL, 0, dev, &f));
    TRY_GOTO(done, model_sites_of_file(f, &sites));
    TRY_GOTO(done, sites ? model_sites_place(f, sites) : model_file_place(f, &position_unbounded));
    if (sites)
        TRY_GOTO(done, model_sites_beside(f, sites, &columns, tensors, &text));
    labels = labels_text(f);
    const weights_beside along = {tensors, SITE_TENSORS, "crocuta_sites", text};
    st = model_export_safetensors(f->m, out, labels, sites ? &along : NULL);
done:
    dataset_close(&sites);
    site_columns_free(&columns);
    free(text);
    free(labels);
    model_file_close(&f);
    device_close(&dev);
    return st;
}

static status answer(const request *r, const char *what)
{
    static const struct {
        const char *name;
        status (*run)(const request *r);
    } table[] = {{"ls", list},
                 {"show", show},
                 {"verify", verify},
                 {"prune", prune},
                 {"export", export_model}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i].name, what))
            return table[i].run(r);
    return fail(
        STATUS_USAGE,
        "checkpoint: %s is none of ls, show, verify, prune, export; see crocuta checkpoint --help",
        what);
}

status command_checkpoint(const cli *c)
{
    cli_common common = {.seed = 1};
    request r = {.c = c, .common = &common, .keep = 3};
    const option own[] = {{"keep", 0, OPTION_INTEGER, &r.keep, "N",
                           "checkpoints that prune leaves (default: 3; 2 at least)"},
                          {NULL, 0, OPTION_FLAG, NULL, NULL, NULL}};
    const char **args;
    int n;
    bool done = false;
    TRY(cli_parse(c, "ls|show|verify|prune|export DIR|FILE [-o OUT.safetensors] [--keep N]", ABOUT,
                  own, &common, &args, &n, &done));
    if (done)
        return STATUS_OK;
    if (n != 2)
        return fail(
            STATUS_USAGE,
            "checkpoint: what to do and one DIR or FILE are needed; see crocuta checkpoint --help");
    TRY(cli_at_least("--keep", 2, &r.keep));
    r.path = args[1];
    return comm_agree(c->world, comm_rank(c->world) == 0 ? answer(&r, args[0]) : STATUS_OK);
}
