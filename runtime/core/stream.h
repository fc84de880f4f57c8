/* Has all that was printed arrived? */
#ifndef CROCUTA_CORE_STREAM_H
#define CROCUTA_CORE_STREAM_H

#include "runtime/core/status.h"

#include <stdio.h>

/* Flushes. STATUS_RESOURCE, naming `what`, where something could not be written; a reader that left
 * early
 * (`| head`) has what it wanted and is no fault. */
status stream_written(FILE *to, const char *what);

#endif
