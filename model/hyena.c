/* The Hyena operator of any order N >= 2 (Poli et al. 2023, section 3): mixin gives the gates and
 * the first gated value, then N-1 long convolutions with their implicit filters, chunk of channels
 * by chunk, then mixout. The first convolution that is applied takes the first d filter channels.
 */
#include "model/parts.h"

/* Input of convolution o: g, or the (gated) result of the one before. */
static const void *conv_input(const model *m, const void *g, const void *conv, int64_t o,
                              int64_t plane)
{
    return o == 0 ? g : wide_at(m, conv, (o - 1) * plane);
}

/* Which of the gates is convolution o's: x_{N-2-o}; -1: the last one is gated by mixout. */
static int64_t gate_number(const model *m, int64_t o)
{
    return o == m->order - 2 ? -1 : m->order - 2 - o;
}

static status convolve(model *m, const block_parameters *p, batch_shape s, int64_t o,
                       const void *in, const void *gate, void *out)
{
    arena *ws = &m->workspace;
    const int64_t chunk = filter_chunk(m, s.L);
    const size_t mark = arena_mark(ws);
    float *k = take_floats(ws, chunk * s.Lp);
    if (!k)
        return arena_short(ws);
    for (int64_t c = 0; c < m->d; c += chunk) {
        const int64_t dc = m->d - c < chunk ? m->d - c : chunk, at = c * s.B * s.Lp;
        const filter_args fa = filter_of(m, p, s.L, o * m->d + c, dc);
        TRY(filter_forward(m->dev, &fa, k, s.Lp, ws));
        const conv_args ca = conv_of(m, s, dc);
        const float *D = value_of(m, p->skip) + o * m->d + c;
        TRY(conv_forward(m->dev, &ca, k, D, wide_at(m, in, at), wide_at(m, gate, at),
                         wide_at(m, out, at), ws));
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

status hyena_forward(model *m, const block_parameters *p, batch_shape s, const float *in, void *u,
                     void *conv, float *out)
{
    arena *ws = &m->workspace;
    const int64_t plane = m->d * s.B * s.Lp, N = m->order;
    const size_t mark = arena_mark(ws);
    void *gates = take_wide(m, ws, (N - 1) * plane), *g = take_wide(m, ws, plane);
    if (!conv)
        conv = take_wide(m, ws, (N - 1) * plane);
    if (!gates || !g || !conv)
        return arena_short(ws);
    const mixin_args ma = mixin_of(m, p, s);
    TRY(mixin_forward(m->dev, &ma, in, u, gates, g, ws));
    for (int64_t o = 0; o <= N - 2; o++) {
        const int64_t x = gate_number(m, o);
        TRY(convolve(m, p, s, o, conv_input(m, g, conv, o, plane),
                     x < 0 ? NULL : wide_at(m, gates, x * plane), wide_at(m, conv, o * plane)));
    }
    const mixout_args oa = mixout_of(m, p, s);
    TRY(mixout_forward(m->dev, &oa, gates, wide_at(m, conv, (N - 2) * plane), in, out, ws));
    arena_release(ws, mark);
    return STATUS_OK;
}

static filter_grads filter_grads_of(const model *m, const block_parameters *p)
{
    return (filter_grads){.W0 = gradient_of(m, p->f0_w),
                          .b0 = gradient_of(m, p->f0_b),
                          .freq = gradient_of(m, p->freq),
                          .W2 = gradient_of(m, p->f2_w),
                          .b2 = gradient_of(m, p->f2_b),
                          .W4 = gradient_of(m, p->f4_w),
                          .b4 = gradient_of(m, p->f4_b),
                          .W6 = gradient_of(m, p->f6_w)};
}

static status convolve_backward(model *m, const block_parameters *p, batch_shape s, int64_t o,
                                const void *in, const void *gate, const void *dout, void *din,
                                void *dgate)
{
    arena *ws = &m->workspace;
    const int64_t chunk = filter_chunk(m, s.L);
    const size_t mark = arena_mark(ws);
    float *k = take_floats(ws, chunk * s.Lp), *dk = take_floats(ws, chunk * s.Lp);
    if (!k || !dk)
        return arena_short(ws);
    const filter_grads fg = filter_grads_of(m, p);
    for (int64_t c = 0; c < m->d; c += chunk) {
        const int64_t dc = m->d - c < chunk ? m->d - c : chunk, at = c * s.B * s.Lp;
        const filter_args fa = filter_of(m, p, s.L, o * m->d + c, dc);
        TRY(filter_forward(m->dev, &fa, k, s.Lp, ws));
        const conv_args ca = conv_of(m, s, dc);
        const float *D = value_of(m, p->skip) + o * m->d + c;
        float *dD = gradient_of(m, p->skip) + o * m->d + c;
        TRY(conv_backward(m->dev, &ca, k, D, wide_at(m, in, at), wide_at(m, gate, at),
                          wide_at(m, dout, at), wide_at(m, din, at), wide_at(m, dgate, at), dk, dD,
                          ws));
        TRY(filter_backward(m->dev, &fa, dk, s.Lp, &fg, ws));
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

status hyena_backward(model *m, const block_parameters *p, batch_shape s, const float *in,
                      const void *u, const void *conv, float *dresidual)
{
    arena *ws = &m->workspace;
    const int64_t plane = m->d * s.B * s.Lp, N = m->order;
    const size_t mark = arena_mark(ws);
    void *dgates = take_wide(m, ws, (N - 1) * plane), *gates = take_wide(m, ws, (N - 1) * plane);
    /* Once mixout is through, nobody reads x_0 again: its place takes the gradient of the first
     * gated value. */
    void *dg = gates;
    const size_t inner = arena_mark(ws);
    void *g = take_wide(m, ws, plane), *a = take_wide(m, ws, plane);
    void *b = N > 2 ? take_wide(m, ws, plane) : a;
    if (!dgates || !gates || !g || !a || !b)
        return arena_short(ws);

    const mixin_args ma = mixin_of(m, p, s);
    TRY(mixin_regate(m->dev, &ma, u, gates, g, ws));
    const mixout_args oa = mixout_of(m, p, s);
    TRY(mixout_backward(m->dev, &oa, gates, wide_at(m, conv, (N - 2) * plane), dresidual, dgates, a,
                        gradient_of(m, p->out_w), gradient_of(m, p->out_b), ws));
    void *dout = a;
    for (int64_t o = N - 2; o >= 0; o--) {
        void *din = o == 0 ? dg : dout == a ? b : a;
        const int64_t x = gate_number(m, o);
        TRY(convolve_backward(m, p, s, o, conv_input(m, g, conv, o, plane),
                              x < 0 ? NULL : wide_at(m, gates, x * plane), dout, din,
                              x < 0 ? NULL : wide_at(m, dgates, x * plane)));
        dout = din;
    }
    arena_release(ws, inner);

    const mixin_grads mg = {.ln_w = gradient_of(m, p->norm1_w),
                            .ln_b = gradient_of(m, p->norm1_b),
                            .W = gradient_of(m, p->in_w),
                            .b = gradient_of(m, p->in_b),
                            .taps = gradient_of(m, p->short_w),
                            .tap_b = gradient_of(m, p->short_b)};
    TRY(mixin_backward(m->dev, &ma, in, u, dgates, dg, dresidual, NULL, &mg, ws));
    arena_release(ws, mark);
    return STATUS_OK;
}
