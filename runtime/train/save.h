/* What savers (one a worker) and the keeper (the coordinator's half) tell each other about a
 * checkpoint on its way: worker 0 asks for a file, the keeper answers everybody with the place of
 * every tensor, each worker tells what it has written and synced, and the keeper tells how it
 * ended. Plain bytes: all ranks run the same program. */
#ifndef CROCUTA_TRAIN_SAVE_H
#define CROCUTA_TRAIN_SAVE_H

#include "io/checkpoint.h"

#define TAG_SAVE 13      /* worker 0 -> coordinator: save_request */
#define TAG_SAVE_BODY 14 /* its tensors and texts */
#define TAG_PLACE 15     /* coordinator -> workers: save_place and an offset for each tensor */
#define TAG_WRITTEN 16   /* worker -> coordinator: save_written and its pieces */
#define TAG_SAVED 17     /* coordinator -> workers: save_end */

typedef struct {
    int64_t step, stage, n;            /* tensors */
    int64_t config_bytes, state_bytes; /* of the texts that follow the tensors, zeros included */
    int ranks;
    bool best;
} save_request;

typedef struct {
    int64_t step, n; /* then n offsets */
} save_place;

typedef struct {
    int64_t step, n; /* then n pieces */
    double stall_s;  /* for which training stood still */
    status code;
    char text[FAILURE_TEXT];
} save_written;

typedef struct {
    int64_t step;
    status code;
    char text[FAILURE_TEXT];
} save_end;

#endif
