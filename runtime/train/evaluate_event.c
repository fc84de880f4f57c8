/* The record of looking at test people: one line of the run's events.jsonl for each evaluation on
 * the test split, and a warning where this model has been judged on the same people before. */
#include "runtime/train/evaluate.h"

#include "runtime/core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENT "test_evaluated"

/* How many earlier evaluations of these people by this checkpoint the journal tells of. */
static int times_before(const char *path, const char *people_and_model)
{
    char *line = NULL;
    size_t room = 0;
    int times = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    while (getline(&line, &room, f) > 0) {
        json_t *event = json_loads(line, 0, NULL);
        const char *name = json_string_value(json_object_get(event, "event"));
        const char *detail = json_string_value(json_object_get(event, "detail"));
        times += name && detail && !strcmp(name, EVENT) && strstr(detail, people_and_model) != NULL;
        json_decref(event);
    }
    free(line);
    fclose(f);
    return times;
}

/* One write a line: a journal has one writer at a time, and an evaluation may stand beside it. */
static status append_line(const char *path, const char *line)
{
    const size_t n = strlen(line);
    const int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0666);
    const bool written = fd >= 0 && write(fd, line, n) == (ssize_t)n && fsync(fd) == 0;
    const int why = errno;
    const bool closed = fd < 0 || close(fd) == 0;
    if (written && closed)
        return STATUS_OK;
    return fail(STATUS_RESOURCE,
                "%s: %s; the look at the test people must be recorded, make it writable", path,
                strerror(why));
}

static void contexts_text(const evaluation *e, char *text, size_t size)
{
    size_t n = 0;
    text[0] = '\0';
    for (int k = 0; k < e->n_contexts && n + 24 < size; k++)
        n += (size_t)snprintf(text + n, size - n, "%s%lld", k ? "," : "",
                              (long long)e->context[k].windows.context);
}

status evaluate_record(const evaluation *e, const char *host, int rank)
{
    char path[4096], key[128], contexts[256], detail[4608];
    struct stat folder;
    if (!e->model || e->o.split != SPLIT_TEST)
        return STATUS_OK;
    if (stat(e->o.model, &folder) != 0 || !S_ISDIR(folder.st_mode))
        return STATUS_OK;
    if (snprintf(path, sizeof path, "%s/events.jsonl", e->o.model) >= (int)sizeof path)
        return fail(STATUS_USAGE, "%s: the name is too long; move the run", e->o.model);

    const int64_t step = evaluate_model_file(e->model)->step;
    snprintf(key, sizeof key, "split_hash %s step %lld ", e->d->split_hash, (long long)step);
    contexts_text(e, contexts, sizeof contexts);
    snprintf(detail, sizeof detail, "%scontexts %s people %lld output %s", key, contexts,
             (long long)e->people_of_split[SPLIT_TEST], e->o.output);
    const int before = times_before(path, key);
    if (before > 0)
        log_warning("%s: these test people have judged this model %d time%s already; choose on "
                    "--split valid and "
                    "report the first look",
                    e->o.model, before, before == 1 ? "" : "s");

    json_t *event =
        json_pack("{s:f,s:i,s:s,s:I,s:s,s:s}", "time", clock_wall_s(), "rank", rank, "host", host,
                  "step", (json_int_t)step, "event", EVENT, "detail", detail);
    char *text = event ? json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    char *line = text ? malloc(strlen(text) + 2) : NULL;
    status st = STATUS_OK;
    if (!line) {
        st = fail(STATUS_MEMORY, "%s: no memory for one event; close other programs", path);
    } else {
        sprintf(line, "%s\n", text);
        st = append_line(path, line);
    }
    free(line);
    free(text);
    json_decref(event);
    return st;
}
