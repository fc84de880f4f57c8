/* FASTA, read from front to back: plain, gzip or bgzip (no index is read), \n or \r\n, lines of any
 * length, blank lines, a last line with or without its end. What is no nucleotide is refused with
 * its line. */
#ifndef CROCUTA_IO_FASTA_H
#define CROCUTA_IO_FASTA_H

#include "runtime/core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A base as stored: a code in bits 0-2, bit 3 set where the letter was lower case (soft-masked). */
enum { BASE_A, BASE_C, BASE_G, BASE_T, BASE_N, BASE_OTHER, BASE_MASKED = 8 };
#define BASE_NONE 0xff /* no nucleotide */

/* The stored base of a letter: A C G T, N, or another IUPAC letter (U among them); BASE_NONE. */
uint8_t fasta_base(char letter);

/* Who is told. Either may fail, which ends the reading. */
typedef struct {
    /* A header line: the name is its first word, the description what follows; "" where nothing. */
    status (*begin)(void *context, const char *name, const char *description, int64_t line);
    /* Letters of the sequence last begun, all of them nucleotides. */
    status (*letters)(void *context, const char *letters, size_t n);
    void *context;
} fasta_sink;

/* Does the content begin like FASTA ('>' or ';')? A file that cannot be read does not. */
bool fasta_recognise(const char *path);

/* STATUS_DATA where it is none or is damaged. */
status fasta_read(const char *path, const fasta_sink *to);

#endif
