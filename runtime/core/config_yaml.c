/* From YAML to the configuration, event by event, so that every fault has its line. Only what a
 * configuration needs is understood: two levels of maps, lists of numbers, the list of stages;
 * anchors may stand for single values. Whatever else a file holds is refused at its first event, so
 * that no file can make the reader work long or deep. */
#include "runtime/core/config_fields.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define ANCHORS 32
#define ANCHOR_TEXT 256

typedef struct {
    char name[64], text[ANCHOR_TEXT];
    size_t bytes;
    bool quoted;
} anchor;

typedef struct {
    config *c;
    const char *name, *text;
    size_t bytes;
    bool alone; /* an override's value: messages begin with `name` and have no line */
    yaml_parser_t parser;
    yaml_event_t event;
    bool held; /* event holds something to delete */
    char where[CONFIG_TEXT + 32];
    anchor anchors[ANCHORS];
    int n_anchors;
    char stage_text[64];
} reader;

static const char *where(reader *r, size_t line)
{
    if (r->alone)
        snprintf(r->where, sizeof r->where, "%s", r->name);
    else
        snprintf(r->where, sizeof r->where, "%s:%zu", r->name, line + 1);
    return r->where;
}

static const char *here(reader *r)
{
    return where(r, r->event.start_mark.line);
}

/* Lines of the text before a byte: what the scanner refuses before it counts lines has only an
 * offset. */
static size_t line_of(const reader *r, size_t offset)
{
    size_t line = 0;
    for (size_t i = 0; i < offset && i < r->bytes; i++)
        line += r->text[i] == '\n';
    return line;
}

static void drop(reader *r)
{
    if (r->held)
        yaml_event_delete(&r->event);
    r->held = false;
}

static status next(reader *r)
{
    drop(r);
    if (yaml_parser_parse(&r->parser, &r->event)) {
        r->held = true;
        return STATUS_OK;
    }
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return fail(STATUS_MEMORY, "%s: no memory to read it; is this the configuration?", r->name);
    size_t line =
        p->error == YAML_READER_ERROR ? line_of(r, p->problem_offset) : p->problem_mark.line;
    return fail(STATUS_USAGE, "%s: not YAML: %s%s%s; mend the line, see docs/configuration.md",
                where(r, line), p->context ? p->context : "", p->context ? ", " : "",
                p->problem ? p->problem : "damaged");
}

static status no_tag(reader *r, const yaml_char_t *tag)
{
    if (!tag)
        return STATUS_OK;
    return fail(STATUS_USAGE, "%s: tag %.60s is not understood here; take it out", here(r),
                (const char *)tag);
}

static status remember(reader *r, const yaml_char_t *name, scalar s)
{
    if (!name)
        return STATUS_OK;
    if (r->n_anchors == ANCHORS || s.bytes >= ANCHOR_TEXT ||
        strlen((const char *)name) >= sizeof r->anchors->name)
        return fail(STATUS_USAGE, "%s: too many anchors, or one too long; write the value out",
                    here(r));
    anchor *a = &r->anchors[r->n_anchors++];
    snprintf(a->name, sizeof a->name, "%s", (const char *)name);
    memcpy(a->text, s.text, s.bytes + 1);
    a->bytes = s.bytes;
    a->quoted = s.quoted;
    return STATUS_OK;
}

/* The event as one value: a scalar, or an alias of one. `key` is for the message. */
static status take_scalar(reader *r, const char *key, const char *expected, scalar *s)
{
    const yaml_event_t *e = &r->event;
    if (e->type == YAML_SCALAR_EVENT) {
        TRY(no_tag(r, e->data.scalar.tag));
        *s = (scalar){(const char *)e->data.scalar.value, e->data.scalar.length,
                      e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE};
        if (strlen(s->text) != s->bytes)
            return fail(STATUS_USAGE, "%s: %s has a zero byte in it; use %s", here(r), key,
                        expected);
        return remember(r, e->data.scalar.anchor, *s);
    }
    if (e->type == YAML_ALIAS_EVENT) {
        for (int i = r->n_anchors - 1; i >= 0; i--) /* the latest of a name counts */
            if (strcmp(r->anchors[i].name, (const char *)e->data.alias.anchor) == 0) {
                *s = (scalar){r->anchors[i].text, r->anchors[i].bytes, r->anchors[i].quoted};
                return STATUS_OK;
            }
        return fail(STATUS_USAGE,
                    "%s: %s: alias *%.40s names no single value before it; write the value out",
                    here(r), key, (const char *)e->data.alias.anchor);
    }
    return fail(STATUS_USAGE, "%s: %s is a %s; use %s", here(r), key,
                e->type == YAML_SEQUENCE_START_EVENT ? "list" : "map", expected);
}

/* ---- values ---- */

static status read_list(reader *r, const field *f)
{
    char expects[256];
    field_expects(f, expects, sizeof expects);
    if (r->event.type != YAML_SEQUENCE_START_EVENT)
        return fail(STATUS_USAGE, "%s: %s is not a list; use %s", here(r), f->key, expects);
    TRY(no_tag(r, r->event.data.sequence_start.tag));
    for (int i = 0;; i++) {
        TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            if (i == f->count)
                return STATUS_OK;
            return fail(STATUS_USAGE, "%s: %s has %d values, not %d; use %s", here(r), f->key, i,
                        f->count, expects);
        }
        if (i == f->count)
            return fail(STATUS_USAGE, "%s: %s has more than %d values; use %s", here(r), f->key,
                        f->count, expects);
        scalar s;
        TRY(take_scalar(r, f->key, expects, &s));
        TRY(field_set(f, r->c, i, s, here(r)));
    }
}

static status read_stage_key(reader *r, config_stage *stage, bool *given)
{
    scalar s;
    TRY(take_scalar(r, "a key of a stage", "seq_len, steps or context_parallel", &s));
    for (int k = 0; k < config_n_stage_fields; k++) {
        field f = config_stage_fields[k];
        if (strcmp(f.key, s.text) != 0)
            continue;
        snprintf(r->stage_text, sizeof r->stage_text, "stages[%d].%s", r->c->n_stages, f.key);
        f.key = r->stage_text;
        if (given[k])
            return fail(STATUS_USAGE, "%s: %s is written twice; keep one", here(r), f.key);
        given[k] = true;
        TRY(next(r));
        char expects[256];
        field_expects(&f, expects, sizeof expects);
        TRY(take_scalar(r, f.key, expects, &s));
        return field_set(&f, stage, 0, s, here(r));
    }
    return fail(STATUS_USAGE,
                "%s: stages[%d].%.60s is not a key; use seq_len, steps, context_parallel", here(r),
                r->c->n_stages, s.text);
}

static status read_stage(reader *r)
{
    const char *start = here(r);
    const size_t line = r->event.start_mark.line;
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return fail(STATUS_USAGE, "%s: stages[%d] is not a stage; use {seq_len: N, steps: N}",
                    start, r->c->n_stages);
    TRY(no_tag(r, r->event.data.mapping_start.tag));
    if (r->c->n_stages == CONFIG_STAGES)
        return fail(STATUS_USAGE, "%s: stages has more than %d stages; join some", start,
                    CONFIG_STAGES);
    config_stage *stage = &r->c->stages[r->c->n_stages];
    *stage = (config_stage){.context_parallel = CONFIG_AUTO};
    bool given[8] = {false};
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            break;
        TRY(read_stage_key(r, stage, given));
    }
    for (int k = 0; k < config_n_stage_fields; k++)
        if (!given[k] && !config_stage_fields[k].fallback)
            return fail(STATUS_USAGE, "%s: stages[%d].%s is missing; add %s", where(r, line),
                        r->c->n_stages, config_stage_fields[k].key, config_stage_fields[k].help);
    r->c->n_stages++;
    return STATUS_OK;
}

static status read_stages(reader *r)
{
    if (r->event.type != YAML_SEQUENCE_START_EVENT)
        return fail(STATUS_USAGE,
                    "%s: stages is not a list; use a list of {seq_len: N, steps: N}, or []",
                    here(r));
    TRY(no_tag(r, r->event.data.sequence_start.tag));
    r->c->n_stages = 0;
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            return STATUS_OK;
        TRY(read_stage(r));
    }
}

/* The value of a field; the event is its first. */
static status read_value(reader *r, const field *f)
{
    if (f->kind == FIELD_STAGES)
        return read_stages(r);
    if (f->count > 1 && r->event.type != YAML_SCALAR_EVENT)
        return read_list(r, f);
    char expects[256];
    field_expects(f, expects, sizeof expects);
    scalar s;
    TRY(take_scalar(r, f->key, expects, &s));
    if (f->count > 1 && s.bytes > 0)
        return fail(STATUS_USAGE, "%s: %s is %.60s, not a list; use %s", here(r), f->key, s.text,
                    expects);
    return field_set(f, r->c, 0, s, here(r));
}

/* ---- the two levels of maps ---- */

static status read_field(reader *r, const char *key)
{
    int index = config_find(key, strlen(key));
    if (index < 0)
        return config_unknown(here(r), key);
    if (r->c->given[index])
        return fail(STATUS_USAGE, "%s: %s is written twice, first on line %d; keep one", here(r),
                    key, r->c->line[index]);
    r->c->given[index] = GIVEN_FILE;
    r->c->line[index] = (int)r->event.start_mark.line + 1;
    TRY(next(r));
    return read_value(r, &config_fields[index]);
}

static status read_section(reader *r, const char *section)
{
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        const yaml_event_t *e = &r->event;
        bool empty = e->type == YAML_SCALAR_EVENT && e->data.scalar.length == 0;
        return fail(STATUS_USAGE, "%s: section %s %s; write its keys under it, see crocuta config",
                    here(r), section, empty ? "is empty" : "is not a map");
    }
    TRY(no_tag(r, r->event.data.mapping_start.tag));
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return STATUS_OK;
        scalar s;
        char key[512];
        TRY(take_scalar(r, "a key", "a name", &s));
        snprintf(key, sizeof key, "%s.%.128s", section, s.text);
        TRY(read_field(r, key));
    }
}

#define SECTIONS 32

static status read_root(reader *r)
{
    char seen[SECTIONS][32];
    int n = 0;
    TRY(no_tag(r, r->event.data.mapping_start.tag));
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return STATUS_OK;
        scalar s;
        char key[160];
        TRY(take_scalar(r, "a key", "a name", &s));
        snprintf(key, sizeof key, "%.128s", s.text);
        if (!config_is_section(key) || strchr(key, '.')) {
            TRY(strchr(key, '.') ? config_unknown(here(r), key) : read_field(r, key));
            continue;
        }
        for (int i = 0; i < n; i++)
            if (strcmp(seen[i], key) == 0)
                return fail(STATUS_USAGE, "%s: section %s is written twice; join the two", here(r),
                            key);
        if (n < SECTIONS)
            snprintf(seen[n++], sizeof *seen, "%.31s", key);
        TRY(next(r));
        TRY(read_section(r, key));
    }
}

/* One document: `index` < 0 a whole configuration, otherwise the value of that field alone. */
static status read_document(reader *r, int index)
{
    TRY(next(r)); /* start of the stream */
    TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT)
        return STATUS_OK; /* config_finish names what is missing */
    TRY(next(r));         /* past the start of the document */
    if (index >= 0) {
        TRY(read_value(r, &config_fields[index]));
    } else if (r->event.type == YAML_MAPPING_START_EVENT) {
        TRY(read_root(r));
    } else {
        const yaml_event_t *e = &r->event;
        bool empty =
            e->type == YAML_SCALAR_EVENT &&
            (e->data.scalar.length == 0 || strcmp((const char *)e->data.scalar.value, "~") == 0 ||
             strcmp((const char *)e->data.scalar.value, "null") == 0);
        if (!empty)
            return fail(STATUS_USAGE,
                        "%s: not a configuration; it must hold `key: value` lines, see crocuta "
                        "config",
                        here(r));
    }
    TRY(next(r)); /* end of the document */
    TRY(next(r));
    if (r->event.type != YAML_STREAM_END_EVENT)
        return fail(STATUS_USAGE, "%s: a second document begins; keep one a file", here(r));
    return STATUS_OK;
}

static status read_text(config *c, int index, const char *name, const char *text, size_t bytes)
{
    reader *r = calloc(1, sizeof *r);
    if (!r)
        return fail(STATUS_MEMORY, "%s: no memory to read it; close other programs", name);
    *r = (reader){.c = c, .name = name, .text = text, .bytes = bytes, .alone = index >= 0};
    status st;
    if (!yaml_parser_initialize(&r->parser)) {
        st = fail(STATUS_MEMORY, "%s: no memory to read it; close other programs", name);
    } else {
        yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, bytes);
        st = read_document(r, index);
        drop(r);
        yaml_parser_delete(&r->parser);
    }
    free(r);
    return st;
}

status config_read_text(config *c, const char *name, const char *text, size_t bytes)
{
    snprintf(c->file, sizeof c->file, "%s", name);
    return read_text(c, -1, name, text, bytes);
}

status config_read_value(config *c, int index, const char *name, const char *text)
{
    return read_text(c, index, name, text, strlen(text));
}
