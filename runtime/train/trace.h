/* One fixed batch through a model, everything written: for comparison with another implementation,
 * device or version. Hidden states, logits, loss (mean over predicted tokens), every gradient of
 * it, and N AdamW steps on this batch by the recipe of the golden values: lr 6e-4 constant, betas
 * (0.9, 0.999), eps 1e-8, decay 0.1 on all but filters and rows, global-norm clip 1, no dropout. */
#ifndef CROCUTA_TRAIN_TRACE_H
#define CROCUTA_TRAIN_TRACE_H

#include "io/trace_file.h"
#include "runtime/train/model_file.h"

/* `path` NULL: compute, write nothing (the other ranks of a job). With train.context_parallel above
 * 1 the ranks of `world`, as many, share the sequences; otherwise it is not used. */
status trace_run(model_file *f, const trace_batch *b, int64_t optimizer_steps, const char *path,
                 comm *world);

#endif
