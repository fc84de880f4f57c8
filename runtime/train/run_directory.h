/* The folder of a run: configuration, command and versions as they were, journals, logs and
 * checkpoints. One job at a time writes in it: a lock on one file, which the system gives back when
 * its holder dies, and whose text says who that is. */
#ifndef CROCUTA_TRAIN_RUN_DIRECTORY_H
#define CROCUTA_TRAIN_RUN_DIRECTORY_H

#include "runtime/core/config.h"
#include "runtime/core/status.h"

#include <stdbool.h>

typedef struct {
    char path[CONFIG_TEXT];
    int lock;   /* descriptor of the lock, -1: not held */
    bool fresh; /* nothing of an earlier job is kept */
} run_directory;

/* Looks, and changes nothing: a run that is there is refused unless it is to be resumed or
 * replaced (STATUS_USAGE), and so is a folder of something else. Where a run is there, its lock is
 * taken: STATUS_USAGE names the job that holds it. */
status run_directory_check(run_directory *r, const char *path, bool resume, bool force);

/* Makes a folder that is no run's, a sweep's for one, and takes its lock in the same way. Refused
 * where it holds something and not the file `mark`, by which such a folder is known. */
status run_directory_hold(run_directory *r, const char *path, const char *mark);

/* Makes what is missing, takes the lock, clears away a replaced run, writes config.yaml,
 * command.txt and versions.json. */
status run_directory_enter(run_directory *r, const config *c, const char *command,
                           const char *versions);

/* A small text file of the run, replaced by rename. `lasting`: it is on the disk afterwards, which
 * may take a while. */
status run_directory_write(const char *run, const char *name, const char *text, bool lasting);

/* Gives the lock back. */
void run_directory_leave(run_directory *r);

/* Who holds the lock of a run: true and a text "process 12 on node3 since TIME", or false. */
bool run_directory_held(const char *path, char *by, size_t size);

/* RUN/checkpoints */
void run_directory_checkpoints(const char *run, char path[CONFIG_TEXT + 16]);

#endif
