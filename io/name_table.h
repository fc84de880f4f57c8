/* Names to numbers: a hash table over byte strings that somebody else keeps. People, contigs and
 * table rows are matched by name, never by column. */
#ifndef CROCUTA_IO_NAME_TABLE_H
#define CROCUTA_IO_NAME_TABLE_H

#include "runtime/core/status.h"

#include <stdint.h>

typedef struct {
    const char **name; /* (room), NULL: free */
    int64_t *value;
    int64_t room, count;
} name_table;

/* Adds a name; *already is its older value, or -1 where it was not there (NULL: not wanted). The
 * older value stays. The name must outlive the table. */
status name_table_add(name_table *t, const char *name, int64_t value, int64_t *already);

/* The value of a name, -1: not there. */
int64_t name_table_find(const name_table *t, const char *name);

void name_table_close(name_table *t);

/* FNV-1a, 64 bits: for tables and for hashes that are written down. */
uint64_t name_hash(uint64_t start, const void *bytes, uint64_t n);
#define NAME_HASH_START UINT64_C(0xcbf29ce484222325)

#endif
