/* A table file as lines of UTF-8 and lines as fields; private to io/labels.c. */
#ifndef CROCUTA_IO_LABELS_TEXT_H
#define CROCUTA_IO_LABELS_TEXT_H

#include "runtime/core/status.h"

#include <stddef.h>
#include <stdint.h>

#define LABEL_FIELDS 256 /* columns that a table may have */

/* The whole file as UTF-8 with \n line ends, NUL-terminated; the caller frees it. UTF-16 is
 * converted; other encodings are refused with the line. */
status labels_text_read(const char *path, char **text);

/* Cuts a line into fields at `separator` (' ': runs of blanks), without quotes and outer blanks.
 * The line is changed; fields point into it. Over-long lines give LABEL_FIELDS + 1. */
status labels_text_fields(const char *path, int64_t number, char *line, char separator,
                          char *fields[LABEL_FIELDS], int *n);

#endif
