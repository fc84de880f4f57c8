/* Memory that the ranks of a node share: a set's columns are decompressed once per node. It has no
 * name in any file system, so that a killed job leaves nothing behind and no mount's size limits
 * it. */
#ifndef CROCUTA_IO_NODE_MEMORY_H
#define CROCUTA_IO_NODE_MEMORY_H

#include "comm/comm.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    char *base; /* zeroed, aligned to a page */
    size_t bytes;
    bool shared; /* false: every rank has its own copy, which it must fill itself */
} node_memory;

/* Collective over the ranks of one node. Where the system does not let them share, each gets its
 * own. */
status node_memory_open(comm *node, size_t bytes, node_memory *m);
void node_memory_close(node_memory *m);

/* From here on a stray write stops the program instead of changing the data. */
void node_memory_freeze(node_memory *m);

#endif
