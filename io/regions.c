/* Parsing of regions: see regions.h. */
#include "io/regions.h"

#include "io/assembly.h"
#include "io/line_source.h"

#include <stdlib.h>
#include <string.h>

static status region_add(regions *r, region one)
{
    if (r->count == r->room) {
        int64_t room = r->room ? 2 * r->room : 16;
        region *more = realloc(r->list, (size_t)room * sizeof *more);
        if (!more)
            return fail(STATUS_MEMORY, "regions: no memory for %lld regions; free some memory",
                        (long long)room);
        r->list = more;
        r->room = room;
    }
    r->list[r->count++] = one;
    return STATUS_OK;
}

/* A whole number of at most ten digits at *p, which moves behind it; -1: none. */
static int64_t number_take(const char **p)
{
    size_t n = strspn(*p, "0123456789");
    if (n == 0 || n > 10)
        return -1;
    int64_t x = strtoll(*p, NULL, 10);
    *p += n;
    return x;
}

static status region_parse(regions *r, char *text)
{
    region one = {0, 1, INT32_MAX};
    char *colon = strrchr(text, ':');
    if (colon) {
        const char *p = colon + 1;
        *colon = '\0';
        one.from = number_take(&p);
        if (one.from >= 0 && *p == '-') {
            p++;
            one.to = *p ? number_take(&p) : INT32_MAX;
        }
        if (one.from < 1 || one.to < one.from || *p)
            return fail(STATUS_USAGE, "-r %s:%s: is no region; write chr:from-to, 1-based", text,
                        colon + 1);
    }
    one.identity = chromosome_identity(text);
    if (one.identity == 0)
        return fail(STATUS_USAGE, "-r %s: is no chromosome; write chr:from-to, 1-based", text);
    return region_add(r, one);
}

status regions_parse(regions *r, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        return fail(STATUS_MEMORY, "regions: no memory; free some memory");
    status st = STATUS_OK;
    for (char *p = copy, *comma; p && st == STATUS_OK; p = comma) {
        comma = strchr(p, ',');
        if (comma)
            *comma++ = '\0';
        st = region_parse(r, p);
    }
    free(copy);
    return st;
}

static status bed_line(regions *r, const char *path, int64_t line, char *text)
{
    region one = {0, 0, 0};
    char *tab = strpbrk(text, "\t ");
    const char *p = tab ? tab + 1 : "";
    if (tab)
        *tab = '\0';
    one.from = number_take(&p);
    bool between = *p == '\t' || *p == ' ';
    p += between;
    one.to = number_take(&p);
    if (one.from < 0 || one.to <= one.from || !between || (*p && *p != '\t' && *p != ' '))
        return fail(STATUS_DATA,
                    "%s:%lld: is no line of BED; write chrom<TAB>start<TAB>end, "
                    "0-based, end not included",
                    path, (long long)line);
    one.from += 1;
    one.identity = chromosome_identity(text);
    return one.identity ? region_add(r, one) : STATUS_OK; /* other contigs hold no sites */
}

status regions_read(regions *r, const char *path)
{
    line_source *s = NULL;
    TRY(line_source_open(path, &s));
    status st = STATUS_OK;
    int64_t before = r->count;
    for (;;) {
        char *line;
        size_t n;
        TRY_GOTO(done, line_source_next(s, &line, &n));
        if (!line)
            break;
        if (n == 0 || line[0] == '#' || strncmp(line, "track", 5) == 0 ||
            strncmp(line, "browser", 7) == 0)
            continue;
        TRY_GOTO(done, bed_line(r, path, line_source_line(s), line));
    }
    if (r->count == before)
        st = fail(STATUS_DATA, "%s: names no region of a chromosome; write BED lines", path);
done:
    line_source_close(&s);
    return st;
}

static int by_place(const void *a, const void *b)
{
    const region *x = a, *y = b;
    if (x->identity != y->identity)
        return x->identity < y->identity ? -1 : 1;
    return (x->from > y->from) - (x->from < y->from);
}

void regions_sort(regions *r)
{
    int64_t n = 0;
    if (r->count > 0)
        qsort(r->list, (size_t)r->count, sizeof *r->list, by_place);
    for (int64_t i = 0; i < r->count; i++) {
        region *last = n ? &r->list[n - 1] : NULL;
        if (last && last->identity == r->list[i].identity && r->list[i].from <= last->to)
            last->to = last->to > r->list[i].to ? last->to : r->list[i].to;
        else
            r->list[n++] = r->list[i];
    }
    r->count = n;
}

bool regions_hold(const regions *r, int identity, int64_t position)
{
    /* the last region that begins at or before the position */
    int64_t low = 0, high = r->count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        const region *x = &r->list[middle];
        if (x->identity < identity || (x->identity == identity && x->from <= position))
            low = middle + 1;
        else
            high = middle;
    }
    if (r->count == 0)
        return true;
    const region *x = low ? &r->list[low - 1] : NULL;
    return x && x->identity == identity && position <= x->to;
}

void regions_close(regions *r)
{
    free(r->list);
    memset(r, 0, sizeof *r);
}
