/* ranks: 1
 * Checkpoint files: what is written comes back; any cut, changed bit or missing manifest is refused
 * in one message; the newest sound one is found; pruning keeps the newest two, latest and best; a
 * full disk leaves the old ones. */
#include "io/checkpoint.h"
#include "runtime/core/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/crocuta-checkpoint-XXXXXX";

static status put(int64_t step, float first)
{
    static float values[600];
    static int64_t rows[3] = {5, 7, 1ll << 40};
    for (int i = 0; i < 600; i++)
        values[i] = first + (float)i;
    checkpoint_tensor t[3] = {
        {.name = "parameters/layers.0.norm1.weight",
         .kind = ELEMENT_F32,
         .shape = {20, 30},
         .ndim = 2,
         .data = values},
        {.name = "rows/0/row", .kind = ELEMENT_I64, .shape = {3}, .ndim = 1, .data = rows},
        {.name = "rows/1/row", .kind = ELEMENT_I64, .shape = {0}, .ndim = 1, .data = NULL},
    };
    checkpoint_header h = {
        .step = step, .ranks = 2, .config = "seed: 1\n", .state = "{\"best\": 0.5}"};
    return checkpoint_write(dir, &h, t, 3);
}

static void comes_back(void **state)
{
    (void)state;
    assert_int_equal(put(10, 1.5f), STATUS_OK);
    char path[1024];
    checkpoint_path(dir, 10, path);
    checkpoint *c;
    assert_int_equal(checkpoint_open(path, &c), STATUS_OK);
    assert_int_equal(checkpoint_head(c)->step, 10);
    assert_int_equal(checkpoint_head(c)->ranks, 2);
    assert_string_equal(checkpoint_head(c)->config, "seed: 1\n");
    float values[600];
    int64_t rows[3];
    assert_int_equal(checkpoint_read(c, "parameters/layers.0.norm1.weight", values, 600),
                     STATUS_OK);
    assert_true(values[0] == 1.5f && values[599] == 600.5f);
    assert_int_equal(checkpoint_read(c, "rows/0/row", rows, 3), STATUS_OK);
    assert_true(rows[2] == 1ll << 40);
    assert_int_equal(checkpoint_read(c, "rows/1/row", rows, 0), STATUS_OK);
    assert_int_equal(checkpoint_read(c, "rows/0/row", rows, 2), STATUS_DATA);
    assert_int_equal(checkpoint_read(c, "rows/9/row", rows, 3), STATUS_DATA);
    checkpoint_close(&c);
}

static void change(const char *path, long at, unsigned char bit)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    int byte = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(byte ^ bit, f);
    fclose(f);
}

static void damage_is_refused(void **state)
{
    (void)state;
    char path[1024], manifest[1024];
    assert_int_equal(put(11, 2), STATUS_OK);
    checkpoint_path(dir, 11, path);
    snprintf(manifest, sizeof manifest, "%.*s.json", (int)strlen(path) - 3, path);
    struct stat info;
    checkpoint *c;
    assert_int_equal(stat(path, &info), 0);
    for (long at = 0; at < info.st_size; at += 97) {
        change(path, at, 1);
        assert_int_equal(checkpoint_open(path, &c), STATUS_DATA);
        assert_null(c);
        change(path, at, 1);
    }
    assert_int_equal(stat(manifest, &info), 0);
    for (long at = 0; at < info.st_size; at += 3) {
        change(manifest, at, 1);
        if (checkpoint_open(path, &c) == STATUS_OK) {
            /* Only white space may change without being noticed. */
            assert_int_equal(checkpoint_head(c)->step, 11);
            checkpoint_close(&c);
        }
        change(manifest, at, 1);
    }
    assert_int_equal(checkpoint_open(path, &c), STATUS_OK);
    checkpoint_close(&c);
    assert_int_equal(truncate(path, 4000), 0);
    assert_int_equal(checkpoint_open(path, &c), STATUS_DATA);
    assert_int_equal(unlink(manifest), 0);
    assert_int_equal(checkpoint_open(path, &c), STATUS_DATA);
    assert_int_equal(unlink(path), 0);
}

static void newest_sound(void **state)
{
    (void)state;
    char path[1024];
    checkpoint *c;
    assert_int_equal(put(20, 1), STATUS_OK);
    assert_int_equal(put(30, 1), STATUS_OK);
    assert_int_equal(checkpoint_point(dir, "latest", 30), STATUS_OK);
    checkpoint_path(dir, 30, path);
    change(path, 3000, 4);
    assert_int_equal(checkpoint_newest(dir, &c), STATUS_OK);
    assert_int_equal(checkpoint_head(c)->step, 20);
    checkpoint_close(&c);
    assert_int_equal(checkpoint_named(dir, "latest", &c), STATUS_OK);
    assert_int_equal(checkpoint_head(c)->step, 20);
    checkpoint_close(&c);
    change(path, 3000, 4);
    /* A file without its manifest was never committed. */
    checkpoint_path(dir, 99, path);
    FILE *f = fopen(path, "w");
    fputs("half", f);
    fclose(f);
    assert_int_equal(checkpoint_newest(dir, &c), STATUS_OK);
    assert_int_equal(checkpoint_head(c)->step, 30);
    checkpoint_close(&c);
    assert_int_equal(unlink(path), 0);
    /* A sound pair under the name of another step is a copy, not the newest. */
    const char *const ends[] = {"h5", "json"};
    char was[1024], copy[1024];
    for (int i = 0; i < 2; i++) {
        snprintf(was, sizeof was, "%s/step-0000020.%s", dir, ends[i]);
        snprintf(copy, sizeof copy, "%s/step-0000098.%s", dir, ends[i]);
        assert_int_equal(link(was, copy), 0);
    }
    assert_int_equal(checkpoint_newest(dir, &c), STATUS_OK);
    assert_int_equal(checkpoint_head(c)->step, 30);
    checkpoint_close(&c);
    for (int i = 0; i < 2; i++) {
        snprintf(copy, sizeof copy, "%s/step-0000098.%s", dir, ends[i]);
        assert_int_equal(unlink(copy), 0);
    }
}

/* "latest" names a step of which no manifest is left: never the same as "no checkpoint yet". */
static void pointer_without_checkpoint(void **state)
{
    (void)state;
    char lost[1040];
    checkpoint *c;
    snprintf(lost, sizeof lost, "%s/lost", dir);
    assert_int_equal(mkdir(lost, 0777), 0);
    assert_int_equal(checkpoint_newest(lost, &c), STATUS_OK);
    assert_null(c);
    assert_int_equal(checkpoint_point(lost, "latest", 12), STATUS_OK);
    assert_int_equal(checkpoint_newest(lost, &c), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "step-0000012.h5"));
    snprintf(lost, sizeof lost, "%s/lost/latest", dir);
    assert_int_equal(unlink(lost), 0);
    snprintf(lost, sizeof lost, "%s/lost", dir);
    assert_int_equal(rmdir(lost), 0);
}

static void prune_keeps(void **state)
{
    (void)state;
    for (int64_t step = 40; step <= 90; step += 10)
        assert_int_equal(put(step, 1), STATUS_OK);
    assert_int_equal(checkpoint_point(dir, "latest", 90), STATUS_OK);
    assert_int_equal(checkpoint_point(dir, "best", 40), STATUS_OK);
    int64_t removed, *steps, n;
    assert_int_equal(checkpoint_prune(dir, 1, &removed), STATUS_OK);
    assert_int_equal(checkpoint_list(dir, &steps, &n), STATUS_OK);
    assert_int_equal(n, 3);
    assert_true(steps[0] == 90 && steps[1] == 80 && steps[2] == 40);
    assert_int_equal(removed, 6); /* 10, 20, 30, 50, 60, 70 */
    free(steps);
}

static void full_disk(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, tight;
    getrlimit(RLIMIT_FSIZE, &before);
    tight = before;
    tight.rlim_cur = 3000;
    setrlimit(RLIMIT_FSIZE, &tight);
    assert_int_equal(put(100, 1), STATUS_RESOURCE);
    setrlimit(RLIMIT_FSIZE, &before);
    checkpoint *c;
    assert_int_equal(checkpoint_newest(dir, &c), STATUS_OK);
    assert_int_equal(checkpoint_head(c)->step, 90);
    checkpoint_close(&c);
    char path[1100];
    checkpoint_path(dir, 100, path);
    assert_int_equal(access(path, F_OK), -1);
    strcat(path, ".tmp");
    assert_int_equal(access(path, F_OK), -1);
}

static int make(void **state)
{
    (void)state;
    log_open(1, true); /* no warnings on the screen */
    return mkdtemp(dir) ? 0 : -1;
}

static int clear(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),   cmocka_unit_test(damage_is_refused),
        cmocka_unit_test(newest_sound), cmocka_unit_test(pointer_without_checkpoint),
        cmocka_unit_test(prune_keeps),  cmocka_unit_test(full_disk),
    };
    return cmocka_run_group_tests(tests, make, clear);
}
