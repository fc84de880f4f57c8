/* Sequences back as letters, and everything counted again: see sequences.h. */
#include "io/dataset_format.h"
#include "io/name_table.h"
#include "io/sequences.h"

#include <htslib/bgzf.h>
#include <htslib/hts.h>

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BASES 60 /* letters a line, as most public files have them */

/* ---- letters ---- */

static char other_at(const sequences *s, int64_t at, int64_t *hint)
{
    int64_t i = *hint;
    if (i < 0 || i >= s->n_other || s->other[i].at > at)
        i = 0;
    if (i < s->n_other && at - s->other[i].at > 64) { /* far: search */
        int64_t low = i, high = s->n_other;
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (s->other[middle].at < at)
                low = middle + 1;
            else
                high = middle;
        }
        i = low;
    }
    while (i < s->n_other && s->other[i].at < at)
        i++;
    *hint = i;
    return i < s->n_other && s->other[i].at == at ? s->other[i].letter : 'N';
}

char sequences_letter(const sequences *s, int64_t at, int64_t *hint)
{
    static const char upper[] = "ACGTN";
    const unsigned base = sequences_base(s, at), code = base & 7;
    const char letter = code < BASE_OTHER ? upper[code] : other_at(s, at, hint);
    return base & BASE_MASKED ? (char)tolower(letter) : letter;
}

/* ---- verification ---- */

static status count_again(const sequences *s, const sequence *x, int64_t *others)
{
    int64_t n[16] = {0}, masked = 0;
    for (int64_t i = 0; i < x->length; i++) {
        const unsigned base = sequences_base(s, x->first + i);
        n[base]++;
        if ((base & 7) == BASE_OTHER) {
            if (*others >= s->n_other || s->other[*others].at != x->first + i)
                return fail(STATUS_DATA, "%s: base %lld of %s has no letter; import it again",
                            s->path, (long long)i + 1, x->name);
            ++*others;
        }
    }
    for (int k = 0; k < 8; k++) {
        masked += n[BASE_MASKED + k];
        n[k] += n[BASE_MASKED + k];
    }
    const base_counts *b = &x->count;
    if (n[0] != b->a || n[1] != b->c || n[2] != b->g || n[3] != b->t || n[4] != b->n ||
        n[5] != b->other || n[6] + n[7] != 0 || masked != b->masked)
        return fail(STATUS_DATA,
                    "%s: the bases of %s are not those that its table counts; import "
                    "it again",
                    s->path, x->name);
    return STATUS_OK;
}

/* Names a sequence by its bases, whatever their case. */
static uint64_t content_hash(const sequences *s, const sequence *x)
{
    uint64_t h = NAME_HASH_START ^ (uint64_t)x->length;
    for (int64_t at = x->first; at < x->first + x->length; at += 16) {
        uint64_t word = 0;
        for (int64_t i = at; i < at + 16 && i < x->first + x->length; i++)
            word = word << 4 | (sequences_base(s, i) & 7);
        h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return h;
}

typedef struct {
    uint64_t hash;
    int64_t i;
} content;

static int by_content(const void *a, const void *b)
{
    const content *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

static status splits_check(const sequences *s)
{
    content *list = malloc((size_t)s->n * sizeof *list);
    status st = STATUS_OK;
    if (!list)
        return fail(STATUS_MEMORY, "%s: no memory; use more memory", s->path);
    for (int64_t i = 0; i < s->n; i++)
        list[i] = (content){content_hash(s, &s->list[i]), i};
    qsort(list, (size_t)s->n, sizeof *list, by_content);
    for (int64_t i = 1; i < s->n && st == STATUS_OK; i++) {
        const sequence *a = &s->list[list[i - 1].i], *b = &s->list[list[i].i];
        if (list[i].hash == list[i - 1].hash && a->length > 0 && a->length == b->length &&
            a->split != b->split)
            st = fail(STATUS_DATA,
                      "%s: %s and %s are the same sequence on two sides of the split; give both "
                      "the same split in the table, or leave one out",
                      s->path, a->name, b->name);
    }
    free(list);
    return st;
}

status sequences_verify(const sequences *s)
{
    name_table names = {0};
    int64_t others = 0;
    status st = STATUS_OK;
    for (int64_t i = 0; i < s->n && st == STATUS_OK; i++) {
        int64_t already = -1;
        st = name_table_add(&names, s->list[i].name, i, &already);
        if (st == STATUS_OK && already >= 0)
            st = fail(STATUS_DATA, "%s: %s stands in it twice; import it again", s->path,
                      s->list[i].name);
        if (st == STATUS_OK)
            st = count_again(s, &s->list[i], &others);
    }
    if (st == STATUS_OK && others != s->n_other)
        st = fail(STATUS_DATA, "%s: letters that belong to no base; import it again", s->path);
    name_table_close(&names);
    return st == STATUS_OK ? splits_check(s) : st;
}

/* ---- FASTA again ---- */

static status put(BGZF *to, const char *path, const char *text, size_t n)
{
    if (bgzf_write(to, text, n) != (ssize_t)n)
        return fail(STATUS_RESOURCE, "%s: %s while writing; free some disk space", path,
                    errno ? strerror(errno) : "error");
    return STATUS_OK;
}

static status sequence_put(const sequences *s, const sequence *x, BGZF *to, const char *path,
                           int64_t *hint)
{
    char line[LINE_BASES + 1];
    TRY(put(to, path, ">", 1));
    TRY(put(to, path, x->name, strlen(x->name)));
    if (x->description[0]) {
        TRY(put(to, path, " ", 1));
        TRY(put(to, path, x->description, strlen(x->description)));
    }
    TRY(put(to, path, "\n", 1));
    for (int64_t at = 0; at < x->length; at += LINE_BASES) {
        size_t n = 0;
        for (; n < LINE_BASES && at + (int64_t)n < x->length; n++)
            line[n] = sequences_letter(s, x->first + at + (int64_t)n, hint);
        line[n++] = '\n';
        TRY(put(to, path, line, n));
    }
    return STATUS_OK;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

status sequences_export(const sequences *s, const char *path)
{
    char temporary[1100];
    int64_t hint = 0;
    if (strlen(path) > sizeof temporary - 8)
        return fail(STATUS_USAGE, "%.80s...: the path is too long; choose a shorter one", path);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    hts_set_log_level(HTS_LOG_OFF); /* our line says what failed */
    BGZF *to = bgzf_open(temporary, ends_in(path, ".gz") || ends_in(path, ".bgz") ? "w" : "wu");
    if (!to)
        return fail(STATUS_RESOURCE, "%s: %s; choose a folder that can be written", path,
                    strerror(errno));
    status st = STATUS_OK;
    for (int64_t i = 0; i < s->n && st == STATUS_OK; i++)
        st = sequence_put(s, &s->list[i], to, path, &hint);
    if (bgzf_close(to) != 0 && st == STATUS_OK)
        st = fail(STATUS_RESOURCE, "%s: it could not be finished; free some disk space", path);
    if (st == STATUS_OK && rename(temporary, path) != 0)
        st = fail(STATUS_RESOURCE, "%s: %s; choose another name", path, strerror(errno));
    if (st != STATUS_OK)
        unlink(temporary);
    return st;
}
