/* Open addressing with doubling; see name_table.h. */
#include "io/name_table.h"

#include <stdlib.h>
#include <string.h>

uint64_t name_hash(uint64_t start, const void *bytes, uint64_t n)
{
    const unsigned char *p = bytes;
    for (uint64_t i = 0; i < n; i++)
        start = (start ^ p[i]) * UINT64_C(0x100000001b3);
    return start;
}

static int64_t slot_of(const name_table *t, const char *name)
{
    int64_t at =
        (int64_t)(name_hash(NAME_HASH_START, name, strlen(name)) & (uint64_t)(t->room - 1));
    while (t->name[at] && strcmp(t->name[at], name) != 0)
        at = (at + 1) & (t->room - 1);
    return at;
}

static status grow(name_table *t)
{
    name_table old = *t;
    t->room = old.room ? 2 * old.room : 64;
    t->name = calloc((size_t)t->room, sizeof *t->name);
    t->value = calloc((size_t)t->room, sizeof *t->value);
    if (!t->name || !t->value) {
        free(t->name);
        free(t->value);
        *t = old;
        return fail(STATUS_MEMORY,
                    "names: no memory for %lld names; use a machine with more memory",
                    (long long)(2 * old.room));
    }
    for (int64_t i = 0; i < old.room; i++) {
        if (!old.name[i])
            continue;
        int64_t at = slot_of(t, old.name[i]);
        t->name[at] = old.name[i];
        t->value[at] = old.value[i];
    }
    free(old.name);
    free(old.value);
    return STATUS_OK;
}

status name_table_add(name_table *t, const char *name, int64_t value, int64_t *already)
{
    if (2 * (t->count + 1) > t->room)
        TRY(grow(t));
    int64_t at = slot_of(t, name);
    if (already)
        *already = t->name[at] ? t->value[at] : -1;
    if (t->name[at])
        return STATUS_OK;
    t->name[at] = name;
    t->value[at] = value;
    t->count++;
    return STATUS_OK;
}

int64_t name_table_find(const name_table *t, const char *name)
{
    if (t->room == 0)
        return -1;
    int64_t at = slot_of(t, name);
    return t->name[at] ? t->value[at] : -1;
}

void name_table_close(name_table *t)
{
    free(t->name);
    free(t->value);
    memset(t, 0, sizeof *t);
}
