/* A sweep: trials that differ in some keys, each a training (or two, or three) and its evaluation.
 * World rank 0 coordinates: it keeps the journal, hands trials to groups of workers, longest
 * expected first, and writes the table. A group runs a whole trial on communicators of its own,
 * with the run's coordinator inside its first worker; a trial that fails is tried once more from
 * its last checkpoint, then marked, and the others go on. Everything that a restart needs is in the
 * sweep's folder:
 *
 *   DIR/sweep.json     what the sweep is: every trial with its effective configuration
 *   DIR/events.jsonl   the journal: trials' starts and ends, with their results
 *   DIR/trials.tsv     the table, made anew after every trial
 *   DIR/trials/NAME/{pretrain,position,finetune}   runs, each with its evaluate/ */
#ifndef CROCUTA_TRAIN_SWEEP_H
#define CROCUTA_TRAIN_SWEEP_H

#include "comm/comm.h"
#include "kernels/device.h"
#include "runtime/core/sweep_file.h"
#include "runtime/train/evaluate.h"
#include "runtime/train/journal.h"

#define SWEEP_ATTEMPTS 2 /* a failure after these is the trial's end */

typedef enum { TRIAL_QUEUED, TRIAL_RUNNING, TRIAL_DONE, TRIAL_FAILED } trial_state;
const char *trial_state_name(trial_state s); /* "queued" "running" "done" "failed" */

/* What a trial gave. Counts -1, numbers NaN: there is none. */
typedef struct {
    int64_t params;      /* of the model, rows aside */
    int64_t rows;        /* touched */
    int64_t table_bytes; /* of them: values, two moments, row number and last step */
    int64_t dense_bytes; /* the study's accounting: p, g, m, v of every row of its one table */
    int64_t peak_bytes;  /* of worker 0, the most of all parts */
    int64_t tokens;      /* trained on, all parts */
    int64_t n_people, n_windows;
    double step_ms; /* median, of the pretraining where there is one */
    double perplexity, perplexity_position, lookup, lookup_position, next_site;
    double accuracy, ci_low, ci_high; /* windows of the trial's own length; over people */
    char run[SWEEP_NAME + 32];        /* in the sweep's folder: the run that accuracy is of */
} trial_result;

typedef struct {
    char name[SWEEP_NAME];
    int line;
    config *c; /* finished; NULL: a trial of the journal that the file does not describe any more */
    double work; /* expected seconds, of a nominal machine: only their order and shares count */
    int64_t plan_bytes; /* a worker, the most of its parts */
    int64_t dense_bytes;
    trial_state state;
    int attempts;  /* that ended in a failure */
    int cut_short; /* starts in a row that no end followed: the job was killed */
    bool begun;    /* its folder may hold a checkpoint */
    trial_result result;
    char reason[480]; /* of a failure */
} sweep_trial;

typedef struct {
    const char *dir;
    device_kind device;
    int threads, group_size;
    uint64_t seed;         /* of evaluations */
    int64_t device_memory; /* that a worker may plan with; 0: not looked at */
    bool small;
    bool retry; /* failed trials are tried again */
    const char *command, *versions;
} sweep_request;

typedef struct {
    const sweep_request *ask;
    const sweep_file *file;
    bool inside;    /* comm.coordinator: worker */
    double limit_s; /* train.max_hours, of the whole job; 0: none */
    bool on_signal;
    int n;
    sweep_trial *trials; /* the file's, in its order; then those of the journal alone */
    bool contexts_given;
    int64_t contexts[EVALUATE_CONTEXTS]; /* of evaluations; none given: a trial's data.seq_len */
    int n_contexts;
    split_kind split;
    bool baselines[BASELINE_KINDS];
} sweep;

/* sweep_expand.c: the configuration of every trial: base (a path), the file's settings, overrides
 * (n, key=value; not of swept keys), the trial's own. Every rank. *out also after a failure. */
status sweep_expand(const sweep_request *ask, const sweep_file *f, const char *base,
                    const char *const *overrides, int n, sweep *out);
void sweep_close(sweep *s);

/* sweep_weigh.c: expected work, memory and the study's table of every trial, from plans on its data
 * set. Collective, the first rank's work; STATUS_RESOURCE: more than device_memory. */
status sweep_weigh(sweep *s, comm *world);
/* What was weighed, for a person and as a JSON document (to be freed by the caller, NULL without
 * memory). */
void sweep_plan_print(const sweep *s, FILE *to);
char *sweep_plan_json(const sweep *s);

/* sweep_journal.c: sweep.json and events.jsonl. One rank. */
/* Holds sweep.json against what the file says, and takes over from the journal what has been done.
 * A trial of the same name and other settings, and other parts, are STATUS_USAGE; new trials are
 * taken as they are; done ones that the file no longer describes stay in the table. */
status sweep_recall(sweep *s);
status sweep_describe(const sweep *s); /* writes sweep.json */
bool sweep_is(const char *dir);        /* is a folder a sweep's? */
/* Every trial with its result as a JSON document; to be freed by the caller, NULL without memory.
 */
char *sweep_json(const sweep *s);

/* An event of the journal. */
typedef struct {
    const char *event, *detail, *host;
    const sweep_trial *t; /* NULL: of the sweep itself */
    int group;
    const char
        *outcome; /* of trial_end: done, failed, again (it will be tried once more), stopped */
    int step;     /* trials done or failed so far */
} sweep_line;
/* On the disk when this returns. */
status sweep_event(journal *j, const sweep_line *l);

/* What sweep.json and the journal tell of a sweep, without its file: for `status`. c is NULL in all
 * trials; the caller frees *trials. STATUS_DATA where it is no sweep. */
status sweep_read(const char *dir, sweep_trial **trials, int *n);

/* sweep_table.c: trials.tsv, and what a person reads (table.txt too); replaced as a whole. */
status sweep_table(const sweep *s);
void sweep_print(const sweep *s, FILE *to);
int sweep_count(const sweep *s, trial_state state);

/* sweep_trial.c: one trial, by all ranks of a group. `tick` is called by the group's first rank
 * once a step. STATUS_STOPPED: stopped on request, to be resumed. *together false: the group's
 * ranks have lost each other and must not be used again. */
typedef struct {
    comm *c;
    void (*tick)(void *context, int64_t step, int64_t steps);
    void *context;
    const char *part; /* of the trial that is being run */
} trial_group;
status trial_run(const sweep *s, const sweep_trial *t, trial_group *g, bool *together,
                 trial_result *result);

/* sweep_result.c: the numbers of a finished trial from its folder. One rank. */
status trial_collect(const sweep *s, const sweep_trial *t, trial_result *out);
/* Has a run come to its end (its last step, or early stopping)? */
bool run_ended(const char *run);
trial_result trial_result_none(void);

/* sweep_run.c: the whole of it. Collective. STATUS_OK: every trial is done. STATUS_STOPPED: on
 * request. Otherwise the first failed trial's status, every other trial being done. */
status sweep_run(sweep *s, comm *world);

#endif
