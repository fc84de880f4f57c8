/* `crocuta sweep`: trials that differ in some keys, on groups of workers, into one table. */
#include "launch/cli.h"
#include "launch/device_option.h"
#include "launch/python_script.h"
#include "launch/shipped.h"
#include "launch/versions.h"
#include "runtime/core/log.h"
#include "runtime/core/memory.h"
#include "runtime/train/sweep.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND_TEXT 8192
#define PICTURES "sweep_report.py"

static const char about[] =
    "Runs trials that differ in some keys of a configuration: a grid, or a list, in a sweep file\n"
    "(docs/sweeps.md). Each pretrains, fine-tunes and is evaluated as the file says. Under mpirun\n"
    "or srun rank 0 coordinates and the other ranks, in groups, take one trial after the other,\n"
    "the longest first. DIR/trials.tsv has a row a trial; the same command continues what was\n"
    "stopped or killed. key=value goes to all trials (data.path: as seen from here).\n"
    "\nExample:\n  mpirun -q -n 3 crocuta sweep alpha-sweep -o sweeps/alpha data.path=people.h5";

typedef struct {
    cli_common common;
    bool small, retry, dry_run;
    int64_t group_size;
    const char *device_memory; /* NULL: of this machine */
    const char **args;
    int n;
} sweep_options;

/* ---- names and overrides ---- */

static status find_sweep(const char *name, char path[CONFIG_TEXT])
{
    return shipped_find(name, path) ? STATUS_OK : shipped_unknown(name);
}

/* The configuration that trials start from: beside the sweep file, or shipped. */
static status find_base(const sweep_file *f, char path[CONFIG_TEXT])
{
    const char *slash = strrchr(f->path, '/');
    const int folder = slash ? (int)(slash - f->path + 1) : 0;
    static const char *const tails[] = {"", ".yaml"};
    for (int i = 0; i < 2; i++) {
        const int n = snprintf(path, CONFIG_TEXT, "%.*s%s%s", f->base[0] == '/' ? 0 : folder,
                               f->path, f->base, tails[i]);
        if (n < CONFIG_TEXT && access(path, R_OK) == 0)
            return STATUS_OK;
    }
    if (shipped_find(f->base, path))
        return STATUS_OK;
    shipped_unknown(f->base);
    return fail(STATUS_USAGE, "%s:%d: base: %.700s", f->path, f->base_line, failure_last()->text);
}

static status check_arguments(sweep_options *o)
{
    if (o->n < 1 || cli_is_override(o->args[0]))
        return fail(STATUS_USAGE, "sweep: no sweep file was given; see crocuta sweep --help");
    if (!o->common.output)
        return fail(STATUS_USAGE, "sweep: -o DIR is missing; say where trials and table go");
    if (o->group_size < 1 || o->group_size > 1 << 20)
        return fail(STATUS_USAGE, "--group-size: %lld is no number of workers; use 1 or more",
                    (long long)o->group_size);
    if (o->device_memory && !o->dry_run)
        return fail(STATUS_USAGE, "sweep: --device-memory is for --dry-run; leave it out");
    for (int i = 1; i < o->n; i++) {
        if (!cli_is_override(o->args[i]))
            return fail(STATUS_USAGE,
                        "sweep: %s is neither an option nor key=value; see crocuta sweep --help",
                        o->args[i]);
        TRY(shipped_from_here(&o->args[i]));
    }
    return STATUS_OK;
}

/* ---- running ---- */

/* Ranks of this node that compute. */
static status node_ranks(const cli *c, bool inside, int *ranks)
{
    comm *node = NULL;
    int64_t idle = comm_rank(c->world) == 0 && comm_size(c->world) > 1 && !inside;
    TRY(comm_split_node(c->world, &node));
    const status st = comm_sum_i64(node, &idle, 1);
    *ranks = comm_size(node) - (int)idle;
    comm_free(&node);
    return st;
}

static status draw(const char *dir)
{
    const char *const arguments[] = {dir, NULL};
    if (!python_there(PICTURES)) {
        log_note("%s: no pictures without Python; ./launch/setup --python makes it", dir);
        return STATUS_OK;
    }
    if (python_run(PICTURES, arguments) != STATUS_OK) /* the trials are done all the same */
        log_warning("%s", failure_last()->text);
    return STATUS_OK;
}

/* What every trial will need, and nothing is made. */
static status foresee(const cli *c, const sweep_options *o, sweep_request *ask, sweep *s)
{
    ask->device_memory = memory_available() / comm_local_size(c->world);
    if (o->device_memory)
        TRY(memory_of_option("sweep", o->device_memory, &ask->device_memory));
    TRY(sweep_weigh(s, c->world));
    if (comm_rank(c->world) != 0)
        return STATUS_OK;
    if (o->common.json)
        return cli_print_json("sweep", sweep_plan_json(s));
    sweep_plan_print(s, stdout);
    return STATUS_OK;
}

/* The table is there also where a trial failed. */
static status tell(const cli *c, const sweep_options *o, const sweep *s, status st)
{
    if (comm_rank(c->world) != 0 || (st != STATUS_OK && st != STATUS_INTERNAL))
        return st;
    const failure why = *failure_last();
    if (sweep_count(s, TRIAL_DONE) > 0)
        TRY(draw(o->common.output));
    if (o->common.json)
        TRY(cli_print_json("sweep", sweep_json(s)));
    else
        sweep_print(s, stdout);
    return st == STATUS_OK ? st : failure_set(&why);
}

static status open_file(const sweep_options *o, const sweep_request *ask, sweep_file *f, sweep *s)
{
    char path[CONFIG_TEXT], base[CONFIG_TEXT];
    TRY(find_sweep(o->args[0], path));
    TRY(sweep_file_read(path, o->small, f));
    TRY(find_base(f, base));
    return sweep_expand(ask, f, base, o->args + 1, o->n - 1, s);
}

static status run(const cli *c, const sweep_options *o)
{
    char *command = calloc(1, COMMAND_TEXT), *versions = versions_json();
    int ranks = 1;
    sweep_request ask = {.dir = o->common.output,
                         .device = device_of_option(&o->common),
                         .group_size = (int)o->group_size,
                         .seed = (uint64_t)o->common.seed,
                         .small = o->small,
                         .retry = o->retry,
                         .command = command,
                         .versions = versions};
    sweep_file f = {0};
    sweep s = {0};
    status st = command && versions ? STATUS_OK
                                    : fail(STATUS_MEMORY, "sweep: no memory; close other programs");
    if (st == STATUS_OK)
        st = open_file(o, &ask, &f, &s);
    st = comm_agree(c->world, st);
    if (st == STATUS_OK && o->dry_run) {
        st = comm_agree(c->world, foresee(c, o, &ask, &s));
    } else if (st == STATUS_OK) {
        cli_command_line(c, command, COMMAND_TEXT);
        st = comm_agree(c->world, node_ranks(c, s.inside, &ranks));
    }
    if (st == STATUS_OK && !o->dry_run) {
        ask.threads = cli_threads_among(&o->common, ranks);
        st = tell(c, o, &s, sweep_run(&s, c->world));
    }
    sweep_close(&s);
    sweep_file_free(&f);
    free(command);
    free(versions);
    return st;
}

status command_sweep(const cli *c)
{
    sweep_options o = {.group_size = 1};
    bool done = false;
    const option own[] = {
        {"small", 0, OPTION_FLAG, &o.small, NULL, "the file's small version of itself"},
        {"group-size", 0, OPTION_INTEGER, &o.group_size, "G", "workers that share a trial (1)"},
        {"retry", 0, OPTION_FLAG, &o.retry, NULL,
         "try failed trials again, from their last checkpoints"},
        {"dry-run", 0, OPTION_FLAG, &o.dry_run, NULL,
         "check every trial, say what it needs, run nothing"},
        {"device-memory", 0, OPTION_TEXT, &o.device_memory, "BYTES",
         "memory of a worker for --dry-run: bytes, 24GiB, h100 or a100"},
        {0}};
    TRY(cli_parse(
        c, "FILE|NAME -o DIR [--small] [--group-size G] [--retry] [--dry-run] [key=value ...]",
        about, own, &o.common, &o.args, &o.n, &done));
    if (done)
        return STATUS_OK;
    TRY(comm_agree(c->world, check_arguments(&o)));
    return run(c, &o);
}
