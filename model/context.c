/* Context parallelism: see context.h. What the model's operator needs of it: stretches, the halo of
 * the short convolution, and channels on their way to the long convolution and back, in groups, so
 * that one group is exchanged while another is transformed. */
#include "model/context.h"

#include "model/parts.h"

#include <stdlib.h>

context_stretch context_stretch_of(int64_t L, int size, int rank)
{
    const int64_t units = (L + CONTEXT_UNIT - 1) / CONTEXT_UNIT;
    const int64_t first = units * rank / size * CONTEXT_UNIT;
    const int64_t end = units * (rank + 1) / size * CONTEXT_UNIT;
    return (context_stretch){first, (end < L ? end : L) - first};
}

bool context_long_enough(int64_t L, int size)
{
    return (L + CONTEXT_UNIT - 1) / CONTEXT_UNIT >= size;
}

status context_check(int64_t L, int size)
{
    if (context_long_enough(L, size))
        return STATUS_OK;
    return fail(STATUS_USAGE,
                "train.context_parallel: %d workers for a sequence of %lld tokens, each needs %d; "
                "lower it or raise data.seq_len",
                size, (long long)L, CONTEXT_UNIT);
}

static batch_shape shape_of_member(int64_t B, int64_t L, int size, int rank)
{
    const int64_t n = context_stretch_of(L, size, rank).count;
    return (batch_shape){B, n, length_padded(n)};
}

batch_shape context_shape(const context_group *g, batch_shape whole)
{
    if (g->size <= 1)
        return whole;
    if (g->group)
        return shape_of_member(whole.B, whole.L, g->size, comm_rank(g->group));
    batch_shape most = {0};
    for (int r = 0; r < g->size; r++) {
        const batch_shape s = shape_of_member(whole.B, whole.L, g->size, r);
        if (s.L > most.L)
            most = s;
    }
    return most;
}

/* ---- what an exchange is made of ---- */

/* Elements to and from each member, and where they lie; the host's calls take bytes. */
struct context_counts {
    int64_t *send, *send_at, *recv, *recv_at;
    size_t *bytes; /* (4, size) */
};

status context_open(model *m, const context_group *g)
{
    context_close(m);
    m->share = *g;
    if (g->size <= 1)
        return STATUS_OK;
    const size_t n = (size_t)g->size;
    context_counts *c = calloc(1, sizeof *c);
    int64_t *numbers = calloc(4 * n, sizeof *numbers);
    if (c)
        c->bytes = calloc(4 * n, sizeof *c->bytes);
    if (!c || !numbers || !c->bytes) {
        free(numbers);
        if (c)
            free(c->bytes);
        free(c);
        return fail(STATUS_MEMORY, "model: no memory for a group of %d workers; free some",
                    g->size);
    }
    c->send = numbers;
    c->send_at = numbers + n;
    c->recv = numbers + 2 * n;
    c->recv_at = numbers + 3 * n;
    m->counts = c;
    return STATUS_OK;
}

void context_close(model *m)
{
    if (m->counts) {
        free(m->counts->send);
        free(m->counts->bytes);
    }
    free(m->counts);
    m->counts = NULL;
    m->share = (context_group){.size = 1};
}

/* Elements of `size` bytes, as m->counts says. */
static status exchange(const model *m, int64_t size, const void *from, void *to)
{
    const context_group *g = &m->share;
    const context_counts *c = m->counts;
    if (g->gpus)
        return comm_device_alltoallv(g->gpus, size == 2 ? COMM_BF16 : COMM_F32, from, c->send,
                                     c->send_at, to, c->recv, c->recv_at);
    for (int i = 0; i < 4 * g->size; i++)
        c->bytes[i] = (size_t)(c->send[i] * size); /* the four lists are one array */
    const size_t *b = c->bytes;
    const int n = g->size;
    return comm_alltoallv(g->group, from, b, b + n, to, b + 2 * n, b + 3 * n);
}

static status join(const model *m)
{
    return m->share.gpus ? comm_device_join(m->share.gpus, "context") : STATUS_OK;
}

/* ---- the halo ---- */

/* n floats to the neighbour at +step, as many from the one at -step, where they are. */
static status shift(const model *m, int step, int64_t n, const float *from, float *to)
{
    const context_group *g = &m->share;
    const int me = comm_rank(g->group), next = me + step, before = me - step;
    const bool sends = next >= 0 && next < g->size, takes = before >= 0 && before < g->size;
    if (g->gpus) {
        TRY(comm_device_shift(g->gpus, COMM_F32, from, sends ? n : 0, sends ? next : -1, to,
                              takes ? n : 0, takes ? before : -1));
        return join(m);
    }
    context_counts *c = m->counts;
    for (int r = 0; r < g->size; r++) {
        c->send_at[r] = c->recv_at[r] = 0;
        c->send[r] = sends && r == next ? n : 0;
        c->recv[r] = takes && r == before ? n : 0;
    }
    return exchange(m, sizeof(float), from, to);
}

int64_t context_halo_bytes(const model *m, batch_shape s)
{
    return m->share.size > 1 ? 2 * (int64_t)arena_round((size_t)(HALO * m->d * s.B) * sizeof(float))
                             : 0;
}

status context_halo(model *m, batch_shape s, const float *residual, const float **halo)
{
    *halo = NULL;
    if (m->share.size <= 1)
        return STATUS_OK;
    const int64_t rows = m->d * s.B;
    float *mine = take_floats(&m->workspace, HALO * rows);
    float *theirs = take_floats(&m->workspace, HALO * rows);
    if (!mine || !theirs)
        return arena_short(&m->workspace);
    /* The last stretch may be shorter than the halo, but nobody stands to its right. */
    if (s.L >= HALO) {
        const pieces_args a = {
            .rows = rows, .n = HALO, .from_stride = s.Lp, .to_stride = HALO, .element = 4};
        TRY(pieces_copy(m->dev, &a, residual + s.L - HALO, mine));
    }
    TRY(shift(m, 1, HALO * rows, mine, theirs));
    *halo = comm_rank(m->share.group) > 0 ? theirs : NULL;
    return STATUS_OK;
}

status context_halo_back(model *m, batch_shape s, const float *dhalo, float *dresidual)
{
    if (m->share.size <= 1)
        return STATUS_OK;
    const int64_t rows = m->d * s.B;
    const size_t mark = arena_mark(&m->workspace);
    float *theirs = take_floats(&m->workspace, HALO * rows);
    if (!theirs)
        return arena_short(&m->workspace);
    TRY(shift(m, -1, HALO * rows, dhalo, theirs));
    if (comm_rank(m->share.group) + 1 < m->share.size) {
        const pieces_args a = {
            .rows = rows, .n = HALO, .from_stride = HALO, .to_stride = s.Lp, .element = 4};
        TRY(pieces_add(m->dev, &a, theirs, dresidual + s.L - HALO));
    }
    arena_release(&m->workspace, mark);
    return STATUS_OK;
}

/* ---- channels, there and back ---- */

static int me(const model *m)
{
    return m->share.group ? comm_rank(m->share.group) : 0;
}

static context_stretch channels_of(const model *m, int rank)
{
    const int64_t first = m->d * rank / m->share.size;
    return (context_stretch){first, m->d * (rank + 1) / m->share.size - first};
}

static context_stretch group_of(const model *m, int rank, int64_t groups, int64_t j)
{
    const context_stretch c = channels_of(m, rank);
    const int64_t first = c.first + c.count * j / groups;
    return (context_stretch){first, c.first + c.count * (j + 1) / groups - first};
}

/* Channels of the member that has most, and the groups that they go in: as many as keep filters and
 * transforms within bounds, and on GPUs enough for exchange and transforms to overlap. Filters are
 * made for several groups at once: each time their MLP runs over all positions. */
#define GROUPS 4
static int64_t channels_most(const model *m)
{
    return (m->d + m->share.size - 1) / m->share.size;
}

int64_t context_fills(const model *m, int64_t L)
{
    const int64_t most = channels_most(m), chunk = filter_chunk(m, L);
    return (most + chunk - 1) / chunk;
}

int64_t context_groups(const model *m, int64_t L)
{
    const int64_t fills = context_fills(m, L), most = channels_most(m);
    int64_t each = 1;
    if (m->share.size > 1 && m->dev->kind != DEVICE_CPU && fills < GROUPS)
        each = (GROUPS < most ? GROUPS : most) / fills;
    return fills * (each > 1 ? each : 1);
}

int64_t context_width(const model *m, int64_t L)
{
    const int64_t groups = context_groups(m, L);
    return (channels_most(m) + groups - 1) / groups;
}

int64_t context_fill(const model *m, int64_t L)
{
    const int64_t fills = context_fills(m, L);
    return (channels_most(m) + fills - 1) / fills;
}

context_stretch context_fill_of(const model *m, int64_t L, int64_t c)
{
    const int64_t fills = context_fills(m, L);
    context_stretch f = {0};
    for (int64_t j = 0; j < fills && f.first + f.count <= c; j++)
        f = group_of(m, me(m), fills, j);
    return f;
}

/* Columns of all stretches of a sequence, pads included. */
static int64_t columns_of_all(const model *m, batch_shape whole)
{
    int64_t n = 0;
    for (int r = 0; r < m->share.size; r++)
        n += shape_of_member(whole.B, whole.L, m->share.size, r).Lp;
    return n * whole.B;
}

int64_t context_bytes(const model *m, batch_shape whole, int tensors)
{
    if (m->share.size <= 1)
        return 0;
    const int64_t width = context_width(m, whole.L), size = wide_bytes(m);
    const int64_t moved = width * columns_of_all(m, whole), held = width * whole.B * whole.Lp;
    return tensors * (2 * (int64_t)arena_round((size_t)(moved * size)) +
                      (int64_t)arena_round((size_t)(held * size)));
}

/* One call of context_channels. */
typedef struct {
    model *m;
    batch_shape s, whole; /* as this member holds it, and the whole sequence */
    const context_job *job;
    int64_t groups, width;
    void *moving[2][CONTEXT_TENSORS]; /* two groups at a time; by tensor, what comes in first */
    void *held[CONTEXT_TENSORS];      /* (width, B, Lp) of the whole */
    int64_t rows[2];                  /* of the group that left last; others have other pads */
} passage;

/* Counts of the way in (there), or of the way back: its mirror. */
static void count(const passage *x, int64_t j, bool there)
{
    const model *m = x->m;
    const context_counts *c = m->counts;
    const int64_t mine = group_of(m, me(m), x->groups, j).count, columns = x->s.B * x->s.Lp;
    int64_t *local = there ? c->send : c->recv, *local_at = there ? c->send_at : c->recv_at;
    int64_t *moved = there ? c->recv : c->send, *moved_at = there ? c->recv_at : c->send_at;
    int64_t at = 0;
    for (int r = 0; r < m->share.size; r++) {
        const context_stretch theirs = group_of(m, r, x->groups, j);
        local[r] = theirs.count * columns;
        local_at[r] = theirs.first * columns;
        moved[r] = mine * x->s.B * shape_of_member(x->s.B, x->whole.L, m->share.size, r).Lp;
        moved_at[r] = at;
        at += moved[r];
    }
}

static status send_in(const passage *x, int64_t j)
{
    count(x, j, true);
    for (int i = 0; i < x->job->n_in; i++)
        if (x->job->in[i])
            TRY(exchange(x->m, wide_bytes(x->m), x->job->in[i], x->moving[j % 2][i]));
    return STATUS_OK;
}

static status send_back(const passage *x, int64_t j)
{
    count(x, j, false);
    for (int i = 0; i < x->job->n_out; i++)
        if (x->job->out[i])
            TRY(exchange(x->m, wide_bytes(x->m), x->moving[j % 2][x->job->n_in + i],
                         x->job->out[i]));
    return STATUS_OK;
}

/* Between the stretches as they travel and the whole sequence. */
static status assemble(const passage *x, int64_t j, void *moving, void *held, bool apart)
{
    const model *m = x->m;
    const int64_t rows = group_of(m, me(m), x->groups, j).count * x->s.B;
    int64_t at = 0;
    for (int r = 0; r < m->share.size; r++) {
        const context_stretch p = context_stretch_of(x->whole.L, m->share.size, r);
        const int64_t Lp = length_padded(p.count);
        pieces_args a = {.rows = rows, .n = p.count, .element = wide_bytes(m)};
        void *piece = wide_at(m, moving, at), *place = wide_at(m, held, p.first);
        a.from_stride = apart ? x->whole.Lp : Lp;
        a.to_stride = apart ? Lp : x->whole.Lp;
        TRY(pieces_copy(m->dev, &a, apart ? place : piece, apart ? piece : place));
        at += rows * Lp;
    }
    return STATUS_OK;
}

/* What leaves: where its pads lie depends on the number of channels. */
static status pads_clear(passage *x, int64_t j, int64_t channels)
{
    if (x->rows[j % 2] == channels)
        return STATUS_OK;
    x->rows[j % 2] = channels;
    const int64_t bytes = channels * columns_of_all(x->m, x->whole) * wide_bytes(x->m);
    for (int i = 0; i < x->job->n_out; i++)
        if (x->job->out[i])
            TRY(device_clear(x->m->dev, x->moving[j % 2][x->job->n_in + i], (size_t)bytes));
    return STATUS_OK;
}

static status transform(passage *x, int64_t j)
{
    const context_job *job = x->job;
    const context_stretch mine = group_of(x->m, me(x->m), x->groups, j);
    void *in[CONTEXT_TENSORS] = {NULL}, *out[CONTEXT_TENSORS] = {NULL};
    if (mine.count == 0)
        return STATUS_OK;
    for (int i = 0; i < job->n_in; i++)
        if (job->in[i]) {
            in[i] = x->held[i];
            TRY(assemble(x, j, x->moving[j % 2][i], in[i], false));
        }
    for (int i = 0; i < job->n_out; i++)
        out[i] = job->out[i] ? x->held[job->n_in + i] : NULL;
    TRY(job->work(job->context, mine.first, mine.count, in, out));
    TRY(pads_clear(x, j, mine.count));
    for (int i = 0; i < job->n_out; i++)
        if (out[i])
            TRY(assemble(x, j, x->moving[j % 2][job->n_in + i], out[i], true));
    return STATUS_OK;
}

/* The pads of what is assembled are never written: zeros from here on. */
static status passage_open(passage *x)
{
    model *m = x->m;
    const context_job *job = x->job;
    const int64_t moved = x->width * columns_of_all(m, x->whole);
    const int64_t held = x->width * x->whole.B * x->whole.Lp;
    for (int i = 0; i < job->n_in + job->n_out; i++) {
        if (!(i < job->n_in ? job->in[i] : job->out[i - job->n_in]))
            continue;
        for (int p = 0; p < 2; p++) {
            x->moving[p][i] = take_wide(m, &m->workspace, moved);
            if (!x->moving[p][i])
                return arena_short(&m->workspace);
        }
        x->held[i] = take_wide(m, &m->workspace, held);
        if (!x->held[i])
            return arena_short(&m->workspace);
        if (i < job->n_in) /* what the work writes it writes with its pads */
            TRY(device_clear(m->dev, x->held[i], (size_t)(held * wide_bytes(m))));
    }
    return STATUS_OK;
}

/* Nobody shares: the channels are all here, chunk by chunk. */
static status in_place(model *m, batch_shape s, const context_job *job)
{
    const int64_t groups = context_groups(m, s.L);
    for (int64_t j = 0; j < groups; j++) {
        const context_stretch c = group_of(m, 0, groups, j);
        const int64_t at = c.first * s.B * s.Lp;
        void *in[CONTEXT_TENSORS], *out[CONTEXT_TENSORS];
        for (int i = 0; i < job->n_in; i++)
            in[i] = wide_at(m, job->in[i], at);
        for (int i = 0; i < job->n_out; i++)
            out[i] = wide_at(m, job->out[i], at);
        TRY(job->work(job->context, c.first, c.count, in, out));
    }
    return STATUS_OK;
}

/* An exchange waits for what the GPU has been given before it; a join makes what comes after wait
 * for all exchanges. So group j + 1 comes and group j - 1 goes while j is transformed. */
status context_channels(model *m, batch_shape s, const context_job *job)
{
    if (m->share.size <= 1)
        return in_place(m, s, job);
    passage x = {.m = m, .s = s, .whole = context_whole(m, s), .job = job};
    x.groups = context_groups(m, x.whole.L);
    x.width = context_width(m, x.whole.L);
    const size_t mark = arena_mark(&m->workspace);
    TRY(passage_open(&x));
    TRY(send_in(&x, 0));
    TRY(join(m));
    for (int64_t j = 0; j < x.groups; j++) {
        if (j > 0)
            TRY(send_back(&x, j - 1));
        if (j + 1 < x.groups)
            TRY(send_in(&x, j + 1));
        TRY(transform(&x, j));
        TRY(join(m));
    }
    TRY(send_back(&x, x.groups - 1));
    TRY(join(m));
    arena_release(&m->workspace, mark);
    return STATUS_OK;
}

batch_shape context_whole(const model *m, batch_shape s)
{
    if (m->share.size <= 1)
        return s;
    return (batch_shape){s.B, m->on.whole, length_padded(m->on.whole)};
}

status model_wait(model *m)
{
    if (m->share.gpus)
        TRY(comm_device_wait(m->share.gpus, "context"));
    return device_wait(m->dev);
}
