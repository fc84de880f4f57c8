/* ranks: 1   on: cuda
 * embed: forward and every gradient against a naive evaluation in double and its central
 * differences, with none, one and several position tables; the dropout mask is a pure function of
 * (seed, step, column, channel). */
#include "tests/oracle.h"

#define MOST 3
#define SLOTS 11
#ifdef TEST_CUDA
#define THREADS 1 /* they mean nothing to a GPU */
#else
#define THREADS 3
#endif

typedef struct {
    buffers *all; /* where everything below lies */
    batch_shape s;
    int64_t d, V;
    int levels;
    uint8_t *ids;
    int32_t *slot[MOST];
    tensor E, added, A[MOST], Bm[MOST], coefficient;
    double *mask; /* (d, n): 0 or 1 / (1 - dropout) */
    double *out;
} embed_case;

static const int64_t rank_of[MOST] = {4, 16, 19};

static double oracle(void *context)
{
    embed_case *k = context;
    const int64_t n = k->s.B * k->s.Lp, d = k->d;
    double sum = 0;
    for (int64_t j = 0; j < n; j++) {
        for (int64_t c = 0; c < d && j % k->s.Lp < k->s.L; c++) {
            double v = k->E.d[k->ids[j] * d + c];
            for (int l = 0; l < k->levels; l++)
                for (int64_t r = 0; r < rank_of[l] && k->slot[l][j] >= 0; r++)
                    v += k->A[l].d[k->slot[l][j] * rank_of[l] + r] * k->Bm[l].d[r * d + c];
            v = v * k->mask[c * n + j] + k->added.d[c * n + j];
            k->out[c * n + j] = v;
            sum += v * k->coefficient.d[c * n + j];
        }
    }
    return sum;
}

/* Where the device finds the arrays of the case. */
static embed_args args_of(bench *b, const embed_case *k, double dropout)
{
    embed_args a = {.s = k->s, .d = k->d, .V = k->V};
    a.ids = bench_on(b, k->all, k->ids);
    a.E = bench_on(b, k->all, k->E.f);
    a.added = bench_on(b, k->all, k->added.f);
    a.n_levels = k->levels;
    for (int l = 0; l < k->levels; l++)
        a.level[l] = (embed_level){bench_on(b, k->all, k->slot[l]), bench_on(b, k->all, k->A[l].f),
                                   bench_on(b, k->all, k->Bm[l].f), rank_of[l]};
    a.dropout = dropout;
    a.seed = 5;
    a.step = 17;
    a.first_column = (int64_t)1 << 33; /* beyond 32 bits */
    a.stride = k->s.Lp;
    return a;
}

static void run(embed_case *k, int threads, double dropout)
{
    const int64_t n = k->s.B * k->s.Lp, d = k->d;
    buffers all = {0};
    bench b;
    rng r = rng_at(9, RNG_TEST, 0, 0);
    bench_device(&b, threads);
    const embed_args a = args_of(&b, k, dropout);
    const op_cost cost = embed_cost(b.dev, &a);
    bench_workspace(&b, cost.workspace);
    float *out = buffer_floats(&all, d * n);
    oracle(k);
    OK(embed_forward(b.dev, &a, bench_on(&b, &all, out), &b.ws));
    bench_back(&b);
    expect_close("residual", out, k->out, d * n, 2e-6);
    expect_pads_zero("residual", out, d, k->s);

    bench_poison(&b);
    float *dA[MOST], *dBm[MOST], *onA[MOST], *onBm[MOST], *dE = buffer_floats(&all, k->V * d);
    tensor before = tensor_random(&all, &r, k->V * d, 1.0), beforeB[MOST];
    memcpy(dE, before.f, (size_t)(k->V * d) * sizeof(float));
    for (int l = 0; l < k->levels; l++) {
        dA[l] = buffer_floats(&all, n * rank_of[l]);
        dBm[l] = buffer_floats(&all, rank_of[l] * d);
        beforeB[l] = tensor_random(&all, &r, rank_of[l] * d, 1.0);
        memcpy(dBm[l], beforeB[l].f, (size_t)(rank_of[l] * d) * sizeof(float));
        onA[l] = bench_on(&b, &all, dA[l]);
        onBm[l] = bench_on(&b, &all, dBm[l]);
    }
    const embed_args again = args_of(&b, k, dropout);
    OK(embed_backward(b.dev, &again, bench_on(&b, k->all, k->coefficient.f), bench_on(&b, &all, dE),
                      onA, onBm, &b.ws));
    bench_back(&b);
    double *want = differences(oracle, k, k->E.d, k->V * d, 1);
    expect_gradient("E", dE, before.f, want, k->V * d, 5e-6);
    free(want);
    for (int l = 0; l < k->levels; l++) {
        const int64_t rank = rank_of[l];
        want = differences(oracle, k, k->Bm[l].d, rank * d, 1);
        expect_gradient("Bm", dBm[l], beforeB[l].f, want, rank * d, 5e-6);
        free(want);
        float sum[SLOTS * 19] = {0}; /* rows used several times: their columns' gradients add up */
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < rank; i++) {
                if (k->slot[l][j] >= 0)
                    sum[k->slot[l][j] * rank + i] += dA[l][j * rank + i];
                else
                    assert_true(dA[l][j * rank + i] == 0.0f);
            }
        want = differences(oracle, k, k->A[l].d, SLOTS * rank, 1);
        expect_gradient("A", sum, NULL, want, SLOTS * rank, 5e-6);
        free(want);
    }
    bench_close(&b, cost.workspace);
    buffers_close(&all);
}

/* The mask, seen through a forward pass over ones. */
static void mask_of(embed_case *k, double dropout, int threads, int64_t shift, double *mask)
{
    const int64_t n = k->s.B * k->s.Lp;
    buffers all = {0};
    bench b;
    bench_device(&b, threads);
    embed_args a = args_of(&b, k, dropout);
    float *ones = buffer_floats(&all, k->V * k->d), *out = buffer_floats(&all, k->d * n);
    for (int64_t i = 0; i < k->V * k->d; i++)
        ones[i] = 1.0f;
    a.E = bench_on(&b, &all, ones);
    a.n_levels = 0;
    a.added = NULL;
    a.first_column += shift;
    const int64_t planned = embed_cost(b.dev, &a).workspace;
    bench_workspace(&b, planned);
    OK(embed_forward(b.dev, &a, bench_on(&b, &all, out), &b.ws));
    bench_back(&b);
    for (int64_t i = 0; i < k->d * n; i++)
        mask[i] = (double)out[i];
    bench_forget(&b);
    device_arena_close(b.dev, &b.ws);
    device_close(&b.dev);
    buffers_close(&all);
}

static void case_open(embed_case *k, buffers *all, int64_t B, int64_t L, int64_t d, int levels)
{
    rng r = rng_at(6, RNG_TEST, (uint64_t)L, (uint32_t)d);
    *k = (embed_case){.all = all, .s = shape_of(B, L), .d = d, .V = 16, .levels = levels};
    const int64_t n = B * k->s.Lp;
    k->ids = buffer_take(all, (size_t)n);
    for (int64_t j = 0; j < n; j++)
        k->ids[j] = j % k->s.Lp < L ? (uint8_t)rng_below(&r, 12) : 4;
    k->E = tensor_random(all, &r, 16 * d, 1.0);
    k->added = tensor_columns(all, &r, d, k->s, 1.0);
    k->coefficient = tensor_columns(all, &r, d, k->s, 1.0);
    for (int l = 0; l < levels; l++) {
        k->A[l] = tensor_random(all, &r, SLOTS * rank_of[l], 1.0);
        k->Bm[l] = tensor_random(all, &r, rank_of[l] * d, 1.0);
        k->slot[l] = buffer_take(all, (size_t)n * sizeof(int32_t));
        for (int64_t j = 0; j < n; j++)
            k->slot[l][j] = j % k->s.Lp < L ? (int32_t)rng_below(&r, SLOTS + 1) - 1 : -1;
    }
    k->mask = buffer_take(all, (size_t)(d * n) * sizeof(double));
    k->out = buffer_take(all, (size_t)(d * n) * sizeof(double));
    for (int64_t i = 0; i < d * n; i++) {
        k->mask[i] = 1;
        k->out[i] = 0;
    }
}

static void shapes(void **state)
{
    (void)state;
    const int64_t shape[][3] = {{2, 37, 8}, {5, 129, 12}, {1, 600, 7},
                                {3, 64, 5}, {1, 1, 16},   {2, 3, 70}};
    const int levels[] = {0, 1, 2, 3, 0, 3};
    for (int i = 0; i < 6; i++) {
        buffers all = {0};
        embed_case k;
        const double dropout = i % 2 ? 0.3 : 0.0;
        case_open(&k, &all, shape[i][0], shape[i][1], shape[i][2], levels[i]);
        if (dropout > 0)
            mask_of(&k, dropout, 1, 0, k.mask);
        for (int threads = 1; threads <= THREADS; threads++)
            run(&k, threads, dropout);
        buffers_close(&all);
    }
}

/* The function itself, of args_of's seed, step and first column: the same on every device. */
static bool is_dropped(double dropout, int64_t c, int64_t j)
{
    const uint64_t column = ((uint64_t)1 << 33) + (uint64_t)j, group = column / 4;
    uint32_t word[4];
    rng_words(5, RNG_DROPOUT, 17, (uint32_t)((uint64_t)c | group >> 32 << 20), (uint32_t)group,
              word);
    return word[column % 4] < dropout * 4294967296.0;
}

static void dropout_is_a_function(void **state)
{
    (void)state;
    buffers all = {0};
    embed_case k;
    case_open(&k, &all, 3, 320, 16, 0);
    const int64_t n = k.s.B * k.s.Lp, total = k.d * n;
    double *again = malloc((size_t)total * sizeof *again);
    int64_t dropped = 0, same_channel = 0;
    mask_of(&k, 0.25, 1, 0, k.mask);
    for (int64_t i = 0; i < total; i++) {
        assert_true((k.mask[i] == 0.0) == is_dropped(0.25, i / n, i % n));
        assert_true(k.mask[i] == 0.0 || fabs(k.mask[i] - 4.0 / 3.0) < 1e-6);
        dropped += k.mask[i] == 0.0;
        same_channel += i >= n && (k.mask[i] == 0.0) == (k.mask[i - n] == 0.0);
    }
    assert_true(fabs((double)dropped / (double)total - 0.25) < 0.015); /* 4 sigma of 15360 draws */
    assert_true(fabs((double)same_channel / (double)(total - n) - 0.625) <
                0.02); /* channels independent */
    mask_of(&k, 0.25, 3, 0, again);
    assert_memory_equal(again, k.mask, (size_t)total * sizeof *again);
    for (int64_t shift = 1; shift <= k.s.Lp;
         shift += k.s.Lp - 1) { /* another rank's first column */
        mask_of(&k, 0.25, 2, shift, again);
        for (int64_t c = 0; c < k.d; c++)
            for (int64_t j = 0; j + shift < n; j++)
                assert_true(again[c * n + j] == k.mask[c * n + j + shift]);
    }
    free(again);
    buffers_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes),
                                       cmocka_unit_test(dropout_is_a_function)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
