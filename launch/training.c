/* pretrain and finetune: see training.h. */
#include "launch/training.h"

#include "launch/device_option.h"
#include "launch/shipped.h"
#include "launch/versions.h"
#include "runtime/core/config.h"
#include "runtime/train/trainer.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_TEXT 8192

typedef struct {
    cli_common common;
    bool resume;
    int64_t max_steps;
    const char *from;
} training_options;

/* Ranks of this node that train: a dedicated coordinator needs no core. */
static status training_ranks(const cli *c, const config *cfg, int *ranks)
{
    comm *node = NULL;
    int64_t idle = comm_rank(c->world) == 0 && comm_size(c->world) > 1 &&
                   cfg->comm.coordinator == COORDINATOR_DEDICATED;
    TRY(comm_split_node(c->world, &node));
    status st = comm_sum_i64(node, &idle, 1);
    *ranks = comm_size(node) - (int)idle;
    comm_free(&node);
    return st;
}

/* A step of several tasks under Slurm whose MPI saw one rank each would be as many trainings in one
 * directory. */
static status check_launcher(const cli *c)
{
    const char *step = getenv("SLURM_STEP_ID"), *tasks = getenv("SLURM_STEP_NUM_TASKS");
    if (step && tasks && atoi(tasks) > 1 && comm_size(c->world) == 1)
        return fail(STATUS_USAGE,
                    "srun: Slurm started %s tasks but MPI sees one rank; start them with srun "
                    "--mpi=pmix",
                    tasks);
    return STATUS_OK;
}

static status read_config(const cli *c, const training_options *o, const char **args, int n,
                          config *cfg)
{
    TRY(shipped_read(c->argv[0], args, n, cfg));
    if (o->common.seed_given)
        cfg->seed = o->common.seed;
    return config_finish(cfg, true);
}

static status run(const cli *c, const training_command *what, const training_options *o,
                  const config *cfg)
{
    int ranks = 1;
    TRY(comm_agree(c->world, training_ranks(c, cfg, &ranks)));
    char *command = calloc(1, COMMAND_TEXT), *versions = versions_json();
    status st = command && versions
                    ? STATUS_OK
                    : fail(STATUS_MEMORY, "%s: no memory; close other programs", c->argv[0]);
    st = comm_agree(c->world, st);
    if (st == STATUS_OK) {
        cli_command_line(c, command, COMMAND_TEXT);
        const train_request ask = {.config = cfg,
                                   .finetune = what->finetune,
                                   .from = o->from,
                                   .run = o->common.output,
                                   .resume = o->resume,
                                   .force = o->common.force,
                                   .max_steps = o->max_steps,
                                   .device = device_of_option(&o->common),
                                   .threads = cli_threads_among(&o->common, ranks),
                                   .command = command,
                                   .versions = versions};
        st = train_run(&ask, c->world);
    }
    free(command);
    free(versions);
    return st;
}

static status check_options(const cli *c, const training_command *what, const training_options *o,
                            const char **args, int n)
{
    const char *name = c->argv[0];
    if (n < 1 || cli_is_override(args[0]))
        return fail(STATUS_USAGE, "%s: no configuration was given; see crocuta %s --help", name,
                    name);
    if (!o->common.output)
        return fail(STATUS_USAGE, "%s: -o RUN is missing; say where the run directory goes", name);
    if (what->finetune && !o->from)
        return fail(STATUS_USAGE,
                    "finetune: --from is missing; give a model (a run directory, .h5 or "
                    ".safetensors) or none");
    if (o->max_steps < 0)
        return fail(STATUS_USAGE, "--max-steps: %lld is out of range; give the step to stop after",
                    (long long)o->max_steps);
    return STATUS_OK;
}

status training_run(const cli *c, const training_command *what)
{
    training_options o = {0};
    option own[4] = {
        {"resume", 0, OPTION_FLAG, &o.resume, NULL, "continue from the newest checkpoint of RUN"},
        {"max-steps", 0, OPTION_INTEGER, &o.max_steps, "N",
         "stop after step N with a checkpoint; the schedule stays"},
    };
    if (what->finetune)
        own[2] = (option){"from",  0,       OPTION_TEXT,
                          &o.from, "MODEL", "start from this run or file; none: from scratch"};
    const char **args;
    int n;
    bool done = false;
    TRY(cli_parse(c, what->usage, what->about, own, &o.common, &args, &n, &done));
    if (done)
        return STATUS_OK;
    TRY(check_options(c, what, &o, args, n));
    TRY(check_launcher(c));
    config *cfg = calloc(1, sizeof *cfg);
    status st = cfg ? read_config(c, &o, args, n, cfg)
                    : fail(STATUS_MEMORY, "%s: no memory; close other programs", c->argv[0]);
    st = comm_agree(c->world, st);
    if (st == STATUS_OK)
        st = run(c, what, &o, cfg);
    free(cfg);
    return st;
}
