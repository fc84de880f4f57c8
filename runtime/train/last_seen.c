/* Where each worker was when it was last heard of: see last_seen.h. */
#include "runtime/train/last_seen.h"

#include "runtime/core/log.h"
#include "runtime/train/run_directory.h"
#include "runtime/train/run_status.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SILENT_S 1.5 /* a worker that computes is heard twice a second */

/* ---- writing ---- */

static json_t *worker_json(const watch_view *v, double now_s)
{
    json_t *o = json_pack("{s:i, s:i, s:s, s:I}", "worker", v->b.worker, "rank", v->rank, "host",
                          v->who.host, "process", (json_int_t)v->who.pid);
    if (o && v->heard) {
        json_object_set_new(o, "step", json_integer(v->b.step));
        json_object_set_new(o, "phase", json_string(v->b.phase));
        json_object_set_new(o, "met", json_integer(v->b.met));
        json_object_set_new(o, "time", json_real(now_s - v->ago_s));
        json_object_set_new(o, "silent_s", json_real(v->ago_s));
    }
    if (o && (v->stopped || v->gone))
        json_object_set_new(o, "state", json_string(v->gone ? "gone" : "stopped"));
    return o;
}

status last_seen_write(const char *run, watch *w)
{
    json_t *list = json_array();
    const double now_s = clock_wall_s();
    for (int i = 0; i < watch_workers(w); i++) {
        watch_view v;
        watch_view_of(w, i, &v);
        json_array_append_new(list, worker_json(&v, now_s));
    }
    char *text = json_dumps(list, JSON_COMPACT);
    const status st = text ? run_directory_write(run, "workers.json", text, false)
                           : fail(STATUS_MEMORY, "%s: no memory; use more memory", run);
    free(text);
    json_decref(list);
    return st;
}

/* ---- reading ---- */

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "?";
}

/* A worker whose process was stopped or gone, else the one that had met the others least often,
 * else the one heard least recently. */
static size_t culprit(const json_t *list)
{
    size_t found = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *x = json_array_get(list, i), *y = json_array_get(list, found);
        const double met = number(x, "met") - number(y, "met");
        if (json_object_get(x, "state"))
            return i;
        if (met < 0 || (met == 0 && number(x, "time") < number(y, "time")))
            found = i;
    }
    return found;
}

/* Silent for long, while each of the others had come further or was heard later. */
static bool stands_out(const json_t *list, size_t which)
{
    const json_t *x = json_array_get(list, which);
    bool out = json_array_size(list) > 1 && number(x, "silent_s") > SILENT_S;
    if (json_object_get(x, "state"))
        return true;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *y = json_array_get(list, i);
        out &= i == which || number(y, "met") > number(x, "met") ||
               number(y, "time") > number(x, "time") + SILENT_S;
    }
    return out;
}

static void describe(const json_t *list, size_t which, last_seen *x)
{
    const json_t *w = json_array_get(list, which);
    const char *host = text_of(w, "host");
    x->who = (watch_loss){
        .worker = (int)which, .rank = (int)number(w, "rank"), .step = (int64_t)number(w, "step")};
    snprintf(x->who.host, sizeof x->who.host, "%s", host);
    char when[32] = "";
    const time_t at = (time_t)number(w, "time");
    struct tm t;
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&at, &t));
    const int n =
        snprintf(x->who.detail, sizeof x->who.detail, "worker %zu (rank %d, process %lld) on %s ",
                 which, x->who.rank, (long long)number(w, "process"), host);
    char *to = x->who.detail + n;
    const size_t room = n < (int)sizeof x->who.detail ? sizeof x->who.detail - (size_t)n : 0;
    if (!json_object_get(w, "time"))
        snprintf(to, room, "was not heard of, at its first step or before");
    else
        snprintf(to, room, "was heard last at %s in step %lld, phase %s%s", when,
                 (long long)x->who.step, text_of(w, "phase"),
                 json_object_get(w, "state")  ? "; its process did not run any more"
                 : x->one                     ? "; the others went on without it"
                 : json_array_size(list) == 1 ? ""
                                              : "; the others as late as it");
}

status last_seen_read(const char *run, last_seen *x)
{
    run_status s;
    *x = (last_seen){0};
    if (run_status_read(run, &s) != STATUS_OK) /* no job has been here */
        return STATUS_OK;
    json_t *list = json_loads(s.workers ? s.workers : "[]", 0, NULL);
    const bool said = !s.event[0] || strcmp(s.event, "end") == 0 ||
                      strcmp(s.event, "worker_lost") == 0 || strcmp(s.event, "job_lost") == 0;
    if (!said && json_array_size(list) > 0) {
        const size_t which = culprit(list);
        x->died = true;
        x->one = stands_out(list, which);
        describe(list, which, x);
    }
    json_decref(list);
    free(s.workers);
    return STATUS_OK;
}
