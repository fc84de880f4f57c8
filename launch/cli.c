/* Parsing of a command's options and arguments from tables, its help, and what every command asks
 * first: how many threads, is the output free. */
#include "launch/cli.h"

#include "runtime/core/log.h"
#include "runtime/core/nearest.h"

#include <errno.h>
#include <libgen.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEED_NOT_GIVEN INT64_MIN

/* The options that every command has. */
#define COMMON_OPTIONS 9
static void common_table(cli_common *c, bool *help, option table[COMMON_OPTIONS])
{
    const option all[COMMON_OPTIONS] = {
        {"output", 'o', OPTION_TEXT, &c->output, "PATH", "where the result goes"},
        {"threads", 0, OPTION_INTEGER, &c->threads, "N",
         "CPU threads of a rank (default: cores / ranks)"},
        {"seed", 0, OPTION_INTEGER, &c->seed, "N", "seed of everything random (default: 1)"},
        {"device", 0, OPTION_TEXT, &c->device, "NAME", "cpu, cuda or auto (default: auto)"},
        {"force", 0, OPTION_FLAG, &c->force, NULL,
         "overwrite what is there, accept what is doubtful"},
        {"json", 0, OPTION_FLAG, &c->json, NULL, "print one JSON document"},
        {"quiet", 'q', OPTION_FLAG, &c->quiet, NULL,
         "no notes and no progress; warnings and errors stay"},
        {"help", 'h', OPTION_FLAG, help, NULL, "this text"},
        {NULL, 0, OPTION_FLAG, NULL, NULL, NULL},
    };
    memcpy(table, all, sizeof all);
}

/* ---- help ---- */

static void print_options(const char *title, const option *table)
{
    if (!table || !table->name)
        return;
    printf("\n%s:\n", title);
    for (const option *o = table; o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "%c%c%s--%s%s%s", o->letter ? '-' : ' ',
                 o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf("  %-30s %s\n", left, o->help);
    }
}

static void print_help(const cli *c, const char *usage, const char *about, const option *own,
                       const option *common)
{
    if (comm_rank(c->world) != 0)
        return;
    size_t length = strlen(about);
    while (length > 0 && about[length - 1] == '\n')
        length--;
    printf("crocuta %s%s%s\n\n%.*s\n", c->argv[0], usage[0] ? " " : "", usage, (int)length, about);
    print_options("Options", own);
    print_options("Common options", common);
}

/* ---- parsing ---- */

typedef struct {
    const char *command;
    const option *tables[2]; /* own, common */
} grammar;

static const option *find_long(const grammar *g, const char *name, size_t length)
{
    for (int t = 0; t < 2; t++)
        for (const option *o = g->tables[t]; o && o->name; o++)
            if (strlen(o->name) == length && strncmp(o->name, name, length) == 0)
                return o;
    return NULL;
}

static const option *find_letter(const grammar *g, char letter)
{
    for (int t = 0; t < 2; t++)
        for (const option *o = g->tables[t]; o && o->name; o++)
            if (o->letter && o->letter == letter)
                return o;
    return NULL;
}

static status unknown_option(const grammar *g, const char *typed)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(typed, "="), typed);
    nearest near = {.name = name + (strncmp(name, "--", 2) == 0 ? 2 : 1)};
    for (int t = 0; t < 2; t++)
        for (const option *o = g->tables[t]; o && o->name; o++)
            nearest_offer(&near, o->name);
    if (near.best)
        return fail(STATUS_USAGE,
                    "%s: %s is not an option (did you mean --%s?); see crocuta %s --help",
                    g->command, name, near.best, g->command);
    return fail(STATUS_USAGE, "%s: %s is not an option; see crocuta %s --help", g->command, name,
                g->command);
}

/* Whole numbers and reals as people type them; nothing may follow. */
static status take_value(const grammar *g, const option *o, const char *text)
{
    char *end = NULL;
    errno = 0;
    if (o->kind == OPTION_TEXT) {
        if (text[0] == '\0')
            return fail(STATUS_USAGE, "%s: --%s is empty; give it a %s, see crocuta %s --help",
                        g->command, o->name, o->value, g->command);
        *(const char **)o->to = text;
        return STATUS_OK;
    }
    if (o->kind == OPTION_INTEGER) {
        long long x = strtoll(text, &end, 10);
        if (end == text || *end || errno == ERANGE || text[0] == ' ')
            return fail(STATUS_USAGE,
                        "%s: --%s takes a whole number, not %s; see crocuta %s --help", g->command,
                        o->name, text, g->command);
        *(int64_t *)o->to = x;
        return STATUS_OK;
    }
    double x = strtod(text, &end);
    if (end == text || *end || !isfinite(x) || text[0] == ' ')
        return fail(STATUS_USAGE, "%s: --%s takes a number, not %s; see crocuta %s --help",
                    g->command, o->name, text, g->command);
    *(double *)o->to = x;
    return STATUS_OK;
}

/* One option at argv[*i]; its value may be the next argument. */
static status take_option(const grammar *g, const cli *c, int *i)
{
    const char *typed = c->argv[*i], *value = NULL;
    const option *o;
    if (typed[1] == '-') {
        size_t length = strcspn(typed + 2, "=");
        o = find_long(g, typed + 2, length);
        if (typed[2 + length] == '=')
            value = typed + 2 + length + 1;
    } else {
        o = find_letter(g, typed[1]);
        if (o && typed[2] != '\0')
            value = typed + 2;
    }
    if (!o)
        return unknown_option(g, typed);
    if (o->kind == OPTION_FLAG) {
        if (value)
            return fail(STATUS_USAGE, "%s: --%s takes no value; see crocuta %s --help", g->command,
                        o->name, g->command);
        *(bool *)o->to = true;
        return STATUS_OK;
    }
    if (!value && *i + 1 < c->argc)
        value = c->argv[++*i];
    if (!value)
        return fail(STATUS_USAGE, "%s: --%s needs a value (%s); see crocuta %s --help", g->command,
                    o->name, o->value, g->command);
    return take_value(g, o, value);
}

static status check_common(const grammar *g, const cli_common *common)
{
    const char *d = common->device;
    if (strcmp(d, "cpu") != 0 && strcmp(d, "cuda") != 0 && strcmp(d, "auto") != 0)
        return fail(STATUS_USAGE, "%s: --device %s is not a device; use cpu, cuda or auto",
                    g->command, d);
    if (common->threads < 0 || common->threads > 4096)
        return fail(STATUS_USAGE,
                    "%s: --threads %lld is impossible; use 1 to 4096, or 0 for all cores",
                    g->command, (long long)common->threads);
    if (common->seed < 0)
        return fail(STATUS_USAGE, "%s: --seed %lld is negative; use a whole number from 0",
                    g->command, (long long)common->seed);
    return STATUS_OK;
}

status cli_parse(const cli *c, const char *usage, const char *about, const option *own,
                 cli_common *common, const char ***args, int *n_args, bool *done)
{
    bool help = false, options_end = false;
    option table[COMMON_OPTIONS];
    *common = (cli_common){.device = "auto", .seed = SEED_NOT_GIVEN};
    common_table(common, &help, table);
    const grammar g = {c->argv[0], {own, table}};
    *args = c->args;
    *n_args = 0;
    *done = false;
    for (int i = 1; i < c->argc; i++) {
        const char *a = c->argv[i];
        if (!options_end && strcmp(a, "--") == 0)
            options_end = true;
        else if (!options_end && a[0] == '-' && a[1] != '\0')
            TRY(take_option(&g, c, &i));
        else
            c->args[(*n_args)++] = a;
        if (help) { /* whatever else stands there */
            print_help(c, usage, about, own, table);
            *done = true;
            return STATUS_OK;
        }
    }
    common->seed_given = common->seed != SEED_NOT_GIVEN;
    if (!common->seed_given)
        common->seed = 1;
    TRY(check_common(&g, common));
    log_open(comm_rank(c->world), common->quiet);
    return STATUS_OK;
}

bool cli_is_override(const char *argument)
{
    size_t key = strspn(argument, "abcdefghijklmnopqrstuvwxyz_.0123456789");
    return key > 0 && argument[key] == '=' && argument[0] >= 'a' && argument[0] <= 'z';
}

/* ---- what every command asks first ---- */

int cli_threads_among(const cli_common *common, int ranks)
{
    if (common->threads > 0)
        return (int)common->threads;
    cpu_set_t mine;
    int cores = 1;
    if (sched_getaffinity(0, sizeof mine, &mine) == 0)
        cores = CPU_COUNT(&mine);
    /* A launcher that gave each rank cores of its own has divided them already. */
    if (!getenv("OMPI_MCA_orte_bound_at_launch") && !getenv("SLURM_CPUS_PER_TASK"))
        cores /= ranks > 1 ? ranks : 1;
    return cores > 1 ? cores : 1;
}

int cli_threads(const cli *c, const cli_common *common)
{
    return cli_threads_among(common, comm_local_size(c->world));
}

status cli_output_free(const cli *c, const cli_common *common, const char *path)
{
    status st = STATUS_OK;
    struct stat s;
    if (comm_rank(c->world) == 0 && !common->force && lstat(path, &s) == 0)
        st = fail(STATUS_USAGE,
                  "%s: it is there already; give another -o, or --force to replace it", path);
    return comm_agree(c->world, st);
}

status cli_input_kept(const char *output, const char *input)
{
    struct stat out, in;
    if (!input || stat(output, &out) != 0 || stat(input, &in) != 0 || in.st_ino != out.st_ino ||
        in.st_dev != out.st_dev)
        return STATUS_OK;
    return fail(STATUS_USAGE, "%s: is input and output; give -o another name", input);
}

void cli_command_line(const cli *c, char *text, size_t size)
{
    size_t n = (size_t)snprintf(text, size, "crocuta");
    for (int i = 0; i < c->argc && n + 8 < size; i++) {
        const char *a = c->argv[i];
        bool plain = a[0] != '\0';
        for (const char *p = a; *p; p++)
            plain = plain && (strchr("_-./:=,+@%", *p) || (*p >= '0' && *p <= '9') ||
                              (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z'));
        text[n++] = ' ';
        if (!plain)
            text[n++] = '\'';
        for (const char *p = a; *p && n + 8 < size; p++) {
            if (*p == '\'')
                n += (size_t)snprintf(text + n, size - n, "'\\''");
            else
                text[n++] = *p;
        }
        if (!plain)
            text[n++] = '\'';
    }
    text[n] = '\0';
}

status cli_folder_can_be_made(const cli *c, const char *path)
{
    char parent[4096];
    snprintf(parent, sizeof parent, "%s", path);
    status st = STATUS_OK;
    struct stat s;
    if (comm_rank(c->world) == 0 && stat(path, &s) == 0 && !S_ISDIR(s.st_mode))
        st = fail(STATUS_USAGE, "%s: it is a file, and a folder is to be made; give another -o",
                  path);
    else if (comm_rank(c->world) == 0 && access(dirname(parent), W_OK | X_OK) != 0)
        st = fail(errno == ENOENT || errno == ENOTDIR ? STATUS_USAGE : STATUS_RESOURCE,
                  "%s: the folder cannot be made (%s); give another -o", path, strerror(errno));
    return comm_agree(c->world, st);
}

status cli_at_least(const char *name, int64_t least, int64_t *value)
{
    if (*value == CLI_NOT_GIVEN)
        *value = 0;
    else if (*value < least)
        return fail(STATUS_USAGE, "%s: %lld; give %lld or more", name, (long long)*value,
                    (long long)least);
    return STATUS_OK;
}

status cli_print_json(const char *command, char *text)
{
    if (!text)
        return fail(STATUS_MEMORY, "%s: no memory for the JSON document; close other programs",
                    command);
    const size_t n = strlen(text);
    fputs(text, stdout);
    if (n == 0 || text[n - 1] != '\n')
        putchar('\n');
    free(text);
    return STATUS_OK;
}
