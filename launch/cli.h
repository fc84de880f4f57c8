/* The command line: a table of commands, and for each a table of its options. Parsing, --help and
 * the messages of a wrong call come from those tables. */
#ifndef CROCUTA_LAUNCH_CLI_H
#define CROCUTA_LAUNCH_CLI_H

#include "comm/comm.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum { OPTION_FLAG, OPTION_TEXT, OPTION_INTEGER, OPTION_REAL } option_kind;

/* One option. `to` is a bool *, const char **, int64_t * or double *; its value before parsing is
 * the default. */
typedef struct {
    const char *name; /* long name without dashes; a table ends with NULL */
    char letter;      /* short form, 0 for none */
    option_kind kind;
    void *to;
    const char *value; /* what the value is called in the help: FILE, N; NULL for a flag */
    const char *help;
} option;

/* What every command has. */
typedef struct {
    const char *output;
    const char *device; /* cpu, cuda, auto */
    int64_t threads;    /* 0: cores / ranks of the node */
    int64_t seed;       /* 1 where it is not given */
    bool seed_given;    /* then it goes before the seed of a configuration */
    bool force, quiet, json;
} cli_common;

typedef struct {
    comm *world;
    int argc; /* of the command: argv[0] is its name */
    char **argv;
    const char **args; /* room for cli_parse's positional arguments */
} cli;

/* Parses argv against `own` and the common options. Positional arguments (in order, options may
 * stand between them) are left in args[0 .. *n_args); "key=value" arguments too. Prints help and
 * sets *done for -h/--help: the command then returns STATUS_OK at once. `usage` is the line after
 * the command's name, `about` a few lines of text with an example. Options of `own` come before
 * common ones of the same name. Applies -q. Wrong calls are STATUS_USAGE. */
status cli_parse(const cli *c, const char *usage, const char *about, const option *own,
                 cli_common *common, const char ***args, int *n_args, bool *done);

/* Threads of this rank: --threads, or the node's cores divided by its ranks. */
int cli_threads(const cli *c, const cli_common *common);

/* The same for `ranks` of this node that compute (a dedicated coordinator needs no core). */
int cli_threads_among(const cli_common *common, int ranks);

/* The command as it was typed, quoted for a shell, for command.txt and the like. Cut at `size`. */
void cli_command_line(const cli *c, char *text, size_t size);

/* A command's JSON document to standard output, ending with a newline. Frees text; NULL: there was
 * no memory for it. */
status cli_print_json(const char *command, char *text);

/* Refuses an existing output without --force; on every rank alike. */
status cli_output_free(const cli *c, const cli_common *common, const char *path);

/* An option with a default of its own begins as CLI_NOT_GIVEN, which becomes 0 here; less than
 * `least` is STATUS_USAGE. */
#define CLI_NOT_GIVEN INT64_MIN
status cli_at_least(const char *name, int64_t least, int64_t *value);

/* Before an hour of work: can a folder for results be made where it shall stand? On every rank
 * alike. */
status cli_folder_can_be_made(const cli *c, const char *path);

/* What is read is not written over, whatever --force says; two names of one file are one file.
 * `input` may be NULL. */
status cli_input_kept(const char *output, const char *input);

/* Does an argument read as key=value (an override)? */
bool cli_is_override(const char *argument);

/* One function a command, in launch/command_NAME.c. */
status command_import(const cli *c);
status command_data(const cli *c);
status command_plan(const cli *c);
status command_pretrain(const cli *c);
status command_finetune(const cli *c);
status command_evaluate(const cli *c);
status command_predict(const cli *c);
status command_simulate(const cli *c);
status command_score(const cli *c);
status command_sweep(const cli *c);
status command_trace(const cli *c);
status command_status(const cli *c);
status command_report(const cli *c);
status command_checkpoint(const cli *c);
status command_bench(const cli *c);
status command_config(const cli *c);
status command_doctor(const cli *c);

#endif
