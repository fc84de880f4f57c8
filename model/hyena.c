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

/* One convolution, as its channels come. */
typedef struct {
    model *m;
    const block_parameters *p;
    batch_shape s; /* whole sequences */
    int64_t o;
    float *k, *dk;          /* (fill, Lp) */
    context_stretch filled; /* channels that they are of */
} conv_task;

static status conv_task_open(model *m, const block_parameters *p, batch_shape s, int64_t o,
                             bool backward, conv_task *t)
{
    *t = (conv_task){.m = m, .p = p, .s = context_whole(m, s), .o = o};
    const int64_t n = context_fill(m, t->s.L) * t->s.Lp;
    t->k = take_floats(&m->workspace, n);
    t->dk = backward ? take_floats(&m->workspace, n) : NULL;
    return t->k && (t->dk || !backward) ? STATUS_OK : arena_short(&m->workspace);
}

static filter_args fill_of(const conv_task *t)
{
    return filter_of(t->m, t->p, t->s.L, t->o * t->m->d + t->filled.first, t->filled.count);
}

/* Filters for channel c and those made with it, where they are not there. */
static status fill(conv_task *t, int64_t c)
{
    if (c < t->filled.first + t->filled.count)
        return STATUS_OK;
    t->filled = context_fill_of(t->m, t->s.L, c);
    const filter_args a = fill_of(t);
    return filter_forward(t->m->dev, &a, t->k, t->s.Lp, &t->m->workspace);
}

/* in: g, gate;  out: y. */
static status forward_channels(void *context, int64_t c, int64_t n, void *const *in,
                               void *const *out)
{
    conv_task *t = context;
    model *m = t->m;
    TRY(fill(t, c));
    const conv_args ca = conv_of(m, t->s, n);
    const float *D = value_of(m, t->p->skip) + t->o * m->d + c;
    const float *k = t->k + (c - t->filled.first) * t->s.Lp;
    return conv_forward(m->dev, &ca, k, D, in[0], in[1], out[0], &m->workspace);
}

static status convolve(model *m, const block_parameters *p, batch_shape s, int64_t o,
                       const void *in, const void *gate, void *out)
{
    conv_task t;
    const size_t mark = arena_mark(&m->workspace);
    TRY(conv_task_open(m, p, s, o, false, &t));
    const context_job job = {.n_in = 2,
                             .n_out = 1,
                             .in = {in, gate},
                             .out = {out},
                             .work = forward_channels,
                             .context = &t};
    TRY(context_channels(m, s, &job));
    arena_release(&m->workspace, mark);
    return STATUS_OK;
}

status hyena_forward(model *m, const block_parameters *p, batch_shape s, const float *in, void *u,
                     void *conv, float *out)
{
    arena *ws = &m->workspace;
    const int64_t plane = m->d * s.B * s.Lp, N = m->order;
    const size_t mark = arena_mark(ws);
    mixin_args ma = mixin_of(m, p, s);
    TRY(context_halo(m, s, in, &ma.halo));
    void *gates = take_wide(m, ws, (N - 1) * plane), *g = take_wide(m, ws, plane);
    if (!conv)
        conv = take_wide(m, ws, (N - 1) * plane);
    if (!gates || !g || !conv)
        return arena_short(ws);
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

/* in: g, gate, dy;  out: dg, dgate. */
static status backward_channels(void *context, int64_t c, int64_t n, void *const *in,
                                void *const *out)
{
    conv_task *t = context;
    model *m = t->m;
    arena *ws = &m->workspace;
    TRY(fill(t, c));
    const int64_t at = (c - t->filled.first) * t->s.Lp;
    const conv_args ca = conv_of(m, t->s, n);
    const float *D = value_of(m, t->p->skip) + t->o * m->d + c;
    float *dD = gradient_of(m, t->p->skip) + t->o * m->d + c;
    TRY(conv_backward(m->dev, &ca, t->k + at, D, in[0], in[1], in[2], out[0], out[1], t->dk + at,
                      dD, ws));
    if (c + n < t->filled.first + t->filled.count)
        return STATUS_OK;
    const filter_args fa = fill_of(t);
    const filter_grads fg = filter_grads_of(m, t->p);
    return filter_backward(m->dev, &fa, t->dk, t->s.Lp, &fg, ws);
}

static status convolve_backward(model *m, const block_parameters *p, batch_shape s, int64_t o,
                                const void *in, const void *gate, const void *dout, void *din,
                                void *dgate)
{
    conv_task t;
    const size_t mark = arena_mark(&m->workspace);
    TRY(conv_task_open(m, p, s, o, true, &t));
    const context_job job = {.n_in = 3,
                             .n_out = 2,
                             .in = {in, gate, dout},
                             .out = {din, dgate},
                             .work = backward_channels,
                             .context = &t};
    TRY(context_channels(m, s, &job));
    arena_release(&m->workspace, mark);
    return STATUS_OK;
}

status hyena_backward(model *m, const block_parameters *p, batch_shape s, const float *in,
                      const void *u, const void *conv, float *dresidual)
{
    arena *ws = &m->workspace;
    const int64_t plane = m->d * s.B * s.Lp, N = m->order;
    const size_t mark = arena_mark(ws);
    mixin_args ma = mixin_of(m, p, s);
    TRY(context_halo(m, s, in, &ma.halo));
    float *dhalo = ma.halo ? take_floats(ws, HALO * m->d * s.B) : NULL;
    void *dgates = take_wide(m, ws, (N - 1) * plane), *gates = take_wide(m, ws, (N - 1) * plane);
    /* Once mixout is through, nobody reads x_0 again: its place takes the gradient of the first
     * gated value. */
    void *dg = gates;
    const size_t inner = arena_mark(ws);
    void *g = take_wide(m, ws, plane), *a = take_wide(m, ws, plane);
    void *b = N > 2 ? take_wide(m, ws, plane) : a;
    if (!dgates || !gates || !g || !a || !b || (ma.halo && !dhalo))
        return arena_short(ws);

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
    TRY(mixin_backward(m->dev, &ma, in, u, dgates, dg, dresidual, dhalo, &mg, ws));
    TRY(context_halo_back(m, s, dhalo, dresidual));
    arena_release(ws, mark);
    return STATUS_OK;
}
