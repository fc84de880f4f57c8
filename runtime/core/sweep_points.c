/* The trials of a sweep file: combinations of a grid, and names that stay the same when the file
 * grows, because they are made of a trial's own settings alone. */
#include "runtime/core/sweep_file.h"

#include "runtime/core/config_fields.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static status no_memory(const char *file)
{
    return fail(STATUS_MEMORY, "%s: no memory for its trials; close other programs", file);
}

status sweep_point_add(sweep_point *p, const sweep_setting *s, const char *file)
{
    if (p->n % 8 == 0) {
        sweep_setting *more = realloc(p->at, (size_t)(p->n + 8) * sizeof *more);
        if (!more)
            return no_memory(file);
        p->at = more;
    }
    p->at[p->n++] = *s;
    return STATUS_OK;
}

/* ---- names ---- */

/* The last part of a key where no other key that changes anything ends with it, the whole key
 * otherwise. */
static void short_key(const char *key, char out[SWEEP_KEY])
{
    const char *dot = strrchr(key, '.'), *last = dot ? dot + 1 : key;
    int same = 0;
    for (int i = 0; i < config_n_fields; i++) {
        const char *other = config_fields[i].key, *at = strrchr(other, '.');
        same += config_fields[i].at != NOWHERE && strcmp(at ? at + 1 : other, last) == 0;
    }
    snprintf(out, SWEEP_KEY, "%s", same == 1 ? last : key);
    for (char *p = out; *p; p++)
        if (*p == '.')
            *p = '-';
}

/* What a file system and a shell take as it is; runs of anything else are one '-'. */
static void append_plain(char *to, size_t size, const char *text)
{
    size_t n = strlen(to);
    for (; *text && n + 1 < size; text++) {
        const bool plain = isalnum((unsigned char)*text) || strchr("._+-", *text);
        if (plain)
            to[n++] = *text;
        else if (n > 0 && to[n - 1] != '-')
            to[n++] = '-';
    }
    while (n > 0 && to[n - 1] == '-')
        n--;
    to[n] = '\0';
}

/* FNV-1a of all settings: for names that would be too long, or the same. */
static unsigned hash_of(const sweep_point *p)
{
    unsigned h = 2166136261u;
    for (int i = 0; i < p->n; i++) {
        const char *parts[2] = {p->at[i].key, p->at[i].value};
        for (int k = 0; k < 2; k++)
            for (const char *c = parts[k]; *c; c++)
                h = (h ^ (unsigned char)*c) * 16777619u;
    }
    return h;
}

#define READABLE 72 /* bytes of a name without its hash */

static void name_point(sweep_point *p)
{
    char text[2 * SWEEP_VALUE] = "", key[SWEEP_KEY];
    for (int i = 0; i < p->n; i++) {
        const size_t n = strlen(text);
        short_key(p->at[i].key, key);
        snprintf(text + n, sizeof text - n, "%s%s-", n ? "_" : "", key);
        append_plain(text, sizeof text, p->at[i].value);
    }
    if (strlen(text) < READABLE)
        snprintf(p->name, sizeof p->name, "%.*s", READABLE, text[0] ? text : "base");
    else
        snprintf(p->name, sizeof p->name, "%.*s-%08x", READABLE - 9, text, hash_of(p));
}

static bool same_settings(const sweep_point *a, const sweep_point *b)
{
    if (a->n != b->n)
        return false;
    for (int i = 0; i < a->n; i++) {
        bool found = false;
        for (int k = 0; k < b->n && !found; k++)
            found = strcmp(a->at[i].key, b->at[k].key) == 0 &&
                    strcmp(a->at[i].value, b->at[k].value) == 0;
        if (!found)
            return false;
    }
    return true;
}

static const sweep_point *named(const sweep_file *f, const char *name)
{
    for (int i = 0; i < f->n_points; i++)
        if (strcmp(f->points[i].name, name) == 0)
            return &f->points[i];
    return NULL;
}

status sweep_file_add(sweep_file *f, sweep_point *p)
{
    for (int i = 0; i < f->n_points; i++)
        if (same_settings(&f->points[i], p))
            return fail(STATUS_USAGE,
                        "%s:%d: trial %s stands there twice, first on line %d; keep one", f->path,
                        p->line, f->points[i].name, f->points[i].line);
    const bool given = p->name[0] != '\0';
    if (!given)
        name_point(p);
    const sweep_point *other = named(f, p->name);
    if (other && !given) {
        char readable[READABLE];
        snprintf(readable, sizeof readable, "%.*s", READABLE - 10, p->name);
        snprintf(p->name, sizeof p->name, "%s-%08x", readable, hash_of(p));
        other = named(f, p->name);
    }
    if (other)
        return fail(STATUS_USAGE, "%s:%d: another trial is called %s, on line %d; name one anew",
                    f->path, p->line, p->name, other->line);
    if (f->n_points == SWEEP_POINTS)
        return fail(STATUS_USAGE, "%s:%d: more than %d trials; make several sweeps", f->path,
                    p->line, SWEEP_POINTS);
    if (f->n_points % 64 == 0) {
        sweep_point *more = realloc(f->points, (size_t)(f->n_points + 64) * sizeof *more);
        if (!more)
            return no_memory(f->path);
        f->points = more;
    }
    f->points[f->n_points++] = *p;
    *p = (sweep_point){.line = p->line};
    return STATUS_OK;
}

/* ---- grids ---- */

status sweep_file_product(sweep_file *f, const sweep_axis *axes, int n, int line)
{
    int64_t all = 1;
    for (int i = 0; i < n; i++) {
        all *= axes[i].n;
        if (all > SWEEP_POINTS)
            return fail(STATUS_USAGE,
                        "%s:%d: the grid has more than %d trials; make several sweeps", f->path,
                        line, SWEEP_POINTS);
    }
    for (int64_t k = 0; k < all; k++) {
        sweep_point p = {.line = line};
        int64_t rest = k, block = all;
        status st = STATUS_OK;
        for (int i = 0; i < n && st == STATUS_OK; i++) {
            block /= axes[i].n;
            st = sweep_point_add(&p, &axes[i].at[rest / block], f->path);
            rest %= block;
        }
        if (st == STATUS_OK)
            st = sweep_file_add(f, &p);
        free(p.at);
        TRY(st);
    }
    return STATUS_OK;
}
