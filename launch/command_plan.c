/* `crocuta plan`: what a configuration needs before it is run. Memory a worker, work and traffic of
 * a step, how the ranks share it, and whether it fits. */
#include "io/dataset.h"
#include "launch/cli.h"
#include "launch/device_option.h"
#include "launch/shipped.h"
#include "runtime/core/config.h"
#include "runtime/core/log.h"
#include "runtime/core/memory.h"
#include "runtime/train/nucleotides.h"
#include "runtime/train/plan_data.h"
#include "runtime/train/stage_plan.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char about[] = "Says what a configuration needs: memory of a worker, work and traffic "
                            "of a step, and whether it fits (exit code 4\n"
                            "where it does not).\n\nExample:\n  crocuta plan "
                            "my.yaml --workers 4 --device-memory 24GiB train.micro_batch=8";

typedef struct {
    int64_t workers;
    const char *device_memory; /* NULL: of this machine */
    bool measure;
} plan_options;

/* What is planned: the stages in order, and the full length. */
typedef struct {
    schedule steps;
    plan stages[CONFIG_STAGES + 1], final;
    double seconds; /* of a step, 0: not measured */
} run_plan;

/* ---- what the data says ---- */

typedef struct {
    dataset *d; /* people; NULL: none, or sequences */
    draws *x;
    int classes; /* a class-conditional head is planned for their labels */
} plan_source;

static void source_close(plan_source *s)
{
    draws_close(&s->x);
    dataset_close(&s->d);
}

/* The plan asks nothing of sequences but that they are such; where there are none yet it says so.
 */
static status check_sequences(const cli *c, const config *cfg, const char *path)
{
    nucleotides bases = {0};
    int64_t missing = access(path, F_OK) != 0;
    TRY(nucleotides_check(cfg, false));
    TRY(comm_max_i64(c->world, &missing, 1));
    if (missing) {
        log_warning("%s: there is no such data set; the plan needs none", path);
        return STATUS_OK;
    }
    const status st = nucleotides_open(cfg, false, 0, c->world, &bases);
    nucleotides_close(&bases);
    return st;
}

static status source_open(const cli *c, const config *cfg, plan_source *s)
{
    *s = (plan_source){0};
    if (cfg->data.path[0] == '\0')
        return STATUS_OK;
    char path[CONFIG_TEXT];
    config_data_path(cfg, path);
    if (cfg->data.tokens == TOKENS_NUCLEOTIDE)
        return check_sequences(c, cfg, path);
    TRY(dataset_open(path, c->world, &s->d));
    if (cfg->model.head == HEAD_CLASS_CONDITIONAL && cfg->objective != OBJECTIVE_NEXT_SITE)
        s->classes = (int)s->d->n_labels;
    status st = dataset_block(s->d, cfg->data.max_gap);
    config_data any = cfg->data;
    any.seq_len = 0; /* longer windows than these data have may be planned */
    if (st == STATUS_OK)
        st = draws_open(s->d, &any, (uint64_t)cfg->seed, &s->x);
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

static void print_bytes(const char *name, int64_t bytes)
{
    const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes;
    int u = 0;
    for (; x >= 1024 && u < 4; u++)
        x /= 1024;
    printf("  %-16s %8.4g %s\n", name, x, units[u]);
}

static void print_stages(const run_plan *r)
{
    const schedule *s = &r->steps;
    printf("stages, with validation of windows of %lld tokens:\n", (long long)s->final.seq_len);
    printf("  %10s %8s %9s %12s %7s %9s %12s\n", "tokens", "steps", "sequences", "share a seq.",
           "at once", "recompute", "GiB a worker");
    for (int i = 0; i < s->n_stages; i++) {
        const stage *at = &s->stages[i];
        const plan *p = &r->stages[i];
        printf("  %10lld %8lld %9lld %12lld %7lld %9s %12.4g\n", (long long)at->seq_len,
               (long long)(at->end - at->first), (long long)p->sequences,
               (long long)p->context_parallel, (long long)p->micro_batch, keep_name(p->keep),
               (double)p->total / (1 << 30));
    }
}

static void print_text(const run_plan *r)
{
    const plan *p = &r->final;
    if (r->steps.n_stages > 1)
        print_stages(r);
    printf("memory of a worker%s:\n", r->steps.n_stages > 1 ? " at full length" : "");
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
    if (r->seconds > 0)
        printf(", %.3g s as measured here", r->seconds);
    printf("\n");
}

static void print(const cli_common *common, const config *c, const run_plan *r, bool fits)
{
    if (!common->json) {
        if (fits)
            print_text(r);
        return;
    }
    char *text = plan_json(c, &r->final, &r->steps, r->stages, r->seconds);
    if (text)
        puts(text);
    free(text);
}

/* ---- the command ---- */

static status read_config(const char **args, int n, config *c)
{
    TRY(shipped_read("plan", args, n, c));
    return config_finish(c, false);
}

/* Costs need no device; measuring needs one. AUTO plans for what this machine would use, and mixed
 * precision, which a CPU has not, for a GPU. */
static status plan_device(const cli *c, const cli_common *common, const plan_options *o,
                          const config *cfg, device **out)
{
    device_kind kind = device_of_option(common);
    if (o->measure)
        return device_open_option(c, common, out);
    if (kind == DEVICE_AUTO)
        kind =
            device_count(NULL, 0) > 0 || (cfg->train.precision == PRECISION_MIXED && device_built())
                ? DEVICE_CUDA
                : DEVICE_CPU;
    return comm_agree(c->world, device_describe(kind, cli_threads(c, common), out));
}

/* All stages, and the full length, which they may end before. *worst: one that does not fit. */
static status plan_run(const stage_ground *g, run_plan *r, const plan **worst)
{
    TRY(schedule_open(g->c, g->classes > 0, &r->steps));
    sharers how = stage_sharers(&r->steps, &r->steps.final);
    TRY(stage_plan(g, &r->steps, &r->steps.final, &how, &r->final));
    TRY(stage_plans(g, &r->steps, r->stages));
    *worst = r->final.fits ? NULL : &r->final;
    for (int i = 0; i < r->steps.n_stages && !*worst; i++)
        if (!r->stages[i].fits)
            *worst = &r->stages[i];
    r->final.fits = !*worst;
    return STATUS_OK;
}

static status make_plan(const cli *c, const cli_common *common, const plan_options *o, config *cfg,
                        run_plan *r)
{
    const int workers = o->workers ? (int)o->workers : comm_size(c->world);
    stage_ground g = {.c = cfg, .workers = workers};
    plan_source source;
    device *dev = NULL;
    model *m = NULL;
    const plan *worst = NULL;
    status st;
    TRY_GOTO(cleanup, source_open(c, cfg, &source));
    TRY_GOTO(cleanup, device_memory(c, o->device_memory, &g.available));
    TRY_GOTO(cleanup, plan_device(c, common, o, cfg, &dev));
    TRY_GOTO(cleanup, model_open(cfg, source.classes, dev, &m));
    g.m = m;
    g.d = source.d;
    g.x = source.x;
    g.classes = source.classes;
    TRY_GOTO(cleanup, plan_run(&g, r, &worst));
    if (o->measure && !worst)
        TRY_GOTO(cleanup, measured_seconds(dev, cfg, &r->final, &r->seconds));
    if (comm_rank(c->world) == 0)
        print(common, cfg, r, !worst);
    if (worst)
        st = plan_refuse(worst, o->device_memory ? o->device_memory : comm_host(c->world));

cleanup:
    model_close(&m);
    device_close(&dev);
    source_close(&source);
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
    run_plan *r = calloc(1, sizeof *r);
    status st = r ? read_config(args, n, cfg) : fail(STATUS_MEMORY, "plan: no memory; free some");
    st = comm_agree(c->world, st);
    if (st == STATUS_OK)
        st = make_plan(c, &common, &o, cfg, r);
    free(r);
    free(cfg);
    return st;
}
