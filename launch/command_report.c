/* crocuta report: tables and pictures of runs and evaluations, made by experiments/report.py with
 * the Python environment that the set-up made. Training needs no Python; only this command does. */
#include "launch/cli.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOLDERS 64

static const char about[] =
    "Makes one page with pictures (html), a table (csv) or TensorBoard events from run directories "
    "and\n"
    "evaluations: loss beside the counting look-up, accuracy against context beside simple methods "
    "with\n"
    "95 % intervals, confusion, calibration. Needs Python: ./launch/setup --python makes "
    "it.\n\nExample:\n"
    "  crocuta report runs/pretrain runs/classifier runs/classifier/evaluate -o report.html\n";

/* The folder that holds experiments/report.py: the source tree above the program
 * (build/PRESET/launch), or beside an installed one. */
static bool find_home(char home[PATH_MAX], char script[PATH_MAX + 32])
{
    static const char *const above[] = {"..", "../..", "../../..", "../share/crocuta", "."};
    char program[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0)
        return false;
    program[n] = '\0';
    const char *folder = dirname(program);
    for (size_t k = 0; k < sizeof above / sizeof *above; k++) {
        char candidate[PATH_MAX + 32];
        snprintf(candidate, sizeof candidate, "%s/%s", folder, above[k]);
        if (!realpath(candidate, home))
            continue;
        snprintf(script, PATH_MAX + 32, "%s/experiments/report.py", home);
        if (access(script, R_OK) == 0)
            return true;
    }
    return false;
}

static status find_python(const char *home, char python[PATH_MAX + 32])
{
    const char *given = getenv("CROCUTA_PYTHON");
    if (given && *given)
        snprintf(python, PATH_MAX + 32, "%s", given);
    else
        snprintf(python, PATH_MAX + 32, "%s/build/venv/bin/python", home);
    if (access(python, X_OK) == 0)
        return STATUS_OK;
    return fail(STATUS_RESOURCE,
                "%s: no Python environment for pictures; make it with ./launch/setup --python, or "
                "name one with "
                "CROCUTA_PYTHON",
                python);
}

/* What the script says on stderr: its one line of error becomes ours, the rest is passed on. */
static status conclude(const char *script, char *said, int code)
{
    static const char mark[] = "crocuta: error: ";
    if (WIFEXITED(code) && WEXITSTATUS(code) == 0) {
        fputs(said, stderr);
        return STATUS_OK;
    }
    const int number = WIFEXITED(code) ? WEXITSTATUS(code) : -1;
    const status st = number >= 2 && number <= 4 ? (status)number : STATUS_INTERNAL;
    char *line = strstr(said, mark);
    if (!line) { /* an exception: its last line says what */
        const size_t n = strlen(said);
        if (n > 0 && said[n - 1] == '\n')
            said[n - 1] = '\0';
        line = strrchr(said, '\n');
        return fail(STATUS_INTERNAL, "%s: %s; report this", script, line ? line + 1 : said);
    }
    line += sizeof mark - 1;
    line[strcspn(line, "\n")] = '\0';
    return fail(st, "%s", line);
}

static status run_script(const char *script, char *const argv[])
{
    char said[8192];
    size_t n = 0;
    int ends[2], code = 0;
    fflush(NULL);
    if (pipe(ends) != 0)
        return fail(STATUS_RESOURCE, "report: %s; close other programs", strerror(errno));
    const pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return fail(STATUS_RESOURCE, "report: %s; close other programs", strerror(errno));
    }
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        execv(argv[0], argv);
        _exit(127);
    }
    close(ends[1]);
    for (;;) { /* of a long text the end is kept */
        if (n > sizeof said / 2) {
            memmove(said, said + n / 2, n - n / 2);
            n -= n / 2;
        }
        const ssize_t got = read(ends[0], said + n, sizeof said - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    said[n] = '\0';
    close(ends[0]);
    while (waitpid(child, &code, 0) < 0)
        if (errno != EINTR)
            return fail(STATUS_INTERNAL, "report: %s; run it again", strerror(errno));
    return conclude(script, said, code);
}

static status make_report(const cli_common *common, const char *format, bool simulated,
                          const char **folders, int n)
{
    char home[PATH_MAX], script[PATH_MAX + 32], python[PATH_MAX + 32];
    char *argv[FOLDERS + 10];
    int k = 0;
    if (!find_home(home, script))
        return fail(STATUS_INTERNAL,
                    "experiments/report.py: not found above the program; run it from its source "
                    "tree or install it again");
    TRY(find_python(home, python));
    argv[k++] = python;
    argv[k++] = script;
    argv[k++] = (char *)"-o";
    argv[k++] = (char *)common->output;
    argv[k++] = (char *)"--format";
    argv[k++] = (char *)format;
    if (simulated)
        argv[k++] = (char *)"--simulated";
    argv[k++] = (char *)"--";
    for (int i = 0; i < n; i++)
        argv[k++] = (char *)folders[i];
    argv[k] = NULL;
    return run_script(script, argv);
}

status command_report(const cli *c)
{
    cli_common common;
    const char **folders = NULL, *format = "html";
    bool done = false, simulated = false;
    int n = 0;
    const option own[] = {
        {"format", 0, OPTION_TEXT, &format, "NAME", "html, csv or tensorboard (html)"},
        {"simulated", 0, OPTION_FLAG, &simulated, NULL,
         "the data are simulated: say so in every picture"},
        {0}};
    TRY(cli_parse(c, "DIR... [--format html|csv|tensorboard] -o OUT", about, own, &common, &folders,
                  &n, &done));
    if (done)
        return STATUS_OK;
    if (n < 1 || n > FOLDERS)
        return fail(STATUS_USAGE, "report: %d directories; give 1 to %d", n, FOLDERS);
    if (!common.output)
        return fail(STATUS_USAGE, "report: no name for the result; give one with -o");
    if (strcmp(format, "html") && strcmp(format, "csv") && strcmp(format, "tensorboard"))
        return fail(STATUS_USAGE, "--format: %s is not a format; choose html, csv or tensorboard",
                    format);
    TRY(cli_output_free(c, &common, common.output));
    status st = STATUS_OK;
    if (comm_rank(c->world) == 0)
        st = make_report(&common, format, simulated, folders, n);
    return comm_agree(c->world, st);
}
