/* The table of sequences: `sequence<TAB>label<TAB>split`, and a fourth column `locus` where
 * sequences of one locus (orthologous regions of several species) must stay on one side. With a
 * header line the columns may stand in any order; label, split and locus may be missing. A name
 * `NAME:from-to` (1-based, inclusive) that no sequence bears whole stands for that part of NAME. */
#ifndef CROCUTA_IO_SEQUENCE_MAP_H
#define CROCUTA_IO_SEQUENCE_MAP_H

#include "io/name_table.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *name, *label, *locus; /* "": none */
    int split;                        /* a split_kind, -1: not said */
    int64_t stem, from, to; /* of NAME:from-to: bytes of NAME (0: not written so), and the part */
    int64_t line;
    bool found; /* for the reader: is there such a sequence? */
} sequence_row;

typedef struct {
    char path[1024];
    char *text; /* holds every string */
    sequence_row *rows;
    int64_t n_rows, room;
    int64_t *regions; /* (n_regions) rows that are written as regions, by NAME and then from */
    int64_t n_regions;
    bool has_split, has_locus;
    name_table by_name;
} sequence_map;

status sequence_map_read(const char *path, sequence_map *m);
void sequence_map_close(sequence_map *m);

/* The rows of a sequence: that of its name or of its whole header line, or those of its regions in
 * ascending order; m->regions[*first, *first + *n) where *whole is NULL. STATUS_DATA where two of
 * them overlap. */
status sequence_map_find(const sequence_map *m, const char *name, const char *description,
                         sequence_row **whole, int64_t *first, int64_t *n);

#endif
