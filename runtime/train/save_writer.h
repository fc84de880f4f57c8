/* The thread of a saver: writes copies to their places in a laid-out file, with CRC-32 sums, and
 * syncs the file. Private to saver.c, which gives it work. */
#ifndef CROCUTA_TRAIN_SAVE_WRITER_H
#define CROCUTA_TRAIN_SAVE_WRITER_H

#include "io/checkpoint.h"
#include "io/dataset.h"

#include <stddef.h>

/* Rows of a table: five columns, one behind the other in `data`. */
typedef struct save_block {
    struct save_block *next;
    int64_t tensor; /* of the first column; the others follow */
    int64_t block, rows;
    int64_t first; /* row of the file */
    size_t width[5], room;
    char *data;
} save_block;

typedef struct save_writer save_writer;

/* tensors: the most that a file has. Starts the thread. */
status save_writer_open(int64_t tensors, const dataset *d, save_writer **out);
void save_writer_close(save_writer **w);

/* A new file; whatever was there is forgotten. The thread idles then. */
status save_writer_begin(save_writer *w);
/* Room for the copy of a whole tensor. */
status save_writer_dense(save_writer *w, int64_t tensor, int64_t bytes, void **to);
/* Sites [from, to) are this worker's; positions are `tensor`, alleles the next. */
void save_writer_sites(save_writer *w, int64_t tensor, int64_t from, int64_t to);
/* So many blocks will be put; call last. */
void save_writer_expect(save_writer *w, int64_t blocks);

/* A block with room for so many bytes; NULL: no more are wanted, writing has failed. */
status save_writer_block(save_writer *w, size_t bytes, save_block **out);
void save_writer_put(save_writer *w, save_block *b);
int64_t save_writer_staged(save_writer *w); /* bytes that wait */

/* The file is there: path, and the place of each of n tensors. */
void save_writer_start(save_writer *w, const char *path, const int64_t *offset, int64_t n);

/* True once everything is written and synced, or has failed (why->code): the pieces then, whose
 * memory is the writer's until the next begin. */
bool save_writer_done(save_writer *w, const checkpoint_piece **pieces, int64_t *n, failure *why);
/* Nothing more is written; returns when the thread idles. */
void save_writer_cancel(save_writer *w);
int64_t save_writer_moved(save_writer *w); /* bytes written in all */

#endif
