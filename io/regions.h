/* Regions of interest: chr:from-to lists and BED files, matched by chromosome identity. */
#ifndef CROCUTA_IO_REGIONS_H
#define CROCUTA_IO_REGIONS_H

#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int identity;     /* of the chromosome (io/assembly.h) */
    int64_t from, to; /* 1-based, inclusive */
} region;

typedef struct {
    region *list;
    int64_t count, room;
} regions;

/* chr, chr:from, chr:from-to, separated by commas. STATUS_USAGE. */
status regions_parse(regions *r, const char *text);
/* BED: 0-based, half-open. STATUS_DATA with the line. */
status regions_read(regions *r, const char *path);
/* Sorts and joins what overlaps; before regions_hold. */
void regions_sort(regions *r);
/* Without any region everything is inside. */
bool regions_hold(const regions *r, int identity, int64_t position);
void regions_close(regions *r);

#endif
