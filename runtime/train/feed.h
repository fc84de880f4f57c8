/* From windows to what a model is fed: the arrays of one worker's part of a batch, filled from
 * draws, and cut into micro-batches. An SNP window is its carried sites without special tokens; its
 * targets are the next alleles, none at the last. */
#ifndef CROCUTA_TRAIN_FEED_H
#define CROCUTA_TRAIN_FEED_H

#include "io/draws.h"
#include "model/model.h"

typedef struct {
    int64_t room, L, Lp;         /* sequences and tokens that the arrays hold */
    int64_t n;                   /* sequences that are filled */
    int64_t first;               /* place of sequence 0 in the global batch */
    int64_t predicted;           /* tokens, or labelled windows, that have a target */
    uint8_t *ids, *targets;      /* (room, Lp) */
    int64_t *position;           /* (room, Lp) */
    int32_t *site;               /* (room, Lp) */
    int32_t *chromosome, *label; /* (room) */
    int32_t *count;              /* (room) tokens, the rest pads */

    /* Sites of the spans, as model/model.h has them (span_sites); NULL where not asked for. */
    int64_t *span_start;             /* (room + 1) */
    int32_t *span_site, *span_token; /* (span_room) */
    uint8_t *span_carried;           /* (span_room) */
    int64_t span_room;

    drawn scratch; /* the sequence that is being put in */
} feed;

/* Does a model of this configuration read the sites of a window's span? */
bool feed_wants_spans(const config *c);

status feed_open(int64_t room, int64_t L, bool spans, feed *out);
void feed_close(feed *f);

/* Sequence i from a window of at most L entries; a window of none gives a sequence without targets.
 * classify: the target is the person's label alone. With spans, sequences are filled in order, i =
 * 0, 1, 2 ...: filling i forgets what came behind it. */
status feed_fill(feed *f, int64_t i, const dataset *d, const draws *x, const window *w,
                 bool classify);

/* The same from one haplotype (1, 2) of a union's window, over the span of the whole window. */
status feed_fill_haplotype(feed *f, int64_t i, const dataset *d, const draws *x, const window *w,
                           int hap, bool classify);

/* The same from a sequence that was drawn (at most L tokens). */
status feed_put(feed *f, int64_t i, const dataset *d, const drawn *s, bool classify);

/* Turns sequence i around, the last one that was put in: its tokens and the sites of its span from
 * the last to the first, bases under ids of their own (A C G T = 12 .. 15), so that a model can
 * tell the directions apart. What stands in the span and what is predicted of it stay the same. */
void feed_reverse(feed *f, int64_t i);

/* Sequences [from, from + n) as a batch: pointers into the feed. */
batch feed_slice(const feed *f, int64_t from, int64_t n, bool classify);

#endif
