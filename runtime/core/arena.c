/* Arenas: one block each, bump allocation. */
#include "runtime/core/arena.h"

#include "runtime/core/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LARGE ((size_t)1 << 26) /* bytes: worth looking at what is left */
#define GIB ((double)(1 << 30))

status arena_open(arena *a, const char *name, size_t size)
{
    memset(a, 0, sizeof *a);
    a->name = name;
    a->size = arena_round(size ? size : ARENA_ALIGN);
    const int64_t left = a->size >= LARGE ? memory_available() : 0;
    if (left > 0 && (int64_t)a->size > left)
        return fail(STATUS_MEMORY,
                    "%s: %.3g GiB needed, %.3g GiB free; use a smaller model, a lower "
                    "train.micro_batch or more workers",
                    name, (double)a->size / GIB, (double)left / GIB);
    a->base = aligned_alloc(ARENA_ALIGN, a->size);
    if (!a->base)
        return fail(STATUS_MEMORY,
                    "%s: no memory for %zu bytes; lower train.micro_batch or use more workers",
                    name, a->size);
    memset(a->base, 0, a->size);
    return STATUS_OK;
}

void arena_close(arena *a)
{
    free(a->base);
    memset(a, 0, sizeof *a);
}

void *arena_take(arena *a, size_t bytes)
{
    size_t n = arena_round(bytes);
    if (n > a->size - a->used)
        return NULL;
    void *p = a->base + a->used;
    a->used += n;
    if (a->used > a->high)
        a->high = a->used;
    return p;
}

size_t arena_mark(const arena *a)
{
    return a->used;
}

void arena_release(arena *a, size_t mark)
{
    a->used = mark;
}
