/* What a language model makes of sequences: the log-likelihood of every token after those before
 * it, logits, embeddings. The ranks take the pieces in turn; the first of them writes. */
#ifndef CROCUTA_TRAIN_SCORE_H
#define CROCUTA_TRAIN_SCORE_H

#include "comm/comm.h"
#include "io/token_pieces.h"
#include "runtime/train/model_file.h"

/* One piece, on the first rank, in the order of the file. loss (n): -log p of targets[t], 0 where
 * there is none. */
typedef struct {
    token_piece piece;
    const float *loss;
    int64_t n_tokens; /* that were predicted */
    double loglik;    /* their sum, nats */
} piece_score;

typedef struct {
    const char *file;
    int64_t window;             /* tokens of a piece at most; 0: what the model can take at once */
    int64_t memory;             /* bytes that a rank may use; 0: what is free */
    const char *logits, *embed; /* HDF5 files to be written, or NULL */
    bool pooled;                /* of embeddings the mean of a piece's tokens */
    status (*scored)(void *context, const piece_score *s);
    void *context;
} score_ask;

/* *window: the length of pieces that was taken. Collective. A model that predicts no tokens, or
 * needs what the file does not have: STATUS_USAGE; pieces that do not fit: STATUS_RESOURCE, with
 * the plan. */
status score_run(model_file *f, const score_ask *ask, comm *ranks, int64_t *window);

#endif
