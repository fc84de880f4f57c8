/* The coordinator: the role that writes the journals, shows progress, and decides by the clock and
 * by signals when a checkpoint is due and when the run stops. It stands on world rank 0, which then
 * trains nothing, or inside worker 0, where its functions are called instead of sent messages. */
#ifndef CROCUTA_TRAIN_COORDINATOR_H
#define CROCUTA_TRAIN_COORDINATOR_H

#include "comm/comm.h"
#include "runtime/core/config.h"
#include "runtime/train/report.h"
#include "runtime/train/run_directory.h"
#include "runtime/train/watch.h"

typedef struct coordinator coordinator;

/* What a coordinator begins with. */
typedef struct {
    const char *name;     /* of the progress line */
    int64_t first, total; /* steps of this job */
    int worker0, workers; /* world rank of worker 0, and how many follow it */
    const seat *seats;    /* (workers) */
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
/* The coordinator stands inside worker 0, which may come to wait for another one for ever: a thread
 * looks, and ends the process with STATUS_RANK. */
status coordinator_guard(coordinator *c);
/* Takes everything that has come, moves checkpoints on, and looks whether every worker is there:
 * STATUS_RANK names one that is not, and the journal has it. Once a loop, or once a step where the
 * coordinator stands inside a worker. */
status coordinator_tend(coordinator *c, comm *world, bool *over);
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
    bool alone;             /* there is none: nothing to tell it */
    unsigned waiting;       /* commands that came while something else was waited for */
    double answer_within_s; /* comm.timeout_s; 0: no deadline */
} coordinator_link;

status coordinator_tell(coordinator_link *l, const report *r);
status coordinator_beat(coordinator_link *l, const beat *b);
/* Commands that have come; worker 0 asks once a step. Never blocks. */
status coordinator_ask(coordinator_link *l, unsigned *commands);
/* Tells, and returns when the coordinator has answered with this bit (polls, with a deadline). */
status coordinator_settle(coordinator_link *l, const report *r, unsigned answer);

#endif
