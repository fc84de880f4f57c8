/* ranks: 1
 * Sequences drawn from a site head, put back through the model: the same likelihood, also where
 * windows give up their first half; carried as often as the model says, in every bin of its
 * probability; the same sequences whatever is guessed ahead and however many are drawn at once. */
#include "runtime/train/feed.h"
#include "runtime/train/sampler.h"
#include "runtime/train/space.h"
#include "tests/must.h"
#include "tests/small_dataset.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define LONGEST 120 /* sites of a block */
#define EACH 40     /* sequences a label */
#define SEQUENCES (EACH * SMALL_LABELS)
#define BLOCKS 3

typedef struct {
    config c;
    small_dataset *s;
    device *dev;
    model *m;
    uint8_t base[SEQUENCES][SMALL_SITES];
    sampled list[BLOCKS * SEQUENCES];
} fixture;

static const int64_t block_first[BLOCKS + 1] = {0, 120, 200, 300};

static void configure(config *c)
{
    config_defaults(c);
    c->seed = 3;
    c->data.absent = ABSENT_SUMS;
    c->model.d_model = 8;
    c->model.n_layer = 1;
    c->model.d_inner = 12;
    c->model.l_max = LONGEST + 2;
    c->model.filter_order = 6;
    c->model.init = WEIGHTS_FAN_IN;
    c->model.residual_init = 0.5;
    c->model.head = HEAD_CLASS_CONDITIONAL;
    c->model.head_rank = 4;
    c->position.encoding = ENCODING_FPE;
    c->position.alpha = 1500;
    c->position.rank = 3;
    c->position.rows = ROWS_CHROMOSOME;
    c->position.init = INIT_NORMAL;
    c->finetune.head_hidden = 0;
}

/* A head whose answer hangs on what came before, beside biases by site and class. */
static void head_of_weight(fixture *f)
{
    float odds[SMALL_SITES * SMALL_LABELS];
    for (int i = 0; i < SMALL_SITES; i++)
        for (int k = 0; k < SMALL_LABELS; k++) {
            const double p = small_frequency(i, k);
            odds[i * SMALL_LABELS + k] = (float)log(p / (1 - p));
        }
    must(position_site_biases(model_position(f->m), odds, NULL));
    const parameter *p;
    const int n = model_parameters(f->m, &p);
    for (int i = 0; i < n; i++)
        if (strstr(p[i].name, "head.sites.") && !strstr(p[i].name, "scale"))
            for (int64_t j = 0; j < p[i].count; j++) {
                rng r = rng_at(8, RNG_TEST, (uint64_t)i, (uint32_t)j);
                model_values(f->m)[p[i].offset + j] = (float)(1.5 * rng_normal(&r));
            }
}

static void open_all(fixture *f)
{
    position_space space;
    configure(&f->c);
    f->s = small_dataset_make();
    must(space_of_dataset(&f->s->d, &space));
    must(device_open(DEVICE_CPU, 2, &f->dev));
    must(model_open(&f->c, SMALL_LABELS, f->dev, &f->m));
    must(model_place(f->m, &space));
    space_free(&space);
    must(model_initialise(f->m, 3));
    head_of_weight(f);
}

static void close_all(fixture *f)
{
    model_close(&f->m);
    device_close(&f->dev);
    free(f->s);
    free(f);
}

static fixture *opened(void)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    open_all(f);
    return f;
}

static void draw(fixture *f, int64_t context, int64_t room, int64_t ahead, uint64_t seed)
{
    sampler *x = NULL;
    const sampler_options o = {context, room, ahead, seed};
    memset(f->base, 99, sizeof f->base);
    for (int b = 0; b < BLOCKS; b++)
        for (int i = 0; i < SEQUENCES; i++)
            f->list[b * SEQUENCES + i] = (sampled){.label = i / EACH,
                                                   .key = (uint64_t)(i % EACH),
                                                   .first = block_first[b],
                                                   .end = block_first[b + 1],
                                                   .base = f->base[i] + block_first[b]};
    must(sampler_open(f->m, &f->s->d, &o, &x));
    must(sampler_run(x, f->list, BLOCKS * SEQUENCES));
    int64_t passes, sequences;
    sampler_effort(x, &passes, &sequences);
    assert_true(passes > 0 && sequences >= passes && sequences <= passes * room);
    sampler_close(&x);
}

/* The carried sites of a drawn sequence. */
typedef struct {
    drawn d;
    uint8_t ids[LONGEST];
    int32_t at[LONGEST];
} tokens;

static void tokens_of(const sampled *q, tokens *t)
{
    t->d = (drawn){.chromosome = q->first >= 200, .label = q->label, .ids = t->ids, .site = t->at};
    for (int64_t i = q->first; i < q->end; i++)
        if (q->base[i - q->first]) {
            t->ids[t->d.count] = (uint8_t)(TOKEN_A + q->base[i - q->first] - 1);
            t->at[t->d.count++] = (int32_t)i;
        }
}

/* A window of n tokens from `from` on; logits of its span by the model, and its whole nll. */
static int64_t window_through(fixture *f, feed *g, const tokens *t, int64_t from, int64_t n,
                              float *logits, double *nll)
{
    drawn w = t->d;
    w.ids += from;
    w.site += from;
    w.count = n;
    w.first_site = w.site[0];
    w.end_site = w.site[n - 1] + 1;
    must(feed_put(g, 0, &f->s->d, &w, true));
    const batch b = feed_slice(g, 0, 1, true);
    const model_outputs out = {.site_logits = logits, .sequence_nll = nll};
    must(model_forward(f->m, &b, &out, NULL));
    return w.first_site;
}

static double nll_of(double z, bool carried)
{
    return log1p(exp(carried ? -z : z));
}

/* Sums of -log p by the plain reading of what sampler.h promises: windows that begin every
 * context / 2 tokens, each answering for the sites behind those that it shares with the last. */
static double nll_again(fixture *f, feed *g, const sampled *q, int64_t context, int64_t *judged)
{
    tokens t;
    float logits[LONGEST * SMALL_LABELS];
    double sum = 0, whole;
    *judged = 0;
    tokens_of(q, &t);
    int64_t done = 0; /* tokens that are accounted for */
    for (int64_t from = 0; done < t.d.count; from += context - context / 2) {
        const int64_t n = t.d.count - from < context ? t.d.count - from : context;
        const int64_t first = window_through(f, g, &t, from, n, logits, &whole);
        const int64_t begin = done ? t.at[done - 1] + 1 : first;
        for (int64_t at = begin; at <= t.at[from + n - 1]; at++, ++*judged)
            sum += nll_of((double)logits[(at - first) * SMALL_LABELS + q->label],
                          q->base[at - q->first] != 0);
        if (n == t.d.count) /* one window: the model's own sum */
            assert_true(fabs(sum - whole) <= 1e-4 * (1 + whole));
        done = from + n;
    }
    return sum;
}

static void likelihood_at(fixture *f, int64_t context)
{
    feed g = {0};
    draw(f, context, 16, 20, 4);
    must(feed_open(1, LONGEST, true, &g));
    must(model_prepare(f->m, (batch_shape){1, LONGEST, length_padded(LONGEST)}, KEEP_INPUT, false));
    for (int64_t i = 0; i < BLOCKS * SEQUENCES; i++) {
        const sampled *q = &f->list[i];
        tokens t;
        int64_t judged;
        tokens_of(q, &t);
        const double again = nll_again(f, &g, q, context, &judged);
        assert_true(q->carried > 15);
        assert_int_equal(q->carried, t.d.count);
        assert_int_equal(q->judged, judged);
        if (!(fabs(again - q->nll) <= 1e-4 * (1 + again)))
            fail_msg("sequence %d, context %d: %.8g drawn, %.8g by the model", (int)i, (int)context,
                     q->nll, again);
    }
    feed_close(&g);
}

static void likelihood(void **state)
{
    (void)state;
    fixture *f = opened();
    likelihood_at(f, LONGEST); /* one window a block */
    likelihood_at(f, 12);
    likelihood_at(f, 7);
    close_all(f);
}

/* Carried as often as the model's probability says, in ten bins of it. */
static void frequencies(void **state)
{
    (void)state;
    fixture *f = opened();
    feed g = {0};
    float logits[LONGEST * SMALL_LABELS];
    double whole, expected[10] = {0}, variance[10] = {0}, observed[10] = {0}, far = 0;
    draw(f, LONGEST, 16, 20, 5);
    must(feed_open(1, LONGEST, true, &g));
    must(model_prepare(f->m, (batch_shape){1, LONGEST, length_padded(LONGEST)}, KEEP_INPUT, false));
    for (int64_t i = 0; i < BLOCKS * SEQUENCES; i++) {
        const sampled *q = &f->list[i];
        tokens t;
        tokens_of(q, &t);
        const int64_t first = window_through(f, &g, &t, 0, t.d.count, logits, &whole);
        for (int64_t at = first + 1; at <= t.at[t.d.count - 1]; at++) {
            const double p = 1 / (1 + exp(-(double)logits[(at - first) * SMALL_LABELS + q->label]));
            const int bin = p < 1 ? (int)(10 * p) : 9;
            expected[bin] += p;
            variance[bin] += p * (1 - p);
            observed[bin] += q->base[at - q->first] != 0;
            far += fabs(p - small_frequency((int)at, q->label));
        }
    }
    assert_true(far > 0.1 * SEQUENCES * SMALL_SITES); /* the state has its say */
    for (int b = 0; b < 10; b++) {
        assert_true(variance[b] > 20);
        if (!(fabs(observed[b] - expected[b]) <= 4.5 * sqrt(variance[b])))
            fail_msg("bin %d: %g carried where %g +- %g are expected", b, observed[b], expected[b],
                     sqrt(variance[b]));
    }
    feed_close(&g);
    close_all(f);
}

/* Two alternate bases, each about half of the time, never another. */
static void bases(void **state)
{
    (void)state;
    fixture *f = opened();
    int64_t n[5] = {0};
    draw(f, LONGEST, 16, 20, 6);
    for (int i = 0; i < SEQUENCES; i++)
        for (int at = 0; at < SMALL_SITES; at++) {
            assert_in_range(f->base[i][at], 0, 4);
            n[f->base[i][at]]++;
        }
    const double carried = (double)(n[3] + n[4]);
    assert_int_equal(n[1] + n[2], 0);
    assert_true(fabs((double)n[3] - carried / 2) <= 4.5 * sqrt(carried) / 2);
    close_all(f);
}

static void the_same_however_drawn(void **state)
{
    (void)state;
    fixture *f = opened();
    uint8_t(*kept)[SMALL_SITES] = malloc(sizeof f->base);
    assert_non_null(kept);
    draw(f, 20, 16, 30, 7);
    memcpy(kept, f->base, sizeof f->base);
    draw(f, 20, 16, 1, 7); /* one site a pass: nothing is guessed */
    assert_memory_equal(kept, f->base, sizeof f->base);
    draw(f, 20, 1, 500, 7);
    assert_memory_equal(kept, f->base, sizeof f->base);
    assert_memory_not_equal(f->base[0], f->base[1], SMALL_SITES);
    draw(f, 20, 16, 30, 8);
    assert_memory_not_equal(kept, f->base, sizeof f->base);
    free(kept);
    close_all(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(likelihood),
        cmocka_unit_test(frequencies),
        cmocka_unit_test(bases),
        cmocka_unit_test(the_same_however_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
