/* ranks: 1
 * A model with absent sums and a site head on windows of the small data set: before training it is
 * naive Bayes over every site of the span; its gradients, rows of all tables included, against
 * differences of its loss along random directions; the same sums however a batch is cut; windows
 * read from their end; next-site pretraining that goes over to the classes; the next token's
 * position. */
#include "model/model.h"
#include "runtime/train/baseline.h"
#include "runtime/train/feed.h"
#include "runtime/train/space.h"
#include "tests/must.h"
#include "tests/small_dataset.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define L_ 30
#define N_ 7 /* windows */

typedef struct {
    config c;
    small_dataset *s;
    draws *x;
    device *dev;
    model *m;
    feed f;
    window_set w;
} fixture;

static void configure(config *c)
{
    config_defaults(c);
    c->seed = 3;
    c->data.absent = ABSENT_SUMS;
    c->data.seq_len = 0;
    c->model.d_model = 8;
    c->model.n_layer = 1;
    c->model.d_inner = 12;
    c->model.l_max = 40;
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
    c->finetune.head_hidden = 5;
    c->finetune.site_weight = 3;
}

static void open_all(fixture *f, int classes)
{
    position_space space;
    f->s = small_dataset_make();
    must(space_of_dataset(&f->s->d, &space));
    must(draws_open(&f->s->d, &f->c.data, 1, &f->x));
    must(window_set_tile(&f->s->d, f->x, SPLIT_TEST, L_, 17, &f->w));
    assert_true(f->w.n >= N_);
    must(device_open(DEVICE_CPU, 2, &f->dev));
    must(model_open(&f->c, classes, f->dev, &f->m));
    must(model_place(f->m, &space));
    space_free(&space);
    must(model_initialise(f->m, 3));
    must(position_site_biases(model_position(f->m), NULL, NULL));
    must(feed_open(N_, L_, true, &f->f));
    for (int i = 0; i < N_; i++) {
        window w = f->w.at[i * (f->w.n / N_)];
        if (i == 2)
            w.count -= 11; /* shorter than the batch */
        must(feed_fill(&f->f, i, &f->s->d, f->x, &w, classes > 0));
        if (i % 3 == 1)
            feed_reverse(&f->f, i);
    }
    if (classes)
        f->f.label[4] = -1;
    must(model_prepare(f->m, (batch_shape){N_, L_, length_padded(L_)}, KEEP_SELECTED, true));
}

static void close_all(fixture *f)
{
    window_set_free(&f->w);
    feed_close(&f->f);
    model_close(&f->m);
    device_close(&f->dev);
    draws_close(&f->x);
    free(f->s);
}

static double loss_of(fixture *f)
{
    loss_sum loss = {0};
    const batch b = feed_slice(&f->f, 0, N_, f->f.targets[0] == TARGET_NONE);
    must(model_forward(f->m, &b, NULL, &loss));
    return loss.sum;
}

static void run_backward(fixture *f, int64_t from, int64_t n, loss_sum *loss)
{
    const batch b = feed_slice(&f->f, from, n, f->f.targets[0] == TARGET_NONE);
    must(model_backward(f->m, &b, loss, NULL, NULL));
}

static void clear(fixture *f)
{
    memset(model_gradients(f->m), 0, (size_t)model_floats(f->m) * sizeof(float));
    model_rows_clear(f->m);
}

/* Derivative along u of the loss by n values at x, held against <g, u>. */
static void along(fixture *f, const char *what, float *x, const float *g, int64_t n,
                  uint64_t stream)
{
    float *kept = malloc((size_t)n * sizeof *kept);
    double want = 0, size = 0;
    const double h = 2e-3;
    memcpy(kept, x, (size_t)n * sizeof *kept);
    double side[2];
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < n; i++) {
            rng r = rng_at(9, RNG_TEST, stream << 32 | (uint64_t)i, 0);
            const double u =
                rng_normal(&r) / sqrt((double)n) + (g[i] > 0 ? 0.5 : -0.5) / sqrt((double)n);
            x[i] = (float)(kept[i] + (k ? -h : h) * u);
            if (k == 0) {
                want += g[i] * u;
                size += (double)g[i] * g[i];
            }
        }
        side[k] = loss_of(f);
    }
    memcpy(x, kept, (size_t)n * sizeof *kept);
    free(kept);
    const double have = (side[0] - side[1]) / (2 * h);
    if (!(size > 1e-10))
        fail_msg("%s: no gradient at all", what);
    if (!(fabs(have - want) <= 0.02 * fmax(fabs(want), 0.3 * sqrt(size)) + 2e-3))
        fail_msg("%s: the loss changes by %.6g, the gradient says %.6g", what, have, want);
}

static void check_gradients(fixture *f)
{
    loss_sum loss = {0};
    clear(f);
    run_backward(f, 0, N_, &loss);
    assert_true(fabs(loss.sum - loss_of(f)) <= 1e-5 * fabs(loss.sum));
    const parameter *p;
    const int n = model_parameters(f->m, &p);
    for (int i = 0; i < n; i++)
        if (!strstr(p[i].name, "implicit_filter"))
            along(f, p[i].name, model_values(f->m) + p[i].offset,
                  model_gradients(f->m) + p[i].offset, p[i].count, (uint64_t)i);
    row_table *t[ROW_TABLES];
    const int tables = position_tables(model_position(f->m), t);
    for (int l = 0; l < tables; l++) {
        int64_t count;
        const int32_t *slots;
        const float *sum;
        char name[32];
        assert_int_equal(model_row_gradients(f->m, l, &count, &slots, &sum), STATUS_OK);
        assert_true(count > 5);
        float *g = calloc((size_t)(t[l]->slots * t[l]->k), sizeof *g);
        for (int64_t i = 0; i < count; i++)
            memcpy(g + slots[i] * t[l]->k, sum + i * t[l]->k, (size_t)t[l]->k * sizeof *g);
        snprintf(name, sizeof name, "rows of table %d", l);
        along(f, name, t[l]->p, g, t[l]->slots * t[l]->k, (uint64_t)(100 + l));
        free(g);
    }
}

static void gradients_by_class(void **state)
{
    (void)state;
    fixture f = {0};
    configure(&f.c);
    open_all(&f, 3);
    check_gradients(&f);
    close_all(&f);
}

static void gradients_unconditional(void **state)
{
    (void)state;
    fixture f = {0};
    configure(&f.c);
    f.c.objective = OBJECTIVE_NEXT_SITE;
    f.c.position.encoding = ENCODING_FPE_MULTI;
    open_all(&f, 0);
    assert_int_equal(model_site_head(f.m), 1);
    check_gradients(&f);
    close_all(&f);
}

static void gradients_of_next_position(void **state)
{
    (void)state;
    fixture f = {0};
    configure(&f.c);
    f.c.objective = OBJECTIVE_POSITION_CONDITIONED;
    f.c.data.absent = ABSENT_NONE;
    open_all(&f, 0);
    check_gradients(&f);
    close_all(&f);
}

static void micro_batches(void **state)
{
    (void)state;
    fixture f = {0};
    configure(&f.c);
    open_all(&f, 3);
    loss_sum all = {0}, part = {0};
    const size_t bytes = (size_t)model_floats(f.m) * sizeof(float);
    clear(&f);
    run_backward(&f, 0, N_, &all);
    float *whole = malloc(bytes);
    memcpy(whole, model_gradients(f.m), bytes);
    clear(&f);
    double sum = 0;
    for (int i = 0; i < N_; i += 3) {
        run_backward(&f, i, N_ - i < 3 ? N_ - i : 3, &part);
        sum += part.sum;
    }
    assert_true(fabs(sum - all.sum) <= 1e-5 * fabs(all.sum));
    double error = 0, size = 0;
    for (int64_t i = 0; i < model_floats(f.m); i++) {
        error += pow((double)model_gradients(f.m)[i] - (double)whole[i], 2);
        size += pow((double)whole[i], 2);
    }
    assert_true(sqrt(error) <= 1e-5 * sqrt(size));
    free(whole);
    close_all(&f);
}

/* With queries of zero, the log-odds of two classes are scale times those of naive Bayes with
 * absent sites: held against the baseline that evaluations print. */
static void begins_as_naive_bayes(void **state)
{
    (void)state;
    fixture f = {0};
    configure(&f.c);
    f.c.finetune.head_hidden = 0;
    open_all(&f, 3);
    site_counts counts = {0};
    must(site_counts_open(&f.s->d, ALLELES_UNION, &counts));
    float *odds = malloc(SMALL_SITES * 3 * sizeof *odds);
    for (int s = 0; s < SMALL_SITES; s++)
        for (int c = 0; c < 3; c++) {
            const double carried = counts.carriers[c * SMALL_SITES + s];
            const double called =
                (double)(counts.sequences[c] - counts.missing[c * SMALL_SITES + s]);
            odds[s * 3 + c] = (float)log((carried + 0.5) / (called - carried + 0.5));
        }
    must(position_site_biases(model_position(f.m), odds, NULL));
    const parameter *p;
    const int n = model_parameters(f.m, &p);
    for (int i = 0; i < n; i++)
        if (strstr(p[i].name, "head.sites.") && !strstr(p[i].name, "scale"))
            memset(model_values(f.m) + p[i].offset, 0, (size_t)p[i].count * sizeof(float));
    double *nb = malloc((size_t)f.w.n * 3 * sizeof *nb);
    must(baseline_nb_absent(&counts, &f.w, nb));
    float logits[3];
    for (int64_t i = 0; i < f.w.n; i++) {
        must(feed_fill(&f.f, 0, &f.s->d, f.x, &f.w.at[i], true));
        if (i % 2)
            feed_reverse(&f.f, 0); /* naive Bayes does not know a direction */
        const batch b = feed_slice(&f.f, 0, 1, true);
        const model_outputs out = {.class_logits = logits};
        loss_sum loss;
        must(model_forward(f.m, &b, &out, &loss));
        for (int c = 1; c < 3; c++)
            if (!(fabs(2.0 * (double)(logits[c] - logits[0]) - (nb[i * 3 + c] - nb[i * 3])) < 2e-3))
                fail_msg("window %d: %g instead of %g", (int)i,
                         2.0 * (double)(logits[c] - logits[0]), nb[i * 3 + c] - nb[i * 3]);
    }
    free(nb);
    free(odds);
    site_counts_free(&counts);
    close_all(&f);
}

/* Twice turned around is the window again, but for the ids that say so. */
static void turned_around(void **state)
{
    (void)state;
    fixture f = {0};
    configure(&f.c);
    open_all(&f, 3);
    feed g = {0};
    must(feed_open(1, L_, true, &g));
    for (int64_t i = 0; i < f.w.n; i++) {
        must(feed_fill(&f.f, 0, &f.s->d, f.x, &f.w.at[i], true));
        must(feed_fill(&g, 0, &f.s->d, f.x, &f.w.at[i], true));
        feed_reverse(&g, 0);
        const int64_t n = g.span_start[1];
        for (int64_t e = 0; e < n; e++) { /* against a plain walk from the end */
            int last = -1;
            for (int t = 0; t < L_; t++)
                if (g.site[t] > g.span_site[e])
                    last = t;
            assert_int_equal(g.span_token[e], last);
            assert_int_equal(g.span_site[e], f.f.span_site[n - 1 - e]);
            assert_int_equal(g.span_carried[e], f.f.span_carried[n - 1 - e]);
        }
        for (int t = 0; t < L_; t++) {
            assert_int_equal(g.ids[t], f.f.ids[L_ - 1 - t] + 5);
            assert_int_equal(g.position[t], f.f.position[L_ - 1 - t]);
        }
        feed_reverse(&g, 0);
        assert_memory_equal(g.span_token, f.f.span_token, (size_t)n * sizeof *g.span_token);
    }
    feed_close(&g);
    close_all(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_by_class),         cmocka_unit_test(gradients_unconditional),
        cmocka_unit_test(gradients_of_next_position), cmocka_unit_test(micro_batches),
        cmocka_unit_test(begins_as_naive_bayes),      cmocka_unit_test(turned_around),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
