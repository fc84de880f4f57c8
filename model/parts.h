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
    void *u;       /* ((N+1) d) in_proj's product */
    void *conv;    /* ((N-1) d) results of the convolutions */
    float *middle; /* (d)       residual into the MLP */
    void *h;       /* (inner)   fc1's product */
} block_kept;

/* One array, of the host and of the device: the same memory on a CPU (lend.c). */
typedef struct {
    void *host, *on;
} twin;

/* The rows of one level in one batch: a small table of the rows that it touches, replayed to the
 * present. */
typedef struct {
    int32_t *slot, *slot_on;     /* (B, Lp) index into `unique`, -1: none */
    int32_t *unique, *unique_on; /* (count) slots of the row table, ascending */
    int32_t *place, *place_on;   /* (count) where their gradients are added: row of pending_rows */
    int64_t *row;                /* (B, Lp) the host's */
    float *values;               /* (count, k) the device's */
    int64_t count;
    int64_t room; /* entries that slot, unique, place, row and values have grown to; 0: in the
                     arena */
    /* A bit for each slot of the table, set while the batch's rows are sorted; and the place in
     * `unique` of the first that is set in a word. */
    uint64_t *mark;
    int32_t *base;
    int64_t words;
} batch_rows;

/* What the sites of a batch's spans are to the model (spans.c). Ragged, so its arrays grow to the
 * largest batch that came. */
typedef struct {
    int64_t first;             /* entry that the batch's spans begin with */
    int64_t n, absent;         /* entries of the spans; those of them that a later token skipped */
    int64_t room;              /* entries that fit */
    int32_t *absent_site;      /* (absent) the host's */
    twin absent_column;        /* (absent) int32: column of the token that skipped it */
    int64_t *start, *start_on; /* (B * Lp + 1) into the absent entries, by column */
    int32_t *identity, *identity_on; /* (B * Lp) the column itself, -1 where it skipped nothing */
    float *sums[EMBED_LEVELS];       /* (B * Lp, k) by level; this and what follows: the device's */
    float *drows;                    /* (n, width of a site's row) */
    int64_t drows_room;              /* floats */
    arena reductions;                /* workspace of the ragged reductions */
} batch_spans;

/* Where a batch's own arrays and the outputs lie on a device that is not the host. The host's
 * copies are on their way while the caller goes on. */
typedef struct {
    twin ids, targets, label, count, start;
    twin token, carried; /* these two grow */
    void *outputs;
    int64_t token_room, carried_room, outputs_room; /* bytes */
} lent;

/* Gradients of rows since the last clear. Which rows a batch touches is known before it runs, so
 * that the host has the list and the device the sums, in the order in which rows came. */
typedef struct {
    int32_t *slot;  /* (count) ascending */
    int32_t *place; /* (count) row of `sum` */
    int64_t count, room;
    float *sum;       /* (.., k) the device's */
    int64_t sum_room; /* rows */
    float *seen;      /* the host's copy, where somebody looked */
} pending_rows;

typedef struct context_counts context_counts;

/* The passes of a batch, recorded (graph.c), in parts: after each, gradients [first, first + count)
 * are complete. */
typedef struct {
    device_graph *run;
    int64_t first, count;
} graph_part;
typedef struct {
    graph_part *part;
    int parts, room;
    batch_shape s; /* of what was recorded, or has run before a recording (B 0: nothing), */
    const uint8_t *targets; /* and its arrays */
    const int32_t *label;
    bool useless;  /* recording failed once */
    loss_sum loss; /* where the recording sent it */
} step_graph;

/* Who is told that gradients are complete. */
typedef struct {
    const model *m;
    bucket_ready on;
    void *context;
} buckets;

struct model {
    config cfg;
    int classes;
    device *dev;
    int64_t d, order, inner, layers;
    bool mixed; /* wide intermediates are bf16: train.precision, on a GPU */

    parameter *list;
    int n;
    int64_t floats, learned;
    block_parameters *block;
    int embedding, ln_f_w, ln_f_b, head_hidden_w, head_hidden_b, head_out_w, head_out_b;
    int base[EMBED_LEVELS]; /* B of each level: carried, then absent, then the next token's */
    int levels;             /* of carried rows */
    bool absent, next;      /* are there levels of absent rows, of the next token's position */
    double sites_a_token;   /* of spans, expected */
    int64_t site_classes;   /* of the site head, 0: none */
    int state_w, state_b, run_w, scale; /* the site head; its evidence is head_hidden, head_out */
    int64_t rank;                       /* k of the rows */
    arena values, gradients;

    position_encoding *position;
    batch_rows rows[ROW_TABLES];
    batch_spans spans;
    /* (B * Lp) by level: slot of the next token's row */
    int32_t *next_slot[EMBED_LEVELS], *next_slot_on[EMBED_LEVELS];
    pending_rows pending[ROW_TABLES];
    rows_adam_args schedule;

    arena activations, workspace;
    int64_t reserved[2]; /* bytes that these have at least: model_reserve */
    arena twins; /* the host's copies of arrays in the activations; empty where they are one */
    lent lent;
    batch on;               /* the batch at hand; what operations read of it is the device's */
    loss_sum unasked;       /* losses arrive with a later wait: a place that stays */
    batch_shape shape;      /* largest that is prepared, as this worker holds it */
    context_group share;    /* workers that share each sequence */
    context_counts *counts; /* of their exchanges */
    keep_level keep;
    bool training;
    block_kept *kept; /* (layers) */
    float *residual, *dresidual;
    float *added, *added_on; /* a fixed encoding: the host's, the device's */
    step_graph graph;
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
conv_args conv_of(const model *m, batch_shape s, int64_t dc);
head_args head_of(const model *m, const batch *b, batch_shape s);
classify_args classify_of(const model *m, const batch *b, batch_shape s);

/* hyena.c: the mixer. `out` may be `in`. Buffers that are NULL in `kept` come from the workspace.
 */
status hyena_forward(model *m, const block_parameters *p, batch_shape s, const float *in, void *u,
                     void *conv, float *out);
status hyena_backward(model *m, const block_parameters *p, batch_shape s, const float *in,
                      const void *u, const void *conv, float *dresidual);

/* context.c: what the mixer needs where sequences are shared; with whole ones it costs nothing. */
#define HALO 2            /* columns that the short convolution reads left of a stretch */
#define CONTEXT_TENSORS 5 /* of one job, there and back */
status context_open(model *m, const context_group *g);
void context_close(model *m);
/* The whole of sequences of which s is here. */
batch_shape context_whole(const model *m, batch_shape s);
/* The two columns left of this stretch, from the workspace; NULL where nothing stands there. */
status context_halo(model *m, batch_shape s, const float *residual, const float **halo);
/* Their gradient goes back and is added where they came from. */
status context_halo_back(model *m, batch_shape s, const float *dhalo, float *dresidual);
int64_t context_halo_bytes(const model *m, batch_shape s); /* workspace of context_halo */
/* Work on channels [c, c + n): in and out (n, B, Lp) of whole sequences, NULL where the job's are.
 */
typedef status (*context_work)(void *context, int64_t c, int64_t n, void *const *in,
                               void *const *out);
typedef struct {
    int n_in, n_out;
    const void *in[CONTEXT_TENSORS]; /* (d, B, Lp) as this worker holds them; NULL: not there */
    void *out[CONTEXT_TENSORS];
    context_work work;
    void *context;
} context_job;
/* All channels through the work, each at one of the workers. */
status context_channels(model *m, batch_shape s, const context_job *job);
int64_t context_width(const model *m, int64_t L);  /* channels at a time */
int64_t context_groups(const model *m, int64_t L); /* how often */
/* Filters are made for whole groups together: channels at a time, how often, and those that channel
 * c is made with. */
int64_t context_fill(const model *m, int64_t L);
int64_t context_fills(const model *m, int64_t L);
context_stretch context_fill_of(const model *m, int64_t L, int64_t c);
/* Workspace of context_channels beside the work's own, for so many tensors. */
int64_t context_bytes(const model *m, batch_shape whole, int tensors);

sites_args sites_of(const model *m, const batch *b, batch_shape s);

/* Levels that the embedding adds up: carried, absent, next. */
static inline int embed_levels(const model *m)
{
    return m->levels * (1 + m->absent + m->next);
}
/* Tables, in the order of model/position.h. */
static inline int absent_table(const model *m, int level)
{
    return m->levels + level;
}
static inline int site_table(const model *m)
{
    return m->levels * (1 + m->absent);
}

/* rows.c: the rows of a batch. */
extern const rows_adam_args rows_as_they_are;
status rows_prepare(model *m, const batch *b, bool create);
/* n entries of r->row into slots of the batch's own small table, and that table's values; where
 * gradients will come (create), a place for each. */
status rows_present(model *m, int table, int64_t n, bool create);
/* Gradients of n entries, summed by row, to the pending ones of a table. Entry i has row of[i] of
 * grad (NULL: row i); workspace from ws. */
status rows_collect(model *m, int table, int64_t n, const int32_t *slot, const float *grad,
                    const int32_t *of, arena *ws);
status rows_reserve(model *m, batch_shape s);
void rows_free(model *m);
int64_t rows_bytes(const model *m, batch_shape s);
int64_t rows_twins(const model *m, batch_shape s);     /* of take_twin and take_host */
int64_t rows_workspace(const model *m, batch_shape s); /* of rows_collect of its columns */

/* spans.c: absent sums and the site head's rows of a batch. */
bool spans_needed(const model *m);
status spans_prepare(model *m, const batch *b, bool create);
status spans_reserve(model *m, batch_shape s); /* its fixed part, in the activations */
int64_t spans_bytes(const model *m, batch_shape s);
int64_t spans_twins(const model *m, batch_shape s);
int64_t spans_expected(const model *m, batch_shape s);              /* sites of a batch's spans */
int64_t spans_ragged(const model *m, batch_shape s, bool training); /* bytes of all else */
/* Gradients of the absent sums, (columns, k) of a level. */
status spans_collect_absent(model *m, int level, const float *dsums);
/* Room for the gradients of the entries' rows, then their sums to the pending ones. */
float *spans_site_gradients(model *m);
status spans_collect_sites(model *m);
void spans_free(model *m);

/* lend.c: see there. NULL, or an error, where there is no room. */
void *take_host(model *m, size_t bytes);
void *take_twin(model *m, size_t bytes, void **on);
status twin_make(device *dev, size_t bytes, twin *t);
void twin_free(device *dev, twin *t);
/* Its part of the activations, then of every batch: m->on is b with the device's arrays, and b may
 * go. */
int64_t lend_bytes(const model *m, batch_shape s); /* and as many of the host */
status lend_reserve(model *m, batch_shape s);
status lend_batch(model *m, const batch *b);
void lend_free(model *m);
/* Places of outputs on the device; their way back to the host, which waits. */
status outputs_take(model *m, const batch *b, const model_outputs *out, model_outputs *on);
status outputs_give(model *m, const batch *b, const model_outputs *out, model_outputs *on);

/* graph.c: the blocks' and the head's passes (backward.c), queued one by one or as graphs. */
status graph_passes(model *m, const batch *b, loss_sum *loss, const buckets *x);
void graph_close(model *m);
/* backward.c: what is recorded. It ends with a bucket. */
status passes(model *m, const batch *b, loss_sum *loss, const buckets *x);

/* forward.c: uploads and the embedding; then the blocks. */
float *first_residual(const model *m, bool keep);
status begin_forward(model *m, const batch *b, bool keep);
status blocks_forward(model *m, batch_shape s, bool keep);
embed_args embed_of(const model *m, const batch *b, batch_shape s);
status check_batch(const model *m, const batch *b);

/* plan.c: of activations, workspace and twins. */
void arenas_close(model *m);

/* Workspace or activation memory; on exhaustion the plan was wrong. */
float *take_floats(arena *a, int64_t n);

/* Wide intermediates: bytes of an element, n of them, the place of element i (NULL stays NULL). */
static inline int64_t wide_bytes(const model *m)
{
    return m->mixed ? 2 : 4;
}
static inline void *take_wide(const model *m, arena *a, int64_t n)
{
    return arena_take(a, (size_t)(n * wide_bytes(m)));
}
static inline void *wide_at(const model *m, const void *x, int64_t i)
{
    return x ? (char *)(uintptr_t)x + i * wide_bytes(m) : NULL;
}
status arena_short(const arena *a);

#endif
