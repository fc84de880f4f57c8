/* Forward and backward passes as CUDA graphs: where a batch is small, launching its hundreds of
 * kernels one by one takes longer than they do. Recorded is what depends on the shape alone, from
 * the first block's forward pass to its backward pass; the batch's arrays, its rows, the embedding
 * with its dropout and the exchanges between workers stay outside. The largest shape is recorded,
 * once it has run, so that nothing is made or grown inside the recording. */
#include "model/parts.h"

#include "runtime/core/log.h"

#include <stdlib.h>
#include <string.h>

#define AUTO_COLUMNS 8192 /* not measured yet */

void graph_close(model *m)
{
    step_graph *g = &m->graph;
    for (int i = 0; i < g->parts; i++)
        device_graph_free(m->dev, &g->part[i].run);
    free(g->part);
    const bool useless = g->useless;
    *g = (step_graph){.useless = useless};
}

static bool wanted(const model *m, const batch *b)
{
    const graph_kind kind = m->cfg.train.graph;
    return kind != GRAPH_OFF && !m->graph.useless && device_graphs(m->dev) && m->layers > 0 &&
           m->share.size == 1 && !m->site_classes &&
           (kind == GRAPH_ON || b->s.B * b->s.Lp <= AUTO_COLUMNS);
}

/* Would the passes of this batch be queued with the very same arguments? */
static bool same(const step_graph *g, const batch *b)
{
    return g->s.B == b->s.B && g->s.L == b->s.L && g->s.Lp == b->s.Lp && g->targets == b->targets &&
           g->label == b->label;
}

/* ---- recording ---- */

typedef struct {
    model *m;
    int64_t end; /* floats: gradients of the passes end here */
} recording;

static status part_end(model *m, int64_t first, int64_t count)
{
    step_graph *g = &m->graph;
    device_graph *run = NULL;
    TRY(device_graph_end(m->dev, &run));
    if (g->parts == g->room) {
        const int room = g->room ? 2 * g->room : 32;
        graph_part *more = realloc(g->part, (size_t)room * sizeof *more);
        if (!more) {
            device_graph_free(m->dev, &run);
            return fail(STATUS_MEMORY, "train.graph: no memory for a graph; set it to off");
        }
        g->part = more;
        g->room = room;
    }
    g->part[g->parts++] = (graph_part){run, first, count};
    return STATUS_OK;
}

/* A bucket ends a part and, unless it is the last one, the next begins. */
static status part_done(void *context, int64_t first, int64_t count)
{
    const recording *r = context;
    TRY(part_end(r->m, first, count));
    return first + count < r->end ? device_graph_begin(r->m->dev) : STATUS_OK;
}

static status record(model *m, const batch *b)
{
    const size_t mark = arena_mark(&m->workspace);
    const int behind = m->levels ? m->base[0] : m->embedding;
    recording r = {m, m->list[behind].offset};
    const buckets x = {m, part_done, &r};
    TRY(device_graph_begin(m->dev));
    const status st = passes(m, b, &m->graph.loss, &x);
    if (st != STATUS_OK) { /* whatever is being recorded still ends */
        const failure why = *failure_last();
        device_graph *rest = NULL;
        if (device_graph_end(m->dev, &rest) == STATUS_OK)
            device_graph_free(m->dev, &rest);
        failure_set(&why);
        arena_release(&m->workspace, mark);
    }
    return st;
}

/* Recorded now, or this run and all after it go without. */
static status try_record(model *m, const batch *b)
{
    const status st = record(m, b);
    if (st == STATUS_OK)
        return STATUS_OK;
    const failure why = *failure_last();
    graph_close(m); /* parts of it may be there */
    if (m->cfg.train.graph == GRAPH_ON)
        return failure_set(&why);
    log_warning("train.graph: %s; this run goes on without graphs", why.text);
    m->graph.useless = true;
    return STATUS_OK;
}

/* ---- running ---- */

static status replay(model *m, loss_sum *loss, const buckets *x)
{
    for (int i = 0; i < m->graph.parts; i++) {
        const graph_part *p = &m->graph.part[i];
        TRY(device_graph_run(m->dev, p->run, &m->graph.loss, loss));
        if (x->on && p->count > 0)
            TRY(x->on(x->context, p->first, p->count));
    }
    return STATUS_OK;
}

status graph_passes(model *m, const batch *b, loss_sum *loss, const buckets *x)
{
    step_graph *g = &m->graph;
    if (!wanted(m, b))
        return passes(m, b, loss, x);
    if (g->parts > 0 && device_graph_gone(m->dev, g->part[0].run))
        graph_close(m);
    if (same(g, b)) {
        if (g->parts == 0)
            TRY(try_record(m, b));
        return g->parts > 0 ? replay(m, loss, x) : passes(m, b, loss, x);
    }
    if (g->parts == 0 && b->s.B >= g->s.B) { /* of a step's batches the last may be smaller */
        g->s = b->s;
        g->targets = b->targets;
        g->label = b->label;
    }
    return passes(m, b, loss, x);
}
