/* ranks: 1 2 3
 * A model in an evaluation: classes by name though the checkpoint lists them in another order,
 * windows beyond l_max in pieces, perplexity, each against a forward pass of one window at a time;
 * the same bits on any number of ranks. */
#include "runtime/train/evaluate_model.h"

#include "model/model.h"
#include "runtime/train/statistics.h"
#include "tests/must.h"
#include "tests/rank_folder.h"
#include "tests/small_dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static comm *world;
static small_dataset *s;
static device *dev;
static draws *x;
static char folder[64];

static const char yaml[] =
    "data: {seq_len: 24}\n"
    "model: {d_model: 16, n_layer: 2, d_inner: 32, l_max: 40, filter_order: 16, emb_dim: 3}\n"
    "position: {encoding: fpe, alpha: 100, rank: 4, length: 249250621, init: normal}\n"
    "finetune: {head_hidden: 8}\n";

/* The model by hand, not through a file. Weights are far from their small initial values: classes
 * must differ. */
static model *make_model(int classes)
{
    static config c;
    model *m = NULL;
    config_defaults(&c);
    must(config_read_text(&c, "test", yaml, sizeof yaml - 1));
    must(config_finish(&c, false));
    must(model_open(&c, classes, dev, &m));
    must(model_initialise(m, 3));
    must(model_place(m, NULL));
    const parameter *p;
    const int n = model_parameters(m, &p);
    for (int k = 0; k < n; k++)
        for (int64_t i = 0; p[k].group == GROUP_HEAD && i < p[k].count; i++) {
            rng r = rng_at(8, RNG_TEST, (uint64_t)k, (uint32_t)i);
            model_values(m)[p[k].offset + i] = (float)rng_normal(&r);
        }
    return m;
}

static void write_run(const char *name, model *m, const char *state)
{
    char dir[128];
    checkpoint_tensor list[256];
    int64_t n = 0;
    snprintf(dir, sizeof dir, "%s/%s", folder, name);
    mkdir(folder, 0777);
    mkdir(dir, 0777);
    snprintf(dir, sizeof dir, "%s/%s/checkpoints", folder, name);
    mkdir(dir, 0777);
    model_tensors(m, NULL, NULL, NULL, 0, list, 256, &n);
    assert_true(n < 256);
    const checkpoint_header h = {.step = 7, .ranks = 1, .config = yaml, .state = state};
    must(checkpoint_write(dir, &h, list, n));
    must(checkpoint_point(dir, "best", 7));
}

/* One piece of a window through the model alone. */
static double forward_alone(model *m, const window *w, float *class_logits)
{
    uint8_t ids[64], targets[64];
    int64_t position[64] = {0};
    int32_t at[64], sites[64];
    memset(ids, TOKEN_PAD, sizeof ids);
    memset(targets, TARGET_NONE, sizeof targets);
    draws_fill(x, w, ids, at, sites);
    for (int64_t t = 0; t < w->count; t++) {
        position[t] = at[t];
        if (t + 1 < w->count)
            targets[t] = ids[t + 1];
    }
    const batch b = {.s = {1, w->count, 64},
                     .ids = ids,
                     .targets = class_logits ? NULL : targets,
                     .position = position,
                     .chromosome = &w->chromosome,
                     .site = sites};
    const model_outputs out = {.class_logits = class_logits};
    loss_sum loss = {0};
    must(model_prepare(m, b.s, KEEP_INPUT, false));
    must(model_forward(m, &b, &out, &loss));
    return loss.sum;
}

static void judge_classes(evaluate_model *e, model *m, int64_t context, int64_t pieces)
{
    window_set w;
    must(window_set_tile(&s->d, x, SPLIT_TEST, context, context, &w));
    assert_true(w.n > 20);
    double *got = calloc((size_t)w.n * SMALL_LABELS, sizeof *got);
    double *alone = calloc((size_t)w.n * SMALL_LABELS, sizeof *alone);
    must(evaluate_model_classes(e, &w, world, got));
    double spread = 0;
    for (int64_t i = 0; i < w.n; i += 3) {
        double want[SMALL_LABELS] = {0};
        for (int64_t k = 0; k < pieces; k++) {
            window p = w.at[i];
            const int64_t from = p.count * k / pieces;
            p.count = p.count * (k + 1) / pieces - from;
            p.first += from;
            float logits[SMALL_LABELS];
            double row[SMALL_LABELS];
            forward_alone(m, &p, logits);
            for (int c = 0; c < SMALL_LABELS; c++)
                row[SMALL_LABELS - 1 - c] = logits[c]; /* the file lists EUR, EAS, AFR */
            log_softmax(row, 1, SMALL_LABELS);
            for (int c = 0; c < SMALL_LABELS; c++)
                want[c] += row[c];
        }
        log_softmax(want, 1, SMALL_LABELS);
        for (int c = 0; c < SMALL_LABELS; c++) {
            if (!(fabs(got[i * SMALL_LABELS + c] - want[c]) < 1e-4))
                fail_msg("window %d class %d: %.7g, wanted %.7g", (int)i, c,
                         got[i * SMALL_LABELS + c], want[c]);
            spread = fmax(spread, fabs(want[c] + log(SMALL_LABELS)));
        }
    }
    assert_true(spread > 0.05); /* the classes differ, so that an exchange would be seen */

    comm *self = NULL;
    must(comm_split(world, comm_rank(world), 0, &self));
    must(evaluate_model_classes(e, &w, self, alone));
    assert_memory_equal(got, alone, (size_t)w.n * SMALL_LABELS * sizeof *got);
    comm_free(&self);
    free(got);
    free(alone);
    window_set_free(&w);
}

static void classes_of_windows_and_of_pieces(void **state)
{
    (void)state;
    char run[128];
    model *m = make_model(SMALL_LABELS);
    if (comm_rank(world) == 0)
        write_run("classifier", m, "{\"labels\": [\"EUR\", \"EAS\", \"AFR\"]}");
    must(comm_barrier(world));
    snprintf(run, sizeof run, "%s/classifier", folder);
    evaluate_model *e = NULL;
    must(evaluate_model_open(run, &s->d, world, DEVICE_CPU, 1, &e));
    assert_true(evaluate_model_classifies(e));
    assert_false(evaluate_model_predicts(e));
    assert_int_equal(evaluate_model_file(e)->step, 7);
    judge_classes(e, m, 24, 1);
    judge_classes(e, m, 45, 2); /* l_max is 40: pieces of 22 and 23 */
    evaluate_model_pieces(e, 64);
    judge_classes(e, m, 45, 2); /* no longer than l_max */
    evaluate_model_pieces(e, 16);
    judge_classes(e, m, 45, 3);
    judge_classes(e, m, 12, 1);
    evaluate_model_close(&e);
    model_close(&m);
}

static void labels_must_be_those_of_the_data(void **state)
{
    (void)state;
    char run[128];
    model *m = make_model(SMALL_LABELS);
    if (comm_rank(world) == 0)
        write_run("others", m, "{\"labels\": [\"EUR\", \"EAS\", \"SAS\"]}");
    must(comm_barrier(world));
    snprintf(run, sizeof run, "%s/others", folder);
    evaluate_model *e = NULL;
    assert_int_equal(evaluate_model_open(run, &s->d, world, DEVICE_CPU, 1, &e), STATUS_DATA);
    assert_null(e);
    assert_non_null(strstr(failure_last()->text, "SAS"));
    model_close(&m);
}

static void perplexity_of_a_language_model(void **state)
{
    (void)state;
    char run[128];
    model *m = make_model(0);
    if (comm_rank(world) == 0)
        write_run("language", m, "{}");
    must(comm_barrier(world));
    snprintf(run, sizeof run, "%s/language", folder);
    evaluate_model *e = NULL;
    must(evaluate_model_open(run, &s->d, world, DEVICE_CPU, 1, &e));
    assert_true(evaluate_model_predicts(e) && !evaluate_model_classifies(e));
    window_set w;
    must(window_set_tile(&s->d, x, SPLIT_TEST, 24, 24, &w));
    double got = 0, want = 0;
    int64_t targets = 0;
    must(evaluate_model_loss(e, &w, world, &got, &targets));
    assert_int_equal(targets, w.n * 23);
    for (int64_t i = 0; i < w.n; i++)
        want += forward_alone(m, &w.at[i], NULL);
    if (!(fabs(got / want - 1) < 1e-5))
        fail_msg("loss %.9g, wanted %.9g", got, want);
    evaluate_model_close(&e);
    model_close(&m);
    window_set_free(&w);
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK ||
        device_open(DEVICE_CPU, 1, &dev) != STATUS_OK)
        return 1;
    s = small_dataset_make();
    const config_data c = {.max_gap = 200000, .sharding = SHARDING_REPLICATED};
    rank_folder_name(world, "evaluate_model", folder);
    if (draws_open(&s->d, &c, 1, &x) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_of_windows_and_of_pieces),
        cmocka_unit_test(labels_must_be_those_of_the_data),
        cmocka_unit_test(perplexity_of_a_language_model),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (!rank_folder_remove(world, folder))
        return 1;
    draws_close(&x);
    device_close(&dev);
    free(s);
    comm_end(&world);
    return failed;
}
