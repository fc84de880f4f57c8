/* The field table and what reads and writes one value by it. Private to runtime/core/config*.c. */
#ifndef CROCUTA_CORE_CONFIG_FIELDS_H
#define CROCUTA_CORE_CONFIG_FIELDS_H

#include "runtime/core/config.h"

#include <stddef.h>

typedef enum {
    FIELD_INTEGER, /* int64_t */
    FIELD_REAL,    /* double, or `count` of them */
    FIELD_BOOL,    /* bool */
    FIELD_WORD,    /* an enum: index into words; NOWHERE: one word that changes nothing */
    FIELD_NAME,    /* char[]: one of words, "" where not given */
    FIELD_TEXT,    /* char[]: anything, "" where not given */
    FIELD_STAGES,  /* config.stages */
} field_kind;

#define FIELD_AUTO 1     /* `auto` is a value: CONFIG_AUTO */
#define FIELD_ABOVE 2    /* least itself is excluded */
#define FIELD_BELOW 4    /* most itself is excluded */
#define FIELD_HARMLESS 8 /* may change when a run is resumed */
#define FIELD_PATH 16    /* text that is a path relative to the configuration's folder */
#define NOWHERE ((size_t)-1)
#define FIELD_WORDS 12

typedef struct {
    const char *key; /* "data.seq_len": section and name */
    field_kind kind;
    size_t at, size; /* in config (in config_stage for the keys of a stage), bytes */
    int count;       /* values: 1, or the length of a list */
    int flags;
    double least, most; /* both exact in a double */
    const char *words[FIELD_WORDS];
    const char
        *fallback; /* default, as it would be written; NULL: must be given where it is needed */
    const char *help;
} field;

extern const field config_fields[];
extern const int config_n_fields;
extern const field config_stage_fields[];
extern const int config_n_stage_fields;

typedef struct {
    const char *name;
    int64_t d_model, n_layer, l_max;
    bool rows; /* with the study's position rows; the published models have no encoding */
} preset_row;
extern const preset_row config_presets[];
extern const int config_n_presets;

/* One scalar as it stands in a file or an override. */
typedef struct {
    const char *text;
    size_t bytes;
    bool quoted;
} scalar;

/* Reads a scalar into element `i` of a field of `base`. `where` begins the message: "FILE:LINE" or
 * an override. */
status field_set(const field *f, void *base, int i, scalar s, const char *where);

/* "a whole number from 1 to 8, or auto": for messages and documentation. */
void field_expects(const field *f, char *text, size_t size);

/* The value as it would be written in YAML; stages in flow form. */
void field_get(const field *f, const void *base, char *text, size_t size);
#define STAGE_TEXT 128
void stage_text(const config_stage *s, char *text, size_t size);

/* A double as the shortest text that reads back as the same, with a dot so that every YAML reader
 * sees a number. */
void real_text(double x, char *text, size_t size);

int config_find(const char *key, size_t length); /* index of a field, or -1 */
bool config_is_section(const char *name);

#define GIVEN_FILE 1
#define GIVEN_OVERRIDE 2

/* "WHERE: KEY is not a key (did you mean ...?); see ..." with the nearest known name. */
status config_unknown(const char *where, const char *key);

/* Reads the value of field `index` from YAML text that is a value alone: lists in overrides. */
status config_read_value(config *c, int index, const char *where, const char *text);

#endif
