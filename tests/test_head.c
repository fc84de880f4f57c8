/* ranks: 1   on: cuda
 * head: logits, losses and every gradient against a naive evaluation in double and its central
 * differences; columns without target, no targets at all, logits far apart. */
#include "tests/oracle.h"

#ifdef TEST_CUDA
#define MOST_THREADS 1 /* the host's: kernels do not know them */
#else
#define MOST_THREADS 3
#endif

enum { X, LN_W, LN_B, E, TENSORS };
static const char *const names[] = {"residual", "ln_w", "ln_b", "E"};

typedef struct {
    batch_shape s;
    int64_t d, V;
    tensor t[TENSORS];
    uint8_t *targets;
    double *hidden, *logits, *token;
    int64_t count;
} head_case;

/* The loss sum; fills hidden, logits and token losses. */
static double oracle(void *context)
{
    head_case *k = context;
    const int64_t n = k->s.B * k->s.Lp, d = k->d, V = k->V;
    double column[64], row[32], sum = 0;
    k->count = 0;
    for (int64_t j = 0; j < n; j++) {
        if (j % k->s.Lp >= k->s.L)
            continue;
        ln_oracle(d, k->t[X].d + j, n, k->t[LN_W].d, k->t[LN_B].d, column);
        for (int64_t c = 0; c < d; c++)
            k->hidden[c * n + j] = column[c];
        for (int64_t v = 0; v < V; v++) {
            row[v] = 0;
            for (int64_t c = 0; c < d; c++)
                row[v] += k->t[E].d[v * d + c] * column[c];
            k->logits[v * n + j] = row[v];
        }
        if (k->targets[j] == TARGET_NONE)
            continue;
        k->token[j] = cross_entropy_oracle(V, row, k->targets[j]);
        sum += k->token[j];
        k->count++;
    }
    return sum;
}

/* Everything where the device finds it. */
static head_args args_of(const head_case *k, bench *b, buffers *of)
{
    return (head_args){.s = k->s,
                       .d = k->d,
                       .V = k->V,
                       .ln_w = bench_on(b, of, k->t[LN_W].f),
                       .ln_b = bench_on(b, of, k->t[LN_B].f),
                       .E = bench_on(b, of, k->t[E].f),
                       .targets = bench_on(b, of, k->targets)};
}

static void forward(head_case *k, buffers *of, bench *b, double loss_want)
{
    head_args a = args_of(k, b, of);
    const int64_t n = k->s.B * k->s.Lp;
    const float *x = bench_on(b, of, k->t[X].f);
    buffers all = {0};
    loss_sum loss = {-1, -1};
    float *hidden = buffer_floats(&all, k->d * n), *logits = buffer_floats(&all, k->V * n);
    float *token = buffer_floats(&all, n);
    OK(head_forward(b->dev, &a, x, bench_on(b, &all, hidden), bench_on(b, &all, logits),
                    bench_on(b, &all, token), &loss, &b->ws));
    bench_back(b);
    expect_close("hidden", hidden, k->hidden, k->d * n, 2e-6);
    expect_close("logits", logits, k->logits, k->V * n, 2e-6);
    expect_close("token_loss", token, k->token, n, 5e-6);
    expect_pads_zero("hidden", hidden, k->d, k->s);
    expect_pads_zero("logits", logits, k->V, k->s);
    expect_pads_zero("token_loss", token, 1, k->s);
    assert_true(fabs(loss.sum - loss_want) <= 2e-6 * fabs(loss_want));
    assert_int_equal(loss.count, k->count);

    bench_poison(b);
    a = args_of(k, b, of);
    x = bench_on(b, of, k->t[X].f);
    loss = (loss_sum){-1, -1};
    OK(head_forward(b->dev, &a, x, NULL, NULL, NULL, &loss, &b->ws)); /* a loss and nothing else */
    bench_back(b);
    assert_true(fabs(loss.sum - loss_want) <= 2e-6 * fabs(loss_want));

    a = args_of(k, b, of);
    x = bench_on(b, of, k->t[X].f);
    a.targets = NULL; /* no loss, and outputs that nobody wants */
    float *on = bench_on(b, &all, logits), *any = bench_on(b, &all, token);
    OK(head_forward(b->dev, &a, x, NULL, on, NULL, &loss, &b->ws));
    assert_int_equal(head_backward(b->dev, &a, x, &loss, any, any, any, any, &b->ws),
                     STATUS_INTERNAL);
    bench_back(b);
    expect_close("logits alone", logits, k->logits, k->V * n, 2e-6);
    assert_true(loss.sum == 0 && loss.count == 0);
    bench_forget(b);
    buffers_close(&all);
}

static void run(head_case *k, buffers *of, int threads, double loss_want,
                double *const want[TENSORS])
{
    buffers all = {0};
    bench b;
    loss_sum loss = {-1, -1};
    bench_device(&b, threads);
    const head_args planned = args_of(k, &b, of);
    const op_cost cost = head_cost(b.dev, &planned);
    bench_workspace(&b, cost.workspace);
    forward(k, of, &b, loss_want);

    bench_poison(&b);
    const head_args a = args_of(k, &b, of);
    float *grad[TENSORS], *before[TENSORS] = {0}, *on[TENSORS];
    rng r = rng_at(9, RNG_TEST, 0, 0);
    for (int i = 0; i < TENSORS; i++) {
        grad[i] = buffer_floats(&all, k->t[i].n);
        if (i != X) { /* which is written */
            before[i] = tensor_random(&all, &r, k->t[i].n, 1.0).f;
            memcpy(grad[i], before[i], (size_t)k->t[i].n * sizeof(float));
        }
        on[i] = bench_on(&b, &all, grad[i]);
    }
    OK(head_backward(b.dev, &a, bench_on(&b, of, k->t[X].f), &loss, on[X], on[LN_W], on[LN_B],
                     on[E], &b.ws));
    bench_back(&b);
    assert_true(fabs(loss.sum - loss_want) <= 2e-6 * fabs(loss_want));
    assert_int_equal(loss.count, k->count);
    for (int i = 0; i < TENSORS; i++)
        expect_gradient(names[i], grad[i], before[i], want[i], k->t[i].n, 8e-6);
    expect_pads_zero("dresidual", grad[X], k->d, k->s);
    bench_close(&b, cost.workspace);
    buffers_close(&all);
}

static void one_shape(int64_t B, int64_t L, int64_t d, int64_t V, double scale)
{
    buffers all = {0};
    rng r = rng_at(4, RNG_TEST, (uint64_t)L, (uint32_t)d);
    head_case k = {.s = shape_of(B, L), .d = d, .V = V};
    const int64_t n = B * k.s.Lp;
    k.t[X] = tensor_columns(&all, &r, d, k.s, 1.5);
    k.t[LN_W] = tensor_random(&all, &r, d, 1.0);
    k.t[LN_B] = tensor_random(&all, &r, d, 0.5);
    k.t[E] = tensor_random(&all, &r, V * d, scale);
    k.targets = buffer_take(&all, (size_t)n);
    for (int64_t j = 0; j < n; j++)
        k.targets[j] = j % k.s.Lp >= L || rng_below(&r, 5) == 0
                           ? TARGET_NONE
                           : (uint8_t)rng_below(&r, (uint64_t)V);
    k.hidden = calloc((size_t)(d * n), sizeof(double));
    k.logits = calloc((size_t)(V * n), sizeof(double));
    k.token = calloc((size_t)n, sizeof(double));
    double *want[TENSORS];
    for (int i = 0; i < TENSORS; i++)
        want[i] = differences(oracle, &k, k.t[i].d, k.t[i].n, 1 + k.t[i].n / 150);
    const double loss = oracle(&k);
    for (int threads = 1; threads <= MOST_THREADS; threads++)
        run(&k, &all, threads, loss, want);
    for (int i = 0; i < TENSORS; i++)
        free(want[i]);
    free(k.hidden);
    free(k.logits);
    free(k.token);
    buffers_close(&all);
}

static void shapes(void **state)
{
    (void)state;
    one_shape(2, 37, 8, 16, 0.3);
    one_shape(5, 129, 12, 16, 0.3);
    one_shape(1, 600, 7, 12, 1.0);
    one_shape(2, 64, 16, 16, 20.0); /* logits in the hundreds: exponentials must not overflow */
    one_shape(1, 3, 9, 5, 0.3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
