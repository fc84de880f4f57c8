/* crocuta bench: how fast a model runs on this machine, and how close that is to the floor. */
#include "launch/cli.h"
#include "launch/device_option.h"
#include "model/model.h"
#include "runtime/train/bench.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const char USAGE[] =
    "PRESET|CONFIG --batch B --seq-len L [--mode forward|step] [key=value ...]";
static const char ABOUT[] =
    "Times random tokens through a model and divides by the floor: products at the rate, and bytes "
    "at the\n"
    "bandwidth, that this machine reached in the same run (docs/performance.md).\n\nExamples:\n"
    "  crocuta bench tiny-1k --batch 8 --seq-len 1024\n"
    "  crocuta bench small-32k --batch 1 --seq-len 32768 --mode forward --json\n";

static json_t *shares(const bench_result *r, double waiting)
{
    const double *s = r->share;
    double gemm =
        s[OP_MIXIN] + s[OP_MIXOUT] + s[OP_MLP] + s[OP_HEAD] + s[OP_CLASSIFY] + s[OP_SITES];
    double elementwise = s[OP_EMBED] + s[OP_RANGES] + s[OP_FILTER] + s[OP_OPTIMIZER] + s[OP_ROWS];
    return json_pack("{s:f, s:f, s:f, s:f}", "gemm", gemm, "fft", s[OP_CONV], "elementwise",
                     elementwise, "comm", waiting);
}

static status print_json(const bench_result *r, bool training, const char *device_name)
{
    json_t *by = json_object();
    for (int k = 0; k < OP_KINDS; k++)
        json_object_set_new(by, op_name((op_kind)k), json_real(r->share[k]));
    double timed = training ? r->step_s : r->forward_s;
    json_t *root = json_pack(
        "{s:s, s:f, s:f, s:f, s:f, s:I, s:I, s:o, s:o, s:f, s:f, s:I, s:I, s:f, s:f, s:s, s:s}",
        "schema", "crocuta/bench/1", "forward_ms", 1e3 * r->forward_s, "backward_ms",
        1e3 * r->backward_s, "step_ms", 1e3 * r->step_s, "tokens_per_s", (double)r->tokens / timed,
        "peak_bytes", (json_int_t)r->peak_bytes, "start_bytes", (json_int_t)r->start_bytes, "share",
        shares(r, 0.0), "share_by_operation", by, "gemm_flops_per_s", r->gemm_flops_per_s,
        "copy_bytes_per_s", r->copy_bytes_per_s, "flops", (json_int_t)r->flops, "bytes",
        (json_int_t)r->bytes, "floor_ms", 1e3 * r->floor_s, "fraction_of_floor",
        r->fraction_of_floor, "device", device_name, "recompute", keep_name(r->keep));
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    return cli_print_json("bench", text);
}

static void print_table(const bench_result *r, bool training)
{
    double timed = training ? r->step_s : r->forward_s;
    printf("forward     %10.2f ms\n", 1e3 * r->forward_s);
    if (training) {
        printf("backward    %10.2f ms\n", 1e3 * r->backward_s);
        printf("step        %10.2f ms\n", 1e3 * r->step_s);
    }
    printf("rate        %10.0f tokens/s\n", (double)r->tokens / timed);
    printf("memory      %10.2f GiB above start-up (%.2f in all)\n",
           (double)(r->peak_bytes - r->start_bytes) / 1073741824.0,
           (double)r->peak_bytes / 1073741824.0);
    printf("recompute   %10s\n", keep_name(r->keep));
    printf("machine     %10.1f GFLOP/s in products, %.1f GB/s copying\n",
           1e-9 * r->gemm_flops_per_s, 1e-9 * r->copy_bytes_per_s);
    printf("floor       %10.2f ms: %.1f GFLOP, %.2f GB\n", 1e3 * r->floor_s,
           1e-9 * (double)r->flops, 1e-9 * (double)r->bytes);
    printf("of floor    %10.0f %%\n", 100.0 * r->fraction_of_floor);
    printf("share      ");
    for (int k = 0; k < OP_KINDS; k++)
        if (r->share[k] > 0.005)
            printf(" %s %.0f %%", op_name((op_kind)k), 100.0 * r->share[k]);
    printf("\n");
}

/* A preset by name, or a configuration file. */
static status bench_config(const char *what, const char **args, int n_args, config *c)
{
    bool preset = false;
    for (int i = 0; config_preset_name(i); i++)
        preset = preset || strcmp(config_preset_name(i), what) == 0;
    config_defaults(c);
    if (preset) {
        char assignment[128];
        snprintf(assignment, sizeof assignment, "model.preset=%s", what);
        TRY(config_override(c, assignment));
        TRY(config_override(c, "position.encoding=none"));
    } else {
        TRY(config_read(c, what));
    }
    for (int i = 1; i < n_args; i++)
        TRY(config_override(c, args[i]));
    return config_finish(c, false);
}

status command_bench(const cli *c)
{
    cli_common common = {.device = "auto", .seed = 1};
    int64_t batch_size = 0, length = 0;
    const char *mode = "step", **args = NULL;
    int n_args = 0;
    bool done = false;
    const option own[] = {
        {"batch", 'b', OPTION_INTEGER, &batch_size, "B", "sequences of a step"},
        {"seq-len", 'l', OPTION_INTEGER, &length, "L", "tokens of a sequence"},
        {"mode", 0, OPTION_TEXT, &mode, "forward|step", "what is timed (step)"},
        {0},
    };
    TRY(cli_parse(c, USAGE, ABOUT, own, &common, &args, &n_args, &done));
    if (done)
        return STATUS_OK;
    if (n_args < 1)
        return fail(STATUS_USAGE,
                    "bench: a PRESET or a CONFIG is needed; see crocuta bench --help");
    if (batch_size < 1 || length < 1)
        return fail(STATUS_USAGE,
                    "bench: --batch and --seq-len must be at least 1; see crocuta bench --help");
    if (batch_size > (INT64_C(1) << 40) / length)
        return fail(STATUS_RESOURCE,
                    "bench: %lld sequences of %lld tokens fit no machine; lower --batch or "
                    "--seq-len",
                    (long long)batch_size, (long long)length);
    bool training = strcmp(mode, "step") == 0;
    if (!training && strcmp(mode, "forward") != 0)
        return fail(STATUS_USAGE,
                    "bench: --mode %s is not forward or step; see crocuta bench --help", mode);
    config conf;
    TRY(bench_config(args[0], args, n_args, &conf));
    if (length > conf.model.l_max)
        return fail(STATUS_USAGE,
                    "bench: --seq-len %lld is above model.l_max %lld; lower it or set model.l_max",
                    (long long)length, (long long)conf.model.l_max);
    device *dev = NULL;
    TRY(device_open_option(c, &common, &dev));
    bench_result r;
    status st = bench_run(&conf, dev, batch_size, length, training, &r);
    if (st == STATUS_OK && comm_rank(c->world) == 0) {
        if (common.json)
            st = print_json(&r, training, dev->kind == DEVICE_CPU ? "cpu" : dev->name);
        else
            print_table(&r, training);
    }
    device_close(&dev);
    return st;
}
