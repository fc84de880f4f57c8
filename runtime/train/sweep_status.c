/* How a sweep is doing: see sweep_status.h. */
#include "runtime/train/sweep_status.h"

#include "runtime/core/log.h"
#include "runtime/train/run_directory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Newest times of the journal, and its last event. */
typedef struct {
    double started, last; /* of the newest job */
    int done_before;      /* when it began */
    char event[24], detail[64];
} outlook;

static void read_outlook(const char *dir, outlook *o)
{
    char path[CONFIG_TEXT + 64], *line = NULL;
    size_t room = 0;
    snprintf(path, sizeof path, "%s/events.jsonl", dir);
    FILE *f = fopen(path, "r");
    while (f && getline(&line, &room, f) > 0) {
        json_t *j = json_loads(line, 0, NULL);
        const char *event = json_string_value(json_object_get(j, "event"));
        const char *detail = json_string_value(json_object_get(j, "detail"));
        if (event) {
            o->last = json_number_value(json_object_get(j, "time"));
            snprintf(o->event, sizeof o->event, "%s", event);
            snprintf(o->detail, sizeof o->detail, "%s", detail ? detail : "");
            if (strcmp(event, "start") == 0 || strcmp(event, "resume") == 0) {
                o->started = o->last;
                o->done_before = (int)json_integer_value(json_object_get(j, "step"));
            }
        }
        json_decref(j);
    }
    free(line);
    if (f)
        fclose(f);
}

status sweep_status_read(const char *dir, sweep_status *s)
{
    char by[256];
    outlook o = {0};
    *s = (sweep_status){.eta_s = NAN};
    TRY(sweep_read(dir, &s->trials, &s->n));
    read_outlook(dir, &o);
    const bool ended = strcmp(o.event, "end") == 0;
    const bool alive = !ended && run_directory_held(dir, by, sizeof by);
    for (int i = 0; i < s->n; i++) {
        if (!alive && s->trials[i].state == TRIAL_RUNNING)
            s->trials[i].state = TRIAL_QUEUED;
        s->count[s->trials[i].state]++;
    }
    s->state = alive    ? "running"
               : !ended ? (o.event[0] ? "failed" : "queued") /* the job died */
                        : (strcmp(o.detail, "stopped") == 0  ? "stopped"
                           : strcmp(o.detail, "failed") == 0 ? "failed"
                                                             : "done");
    const int done = s->count[TRIAL_DONE] + s->count[TRIAL_FAILED];
    if (alive && done > o.done_before && o.last > o.started)
        s->eta_s = (clock_wall_s() - o.started) * (s->n - done) / (done - o.done_before);
    return STATUS_OK;
}

void sweep_status_free(sweep_status *s)
{
    free(s->trials);
    *s = (sweep_status){0};
}

bool sweep_status_run(const char *dir, const sweep_trial *t, char *part, size_t size,
                      run_status *run)
{
    static const char *const parts[] = {"finetune", "position", "pretrain"};
    char path[CONFIG_TEXT + 256];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/trials/%s/%s", dir, t->name, parts[i]);
        if (access(path, R_OK) != 0 || run_status_read(path, run) != STATUS_OK)
            continue;
        snprintf(part, size, "%s", parts[i]);
        return true;
    }
    return false;
}
