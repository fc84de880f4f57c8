/* What a model is made of, for the files of this room only: the places of its parameters, its
 * arenas, and what a batch leaves between forward and backward. */
#ifndef CROCUTA_MODEL_PARTS_H
#define CROCUTA_MODEL_PARTS_H

#include "model/model.h"

/* Indices into the list of parameters; -1: not there. */
typedef struct {
    int in_w, in_b, out_w, out_b, short_w, short_b, skip; /* mixer */
    int f0_w, f0_b, freq, f2_w, f2_b, f4_w, f4_b, f6_w;   /* implicit filter */
    int norm1_w, norm1_b, norm2_w, norm2_b, fc1_w, fc1_b, fc2_w, fc2_b;
} block_parameters;

/* What forward leaves of a block, by keep level; NULL: computed again. Shapes in columns of (B,
 * Lp). */
typedef struct {
    float *in;     /* (d)       residual into the block */
    float *u;      /* ((N+1) d) in_proj's product */
    float *conv;   /* ((N-1) d) results of the convolutions */
    float *middle; /* (d)       residual into the MLP */
    float *h;      /* (inner)   fc1's product */
} block_kept;

/* The rows of one level in one batch: a small table of the rows that it touches, replayed to the
 * present. */
typedef struct {
    int32_t *slot;   /* (B, Lp) index into `unique`, -1: none */
    int32_t *unique; /* (count) slots of the row table, ascending */
    int64_t *row;    /* (B, Lp) */
    float *values;   /* (count, k) */
    int64_t count;
    int64_t *stamp; /* (slots of the table) last batch that touched a slot; grows with the table */
    int32_t *index; /* (slots of the table) its place in `unique` */
    int64_t stamps;
} batch_rows;

/* Gradients of rows since the last clear. */
typedef struct {
    int32_t *slot;
    float *sum;
    int64_t count, room;
} pending_rows;

struct model {
    config cfg;
    int classes;
    device *dev;
    int64_t d, order, inner, layers;

    parameter *list;
    int n;
    int64_t floats, learned;
    block_parameters *block;
    int embedding, ln_f_w, ln_f_b, head_hidden_w, head_hidden_b, head_out_w, head_out_b;
    int base[EMBED_LEVELS]; /* B of each level of rows */
    int levels;
    int64_t rank; /* k of the rows */
    arena values, gradients;

    position_encoding *position;
    batch_rows rows[EMBED_LEVELS];
    pending_rows pending[EMBED_LEVELS];
    rows_adam_args schedule;
    int64_t batches; /* counts batches, for the stamps */

    arena activations, workspace;
    batch_shape shape; /* largest that is prepared */
    keep_level keep;
    bool training;
    block_kept *kept; /* (layers) */
    float *residual, *dresidual, *added;
};

/* parameters.c */
status parameters_layout(model *m);
void parameters_free(model *m);
static inline float *value_of(const model *m, int i)
{
    return i < 0 ? NULL : (float *)(void *)m->values.base + m->list[i].offset;
}
static inline float *gradient_of(const model *m, int i)
{
    return i < 0 ? NULL : (float *)(void *)m->gradients.base + m->list[i].offset;
}

/* One convolution of the operator: its channels of all filters, the chunk that is generated at a
 * time. */
int64_t filter_chunk(const model *m, int64_t L);

/* Arguments of the operations for one block. */
mixin_args mixin_of(const model *m, const block_parameters *p, batch_shape s);
mixout_args mixout_of(const model *m, const block_parameters *p, batch_shape s);
mlp_args mlp_of(const model *m, const block_parameters *p, batch_shape s);
filter_args filter_of(const model *m, const block_parameters *p, int64_t L, int64_t c0, int64_t dc);
conv_args conv_of(batch_shape s, int64_t dc);
head_args head_of(const model *m, const batch *b, batch_shape s);
classify_args classify_of(const model *m, const batch *b, batch_shape s);

/* hyena.c: the mixer. `out` may be `in`. Buffers that are NULL in `kept` come from the workspace.
 */
status hyena_forward(model *m, const block_parameters *p, batch_shape s, const float *in, float *u,
                     float *conv, float *out);
status hyena_backward(model *m, const block_parameters *p, batch_shape s, const float *in,
                      const float *u, const float *conv, float *dresidual);

/* rows.c: the rows of a batch. */
status rows_prepare(model *m, const batch *b, bool create);
status rows_collect(model *m, int level, batch_shape s, const float *dA);
status rows_reserve(model *m, batch_shape s);
void rows_free(model *m);
int64_t rows_bytes(const model *m, batch_shape s);
int64_t rows_workspace(const model *m, batch_shape s); /* of rows_collect */

/* forward.c */
embed_args embed_of(const model *m, const batch *b, batch_shape s);
status forward_blocks(model *m, const batch *b, bool keep);
status check_batch(const model *m, const batch *b);

/* Workspace or activation memory; on exhaustion the plan was wrong. */
float *take_floats(arena *a, int64_t n);
status arena_short(const arena *a);

#endif
