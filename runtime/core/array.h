/* Arrays that grow together: columns of one table, each of which keeps what it has when there is no
 * memory for more. */
#ifndef CROCUTA_CORE_ARRAY_H
#define CROCUTA_CORE_ARRAY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* `old` with room for n elements of `each` bytes, n >= 1. Without memory `old` itself, still whole,
 * and *ok is false; otherwise *ok is left as it is, so that one question serves several columns. */
static inline void *array_resized(void *old, int64_t n, size_t each, bool *ok)
{
    void *more = (uint64_t)n > SIZE_MAX / each ? NULL : realloc(old, (size_t)n * each);
    *ok = *ok && more;
    return more ? more : old;
}

#endif
