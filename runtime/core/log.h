/* What a person sees while the program works: notes, warnings and progress on stderr. Results go to
 * stdout and never through here. Only one rank speaks unless a line is about that rank. */
#ifndef CROCUTA_CORE_LOG_H
#define CROCUTA_CORE_LOG_H

#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

/* rank 0 speaks, the others are silent; quiet: no notes, no progress (warnings and errors stay). */
void log_open(int rank, bool quiet);
bool log_speaks(void);
bool log_quiet(void);

/* "crocuta: warning: ..." once, from rank 0. */
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A plain note, from rank 0, unless quiet. */
void log_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "crocuta: error: ..." from whatever rank calls it. */
void log_failure(const failure *f);

/* A line that is redrawn on a terminal and written every five seconds elsewhere.
 * `name 1240/4000 [=====>    ] 31%  TAIL  ETA 2:06`; tail may be NULL. */
typedef struct {
    const char *name;
    int64_t total;
    double started_s; /* monotonic clock */
    double shown_s;
    int64_t first; /* where this run began, so that an ETA after a resume is right */
} progress;

void progress_start(progress *p, const char *name, int64_t first, int64_t total);
void progress_show(progress *p, int64_t done, const char *tail);
void progress_end(progress *p, int64_t done, const char *tail);

/* Seconds: since an arbitrary start (monotonic), and since 1970. */
double clock_monotonic_s(void);
double clock_wall_s(void);

#endif
