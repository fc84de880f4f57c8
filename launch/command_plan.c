/* `crocuta plan`: what a configuration needs before it is run. Memory a worker, work and traffic of
 * a step, how the ranks share it, and whether it fits. */
#include "io/dataset.h"
#include "launch/cli.h"
#include "launch/device_option.h"
#include "runtime/core/config.h"
#include "runtime/core/memory.h"
#include "runtime/train/nucleotides.h"
#include "runtime/train/plan.h"
#include "runtime/train/plan_data.h"

#include <stdlib.h>
#include <string.h>

static const char about[] = "Says what a configuration needs: memory of a worker, work and traffic "
                            "of a step, and whether it fits (exit code 4\n"
                            "where it does not).\n\nExample:\n  crocuta plan "
                            "my.yaml --workers 4 --device-memory 24GiB train.micro_batch=8";

typedef struct {
    int64_t workers;
    const char *device_memory; /* NULL: of this machine */
    bool measure;
} plan_options;

/* ---- what the data says ---- */

/* What of the plan only the data say; a class-conditional head is planned for their labels. */
static status ask_data(const cli *c, const config *cfg, plan_request *q, int *classes)
{
    *classes = 0;
    if (cfg->data.path[0] == '\0')
        return plan_without_data(cfg, q);
    char path[CONFIG_TEXT];
    config_data_path(cfg, path);
    if (cfg->data.tokens ==
        TOKENS_NUCLEOTIDE) { /* the plan asks nothing of sequences but that they are */
        nucleotides bases = {0};
        TRY(nucleotides_check(cfg, false));
        status opened = nucleotides_open(cfg, false, 0, c->world, &bases);
        nucleotides_close(&bases);
        return opened == STATUS_OK ? plan_without_data(cfg, q) : opened;
    }
    dataset *d = NULL;
    draws *x = NULL;
    TRY(dataset_open(path, c->world, &d));
    if (cfg->model.head == HEAD_CLASS_CONDITIONAL && cfg->objective != OBJECTIVE_NEXT_SITE)
        *classes = (int)d->n_labels;
    status st = dataset_block(d, cfg->data.max_gap);
    config_data any = cfg->data;
    any.seq_len = 0; /* longer windows than these data have may be planned */
    if (st == STATUS_OK)
        st = draws_open(d, &any, (uint64_t)cfg->seed, &x);
    if (st == STATUS_OK)
        st = plan_of_data(cfg, d, x, *classes, q);
    draws_close(&x);
    dataset_close(&d);
    return comm_agree(c->world, st);
}

/* ---- how much memory, how fast ---- */

static status device_memory(const cli *c, const char *text, int64_t *bytes)
{
    if (!text) {
        *bytes = memory_available() / comm_local_size(c->world);
        return STATUS_OK;
    }
    return memory_of_option("plan", text, bytes);
}

/* Seconds a step: work at the measured rate of products and traffic at that of copies, one after
 * the other. */
static status measured_seconds(device *dev, const config *c, const plan *p, double *seconds)
{
    double gemm, copy;
    TRY(device_measure(dev, c->model.d_model, model_mixed(c, dev), &gemm, &copy));
    *seconds = ((double)p->flops_per_step / gemm + (double)p->bytes_per_step / copy) /
               (double)(p->data_parallel * p->context_parallel);
    return STATUS_OK;
}

/* ---- output ---- */

static void print_json(const config *c, const plan *p, double seconds)
{
    char *text = plan_json(c, p, seconds);
    if (text)
        puts(text);
    free(text);
}

static void print_bytes(const char *name, int64_t bytes)
{
    const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes;
    int u = 0;
    for (; x >= 1024 && u < 4; u++)
        x /= 1024;
    printf("  %-16s %8.4g %s\n", name, x, units[u]);
}

static void print_text(const plan *p, double seconds)
{
    printf("memory of a worker:\n");
    print_bytes("weights", p->weights);
    print_bytes("gradients", p->gradients);
    print_bytes("optimizer", p->optimizer);
    print_bytes("position table", p->position_table);
    print_bytes("activations", p->activations);
    print_bytes("workspace", p->workspace);
    print_bytes("total", p->total);
    print_bytes("available", p->available);
    printf("a step: %lld sequences on %lld workers (%lld share a sequence), %lld at once, "
           "recompute: %s\n",
           (long long)p->sequences, (long long)(p->data_parallel * p->context_parallel),
           (long long)p->context_parallel, (long long)p->micro_batch, keep_name(p->keep));
    printf("  %.4g GFLOP, %.4g GB moved", (double)p->flops_per_step * 1e-9,
           (double)p->bytes_per_step * 1e-9);
    if (seconds > 0)
        printf(", %.3g s as measured here", seconds);
    printf("\n");
}

/* ---- the command ---- */

static status read_config(const char **args, int n, config *c)
{
    config_defaults(c);
    TRY(config_read(c, args[0]));
    for (int i = 1; i < n; i++)
        TRY(config_override(c, args[i]));
    return config_finish(c, false);
}

/* Costs need no device; measuring needs one. AUTO plans for what this machine would use. */
static status plan_device(const cli *c, const cli_common *common, const plan_options *o,
                          device **out)
{
    device_kind kind = device_of_option(common);
    if (o->measure)
        return device_open_option(c, common, out);
    if (kind == DEVICE_AUTO)
        kind = device_count(NULL, 0) > 0 ? DEVICE_CUDA : DEVICE_CPU;
    return comm_agree(c->world, device_describe(kind, cli_threads(c, common), out));
}

static status make_plan(const cli *c, const cli_common *common, const plan_options *o, config *cfg)
{
    plan_request q = {.workers = o->workers ? (int)o->workers : comm_size(c->world),
                      .training = true};
    device *dev = NULL;
    model *m = NULL;
    plan p;
    double seconds = 0;
    int classes;
    TRY(ask_data(c, cfg, &q, &classes));
    TRY(device_memory(c, o->device_memory, &q.available));
    TRY(plan_device(c, common, o, &dev));
    status st;
    TRY_GOTO(cleanup, model_open(cfg, classes, dev, &m));
    TRY_GOTO(cleanup, plan_make(m, cfg, &q, &p));
    if (o->measure && p.fits)
        TRY_GOTO(cleanup, measured_seconds(dev, cfg, &p, &seconds));
    if (comm_rank(c->world) == 0 && common->json)
        print_json(cfg, &p, seconds);
    else if (comm_rank(c->world) == 0 && p.fits)
        print_text(&p, seconds);
    if (!p.fits)
        st = plan_refuse(&p, o->device_memory ? o->device_memory : comm_host(c->world));

cleanup:
    model_close(&m);
    device_close(&dev);
    return st;
}

status command_plan(const cli *c)
{
    plan_options o = {0};
    const option own[] = {
        {"workers", 0, OPTION_INTEGER, &o.workers, "N",
         "workers to plan for (default: the ranks of this call)"},
        {"device-memory", 0, OPTION_TEXT, &o.device_memory, "BYTES",
         "memory of a worker: bytes, 24GiB, h100 or a100"},
        {"measure", 0, OPTION_FLAG, &o.measure, NULL,
         "measure this machine and say how long a step takes"},
        {NULL, 0, OPTION_FLAG, NULL, NULL, NULL},
    };
    cli_common common;
    const char **args;
    int n;
    bool done;
    TRY(cli_parse(c, "CONFIG [--workers N] [--device-memory BYTES] [--measure] [key=value ...]",
                  about, own, &common, &args, &n, &done));
    if (done)
        return STATUS_OK;
    if (n < 1 || cli_is_override(args[0]))
        return fail(STATUS_USAGE, "plan: no configuration was given; see crocuta plan --help");
    if (o.workers < 0 || o.workers > 1000000)
        return fail(STATUS_USAGE, "plan: --workers %lld is impossible; use 1 to 1000000",
                    (long long)o.workers);
    config *cfg = calloc(1, sizeof *cfg);
    if (!cfg)
        return fail(STATUS_MEMORY, "plan: no memory for a configuration; close other programs");
    status st = comm_agree(c->world, read_config(args, n, cfg));
    if (st == STATUS_OK)
        st = make_plan(c, &common, &o, cfg);
    free(cfg);
    return st;
}
