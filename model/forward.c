/* Forward pass: embed, blocks, head or classifier. In training each block leaves what its keep
 * level says; otherwise one residual is rewritten in place. */
#include "model/parts.h"

status check_batch(const model *m, const batch *b)
{
    if (m->shape.B == 0)
        return fail(STATUS_INTERNAL, "model: a batch came before model_prepare; report this");
    if (b->s.B < 1 || b->s.L < 1 || b->s.Lp != length_padded(b->s.L) || b->s.B > m->shape.B ||
        b->s.L > m->shape.L || (m->share.size > 1) != (b->whole > 0))
        return fail(
            STATUS_INTERNAL, "model: a batch of %lldx%lld came, prepared is %lldx%lld; report this",
            (long long)b->s.B, (long long)b->s.L, (long long)m->shape.B, (long long)m->shape.L);
    if (m->levels && b->position && !m->position)
        return fail(STATUS_USAGE, "model: position.length is auto and no data set says how long "
                                  "the chromosomes are; give "
                                  "position.length");
    if (spans_needed(m) && (!b->span.start || !m->position))
        return fail(STATUS_INTERNAL, "model: a batch without the sites of its windows came to a "
                                     "model that reads them; report this");
    return STATUS_OK;
}

/* Mixer and MLP of block i: in -> out. `in` may be `out`, unless the block keeps its input. */
static status block_forward(model *m, int64_t i, batch_shape s, const float *in,
                            const block_kept *keep, float *out)
{
    const block_parameters *p = &m->block[i];
    const mlp_args a = mlp_of(m, p, s);
    if (m->cfg.model.mixer == MIXER_NONE)
        return mlp_forward(m->dev, &a, in, keep ? keep->h : NULL, out, &m->workspace);
    float *middle = keep && keep->middle ? keep->middle : out;
    TRY(hyena_forward(m, p, s, in, keep ? keep->u : NULL, keep ? keep->conv : NULL, middle));
    return mlp_forward(m->dev, &a, middle, keep ? keep->h : NULL, out, &m->workspace);
}

static status add_sinusoid(model *m, const batch *b)
{
    const int64_t columns = b->s.B * b->s.Lp;
    position_sinusoid(m->d, columns, b->position, m->added);
    return device_upload(m->dev, m->added_on, m->added,
                         (size_t)(m->d * columns) * sizeof *m->added);
}

/* Where the embedding is written. */
float *first_residual(const model *m, bool keep)
{
    return keep && m->layers ? m->kept[0].in : m->residual;
}

status begin_forward(model *m, const batch *b, bool keep)
{
    TRY(lend_batch(m, b));
    /* Only a backward pass has gradients for rows that nobody has touched yet. */
    TRY(rows_prepare(m, b, keep));
    TRY(spans_prepare(m, b, keep));
    if (m->cfg.position.encoding == ENCODING_SINUSOIDAL && b->position)
        TRY(add_sinusoid(m, b));
    embed_args a = embed_of(m, &m->on, b->s);
    if (!b->position)
        a.added = NULL;
    return embed_forward(m->dev, &a, first_residual(m, keep), &m->workspace);
}

status blocks_forward(model *m, batch_shape s, bool keep)
{
    float *residual = first_residual(m, keep);
    for (int64_t i = 0; i < m->layers; i++) {
        float *next = keep && i + 1 < m->layers ? m->kept[i + 1].in : m->residual;
        TRY(block_forward(m, i, s, residual, keep ? &m->kept[i] : NULL, next));
        residual = next;
    }
    return STATUS_OK;
}

/* Head, classifier or site head: what is asked for, where the device has it. */
static status heads_forward(model *m, const batch *b, const model_outputs *out, loss_sum *loss)
{
    const bool classifier = b->label || out->class_logits || out->pooled;
    if (m->site_classes && (classifier || !out->logits)) {
        const sites_args a = sites_of(m, b, b->s);
        return sites_forward(m->dev, &a, m->residual, out->class_logits, out->site_logits,
                             out->sequence_nll, loss ? loss : &m->unasked, &m->workspace);
    }
    if (out->hidden || out->logits || out->token_loss || (b->targets && !b->label) || !classifier) {
        const head_args a = head_of(m, b, b->s);
        TRY(head_forward(m->dev, &a, m->residual, out->hidden, out->logits, out->token_loss,
                         loss && !b->label ? loss : &m->unasked, &m->workspace));
    }
    if (classifier && m->classes > 0) {
        const classify_args a = classify_of(m, b, b->s);
        TRY(classify_forward(m->dev, &a, m->residual, out->pooled, out->class_logits,
                             loss && b->label ? loss : &m->unasked, &m->workspace));
    }
    return STATUS_OK;
}

status model_forward(model *m, const batch *b, const model_outputs *out, loss_sum *loss)
{
    static const model_outputs none = {0};
    model_outputs on;
    if (!out)
        out = &none;
    TRY(check_batch(m, b));
    TRY(begin_forward(m, b, false));
    TRY(blocks_forward(m, b->s, false));
    TRY(outputs_take(m, b, out, &on));
    TRY(heads_forward(m, &m->on, &on, loss));
    return outputs_give(m, b, out, &on);
}
