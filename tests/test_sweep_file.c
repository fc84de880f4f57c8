/* ranks: 1
 * Sweep files: grids and lists become trials with names of their own; settings keep their spelling;
 * every fault is one line with file, line and the nearest known key; --small replaces what it
 * names. */
#include "runtime/core/sweep_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/must.h"

static char path[64];

static status read_text(const char *text, bool small, sweep_file *f)
{
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    fputs(text, to);
    fclose(to);
    return sweep_file_read(path, small, f);
}

/* The message begins with the file and this line, holds every part, and is one line of what and
 * what to do. */
static void refused(const char *text, int line, const char *a, const char *b)
{
    sweep_file f;
    char at[96];
    const status st = read_text(text, false, &f);
    const char *parts[] = {a, b}, *said = failure_last()->text;
    sweep_file_free(&f);
    if (st != STATUS_USAGE)
        fail_msg("status %d for:\n%s", (int)st, text);
    snprintf(at, sizeof at, "%s:%d: ", path, line);
    if (line > 0 && strncmp(said, at, strlen(at)) != 0)
        fail_msg("`%s` does not begin with `%s`", said, at);
    for (int i = 0; i < 2; i++)
        if (parts[i] && !strstr(said, parts[i]))
            fail_msg("`%s` does not say `%s`", said, parts[i]);
    if (!strstr(said, "; ") || strchr(said, '\n'))
        fail_msg("`%s` is not one line of `FILE:LINE: what; what to do`", said);
}

static const char *value(const sweep_point *p, const char *key)
{
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->at[i].key, key) == 0)
            return p->at[i].value;
    return "";
}

static void expansion(void **state)
{
    (void)state;
    sweep_file f;
    must(read_text("base: study\n"
                   "set: {train: {steps: 5}, optimizer.betas: [0.9, 0.98]}\n"
                   "grid:\n"
                   "  - position: {alpha: [1, 10], rows: [shared, site]}\n"
                   "    seed: 7\n"
                   "  - optimizer.betas: [[0.9, 0.95], [0.9, 0.999]]\n"
                   "list:\n"
                   "  - {name: mine, model.mixer: attention}\n"
                   "  - stages: [{seq_len: 16, steps: 2}]\n"
                   "do: [pretrain]\n"
                   "evaluate: {split: valid, contexts: [64, 128], bootstrap: 20}\n",
                   false, &f));
    static const char *const names[] = {"alpha-1_rows-shared_seed-7",
                                        "alpha-1_rows-site_seed-7",
                                        "alpha-10_rows-shared_seed-7",
                                        "alpha-10_rows-site_seed-7",
                                        "betas-0.9-0.95",
                                        "betas-0.9-0.999",
                                        "mine",
                                        "stages-seq_len-16-steps-2"};
    assert_int_equal(f.n_points, 8);
    for (int i = 0; i < 8; i++)
        assert_string_equal(f.points[i].name, names[i]);
    assert_string_equal(value(&f.points[2], "position.alpha"), "10");
    assert_string_equal(value(&f.points[5], "optimizer.betas"), "[0.9, 0.999]");
    assert_string_equal(value(&f.points[7], "stages"), "[{seq_len: 16, steps: 2}]");
    assert_int_equal(f.points[6].line, 8);
    assert_string_equal(value(&f.set, "optimizer.betas"), "[0.9, 0.98]");
    assert_string_equal(f.base, "study");
    assert_true(f.parts.pretrain && !f.parts.finetune && !f.parts.position && f.parts.evaluate);
    assert_string_equal(f.parts.contexts, "64,128");
    assert_string_equal(f.parts.split, "valid");
    assert_int_equal(f.parts.bootstrap, 20);
    sweep_file_free(&f);
}

/* A trial's name does not depend on its neighbours. */
static void names(void **state)
{
    (void)state;
    sweep_file f;
    must(read_text("base: a\ngrid: {data.path: [x/a.h5, x_a.h5, \"x a.h5\"], optimizer.lr: 1e-3}\n",
                   false, &f));
    assert_int_equal(f.n_points, 3);
    assert_string_equal(f.points[0].name, "path-x-a.h5_optimizer-lr-1e-3");
    assert_string_equal(f.points[1].name, "path-x_a.h5_optimizer-lr-1e-3");
    assert_true(strcmp(f.points[2].name, f.points[0].name) !=
                0); /* the same letters: told apart by a hash */
    sweep_file_free(&f);
    char text[700], *end = text + snprintf(text, sizeof text, "base: a\ngrid: {data.path: [");
    for (int i = 0; i < 200; i++)
        *end++ = 'b';
    snprintf(end, 40, "1, b2]}\n");
    must(read_text(text, false, &f));
    assert_int_equal(f.n_points, 2);
    assert_true(strlen(f.points[0].name) < SWEEP_NAME);
    sweep_file_free(&f);
}

static const char whole[] = "base: study\n"
                            "set: {train.steps: 100, seed: 3}\n"
                            "grid: {position.alpha: [1, 10, 100]}\n"
                            "list: [{position.encoding: none}]\n"
                            "small:\n"
                            "  set: {train.steps: 2}\n"
                            "  do: [finetune]\n"
                            "  evaluate: none\n"
                            "  grid: {position.alpha: 10}\n";

static void small(void **state)
{
    (void)state;
    sweep_file f;
    must(read_text(whole, false, &f));
    assert_int_equal(f.n_points, 4);
    assert_string_equal(value(&f.set, "train.steps"), "100");
    assert_true(f.parts.pretrain && f.parts.finetune && f.parts.evaluate);
    sweep_file_free(&f);
    must(read_text(whole, true, &f));
    assert_int_equal(f.n_points, 1);
    assert_string_equal(value(&f.set, "train.steps"), "2");
    assert_string_equal(value(&f.set, "seed"), "3");
    assert_true(!f.parts.pretrain && f.parts.finetune && !f.parts.evaluate);
    sweep_file_free(&f);
    assert_int_equal(read_text("base: a\ngrid: {seed: 1}\n", true, &f), STATUS_USAGE);
    assert_non_null(strstr(failure_last()->text, "--small"));
    sweep_file_free(&f);
}

static void faults(void **state)
{
    (void)state;
    refused("base: a\ngrid:\n  position.alpah: [1]\n", 3, "position.alpah is not a key",
            "position.alpha?");
    refused("base: a\ngrid:\n  position:\n    rosw: [site]\n", 4, "position.rosw",
            "position.rows?");
    refused("base: a\ngrid:\n  position.alpha: [1,\n    ten]\n", 4, "position.alpha is ten",
            "whole number");
    refused("base: a\ngrid: {position.rows: [shard]}\n", 2, "did you mean shared?", NULL);
    refused("base: a\nset: {train: {steps: 0}}\ngrid: {seed: 1}\n", 2, "train.steps is 0",
            "out of range");
    refused("base: a\nlist:\n  - {seed: 1}\n  - {sede: 2}\n", 4, "did you mean seed?", NULL);
    refused("base: a\ngird: {seed: 1}\n", 2, "gird is not a key of a sweep", "did you mean grid?");
    refused("base: a\ndata: {seq_len: 4}\ngrid: {seed: 1}\n", 2, "under set", NULL);
    refused("grid: {seed: 1}\n", 1, "base is missing", NULL);
    refused("base: [a]\ngrid: {seed: 1}\n", 1, "base is missing", NULL);
    refused("base: a\n", 1, "no trial", NULL);
    refused("base: a\ngrid: {}\n", 1, "no trial", NULL);
    refused("base: a\ngrid: {seed: []}\n", 2, "no values", NULL);
    refused("base: a\ngrid: {seed: [1, 2]}\nlist:\n  - {seed: 2}\n", 4, "stands there twice",
            "line 2");
    refused("base: a\nlist:\n  - {name: x, seed: 2}\n  - {name: x, seed: 3}\n", 4,
            "another trial is called x", NULL);
    refused("base: a\nlist:\n  - {name: ../x, seed: 2}\n", 3, "name", NULL);
    refused("base: a\ngrid: {seed: 1, seed: 2}\n", 2, "twice", NULL);
    refused("base: a\ngrid: {seed: 1}\ndo: [pretrian]\n", 3, "pretrian", "position-conditioned");
    refused("base: a\ngrid: {seed: 1}\ndo: pretrain\n", 3, "do is not a list", NULL);
    refused("base: a\ngrid: {seed: 1}\nevaluate: {spilt: test}\n", 3, "did you mean split?", NULL);
    refused("base: a\ngrid: {seed: 1}\nevaluate: {bootstrap: many}\n", 3, "bootstrap", NULL);
    refused("base: a\ngrid: {seed: 1}\nsmall:\n  grdi: {seed: 1}\n", 4, "did you mean grid?", NULL);
    refused("base: a\ngrid: {seed: {a: 1}}\n", 2, "seed", NULL);
    refused("base: a\ngrid: [seed, 1]\n", 2, "not a map", NULL);
    refused("base: a\n  grid: {seed: 1\n", 2, "not YAML", NULL);
    refused("", 0, "empty", NULL);
    refused("base: a\ngrid: {seed: [1,2,3,4,5,6,7,8,9,10], position.alpha: [1,2,3,4,5,6,7,8,9,10], "
            "position.rank: "
            "[1,2,3,4,5,6,7,8,9,10], data.seq_len: [2,3,4,5,6,7,8,9,10,11]}\n",
            2, "more than 4096", NULL);
    /* deep and wide by references: read in no time, refused */
    refused("base: a\nset: {data.exclude: x}\ngrid: {stages: [&a [&b [&c [1, 1], *c, *c], *b, *b], "
            "*a, *a, [[[[[[1]]]]]]]}\n",
            3, NULL, NULL);
    sweep_file f;
    assert_int_equal(sweep_file_read("/nowhere/s.yaml", false, &f), STATUS_USAGE);
    sweep_file_free(&f);
    assert_int_equal(sweep_file_read("/tmp", false, &f), STATUS_USAGE);
    sweep_file_free(&f);
    assert_int_equal(sweep_file_read("/dev/zero", false, &f), STATUS_USAGE);
    sweep_file_free(&f);
}

static void shipped(void **state)
{
    (void)state;
    sweep_file f;
    assert_true(sweep_file_is(SOURCE_DIR "/experiments/alpha-sweep.yaml"));
    assert_false(sweep_file_is(SOURCE_DIR "/experiments/study-small.yaml"));
    must(sweep_file_read(SOURCE_DIR "/experiments/alpha-sweep.yaml", false, &f));
    assert_int_equal(f.n_points, 20);
    sweep_file_free(&f);
    must(sweep_file_read(SOURCE_DIR "/experiments/alpha-sweep.yaml", true, &f));
    assert_int_equal(f.n_points, 10);
    sweep_file_free(&f);
    must(sweep_file_read(SOURCE_DIR "/experiments/alpha-sweep-study.yaml", false, &f));
    assert_int_equal(f.n_points, 15);
    sweep_file_free(&f);
}

int main(void)
{
    snprintf(path, sizeof path, "sweep_%d.yaml", (int)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expansion), cmocka_unit_test(names),   cmocka_unit_test(small),
        cmocka_unit_test(faults),    cmocka_unit_test(shipped),
    };
    const int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return rc;
}
