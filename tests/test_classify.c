/* ranks: 1   on: cuda
 * classify: pooled, logits, loss and every gradient against a naive evaluation in double and its
 * central differences; mean and last pooling, with and without norm, with and without hidden layer,
 * sequences without a label. */
#include "tests/oracle.h"

#ifdef TEST_CUDA
#define MOST_THREADS 1 /* the host's: kernels do not know them */
#else
#define MOST_THREADS 3
#endif

enum { X, LN_W, LN_B, WH, BH, WO, BO, TENSORS };
static const char *const names[] = {"residual", "ln_w", "ln_b", "Wh", "bh", "Wo", "bo"};

typedef struct {
    batch_shape s;
    int64_t d, H, classes;
    int last;
    bool norm;
    tensor t[TENSORS];
    int32_t *labels;
    double *pooled, *logits;
    int64_t count;
} classify_case;

/* The loss sum; fills pooled and logits. */
static double oracle(void *context)
{
    classify_case *k = context;
    const int64_t n = k->s.B * k->s.Lp, d = k->d, H = k->H, K = H ? H : d;
    double column[64], hidden[64], sum = 0;
    k->count = 0;
    for (int64_t b = 0; b < k->s.B; b++) {
        double *pooled = k->pooled + b * d, *logits = k->logits + b * k->classes;
        memset(pooled, 0, (size_t)d * sizeof *pooled);
        for (int64_t t = k->last ? k->s.L - 1 : 0; t < k->s.L; t++) {
            const double *x = k->t[X].d + b * k->s.Lp + t;
            if (k->norm)
                ln_oracle(d, x, n, k->t[LN_W].d, k->t[LN_B].d, column);
            for (int64_t c = 0; c < d; c++)
                pooled[c] += (k->norm ? column[c] : x[c * n]) / (k->last ? 1.0 : (double)k->s.L);
        }
        for (int64_t h = 0; h < H; h++) {
            double v = k->t[BH].d[h];
            for (int64_t c = 0; c < d; c++)
                v += k->t[WH].d[h * d + c] * pooled[c];
            hidden[h] = gelu_oracle(v);
        }
        for (int64_t i = 0; i < k->classes; i++) {
            logits[i] = k->t[BO].d[i];
            for (int64_t h = 0; h < K; h++)
                logits[i] += k->t[WO].d[i * K + h] * (H ? hidden[h] : pooled[h]);
        }
        if (k->labels[b] < 0)
            continue;
        sum += cross_entropy_oracle(k->classes, logits, k->labels[b]);
        k->count++;
    }
    return sum;
}

/* Everything where the device finds it. */
static classify_args args_of(const classify_case *k, bench *b, buffers *of)
{
    const float *t[TENSORS];
    for (int i = 0; i < TENSORS; i++)
        t[i] = bench_on(b, of, k->t[i].f);
    return (classify_args){.s = k->s,
                           .d = k->d,
                           .H = k->H,
                           .classes = k->classes,
                           .last = k->last,
                           .ln_w = k->norm ? t[LN_W] : NULL,
                           .ln_b = k->norm ? t[LN_B] : NULL,
                           .Wh = t[WH],
                           .bh = t[BH],
                           .Wo = t[WO],
                           .bo = t[BO],
                           .labels = bench_on(b, of, k->labels)};
}

static void forward(classify_case *k, buffers *of, bench *b, double loss_want)
{
    classify_args a = args_of(k, b, of);
    const float *x = bench_on(b, of, k->t[X].f);
    buffers all = {0};
    loss_sum loss = {-1, -1}, none = {-1, -1};
    float *pooled = buffer_floats(&all, k->s.B * k->d),
          *logits = buffer_floats(&all, k->s.B * k->classes);
    OK(classify_forward(b->dev, &a, x, bench_on(b, &all, pooled), bench_on(b, &all, logits), &loss,
                        &b->ws));
    a.labels = NULL;
    OK(classify_forward(b->dev, &a, x, NULL, NULL, &none, &b->ws));
    bench_back(b);
    expect_close("pooled", pooled, k->pooled, k->s.B * k->d, 3e-6);
    expect_close("logits", logits, k->logits, k->s.B * k->classes, 3e-6);
    assert_true(fabs(loss.sum - loss_want) <= 5e-6 * fabs(loss_want));
    assert_int_equal(loss.count, k->count);
    assert_true(none.sum == 0 && none.count == 0);
    bench_forget(b);
    buffers_close(&all);
}

static void run(classify_case *k, buffers *of, int threads, double loss_want,
                double *const want[TENSORS])
{
    buffers all = {0};
    bench b;
    loss_sum loss = {-1, -1};
    bench_device(&b, threads);
    const classify_args planned = args_of(k, &b, of);
    const op_cost cost = classify_cost(b.dev, &planned);
    bench_workspace(&b, cost.workspace);
    forward(k, of, &b, loss_want);

    bench_poison(&b);
    const classify_args a = args_of(k, &b, of);
    float *grad[TENSORS], *before[TENSORS] = {0}, *on[TENSORS];
    rng r = rng_at(9, RNG_TEST, 0, 0);
    for (int i = 0; i < TENSORS; i++) {
        grad[i] = buffer_floats(&all, k->t[i].n);
        if (i != X) { /* which is written */
            before[i] = tensor_random(&all, &r, k->t[i].n, 0.02)
                            .f; /* small: what is added keeps its digits */
            memcpy(grad[i], before[i], (size_t)k->t[i].n * sizeof(float));
        }
        on[i] = bench_on(&b, &all, grad[i]);
    }
    const classify_grads g = {on[LN_W], on[LN_B], on[WH], on[BH], on[WO], on[BO]};
    OK(classify_backward(b.dev, &a, bench_on(&b, of, k->t[X].f), &loss, on[X], &g, &b.ws));
    bench_back(&b);
    assert_true(fabs(loss.sum - loss_want) <= 5e-6 * fabs(loss_want));
    for (int i = 0; i < TENSORS; i++)
        expect_gradient(names[i], grad[i], before[i], want[i], k->t[i].n, 1e-5);
    expect_pads_zero("dresidual", grad[X], k->d, k->s);
    bench_close(&b, cost.workspace);
    buffers_close(&all);
}

static void one_shape(int64_t B, int64_t L, int64_t d, int64_t H, int last, bool norm)
{
    buffers all = {0};
    rng r = rng_at(8, RNG_TEST, (uint64_t)L, (uint32_t)d);
    classify_case k = {
        .s = shape_of(B, L), .d = d, .H = H, .classes = 3 + H % 4, .last = last, .norm = norm};
    const int64_t K = H ? H : d, counts[] = {0, d, d, H * d, H, k.classes * K, k.classes};
    k.t[X] = tensor_columns(&all, &r, d, k.s, 1.5);
    for (int i = LN_W; i < TENSORS; i++)
        k.t[i] = tensor_random(&all, &r, counts[i], 0.8);
    k.labels = buffer_take(&all, (size_t)B * sizeof(int32_t));
    for (int64_t b = 0; b < B; b++)
        k.labels[b] = b % 4 == 1 ? -1 : (int32_t)rng_below(&r, (uint64_t)k.classes);
    k.pooled = calloc((size_t)(B * d), sizeof(double));
    k.logits = calloc((size_t)(B * k.classes), sizeof(double));
    double *want[TENSORS];
    for (int i = 0; i < TENSORS; i++)
        want[i] =
            differences(oracle, &k, k.t[i].d, k.t[i].n, i == X && !last ? 1 + k.t[i].n / 300 : 1);
    const double loss = oracle(&k);
    for (int threads = 1; threads <= MOST_THREADS; threads++)
        run(&k, &all, threads, loss, want);
    for (int i = 0; i < TENSORS; i++)
        free(want[i]);
    free(k.pooled);
    free(k.logits);
    buffers_close(&all);
}

static void shapes(void **state)
{
    (void)state;
    for (int last = 0; last < 2; last++)
        for (int norm = 0; norm < 2; norm++) {
            one_shape(2, 37, 8, 0, last, norm);
            one_shape(5, 129, 12, 10, last, norm); /* tiles cross sequences */
            one_shape(1, 600, 7, 5, last, norm);   /* several tiles a sequence */
            one_shape(3, 64, 5, 0, last, norm);
            one_shape(6, 1, 9, 4, last, norm);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
