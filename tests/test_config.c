/* ranks: 1
 * The configuration: faults are named with file, line and key; numbers are exact or refused; what
 * is written reads back as the same; presets, overrides and shipped experiments. */
#include "runtime/core/config.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static config c;

static status read_text(const char *text)
{
    config_defaults(&c);
    return config_read_text(&c, "x.yaml", text, strlen(text));
}

/* The text is refused with exit code 2, and the message holds every part (up to three). */
static void refused(const char *text, const char *a, const char *b, const char *d)
{
    status st = read_text(text);
    if (st == STATUS_OK)
        st = config_finish(&c, true);
    const char *parts[] = {a, b, d}, *said = failure_last()->text;
    if (st != STATUS_USAGE)
        fail_msg("status %d for:\n%s", (int)st, text);
    for (int i = 0; i < 3; i++)
        if (parts[i] && !strstr(said, parts[i]))
            fail_msg("`%s` does not say `%s`", said, parts[i]);
    if (!strstr(said, ": ") || !strstr(said, "; ") || strchr(said, '\n'))
        fail_msg("`%s` is not one line of `FILE[:LINE]: what; what to do`", said);
}

static void accepted(const char *text)
{
    if (read_text(text) != STATUS_OK)
        fail_msg("%s", failure_last()->text);
}

static void keys(void **state)
{
    (void)state;
    refused("seed: 7\ndata:\n  path: a\n  seq_lenn: 128\n", "x.yaml:4: data.seq_lenn is not a key",
            "data.seq_len?", NULL);
    refused("position:\n  alpah: 1\n", "x.yaml:2: ", "position.alpah",
            "did you mean position.alpha?");
    refused("train: {lr: 0.1}\n", "x.yaml:1: train.lr", "optimizer.lr", NULL);
    refused("optimiser:\n  lr: 1e-4\n", "x.yaml:1: ", "optimiser", "did you mean optimizer?");
    refused("zebra: 1\n", "x.yaml:1: zebra is not a key", NULL, NULL);
    refused("data.seq_len: 4\n", "x.yaml:1: ", "data.seq_len", NULL);
    refused("data:\n  seq_len: 128\n  tokens: snp\n  seq_len: 1024\n", "x.yaml:4: data.seq_len",
            "twice", "line 2");
    refused("data: {path: a}\nseed: 1\ndata: {seq_len: 9}\n", "x.yaml:3: ", "data", "twice");
    refused("seed: 1\nseed: 1\n", "x.yaml:2: seed", NULL, NULL);
    refused("<<: {seed: 1}\n", "x.yaml:1: ", NULL, NULL);
    refused("? [a, b]\n: 1\n", "x.yaml:1: ", NULL, NULL);
    refused("data: {\"seq_len\\0x\": 5}\n", "x.yaml:1: ", "zero byte", NULL);
}

static void values(void **state)
{
    (void)state;
    refused("optimizer:\n  lr:\ntrain:\n  steps: 1\n", "x.yaml:2: optimizer.lr has no value", NULL,
            NULL);
    refused("optimizer: {lr: ~}\n", "x.yaml:1: optimizer.lr has no value", NULL, NULL);
    refused("data: {path: \"\"}\n", "data.path has no value", NULL, NULL);
    refused("data:\n", "x.yaml:1: section data is empty", NULL, NULL);
    refused("data: 5\n", "section data is not a map", NULL, NULL);
    refused("data: [a]\n", "section data is not a map", NULL, NULL);
    refused("seed: {a: 1}\n", "x.yaml:1: seed is a map", NULL, NULL);
    refused("seed: [1]\n", "x.yaml:1: seed is a list", NULL, NULL);
    refused("data: {tokens: snps}\n", "data.tokens is snps", "did you mean snp?", "nucleotide");
    refused("data: {tokens: SNP}\n", "data.tokens is SNP", NULL, NULL);
    refused("comm: {deterministic: yes}\n", "comm.deterministic is yes", "true or false", NULL);
    refused("comm: {deterministic: \"true\"}\n", "in quotes", NULL, NULL);
    refused("optimizer: {name: sgd}\n", "optimizer.name is sgd", "adamw", NULL);
    refused("optimizer: {betas: 0.9}\n", "x.yaml:1: optimizer.betas is 0.9, not a list", NULL,
            NULL);
    refused("optimizer: {betas: [0.9]}\n", "1 values, not 2", NULL, NULL);
    refused("optimizer: {betas: [0.9, 0.99, 0.999]}\n", "more than 2", NULL, NULL);
    refused("optimizer: {betas: [0.9, 1]}\n", "betas", "out of range", NULL);
    refused("optimizer: {betas: [0.9, [1]]}\n", "betas is a list", NULL, NULL);
    refused("model: {preset: tiny-2k}\n", "model.preset is tiny-2k", "tiny-1k?", "large-1m");
    refused("seed: !!python/object:os.system 1\n", "x.yaml:1: tag", NULL, NULL);
}

static void numbers(void **state)
{
    (void)state;
    static const char *const lr[] = {"1e-4",  "1E-4",   "1.e-4",  "+1e-4",
                                     ".0001", "0.0001", "1.0e-4", "10e-5"};
    char text[128];
    for (size_t i = 0; i < sizeof lr / sizeof *lr; i++) {
        snprintf(text, sizeof text, "optimizer: {lr: %s}\n", lr[i]);
        accepted(text);
        assert_true(c.optimizer.lr == 1e-4);
    }
    static const struct {
        const char *text;
        int64_t value;
    } steps[] = {{"20", 20},    {"+20", 20},     {"20.0", 20},
                 {"2e1", 20},   {"1e3", 1000},   {"1.5e1", 15},
                 {"0.2e2", 20}, {"2000e-2", 20}, {"1000000000000", 1000000000000}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        snprintf(text, sizeof text, "train: {steps: %s}\n", steps[i].text);
        accepted(text);
        assert_int_equal(c.train.steps, steps[i].value);
    }
    accepted("seed: 9007199254740993\n"); /* a double would make it ..992 */
    assert_int_equal(c.seed, 9007199254740993);
    static const char *const not_whole[] = {
        "128.5", "1e-1", "0x10",   "1_000", "010", "1:30", "1k",  ".inf", ".nan", "-.inf",
        "inf",   "nan",  "\"20\"", "'20'",  "1e",  "--5",  "1 2", "true", "٣"};
    for (size_t i = 0; i < sizeof not_whole / sizeof *not_whole; i++) {
        snprintf(text, sizeof text, "seed: 1\ntrain:\n  steps: %s\n", not_whole[i]);
        refused(text, "x.yaml:3: train.steps", NULL, NULL);
    }
    static const char *const out[] = {"0",
                                      "-1",
                                      "-128",
                                      "99999999999999999999",
                                      "1e30",
                                      "9223372036854775808",
                                      "1e999999999999",
                                      "1000000000001",
                                      "-99999999999999999999"};
    for (size_t i = 0; i < sizeof out / sizeof *out; i++) {
        snprintf(text, sizeof text, "seed: 1\n\ntrain:\n  steps: %s\n", out[i]);
        refused(text, "x.yaml:4: train.steps", "out of range", NULL);
    }
    static const char *const not_real[] = {".nan",  ".inf",   "1e999",    "1e-999", "0",
                                           "-1e-4", "0x1p-3", "\"1e-4\"", "1e-4x",  "0,1e",
                                           "e5",    ".",      "infinity"};
    for (size_t i = 0; i < sizeof not_real / sizeof *not_real; i++) {
        snprintf(text, sizeof text, "optimizer:\n  lr: %s\n", not_real[i]);
        refused(text, "x.yaml:2: optimizer.lr", NULL, NULL);
    }
    refused("optimizer: {weight_decay: 1e-999}\n", "out of range", NULL, NULL); /* not 0 */
    accepted("train: {micro_batch: auto}\n");
    assert_int_equal(c.train.micro_batch, CONFIG_AUTO);
    refused("train: {micro_batch: 0}\n", "or auto", NULL, NULL);
    refused("train: {steps: auto}\n", "not a whole number", NULL, NULL);
}

static void documents(void **state)
{
    (void)state;
    static const char *const empty[] = {"",      "# nothing\n\n", "{}\n",  "~\n",
                                        "---\n", "\xEF\xBB\xBF",  "null\n"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
        refused(empty[i], "x.yaml: ", "data.path", "model.preset");
    refused("- a\n", "x.yaml:1: not a configuration", NULL, NULL);
    refused("hello\n", "x.yaml:1: not a configuration", NULL, NULL);
    refused("seed: 1\ndata: {path: a\n", "x.yaml:", "not YAML", NULL);
    refused("seed: 1\n\tdata: 5\n", "x.yaml:2: not YAML", NULL, NULL);
    refused("seed: 1\nseed2: \"abc\n", "x.yaml:", NULL, NULL);
    refused("seed: 1\n---\nseed: 2\n", "x.yaml:2: a second document", NULL, NULL);
    refused("seed: 1\n# \xff\xfe\n", "x.yaml:2: not YAML", NULL, NULL);
    refused("seed: 1\n\n# \x01\n", "x.yaml:3: not YAML", NULL, NULL);
    refused("seed: 1\ntrain: [[[[[[[[[[", "x.yaml:2: ", NULL, NULL);
    accepted("\xEF\xBB\xBFseed: 7\r\ndata:\r\n  path: set.h5\r\n  seq_len: 128\r\noptimizer:\r\n  "
             "lr: 6.0e-4\r\n");
    assert_int_equal(c.seed, 7);
    assert_string_equal(c.data.path, "set.h5");
    assert_true(c.optimizer.lr == 6.0e-4);
    assert_int_equal(config_line(&c, "optimizer.lr"), 6);
    assert_int_equal(config_line(&c, "train.steps"), 0);

    /* Depth and aliases are bounded. */
    char *deep = malloc(200000);
    assert_non_null(deep);
    memset(deep, '[', 199999);
    deep[199999] = '\0';
    refused(deep, "x.yaml:1: ", NULL, NULL);
    free(deep);
    accepted("optimizer: {lr: &a 1e-3, head_lr: *a}\n");
    assert_true(c.optimizer.head_lr == 1e-3);
    refused("seed: &a 1\ntrain: &b {steps: *a}\nstages: *b\n", "x.yaml:3: ", NULL, NULL);
    refused("seed: *nobody\n", "x.yaml:1: ", "*nobody", NULL);
    refused("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", "x.yaml:1: ", NULL, NULL);
}

static void stages(void **state)
{
    (void)state;
    accepted("stages:\n  - {seq_len: 64, steps: 100}\n  - seq_len: 128\n    steps: 50\n    "
             "context_parallel: 2\n");
    assert_int_equal(c.n_stages, 2);
    assert_int_equal(c.stages[0].seq_len, 64);
    assert_int_equal(c.stages[0].context_parallel, CONFIG_AUTO);
    assert_int_equal(c.stages[1].steps, 50);
    assert_int_equal(c.stages[1].context_parallel, 2);
    char value[512];
    assert_int_equal(config_get(&c, "stages", value, sizeof value), STATUS_OK);
    assert_string_equal(value, "[{seq_len: 64, steps: 100, context_parallel: auto}, "
                               "{seq_len: 128, steps: 50, context_parallel: 2}]");
    accepted("stages: []\n");
    assert_int_equal(c.n_stages, 0);
    refused("stages: 5\n", "x.yaml:1: stages is not a list", NULL, NULL);
    refused("stages:\n", "x.yaml:1: stages", NULL, NULL);
    refused("stages: [1, 2\n", "x.yaml:1: stages[0]", NULL, NULL);
    refused("stages:\n  - {seq_len: 64}\n", "x.yaml:2: stages[0].steps is missing", NULL, NULL);
    refused("stages:\n  - {seq_len: 64, steps: 1, step: 2}\n",
            "x.yaml:2: stages[0].step is not a key", NULL, NULL);
    refused("stages:\n  - {seq_len: 64, steps: 1,\n     steps: 2}\n", "x.yaml:3: stages[0].steps",
            "twice", NULL);
    refused("stages:\n  - {seq_len: 64, steps: 1}\n  - {seq_len: 0, steps: 1}\n",
            "x.yaml:3: stages[1].seq_len", "out of range", NULL);
    refused(
        "data: {path: a, seq_len: 64}\nmodel: {l_max: 66}\nstages: [{seq_len: 128, steps: 1}]\n",
        "x.yaml:3: ", "stages[0].seq_len", NULL);
    char many[4096] = "stages:\n";
    for (int i = 0; i <= CONFIG_STAGES; i++)
        strcat(many, "- {seq_len: 64, steps: 1}\n");
    refused(many, "stages has more than", NULL, NULL);
}

static void together(void **state)
{
    (void)state;
    refused("model: {d_model: 64}\n", "x.yaml: data.path is missing", NULL, NULL);
    refused("data: {path: a}\n", "x.yaml: model (or model.preset) is missing", NULL, NULL);
    refused("data:\n  path: a\n  seq_len: 2048\nmodel: {d_model: 64}\n",
            "x.yaml:3: data.seq_len is 2048", "model.l_max is 1026", "2050");
    refused("data: {path: a}\nmodel: {emb_dim: 4}\n", "x.yaml:2: model.emb_dim", NULL, NULL);
    refused("data: {path: a}\nmodel: {preset: study}\ntrain: {tokens_per_step: 64}\n",
            "x.yaml:3: train.tokens_per_step", NULL, NULL);
    refused("data: {path: a}\nmodel: {preset: study}\noptimizer: {lr: 1e-6}\nscheduler: {min_lr: "
            "1e-5}\n",
            "x.yaml:4: scheduler.min_lr", NULL, NULL);
    accepted("data: {path: a}\nmodel: {preset: study}\noptimizer: {lr: 1e-6}\n");
    assert_int_equal(config_finish(&c, true), STATUS_OK);
    assert_true(fabs(c.scheduler.min_lr - 1e-7) < 1e-20);
    accepted("model: {n_layer: 2}\n");
    assert_int_equal(config_finish(&c, false), STATUS_OK);
}

static void overrides(void **state)
{
    (void)state;
    accepted("data: {path: a, seq_len: 128}\nmodel: {d_model: 64}\n");
    assert_int_equal(config_override(&c, "train.steps=12"), STATUS_OK);
    assert_int_equal(config_override(&c, "data.seq_len=256"), STATUS_OK);
    assert_int_equal(config_override(&c, "optimizer.betas=[0.8, 0.9]"), STATUS_OK);
    assert_int_equal(config_override(&c, "stages=[{seq_len: 64, steps: 5}]"), STATUS_OK);
    assert_int_equal(config_override(&c, "data.path=a b#c: d.h5"), STATUS_OK);
    assert_int_equal(c.train.steps, 12);
    assert_int_equal(c.data.seq_len, 256);
    assert_true(c.optimizer.betas[0] == 0.8 && c.optimizer.betas[1] == 0.9);
    assert_int_equal(c.stages[0].seq_len, 64);
    assert_string_equal(c.data.path, "a b#c: d.h5");
    assert_int_equal(config_line(&c, "data.seq_len"), 0);
    static const char *const wrong[] = {"train.steps=abc",
                                        "train.steps=",
                                        "train.stepz=1",
                                        "train=1",
                                        "lr",
                                        "seed=1.5",
                                        "optimizer.lr=.nan",
                                        "optimizer.betas=[0.9",
                                        "=5",
                                        "optimizer.betas=",
                                        "stages=[1]",
                                        "seed=99999999999999999999",
                                        "data.tokens=x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (config_override(&c, wrong[i]) != STATUS_USAGE)
            fail_msg("%s was taken", wrong[i]);
        if (strncmp(failure_last()->text, wrong[i], strlen(wrong[i])) != 0 ||
            !strstr(failure_last()->text, "; "))
            fail_msg("`%s` does not begin with `%s`", failure_last()->text, wrong[i]);
    }
    assert_int_equal(config_override(&c, "train.steps=13"), STATUS_USAGE);
    assert_non_null(strstr(failure_last()->text, "twice"));
    config_forget_overrides(&c);
    assert_int_equal(config_override(&c, "train.steps=13"), STATUS_OK);
    assert_int_equal(c.train.steps, 13);
}

static void presets(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t d, layers, l_max;
    } rows[] = {{"tiny-1k", 128, 2, 1026},        {"tiny-1k-d256", 256, 2, 1026},
                {"tiny-16k-d128", 128, 2, 16386}, {"small-32k", 256, 4, 32770},
                {"medium-160k", 256, 8, 160002},  {"medium-450k", 256, 8, 450002},
                {"large-1m", 256, 8, 1000002},    {"study", 128, 7, 1026}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        config_defaults(&c);
        assert_string_equal(config_preset_name((int)i), rows[i].name);
        assert_int_equal(config_preset(&c, rows[i].name), STATUS_OK);
        assert_int_equal(c.model.d_model, rows[i].d);
        assert_int_equal(c.model.n_layer, rows[i].layers);
        assert_int_equal(c.model.l_max, rows[i].l_max);
        assert_int_equal(c.model.d_inner, 4 * rows[i].d);
        assert_int_equal(c.position.encoding, i == 7 ? ENCODING_FPE : ENCODING_NONE);
    }
    assert_null(config_preset_name(8));
    assert_int_equal(config_preset(&c, "tiny"), STATUS_USAGE);
    assert_non_null(strstr(failure_last()->text, "medium-450k"));
    accepted("data: {path: a}\nmodel: {n_layer: 3, preset: small-32k}\nposition: {alpha: 10}\n");
    assert_int_equal(config_finish(&c, true), STATUS_OK);
    assert_int_equal(c.model.n_layer, 3);
    assert_string_equal(c.model.preset, "small-32k");
    assert_int_equal(c.model.d_model, 256);
    assert_int_equal(c.position.encoding, ENCODING_FPE);
}

/* What config_write writes reads back as the same, commented or not, whatever the values. */
static void round_trip(void **state)
{
    (void)state;
    for (int commented = 0; commented < 2; commented++) {
        accepted(
            "seed: 9007199254740993\ndata: {path: '/tmp/a \"b\" \\c: #d', seq_len: 100}\nmodel: "
            "{preset: study, "
            "embed_dropout: 0.1}\nposition: {length: 12345, init: normal}\nobjective: "
            "next-site\noptimizer: {lr: "
            "0.1234567890123456789, betas: [0.3, 0.123456789012345]}\nstages: [{seq_len: 64, "
            "steps: 3}]\ncomm: "
            "{deterministic: true, timeout_s: 7}\ntrain: {micro_batch: 3, recompute: selected}\n");
        assert_int_equal(config_finish(&c, true), STATUS_OK);
        char *text = NULL, before[4096], after[4096];
        size_t bytes = 0;
        FILE *to = open_memstream(&text, &bytes);
        assert_int_equal(config_write(&c, to, commented), STATUS_OK);
        fclose(to);
        static config again;
        config_defaults(&again);
        if (config_read_text(&again, "/y.yaml", text, bytes) != STATUS_OK ||
            config_finish(&again, true) != STATUS_OK)
            fail_msg("%s\n%s", failure_last()->text, text);
        for (int i = 0; config_key(i); i++) {
            assert_int_equal(config_get(&c, config_key(i), before, sizeof before), STATUS_OK);
            assert_int_equal(config_get(&again, config_key(i), after, sizeof after), STATUS_OK);
            assert_string_equal(before, after);
        }
        assert_memory_equal(&c.optimizer, &again.optimizer, sizeof c.optimizer);
        free(text);
    }
}

static void paths(void **state)
{
    (void)state;
    char path[CONFIG_TEXT];
    config_defaults(&c);
    strcpy(c.data.path, "set.h5");
    strcpy(c.file, "some/folder/x.yaml");
    config_data_path(&c, path);
    assert_string_equal(path, "some/folder/set.h5");
    strcpy(c.file, "x.yaml");
    config_data_path(&c, path);
    assert_string_equal(path, "set.h5");
    strcpy(c.data.path, "/a/set.h5");
    strcpy(c.file, "/b/x.yaml");
    config_data_path(&c, path);
    assert_string_equal(path, "/a/set.h5");
}

static void json(void **state)
{
    (void)state;
    accepted("data: {path: a\"b.h5}\nmodel: {n_layer: 2}\noptimizer: {lr: 1e-4}\n");
    char *text = config_json(&c);
    assert_non_null(text);
    assert_non_null(strstr(text, "\"micro_batch\": \"auto\""));
    assert_non_null(strstr(text, "\"preset\": null"));
    assert_non_null(strstr(text, "\"deterministic\": false"));
    assert_non_null(strstr(text, "a\\\"b.h5\""));
    free(text);
}

/* A sweep's file opens with its own word; it is no configuration. */
static bool is_sweep(const char *path)
{
    char line[256] = "";
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    return strncmp(line, "# Sweep:", 8) == 0;
}

static void files(void **state)
{
    (void)state;
    config_defaults(&c);
    assert_int_equal(config_read(&c, "/nowhere/x.yaml"), STATUS_USAGE);
    assert_non_null(strstr(failure_last()->text, "/nowhere/x.yaml: "));
    assert_int_equal(config_read(&c, "/tmp"), STATUS_USAGE);
    assert_int_equal(config_read(&c, "/dev/zero"), STATUS_USAGE);
    int n = 0;
    DIR *folder = opendir(SOURCE_DIR "/experiments");
    assert_non_null(folder);
    for (struct dirent *e; (e = readdir(folder));) {
        char path[1024];
        size_t length = strlen(e->d_name);
        if (length < 6 || strcmp(e->d_name + length - 5, ".yaml") != 0)
            continue;
        snprintf(path, sizeof path, "%s/experiments/%s", SOURCE_DIR, e->d_name);
        if (is_sweep(path))
            continue;
        config_defaults(&c);
        if (config_read(&c, path) != STATUS_OK || config_finish(&c, true) != STATUS_OK)
            fail_msg("%s", failure_last()->text);
        n++;
    }
    closedir(folder);
    assert_true(n >= 2);
}

/* The shipped study is the contract's: every key at its default. */
static void shipped_is_default(void **state)
{
    (void)state;
    static config d;
    config_defaults(&d);
    config_defaults(&c);
    assert_int_equal(config_read(&c, SOURCE_DIR "/experiments/fpe-alpha.yaml"), STATUS_OK);
    char a[4096], b[4096];
    for (int i = 0; config_key(i); i++) {
        if (strcmp(config_key(i), "data.path") == 0)
            continue;
        assert_int_equal(config_get(&c, config_key(i), a, sizeof a), STATUS_OK);
        assert_int_equal(config_get(&d, config_key(i), b, sizeof b), STATUS_OK);
        assert_string_equal(a, b);
        if (strcmp(config_key(i), "model.preset") != 0 &&
            strcmp(config_key(i), "data.exclude") != 0 && /* text, by default none */
            strcmp(config_key(i), "model.embed_dropout") != 0 &&
            config_line(&c, config_key(i)) == 0)
            fail_msg("experiments/fpe-alpha.yaml does not write %s", config_key(i));
    }
}

/* The committed page is the one that the table makes. */
static void page(void **state)
{
    (void)state;
    char *text = NULL, kept[65536];
    size_t bytes = 0;
    FILE *to = open_memstream(&text, &bytes);
    assert_int_equal(config_document(to), STATUS_OK);
    fclose(to);
    FILE *in = fopen(SOURCE_DIR "/docs/configuration.md", "r");
    assert_non_null(in);
    size_t n = fread(kept, 1, sizeof kept - 1, in);
    kept[n] = '\0';
    fclose(in);
    if (n != bytes || memcmp(kept, text, n) != 0)
        fail_msg(
            "docs/configuration.md is not what `crocuta config --markdown` prints: make it again");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys),
        cmocka_unit_test(values),
        cmocka_unit_test(numbers),
        cmocka_unit_test(documents),
        cmocka_unit_test(stages),
        cmocka_unit_test(together),
        cmocka_unit_test(overrides),
        cmocka_unit_test(presets),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(paths),
        cmocka_unit_test(json),
        cmocka_unit_test(files),
        cmocka_unit_test(shipped_is_default),
        cmocka_unit_test(page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
