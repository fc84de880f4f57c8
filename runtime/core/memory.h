/* How much memory is left: asked before anything large is taken, because the system promises more
 * than it has and then ends the process that believes it. */
#ifndef CROCUTA_CORE_MEMORY_H
#define CROCUTA_CORE_MEMORY_H

#include <stdint.h>

/* Bytes that this process may still take: the node's available memory, or less where a control
 * group or a limit of the process says so. 0: not known. */
int64_t memory_available(void);

/* The process's high-water mark begins anew, freed memory given back first: several runs of one
 * process each have one of their own. Where the system does not allow it, the mark stays. */
void memory_peak_begin(void);

#endif
