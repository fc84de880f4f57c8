/* The Hyena operator of any order N >= 2 (Poli et al. 2023, section 3): mixin gives the gates and
 * the first gated value, then N-1 long convolutions with their implicit filters, chunk of channels
 * by chunk, then mixout. The first convolution that is applied takes the first d filter channels.
 */
#include "model/parts.h"

/* Input of convolution o: g, or the (gated) result of the one before. */
static const float *conv_input(const float *g, const float *conv, int64_t o, int64_t plane)
{
    return o == 0 ? g : conv + (o - 1) * plane;
}

/* Gate of convolution o: x_{N-2-o}; the last one is gated by mixout. */
static const float *conv_gate(const model *m, const float *gates, int64_t o, int64_t plane)
{
    return o == m->order - 2 ? NULL : gates + (m->order - 2 - o) * plane;
}

static status convolve(model *m, const block_parameters *p, batch_shape s, int64_t o,
                       const float *in, const float *gate, float *out)
{
    arena *ws = &m->workspace;
    const int64_t columns = s.B * s.Lp, chunk = filter_chunk(m, s.L);
    const size_t mark = arena_mark(ws);
    float *k = take_floats(ws, chunk * s.Lp);
    if (!k)
        return arena_short(ws);
    for (int64_t c = 0; c < m->d; c += chunk) {
        const int64_t dc = m->d - c < chunk ? m->d - c : chunk;
        const filter_args fa = filter_of(m, p, s.L, o * m->d + c, dc);
        TRY(filter_forward(m->dev, &fa, k, s.Lp, ws));
        const conv_args ca = conv_of(s, dc);
        const float *D = value_of(m, p->skip) + o * m->d + c;
        TRY(conv_forward(m->dev, &ca, k, D, in + c * columns, gate ? gate + c * columns : NULL,
                         out + c * columns, ws));
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

status hyena_forward(model *m, const block_parameters *p, batch_shape s, const float *in, float *u,
                     float *conv, float *out)
{
    arena *ws = &m->workspace;
    const int64_t plane = m->d * s.B * s.Lp, N = m->order;
    const size_t mark = arena_mark(ws);
    float *gates = take_floats(ws, (N - 1) * plane), *g = take_floats(ws, plane);
    if (!conv)
        conv = take_floats(ws, (N - 1) * plane);
    if (!gates || !g || !conv)
        return arena_short(ws);
    const mixin_args ma = mixin_of(m, p, s);
    TRY(mixin_forward(m->dev, &ma, in, u, gates, g, ws));
    for (int64_t o = 0; o <= N - 2; o++)
        TRY(convolve(m, p, s, o, conv_input(g, conv, o, plane), conv_gate(m, gates, o, plane),
                     conv + o * plane));
    const mixout_args oa = mixout_of(m, p, s);
    TRY(mixout_forward(m->dev, &oa, gates, conv + (N - 2) * plane, in, out, ws));
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
                                const float *in, const float *gate, const float *dout, float *din,
                                float *dgate)
{
    arena *ws = &m->workspace;
    const int64_t columns = s.B * s.Lp, chunk = filter_chunk(m, s.L);
    const size_t mark = arena_mark(ws);
    float *k = take_floats(ws, chunk * s.Lp), *dk = take_floats(ws, chunk * s.Lp);
    if (!k || !dk)
        return arena_short(ws);
    const filter_grads fg = filter_grads_of(m, p);
    for (int64_t c = 0; c < m->d; c += chunk) {
        const int64_t dc = m->d - c < chunk ? m->d - c : chunk, at = c * columns;
        const filter_args fa = filter_of(m, p, s.L, o * m->d + c, dc);
        TRY(filter_forward(m->dev, &fa, k, s.Lp, ws));
        const conv_args ca = conv_of(s, dc);
        const float *D = value_of(m, p->skip) + o * m->d + c;
        float *dD = gradient_of(m, p->skip) + o * m->d + c;
        TRY(conv_backward(m->dev, &ca, k, D, in + at, gate ? gate + at : NULL, dout + at, din + at,
                          dgate ? dgate + at : NULL, dk, dD, ws));
        TRY(filter_backward(m->dev, &fa, dk, s.Lp, &fg, ws));
    }
    arena_release(ws, mark);
    return STATUS_OK;
}

status hyena_backward(model *m, const block_parameters *p, batch_shape s, const float *in,
                      const float *u, const float *conv, float *dresidual)
{
    arena *ws = &m->workspace;
    const int64_t plane = m->d * s.B * s.Lp, N = m->order;
    const size_t mark = arena_mark(ws);
    float *dgates = take_floats(ws, (N - 1) * plane), *gates = take_floats(ws, (N - 1) * plane);
    /* Once mixout is through, nobody reads x_0 again: its place takes the gradient of the first
     * gated value. */
    float *dg = gates;
    const size_t inner = arena_mark(ws);
    float *g = take_floats(ws, plane), *a = take_floats(ws, plane);
    float *b = N > 2 ? take_floats(ws, plane) : a;
    if (!dgates || !gates || !g || !a || !b)
        return arena_short(ws);

    const mixin_args ma = mixin_of(m, p, s);
    TRY(mixin_regate(m->dev, &ma, u, gates, g, ws));
    const mixout_args oa = mixout_of(m, p, s);
    TRY(mixout_backward(m->dev, &oa, gates, conv + (N - 2) * plane, dresidual, dgates, a,
                        gradient_of(m, p->out_w), gradient_of(m, p->out_b), ws));
    float *dout = a;
    for (int64_t o = N - 2; o >= 0; o--) {
        float *din = o == 0 ? dg : dout == a ? b : a;
        const float *gate = conv_gate(m, gates, o, plane);
        float *dgate = gate ? dgates + (gate - gates) : NULL;
        TRY(convolve_backward(m, p, s, o, conv_input(g, conv, o, plane), gate, dout, din, dgate));
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
