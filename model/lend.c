/* What a batch is to the device. Arrays that the host fills and operations read are twins: one
 * array on a CPU; elsewhere the host's, in memory that copies fast, and the device's. The outputs
 * of a forward pass go the other way. */
#include "model/parts.h"

#include <string.h>

/* ---- twins ---- */

void *take_host(model *m, size_t bytes)
{
    return arena_take(device_is_host(m->dev) ? &m->activations : &m->twins, bytes);
}

void *take_twin(model *m, size_t bytes, void **on)
{
    *on = arena_take(&m->activations, bytes);
    if (!*on || device_is_host(m->dev))
        return *on;
    return arena_take(&m->twins, bytes);
}

status twin_make(device *dev, size_t bytes, twin *t)
{
    *t = (twin){0};
    TRY(device_memory_take(dev, bytes, &t->on));
    t->host = t->on;
    if (device_is_host(dev))
        return STATUS_OK;
    t->host = NULL;
    const status st = device_host_take(dev, bytes, &t->host);
    if (st != STATUS_OK)
        twin_free(dev, t);
    return st;
}

void twin_free(device *dev, twin *t)
{
    if (t->host != t->on)
        device_host_give(dev, t->host);
    if (t->on)
        device_memory_give(dev, t->on);
    *t = (twin){0};
}

/* ---- a batch's own arrays: copied to where the device reads fast, and the caller may go on ----
 */

int64_t lend_bytes(const model *m, batch_shape s)
{
    if (device_is_host(m->dev))
        return 0;
    return (int64_t)(2 * arena_round((size_t)(s.B * s.Lp)) +
                     2 * arena_round((size_t)s.B * sizeof(int32_t)) +
                     arena_round((size_t)(s.B + 1) * sizeof(int64_t)));
}

static bool twin_take(model *m, size_t bytes, twin *t)
{
    t->host = take_twin(m, bytes, &t->on);
    return t->host;
}

status lend_reserve(model *m, batch_shape s)
{
    lent *x = &m->lent;
    if (device_is_host(m->dev))
        return STATUS_OK;
    const size_t columns = (size_t)(s.B * s.Lp), B = (size_t)s.B;
    const bool all = twin_take(m, columns, &x->ids) && twin_take(m, columns, &x->targets) &&
                     twin_take(m, B * sizeof(int32_t), &x->label) &&
                     twin_take(m, B * sizeof(int32_t), &x->count) &&
                     twin_take(m, (B + 1) * sizeof(int64_t), &x->start);
    return all ? STATUS_OK : arena_short(&m->activations);
}

static status send(model *m, twin *t, const void *from, size_t bytes)
{
    memcpy(t->host, from, bytes);
    return device_upload(m->dev, t->on, t->host, bytes);
}

/* Room for so many bytes; what was there is lost. */
static status twin_room(model *m, twin *t, int64_t *room, int64_t bytes)
{
    if (bytes <= *room)
        return STATUS_OK;
    TRY(model_wait(m)); /* the batch before may still read it */
    twin_free(m->dev, t);
    *room = 0;
    TRY(twin_make(m->dev, (size_t)(bytes + bytes / 4), t));
    *room = bytes + bytes / 4;
    return STATUS_OK;
}

static status lend_spans(model *m, const batch *b)
{
    lent *x = &m->lent;
    const span_sites *from = &b->span;
    const int64_t first = from->start[0], n = from->start[b->s.B] - first;
    TRY(twin_room(m, &x->token, &x->token_room, n * (int64_t)sizeof(int32_t) + 1));
    TRY(twin_room(m, &x->carried, &x->carried_room, n + 1));
    TRY(send(m, &x->start, from->start, (size_t)(b->s.B + 1) * sizeof(int64_t)));
    TRY(send(m, &x->token, from->token + first, (size_t)n * sizeof(int32_t)));
    TRY(send(m, &x->carried, from->carried + first, (size_t)n));
    /* Entries are addressed by start's own values. */
    m->on.span.start = x->start.on;
    m->on.span.token = (const int32_t *)((uintptr_t)x->token.on - (size_t)first * sizeof(int32_t));
    m->on.span.carried = (const uint8_t *)((uintptr_t)x->carried.on - (size_t)first);
    return STATUS_OK;
}

status lend_batch(model *m, const batch *b)
{
    lent *x = &m->lent;
    m->on = *b;
    if (device_is_host(m->dev))
        return STATUS_OK;
    /* The host's copies of the batch before have been read; alone the device need not be done with
     * it. */
    TRY(m->share.size > 1 ? model_wait(m) : device_upload_wait(m->dev));
    const size_t columns = (size_t)(b->s.B * b->s.Lp), B = (size_t)b->s.B;
    m->on.ids = x->ids.on;
    TRY(send(m, &x->ids, b->ids, columns));
    if (b->targets) {
        m->on.targets = x->targets.on;
        TRY(send(m, &x->targets, b->targets, columns));
    }
    if (b->label) {
        m->on.label = x->label.on;
        TRY(send(m, &x->label, b->label, B * sizeof *b->label));
    }
    if (b->count) {
        m->on.count = x->count.on;
        TRY(send(m, &x->count, b->count, B * sizeof *b->count));
    }
    return m->site_classes && b->span.start ? lend_spans(m, b) : STATUS_OK;
}

/* ---- outputs ---- */

#define OUTPUTS 7

/* Every output that is asked for: where it is wanted, where it is on the device, its bytes. */
static int outputs_list(const model *m, const batch *b, const model_outputs *out, model_outputs *on,
                        void *wanted[OUTPUTS], void **there[OUTPUTS], int64_t bytes[OUTPUTS])
{
    const int64_t columns = b->s.B * b->s.Lp, f = (int64_t)sizeof(float);
    const int64_t entries =
        b->span.start && out->site_logits ? b->span.start[b->s.B] - b->span.start[0] : 0;
    const struct {
        void *wanted, **there;
        int64_t bytes;
    } all[OUTPUTS] = {
        {out->hidden, (void **)&on->hidden, m->d * columns * f},
        {out->logits, (void **)&on->logits, VOCABULARY_PADDED * columns * f},
        {out->token_loss, (void **)&on->token_loss, columns * f},
        {out->class_logits, (void **)&on->class_logits, b->s.B * m->classes * f},
        {out->pooled, (void **)&on->pooled, b->s.B * m->d * f},
        {out->site_logits, (void **)&on->site_logits, entries * m->site_classes * f},
        {out->sequence_nll, (void **)&on->sequence_nll, b->s.B * (int64_t)sizeof(double)},
    };
    int n = 0;
    for (int i = 0; i < OUTPUTS; i++) {
        if (!all[i].wanted)
            continue;
        wanted[n] = all[i].wanted;
        there[n] = all[i].there;
        bytes[n++] = all[i].bytes;
    }
    return n;
}

static status outputs_room(model *m, int64_t bytes)
{
    lent *x = &m->lent;
    if (bytes <= x->outputs_room)
        return STATUS_OK;
    TRY(model_wait(m));
    device_memory_give(m->dev, x->outputs);
    x->outputs = NULL;
    x->outputs_room = 0;
    TRY(device_memory_take(m->dev, (size_t)(bytes + bytes / 4), &x->outputs));
    x->outputs_room = bytes + bytes / 4;
    return STATUS_OK;
}

status outputs_take(model *m, const batch *b, const model_outputs *out, model_outputs *on)
{
    *on = *out;
    if (device_is_host(m->dev))
        return STATUS_OK;
    void *wanted[OUTPUTS], **there[OUTPUTS];
    int64_t bytes[OUTPUTS], total = 0;
    const int n = outputs_list(m, b, out, on, wanted, there, bytes);
    for (int i = 0; i < n; i++)
        total += (int64_t)arena_round((size_t)bytes[i]);
    TRY(outputs_room(m, total));
    char *at = m->lent.outputs;
    for (int i = 0; i < n; i++) {
        *there[i] = at;
        at += arena_round((size_t)bytes[i]);
    }
    return STATUS_OK;
}

status outputs_give(model *m, const batch *b, const model_outputs *out, model_outputs *on)
{
    if (device_is_host(m->dev))
        return STATUS_OK;
    void *wanted[OUTPUTS], **there[OUTPUTS];
    int64_t bytes[OUTPUTS];
    const int n = outputs_list(m, b, out, on, wanted, there, bytes);
    for (int i = 0; i < n; i++)
        TRY(device_download(m->dev, wanted[i], *there[i], (size_t)bytes[i]));
    return model_wait(m);
}

void lend_free(model *m)
{
    lent *x = &m->lent;
    twin_free(m->dev, &x->token);
    twin_free(m->dev, &x->carried);
    if (x->outputs)
        device_memory_give(m->dev, x->outputs);
    *x = (lent){0};
}
