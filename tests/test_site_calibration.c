/* ranks: 1 2 3
 * Probabilities of single sites in an evaluation: bins, sums and likelihood against a forward pass
 * of one window at a time, of the person's own label though the checkpoint lists labels in another
 * order, windows in pieces too; the calibration error against numbers made by hand; the same bits
 * on any number of ranks. */
#include "runtime/train/evaluate_model.h"

#include "runtime/train/feed.h"
#include "runtime/train/model_sites.h"
#include "runtime/train/space.h"
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

#define LONGEST 40

static comm *world;
static small_dataset *s;
static device *dev;
static draws *x;
static char folder[64];

static const char yaml[] =
    "data: {seq_len: 24, absent: sums}\n"
    "model: {d_model: 8, n_layer: 1, d_inner: 16, l_max: 40, filter_order: 8, emb_dim: 3, "
    "head: class-conditional, head_rank: 4, residual_init: 0.5}\n"
    "position: {encoding: fpe, alpha: 1, rank: 4, rows: site, init: normal}\n"
    "finetune: {head_hidden: 0}\n";

/* A head whose classes differ at every site and whose answers hang on the state. */
static void fill(model *m)
{
    float odds[SMALL_SITES * SMALL_LABELS];
    for (int i = 0; i < SMALL_SITES; i++)
        for (int k = 0; k < SMALL_LABELS; k++)
            odds[i * SMALL_LABELS + k] = (float)(3 * (small_frequency(i, k) - 0.5)) + (float)k;
    must(position_site_biases(model_position(m), odds, NULL));
    const parameter *p;
    const int n = model_parameters(m, &p);
    for (int k = 0; k < n; k++)
        for (int64_t i = 0; strstr(p[k].name, "head.sites.") && i < p[k].count; i++) {
            rng r = rng_at(8, RNG_TEST, (uint64_t)k, (uint32_t)i);
            model_values(m)[p[k].offset + i] = (float)rng_normal(&r);
        }
}

static model *make_model(void)
{
    static config c;
    position_space space;
    model *m = NULL;
    must(space_of_dataset(&s->d, &space));
    config_defaults(&c);
    must(config_read_text(&c, "test", yaml, sizeof yaml - 1));
    must(config_finish(&c, false));
    must(model_open(&c, SMALL_LABELS, dev, &m));
    must(model_place(m, &space));
    space_free(&space);
    must(model_initialise(m, 3));
    fill(m);
    return m;
}

static void write_run(model *m)
{
    char dir[128];
    checkpoint_tensor list[256];
    int64_t n = 0;
    mkdir(folder, 0777);
    snprintf(dir, sizeof dir, "%s/checkpoints", folder);
    mkdir(dir, 0777);
    static const float lr[1] = {0};
    model_tensors(m, NULL, NULL, lr, 0, list, 256, &n);
    assert_true(n < 256);
    const checkpoint_header h = {.step = 0,
                                 .ranks = 1,
                                 .config = yaml,
                                 .state = "{\"labels\": [\"EUR\", \"EAS\", \"AFR\"]}"};
    must(checkpoint_write(dir, &h, list, n));
    must(checkpoint_point(dir, "best", 0));
}

/* A piece of a window through the model alone, into the bins. */
static void count_alone(model *m, feed *f, const window *w, int32_t label, site_calibration *to)
{
    float logits[SMALL_SITES * SMALL_LABELS];
    must(feed_fill(f, 0, &s->d, x, w, true));
    const batch b = feed_slice(f, 0, 1, true);
    const model_outputs out = {.site_logits = logits};
    must(model_forward(m, &b, &out, NULL));
    for (int64_t e = 1; e < f->span_start[1]; e++) { /* the first is the window's first token */
        const double z = (double)logits[e * SMALL_LABELS + SMALL_LABELS - 1 - label];
        const double p = 1 / (1 + exp(-z));
        const int bin = p < 1 ? (int)(p * SITE_BINS) : SITE_BINS - 1;
        to->count[bin]++;
        to->carried[bin] += f->span_carried[e];
        to->predicted[bin] += p;
        to->nll -= log(f->span_carried[e] ? p : 1 - p);
    }
}

static void judged_at(evaluate_model *e, model *m, int64_t context, int64_t pieces)
{
    window_set w;
    site_calibration got, alone, want = {0};
    feed f = {0};
    must(window_set_tile(&s->d, x, SPLIT_TEST, context, context, &w));
    assert_true(w.n > 20);
    must(evaluate_model_sites(e, &w, world, &got));
    must(feed_open(1, LONGEST, true, &f));
    must(model_prepare(m, (batch_shape){1, LONGEST, length_padded(LONGEST)}, KEEP_INPUT, false));
    for (int64_t i = 0; i < w.n; i++)
        for (int64_t k = 0; k < pieces; k++) {
            window p = w.at[i];
            const int64_t from = p.count * k / pieces;
            p.count = p.count * (k + 1) / pieces - from;
            p.first += from;
            count_alone(m, &f, &p, w.label[i], &want);
        }
    int filled = 0;
    for (int b = 0; b < SITE_BINS; b++) {
        /* a probability on the border of two bins may fall to either */
        assert_true(llabs(got.count[b] - want.count[b]) <= 2);
        assert_true(llabs(got.carried[b] - want.carried[b]) <= 2);
        assert_true(fabs(got.predicted[b] - want.predicted[b]) <= 2);
        filled += want.count[b] > 10;
    }
    assert_int_equal(site_calibration_sites(&got), site_calibration_sites(&want));
    assert_true(filled > SITE_BINS / 2);
    if (!(fabs(got.nll / want.nll - 1) < 1e-5))
        fail_msg("%.9g nats, wanted %.9g", got.nll, want.nll);

    comm *self = NULL;
    must(comm_split(world, comm_rank(world), 0, &self));
    must(evaluate_model_sites(e, &w, self, &alone));
    assert_memory_equal(&got, &alone, sizeof got);
    comm_free(&self);
    feed_close(&f);
    window_set_free(&w);
}

static void sites_of_windows_and_of_pieces(void **state)
{
    (void)state;
    evaluate_model *e = NULL;
    model *m = make_model();
    if (comm_rank(world) == 0)
        write_run(m);
    must(comm_barrier(world));
    must(evaluate_model_open(folder, &s->d, world, DEVICE_CPU, 1, &e));
    assert_true(evaluate_model_knows_sites(e));
    judged_at(e, m, 24, 1);
    judged_at(e, m, 45, 2); /* l_max is 40: pieces of 22 and 23 */
    evaluate_model_close(&e);
    model_close(&m);
}

static void error_by_hand(void **state)
{
    (void)state;
    site_calibration c = {
        .count = {10, [3] = 30}, .carried = {1, [3] = 6}, .predicted = {0.5, [3] = 7.5}};
    assert_true(fabs(site_calibration_error(&c) - (0.5 + 1.5) / 40) < 1e-12);
    c.predicted[3] = 4.5; /* both sides count, they do not cancel */
    assert_true(fabs(site_calibration_error(&c) - (0.5 + 1.5) / 40) < 1e-12);
    c.predicted[0] = 1;
    c.predicted[3] = 6;
    assert_true(site_calibration_error(&c) == 0);
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK ||
        device_open(DEVICE_CPU, 1, &dev) != STATUS_OK)
        return 1;
    s = small_dataset_make();
    const config_data c = {.max_gap = 200000, .sharding = SHARDING_REPLICATED};
    rank_folder_name(world, "site_calibration", folder);
    if (draws_open(&s->d, &c, 1, &x) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sites_of_windows_and_of_pieces),
        cmocka_unit_test(error_by_hand),
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
