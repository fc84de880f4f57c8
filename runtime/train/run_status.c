/* How a run is doing: see run_status.h. */
#include "runtime/train/run_status.h"

#include "io/checkpoint.h"
#include "runtime/core/log.h"
#include "runtime/train/run_directory.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAIL 65536     /* bytes of a journal that are looked at */
#define SILENT_S 900.0 /* a running job whose lock cannot be seen has written something since */

/* The last bytes of a journal; NULL where there is none. Freed by the caller. */
static char *tail_of(const char *run, const char *name)
{
    char path[CONFIG_TEXT + 64];
    snprintf(path, sizeof path, "%s/%s", run, name);
    FILE *f = fopen(path, "rb");
    char *text = f ? calloc(1, TAIL + 1) : NULL;
    if (text && fseek(f, 0, SEEK_END) == 0) {
        const long size = ftell(f);
        fseek(f, size > TAIL ? size - TAIL : 0, SEEK_SET);
        text[fread(text, 1, TAIL, f)] = '\0';
    }
    if (f)
        fclose(f);
    return text;
}

typedef void (*take_line)(const json_t *line, void *to);

/* Whole lines in order; those that were cut, at either end, are passed over. */
static void each_line(char *text, take_line take, void *to)
{
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        json_t *o = json_loads(line, 0, NULL);
        if (json_is_object(o))
            take(o, to);
        json_decref(o);
    }
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static double number_of(const json_t *o, const char *key)
{
    const json_t *x = json_object_get(o, key);
    return json_is_number(x) ? json_number_value(x) : NAN;
}

typedef struct {
    run_status *s;
    double step_ms, time; /* of the newest lines */
} reading;

static void take_metric(const json_t *o, void *to)
{
    reading *r = to;
    r->time = fmax(r->time, number_of(o, "time"));
    if (strcmp(text_of(o, "split"), "valid") == 0) {
        r->s->valid_loss = number_of(o, "loss");
        return;
    }
    r->s->loss = number_of(o, "loss");
    r->s->step = (int64_t)json_integer_value(json_object_get(o, "step"));
    const double ms = number_of(o, "step_ms");
    r->step_ms = r->step_ms > 0 ? 0.9 * r->step_ms + 0.1 * ms : ms;
}

static void take_event(const json_t *o, void *to)
{
    reading *r = to;
    if (strcmp(text_of(o, "event"), "test_evaluated") == 0)
        return; /* of the people that were looked at, when the run was over */
    r->time = fmax(r->time, number_of(o, "time"));
    snprintf(r->s->event, sizeof r->s->event, "%s", text_of(o, "event"));
    snprintf(r->s->detail, sizeof r->s->detail, "%s", text_of(o, "detail"));
}

static int64_t steps_of(const char *run)
{
    char path[CONFIG_TEXT + 64];
    int64_t steps = 0;
    config *c = malloc(sizeof *c);
    if (!c)
        return 0;
    config_defaults(c);
    snprintf(path, sizeof path, "%s/config.yaml", run);
    if (config_read(c, path) == STATUS_OK) {
        char *command = tail_of(run, "command.txt");
        steps = command && strncmp(command, "crocuta finetune", 16) == 0 ? c->finetune.steps
                                                                         : c->train.steps;
        free(command);
    }
    free(c);
    return steps;
}

/* Does the text of a lock name this host? An empty one: its job has ended. */
static bool on_this_host(const char *by)
{
    char host[128] = "?", word[140];
    gethostname(host, sizeof host - 1);
    snprintf(word, sizeof word, " on %s since ", host);
    return by[0] == '\0' || strstr(by, word);
}

static const char *state_of(const char *run, const reading *r)
{
    char by[256];
    const run_status *s = r->s;
    if (strcmp(s->event, "end") == 0) {
        if (strcmp(s->detail, "failed") == 0)
            return "failed";
        const bool halted =
            strcmp(s->detail, "stopped") == 0 || strcmp(s->detail, "max-steps") == 0;
        return halted ? "stopped" : "done";
    }
    bool alive = run_directory_held(run, by, sizeof by);
    if (!alive && !on_this_host(by)) /* locks of other hosts may not be seen from here */
        alive = clock_wall_s() - r->time < SILENT_S;
    if (alive)
        return s->event[0] ? "running" : "queued";
    return s->event[0] ? "failed" : "queued";
}

status run_status_read(const char *run, run_status *s)
{
    char path[CONFIG_TEXT + 64];
    struct stat st;
    *s = (run_status){.eta_s = NAN, .loss = NAN, .valid_loss = NAN, .last_checkpoint = -1};
    snprintf(path, sizeof path, "%s/config.yaml", run);
    if (stat(path, &st) != 0)
        return fail(STATUS_DATA,
                    "%s: it is no run directory (no config.yaml); give one that "
                    "pretrain or finetune made",
                    run);
    reading r = {.s = s};
    char *metrics = tail_of(run, "metrics.jsonl"), *events = tail_of(run, "events.jsonl");
    if (metrics)
        each_line(metrics, take_metric, &r);
    if (events)
        each_line(events, take_event, &r);
    free(metrics);
    free(events);
    s->steps = steps_of(run);
    int64_t *list = NULL, n = 0;
    run_directory_checkpoints(run, path);
    if (checkpoint_list(path, &list, &n) == STATUS_OK && n > 0)
        s->last_checkpoint = list[0];
    free(list);
    s->workers = tail_of(run, "workers.json");
    s->state = state_of(run, &r);
    if (strcmp(s->state, "running") == 0 && s->step > 0 && r.step_ms > 0)
        s->eta_s = 1e-3 * r.step_ms * (double)(s->steps - s->step);
    return STATUS_OK;
}
