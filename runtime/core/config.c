/* The configuration as a whole: defaults, files, overrides, what presets imply, and checks that
 * need more than one key. */
#include "runtime/core/config.h"

#include "runtime/core/config_fields.h"
#include "runtime/core/nearest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_LIMIT (1 << 20) /* bytes; a configuration has a few thousand */

/* ---- names ---- */

int config_find(const char *key, size_t length)
{
    for (int i = 0; i < config_n_fields; i++)
        if (strlen(config_fields[i].key) == length &&
            strncmp(config_fields[i].key, key, length) == 0)
            return i;
    return -1;
}

bool config_is_section(const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < config_n_fields; i++)
        if (strncmp(config_fields[i].key, name, n) == 0 && config_fields[i].key[n] == '.')
            return true;
    return false;
}

static const char *last_part(const char *key)
{
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

status config_unknown(const char *where, const char *key)
{
    nearest near = {.name = key};
    char section[64];
    for (int i = 0; i < config_n_fields; i++) {
        const char *known = config_fields[i].key;
        nearest_offer(&near, known);
        snprintf(section, sizeof section, "%.*s", (int)strcspn(known, "."), known);
        if (!strchr(key, '.') && strcmp(section, known) != 0 && nearest_distance(key, section) <= 2)
            return fail(STATUS_USAGE,
                        "%s: %.80s is not a section (did you mean %s?); see docs/configuration.md",
                        where, key, section);
    }
    for (int i = 0; i < config_n_fields && !near.best;
         i++) /* the right name in the wrong section */
        if (strcmp(last_part(config_fields[i].key), last_part(key)) == 0)
            near.best = config_fields[i].key;
    if (near.best)
        return fail(STATUS_USAGE,
                    "%s: %.80s is not a key (did you mean %s?); see docs/configuration.md", where,
                    key, near.best);
    return fail(STATUS_USAGE, "%s: %.80s is not a key; see docs/configuration.md", where, key);
}

const char *config_key(int index)
{
    return index >= 0 && index < config_n_fields ? config_fields[index].key : NULL;
}

bool config_harmless(const char *key)
{
    int i = config_find(key, strlen(key));
    return i >= 0 && (config_fields[i].flags & FIELD_HARMLESS);
}

int config_line(const config *c, const char *key)
{
    int i = config_find(key, strlen(key));
    return i < 0 || c->given[i] != GIVEN_FILE ? 0 : c->line[i];
}

const char *config_place(const config *c, const char *key, char at[CONFIG_PLACE])
{
    const char *file = c->file[0] ? c->file : "configuration";
    const int line = config_line(c, key);
    if (line > 0)
        snprintf(at, CONFIG_PLACE, "%s:%d", file, line);
    else
        snprintf(at, CONFIG_PLACE, "%s", file);
    return at;
}

/* ---- values ---- */

void config_defaults(config *c)
{
    memset(c, 0, sizeof *c);
    for (int i = 0; i < config_n_fields; i++) {
        const field *f = &config_fields[i];
        if (!f->fallback)
            continue;
        scalar s = {f->fallback, strlen(f->fallback), false};
        status st = f->count > 1 || f->kind == FIELD_STAGES
                        ? config_read_value(c, i, "default", f->fallback)
                        : field_set(f, c, 0, s, "default");
        if (st != STATUS_OK) { /* a fault of the table: a test reads it at every build */
            fprintf(stderr, "crocuta: error: %s\n", failure_last()->text);
            abort();
        }
    }
}

/* A key's value as it stands behind the `=` of an override. */
static status set_text(config *c, int i, const char *value, const char *where)
{
    const field *f = &config_fields[i];
    if ((f->count > 1 || f->kind == FIELD_STAGES) && *value != '\0')
        TRY(config_read_value(c, i, where, value));
    else
        TRY(field_set(f, c, 0, (scalar){value, strlen(value), false}, where));
    c->given[i] = GIVEN_OVERRIDE;
    c->line[i] = 0;
    return STATUS_OK;
}

status config_override(config *c, const char *assignment)
{
    char shown[128];
    snprintf(shown, sizeof shown, "%.120s", assignment);
    const char *equals = strchr(assignment, '=');
    if (!equals)
        return fail(STATUS_USAGE, "%s: not an override; write key=value", shown);
    size_t length = (size_t)(equals - assignment);
    int i = config_find(assignment, length);
    if (i < 0) {
        char key[128];
        snprintf(key, sizeof key, "%.*s", (int)(length < 100 ? length : 100), assignment);
        if (config_is_section(key))
            return fail(STATUS_USAGE, "%s: %s is a section; write %s.KEY=VALUE", shown, key, key);
        return config_unknown(shown, key);
    }
    if (c->given[i] == GIVEN_OVERRIDE)
        return fail(STATUS_USAGE, "%s: %s is given twice on the command line; keep one", shown,
                    config_fields[i].key);
    return set_text(c, i, equals + 1, shown);
}

status config_set(config *c, const char *key, const char *value, const char *where)
{
    const int i = config_find(key, strlen(key));
    return i < 0 ? config_unknown(where, key) : set_text(c, i, value, where);
}

void config_forget_overrides(config *c)
{
    for (int i = 0; i < config_n_fields; i++)
        if (c->given[i] == GIVEN_OVERRIDE)
            c->given[i] = GIVEN_FILE;
}

/* ---- files ---- */

static status slurp(const char *path, char **text, size_t *bytes)
{
    *text = NULL;
    struct stat s;
    FILE *in = fopen(path, "rb");
    if (!in)
        return fail(STATUS_USAGE, "%s: %s; give a configuration, crocuta config prints one", path,
                    strerror(errno));
    status st = STATUS_OK;
    if (fstat(fileno(in), &s) != 0 || S_ISDIR(s.st_mode)) {
        st = fail(STATUS_USAGE, "%s: it is a folder; give the configuration in it", path);
        goto cleanup;
    }
    char *room = malloc(FILE_LIMIT + 1);
    if (!room) {
        st = fail(STATUS_MEMORY, "%s: no memory to read it; close other programs", path);
        goto cleanup;
    }
    *bytes = fread(room, 1, FILE_LIMIT + 1, in);
    if (ferror(in))
        st = fail(STATUS_USAGE, "%s: %s; copy it to a sound disk", path, strerror(errno));
    else if (*bytes > FILE_LIMIT)
        st = fail(STATUS_USAGE, "%s: larger than %d bytes; this is not a configuration", path,
                  FILE_LIMIT);
    if (st == STATUS_OK)
        *text = room;
    else
        free(room);

cleanup:
    fclose(in);
    return st;
}

status config_read(config *c, const char *path)
{
    char *text;
    size_t bytes = 0;
    if (strlen(path) >= sizeof c->file)
        return fail(STATUS_USAGE, "%.80s...: the name is too long; move the file", path);
    TRY(slurp(path, &text, &bytes));
    status st = config_read_text(c, path, text, bytes);
    free(text);
    return st;
}

void config_data_path(const config *c, char path[CONFIG_TEXT])
{
    char folder[CONFIG_TEXT] = "";
    const char *slash = strrchr(c->file, '/');
    if (slash && c->data.path[0] != '/')
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - c->file + 1), c->file);
    if (snprintf(path, CONFIG_TEXT, "%s%s", folder, c->data.path) >= CONFIG_TEXT)
        path[CONFIG_TEXT - 1] = '\0'; /* opening it names it, cut as it is */
}

/* ---- presets ---- */

static bool given(const config *c, const char *key)
{
    int i = config_find(key, strlen(key));
    return i >= 0 && c->given[i];
}

static bool any_given(const config *c, const char *section)
{
    size_t n = strlen(section);
    for (int i = 0; i < config_n_fields; i++)
        if (c->given[i] && strncmp(config_fields[i].key, section, n) == 0 &&
            config_fields[i].key[n] == '.')
            return true;
    return false;
}

const char *config_preset_name(int index)
{
    return index >= 0 && index < config_n_presets ? config_presets[index].name : NULL;
}

status config_preset(config *c, const char *name)
{
    nearest near = {.name = name};
    const preset_row *p = NULL;
    char known[256];
    size_t n = 0;
    for (int i = 0; i < config_n_presets; i++) {
        nearest_offer(&near, config_presets[i].name);
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "",
                              config_presets[i].name);
        if (strcmp(config_presets[i].name, name) == 0)
            p = &config_presets[i];
    }
    if (!p)
        return fail(STATUS_USAGE, "%.80s: it is not a preset%s%s%s; use one of %s", name,
                    near.best ? " (did you mean " : "", near.best ? near.best : "",
                    near.best ? "?)" : "", known);
    if (name != c->model.preset)
        snprintf(c->model.preset, sizeof c->model.preset, "%s", p->name);
    const struct {
        const char *key;
        int64_t *to, value;
    } shape[] = {
        {"model.order", &c->model.order, 2},
        {"model.d_model", &c->model.d_model, p->d_model},
        {"model.n_layer", &c->model.n_layer, p->n_layer},
        {"model.d_inner", &c->model.d_inner, 4 * p->d_model},
        {"model.l_max", &c->model.l_max, p->l_max},
        {"model.filter_order", &c->model.filter_order, 64},
        {"model.emb_dim", &c->model.emb_dim, 5},
    };
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        if (!given(c, shape[i].key))
            *shape[i].to = shape[i].value;
    if (!given(c, "model.mixer"))
        c->model.mixer = MIXER_HYENA;
    if (!any_given(c, "position")) {
        c->position.encoding = p->rows ? ENCODING_FPE : ENCODING_NONE;
        c->position.rank = 16;
        c->position.alpha = 100;
    }
    return STATUS_OK;
}

/* ---- checks of several keys ---- */

static status check_present(const config *c, bool with_data)
{
    char text[CONFIG_PLACE];
    const bool no_model = !any_given(c, "model") && c->model.preset[0] == '\0';
    const bool no_data = with_data && c->data.path[0] == '\0';
    if (no_model && no_data)
        return fail(STATUS_USAGE,
                    "%s: data.path and model (or model.preset) are missing; crocuta config study "
                    "prints a configuration to start from",
                    config_place(c, "", text));
    if (no_model)
        return fail(
            STATUS_USAGE,
            "%s: model (or model.preset) is missing; add `model: {preset: study}`, or a shape",
            config_place(c, "", text));
    if (no_data)
        return fail(STATUS_USAGE, "%s: data.path is missing; add `data: {path: DATA.h5}`",
                    config_place(c, "", text));
    return STATUS_OK;
}

static status check_lengths(const config *c)
{
    char text[CONFIG_PLACE];
    const bool filters = c->model.mixer == MIXER_HYENA && c->model.n_layer > 0;
    if (filters && c->data.seq_len > c->model.l_max)
        return fail(
            STATUS_USAGE,
            "%s: data.seq_len is %lld but model.l_max is %lld; set model.l_max to %lld or more",
            config_place(c, given(c, "data.seq_len") ? "data.seq_len" : "model.l_max", text),
            (long long)c->data.seq_len, (long long)c->model.l_max, (long long)c->data.seq_len + 2);
    for (int i = 0; i < c->n_stages; i++)
        if (c->stages[i].seq_len > c->data.seq_len)
            return fail(
                STATUS_USAGE,
                "%s: stages[%d].seq_len is %lld but data.seq_len is %lld; stages lead up to it",
                config_place(c, "stages", text), i, (long long)c->stages[i].seq_len,
                (long long)c->data.seq_len);
    int64_t steps = 0;
    for (int i = 0; i < c->n_stages; i++)
        if (__builtin_add_overflow(steps, c->stages[i].steps, &steps) || steps > c->train.steps)
            return fail(STATUS_USAGE,
                        "%s: the stages take more steps than train.steps, %lld; raise train.steps",
                        config_place(c, "stages", text), (long long)c->train.steps);
    return STATUS_OK;
}

static status check_shape(const config *c)
{
    char text[CONFIG_PLACE];
    if (c->model.emb_dim % 2 == 0)
        return fail(STATUS_USAGE,
                    "%s: model.emb_dim is %lld, even; use an odd number (time, cosines, sines)",
                    config_place(c, "model.emb_dim", text), (long long)c->model.emb_dim);
    if (c->position.encoding == ENCODING_ROPE && c->model.mixer != MIXER_ATTENTION)
        return fail(
            STATUS_USAGE,
            "%s: position.encoding rope turns queries and keys, which only attention has; use "
            "model.mixer: attention or another encoding",
            config_place(c, "position.encoding", text));
    return STATUS_OK;
}

static status check_training(config *c, bool with_data)
{
    char text[CONFIG_PLACE];
    if (with_data && c->train.tokens_per_step < c->data.seq_len)
        return fail(STATUS_USAGE,
                    "%s: train.tokens_per_step is %lld, less than one window of data.seq_len %lld; "
                    "raise it",
                    config_place(c, "train.tokens_per_step", text),
                    (long long)c->train.tokens_per_step, (long long)c->data.seq_len);
    if (c->scheduler.min_lr <= c->optimizer.lr)
        return STATUS_OK;
    if (given(c, "scheduler.min_lr"))
        return fail(STATUS_USAGE, "%s: scheduler.min_lr is above optimizer.lr, %g; lower it",
                    config_place(c, "scheduler.min_lr", text), c->optimizer.lr);
    c->scheduler.min_lr = 0.1 * c->optimizer.lr;
    return STATUS_OK;
}

status config_finish(config *c, bool with_data)
{
    TRY(check_present(c, with_data));
    if (c->model.preset[0] != '\0')
        TRY(config_preset(c, c->model.preset));
    TRY(check_shape(c));
    TRY(check_lengths(c));
    return check_training(c, with_data);
}
