/* Backward pass, in the order of the parameter arena: head, blocks from the last to the first,
 * embedding. What a keep level left out is computed again, block by block. */
#include "model/parts.h"

static int64_t offset_of(const model *m, int i)
{
    return i < m->n ? m->list[i].offset : m->floats;
}

/* The gradients of tensors [first, end) of the list are complete. */
static status bucket_done(const buckets *x, int first, int end)
{
    const int64_t from = offset_of(x->m, first), to = offset_of(x->m, end);
    return x->on && to > from ? x->on(x->context, from, to - from) : STATUS_OK;
}

static status mlp_part(model *m, const block_parameters *p, batch_shape s, const float *x,
                       const void *h)
{
    const mlp_args a = mlp_of(m, p, s);
    const mlp_grads g = {.ln_w = gradient_of(m, p->norm2_w),
                         .ln_b = gradient_of(m, p->norm2_b),
                         .W1 = gradient_of(m, p->fc1_w),
                         .b1 = gradient_of(m, p->fc1_b),
                         .W2 = gradient_of(m, p->fc2_w),
                         .b2 = gradient_of(m, p->fc2_b)};
    return mlp_backward(m->dev, &a, x, h, m->dresidual, &g, &m->workspace);
}

static status block_backward(model *m, int64_t i, batch_shape s, const buckets *x)
{
    const block_parameters *p = &m->block[i];
    const block_kept *kept = &m->kept[i];
    arena *ws = &m->workspace;
    if (m->cfg.model.mixer == MIXER_NONE) {
        TRY(mlp_part(m, p, s, kept->in, kept->h));
        return bucket_done(x, p->fc2_w, p->norm2_b + 1);
    }
    const size_t mark = arena_mark(ws);
    const int64_t plane = m->d * s.B * s.Lp;
    void *u = kept->u, *conv = kept->conv;
    float *middle = kept->middle;
    size_t mixer = mark;
    if (!u) { /* KEEP_INPUT: the mixer's forward pass again */
        u = take_wide(m, ws, (m->order + 1) * plane);
        conv = take_wide(m, ws, (m->order - 1) * plane);
        mixer = arena_mark(ws);
        middle = take_floats(ws, plane);
        if (!u || !conv || !middle)
            return arena_short(ws);
        TRY(hyena_forward(m, p, s, kept->in, u, conv, middle));
    }
    TRY(mlp_part(m, p, s, middle, kept->h));
    TRY(bucket_done(x, p->fc2_w, p->norm2_b + 1));
    arena_release(ws, mixer);
    TRY(hyena_backward(m, p, s, kept->in, u, conv, m->dresidual));
    TRY(bucket_done(x, p->out_w, p->norm1_b + 1));
    arena_release(ws, mark);
    return STATUS_OK;
}

static status site_part(model *m, const batch *b, loss_sum *loss)
{
    const sites_args a = sites_of(m, b, b->s);
    const sites_grads g = {.ln_w = gradient_of(m, m->ln_f_w),
                           .ln_b = gradient_of(m, m->ln_f_b),
                           .W = gradient_of(m, m->state_w),
                           .b = gradient_of(m, m->state_b),
                           .V = gradient_of(m, m->run_w),
                           .Eh = gradient_of(m, m->head_hidden_w),
                           .eh = gradient_of(m, m->head_hidden_b),
                           .Eo = gradient_of(m, m->head_out_w),
                           .eo = gradient_of(m, m->head_out_b),
                           .scale = gradient_of(m, m->scale)};
    float *drows = spans_site_gradients(m);
    if (!drows)
        return failure_last()->code;
    TRY(sites_backward(m->dev, &a, m->residual, loss, m->dresidual, &g, drows, &m->workspace));
    return spans_collect_sites(m);
}

static status head_part(model *m, const batch *b, loss_sum *loss)
{
    if (m->site_classes)
        return site_part(m, b, loss);
    if (b->label && m->classes > 0) {
        const classify_args a = classify_of(m, b, b->s);
        const classify_grads g = {.ln_w = gradient_of(m, m->ln_f_w),
                                  .ln_b = gradient_of(m, m->ln_f_b),
                                  .Wh = gradient_of(m, m->head_hidden_w),
                                  .bh = gradient_of(m, m->head_hidden_b),
                                  .Wo = gradient_of(m, m->head_out_w),
                                  .bo = gradient_of(m, m->head_out_b)};
        return classify_backward(m->dev, &a, m->residual, loss, m->dresidual, &g, &m->workspace);
    }
    if (!b->targets)
        return fail(STATUS_INTERNAL, "model: a batch without targets has no gradient; report this");
    const head_args a = head_of(m, b, b->s);
    return head_backward(m->dev, &a, m->residual, loss, m->dresidual, gradient_of(m, m->ln_f_w),
                         gradient_of(m, m->ln_f_b), gradient_of(m, m->embedding), &m->workspace);
}

static status embed_part(model *m, const batch *b)
{
    arena *ws = &m->workspace;
    const size_t mark = arena_mark(ws);
    float *dA[EMBED_LEVELS] = {NULL}, *dBm[EMBED_LEVELS] = {NULL};
    const int levels = embed_levels(m);
    const int64_t n = b->s.B * b->s.Lp;
    for (int i = 0; i < levels; i++) {
        dA[i] = take_floats(ws, n * m->rank);
        dBm[i] = gradient_of(m, m->base[i]);
        if (!dA[i])
            return arena_short(ws);
    }
    const embed_args a = embed_of(m, b, b->s);
    TRY(embed_backward(m->dev, &a, m->dresidual, gradient_of(m, m->embedding), dA, dBm, ws));
    /* Without a place (bench) no column has a row. */
    for (int i = 0; i < (m->position ? m->levels : 0); i++) {
        TRY(rows_collect(m, i, n, m->rows[i].slot_on, dA[i], NULL, ws));
        int at = m->levels + i;
        if (m->absent) {
            TRY(spans_collect_absent(m, i, dA[at]));
            at += m->levels;
        }
        if (m->next)
            TRY(rows_collect(m, i, n, m->next_slot_on[i], dA[at], NULL, ws));
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

status passes(model *m, const batch *b, loss_sum *loss, const buckets *x)
{
    TRY(blocks_forward(m, b->s, true));
    TRY(head_part(m, b, loss));
    const int body = m->layers   ? m->block[m->layers - 1].fc2_w
                     : m->levels ? m->base[0]
                                 : m->embedding;
    TRY(bucket_done(x, 0, body));
    for (int64_t i = m->layers - 1; i >= 0; i--)
        TRY(block_backward(m, i, b->s, x));
    return STATUS_OK;
}

status model_backward(model *m, const batch *b, loss_sum *loss, bucket_ready on_bucket,
                      void *context)
{
    TRY(check_batch(m, b));
    if (!m->training)
        return fail(STATUS_INTERNAL, "model: prepared without training; report this");
    const buckets x = {m, on_bucket, context};
    TRY(begin_forward(m, b, true));
    b = &m->on;
    TRY(graph_passes(m, b, loss ? loss : &m->unasked, &x));
    TRY(embed_part(m, b));
    return bucket_done(&x, m->levels ? m->base[0] : m->embedding, m->n);
}
