/* Lines of a text file, plain, gzipped or bgzipped, told apart by content. Every block's checksum
 * is held, a missing end block, a cut and bytes that belong to nothing are refused, an empty block
 * in the middle is no end. No index is read. */
#ifndef CROCUTA_IO_LINE_SOURCE_H
#define CROCUTA_IO_LINE_SOURCE_H

#include "runtime/core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct line_source line_source;

status line_source_open(const char *path, line_source **out);
void line_source_close(line_source **s);

/* The first bytes of the content (at least `want` where there are as many); 0 bytes: nothing is in
 * it. They stay where they are. */
status line_source_peek(line_source *s, size_t want, const char **bytes, size_t *n);

/* The next line without its line end (\n or \r\n), NUL-terminated, until the next call; *line NULL
 * at the end. A last line without its newline is refused: nobody can tell whether a copy was cut.
 * A NUL inside is refused. */
status line_source_next(line_source *s, char **line, size_t *length);

/* From here on a last line without its newline is a line like the others: FASTA often ends so. */
void line_source_take_cut_line(line_source *s);

/* Reads to the end without keeping anything: is the container whole? */
status line_source_drain(line_source *s);

/* Number of the line last given, from 1. */
int64_t line_source_line(const line_source *s);

/* Bytes of the file read so far, and its size (0: not known): for progress. */
int64_t line_source_read_bytes(const line_source *s);
int64_t line_source_file_bytes(const line_source *s);

/* Was a bgzip or gzip container seen? */
bool line_source_compressed(const line_source *s);

#endif
