/* The table of sequences: `sequence<TAB>label<TAB>split`, and a fourth column `locus` where
 * sequences of one locus (orthologous regions of several species) must stay on one side. With a
 * header line the columns may stand in any order; label, split and locus may be missing. */
#ifndef CROCUTA_IO_SEQUENCE_MAP_H
#define CROCUTA_IO_SEQUENCE_MAP_H

#include "io/name_table.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *name, *label, *locus; /* "": none */
    int split;                        /* a split_kind, -1: not said */
    int64_t line;
    bool found; /* for the reader: is there such a sequence? */
} sequence_row;

typedef struct {
    char path[1024];
    char *text; /* holds every string */
    sequence_row *rows;
    int64_t n_rows, room;
    bool has_split, has_locus;
    name_table by_name;
} sequence_map;

status sequence_map_read(const char *path, sequence_map *m);
void sequence_map_close(sequence_map *m);

#endif
