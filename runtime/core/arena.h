/* Memory that is taken once: an arena hands out aligned pieces of one block and never asks the
 * system inside a step. Three of them serve a model: parameters, activations, workspace (mark and
 * release). */
#ifndef CROCUTA_CORE_ARENA_H
#define CROCUTA_CORE_ARENA_H

#include "runtime/core/status.h"

#include <stddef.h>

#define ARENA_ALIGN 64 /* bytes: one cache line, one AVX-512 register */

typedef struct {
    const char *name; /* "parameters", "activations", "workspace": for messages */
    char *base;
    size_t size; /* bytes */
    size_t used;
    size_t high; /* the most that was ever used: what `plan` promised, within 5 % */
} arena;

/* Takes `size` bytes, zeroed. STATUS_MEMORY where the system has none. */
status arena_open(arena *a, const char *name, size_t size);
void arena_close(arena *a);

/* `bytes` aligned to ARENA_ALIGN, or NULL where the arena is full: a plan that was too small. Not
 * zeroed. */
void *arena_take(arena *a, size_t bytes);

/* Everything taken after the mark is given back by the release. */
size_t arena_mark(const arena *a);
void arena_release(arena *a, size_t mark);

static inline size_t arena_round(size_t bytes)
{
    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

#endif
