/* What a worker tells the coordinator: one small message a step, and one for everything that the
 * journals must know. Plain bytes: all ranks run the same program. */
#ifndef CROCUTA_TRAIN_REPORT_H
#define CROCUTA_TRAIN_REPORT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    REPORT_STEP,  /* a training step is done (worker 0) */
    REPORT_VALID, /* a validation is done (worker 0) */
    REPORT_EVENT, /* event and detail */
    REPORT_END,   /* the last message of worker 0 */
} report_kind;

typedef struct {
    report_kind kind;
    int worker;
    int64_t step; /* steps done */
    int64_t stage, seq_len, tokens, windows;
    double loss, lookup; /* nats; perplexity of the look-up, NaN: none */
    double accuracy;     /* NaN: none was measured */
    bool classifies;     /* the loss is a classifier's: its exponential says nothing */
    double lr, grad_norm;
    bool clipped, skipped;
    double tokens_per_s, step_ms, wait_ms, sum_ms, fraction_gemm, fraction_bandwidth;
    int64_t memory_bytes;
    char event[24], detail[480], host[64];
} report;

/* What the coordinator tells worker 0: bits. */
enum {
    COMMAND_CHECKPOINT = 1, /* write one at the end of the step */
    COMMAND_STOP = 2,       /* and stop */
    COMMAND_GOODBYE = 8,    /* answer to REPORT_END: nothing follows */
};

#define TAG_REPORT 11
#define TAG_COMMAND 12

#endif
