/* The public operations: each goes to the table of its device. What they compute is declared in
 * kernels/ops.h. */
#include "kernels/ops.h"
#include "kernels/check.h"
#include "runtime/core/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Runs an operation and adds its wall time to the device's account: two clock reads beside work of
 * microseconds at least. */
#define TIMED_WIDE(kind, bf16, out, n, call)                                                       \
    do {                                                                                           \
        const double begun_ = begin(dev, __func__);                                                \
        return end(dev, kind, begun_, (call), __func__, (written){out, n, bf16});                  \
    } while (0)
#define TIMED(kind, out, n, call) TIMED_WIDE(kind, false, out, n, call)

static double begin(device *dev, const char *name)
{
    if (dev->mark)
        dev->mark(name);
    const double now_s = clock_monotonic_s();
    if (dev->tick)
        dev->tick(dev->tick_context, name, now_s);
    return now_s;
}

/* An error that comes with the wait is of this operation, where every one is waited for. */
static status end(device *dev, op_kind kind, double begun, status st, const char *name, written w)
{
    if (st == STATUS_OK && (dev->synchronous || dev->checked)) {
        st = device_wait(dev);
        if (st != STATUS_OK) {
            const failure f = *failure_last();
            st = fail(st, "%s: worker %d: %s", name, dev->worker, f.text);
        }
    }
    dev->op_seconds[kind] += clock_monotonic_s() - begun;
    if (dev->mark)
        dev->mark(NULL);
    return st == STATUS_OK && dev->checked && w.at ? check_written(dev, kind, name, w) : st;
}

const char *op_name(op_kind kind)
{
    static const char *const NAME[OP_KINDS] = {"embed",     "mixin", "filter",   "conv",   "mixout",
                                               "mlp",       "head",  "classify", "ranges", "sites",
                                               "optimizer", "rows",  "pieces"};
    return NAME[kind];
}

void device_close(device **dev)
{
    if (!dev || !*dev)
        return;
    check_close(*dev);
    if (!(*dev)->described)
        (*dev)->ops->close(*dev);
    free(*dev);
    *dev = NULL;
}

status device_memory_take(device *dev, size_t bytes, void **out)
{
    return dev->ops->memory_take(dev, bytes, out);
}

void device_memory_give(device *dev, void *memory)
{
    dev->ops->memory_give(dev, memory);
}

status device_upload(device *dev, void *to, const void *from, size_t bytes)
{
    return to == from || !bytes ? STATUS_OK : dev->ops->upload(dev, to, from, bytes);
}

status device_upload_wait(device *dev)
{
    return dev->ops->upload_wait(dev);
}

status device_host_take(device *dev, size_t bytes, void **out)
{
    return dev->ops->host_take(dev, bytes, out);
}

void device_host_give(device *dev, void *memory)
{
    if (memory)
        dev->ops->host_give(dev, memory);
}

status device_room_of(device *dev, device_room *out)
{
    return dev->ops->room(dev, out);
}

status device_measure(device *dev, int64_t d, bool mixed, double *gemm_flops_per_s,
                      double *copy_bytes_per_s)
{
    return dev->ops->measure(dev, d, mixed, gemm_flops_per_s, copy_bytes_per_s);
}

status device_view_open(device *dev, const void *on, size_t bytes, bool read, device_view *v)
{
    *v = (device_view){.dev = dev, .on = (void *)(uintptr_t)on, .bytes = bytes};
    if (device_is_host(dev)) {
        v->host = v->on;
        return STATUS_OK;
    }
    TRY(device_host_take(dev, bytes ? bytes : 1, &v->host));
    if (!read || !bytes)
        return STATUS_OK;
    const status st = device_download(dev, v->host, on, bytes);
    return st == STATUS_OK ? st : device_view_close(v, false, st);
}

status device_view_close(device_view *v, bool write, status st)
{
    if (!v->dev || v->host == v->on) {
        *v = (device_view){0};
        return st;
    }
    if (write && st == STATUS_OK && v->bytes)
        st = device_upload(v->dev, v->on, v->host, v->bytes);
    if (write && st == STATUS_OK)
        st = device_wait(v->dev);
    device_host_give(v->dev, v->host);
    *v = (device_view){0};
    return st;
}

status device_download(device *dev, void *to, const void *from, size_t bytes)
{
    return to == from || !bytes ? device_wait(dev) : dev->ops->download(dev, to, from, bytes);
}

status device_wait(device *dev)
{
    return dev->ops->wait(dev);
}

/* Where operations are waited for one by one, each must run. */
bool device_graphs(const device *dev)
{
    return dev->ops->graph_begin && !dev->described && !dev->synchronous && !dev->checked &&
           !dev->ops->graph_gone(dev, NULL);
}

status device_graph_begin(device *dev)
{
    return dev->ops->graph_begin(dev);
}

status device_graph_end(device *dev, device_graph **out)
{
    return dev->ops->graph_end(dev, out);
}

status device_graph_run(device *dev, device_graph *g, const void *recorded, void *loss)
{
    if (dev->tick)
        dev->tick(dev->tick_context, __func__, clock_monotonic_s());
    return dev->ops->graph_run(dev, g, recorded, loss);
}

bool device_graph_gone(const device *dev, const device_graph *g)
{
    return dev->ops->graph_gone(dev, g);
}

void device_graph_free(device *dev, device_graph **g)
{
    if (*g)
        dev->ops->graph_free(dev, *g);
    *g = NULL;
}

void device_drain(device *dev)
{
    dev->ops->drain(dev, false);
}

void device_abandon(device *dev)
{
    if (dev)
        dev->ops->drain(dev, true);
}

status device_clear(device *dev, void *at, size_t bytes)
{
    return dev->ops->clear(dev, at, bytes);
}

status device_copy(device *dev, void *to, const void *from, size_t bytes)
{
    return dev->ops->copy(dev, to, from, bytes);
}

status device_arena_open(device *dev, arena *a, const char *name, size_t size)
{
    if (device_is_host(dev))
        return arena_open(a, name, size);
    memset(a, 0, sizeof *a);
    void *base = NULL;
    const size_t bytes = arena_round(size ? size : ARENA_ALIGN);
    TRY(device_memory_take(dev, bytes, &base));
    *a = (arena){.name = name, .base = base, .size = bytes};
    return device_clear(dev, base, bytes);
}

void device_arena_close(device *dev, arena *a)
{
    if (!dev || device_is_host(dev)) {
        arena_close(a);
        return;
    }
    if (a->base)
        device_drain(dev); /* queued work may be inside */
    device_memory_give(dev, a->base);
    memset(a, 0, sizeof *a);
}

status embed_forward(device *dev, const embed_args *a, float *residual, arena *ws)
{
    TIMED(OP_EMBED, residual, a->d * a->s.B * a->s.Lp,
          dev->ops->embed_forward(dev, a, residual, ws));
}

status embed_backward(device *dev, const embed_args *a, const float *dresidual, float *dE,
                      float *const *dA, float *const *dBm, arena *ws)
{
    TIMED(OP_EMBED, NULL, 0, dev->ops->embed_backward(dev, a, dresidual, dE, dA, dBm, ws));
}

status mixin_forward(device *dev, const mixin_args *a, const float *residual, void *u, void *gates,
                     void *g, arena *ws)
{
    TIMED_WIDE(OP_MIXIN, a->mixed, g, a->d * a->s.B * a->s.Lp,
               dev->ops->mixin_forward(dev, a, residual, u, gates, g, ws));
}

status mixin_regate(device *dev, const mixin_args *a, const void *u, void *gates, void *g,
                    arena *ws)
{
    TIMED_WIDE(OP_MIXIN, a->mixed, g, a->d * a->s.B * a->s.Lp,
               dev->ops->mixin_regate(dev, a, u, gates, g, ws));
}

status mixin_backward(device *dev, const mixin_args *a, const float *residual, const void *u,
                      const void *dgates, const void *dg, float *dresidual, float *dhalo,
                      const mixin_grads *grads, arena *ws)
{
    TIMED(OP_MIXIN, dresidual, a->d * a->s.B * a->s.Lp,
          dev->ops->mixin_backward(dev, a, residual, u, dgates, dg, dresidual, dhalo, grads, ws));
}

status filter_forward(device *dev, const filter_args *a, float *k, int64_t k_stride, arena *ws)
{
    TIMED(OP_FILTER, NULL, 0, dev->ops->filter_forward(dev, a, k, k_stride, ws));
}

status filter_backward(device *dev, const filter_args *a, const float *dk, int64_t k_stride,
                       const filter_grads *grads, arena *ws)
{
    TIMED(OP_FILTER, NULL, 0, dev->ops->filter_backward(dev, a, dk, k_stride, grads, ws));
}

status conv_forward(device *dev, const conv_args *a, const float *k, const float *D, const void *g,
                    const void *gate, void *y, arena *ws)
{
    TIMED_WIDE(OP_CONV, a->mixed, y, a->dc * a->s.B * a->s.Lp,
               dev->ops->conv_forward(dev, a, k, D, g, gate, y, ws));
}

status conv_backward(device *dev, const conv_args *a, const float *k, const float *D, const void *g,
                     const void *gate, const void *dy, void *dg, void *dgate, float *dk, float *dD,
                     arena *ws)
{
    TIMED_WIDE(OP_CONV, a->mixed, dg, a->dc * a->s.B * a->s.Lp,
               dev->ops->conv_backward(dev, a, k, D, g, gate, dy, dg, dgate, dk, dD, ws));
}

status mixout_forward(device *dev, const mixout_args *a, const void *gate, const void *y,
                      const float *residual, float *out, arena *ws)
{
    TIMED(OP_MIXOUT, out, a->d * a->s.B * a->s.Lp,
          dev->ops->mixout_forward(dev, a, gate, y, residual, out, ws));
}

status mixout_backward(device *dev, const mixout_args *a, const void *gate, const void *y,
                       const float *dout, void *dgate, void *dy, float *dW, float *db, arena *ws)
{
    TIMED_WIDE(OP_MIXOUT, a->mixed, dy, a->d * a->s.B * a->s.Lp,
               dev->ops->mixout_backward(dev, a, gate, y, dout, dgate, dy, dW, db, ws));
}

status mlp_forward(device *dev, const mlp_args *a, const float *x, void *h, float *out, arena *ws)
{
    TIMED(OP_MLP, out, a->d * a->s.B * a->s.Lp, dev->ops->mlp_forward(dev, a, x, h, out, ws));
}

status mlp_backward(device *dev, const mlp_args *a, const float *x, const void *h, float *dresidual,
                    const mlp_grads *grads, arena *ws)
{
    TIMED(OP_MLP, dresidual, a->d * a->s.B * a->s.Lp,
          dev->ops->mlp_backward(dev, a, x, h, dresidual, grads, ws));
}

status head_forward(device *dev, const head_args *a, const float *residual, float *hidden,
                    float *logits, float *token_loss, loss_sum *loss, arena *ws)
{
    TIMED(OP_HEAD, hidden, a->d * a->s.B * a->s.Lp,
          dev->ops->head_forward(dev, a, residual, hidden, logits, token_loss, loss, ws));
}

status head_backward(device *dev, const head_args *a, const float *residual, loss_sum *loss,
                     float *dresidual, float *dln_w, float *dln_b, float *dE, arena *ws)
{
    TIMED(OP_HEAD, dresidual, a->d * a->s.B * a->s.Lp,
          dev->ops->head_backward(dev, a, residual, loss, dresidual, dln_w, dln_b, dE, ws));
}

status classify_forward(device *dev, const classify_args *a, const float *residual, float *pooled,
                        float *logits, loss_sum *loss, arena *ws)
{
    TIMED(OP_CLASSIFY, logits, a->s.B * a->classes,
          dev->ops->classify_forward(dev, a, residual, pooled, logits, loss, ws));
}

status classify_backward(device *dev, const classify_args *a, const float *residual, loss_sum *loss,
                         float *dresidual, const classify_grads *grads, arena *ws)
{
    TIMED(OP_CLASSIFY, dresidual, a->d * a->s.B * a->s.Lp,
          dev->ops->classify_backward(dev, a, residual, loss, dresidual, grads, ws));
}

status ranges_forward(device *dev, const ranges_args *a, float *out, arena *ws)
{
    TIMED(OP_RANGES, out, a->columns * a->k, dev->ops->ranges_forward(dev, a, out, ws));
}

status sites_forward(device *dev, const sites_args *a, const float *residual, float *class_logits,
                     float *site_logits, double *sequence_nll, loss_sum *loss, arena *ws)
{
    TIMED(OP_SITES, class_logits, a->s.B * a->classes,
          dev->ops->sites_forward(dev, a, residual, class_logits, site_logits, sequence_nll, loss,
                                  ws));
}

status sites_backward(device *dev, const sites_args *a, const float *residual, loss_sum *loss,
                      float *dresidual, const sites_grads *grads, float *drows, arena *ws)
{
    TIMED(OP_SITES, dresidual, a->d * a->s.B * a->s.Lp,
          dev->ops->sites_backward(dev, a, residual, loss, dresidual, grads, drows, ws));
}

status norm_squares(device *dev, const float *x, int64_t n, double *sum, arena *ws)
{
    TIMED(OP_OPTIMIZER, NULL, 0, dev->ops->norm_squares(dev, x, n, sum, ws));
}

status adamw_update(device *dev, const adamw_args *a, int64_t n, float *p, const float *g, float *m,
                    float *v)
{
    TIMED(OP_OPTIMIZER, p, n, dev->ops->adamw_update(dev, a, n, p, g, m, v));
}

status rows_reduce(device *dev, int64_t n, int64_t slots, int64_t k, const int32_t *slot,
                   const int32_t *of, const float *grad, const int32_t *place, float *total,
                   arena *ws)
{
    TIMED(OP_ROWS, NULL, 0,
          dev->ops->rows_reduce(dev, n, slots, k, slot, of, grad, place, total, ws));
}

status rows_gather(device *dev, int64_t count, int64_t k, const int32_t *index, const float *from,
                   float *out)
{
    TIMED(OP_ROWS, out, count * k, dev->ops->rows_gather(dev, count, k, index, from, out));
}

status rows_adam(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                 const int32_t *unique, const float *sum, float *p, float *m, float *v,
                 int64_t *last)
{
    TIMED(OP_ROWS, NULL, 0, dev->ops->rows_adam(dev, a, count, k, unique, sum, p, m, v, last));
}

status rows_catch_up(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                     const int32_t *unique, const float *p, const float *m, const float *v,
                     const int64_t *last, float *out)
{
    TIMED(OP_ROWS, out, count * k,
          dev->ops->rows_catch_up(dev, a, count, k, unique, p, m, v, last, out));
}

status pieces_copy(device *dev, const pieces_args *a, const void *from, void *to)
{
    TIMED(OP_PIECES, NULL, 0, dev->ops->pieces_copy(dev, a, from, to));
}

status pieces_add(device *dev, const pieces_args *a, const float *from, float *to)
{
    TIMED(OP_PIECES, NULL, 0, dev->ops->pieces_add(dev, a, from, to));
}
