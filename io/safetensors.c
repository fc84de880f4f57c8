/* Reading safetensors (huggingface/safetensors, format of 8 bytes of length, a JSON header and one
 * block of data). Nothing that the header claims is believed: the length is held against the file,
 * every product is computed with overflow checks, and the ranges of all tensors must tile the data
 * section without hole, overlap or remainder. */
#include "io/safetensors.h"

#include "runtime/core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MAX (100u << 20) /* bytes: the limit of the published reader */
#define CHUNK 65536             /* bytes read at a time when values are converted or looked at */
#define AGAIN "get the file again"

/* Bits of an element; 0: unknown. */
static int dtype_bits(const char *dtype)
{
    static const struct {
        const char *name;
        int bits;
    } known[] = {{"F64", 64},    {"F32", 32}, {"F16", 16}, {"BF16", 16},   {"I64", 64},
                 {"I32", 32},    {"I16", 16}, {"I8", 8},   {"U64", 64},    {"U32", 32},
                 {"U16", 16},    {"U8", 8},   {"BOOL", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8},
                 {"F8_E8M0", 8}, {"C64", 64}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(dtype, known[i].name))
            return known[i].bits;
    return 0;
}

static status read_at(const safetensors *s, void *to, size_t bytes, uint64_t at)
{
    char *p = to;
    while (bytes > 0) {
        ssize_t n = pread(s->fd, p, bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(STATUS_DATA, "%s: %s; check the file system", s->path, strerror(errno));
        if (n == 0)
            return fail(STATUS_DATA, "%s: ends at byte %llu while it is read; " AGAIN, s->path,
                        (unsigned long long)at);
        p += n;
        at += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return STATUS_OK;
}

/* dtype and shape of one entry; *bytes: what they take. */
static status entry_shape(const char *path, safetensor *t, const json_t *value, uint64_t *bytes)
{
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    if (!dtype)
        return fail(STATUS_DATA, "%s: tensor %s has no dtype that is a string; " AGAIN, path,
                    t->name);
    int bits = dtype_bits(dtype);
    if (!bits)
        return fail(STATUS_DATA, "%s: tensor %s has the unknown dtype \"%.32s\"; convert it to F32",
                    path, t->name, dtype);
    snprintf(t->dtype, sizeof t->dtype, "%s", dtype);

    const json_t *shape = json_object_get(value, "shape");
    if (!json_is_array(shape))
        return fail(STATUS_DATA, "%s: tensor %s has no shape that is a list; " AGAIN, path,
                    t->name);
    size_t ndim = json_array_size(shape);
    if (ndim > sizeof t->shape / sizeof *t->shape)
        return fail(STATUS_DATA, "%s: tensor %s has %zu dimensions, at most 8 are read; reshape it",
                    path, t->name, ndim);
    t->ndim = (int)ndim;
    bool empty = false;
    for (size_t i = 0; i < ndim; i++) {
        const json_t *n = json_array_get(shape, i);
        if (!json_is_integer(n) || json_integer_value(n) < 0)
            return fail(STATUS_DATA,
                        "%s: tensor %s: dimension %zu is no whole number from 0; " AGAIN, path,
                        t->name, i + 1);
        t->shape[i] = json_integer_value(n);
        empty |= t->shape[i] == 0;
    }
    t->count = empty ? 0 : 1;
    for (size_t i = 0; i < ndim && !empty; i++)
        if (__builtin_mul_overflow(t->count, t->shape[i], &t->count))
            return fail(STATUS_DATA,
                        "%s: tensor %s: the product of its shape is beyond 64 bits; " AGAIN, path,
                        t->name);
    uint64_t total;
    if (__builtin_mul_overflow((uint64_t)t->count, (uint64_t)bits, &total) || total % 8)
        return fail(STATUS_DATA,
                    "%s: tensor %s: %lld elements of %s are no whole number of bytes; " AGAIN, path,
                    t->name, (long long)t->count, dtype);
    *bytes = total / 8;
    return STATUS_OK;
}

static status entry_range(const char *path, safetensor *t, const json_t *value, uint64_t bytes,
                          uint64_t data_bytes)
{
    const json_t *range = json_object_get(value, "data_offsets");
    const json_t *b = json_array_get(range, 0), *e = json_array_get(range, 1);
    if (json_array_size(range) != 2 || !json_is_integer(b) || !json_is_integer(e) ||
        json_integer_value(b) < 0 || json_integer_value(e) < json_integer_value(b))
        return fail(STATUS_DATA,
                    "%s: tensor %s: data_offsets are no two ascending whole numbers; " AGAIN, path,
                    t->name);
    t->begin = (uint64_t)json_integer_value(b);
    t->end = (uint64_t)json_integer_value(e);
    if (t->end - t->begin != bytes)
        return fail(STATUS_DATA,
                    "%s: tensor %s: its shape in %s needs %llu bytes, its range has %llu; " AGAIN,
                    path, t->name, t->dtype, (unsigned long long)bytes,
                    (unsigned long long)(t->end - t->begin));
    if (t->end > data_bytes)
        return fail(STATUS_DATA,
                    "%s: tensor %s ends at byte %llu, the data at %llu (a cut copy?); " AGAIN, path,
                    t->name, (unsigned long long)t->end, (unsigned long long)data_bytes);
    return STATUS_OK;
}

static status read_metadata(safetensors *s, json_t *meta)
{
    if (!json_is_object(meta))
        return fail(STATUS_DATA, "%s: __metadata__ is no object of strings; " AGAIN, s->path);
    size_t n = json_object_size(meta);
    s->meta_key = calloc(n + 1, sizeof *s->meta_key);
    s->meta_value = calloc(n + 1, sizeof *s->meta_value);
    if (!s->meta_key || !s->meta_value)
        return fail(STATUS_MEMORY, "%s: no memory for its header; free some", s->path);
    const char *key;
    json_t *value;
    json_object_foreach(meta, key, value)
    {
        if (!json_is_string(value))
            return fail(
                STATUS_DATA,
                "%s: __metadata__ holds \"%.64s\" that is no string; write numbers as strings",
                s->path, key);
        s->meta_key[s->n_meta] = strdup(key);
        s->meta_value[s->n_meta] = strdup(json_string_value(value));
        if (!s->meta_key[s->n_meta] || !s->meta_value[s->n_meta++])
            return fail(STATUS_MEMORY, "%s: no memory for its header; free some", s->path);
    }
    return STATUS_OK;
}

static int by_begin(const void *a, const void *b)
{
    const safetensor *x = *(const safetensor *const *)a, *y = *(const safetensor *const *)b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* The ranges must tile [0, data_bytes). */
static status check_tiling(const safetensors *s, uint64_t data_bytes)
{
    const safetensor **order = malloc(((size_t)s->n + 1) * sizeof *order);
    if (!order)
        return fail(STATUS_MEMORY, "%s: no memory for its header; free some", s->path);
    for (int64_t i = 0; i < s->n; i++)
        order[i] = &s->tensors[i];
    qsort(order, (size_t)s->n, sizeof *order, by_begin);
    uint64_t at = 0;
    status st = STATUS_OK;
    for (int64_t i = 0; i < s->n && st == STATUS_OK; i++) {
        const safetensor *t = order[i];
        if (t->begin < at)
            st = fail(STATUS_DATA, "%s: tensors %s [%llu,%llu) and %s [%llu,%llu) overlap; " AGAIN,
                      s->path, order[i - 1]->name, (unsigned long long)order[i - 1]->begin,
                      (unsigned long long)order[i - 1]->end, t->name, (unsigned long long)t->begin,
                      (unsigned long long)t->end);
        else if (t->begin > at)
            st = fail(STATUS_DATA, "%s: %llu bytes before tensor %s belong to none; " AGAIN,
                      s->path, (unsigned long long)(t->begin - at), t->name);
        at = t->end;
    }
    if (st == STATUS_OK && at != data_bytes)
        st = fail(STATUS_DATA, "%s: %llu bytes after the last tensor%s%s belong to none; " AGAIN,
                  s->path, (unsigned long long)(data_bytes - at), s->n ? ", " : "",
                  s->n ? order[s->n - 1]->name : "");
    free(order);
    return st;
}

static status read_entries(safetensors *s, json_t *root, uint64_t data_bytes)
{
    s->tensors = calloc(json_object_size(root) + 1, sizeof *s->tensors);
    if (!s->tensors)
        return fail(STATUS_MEMORY, "%s: no memory for its header; free some", s->path);
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (!strcmp(key, "__metadata__")) {
            TRY(read_metadata(s, value));
            continue;
        }
        safetensor *t = &s->tensors[s->n];
        t->name = strdup(key);
        if (!t->name)
            return fail(STATUS_MEMORY, "%s: no memory for its header; free some", s->path);
        s->n++;
        if (!json_is_object(value))
            return fail(STATUS_DATA, "%s: the header's entry %s is no object; " AGAIN, s->path,
                        t->name);
        uint64_t bytes = 0;
        TRY(entry_shape(s->path, t, value, &bytes));
        TRY(entry_range(s->path, t, value, bytes, data_bytes));
    }
    return check_tiling(s, data_bytes);
}

/* The key of the header's outermost object that byte `at` belongs to: the tensor that a message of
 * the JSON reader is about. "" and 0 where there is none. */
static const char *entry_at(const char *text, size_t n, int at, size_t *length)
{
    const char *key = "";
    int depth = 0;
    *length = 0;
    for (size_t i = 0; i < n && at > 0 && i < (size_t)at; i++) {
        depth += (text[i] == '{' || text[i] == '[') - (text[i] == '}' || text[i] == ']');
        if (text[i] != '"')
            continue;
        size_t from = ++i;
        while (i < n && text[i] != '"')
            i += text[i] == '\\' ? 2 : 1;
        size_t behind = i + 1;
        while (behind < n && strchr(" \t\r\n", text[behind]) && text[behind])
            behind++;
        if (depth == 1 && behind < n && text[behind] == ':') {
            key = text + from;
            *length = i - from;
        }
    }
    return key;
}

static status read_header(safetensors *s, uint64_t size)
{
    unsigned char le[8];
    if (size < sizeof le)
        return fail(STATUS_DATA, "%s: %llu bytes are no safetensors file; " AGAIN, s->path,
                    (unsigned long long)size);
    TRY(read_at(s, le, sizeof le, 0));
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | le[i];
    if (n > size - sizeof le)
        return fail(
            STATUS_DATA,
            "%s: the header is said to be %llu bytes long, the whole file has %llu: cut, or no "
            "safetensors file; " AGAIN,
            s->path, (unsigned long long)n, (unsigned long long)size);
    if (n > HEADER_MAX)
        return fail(STATUS_DATA, "%s: a header of %llu bytes is beyond the limit of 100 MB; " AGAIN,
                    s->path, (unsigned long long)n);
    char *text = malloc((size_t)n + 1);
    if (!text)
        return fail(STATUS_MEMORY, "%s: no memory for its header; free some", s->path);
    status st = read_at(s, text, (size_t)n, sizeof le);
    if (st != STATUS_OK) {
        free(text);
        return st;
    }
    json_error_t error;
    json_t *root = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        size_t length = 0;
        const char *entry = entry_at(text, (size_t)n, error.position, &length);
        st = fail(STATUS_DATA, "%s: %s%.*s%sthe header is no JSON object (%s); " AGAIN, s->path,
                  length ? "at " : "", (int)(length < 200 ? length : 200), entry,
                  length ? ": " : "", error.text);
    }
    free(text);
    if (!root)
        return st;
    if (!json_is_object(root))
        st = fail(STATUS_DATA, "%s: the header is no JSON object of tensors; " AGAIN, s->path);
    s->data_at = sizeof le + n;
    if (st == STATUS_OK)
        st = read_entries(s, root, size - s->data_at);
    json_decref(root);
    return st;
}

status safetensors_open(const char *path, safetensors **out)
{
    *out = NULL;
    safetensors *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        return fail(STATUS_MEMORY, "%s: no memory to open it; free some", path);
    }
    status st;
    /* O_NONBLOCK: a pipe under this name must not hold the program. */
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (s->fd < 0 || fstat(s->fd, &info) != 0)
        st = fail(STATUS_DATA, "%s: %s; check the path", path, strerror(errno));
    else if (S_ISDIR(info.st_mode))
        st =
            fail(STATUS_DATA, "%s: is a folder, not a safetensors file; name the file in it", path);
    else if (!S_ISREG(info.st_mode))
        st = fail(STATUS_DATA, "%s: is no regular file; copy it to one", path);
    else
        st = read_header(s, (uint64_t)info.st_size);
    if (st != STATUS_OK) {
        safetensors_close(&s);
        return st;
    }
    *out = s;
    return STATUS_OK;
}

void safetensors_close(safetensors **s)
{
    if (!*s)
        return;
    for (int64_t i = 0; i < (*s)->n; i++)
        free((*s)->tensors[i].name);
    for (int64_t i = 0; i < (*s)->n_meta; i++) {
        free((*s)->meta_key[i]);
        free((*s)->meta_value[i]);
    }
    free((*s)->meta_key);
    free((*s)->meta_value);
    free((*s)->tensors);
    free((*s)->path);
    if ((*s)->fd >= 0)
        close((*s)->fd);
    free(*s);
    *s = NULL;
}

const safetensor *safetensors_find(const safetensors *s, const char *name)
{
    for (int64_t i = 0; i < s->n; i++)
        if (!strcmp(s->tensors[i].name, name))
            return &s->tensors[i];
    return NULL;
}

const char *safetensors_meta(const safetensors *s, const char *key)
{
    for (int64_t i = 0; i < s->n_meta; i++)
        if (!strcmp(s->meta_key[i], key))
            return s->meta_value[i];
    return NULL;
}

static float half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double x = exponent == 31  ? (fraction ? NAN : INFINITY)
               : exponent == 0 ? ldexp(fraction, -24)
                               : ldexp(1024 + fraction, exponent - 25);
    return (float)(h & 0x8000 ? -x : x);
}

typedef enum { WIDTH_NONE, WIDTH_F64, WIDTH_F32, WIDTH_F16, WIDTH_BF16 } float_width;

static float_width width_of(const char *dtype)
{
    /* A complex number is two of F32: enough to look for values that are not finite. */
    return !strcmp(dtype, "F32") || !strcmp(dtype, "C64") ? WIDTH_F32
           : !strcmp(dtype, "F64")                        ? WIDTH_F64
           : !strcmp(dtype, "F16")                        ? WIDTH_F16
           : !strcmp(dtype, "BF16")                       ? WIDTH_BF16
                                                          : WIDTH_NONE;
}

static size_t width_bytes(float_width w)
{
    return w == WIDTH_F64 ? 8 : w == WIDTH_F32 ? 4 : 2;
}

static double element(float_width w, const char *at)
{
    double d;
    float f;
    uint32_t bits;
    uint16_t half;
    switch (w) {
    case WIDTH_F64:
        memcpy(&d, at, sizeof d);
        return d;
    case WIDTH_F32:
        memcpy(&f, at, sizeof f);
        return (double)f;
    case WIDTH_F16:
        memcpy(&half, at, sizeof half);
        return (double)half_value(half);
    default:
        memcpy(&half, at, sizeof half);
        bits = (uint32_t)half << 16;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
}

status safetensors_read_f32(const safetensors *s, const safetensor *t, float *out)
{
    float_width w = width_of(t->dtype);
    if (w == WIDTH_NONE || !strcmp(t->dtype, "C64"))
        return fail(STATUS_DATA,
                    "%s: tensor %s is of %s, weights are floating-point; convert it to F32",
                    s->path, t->name, t->dtype);
    if (w == WIDTH_F32)
        return read_at(s, out, (size_t)(t->end - t->begin), s->data_at + t->begin);
    char chunk[CHUNK];
    const size_t width = width_bytes(w);
    for (uint64_t at = t->begin; at < t->end;) {
        size_t n = t->end - at < CHUNK ? (size_t)(t->end - at) : CHUNK;
        TRY(read_at(s, chunk, n, s->data_at + at));
        for (size_t i = 0; i < n; i += width) {
            double x = element(w, chunk + i);
            float y = (float)x;
            if (isfinite(x) && !isfinite(y))
                return fail(STATUS_DATA, "%s: tensor %s holds %g, beyond fp32; scale it", s->path,
                            t->name, x);
            *out++ = y;
        }
        at += n;
    }
    return STATUS_OK;
}

status safetensors_read_integers(const safetensors *s, const safetensor *t, const char *dtype,
                                 void *out)
{
    if (strcmp(t->dtype, dtype) != 0)
        return fail(STATUS_DATA, "%s: tensor %s is of %s, %s was expected; " AGAIN, s->path,
                    t->name, t->dtype, dtype);
    return read_at(s, out, (size_t)(t->end - t->begin), s->data_at + t->begin);
}

status safetensors_not_finite(const safetensors *s, const safetensor *t, int64_t *nan, int64_t *inf)
{
    *nan = *inf = 0;
    float_width w = width_of(t->dtype);
    if (w == WIDTH_NONE)
        return STATUS_OK;
    char chunk[CHUNK];
    const size_t width = width_bytes(w);
    for (uint64_t at = t->begin; at < t->end;) {
        size_t n = t->end - at < CHUNK ? (size_t)(t->end - at) : CHUNK;
        TRY(read_at(s, chunk, n, s->data_at + at));
        for (size_t i = 0; i < n; i += width) {
            double x = element(w, chunk + i);
            *nan += isnan(x) != 0;
            *inf += isinf(x) != 0;
        }
        at += n;
    }
    return STATUS_OK;
}

status safetensors_say_not_finite(const safetensors *s)
{
    char names[400] = "";
    int64_t found = 0;
    for (int64_t i = 0; i < s->n; i++) {
        int64_t nan, inf;
        TRY(safetensors_not_finite(s, &s->tensors[i], &nan, &inf));
        if (!nan && !inf)
            continue;
        size_t used = strlen(names);
        if (found < 3)
            snprintf(names + used, sizeof names - used,
                     "%s%lld of %lld values of %.80s are not finite (%s)", found ? ", " : "",
                     (long long)(nan + inf), (long long)s->tensors[i].count, s->tensors[i].name,
                     !inf   ? "nan"
                     : !nan ? "inf"
                            : "nan, inf");
        found++;
    }
    if (found > 3)
        log_warning("%s: %s, and %lld tensors more", s->path, names, (long long)(found - 3));
    else if (found)
        log_warning("%s: %s", s->path, names);
    return STATUS_OK;
}
