/* Sequences to be scored, of a FASTA file or a token file (HDF5, as `trace` reads it), cut into
 * pieces of a length. Read from front to back, as often as somebody asks; of FASTA only a piece is
 * in memory. */
#ifndef CROCUTA_IO_TOKEN_PIECES_H
#define CROCUTA_IO_TOKEN_PIECES_H

#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

#define PIECE_NOTHING 255 /* a target that is not predicted */

/* Tokens start .. start + n - 1 (from 0) of a sequence. targets[t] is what follows ids[t], the last
 * one's beyond the piece, so that every token but a sequence's first is a target once. */
typedef struct {
    const char *name; /* first word of the header; of a token file its row, from 1 */
    int64_t start, n;
    const uint8_t *ids, *targets;
    const int64_t *position; /* (n) of a token file that has /position, else NULL */
    int32_t chromosome;
    bool cut; /* the sequence has other pieces */
} token_piece;

/* Told of every piece in order; what it points to lives until it returns. */
typedef struct {
    status (*piece)(void *context, const token_piece *p);
    void *context;
} piece_sink;

typedef struct {
    int64_t longest;  /* tokens of a piece at most */
    int vocabulary;   /* tokens of a token file are below */
    bool hide_masked; /* lower-case bases are read as N */
} pieces_how;

/* What was seen on the way. */
typedef struct {
    int64_t sequences, pieces, empty; /* empty ones have no piece */
    char first_empty[128];
} pieces_seen;

/* Is it a token file (HDF5), by content? */
bool pieces_are_tokens(const char *path);
/* Of FASTA, targets are A C G T alone; of a token file /target_ids, or without them the next token
 * unless it is a pad. STATUS_DATA where the file is neither, damaged or empty. */
status pieces_read(const char *path, const pieces_how *how, const piece_sink *to,
                   pieces_seen *seen);

#endif
