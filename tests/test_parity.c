/* ranks: 1
 * Weights of the published model, under every published spelling: logits, hidden states, loss and
 * gradients are those of its golden files (where the shared data is there), and what is exported
 * comes back bit for bit, rows and labels too. */
#include "io/h5.h"
#include "io/trace_file.h"
#include "model/weights.h"
#include "runtime/train/model_file.h"
#include "runtime/train/trace.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define OUT "test_parity.tmp.h5"
#define WEIGHTS "test_parity.tmp.safetensors"

static char folder[512];

static void golden_path(char path[1024], const char *name, const char *end)
{
    snprintf(path, 1024, "%s/reference/golden/%s.%s", folder, name, end);
}

static double *read_numbers(hid_t file, const char *name, int64_t *n)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0)
        fail_msg("%s is missing", name);
    hid_t space = H5Dget_space(set);
    *n = (int64_t)H5Sget_simple_extent_npoints(space);
    double *x = malloc((size_t)*n * sizeof *x);
    assert_true(H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    h5_close(&space);
    h5_close(&set);
    return x;
}

static void compare(hid_t have, hid_t want, const char *name, double tolerance)
{
    int64_t n, k;
    double *a = read_numbers(have, name, &n), *b = read_numbers(want, name, &k), error = 0,
           size = 0;
    assert_int_equal(n, k);
    for (int64_t i = 0; i < n; i++) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    if (!(sqrt(error) <= tolerance * sqrt(size)))
        fail_msg("%s: relative error %.2e, allowed %.0e", name, sqrt(error / size), tolerance);
    free(a);
    free(b);
}

static void published(const char *name)
{
    char weights[1024], golden[1024];
    golden_path(weights, name, "safetensors");
    golden_path(golden, name, "golden.h5");
    device *dev;
    model_file *f;
    trace_batch b;
    assert_int_equal(device_open(DEVICE_CPU, 2, &dev), STATUS_OK);
    assert_int_equal(model_file_open(weights, -1, NULL, 0, dev, &f), STATUS_OK);
    assert_int_equal(trace_batch_read(golden, VOCABULARY_PADDED, true, &b), STATUS_OK);
    const parameter *p;
    const int n = model_parameters(f->m, &p);
    assert_int_equal(trace_run(f, &b, 10, OUT, NULL), STATUS_OK);
    hid_t have, want;
    assert_int_equal(h5_open_read(OUT, &have), STATUS_OK);
    assert_int_equal(h5_open_read(golden, &want), STATUS_OK);
    compare(have, want, "logits", 2e-6);
    compare(have, want, "hidden", 2e-6);
    compare(have, want, "loss", 1e-6);
    compare(have, want, "adamw_loss", 1e-5);
    compare(have, want, "adamw_grad_norm", 1e-4);
    for (int i = 0; i < n; i++) {
        char grad[160];
        snprintf(grad, sizeof grad, "grad/" WEIGHTS_PREFIX "%s", p[i].name);
        compare(have, want, grad, 5e-6);
    }
    h5_close(&have);
    h5_close(&want);
    trace_batch_free(&b);
    model_file_close(&f);
    device_close(&dev);
    unlink(OUT);
}

static void golden_values(void **state)
{
    (void)state;
    char path[1024];
    golden_path(path, "hyenadna-d32-n2-l128", "safetensors");
    if (access(path, R_OK) != 0)
        skip();
    published("hyenadna-d32-n2-l128");
    published("hyenadna-tiny-1k");
}

/* ---- our own weights, written under other spellings ---- */

static config small(void)
{
    config c;
    config_defaults(&c);
    assert_int_equal(config_override(&c, "model.d_model=8"), STATUS_OK);
    assert_int_equal(config_override(&c, "model.n_layer=2"), STATUS_OK);
    assert_int_equal(config_override(&c, "model.d_inner=12"), STATUS_OK);
    assert_int_equal(config_override(&c, "model.l_max=30"), STATUS_OK);
    assert_int_equal(config_override(&c, "data.seq_len=20"), STATUS_OK);
    assert_int_equal(config_override(&c, "position.length=1000"), STATUS_OK);
    assert_int_equal(config_override(&c, "finetune.head_hidden=5"), STATUS_OK);
    assert_int_equal(config_finish(&c, false), STATUS_OK);
    return c;
}

typedef struct {
    safetensor_out out[64];
    char names[64][128];
    int64_t n;
} bundle;

static void bundle_of(model *m, bundle *x, const char *prefix, bool wrapped)
{
    const parameter *p;
    const int n = model_parameters(m, &p);
    x->n = 0;
    for (int i = 0; i < n; i++) {
        const char *mixer = strstr(p[i].name, ".mixer."), *mlp = strstr(p[i].name, ".mlp.");
        const char *at = mixer ? mixer + 7 : mlp ? mlp + 5 : NULL;
        if (wrapped && at)
            snprintf(x->names[i], 128, "%s%.*slayer.%s", prefix, (int)(at - p[i].name), p[i].name,
                     at);
        else
            snprintf(x->names[i], 128, "%s%s", prefix, p[i].name);
        safetensor_out *t = &x->out[x->n++];
        *t = (safetensor_out){x->names[i], {0}, p[i].ndim, "F32", 4, model_values(m) + p[i].offset};
        memcpy(t->shape, p[i].shape, sizeof p[i].shape);
    }
}

static const char *const keys[] = {"d_model", "n_layer", "d_inner", "l_max"};
static const char *const values[] = {"8", "2", "12", "30"};

static status write_bundle(const bundle *x)
{
    return safetensors_write(WEIGHTS, x->out, x->n, keys, values, 4);
}

static void spellings(void **state)
{
    (void)state;
    config c = small();
    c.position.encoding = ENCODING_NONE;
    device *dev;
    model *m;
    model_file *f;
    bundle x;
    assert_int_equal(device_open(DEVICE_CPU, 1, &dev), STATUS_OK);
    assert_int_equal(model_open(&c, 0, dev, &m), STATUS_OK);
    assert_int_equal(model_initialise(m, 3), STATUS_OK);
    static const char *const prefixes[] = {"backbone.", "model.backbone.", "hyena.backbone.", ""};
    for (int i = 0; i < 8; i++) {
        bundle_of(m, &x, prefixes[i / 2], i % 2);
        assert_int_equal(write_bundle(&x), STATUS_OK);
        assert_int_equal(model_file_open(WEIGHTS, -1, NULL, 0, dev, &f), STATUS_OK);
        assert_memory_equal(model_values(f->m), model_values(m), (size_t)model_floats(m) * 4);
        assert_true(f->c.model.filter_shift == 0.05);
        model_file_close(&f);
    }

    /* buffers that can be computed, the tied head and the shared frequencies are known */
    const float *E = NULL, *freq = NULL;
    const parameter *p;
    const int n = model_parameters(m, &p);
    for (int i = 0; i < n; i++) {
        if (strstr(p[i].name, "word_embeddings"))
            E = model_values(m) + p[i].offset;
        if (strstr(p[i].name, "layers.1.") && strstr(p[i].name, "1.freq"))
            freq = model_values(m) + p[i].offset;
    }
    float other[128];
    memcpy(other, E, sizeof other);
    const safetensor_out extra[] = {
        {"backbone.layers.0.mixer.filter_fn.pos_emb.z", {1, 1, 2}, 3, "F32", 4, E},
        {"backbone.layers.0.mixer.filter_fn.pos_emb.t", {1, 1, 1}, 3, "F32", 4, E},
        {"backbone.layers.1.mixer.filter_fn.modulation.deltas", {1, 1, 8}, 3, "F32", 4, E},
        {"backbone.layers.1.mixer.filter_fn.implicit_filter.5.freq", {1, 64}, 2, "F32", 4, freq},
        {"lm_head.weight", {16, 8}, 2, "F32", 4, other}};
    bundle_of(m, &x, "backbone.", false);
    memcpy(x.out + x.n, extra, sizeof extra);
    x.n += 5;
    assert_int_equal(write_bundle(&x), STATUS_OK);
    assert_int_equal(model_file_open(WEIGHTS, -1, NULL, 0, dev, &f), STATUS_OK);
    model_file_close(&f);
    other[7] += 1; /* not tied after all */
    assert_int_equal(write_bundle(&x), STATUS_OK);
    assert_int_equal(model_file_open(WEIGHTS, -1, NULL, 0, dev, &f), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "lm_head.weight differs"));
    other[7] -= 1;
    float slower[64];
    memcpy(slower, freq, sizeof slower);
    slower[63] /= 2;
    x.out[x.n - 2].data = slower; /* one of the three sines has its own frequencies */
    assert_int_equal(write_bundle(&x), STATUS_OK);
    assert_int_equal(model_file_open(WEIGHTS, -1, NULL, 0, dev, &f), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "5.freq differs"));
    model_close(&m);
    device_close(&dev);
}

static void refused(device *dev, const bundle *x, const char *says)
{
    model_file *f;
    assert_int_equal(write_bundle(x), STATUS_OK);
    assert_int_equal(model_file_open(WEIGHTS, -1, NULL, 0, dev, &f), STATUS_DATA);
    if (!strstr(failure_last()->text, says) || !strstr(failure_last()->text, WEIGHTS))
        fail_msg("message does not say \"%s\": %s", says, failure_last()->text);
}

static void other_weights(void **state)
{
    (void)state;
    config c = small();
    c.position.encoding = ENCODING_NONE;
    device *dev;
    model *m;
    bundle x;
    assert_int_equal(device_open(DEVICE_CPU, 1, &dev), STATUS_OK);
    assert_int_equal(model_open(&c, 0, dev, &m), STATUS_OK);
    bundle_of(m, &x, "backbone.", false);
    x.n--; /* the embedding is last */
    refused(dev, &x, "word_embeddings.weight");
    bundle_of(m, &x, "backbone.", false);
    x.out[0] = x.out[--x.n]; /* without ln_f.weight */
    refused(dev, &x, "ln_f.weight is missing");
    bundle_of(m, &x, "backbone.", false);
    x.out[0].shape[0] = 7;
    refused(dev, &x, "ln_f.weight has the shape (7), the model's is (8)");
    bundle_of(m, &x, "backbone.", false);
    x.out[x.n] = x.out[0];
    x.out[x.n++].name = "ln_f.weight";
    refused(dev, &x, "there twice");
    x.out[x.n - 1].name = "backbone.layers.0.attention.weight";
    refused(dev, &x, "has no place");
    x.n--;
    x.out[1].dtype = "I32";
    refused(dev, &x, "is of I32");
    model_file *f;
    assert_int_equal(safetensors_write(WEIGHTS, x.out, x.n, keys,
                                       (const char *const[]){"8", "3", "12", "30"}, 4),
                     STATUS_OK);
    assert_int_equal(model_file_open(WEIGHTS, -1, NULL, 0, dev, &f), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "n_layer is 3"));
    assert_int_equal(safetensors_write(WEIGHTS, x.out, x.n, keys,
                                       (const char *const[]){"8", "9e9", "12", "30"}, 4),
                     STATUS_OK);
    assert_int_equal(model_file_open(WEIGHTS, -1, NULL, 0, dev, &f), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "n_layer is \"9e9\""));
    model_close(&m);
    device_close(&dev);
}

/* Export of a classifier with rows, and everything back. */
static void round_trip(void **state)
{
    (void)state;
    const config c = small();
    device *dev;
    model *m;
    model_file *f;
    assert_int_equal(device_open(DEVICE_CPU, 1, &dev), STATUS_OK);
    assert_int_equal(model_open(&c, 3, dev, &m), STATUS_OK);
    assert_int_equal(model_initialise(m, 8), STATUS_OK);
    row_table *t[ROW_TABLES], *u[ROW_TABLES];
    assert_int_equal(position_tables(model_position(m), t), 1);
    const int64_t rows[] = {9, 2, 5};
    int32_t slot[3];
    assert_int_equal(position_slots(model_position(m), 0, 3, rows, true, slot), STATUS_OK);
    for (int64_t i = 0; i < 3 * t[0]->k; i++)
        t[0]->p[i] = (float)i / 7;
    assert_int_equal(model_export_safetensors(m, WEIGHTS, "[\"AFR\",\"EAS\",\"EUR\"]", NULL),
                     STATUS_OK);
    assert_int_equal(model_file_open(WEIGHTS, -1, NULL, 0, dev, &f), STATUS_OK);
    assert_int_equal(f->classes, 3);
    assert_string_equal(f->labels[2], "EUR");
    assert_memory_equal(model_values(f->m), model_values(m), (size_t)model_floats(m) * 4);
    assert_int_equal(model_file_place(f, NULL), STATUS_OK);
    position_tables(model_position(f->m), u);
    assert_int_equal(u[0]->slots, 3);
    assert_memory_equal(u[0]->row, rows, sizeof rows);
    assert_memory_equal(u[0]->p, t[0]->p, (size_t)(3 * t[0]->k) * 4);
    assert_int_equal(f->c.position.alpha, c.position.alpha);
    model_file_close(&f);
    /* the body alone, for other classes: the head begins anew, the body is the file's */
    assert_int_equal(model_file_open(WEIGHTS, 0, NULL, 0, dev, &f), STATUS_OK);
    assert_int_equal(f->classes, 0);
    assert_null(f->labels);
    model_file_close(&f);
    assert_int_equal(model_file_open(WEIGHTS, 2, NULL, 0, dev, &f), STATUS_OK);
    assert_int_equal(f->classes, 2);
    const parameter *p, *q;
    const int n = model_parameters(m, &p), k = model_parameters(f->m, &q);
    assert_int_equal(n, k);
    for (int i = 0; i < n; i++)
        if (p[i].group != GROUP_HEAD)
            assert_memory_equal(model_values(f->m) + q[i].offset, model_values(m) + p[i].offset,
                                (size_t)p[i].count * 4);
    model_file_close(&f);
    model_close(&m);
    device_close(&dev);
    unlink("config.json");
}

static int clean(void **state)
{
    (void)state;
    unlink(WEIGHTS);
    return 0;
}

int main(void)
{
    const char *shared = getenv("CROCUTA_SHARED");
    snprintf(folder, sizeof folder, "%s", shared ? shared : SOURCE_DIR "/../shared");
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_values), cmocka_unit_test(spellings),
                                       cmocka_unit_test(other_weights),
                                       cmocka_unit_test(round_trip)};
    return cmocka_run_group_tests(tests, NULL, clean);
}
