/* ranks: 1 3
 * What validation people decide for a model: its temperature, and its weight beside the nearest
 * pair. The choice against a grid that is searched whole, on scores with known best weights; an
 * evaluation whose combined probabilities are the softmax of what it states, and whose choice does
 * not depend on the people judged. */
#include "runtime/train/evaluate_combine.h"

#include "model/model.h"
#include "runtime/core/rng.h"
#include "tests/must.h"
#include "tests/rank_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CLASSES = 3, WINDOWS = 6000 };
static comm *world;
static int32_t truth[WINDOWS];
static double network[WINDOWS * CLASSES], pair[WINDOWS * CLASSES];

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("got %.9g, wanted %.9g within %g", got, want, tolerance);
}

static double combined(double a, double b, int64_t w, int k)
{
    double sum = 0;
    const double *m = network + w * CLASSES, *p = pair + w * CLASSES;
    for (int j = 0; j < CLASSES; j++)
        sum += exp(a * (m[j] - m[k]) + b * (p[j] - p[k]));
    return 1 / sum;
}

static double loss(double a, double b)
{
    double sum = 0;
    for (int64_t w = 0; w < WINDOWS; w++)
        sum -= log(combined(a, b, w, truth[w]));
    return sum / WINDOWS;
}

/* Scores at random, classes drawn as the two together say at weights a and b. */
static void make(double a, double b)
{
    for (int64_t w = 0; w < WINDOWS; w++) {
        rng r = rng_at(5, RNG_TEST, (uint64_t)w, 0);
        for (int k = 0; k < CLASSES; k++) {
            network[w * CLASSES + k] = 2 * rng_normal(&r);
            pair[w * CLASSES + k] = -40 + 8 * rng_normal(&r);
        }
        log_softmax(network + w * CLASSES, 1, CLASSES);
        double left = rng_uniform(&r);
        truth[w] = 0;
        while (truth[w] < CLASSES - 1 && (left -= combined(a, b, w, truth[w])) > 0)
            truth[w]++;
    }
}

static void fit(double *a, double *b)
{
    combine_fit(WINDOWS, CLASSES, truth, network, pair, a, b);
}

static void known_weights_are_found(void **state)
{
    (void)state;
    double a, b;
    make(0.7, 0.15);
    fit(&a, &b);
    near(a, 0.7, 0.05);
    near(b, 0.15, 0.01);
    const double found = loss(a, b);
    for (double x = 0.3; x < 1.3; x += 0.05) /* the whole grid, and close by */
        for (double y = 0; y < 0.5; y += 0.025)
            assert_true(found <= loss(x, y) + 1e-7);
    for (int i = -1; i <= 1; i++)
        for (int j = -1; j <= 1; j++)
            assert_true(found <= loss(a + 0.003 * i, b + 0.0005 * j) + 1e-7);
}

static void useless_pair(void **state)
{
    (void)state;
    double a, b;
    make(1.4, 0);
    for (int64_t i = 0; i < WINDOWS * CLASSES; i++)
        pair[i] = -17; /* says nothing */
    fit(&a, &b);
    near(b, 0, 0);
    near(a, 1.4, 0.07);
    double *room = malloc(sizeof network);
    near(1 / a, temperature_fit(network, truth, WINDOWS, CLASSES, room), 2e-3); /* alone */
    free(room);
    for (int64_t w = 0; w < WINDOWS; w++)
        for (int k = 0; k < CLASSES; k++)
            pair[w * CLASSES + k] = k == truth[w] ? -3 : 0; /* says the contrary */
    fit(&a, &b);
    near(b, 0, 0);
}

static void useless_model(void **state)
{
    (void)state;
    double a, b;
    make(0, 0.3);
    fit(&a, &b);
    assert_true(a < 0.05);
    near(b, 0.3, 0.02);
}

static void nothing_to_choose_from(void **state)
{
    (void)state;
    double a = 7, b = 7;
    combine_fit(0, CLASSES, NULL, NULL, NULL, &a, &b);
    near(a, 1, 0);
    near(b, 0, 0);
}

static void order_of_classes_does_not_matter(void **state)
{
    (void)state;
    double a, b, c, d;
    make(0.9, 0.2);
    fit(&a, &b);
    for (int64_t w = 0; w < WINDOWS; w++) {
        double *of[] = {network + w * CLASSES, pair + w * CLASSES};
        for (int i = 0; i < 2; i++) {
            const double first = of[i][0];
            of[i][0] = of[i][1];
            of[i][1] = of[i][2];
            of[i][2] = first;
        }
        truth[w] = (truth[w] + CLASSES - 1) % CLASSES;
    }
    fit(&c, &d);
    near(a, c, 1e-3);
    near(b, d, 1e-3);
}

static void temperature_of_scores(void **state)
{
    (void)state;
    make(0.4, 0);
    double *room = malloc(sizeof network);
    near(temperature_fit(network, truth, WINDOWS, CLASSES, room), 2.5, 0.15);
    for (int64_t w = 0; w < WINDOWS; w++)
        truth[w] = (int32_t)best_class(network + w * CLASSES, CLASSES); /* always right */
    near(temperature_fit(network, truth, WINDOWS, CLASSES, room), TEMPERATURE_LEAST, 1e-3);
    free(room);
}

/* ---- an evaluation ---- */

static char folder[64];
static const char yaml[] =
    "data: {seq_len: 24}\n"
    "model: {d_model: 8, n_layer: 1, d_inner: 16, l_max: 40, filter_order: 16, emb_dim: 3}\n"
    "position: {encoding: none}\n"
    "finetune: {head_hidden: 0}\n";

/* A model whose classes differ; what it says need not be right. */
static void write_model(device *dev)
{
    config c;
    model *m = NULL;
    char dir[128];
    checkpoint_tensor list[256];
    int64_t n = 0;
    config_defaults(&c);
    must(config_read_text(&c, "test", yaml, sizeof yaml - 1));
    must(config_finish(&c, false));
    must(model_open(&c, CLASSES, dev, &m));
    must(model_initialise(m, 3));
    must(model_place(m, NULL));
    const parameter *p;
    const int parameters = model_parameters(m, &p);
    for (int k = 0; k < parameters; k++)
        for (int64_t i = 0; p[k].group == GROUP_HEAD && i < p[k].count; i++) {
            rng r = rng_at(8, RNG_TEST, (uint64_t)k, (uint32_t)i);
            model_values(m)[p[k].offset + i] = 0.3f * (float)rng_normal(&r);
        }
    model_tensors(m, NULL, NULL, NULL, 0, list, 256, &n);
    mkdir(folder, 0777);
    snprintf(dir, sizeof dir, "%s/checkpoints", folder);
    mkdir(dir, 0777);
    const checkpoint_header h = {.step = 7,
                                 .ranks = 1,
                                 .config = yaml,
                                 .state = "{\"labels\": [\"AFR\", \"EAS\", \"EUR\"]}"};
    must(checkpoint_write(dir, &h, list, n));
    must(checkpoint_point(dir, "best", 7));
    model_close(&m);
}

static evaluation *judge(split_kind split, comm *c)
{
    evaluation *e = NULL;
    evaluate_options o = {.model = folder,
                          .data = SOURCE_DIR "/tests/data/small.h5",
                          .output = "none",
                          .command = "test",
                          .split = split,
                          .contexts = {24},
                          .n_contexts = 1,
                          .rounds = 20,
                          .seed = 1,
                          .threads = 1,
                          .device = DEVICE_CPU};
    o.baselines[BASELINE_PAIR] = true;
    must(evaluate_run(&o, c, &e));
    assert_int_equal(e->n_contexts, 1);
    assert_int_equal(e->context[0].n_methods, 3);
    return e;
}

/* The combination is what the result states, window by window. */
static void check_combined(const context_result *r)
{
    const method_result *m = &r->method[0], *p = &r->method[1], *both = &r->method[2];
    assert_string_equal(m->method, "model");
    assert_string_equal(p->method, "pair");
    assert_string_equal(both->method, "model+pair");
    assert_true(isnan(p->weight) && isnan(m->temperature) && isnan(p->calibrated.temperature));
    assert_true(both->weight > 0.01);
    for (int64_t i = 0; i < r->windows.n; i++) {
        double row[CLASSES];
        for (int k = 0; k < CLASSES; k++)
            row[k] = m->logp[i * CLASSES + k] / both->temperature +
                     both->weight * p->temperature * p->logp[i * CLASSES + k];
        log_softmax(row, 1, CLASSES);
        for (int k = 0; k < CLASSES; k++)
            near(both->logp[i * CLASSES + k], row[k], 1e-7);
    }
}

/* Log loss and ECE at a temperature, from the model's own log-probabilities. */
static void at_temperature(const context_result *r, double t, double *loss_at, double *ece)
{
    const int64_t n = r->windows.n;
    double *row = malloc((size_t)(n * CLASSES) * sizeof *row);
    for (int64_t i = 0; i < n * CLASSES; i++)
        row[i] = r->method[0].logp[i] / t;
    log_softmax(row, n, CLASSES);
    *loss_at = log_loss_of(row, r->windows.label, n, CLASSES);
    *ece = ece_of(row, r->windows.label, n, CLASSES, ECE_BINS);
    free(row);
}

static void validation_people_decide(void **state)
{
    (void)state;
    comm *alone = NULL;
    double loss_at, ece;
    must(comm_split(world, comm_rank(world), 0, &alone));
    evaluation *test = judge(SPLIT_TEST, world), *valid = judge(SPLIT_VALID, world),
               *one = judge(SPLIT_TEST, alone);
    const context_result *t = &test->context[0], *v = &valid->context[0];
    check_combined(t);
    check_combined(v);

    /* whoever is judged, and on any number of ranks */
    near(t->method[2].weight, v->method[2].weight, 0);
    near(t->method[2].temperature, v->method[2].temperature, 0);
    near(t->method[0].calibrated.temperature, v->method[0].calibrated.temperature, 0);
    near(t->method[2].weight, one->context[0].method[2].weight, 0);
    assert_memory_equal(t->method[2].logp, one->context[0].method[2].logp,
                        (size_t)(t->windows.n * CLASSES) * sizeof(double));

    /* never worse on validation people than either alone: both are choices that it has (all but
     * one part in TEMPERATURE_MOST of the model) */
    assert_true(v->method[2].log_loss < v->method[0].calibrated.log_loss + 1e-3);
    assert_true(v->method[2].log_loss < v->method[1].log_loss + 1e-3);
    assert_true(v->method[0].calibrated.log_loss < v->method[0].log_loss - 1e-4);

    /* what is told of the judged people: with the temperature beside, without it in the row */
    at_temperature(t, t->method[0].calibrated.temperature, &loss_at, &ece);
    near(t->method[0].calibrated.log_loss, loss_at, 1e-12);
    near(t->method[0].calibrated.ece, ece, 1e-12);
    at_temperature(t, 1, &loss_at, &ece);
    near(t->method[0].log_loss, loss_at, 1e-9);
    evaluate_close(&test);
    evaluate_close(&valid);
    evaluate_close(&one);
    comm_free(&alone);
}

int main(int argc, char **argv)
{
    device *dev = NULL;
    if (comm_start(&argc, &argv, &world) != STATUS_OK ||
        device_open(DEVICE_CPU, 1, &dev) != STATUS_OK)
        return 1;
    rank_folder_name(world, "combine", folder);
    if (comm_rank(world) == 0)
        write_model(dev);
    comm_barrier(world);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_weights_are_found),
        cmocka_unit_test(useless_pair),
        cmocka_unit_test(useless_model),
        cmocka_unit_test(nothing_to_choose_from),
        cmocka_unit_test(order_of_classes_does_not_matter),
        cmocka_unit_test(temperature_of_scores),
        cmocka_unit_test(validation_people_decide),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (!rank_folder_remove(world, folder))
        return 1;
    device_close(&dev);
    comm_end(&world);
    return failed;
}
