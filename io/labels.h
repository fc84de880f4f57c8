/* The table of people: who belongs to which population. Tables from spreadsheets are read as they
 * are meant (marks at the start, UTF-16, quotes, other separators, blank lines, columns in any
 * order) or refused with the line. */
#ifndef CROCUTA_IO_LABELS_H
#define CROCUTA_IO_LABELS_H

#include "io/dataset.h"
#include "io/name_table.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *id, *population, *superpopulation, *family; /* "" where there is none */
    sex_kind sex;
    int split; /* a split_kind, -1: not said */
    int64_t line;
} label_row;

typedef struct {
    char path[1024];
    char *text; /* holds every string */
    label_row *rows;
    int64_t n_rows, room;
    bool has_split, has_family;
    name_table by_id;
} label_table;

status labels_read(const char *path, label_table *t);
void labels_close(label_table *t);

/* The row of a person, NULL: not in the table. */
const label_row *labels_find(const label_table *t, const char *id);

#endif
