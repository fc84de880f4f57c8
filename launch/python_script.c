/* Scripts of experiments/: see python_script.h. */
#include "launch/python_script.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCRIPT_PATH (PATH_MAX + 96)

/* The folder that holds experiments/NAME: the source tree above the program
 * (build/PRESET/launch), or beside an installed one. */
static bool find_home(const char *name, char home[PATH_MAX], char script[SCRIPT_PATH])
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
        snprintf(script, SCRIPT_PATH, "%s/experiments/%s", home, name);
        if (access(script, R_OK) == 0)
            return true;
    }
    return false;
}

static status find_python(const char *home, char python[SCRIPT_PATH])
{
    const char *given = getenv("CROCUTA_PYTHON");
    if (given && *given)
        snprintf(python, SCRIPT_PATH, "%s", given);
    else
        snprintf(python, SCRIPT_PATH, "%s/build/venv/bin/python", home);
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

static status start(const char *script, char *const argv[])
{
    char said[8192];
    size_t n = 0;
    int ends[2], code = 0;
    fflush(NULL);
    if (pipe(ends) != 0)
        return fail(STATUS_RESOURCE, "%s: %s; close other programs", script, strerror(errno));
    const pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return fail(STATUS_RESOURCE, "%s: %s; close other programs", script, strerror(errno));
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
            return fail(STATUS_INTERNAL, "%s: %s; run it again", script, strerror(errno));
    return conclude(script, said, code);
}

bool python_there(const char *name)
{
    char home[PATH_MAX], script[SCRIPT_PATH], python[SCRIPT_PATH];
    return find_home(name, home, script) && find_python(home, python) == STATUS_OK;
}

status python_run(const char *name, const char *const *arguments)
{
    char home[PATH_MAX], script[SCRIPT_PATH], python[SCRIPT_PATH];
    char *argv[SCRIPT_ARGUMENTS + 3];
    int k = 0;
    if (!find_home(name, home, script))
        return fail(STATUS_INTERNAL,
                    "experiments/%s: not found above the program; run it from its source "
                    "tree or install it again",
                    name);
    TRY(find_python(home, python));
    argv[k++] = python;
    argv[k++] = script;
    for (int i = 0; arguments[i] && i < SCRIPT_ARGUMENTS; i++)
        argv[k++] = (char *)arguments[i];
    argv[k] = NULL;
    return start(script, argv);
}
