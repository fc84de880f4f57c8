/* From YAML to a sweep file, with the line of every fault. The text is small and its tree is built
 * whole; aliases are references in it, so that depth and length of what is written out are limited
 * here. */
#include "runtime/core/sweep_file.h"

#include "runtime/core/config_fields.h"
#include "runtime/core/nearest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#define FILE_LIMIT (1 << 20)
#define AXES 32
#define DEPTH 6 /* of a value; a list of stages is three deep */

typedef struct {
    sweep_file *f;
    yaml_document_t *d;
} reader;

typedef yaml_node_t node;

static int line_of(const node *n)
{
    return (int)n->start_mark.line + 1;
}

static const char *text_of(const node *n)
{
    return n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : "";
}

static status refuse(const reader *r, const node *n, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static status refuse(const reader *r, const node *n, const char *format, ...)
{
    char what[FAILURE_TEXT - 64];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return fail(STATUS_USAGE, "%s:%d: %s", r->f->path, line_of(n), what);
}

static int pairs_of(const node *map)
{
    return (int)(map->data.mapping.pairs.top - map->data.mapping.pairs.start);
}

static node *key_at(const reader *r, const node *map, int i)
{
    return yaml_document_get_node(r->d, map->data.mapping.pairs.start[i].key);
}

static node *value_at(const reader *r, const node *map, int i)
{
    return yaml_document_get_node(r->d, map->data.mapping.pairs.start[i].value);
}

static int items_of(const node *list)
{
    return (int)(list->data.sequence.items.top - list->data.sequence.items.start);
}

static node *item_at(const reader *r, const node *list, int i)
{
    return yaml_document_get_node(r->d, list->data.sequence.items.start[i]);
}

/* Every key is a name and stands there once. */
static status check_keys(const reader *r, const node *map, const char *what)
{
    if (map->type != YAML_MAPPING_NODE)
        return refuse(r, map, "%s is not a map; write `key: value` lines under it", what);
    for (int i = 0; i < pairs_of(map); i++) {
        const node *k = key_at(r, map, i);
        if (k->type != YAML_SCALAR_NODE || k->data.scalar.length >= SWEEP_KEY ||
            strlen(text_of(k)) != k->data.scalar.length)
            return refuse(r, k, "%s: a key is no name of below %d letters; write one", what,
                          SWEEP_KEY);
        for (int j = 0; j < i; j++)
            if (strcmp(text_of(key_at(r, map, j)), text_of(k)) == 0)
                return refuse(r, k, "%s is written twice, first on line %d; keep one", text_of(k),
                              line_of(key_at(r, map, j)));
    }
    return STATUS_OK;
}

/* ---- values ---- */

/* A value as it would be written in one line of a configuration. */
static status write_value(const reader *r, const node *n, int depth, FILE *to)
{
    if (depth > DEPTH || ftell(to) > SWEEP_VALUE)
        return refuse(r, n, "a value is too deep or too long; no key takes such a one");
    if (n->type == YAML_SCALAR_NODE) {
        const bool quoted = depth > 0 && n->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        fprintf(to, quoted ? "\"" : "");
        for (const char *p = text_of(n); *p; p++) {
            if (quoted && (*p == '"' || *p == '\\'))
                fputc('\\', to);
            fputc(*p, to);
        }
        fprintf(to, quoted ? "\"" : "");
        return STATUS_OK;
    }
    const bool map = n->type == YAML_MAPPING_NODE;
    fputc(map ? '{' : '[', to);
    for (int i = 0; i < (map ? pairs_of(n) : items_of(n)); i++) {
        fprintf(to, i ? ", " : "");
        if (map)
            fprintf(to, "%s: ", text_of(key_at(r, n, i)));
        TRY(write_value(r, map ? value_at(r, n, i) : item_at(r, n, i), depth + 1, to));
    }
    fputc(map ? '}' : ']', to);
    return STATUS_OK;
}

static status take_value(const reader *r, const node *n, const char *key, sweep_setting *s)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *to = open_memstream(&text, &bytes);
    if (!to)
        return fail(STATUS_MEMORY, "%s: no memory to read it; close other programs", r->f->path);
    status st = write_value(r, n, 0, to);
    if (fclose(to) != 0 && st == STATUS_OK)
        st = fail(STATUS_MEMORY, "%s: no memory to read it; close other programs", r->f->path);
    if (st == STATUS_OK && (bytes >= SWEEP_VALUE || strlen(text) != bytes))
        st = refuse(r, n,
                    "%s: its value is longer than %d bytes, or has a zero byte in it; no key "
                    "takes such a one",
                    key, SWEEP_VALUE - 1);
    if (st == STATUS_OK) {
        *s = (sweep_setting){.line = line_of(n)};
        snprintf(s->key, sizeof s->key, "%s", key);
        snprintf(s->value, sizeof s->value, "%s", text);
    }
    free(text);
    return st;
}

/* Is the value one that the key takes? A scratch configuration says so, with the line. */
static status check_setting(const reader *r, const sweep_setting *s)
{
    char where[CONFIG_PLACE];
    config *c = calloc(1, sizeof *c);
    if (!c)
        return fail(STATUS_MEMORY, "%s: no memory to read it; close other programs", r->f->path);
    snprintf(where, sizeof where, "%s:%d", r->f->path, s->line);
    status st = config_set(c, s->key, s->value, where);
    free(c);
    return st;
}

/* What to do with `key: value` of a configuration, wherever it stands. */
typedef status (*take_key)(const reader *r, const char *key, const node *value, void *to);

/* Keys with dots, or sections with keys under them; `own`: a key that is no configuration's. */
static status each_key(const reader *r, const node *map, const char *section, const char *own,
                       take_key take, void *to)
{
    TRY(check_keys(r, map, section[0] ? section : "a map of settings"));
    for (int i = 0; i < pairs_of(map); i++) {
        const node *k = key_at(r, map, i), *v = value_at(r, map, i);
        char key[2 * SWEEP_KEY + 2], where[CONFIG_PLACE];
        snprintf(key, sizeof key, "%.60s%s%.60s", section, section[0] ? "." : "", text_of(k));
        if (own && strcmp(key, own) == 0)
            continue;
        if (!section[0] && config_is_section(key) && v->type == YAML_MAPPING_NODE) {
            TRY(each_key(r, v, key, NULL, take, to));
            continue;
        }
        snprintf(where, sizeof where, "%s:%d", r->f->path, line_of(k));
        if (config_find(key, strlen(key)) < 0)
            return config_unknown(where, key);
        TRY(take(r, key, v, to));
    }
    return STATUS_OK;
}

static status take_setting(const reader *r, const char *key, const node *value, void *to)
{
    sweep_point *p = to;
    sweep_setting s;
    TRY(take_value(r, value, key, &s));
    TRY(check_setting(r, &s));
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->at[i].key, key) == 0 && p->at[i].line > 0) {
            p->at[i] = s; /* small: in place of what stands above */
            return STATUS_OK;
        }
    return sweep_point_add(p, &s, r->f->path);
}

/* ---- grids and the list ---- */

typedef struct {
    sweep_axis axes[AXES];
    int n;
} grid;

static status take_axis(const reader *r, const char *key, const node *value, void *to)
{
    grid *g = to;
    const bool several = value->type == YAML_SEQUENCE_NODE;
    const int n = several ? items_of(value) : 1;
    if (n == 0)
        return refuse(r, value, "%s has no values; write them as [A, B]", key);
    if (g->n == AXES)
        return refuse(r, value, "a grid of more than %d keys; make several", AXES);
    sweep_axis *a = &g->axes[g->n];
    a->at = calloc((size_t)n, sizeof *a->at);
    if (!a->at)
        return fail(STATUS_MEMORY, "%s: no memory to read it; close other programs", r->f->path);
    g->n++;
    for (a->n = 0; a->n < n; a->n++) {
        TRY(take_value(r, several ? item_at(r, value, a->n) : value, key, &a->at[a->n]));
        TRY(check_setting(r, &a->at[a->n]));
    }
    return STATUS_OK;
}

static status read_grid(const reader *r, const node *map)
{
    grid g = {.n = 0};
    status st = each_key(r, map, "", NULL, take_axis, &g);
    if (st == STATUS_OK && g.n > 0)
        st = sweep_file_product(r->f, g.axes, g.n, line_of(map));
    for (int i = 0; i < g.n; i++)
        free(g.axes[i].at);
    return st;
}

static status read_grids(const reader *r, const node *n)
{
    if (n->type != YAML_SEQUENCE_NODE)
        return read_grid(r, n);
    for (int i = 0; i < items_of(n); i++)
        TRY(read_grid(r, item_at(r, n, i)));
    return STATUS_OK;
}

static status take_name(const reader *r, const node *entry, sweep_point *p)
{
    for (int i = 0; i < pairs_of(entry); i++) {
        const node *v = value_at(r, entry, i);
        if (strcmp(text_of(key_at(r, entry, i)), "name") != 0)
            continue;
        const char *name = text_of(v);
        const size_t plain = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789._+-");
        if (name[0] == '\0' || name[0] == '.' || name[plain] != '\0' || plain >= 64)
            return refuse(r, v,
                          "a trial's name is a folder's; use letters, digits and ._+-, below "
                          "64 of them");
        snprintf(p->name, sizeof p->name, "%s", name);
    }
    return STATUS_OK;
}

static status read_list(const reader *r, const node *n)
{
    if (n->type != YAML_SEQUENCE_NODE)
        return refuse(r, n, "list is not a list; write `- {key: value}`, an entry a trial");
    for (int i = 0; i < items_of(n); i++) {
        const node *entry = item_at(r, n, i);
        sweep_point p = {.line = line_of(entry)};
        status st = each_key(r, entry, "", "name", take_setting, &p);
        if (st == STATUS_OK)
            st = take_name(r, entry, &p);
        if (st == STATUS_OK)
            st = sweep_file_add(r->f, &p);
        free(p.at);
        TRY(st);
    }
    return STATUS_OK;
}

/* ---- what a trial does ---- */

static status read_do(const reader *r, const node *n)
{
    sweep_parts *p = &r->f->parts;
    if (n->type != YAML_SEQUENCE_NODE || items_of(n) == 0)
        return refuse(r, n,
                      "do is not a list of parts; use some of [pretrain, position-conditioned, "
                      "finetune]");
    p->pretrain = p->position = p->finetune = false;
    for (int i = 0; i < items_of(n); i++) {
        const node *item = item_at(r, n, i);
        const char *name = text_of(item);
        bool *part = strcmp(name, "pretrain") == 0               ? &p->pretrain
                     : strcmp(name, "position-conditioned") == 0 ? &p->position
                     : strcmp(name, "finetune") == 0             ? &p->finetune
                                                                 : NULL;
        if (!part)
            return refuse(r, item,
                          "do: %.40s is no part of a trial; use pretrain, "
                          "position-conditioned or finetune",
                          name);
        if (*part)
            return refuse(r, item, "do: %s stands there twice; keep one", name);
        *part = true;
    }
    return STATUS_OK;
}

/* A list, or one value, as the command line takes it: A,B. */
static status join(const reader *r, const node *n, const char *key, char *to, size_t size)
{
    to[0] = '\0';
    const bool several = n->type == YAML_SEQUENCE_NODE;
    for (int i = 0; i < (several ? items_of(n) : 1); i++) {
        const node *item = several ? item_at(r, n, i) : n;
        const size_t used = strlen(to);
        if (item->type != YAML_SCALAR_NODE || text_of(item)[0] == '\0' ||
            used + item->data.scalar.length + 2 > size)
            return refuse(r, item, "evaluate.%s is no value or list of values; write it as [A, B]",
                          key);
        snprintf(to + used, size - used, "%s%s", used ? "," : "", text_of(item));
    }
    return STATUS_OK;
}

static status read_evaluate(const reader *r, const node *n)
{
    static const char *const known[] = {"split", "contexts", "baselines", "bootstrap", NULL};
    sweep_parts *p = &r->f->parts;
    if (strcmp(text_of(n), "none") == 0) {
        p->evaluate = false;
        return STATUS_OK;
    }
    TRY(check_keys(r, n, "evaluate"));
    for (int i = 0; i < pairs_of(n); i++) {
        const node *k = key_at(r, n, i), *v = value_at(r, n, i);
        const char *key = text_of(k);
        char number[32], *end = NULL;
        if (strcmp(key, "split") == 0) {
            TRY(join(r, v, key, p->split, sizeof p->split));
        } else if (strcmp(key, "contexts") == 0) {
            TRY(join(r, v, key, p->contexts, sizeof p->contexts));
        } else if (strcmp(key, "baselines") == 0) {
            TRY(join(r, v, key, p->baselines, sizeof p->baselines));
        } else if (strcmp(key, "bootstrap") == 0) {
            TRY(join(r, v, key, number, sizeof number));
            p->bootstrap = strtoll(number, &end, 10);
            if (*end || p->bootstrap < 1 || p->bootstrap > 1000000)
                return refuse(r, v, "evaluate.bootstrap is %s; use 1 to 1000000", number);
        } else {
            nearest near = {.name = key};
            for (int j = 0; known[j]; j++)
                nearest_offer(&near, known[j]);
            return refuse(r, k, "evaluate.%s is not a key of a sweep%s%s%s; see docs/sweeps.md",
                          key, near.best ? " (did you mean " : "", near.best ? near.best : "",
                          near.best ? "?)" : "");
        }
    }
    return STATUS_OK;
}

/* ---- the whole file ---- */

typedef struct {
    const node *base, *set, *grid, *list, *parts, *evaluate, *small;
} outline;

static status unknown_key(const reader *r, const node *k, const char *const *known)
{
    nearest near = {.name = text_of(k)};
    if (config_is_section(text_of(k)) || config_find(text_of(k), strlen(text_of(k))) >= 0)
        return refuse(r, k,
                      "%s is a configuration's key; write it under set, or under grid to "
                      "sweep it",
                      text_of(k));
    for (int i = 0; known[i]; i++)
        nearest_offer(&near, known[i]);
    return refuse(r, k, "%s is not a key of a sweep%s%s%s; see docs/sweeps.md", text_of(k),
                  near.best ? " (did you mean " : "", near.best ? near.best : "",
                  near.best ? "?)" : "");
}

static status find_parts(const reader *r, const node *map, bool inner, outline *o)
{
    static const char *const known[] = {"set",      "grid",  "list", "do",
                                        "evaluate", "small", "base", NULL};
    TRY(check_keys(r, map, inner ? "small" : "a sweep file"));
    for (int i = 0; i < pairs_of(map); i++) {
        const node *k = key_at(r, map, i), *v = value_at(r, map, i);
        const node **to[] = {&o->set,      &o->grid,  &o->list, &o->parts,
                             &o->evaluate, &o->small, &o->base};
        int at = 0;
        while (known[at] && strcmp(known[at], text_of(k)) != 0)
            at++;
        if (!known[at] || (inner && at >= 5))
            return unknown_key(r, k, known);
        *to[at] = v;
    }
    return STATUS_OK;
}

static status read_trials(const reader *r, const node *root, const outline *o, const outline *s)
{
    const bool own = s->grid || s->list; /* small has trials of its own */
    const node *grid_of = own ? s->grid : o->grid, *list_of = own ? s->list : o->list;
    if (grid_of)
        TRY(read_grids(r, grid_of));
    if (list_of)
        TRY(read_list(r, list_of));
    if (r->f->n_points == 0)
        return refuse(r, root, "no trial is described; write a grid: {key: [A, B]} or a list");
    return STATUS_OK;
}

static status read_root(const reader *r, const node *root, bool small)
{
    outline o = {0}, s = {0};
    sweep_file *f = r->f;
    TRY(find_parts(r, root, false, &o));
    if (!o.base || o.base->type != YAML_SCALAR_NODE || text_of(o.base)[0] == '\0' ||
        o.base->data.scalar.length >= sizeof f->base)
        return refuse(r, o.base ? o.base : root,
                      "base is missing; name the configuration that all trials start from");
    snprintf(f->base, sizeof f->base, "%s", text_of(o.base));
    f->base_line = line_of(o.base);
    if (small && !o.small)
        return refuse(r, root, "it has no small version; leave --small out, or add `small:`");
    if (o.small) /* read in any case: a fault in it is not left for later */
        TRY(find_parts(r, o.small, true, &s));
    if (!small)
        s = (outline){0};
    if (o.set)
        TRY(each_key(r, o.set, "", NULL, take_setting, &f->set));
    if (s.set)
        TRY(each_key(r, s.set, "", NULL, take_setting, &f->set));
    if (s.parts || o.parts)
        TRY(read_do(r, s.parts ? s.parts : o.parts));
    if (o.evaluate)
        TRY(read_evaluate(r, o.evaluate));
    if (s.evaluate)
        TRY(read_evaluate(r, s.evaluate));
    return read_trials(r, root, &o, &s);
}

static status parse(sweep_file *f, const char *text, size_t bytes, bool small)
{
    yaml_parser_t p;
    yaml_document_t d;
    if (!yaml_parser_initialize(&p))
        return fail(STATUS_MEMORY, "%s: no memory to read it; close other programs", f->path);
    yaml_parser_set_input_string(&p, (const unsigned char *)text, bytes);
    status st = STATUS_OK;
    if (!yaml_parser_load(&p, &d)) {
        st = fail(STATUS_USAGE, "%s:%zu: not YAML: %s; mend the line, see docs/sweeps.md", f->path,
                  p.problem_mark.line + 1, p.problem ? p.problem : "damaged");
        yaml_parser_delete(&p);
        return st;
    }
    const reader r = {.f = f, .d = &d};
    const node *root = yaml_document_get_root_node(&d);
    st = root ? read_root(&r, root, small)
              : fail(STATUS_USAGE, "%s: it is empty; see docs/sweeps.md for a sweep file", f->path);
    yaml_document_delete(&d);
    yaml_parser_delete(&p);
    return st;
}

status sweep_file_read(const char *path, bool small, sweep_file *out)
{
    *out = (sweep_file){.parts = {.pretrain = true,
                                  .finetune = true,
                                  .evaluate = true,
                                  .split = "test",
                                  .baselines = "majority,lookup",
                                  .bootstrap = 1000}};
    if (snprintf(out->path, sizeof out->path, "%s", path) >= (int)sizeof out->path)
        return fail(STATUS_USAGE, "%.80s...: the name is too long; move the file", path);
    struct stat s;
    FILE *in = fopen(path, "rb");
    char *text = in ? malloc(FILE_LIMIT + 1) : NULL;
    status st = STATUS_OK;
    size_t bytes = 0;
    if (!in)
        st = fail(STATUS_USAGE, "%s: %s; give a sweep file, see docs/sweeps.md", path,
                  strerror(errno));
    else if (!text)
        st = fail(STATUS_MEMORY, "%s: no memory to read it; close other programs", path);
    else if (fstat(fileno(in), &s) != 0 || S_ISDIR(s.st_mode))
        st = fail(STATUS_USAGE, "%s: it is a folder; give the sweep file in it", path);
    else if ((bytes = fread(text, 1, FILE_LIMIT + 1, in)) > FILE_LIMIT || ferror(in))
        st = fail(STATUS_USAGE,
                  "%s: it cannot be read, or is larger than %d bytes; give a sweep "
                  "file",
                  path, FILE_LIMIT);
    if (in)
        fclose(in);
    if (st == STATUS_OK)
        st = parse(out, text, bytes, small);
    free(text);
    return st;
}

bool sweep_file_is(const char *path)
{
    char line[256];
    bool found = false;
    FILE *in = fopen(path, "r");
    while (in && !found && fgets(line, sizeof line, in))
        found = strncmp(line, "base:", 5) == 0; /* no configuration has the key */
    if (in)
        fclose(in);
    return found;
}

void sweep_file_free(sweep_file *f)
{
    for (int i = 0; i < f->n_points; i++)
        free(f->points[i].at);
    free(f->points);
    free(f->set.at);
    *f = (sweep_file){0};
}
