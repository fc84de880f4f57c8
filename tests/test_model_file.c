/* ranks: 1
 * From a path to a model: a run directory gives its best checkpoint, else the newest; rows are read
 * replayed to the checkpoint's step, and resumed as they were; moments come back; labels, overrides
 * and other heads as documented. */
#include "runtime/train/model_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define RUN "test_model_file.tmp"
#define STEPS 6

static const float lr[STEPS] = {0.1f, 0.2f, 0.15f, 0.1f, 0.05f, 0.01f};

typedef struct {
    config c;
    device *dev;
    model *m;
    float *first, *second;
} fixture;

static config small(void)
{
    config c;
    config_defaults(&c);
    static const char *const keys[] = {
        "model.d_model=8",       "model.n_layer=1",   "model.d_inner=12",
        "model.l_max=30",        "data.seq_len=20",   "position.length=1000",
        "position.rank=3",       "position.alpha=10", "optimizer.betas=[0.8, 0.95]",
        "finetune.head_hidden=5"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_int_equal(config_override(&c, keys[i]), STATUS_OK);
    assert_int_equal(config_finish(&c, false), STATUS_OK);
    return c;
}

static row_table *table(model *m)
{
    row_table *t[ROW_TABLES];
    assert_int_equal(position_tables(model_position(m), t), 1);
    return t[0];
}

static int setup(void **state)
{
    static fixture f;
    f.c = small();
    assert_int_equal(device_open(DEVICE_CPU, 1, &f.dev), STATUS_OK);
    assert_int_equal(model_open(&f.c, 3, f.dev, &f.m), STATUS_OK);
    assert_int_equal(model_initialise(f.m, 8), STATUS_OK);
    const int64_t floats = model_floats(f.m), rows[] = {40, 7, 99};
    f.first = calloc((size_t)floats, sizeof *f.first);
    f.second = calloc((size_t)floats, sizeof *f.second);
    const parameter *p;
    const int n = model_parameters(f.m, &p);
    for (int i = 0; i < n; i++)
        for (int64_t e = 0; e < p[i].count; e++) {
            f.first[p[i].offset + e] = (float)(i + 1);
            f.second[p[i].offset + e] = (float)e + 0.5f;
        }
    int32_t slot[3];
    assert_int_equal(position_slots(model_position(f.m), 0, 3, rows, true, slot), STATUS_OK);
    row_table *t = table(f.m);
    for (int64_t i = 0; i < 9; i++) {
        t->p[i] = (float)i;
        t->m[i] = 0.1f * (float)(i - 4);
        t->v[i] = 0.01f * (float)(i + 1);
    }
    t->last[0] = 1; /* behind */
    t->last[1] = STEPS - 1;
    t->last[2] = -1;
    memset(t->m + 6, 0, 3 * sizeof *t->m);
    memset(t->v + 6, 0, 3 * sizeof *t->v);
    mkdir(RUN, 0777);
    mkdir(RUN "/checkpoints", 0777);
    *state = &f;
    return 0;
}

static void save(fixture *f, int64_t step)
{
    char *yaml = NULL;
    size_t size;
    FILE *out = open_memstream(&yaml, &size);
    assert_int_equal(config_write(&f->c, out, false), STATUS_OK);
    fclose(out);
    checkpoint_tensor list[128];
    int64_t n;
    model_tensors(f->m, f->first, f->second, lr, step, list, 128, &n);
    assert_in_range(n, 1, 128);
    const checkpoint_header h = {.step = step,
                                 .ranks = 1,
                                 .config = yaml,
                                 .state = "{\"labels\": [\"AFR\", \"EAS\", \"EUR\"], \"note\": 1}"};
    assert_int_equal(checkpoint_write(RUN "/checkpoints", &h, list, n), STATUS_OK);
    free(yaml);
}

static void replayed(void **state)
{
    fixture *f = *state;
    model_file *file;
    save(f, STEPS);
    assert_int_equal(model_file_open(RUN, -1, NULL, 0, f->dev, &file), STATUS_OK);
    assert_int_equal(file->step, STEPS);
    assert_int_equal(file->classes, 3);
    assert_string_equal(file->labels[0], "AFR");
    assert_memory_equal(model_values(file->m), model_values(f->m), (size_t)model_floats(f->m) * 4);
    assert_int_equal(model_file_place(file, NULL), STATUS_OK);
    const row_table *t = table(f->m), *u = table(file->m);
    assert_int_equal(u->slots, 3);
    float want[9];
    const rows_adam_args a = {
        .b1 = 0.8, .b2 = 0.95, .eps = 1e-8, .scale = 1, .step = STEPS - 1, .lr_of_step = lr};
    assert_int_equal(rows_catch_up(f->dev, &a, 3, 3, NULL, t->p, t->m, t->v, t->last, want),
                     STATUS_OK);
    assert_memory_equal(u->p, want, sizeof want);
    assert_true(u->p[0] != t->p[0]);                           /* it was behind */
    assert_memory_equal(u->p + 3, t->p + 3, 6 * sizeof *u->p); /* up to date; never updated */
    model_file_close(&file);
}

static void resumed(void **state)
{
    fixture *f = *state;
    checkpoint *c;
    model *m;
    assert_int_equal(checkpoint_newest(RUN "/checkpoints", &c), STATUS_OK);
    assert_int_equal(model_open(&f->c, 3, f->dev, &m), STATUS_OK);
    const size_t bytes = (size_t)model_floats(m) * sizeof(float);
    float *first = calloc(1, bytes), *second = calloc(1, bytes);
    assert_int_equal(model_restore(m, c, first, second), STATUS_OK);
    assert_memory_equal(first, f->first, bytes);
    assert_memory_equal(second, f->second, bytes);
    assert_memory_equal(model_values(m), model_values(f->m), bytes);
    const row_table *t = table(f->m), *u = table(m);
    assert_memory_equal(u->row, t->row, 3 * sizeof *t->row);
    assert_memory_equal(u->last, t->last, 3 * sizeof *t->last);
    assert_memory_equal(u->p, t->p, 9 * sizeof *t->p);
    assert_memory_equal(u->m, t->m, 9 * sizeof *t->m);
    assert_memory_equal(u->v, t->v, 9 * sizeof *t->v);
    free(first);
    free(second);
    model_close(&m);
    checkpoint_close(&c);
}

static void best_first(void **state)
{
    fixture *f = *state;
    model_file *file;
    save(f, 4);
    assert_int_equal(checkpoint_point(RUN "/checkpoints", "best", 4), STATUS_OK);
    assert_int_equal(model_file_open(RUN, -1, NULL, 0, f->dev, &file), STATUS_OK);
    assert_int_equal(file->step, 4);
    assert_string_equal(file->path, RUN "/checkpoints/step-0000004.h5");
    model_file_close(&file);
    assert_int_equal(
        model_file_open(RUN "/checkpoints/step-0000006.h5", -1, NULL, 0, f->dev, &file), STATUS_OK);
    assert_int_equal(file->step, 6);
    model_file_close(&file);
}

static void other_head_and_overrides(void **state)
{
    fixture *f = *state;
    model_file *file;
    const char *const change = "model.embed_dropout=0.25", *const wrong = "model.d_modle=3";
    assert_int_equal(model_file_open(RUN, 2, &change, 1, f->dev, &file), STATUS_OK);
    assert_int_equal(file->classes, 2);
    assert_null(file->labels);
    assert_true(model_config(file->m)->model.embed_dropout == 0.25);
    const parameter *p, *q;
    const int n = model_parameters(f->m, &p);
    assert_int_equal(model_parameters(file->m, &q), n);
    for (int i = 0; i < n; i++) {
        const bool same = !memcmp(model_values(file->m) + q[i].offset,
                                  model_values(f->m) + p[i].offset, (size_t)q[i].count * 4);
        if (p[i].group != GROUP_HEAD)
            assert_true(same);
    }
    model_file_close(&file);
    assert_int_equal(model_file_open(RUN, -1, &wrong, 1, f->dev, &file), STATUS_USAGE);
}

static void not_there(void **state)
{
    fixture *f = *state;
    model_file *file;
    static const char *const paths[] = {"no-such-run", "/dev/null", ".."};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(model_file_open(paths[i], -1, NULL, 0, f->dev, &file), STATUS_DATA);
        assert_null(file);
        assert_ptr_equal(strstr(failure_last()->text, paths[i]), failure_last()->text);
    }
}

static int clean(void **state)
{
    fixture *f = *state;
    free(f->first);
    free(f->second);
    model_close(&f->m);
    device_close(&f->dev);
    static const char *const files[] = {"step-0000004.h5", "step-0000004.json", "step-0000006.h5",
                                        "step-0000006.json", "best"};
    char path[128];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, RUN "/checkpoints/%s", files[i]);
        unlink(path);
    }
    rmdir(RUN "/checkpoints");
    rmdir(RUN);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replayed), cmocka_unit_test(resumed), cmocka_unit_test(best_first),
        cmocka_unit_test(other_head_and_overrides), cmocka_unit_test(not_there)};
    return cmocka_run_group_tests(tests, setup, clean);
}
