/* A record is a text file, a line an operation that says what it wrote in ten numbers: small enough
 * for a training of hours, and enough to see where two runs part. */
#include "kernels/check.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES 8
#define NAMES_MOST 96
#define NAME_MOST 48
/* Of the root mean square: the devices round differently, and what follows magnifies it. */
#define NEAR 1e-3
#define NEAR_BF16 0.1

typedef struct {
    long long number, n; /* how often the operation ran, and what it wrote */
    double rms, sample[SAMPLES];
} summary;

struct check_record {
    FILE *file;
    char path[4096];
    bool compares;
    struct {
        char name[NAME_MOST];
        long long ran;
    } of[NAMES_MOST];
    int names;
};

status device_check(device *dev, const char *how, int workers)
{
    if (!how || !*how || strcmp(how, "0") == 0)
        return STATUS_OK;
    const bool record = strncmp(how, "record:", 7) == 0, compare = strncmp(how, "compare:", 8) == 0;
    if (strcmp(how, "1") != 0 && !record && !compare)
        return fail(STATUS_USAGE,
                    "CROCUTA_CHECK_DEVICE=%s is not known; use 1, record:FILE or compare:FILE",
                    how);
    dev->checked = true;
    if (!record && !compare)
        return STATUS_OK;
    check_record *r = calloc(1, sizeof *r);
    if (!r)
        return fail(STATUS_MEMORY, "CROCUTA_CHECK_DEVICE: no memory; use more memory");
    r->compares = compare;
    char of_worker[16] = "";
    if (workers > 1)
        snprintf(of_worker, sizeof of_worker, ".%d", dev->worker);
    snprintf(r->path, sizeof r->path, "%s%s", strchr(how, ':') + 1, of_worker);
    r->file = fopen(r->path, compare ? "r" : "w");
    if (!r->file) {
        const status st = fail(STATUS_DATA, "%s: %s; CROCUTA_CHECK_DEVICE needs this file", r->path,
                               strerror(errno));
        free(r);
        return st;
    }
    dev->record = r;
    return STATUS_OK;
}

void check_close(device *dev)
{
    if (dev->record)
        fclose(dev->record->file);
    free(dev->record);
    dev->record = NULL;
}

static double number_at(const void *x, int64_t i, bool bf16)
{
    float value;
    if (bf16) {
        const uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
        memcpy(&value, &bits, sizeof value);
    } else {
        value = ((const float *)x)[i];
    }
    return (double)value;
}

static status summarise(device *dev, const char *name, written w, const void *x, summary *s)
{
    int64_t bad = 0, first = -1;
    double squares = 0;
    for (int64_t i = 0; i < w.n; i++) {
        const double value = number_at(x, i, w.bf16);
        squares += value * value;
        if (!isfinite(value) && bad++ == 0)
            first = i;
    }
    s->n = w.n;
    s->rms = w.n > 0 ? sqrt(squares / (double)w.n) : 0;
    for (int k = 0; k < SAMPLES; k++) /* odd parts of the whole: seldom only pads */
        s->sample[k] = w.n > 0 ? number_at(x, w.n * (2 * k + 1) / (2 * SAMPLES), w.bf16) : 0;
    if (bad == 0)
        return STATUS_OK;
    return fail(STATUS_INTERNAL,
                "%s: worker %d: %lld of %lld numbers that it wrote are not finite, the first is "
                "number %lld; look at what it was given, or report it",
                name, dev->worker, (long long)bad, (long long)w.n, (long long)first);
}

/* How often the operation has run, this time included; 0: too many names. */
static long long count_of(check_record *r, const char *name)
{
    int i = 0;
    while (i < r->names && strcmp(r->of[i].name, name) != 0)
        i++;
    if (i == NAMES_MOST)
        return 0;
    if (i == r->names)
        snprintf(r->of[r->names++].name, NAME_MOST, "%s", name);
    return ++r->of[i].ran;
}

static status record_line(check_record *r, const char *name, const summary *s)
{
    fprintf(r->file, "%s %lld %lld %.9g", name, s->number, s->n, s->rms);
    for (int k = 0; k < SAMPLES; k++)
        fprintf(r->file, " %.9g", s->sample[k]);
    if (fputc('\n', r->file) == EOF || fflush(r->file) != 0)
        return fail(STATUS_DATA, "%s: %s; CROCUTA_CHECK_DEVICE writes there", r->path,
                    strerror(errno));
    return STATUS_OK;
}

/* The next line of that name; devices may have operations of their own in between. */
static bool next_line(check_record *r, const char *name, summary *s)
{
    char line[1024], of[NAME_MOST];
    while (fgets(line, sizeof line, r->file)) {
        int at = 0;
        if (sscanf(line, "%47s %lld %lld %lf%n", of, &s->number, &s->n, &s->rms, &at) != 4 ||
            strcmp(of, name) != 0)
            continue;
        char *rest = line + at;
        for (int k = 0; k < SAMPLES; k++)
            s->sample[k] = strtod(rest, &rest);
        return true;
    }
    return false;
}

static status compare_line(device *dev, const char *name, written w, const summary *s)
{
    check_record *r = dev->record;
    summary was;
    const long back = ftell(r->file);
    if (!next_line(r, name, &was)) { /* an operation that the other run had none of */
        clearerr(r->file);
        return fseek(r->file, back, SEEK_SET) == 0
                   ? STATUS_OK
                   : fail(STATUS_DATA, "%s: %s; it must be a file", r->path, strerror(errno));
    }
    const double allowed = (w.bf16 ? NEAR_BF16 : NEAR) * fmax(was.rms, 1e-12);
    const char *what = was.number != s->number || was.n != s->n ? "how much it wrote"
                       : !(fabs(was.rms - s->rms) <= allowed)   ? "the root mean square"
                                                                : NULL;
    double here = s->rms, there = was.rms;
    for (int k = 0; !what && k < SAMPLES; k++)
        if (!(fabs(was.sample[k] - s->sample[k]) <= 10 * allowed)) {
            what = "a number";
            here = s->sample[k];
            there = was.sample[k];
        }
    if (!what)
        return STATUS_OK;
    return fail(STATUS_INTERNAL,
                "%s: worker %d: run %lld of it differs from %s in %s: %.6g here, %.6g there; it, "
                "or what it was given, is the first to differ",
                name, dev->worker, s->number, r->path, what, here, there);
}

status check_written(device *dev, op_kind kind, const char *name, written w)
{
    device_view view;
    summary s;
    TRY(device_view_open(dev, w.at, (size_t)w.n * (w.bf16 ? 2 : 4), true, &view));
    TRY(device_view_close(&view, false, summarise(dev, name, w, view.host, &s)));
    /* Devices go about rows in different portions; what comes of it shows in the next embedding. */
    if (!dev->record || kind == OP_ROWS)
        return STATUS_OK;
    s.number = count_of(dev->record, name);
    return dev->record->compares ? compare_line(dev, name, w, &s)
                                 : record_line(dev->record, name, &s);
}
