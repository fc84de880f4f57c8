/* The configuration as text: YAML with or without comments, JSON, one key, and the page of
 * documentation. */
#include "runtime/core/config_fields.h"
#include "runtime/core/stream.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VALUE_TEXT (CONFIG_TEXT * 4)

/* data.path must mean the same wherever the text comes to lie: it is written absolute. */
static void absolute_path(const config *c, char path[CONFIG_TEXT])
{
    char relative[CONFIG_TEXT], folder[CONFIG_TEXT];
    config_data_path(c, relative);
    if (relative[0] == '/' || c->file[0] == '\0' || !getcwd(folder, sizeof folder) ||
        snprintf(path, CONFIG_TEXT, "%s/%s", folder, relative) >= CONFIG_TEXT)
        snprintf(path, CONFIG_TEXT, "%s", relative);
}

static void value_of(const config *c, int index, char *text, size_t size)
{
    const field *f = &config_fields[index];
    if (!(f->flags & FIELD_PATH) || c->data.path[0] == '\0') {
        field_get(f, c, text, size);
        return;
    }
    config *moved = malloc(sizeof *moved);
    if (!moved) {
        field_get(f, c, text, size);
        return;
    }
    *moved = *c;
    absolute_path(c, moved->data.path);
    field_get(f, moved, text, size);
    free(moved);
}

status config_get(const config *c, const char *key, char *value, size_t size)
{
    int i = config_find(key, strlen(key));
    if (i < 0)
        return config_unknown("key", key);
    char text[VALUE_TEXT];
    value_of(c, i, text, sizeof text);
    if (strlen(text) >= size)
        return fail(STATUS_INTERNAL, "%s: its value is longer than %zu bytes; report this", key,
                    size);
    memcpy(value, text, strlen(text) + 1);
    return STATUS_OK;
}

/* ---- YAML ---- */

static void write_stages(const config *c, FILE *to)
{
    char text[STAGE_TEXT];
    for (int i = 0; i < c->n_stages; i++) {
        stage_text(&c->stages[i], text, sizeof text);
        fprintf(to, "  - %s\n", text);
    }
}

static void write_comment(const field *f, FILE *to, size_t column)
{
    char expects[256];
    fprintf(to, "%*s# %s", (int)(column < 36 ? 36 - column : 1), "", f->help);
    if (f->kind == FIELD_WORD && f->words[1]) {
        field_expects(f, expects, sizeof expects);
        fprintf(to, "; %s", expects);
    }
}

status config_write(const config *c, FILE *to, bool commented)
{
    char section[64] = "", value[VALUE_TEXT];
    for (int i = 0; i < config_n_fields; i++) {
        const field *f = &config_fields[i];
        const char *dot = strchr(f->key, '.');
        size_t n = dot ? (size_t)(dot - f->key) : 0;
        if (dot && (strlen(section) != n || strncmp(section, f->key, n) != 0)) {
            snprintf(section, sizeof section, "%.*s", (int)n, f->key);
            fprintf(to, "%s%s:\n", commented ? "\n" : "", section);
        } else if (!dot) {
            section[0] = '\0';
            fputs(commented && i > 0 ? "\n" : "", to);
        }
        value_of(c, i, value, sizeof value);
        const bool absent = value[0] == '\0';
        if (absent && !commented)
            continue;
        const bool list = f->kind == FIELD_STAGES && c->n_stages > 0;
        int written = fprintf(to, "%s%s%s:%s%s", dot ? "  " : "", absent ? "# " : "",
                              dot ? dot + 1 : f->key, list || absent ? "" : " ", list ? "" : value);
        if (commented)
            write_comment(f, to, (size_t)(written > 0 ? written : 0));
        fputc('\n', to);
        if (list)
            write_stages(c, to);
    }
    return stream_written(to, "configuration");
}

/* ---- JSON ---- */

static json_t *json_stages(const config *c);

/* base: the configuration, or for the keys of a stage that stage. */
static json_t *json_value(const void *base, const field *f)
{
    const char *from = (const char *)base + (f->at == NOWHERE ? 0 : f->at);
    char text[VALUE_TEXT];
    switch (f->kind) {
    case FIELD_STAGES:
        return json_stages(base);
    case FIELD_BOOL:
        return json_boolean(*(const bool *)from);
    case FIELD_REAL:
        if (f->count == 1)
            return json_real(*(const double *)(const void *)from);
        return json_pack("[f, f]", ((const double *)(const void *)from)[0],
                         ((const double *)(const void *)from)[1]);
    case FIELD_INTEGER:
        if ((f->flags & FIELD_AUTO) && *(const int64_t *)(const void *)from == CONFIG_AUTO)
            return json_string("auto");
        return json_integer(*(const int64_t *)(const void *)from);
    case FIELD_TEXT:
        if (*from == '\0')
            return json_null();
        if (!(f->flags & FIELD_PATH))
            return json_string(from);
        absolute_path(base, text);
        json_t *path = json_string(text);
        return path ? path : json_null(); /* a name that is not UTF-8 has no place in JSON */
    case FIELD_WORD:
    case FIELD_NAME:
        break;
    }
    field_get(f, base, text, sizeof text);
    return text[0] ? json_string(text) : json_null();
}

static json_t *json_stages(const config *c)
{
    json_t *list = json_array();
    for (int i = 0; list && i < c->n_stages; i++) {
        json_t *one = json_object();
        for (int k = 0; k < config_n_stage_fields; k++) {
            const field *f = &config_stage_fields[k];
            json_object_set_new(one, f->key, json_value(&c->stages[i], f));
        }
        json_array_append_new(list, one);
    }
    return list;
}

char *config_json(const config *c)
{
    json_t *root = json_object();
    for (int i = 0; root && i < config_n_fields; i++) {
        const char *key = config_fields[i].key, *dot = strchr(key, '.');
        char section[64];
        if (!dot) {
            json_object_set_new(root, key, json_value(c, &config_fields[i]));
            continue;
        }
        snprintf(section, sizeof section, "%.*s", (int)(dot - key), key);
        json_t *inner = json_object_get(root, section);
        if (!inner) {
            json_object_set_new(root, section, json_object());
            inner = json_object_get(root, section);
        }
        json_object_set_new(inner, dot + 1, json_value(c, &config_fields[i]));
    }
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    return text;
}

/* ---- docs/configuration.md ---- */

static const char opening[] =
    "# Configuration\n\n"
    "One YAML file describes a run. This page is made from the program's own table of keys by "
    "`crocuta config "
    "--markdown`;\na test holds it against that table.\n\n"
    "* `crocuta config` lists the shipped configurations, `crocuta config NAME` prints one with "
    "comments to start "
    "from.\n"
    "* Any key can be set on the command line as `section.key=value`, by the same rules: "
    "`crocuta plan c.yaml train.steps=100`.\n"
    "* `data.path` is relative to the folder of the configuration. It is required except for "
    "`plan` and `bench`; "
    "`model` (any key\n  of it) or `model.preset` is required always; `position.length` where "
    "there is no data to take "
    "it from. Everything else has\n  a default.\n"
    "* A key that is unknown, written twice, empty, of the wrong type or out of range is refused "
    "with file and line. "
    "Numbers are\n  read exactly: `1e-4`, `6.0e-4` and `.0001` are numbers, `1e3` and `20.0` are "
    "whole numbers, "
    "`128.5`, `.inf`, `010` and\n  `\"20\"` are not. `true` and `false` are the only truth values. "
    "An anchor may stand "
    "for a single value.\n"
    "* On `pretrain --resume`, a changed key is refused unless it is marked *harmless* below (then "
    "there is one "
    "warning);\n  `train.steps` may grow.\n\n";

static const char *section_help(const char *section)
{
    static const char *const help[][2] = {
        {"data", "Which windows of which people the model sees."},
        {"model", "What is learned. Keys beside a preset win over it."},
        {"position", "How a token knows where it stands."},
        {"optimizer", "AdamW on everything, row by row where the position table is touched."},
        {"scheduler", "The learning rate over the steps."},
        {"train", "How long, how much at once, how often it is looked at."},
        {"finetune", "The classifier on top."},
        {"comm", "What happens between ranks."},
        {"checkpoint", "What is kept, and when."},
    };
    for (size_t i = 0; i < sizeof help / sizeof *help; i++)
        if (strcmp(help[i][0], section) == 0)
            return help[i][1];
    return "";
}

static void document_field(const field *f, FILE *to)
{
    char expects[256];
    field_expects(f, expects, sizeof expects);
    fprintf(to, "| `%s` | %s | ", f->key, expects);
    if (f->fallback)
        fprintf(to, "`%s`", f->fallback);
    else
        fprintf(to, "none");
    fprintf(to, " | %s%s |\n", f->help, f->flags & FIELD_HARMLESS ? " *(harmless)*" : "");
}

static void document_presets(FILE *to)
{
    fprintf(to, "\n## Presets\n\n`model.preset` fills the shape; `d_inner` is 4 `d_model`, order "
                "2, filters of width "
                "64. The published ones have no position\nencoding unless a key of `position` is "
                "written; `study` has "
                "`fpe` with rank 16 and alpha 100.\n\n| preset | d_model | n_layer | l_max "
                "|\n|---|---|---|---|\n");
    for (int i = 0; i < config_n_presets; i++)
        fprintf(to, "| `%s` | %lld | %lld | %lld |\n", config_presets[i].name,
                (long long)config_presets[i].d_model, (long long)config_presets[i].n_layer,
                (long long)config_presets[i].l_max);
}

status config_document(FILE *to)
{
    char section[64] = "?";
    fputs(opening, to);
    for (int i = 0; i < config_n_fields; i++) {
        const field *f = &config_fields[i];
        const char *dot = strchr(f->key, '.');
        size_t n = dot ? (size_t)(dot - f->key) : 0;
        if (strlen(section) != n || strncmp(section, f->key, n) != 0) {
            snprintf(section, sizeof section, "%.*s", (int)n, f->key);
            if (dot)
                fprintf(to, "%s## %s\n\n%s\n\n", i ? "\n" : "", section, section_help(section));
            else
                fputs(i ? "\n## At the top level\n\n" : "## Seed\n\n", to);
            fputs("| key | value | default | |\n|---|---|---|---|\n", to);
        }
        document_field(f, to);
    }
    fputs("\n## A stage of `stages`\n\n| key | value | default | |\n|---|---|---|---|\n", to);
    for (int i = 0; i < config_n_stage_fields; i++)
        document_field(&config_stage_fields[i], to);
    document_presets(to);
    return stream_written(to, "docs/configuration.md");
}
