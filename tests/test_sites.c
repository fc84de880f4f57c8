/* ranks: 1   on: cuda
 * sites: class logits, site logits, likelihoods, loss and every gradient against a naive evaluation
 * in double and its central differences; ragged windows with empty and long runs, absent slots,
 * sites before the first token, windows without sites, unlabelled ones, and no labels at all. */
#include "tests/oracle.h"

#ifdef TEST_CUDA
#define MOST_THREADS 1 /* the host's: kernels do not know them */
#else
#define MOST_THREADS 3
#endif

enum { X, LN_W, LN_B, W, B0, V, EH, EB, EO, EOB, SCALE, TENSORS };
static const char *const names[] = {"residual", "ln_w", "ln_b", "W",  "b",    "V",
                                    "Eh",       "eh",   "Eo",   "eo", "scale"};

typedef struct {
    batch_shape s;
    int64_t d, classes, rank, H, unique;
    int64_t run;                 /* most absent sites after a token */
    bool norm, labelled, scaled; /* is there a scale */
    double weight;
    tensor t[TENSORS], rows;
    double *entry; /* (n, 2 rank + classes): a row of its own for each entry */
    int64_t *start, n;
    int32_t *slot, *token, *count, *labels;
    uint8_t *carried;
    double *h, *q; /* (L, d), (L, CR) of one window */
    double *class_logits, *site_logits, *nll;
    int64_t loss_count;
} sites_case;

static int64_t width_of(const sites_case *k)
{
    return 2 * k->rank + k->classes;
}

/* h, queries, and the window's evidence. */
static void window_oracle(sites_case *k, int64_t b, double *e)
{
    const int64_t n = k->s.B * k->s.Lp, d = k->d, CR = k->classes * k->rank;
    for (int64_t c = 0; c < k->classes; c++)
        e[c] = 0;
    for (int64_t t = 0; t < k->s.L; t++) {
        double *h = k->h + t * d, *q = k->q + t * CR;
        const double *x = k->t[X].d + b * k->s.Lp + t;
        if (k->norm)
            ln_oracle(d, x, n, k->t[LN_W].d, k->t[LN_B].d, h);
        for (int64_t i = 0; !k->norm && i < d; i++)
            h[i] = x[i * n];
        for (int64_t i = 0; i < CR; i++) {
            q[i] = k->t[B0].d[i];
            for (int64_t j = 0; j < d; j++)
                q[i] += k->t[W].d[i * d + j] * h[j];
        }
        if (k->H == 0 || t >= k->count[b])
            continue;
        for (int64_t c = 0; c < k->classes; c++)
            e[c] += k->t[EOB].d[c] / 8;
        for (int64_t i = 0; i < k->H; i++) {
            double pre = k->t[EB].d[i];
            for (int64_t j = 0; j < d; j++)
                pre += k->t[EH].d[i * d + j] * h[j];
            for (int64_t c = 0; c < k->classes; c++)
                e[c] += k->t[EO].d[c * k->H + i] * gelu_oracle(pre) / 8;
        }
    }
}

/* log p of entry i by class, from its token's queries and the run between. */
static void entry_oracle(sites_case *k, int64_t b, int64_t i, double *logp)
{
    const int64_t rank = k->rank, width = width_of(k);
    const int32_t t = k->token[k->start[0] + i];
    const double *row = k->entry + i * width;
    double R[128] = {0};
    for (int64_t j = k->start[b] - k->start[0]; j < i; j++)
        if (t >= 0 && k->token[k->start[0] + j] == t)
            for (int64_t r = 0; r < rank; r++)
                R[r] += k->entry[j * width + rank + r];
    for (int64_t c = 0; c < k->classes; c++) {
        double logit = row[2 * rank + c];
        for (int64_t r = 0; t >= 0 && r < rank; r++) {
            double query = k->q[(t * k->classes + c) * rank + r];
            for (int64_t j = 0; j < rank; j++)
                query += k->t[V].d[(c * rank + r) * rank + j] * R[j];
            logit += query * row[r];
        }
        k->site_logits[i * k->classes + c] = logit;
        const double z = k->carried[k->start[0] + i] ? logit : -logit;
        logp[c] = fmin(z, 0) - log1p(exp(-fabs(z)));
    }
}

static double oracle(void *context)
{
    sites_case *k = context;
    double loss = 0, e[64], logp[64];
    k->loss_count = 0;
    for (int64_t b = 0; b < k->s.B; b++) {
        double *w = k->class_logits + b * k->classes, outside = 0;
        const int64_t n = k->start[b + 1] - k->start[b], label = k->labels[b];
        window_oracle(k, b, e);
        memset(w, 0, (size_t)k->classes * sizeof *w);
        for (int64_t i = k->start[b]; i < k->start[b + 1]; i++) {
            entry_oracle(k, b, i - k->start[0], logp);
            for (int64_t c = 0; c < k->classes; c++)
                w[c] += logp[c];
            if (k->token[i] < 0)
                outside += logp[0];
            else if (!k->labelled)
                k->loss_count += k->carried[i];
        }
        k->nll[b] = !k->labelled ? outside - w[0] : -w[label < 0 ? 0 : label];
        for (int64_t c = 0; c < k->classes; c++)
            w[c] = (k->scaled ? k->t[SCALE].d[0] : 1) * w[c] + e[c];
        if (!k->labelled)
            loss += k->nll[b];
        if (!k->labelled || label < 0)
            continue;
        loss += cross_entropy_oracle(k->classes, w, label);
        loss += n ? k->weight / (double)n * k->nll[b] : 0;
        k->loss_count++;
    }
    return loss;
}

/* Everything where the device finds it. */
static sites_args args_of(const sites_case *k, bench *b, buffers *of)
{
    const float *t[TENSORS];
    for (int i = 0; i < TENSORS; i++)
        t[i] = bench_on(b, of, k->t[i].f);
    return (sites_args){.s = k->s,
                        .d = k->d,
                        .classes = k->classes,
                        .rank = k->rank,
                        .H = k->H,
                        .ln_w = k->norm ? t[LN_W] : NULL,
                        .ln_b = k->norm ? t[LN_B] : NULL,
                        .W = t[W],
                        .b = t[B0],
                        .V = t[V],
                        .Eh = t[EH],
                        .eh = t[EB],
                        .Eo = t[EO],
                        .eo = t[EOB],
                        .scale = k->scaled ? t[SCALE] : NULL,
                        .rows = bench_on(b, of, k->rows.f),
                        .start = bench_on(b, of, k->start),
                        .slot = bench_on(b, of, k->slot),
                        .token = bench_on(b, of, k->token),
                        .carried = bench_on(b, of, k->carried),
                        .count = bench_on(b, of, k->count),
                        .labels = k->labelled ? bench_on(b, of, k->labels) : NULL,
                        .site_weight = k->weight};
}

static void expect_loss(const loss_sum *loss, double want, int64_t count)
{
    if (!(fabs(loss->sum - want) <= 3e-6 * fabs(want) + 1e-9))
        fail_msg("loss: %.9g, expected %.9g", loss->sum, want);
    assert_int_equal(loss->count, count);
}

static void forward(sites_case *k, buffers *of, bench *b, double loss_want)
{
    const sites_args a = args_of(k, b, of);
    const float *x = bench_on(b, of, k->t[X].f);
    buffers all = {0};
    loss_sum loss = {-1, -1};
    float *class_logits = buffer_floats(&all, k->s.B * k->classes),
          *site_logits = buffer_floats(&all, k->n * k->classes);
    double *nll = buffer_take(&all, (size_t)k->s.B * sizeof *nll);
    OK(sites_forward(b->dev, &a, x, bench_on(b, &all, class_logits), bench_on(b, &all, site_logits),
                     bench_on(b, &all, nll), &loss, &b->ws));
    OK(sites_forward(b->dev, &a, x, NULL, NULL, NULL, NULL, &b->ws));
    bench_back(b);
    expect_close("class logits", class_logits, k->class_logits, k->s.B * k->classes, 3e-6);
    expect_close("site logits", site_logits, k->site_logits, k->n * k->classes, 3e-6);
    for (int64_t i = 0; i < k->s.B; i++)
        assert_true(fabs(nll[i] - k->nll[i]) <= 3e-6 * fabs(k->nll[i]));
    expect_loss(&loss, loss_want, k->loss_count);
    bench_forget(b);
    buffers_close(&all);
}

/* want: of each tensor, and last of each entry's own row. */
static void run(sites_case *k, buffers *of, int threads, double loss_want,
                double *const want[TENSORS + 1])
{
    buffers all = {0};
    bench b;
    bench_device(&b, threads);
    const sites_args planned = args_of(k, &b, of);
    const op_cost cost = sites_cost(b.dev, &planned, k->n);
    bench_workspace(&b, cost.workspace);
    forward(k, of, &b, loss_want);
    const sites_args a = args_of(k, &b, of);
    bench_poison(&b);
    loss_sum loss = {-1, -1};
    float *grad[TENSORS], *before[TENSORS] = {0}, *on[TENSORS];
    rng r = rng_at(9, RNG_TEST, 0, 0);
    for (int i = 0; i < TENSORS; i++) {
        grad[i] = buffer_floats(&all, k->t[i].n);
        if (i != X) { /* which is written */
            before[i] = tensor_random(&all, &r, k->t[i].n, 0.02).f;
            memcpy(grad[i], before[i], (size_t)k->t[i].n * sizeof(float));
        }
        on[i] = bench_on(&b, &all, grad[i]);
    }
    float *drows = buffer_floats(&all, k->n * width_of(k));
    const sites_grads g = {on[LN_W], on[LN_B], on[W],  on[B0],  on[V],
                           on[EH],   on[EB],   on[EO], on[EOB], on[SCALE]};
    OK(sites_backward(b.dev, &a, bench_on(&b, of, k->t[X].f), &loss, on[X], &g,
                      bench_on(&b, &all, drows), &b.ws));
    bench_back(&b);
    expect_loss(&loss, loss_want, k->loss_count);
    for (int i = 0; i < TENSORS; i++)
        expect_gradient(names[i], grad[i], before[i], want[i], k->t[i].n, 2e-5);
    expect_gradient("rows", drows, NULL, want[TENSORS], k->n * width_of(k), 2e-5);
    for (int64_t i = 0; i < k->n; i++) { /* absent slots, and what the loss leaves out */
        const int64_t at = k->start[0] + i;
        const bool still = k->slot[at] < 0 || (k->token[at] < 0 && !k->labelled);
        for (int64_t e = 0; still && e < width_of(k); e++)
            assert_true(drows[i * width_of(k) + e] == 0.0f);
    }
    expect_pads_zero("dresidual", grad[X], k->d, k->s);
    bench_close(&b, cost.workspace);
    buffers_close(&all);
}

static void entry_add(sites_case *k, rng *r, int64_t at, int64_t token, bool carried)
{
    if (!k->token)
        return; /* counting */
    k->slot[at] = rng_below(r, 12) ? (int32_t)rng_below(r, (uint64_t)k->unique) : -1;
    k->token[at] = (int32_t)token;
    k->carried[at] = carried;
}

/* Windows: a carried site before the first token or not, runs of absent sites between tokens, a
 * tail of them or none; window 2 has no sites. Returns the entry behind the last. */
static int64_t windows_fill(sites_case *k, rng *r, int64_t first)
{
    int64_t at = first;
    for (int64_t b = 0; b < k->s.B; b++) {
        if (k->token) {
            k->start[b] = at;
            k->count[b] = (int32_t)(k->s.L - (b % 2 ? (int64_t)rng_below(r, (uint64_t)k->s.L) : 0));
        }
        const int64_t tokens = k->count ? k->count[b] : k->s.L;
        if (b % 3 != 1 && b != 2)
            entry_add(k, r, at++, -1, true);
        for (int64_t t = 0; b != 2 && t < tokens; t++) {
            int64_t run = rng_below(r, 3) ? (int64_t)rng_below(r, 3) : 0;
            if (rng_below(r, 25) == 0)
                run = (int64_t)rng_below(r, (uint64_t)k->run + 1);
            while (run-- > 0)
                entry_add(k, r, at++, t, false);
            if (t + 1 < tokens || b % 4 == 1)
                entry_add(k, r, at++, t, true);
        }
    }
    if (k->token)
        k->start[k->s.B] = at;
    return at;
}

static void sites_fill(sites_case *k, buffers *all, rng *r)
{
    enum { FIRST = 5 };
    const int64_t B = k->s.B;
    const int64_t room = FIRST + B * k->s.L * (4 + k->run / 8) + 64 * k->run + 64;
    k->start = buffer_take(all, (size_t)(B + 1) * sizeof *k->start);
    k->slot = buffer_take(all, (size_t)room * sizeof *k->slot);
    k->count = buffer_take(all, (size_t)B * sizeof *k->count);
    k->carried = buffer_take(all, (size_t)room);
    k->token = buffer_take(all, (size_t)room * sizeof *k->token);
    const int64_t end = windows_fill(k, r, FIRST);
    assert_true(end <= room);
    k->n = end - FIRST;
    k->rows = tensor_random(all, r, k->unique * width_of(k), 0.4);
    k->entry = buffer_take(all, (size_t)(k->n * width_of(k)) * sizeof(double));
    for (int64_t i = 0; i < k->n * width_of(k); i++) {
        const int32_t slot = k->slot[FIRST + i / width_of(k)];
        k->entry[i] = slot < 0 ? 0 : k->rows.d[slot * width_of(k) + i % width_of(k)];
    }
    k->labels = buffer_take(all, (size_t)B * sizeof *k->labels);
    for (int64_t b = 0; b < B; b++)
        k->labels[b] = b % 4 == 1 ? -1 : (int32_t)rng_below(r, (uint64_t)k->classes);
    k->h = buffer_take(all, (size_t)(k->s.L * k->d) * sizeof(double));
    k->q = buffer_take(all, (size_t)(k->s.L * k->classes * k->rank) * sizeof(double));
    k->class_logits = buffer_take(all, (size_t)(B * k->classes) * sizeof(double));
    k->site_logits = buffer_take(all, (size_t)(k->n * k->classes) * sizeof(double));
    k->nll = buffer_take(all, (size_t)B * sizeof(double));
}

/* Gradients of a slot of -1 are not those of the row of zeros that stands for it. */
static double *entry_differences(sites_case *k, int64_t evaluations)
{
    const int64_t n = k->n * width_of(k);
    double *want = differences(oracle, k, k->entry, n, 1 + n / evaluations);
    for (int64_t i = 0; i < n; i++)
        if (!isnan(want[i]) && k->slot[k->start[0] + i / width_of(k)] < 0)
            want[i] = 0;
    return want;
}

static void check(sites_case k, int64_t evaluations)
{
    buffers all = {0};
    rng r = rng_at(8, RNG_TEST, (uint64_t)k.s.L, (uint32_t)k.d);
    const int64_t CR = k.classes * k.rank;
    const int64_t counts[] = {
        0, k.d, k.d, CR * k.d, CR, CR * k.rank, k.H * k.d, k.H, k.classes * k.H, k.classes, 1};
    k.t[X] = tensor_columns(&all, &r, k.d, k.s, 1.5);
    for (int i = LN_W; i < TENSORS; i++)
        k.t[i] = tensor_random(&all, &r, counts[i], i == V ? 0.3 / sqrt((double)k.rank) : 0.5);
    sites_fill(&k, &all, &r);
    double *want[TENSORS + 1];
    for (int i = 0; i < TENSORS; i++)
        want[i] = differences(oracle, &k, k.t[i].d, k.t[i].n, 1 + k.t[i].n / evaluations);
    want[TENSORS] = entry_differences(&k, evaluations);
    const double loss = oracle(&k);
    for (int threads = 1; threads <= MOST_THREADS; threads++)
        run(&k, &all, threads, loss, want);
    for (int i = 0; i <= TENSORS; i++)
        free(want[i]);
    buffers_close(&all);
}

/* B, L, d, classes, rank, H, longest run, norm */
static sites_case shape(int64_t B, int64_t L, int64_t d, int64_t classes, int64_t rank, int64_t H,
                        int64_t run_most, bool norm)
{
    return (sites_case){.s = shape_of(B, L),
                        .d = d,
                        .classes = classes,
                        .rank = rank,
                        .H = H,
                        .unique = 50,
                        .run = run_most,
                        .norm = norm,
                        .labelled = true,
                        .scaled = H > 0 || rank == 5 || d == 8,
                        .weight = 3};
}

static void class_conditional(void **state)
{
    (void)state;
    check(shape(2, 37, 8, 3, 4, 0, 9, true), 150);
#ifdef TEST_CUDA
    check(shape(3, 65, 6, 3, 4, 5, 9, true), 100);
    check(shape(5, 21, 7, 9, 3, 6, 5, false), 60);
    check(shape(2, 69, 6, 2, 32, 7, 20, true), 40); /* the usual rank */
#else
    check(shape(5, 65, 6, 3, 4, 5, 9, true), 100);    /* tiles of two windows */
    check(shape(9, 21, 7, 15, 3, 6, 5, false), 60);   /* of four */
    check(shape(3, 101, 6, 3, 32, 7, 20, true), 40);  /* the usual rank */
#endif
    check(shape(6, 1, 5, 3, 4, 3, 4, true), 60);
    check(shape(2, 19, 4, 2, 37, 3, 4, true), 20); /* not a multiple of anything */
    check(shape(2, 9, 4, 2, 101, 0, 4, true), 20);
}

static void long_windows(void **state)
{
    (void)state;
#ifdef TEST_CUDA
    check(shape(2, 270, 5, 3, 3, 4, 6, true), 25);
    check(shape(3, 70, 5, 2, 5, 0, 900, false), 25); /* runs of several slices */
    check(shape(1, 140, 5, 5, 32, 3, 200, true), 6);
#else
    check(shape(2, 600, 5, 3, 3, 4, 6, true), 25);    /* several tiles a window */
    check(shape(4, 130, 5, 2, 5, 0, 900, false), 25); /* several chunks a tile */
    check(shape(1, 300, 4, 15, 32, 3, 300, true), 6); /* both */
#endif
}

static void unconditional(void **state)
{
    (void)state;
    sites_case k = shape(5, 45, 8, 1, 4, 0, 9, true);
    k.labelled = false;
    check(k, 100);
#ifdef TEST_CUDA
    k = shape(2, 70, 6, 1, 32, 0, 9, false);
#else
    k = shape(2, 290, 6, 1, 32, 0, 9, false);
#endif
    k.labelled = false;
    check(k, 30);
    k = shape(4, 64, 6, 3, 4, 5, 9, true); /* class logits are asked for without labels */
    k.labelled = false;
    check(k, 40);
}

/* One site a window, its logit the bias: -log p keeps its digits where p is near one. */
static void tails(void **state)
{
    (void)state;
    enum { BIASES = 9, D = 2 };
    static const float bias[BIASES] = {-90, -30, -15, -1, 0, 1, 15, 30, 85};
    buffers all = {0};
    rng r = rng_at(3, RNG_TEST, 0, 0);
    sites_case k = shape(2 * BIASES, 3, D, 1, 1, 0, 0, false);
    k.start = buffer_take(&all, (2 * BIASES + 1) * sizeof *k.start);
    k.slot = buffer_take(&all, 2 * BIASES * sizeof *k.slot);
    k.token = buffer_take(&all, 2 * BIASES * sizeof *k.token);
    k.carried = buffer_take(&all, 2 * BIASES);
    k.labelled = false;
    for (int i = X; i < TENSORS; i++)
        k.t[i] = tensor_random(&all, &r, i == X ? D * k.s.B * k.s.Lp : 2, 0.0);
    k.rows = tensor_random(&all, &r, BIASES * 3, 0.0);
    for (int i = 0; i < 2 * BIASES; i++) {
        k.rows.f[i % BIASES * 3 + 2] = bias[i % BIASES];
        k.start[i] = i;
        k.slot[i] = i % BIASES;
        k.token[i] = 1;
        k.carried[i] = i >= BIASES;
    }
    k.start[2 * BIASES] = 2 * BIASES;
    bench b;
    bench_device(&b, 1);
    const sites_args a = args_of(&k, &b, &all);
    const op_cost cost = sites_cost(b.dev, &a, 2 * BIASES);
    bench_workspace(&b, cost.workspace);
    double *nll = buffer_take(&all, 2 * BIASES * sizeof *nll);
    float *drows = buffer_floats(&all, 2 * BIASES * 3);
    float *dx = buffer_floats(&all, D * 2 * BIASES * 64);
    float *dW = tensor_random(&all, &r, D, 0.0).f, *db = tensor_random(&all, &r, 1, 0.0).f;
    float *dV = tensor_random(&all, &r, 1, 0.0).f;
    loss_sum loss;
    const sites_grads g = {
        .W = bench_on(&b, &all, dW), .b = bench_on(&b, &all, db), .V = bench_on(&b, &all, dV)};
    const float *x = bench_on(&b, &all, k.t[X].f);
    OK(sites_forward(b.dev, &a, x, NULL, NULL, bench_on(&b, &all, nll), NULL, &b.ws));
    OK(sites_backward(b.dev, &a, x, &loss, bench_on(&b, &all, dx), &g, bench_on(&b, &all, drows),
                      &b.ws));
    bench_back(&b);
    for (int i = 0; i < 2 * BIASES; i++) {
        const double sign = k.carried[i] ? 1 : -1, z = sign * (double)bias[i % BIASES];
        const double want = log1p(exp(-fabs(z))) - fmin(z, 0);
        assert_true(fabs(nll[i] - want) <= 2e-6 * want + 2e-38);
        const double slope = -sign / (1 + exp(z));
        assert_true(fabs((double)drows[3 * i + 2] - slope) <= 2e-6 * fabs(slope) + 2e-38);
    }
    assert_int_equal(loss.count, BIASES);
    bench_close(&b, cost.workspace);
    buffers_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(class_conditional),
        cmocka_unit_test(long_windows),
        cmocka_unit_test(unconditional),
        cmocka_unit_test(tails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
