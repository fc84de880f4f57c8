/* The nearest known name to one that was mistyped: for unknown keys, commands and options. */
#ifndef CROCUTA_CORE_NEAREST_H
#define CROCUTA_CORE_NEAREST_H

#include <stddef.h>

/* Changes of one letter (added, left out, replaced, two neighbours swapped) that lead from a to b.
 * Names longer than 63 bytes are compared by their first 63. */
int nearest_distance(const char *a, const char *b);

/* Keeps the best candidate seen: start with {.name = typed}, offer each known name, read `best`
 * (NULL where nothing is near enough to be meant). */
typedef struct {
    const char *name; /* as typed */
    const char *best;
    int distance;
} nearest;

void nearest_offer(nearest *n, const char *known);

#endif
