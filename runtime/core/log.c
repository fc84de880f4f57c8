/* Notes, warnings and progress on stderr. The rank that speaks and the quiet flag are the only
 * globals of the program. */
#include "runtime/core/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    int rank;
    bool quiet;
    bool line_open; /* a progress line without its newline is on the terminal */
} state;

#define PROGRESS_TERMINAL_S 0.2
#define PROGRESS_FILE_S 5.0 /* nobody should wait ten silent seconds */

static double clock_s(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double clock_monotonic_s(void)
{
    return clock_s(CLOCK_MONOTONIC);
}

double clock_wall_s(void)
{
    return clock_s(CLOCK_REALTIME);
}

void log_open(int rank, bool quiet)
{
    state.rank = rank;
    state.quiet = quiet;
}

bool log_speaks(void)
{
    return state.rank == 0;
}

bool log_quiet(void)
{
    return state.quiet;
}

/* A whole line in one write, so that lines of several ranks do not mix. */
static void write_line(const char *before, const char *format, va_list args)
{
    char line[2048];
    int n = snprintf(line, sizeof line, "%s%s", state.line_open ? "\n" : "", before);
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    if (n > (int)sizeof line - 2)
        n = (int)sizeof line - 2;
    line[n++] = '\n';
    state.line_open = false;
    ssize_t written = write(STDERR_FILENO, line, (size_t)n);
    (void)written; /* nowhere to say that stderr is gone */
}

void log_warning(const char *format, ...)
{
    if (!log_speaks())
        return;
    va_list args;
    va_start(args, format);
    write_line("crocuta: warning: ", format, args);
    va_end(args);
}

void log_note(const char *format, ...)
{
    if (!log_speaks() || state.quiet)
        return;
    va_list args;
    va_start(args, format);
    write_line("", format, args);
    va_end(args);
}

static void write_plain(const char *before, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_line(before, format, args);
    va_end(args);
}

void log_failure(const failure *f)
{
    write_plain("crocuta: error: ", "%s", f->text);
}

void progress_start(progress *p, const char *name, int64_t first, int64_t total)
{
    *p = (progress){.name = name, .first = first, .total = total, .started_s = clock_monotonic_s()};
}

static void progress_draw(progress *p, int64_t done, const char *tail, bool last)
{
    const bool terminal = isatty(STDERR_FILENO);
    const int width = 10;
    double share = p->total > 0 ? (double)done / (double)p->total : 1.0;
    char bar[16];
    int full = (int)(share * width);
    for (int i = 0; i < width; i++)
        bar[i] = i < full ? '=' : i == full ? '>' : ' ';
    bar[width] = '\0';

    double spent = clock_monotonic_s() - p->started_s;
    char eta[48] = "";
    if (!last && done > p->first) {
        long left = (long)(spent / (double)(done - p->first) * (double)(p->total - done) + 0.5);
        snprintf(eta, sizeof eta, "  ETA %ld:%02ld", left / 60, left % 60);
    } else if (last) {
        snprintf(eta, sizeof eta, "  %ld:%02ld", (long)spent / 60, (long)spent % 60);
    }
    char line[512];
    int n = snprintf(line, sizeof line, "%s%s %lld/%lld [%s] %3.0f%%%s%s%s",
                     terminal ? "\r\033[K" : "", p->name, (long long)done, (long long)p->total, bar,
                     100.0 * share, tail ? "  " : "", tail ? tail : "", eta);
    if (n > (int)sizeof line - 2)
        n = (int)sizeof line - 2;
    if (!terminal || last)
        line[n++] = '\n';
    state.line_open = terminal && !last;
    ssize_t written = write(STDERR_FILENO, line, (size_t)n);
    (void)written;
}

void progress_show(progress *p, int64_t done, const char *tail)
{
    if (!log_speaks() || state.quiet)
        return;
    double now = clock_monotonic_s();
    double every = isatty(STDERR_FILENO) ? PROGRESS_TERMINAL_S : PROGRESS_FILE_S;
    double before = p->shown_s > 0 ? p->shown_s : p->started_s;
    if (now - before < every)
        return;
    p->shown_s = now;
    progress_draw(p, done, tail, false);
}

void progress_end(progress *p, int64_t done, const char *tail)
{
    if (!log_speaks() || state.quiet)
        return;
    progress_draw(p, done, tail, true);
}
