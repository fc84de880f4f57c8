/* A sweep file: a configuration to start from, settings for all trials, and what differs between
 * them, as grids (every combination of the values of some keys) and as a list. Any key of the
 * configuration can be swept. Reading it gives the trials as settings by name; what they do is told
 * beside. docs/sweeps.md shows one. */
#ifndef CROCUTA_CORE_SWEEP_FILE_H
#define CROCUTA_CORE_SWEEP_FILE_H

#include "runtime/core/config.h"

#define SWEEP_NAME 96     /* bytes of a trial's name */
#define SWEEP_KEY 64      /* of a key */
#define SWEEP_VALUE 512   /* of a value, as it would stand in a configuration */
#define SWEEP_POINTS 4096 /* trials */

typedef struct {
    char key[SWEEP_KEY], value[SWEEP_VALUE];
    int line;
} sweep_setting;

/* Settings that belong together: of all trials, or of one. */
typedef struct {
    char name[SWEEP_NAME]; /* from the settings, or as the list says: a folder's name */
    int line, n;
    sweep_setting *at;
} sweep_point;

/* What a trial does, one part after the other. */
typedef struct {
    bool pretrain;
    bool position; /* once more, with objective: position-conditioned */
    bool finetune; /* from the pretraining, from scratch without one */
    bool evaluate;
    /* of evaluate, as on its command line; "": contexts of the trial's own data.seq_len */
    char split[16], contexts[256], baselines[256];
    int64_t bootstrap;
} sweep_parts;

typedef struct {
    char path[CONFIG_TEXT]; /* of the sweep file */
    char base[CONFIG_TEXT]; /* as written */
    int base_line;
    sweep_point set; /* of all trials */
    int n_points;
    sweep_point *points; /* in the file's order: the grids, then the list */
    sweep_parts parts;
} sweep_file;

/* small: with what the file's `small` says instead. Every fault is one message "FILE:LINE: ..." and
 * STATUS_USAGE. To be freed also after a failure. */
status sweep_file_read(const char *path, bool small, sweep_file *out);
void sweep_file_free(sweep_file *f);
/* Is it one, and no configuration? Only its first words are looked at. */
bool sweep_file_is(const char *path);

/* ---- between sweep_file.c and sweep_points.c ---- */

status sweep_point_add(sweep_point *p, const sweep_setting *s, const char *file);

/* A key and its values in a grid. */
typedef struct {
    sweep_setting *at;
    int n;
} sweep_axis;

/* Adds every combination, the last key's values changing fastest. */
status sweep_file_product(sweep_file *f, const sweep_axis *axes, int n, int line);
/* Takes the point over. An empty name is made from its settings; one that is there is refused. */
status sweep_file_add(sweep_file *f, sweep_point *p);

#endif
