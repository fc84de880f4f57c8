/* The program: a table of commands. Starts the ranks, runs one command, and turns what it returned
 * into one line on stderr and one exit code on every rank. */
#include "comm/comm.h"
#include "launch/cli.h"
#include "launch/versions.h"
#include "runtime/core/log.h"
#include "runtime/core/nearest.h"
#include "runtime/core/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A rank that failed waits this long for the others to fail as well, so that one line is printed
 * for all. */
#define GRACE_S 3.0

typedef struct {
    const char *name;
    status (*run)(const cli *c);
    const char *help;
} command;

static const command commands[] = {
    {"import", command_import, "read VCF or BCF files into a data set"},
    {"data", command_data, "look into a data set, verify it, export it as VCF"},
    {"config", command_config, "list the shipped configurations, or print one with comments"},
    {"plan", command_plan, "say what a configuration needs: memory, work, time"},
    {"pretrain", command_pretrain, "train a model on a data set"},
    {"finetune", command_finetune, "train an ancestry classifier from a model, or from scratch"},
    {"evaluate", command_evaluate, "measure a classifier beside simple methods on held-out people"},
    {"predict", command_predict, "say the ancestry of people whom nobody has labelled"},
    {"simulate", command_simulate, "make up people of each label from a trained model"},
    {"score", command_score, "say how likely a model finds sequences; logits and embeddings"},
    {"sweep", command_sweep, "run trials that differ in some keys, and put them into one table"},
    {"trace", command_trace, "write everything that one batch makes of a model, for comparison"},
    {"status", command_status, "say how a run is doing"},
    {"report", command_report, "make tables, plots and a page from runs"},
    {"checkpoint", command_checkpoint, "list, show, verify, prune or export checkpoints"},
    {"bench", command_bench, "time a model against what this machine can do"},
    {"doctor", command_doctor, "check cores, libraries, devices and file system"},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static void print_commands(void)
{
    printf("crocuta COMMAND [options] FILES [key=value ...]\n\nTrains Hyena models of "
           "genomes.\n\nCommands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("  %-12s %s\n", commands[i].name, commands[i].help);
    printf("\n`crocuta COMMAND --help` explains a command and shows an example; `crocuta "
           "--version` says what this "
           "build is.\nOn several ranks: mpirun -q -n 3 crocuta ..., or srun --mpi=pmix -n 3 "
           "crocuta ...\n"
           "Exit status: 0 done, 1 internal, 2 command line or configuration, 3 input data, 4 "
           "memory or "
           "disk, 5 a rank or\ncollective, 75 stopped on request with a checkpoint (run it again "
           "with --resume).\n");
}

static status find_command(const char *name, const command **out)
{
    nearest near = {.name = name};
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            *out = &commands[i];
            return STATUS_OK;
        }
        nearest_offer(&near, commands[i].name);
    }
    if (near.best)
        return fail(STATUS_USAGE, "%s: it is not a command (did you mean %s?); see crocuta --help",
                    name, near.best);
    return fail(STATUS_USAGE, "%s: it is not a command; see crocuta --help", name);
}

static status run(comm *world, int argc, char **argv)
{
    if (argc < 2)
        return fail(STATUS_USAGE, "crocuta: no command was given; see crocuta --help");
    const char *name = argv[1];
    const bool speaks = comm_rank(world) == 0;
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        if (speaks)
            print_commands();
        return STATUS_OK;
    }
    if (strcmp(name, "--version") == 0) {
        if (speaks)
            versions_print(stdout);
        return STATUS_OK;
    }
    const command *chosen = NULL;
    TRY(find_command(name, &chosen));
    cli c = {.world = world, .argc = argc - 1, .argv = argv + 1};
    c.args = calloc((size_t)argc, sizeof *c.args);
    if (!c.args)
        return fail(STATUS_MEMORY, "crocuta: no memory for the command line; close other programs");
    status st = chosen->run(&c);
    free(c.args);
    return st;
}

static int end(comm *world, status st)
{
    bool together = true;
    if (st == STATUS_OK)
        st = stream_written(stdout, "standard output");
    else
        fflush(stdout); /* the first failure is the one to report */
    st = comm_conclude(world, st, GRACE_S, &together);
    /* STATUS_STOPPED is a request that was met: a note, no error. */
    const bool prints = st != STATUS_OK && st != STATUS_STOPPED;
    if (!together) {
        if (prints)
            log_failure(failure_last());
        comm_abort(world, (int)st);
    }
    if (prints && comm_rank(world) == 0)
        log_failure(failure_last());
    if (st == STATUS_STOPPED && comm_rank(world) == 0)
        log_note("%s", failure_last()->text);
    comm_end(&world);
    return (int)st;
}

/* Descriptors 0 to 2 that were closed would become the first files that we open. */
static void keep_standard_files(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF && open("/dev/null", O_RDWR) < 0)
            _exit(STATUS_RESOURCE);
}

/* OpenMP's threads wait for each other by spinning, a millisecond and more; on cores that other
 * jobs use as well, that made small steps ten times slower. Its library reads its settings when it
 * is loaded, before main: so once more, with the setting. Where that cannot be done, it is only
 * slower. */
static void wait_politely(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY"))
        return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0)
        execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    wait_politely(argv);
    keep_standard_files();
    signal(SIGPIPE,
           SIG_IGN); /* a closed pipe is an error of one write, not the end of a training */
    signal(SIGXFSZ, SIG_IGN); /* a limit on file size is an error of one write as well */
    comm *world = NULL;
    status st = comm_start(&argc, &argv, &world);
    if (st != STATUS_OK) {
        log_failure(failure_last());
        comm_abort(world, (int)st);
    }
    log_open(comm_rank(world), false);
    return end(world, run(world, argc, argv));
}
