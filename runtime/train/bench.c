/* Times forward, backward and optimizer on random tokens, and measures the machine beside it in the
 * same run. */
#include "runtime/train/bench.h"
#include "model/model.h"
#include "runtime/core/log.h"
#include "runtime/core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BENCH_SECONDS 3.0 /* at least, and at least BENCH_ROUNDS */
#define BENCH_ROUNDS 3
#define BENCH_ENOUGH 120.0 /* after so many seconds one round will do */
#define BENCH_ROUNDS_MOST 200

static status peak_of(device *dev, int64_t *bytes)
{
    device_room room = {0};
    const status st = device_room_of(dev, &room);
    *bytes = room.peak;
    return st;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, ascending);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

typedef struct {
    model *m;
    device *dev;
    batch b;
    arena moments; /* of the optimizer: first, second */
    float *first, *second;
    arena room; /* the norm's partial sums */
    int64_t step;
} bench_state;

static status run_forward(bench_state *s)
{
    loss_sum loss = {0};
    return model_forward(s->m, &s->b, &(model_outputs){0}, &loss);
}

static status run_backward(bench_state *s)
{
    loss_sum loss = {0};
    TRY(model_backward(s->m, &s->b, &loss, NULL, NULL));
    return device_wait(s->dev); /* for the loss */
}

/* Norm, clip and AdamW over the whole arena, then gradients back to zero: what training does after
 * backward. */
static status run_optimizer(bench_state *s)
{
    int64_t n = model_floats(s->m);
    double squares = 0;
    float *gradients = model_gradients(s->m);
    TRY(norm_squares(s->dev, gradients, n, &squares, &s->room));
    TRY(device_wait(s->dev));
    adamw_args a = {.lr = 6e-4,
                    .b1 = 0.9,
                    .b2 = 0.999,
                    .eps = 1e-8,
                    .decay = 0.1,
                    .scale = 1.0 / fmax(1.0, sqrt(squares)),
                    .step = s->step++};
    TRY(adamw_update(s->dev, &a, n, model_values(s->m), gradients, s->first, s->second));
    TRY(device_clear(s->dev, gradients, (size_t)n * sizeof(float)));
    return device_wait(s->dev);
}

/* Random tokens of (B, Lp), once the arenas have said that such a batch fits. */
static status random_batch(bench_state *s)
{
    const int64_t B = s->b.s.B, L = s->b.s.L, Lp = s->b.s.Lp;
    const size_t columns = (size_t)(B * Lp);
    uint8_t *ids = malloc(columns), *targets = malloc(columns);
    s->b.ids = ids;
    s->b.targets = targets;
    if (!ids || !targets)
        return fail(STATUS_MEMORY, "bench: no memory for %zu tokens; lower --batch or --seq-len",
                    columns);
    memset(ids, TOKEN_PAD, columns);
    memset(targets, TARGET_NONE, columns);
    rng random = rng_at(1, RNG_TEST, 0, 0);
    for (int64_t b = 0; b < B; b++)
        for (int64_t t = 0; t < L; t++) {
            ids[b * Lp + t] = (uint8_t)(TOKEN_A + rng_below(&random, 4));
            targets[b * Lp + t] = (uint8_t)(TOKEN_A + rng_below(&random, 4));
        }
    return STATUS_OK;
}

/* Where the time goes: of a step, or of a forward pass, in which every operation is waited for (on
 * a CPU it always is). */
static status account(bench_state *s, bool training, bench_result *r)
{
    memset(s->dev->op_seconds, 0, sizeof s->dev->op_seconds);
    s->dev->synchronous = true;
    const double start_s = clock_monotonic_s();
    status st = training ? run_backward(s) : run_forward(s);
    if (st == STATUS_OK && training)
        st = run_optimizer(s);
    s->dev->synchronous = false;
    const double whole = clock_monotonic_s() - start_s;
    double total = 0;
    for (int k = 0; k < OP_KINDS; k++)
        total += s->dev->op_seconds[k];
    for (int k = 0; k < OP_KINDS; k++)
        r->share[k] = s->dev->op_seconds[k] / fmax(total, whole);
    return st;
}

static status time_rounds(bench_state *s, bool training, bench_result *r)
{
    double forward[BENCH_ROUNDS_MOST], both[BENCH_ROUNDS_MOST], whole[BENCH_ROUNDS_MOST];
    double begun = clock_monotonic_s();
    int n = 0;
    while (n < BENCH_ROUNDS_MOST &&
           clock_monotonic_s() - begun < (n == 0             ? INFINITY
                                          : n < BENCH_ROUNDS ? BENCH_ENOUGH
                                                             : BENCH_SECONDS)) {
        double t0 = clock_monotonic_s();
        TRY(run_forward(s));
        double t1 = clock_monotonic_s();
        forward[n] = t1 - t0;
        if (training) {
            t1 = clock_monotonic_s();
            TRY(run_backward(s));
            double t2 = clock_monotonic_s();
            TRY(run_optimizer(s));
            both[n] = t2 - t1;
            whole[n] = clock_monotonic_s() - t1;
        }
        n++;
    }
    r->forward_s = median(forward, n);
    if (training) {
        double together = median(both, n);
        r->backward_s = fmax(0.0, together - r->forward_s);
        r->step_s = median(whole, n);
    }
    return account(s, training, r);
}

/* The machine's rates, the better of now and before: a shared machine changes from minute to
 * minute, and the floor is what it can do. */
static status measure(bench_state *s, const config *c, bench_result *r)
{
    double gemm = 0, copy = 0;
    TRY(device_measure(s->dev, c->model.d_model, model_mixed(c, s->dev), &gemm, &copy));
    r->gemm_flops_per_s = fmax(r->gemm_flops_per_s, gemm);
    r->copy_bytes_per_s = fmax(r->copy_bytes_per_s, copy);
    return STATUS_OK;
}

static void set_floor(bench_result *r, bool training)
{
    r->floor_s = (double)r->flops / r->gemm_flops_per_s + (double)r->bytes / r->copy_bytes_per_s;
    r->fraction_of_floor = r->floor_s / (training ? r->step_s : r->forward_s);
}

/* The keep level that was asked for; auto: model_keep's where it fits beside what is there, else
 * the one that keeps least. */
static status choose_keep(bench_state *s, const config *c, bool training, model_cost *cost,
                          keep_level *keep)
{
    *keep = model_keep(c);
    TRY(model_plan(s->m, s->b.s, *keep, training, cost));
    device_room room = {0};
    TRY(device_room_of(s->dev, &room));
    const int64_t bytes = cost->activations + cost->workspace + 2 * cost->weights;
    if (c->train.recompute != RECOMPUTE_AUTO || room.available <= 0 || bytes <= room.available)
        return STATUS_OK;
    *keep = KEEP_INPUT;
    return model_plan(s->m, s->b.s, *keep, training, cost);
}

status bench_run(const config *c, device *dev, int64_t B, int64_t L, bool training, bench_result *r)
{
    memset(r, 0, sizeof *r);
    TRY(peak_of(dev, &r->start_bytes));
    bench_state s = {.dev = dev, .b = {.s = {B, L, length_padded(L)}, .training = training}};
    status st;
    r->tokens = B * L;
    TRY_GOTO(done, model_open(c, 0, dev, &s.m));
    TRY_GOTO(done, model_initialise(s.m, 1));
    model_cost cost;
    TRY_GOTO(done, choose_keep(&s, c, training, &cost, &r->keep));
    r->flops = cost.flops_forward + (training ? cost.flops_backward : 0);
    r->bytes = cost.bytes_forward + (training ? cost.bytes_backward : 0);
    TRY_GOTO(done, model_prepare(s.m, s.b.s, r->keep, training));
    TRY_GOTO(done, random_batch(&s));
    if (training) {
        const size_t floats = (size_t)model_floats(s.m), part = arena_round(floats * sizeof(float));
        TRY_GOTO(done, device_arena_open(dev, &s.moments, "optimizer", 2 * part));
        s.first = arena_take(&s.moments, part);
        s.second = arena_take(&s.moments, part);
        TRY_GOTO(done, device_arena_open(dev, &s.room, "workspace", floats / 64 + 4096));
    }
    TRY_GOTO(done, training ? run_backward(&s)
                            : run_forward(&s)); /* first touch of every page and plan */
    if (training)
        TRY_GOTO(done, run_optimizer(&s));
    memset(dev->op_seconds, 0, sizeof dev->op_seconds);
    /* before the machine is measured, which takes memory of its own */
    TRY_GOTO(done, peak_of(dev, &r->peak_bytes));
    TRY_GOTO(done, measure(&s, c, r));
    memset(dev->op_seconds, 0, sizeof dev->op_seconds);
    TRY_GOTO(done, time_rounds(&s, training, r));
    st = measure(&s, c, r);
    set_floor(r, training);

done:
    device_abandon(dev); /* it may read what follows */
    device_arena_close(dev, &s.room);
    device_arena_close(dev, &s.moments);
    model_close(&s.m);
    free((void *)(uintptr_t)s.b.targets);
    free((void *)(uintptr_t)s.b.ids);
    return st;
}
