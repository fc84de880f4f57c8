/* The coordinator: the role that writes the journals, shows progress, and decides by the clock and
 * by signals when a checkpoint is due and when the run stops. It stands on world rank 0, which then
 * trains nothing, or inside worker 0, where its functions are called instead of sent messages. */
#ifndef CROCUTA_TRAIN_COORDINATOR_H
#define CROCUTA_TRAIN_COORDINATOR_H

#include "comm/comm.h"
#include "runtime/core/config.h"
#include "runtime/train/report.h"
#include "runtime/train/run_directory.h"

typedef struct coordinator coordinator;

/* What a coordinator begins with. */
typedef struct {
    const char *name;     /* of the progress line */
    int64_t first, total; /* steps of this job */
    int worker0, workers; /* world rank of worker 0, and how many follow it */
    const char *host;
} coordinator_setting;

/* Opens the journals of the run. */
status coordinator_open(const run_directory *run, const config *c, const coordinator_setting *at,
                        coordinator **out);
void coordinator_close(coordinator **c);

/* Takes one report of a worker into the journals. */
status coordinator_receive(coordinator *c, const report *r);
/* What has become due since the last call: COMMAND bits. */
unsigned coordinator_due(coordinator *c);
/* Checkpoints on their way: takes what has come, commits what is written. Once a loop. */
status coordinator_save(coordinator *c, comm *world);
/* An event of the coordinator's own. */
status coordinator_event(coordinator *c, const char *event, int64_t step, const char *detail);

/* The dedicated coordinator's work: until worker 0 (world rank 1) says that the run is over. Sleeps
 * between polls. */
status coordinator_serve(coordinator *c, comm *world);

/* A worker's way to the coordinator. */
typedef struct {
    comm *world;
    int worker;             /* rank among the workers */
    coordinator *inside;    /* NULL: on world rank 0 (worker 0 only talks to itself otherwise) */
    bool alone;             /* inside another rank: nothing to tell it */
    unsigned waiting;       /* commands that came while something else was waited for */
    double answer_within_s; /* comm.timeout_s; 0: no deadline */
} coordinator_link;

status coordinator_tell(coordinator_link *l, const report *r);
/* Commands that have come; worker 0 asks once a step. Never blocks. */
status coordinator_ask(coordinator_link *l, unsigned *commands);
/* Tells, and returns when the coordinator has answered with this bit (polls, with a deadline). */
status coordinator_settle(coordinator_link *l, const report *r, unsigned answer);

#endif
