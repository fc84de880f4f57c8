/* Manifests of checkpoints: JSON with every tensor's name, type and shape, the file's size and
 * CRC-32, and a CRC-32 over the manifest's own content, so that a changed digit is noticed there
 * too. */
#include "io/checkpoint_manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define SUM_BLOCK (1 << 20)         /* bytes read at a time */
#define MANIFEST_LIMIT (64ll << 20) /* bytes: a larger one is not ours */

static const char *const KIND[] = {"f32", "i64", "u8", "i32"};

void checkpoint_manifest_path(const char *file, char path[1100])
{
    size_t n = strlen(file);
    if (n > 3 && strcmp(file + n - 3, ".h5") == 0)
        n -= 3;
    snprintf(path, 1100, "%.*s.json", (int)(n > 1000 ? 1000 : n), file);
}

status file_sum(const char *path, int64_t *bytes, uint32_t *crc)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return fail(STATUS_DATA, "%s: %s; look at the path and its permissions", path,
                    strerror(errno));
    unsigned char *block = malloc(SUM_BLOCK);
    uLong sum = crc32(0, NULL, 0);
    int64_t total = 0;
    status st =
        block ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory for a block; free some", path);
    while (st == STATUS_OK) {
        ssize_t n = read(fd, block, SUM_BLOCK);
        if (n == 0)
            break;
        if (n < 0) {
            if (errno == EINTR)
                continue;
            st = fail(STATUS_DATA, "%s: %s while reading; look at the disk", path, strerror(errno));
            break;
        }
        sum = crc32(sum, block, (uInt)n);
        total += n;
    }
    free(block);
    close(fd);
    *bytes = total;
    *crc = (uint32_t)sum;
    return st;
}

/* CRC-32 of the manifest without its seal, in canonical form. */
static uint32_t manifest_seal(const json_t *root)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)root); /* jansson takes no const here */
    json_object_del(copy, "seal");
    char *text = json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS);
    uint32_t sum =
        text ? (uint32_t)crc32(crc32(0, NULL, 0), (const Bytef *)text, (uInt)strlen(text)) : 0;
    free(text);
    json_decref(copy);
    return sum;
}

static json_t *tensor_list(const checkpoint_tensor *tensors, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) {
        json_t *shape = json_array();
        for (int k = 0; k < tensors[i].ndim; k++)
            json_array_append_new(shape, json_integer(tensors[i].shape[k]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", tensors[i].name, "type",
                                              KIND[tensors[i].kind], "shape", shape));
    }
    return list;
}

status manifest_make(const char *file, int64_t bytes, uint32_t crc, const checkpoint_header *h,
                     const checkpoint_tensor *tensors, int64_t n, char **text)
{
    json_t *root = json_pack("{s:s, s:i, s:I, s:I, s:i, s:s, s:s, s:I, s:I, s:o}", "program",
                             "crocuta", "version", CHECKPOINT_VERSION, "step", (json_int_t)h->step,
                             "stage", (json_int_t)h->stage, "ranks", h->ranks, "config", h->config,
                             "state", h->state, "bytes", (json_int_t)bytes, "crc32",
                             (json_int_t)crc, "tensors", tensor_list(tensors, n));
    if (!root)
        return fail(STATUS_INTERNAL, "%s: the manifest could not be built; report it", file);
    json_object_set_new(root, "seal", json_integer(manifest_seal(root)));
    *text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    return *text ? STATUS_OK
                 : fail(STATUS_MEMORY, "%s: no memory for the manifest; free some", file);
}

static status bad(const char *path, const char *what)
{
    return fail(STATUS_DATA, "%s: %s; use another checkpoint of the run", path, what);
}

/* One row of the tensor list. */
static status tensor_parse(const char *path, const json_t *row, checkpoint_tensor *t)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    const char *type = json_string_value(json_object_get(row, "type"));
    const json_t *shape = json_object_get(row, "shape");
    if (!name || strlen(name) >= sizeof t->name || !type || !json_is_array(shape) ||
        json_array_size(shape) < 1 || json_array_size(shape) > 3)
        return bad(path, "a tensor of the manifest has no name, type or shape");
    snprintf(t->name, sizeof t->name, "%s", name);
    int kind = -1;
    for (int k = 0; k < (int)(sizeof KIND / sizeof *KIND); k++)
        if (strcmp(type, KIND[k]) == 0)
            kind = k;
    if (kind < 0)
        return bad(path, "a tensor of the manifest has an unknown type");
    t->kind = (element_kind)kind;
    t->ndim = (int)json_array_size(shape);
    int64_t count = 1;
    for (int k = 0; k < t->ndim; k++) {
        const json_t *v = json_array_get(shape, (size_t)k);
        t->shape[k] = json_integer_value(v);
        if (!json_is_integer(v) || t->shape[k] < 0 || t->shape[k] > (int64_t)1 << 40 ||
            __builtin_mul_overflow(count, t->shape[k], &count) || count > (int64_t)1 << 44)
            return bad(path, "a tensor of the manifest has an impossible shape");
    }
    return STATUS_OK;
}

static status manifest_fill(const char *path, const json_t *root, manifest *m)
{
    const char *program = json_string_value(json_object_get(root, "program"));
    if (!program || strcmp(program, "crocuta") != 0)
        return bad(path, "not a manifest of crocuta");
    json_int_t version = json_integer_value(json_object_get(root, "version"));
    if (version != CHECKPOINT_VERSION)
        return fail(STATUS_DATA,
                    "%s: version %lld, this program reads %d; use the program that wrote it", path,
                    (long long)version, CHECKPOINT_VERSION);
    const json_t *seal = json_object_get(root, "seal");
    if (!json_is_integer(seal) || json_integer_value(seal) != (json_int_t)manifest_seal(root))
        return bad(path, "the manifest was changed (its checksum differs)");
    const json_t *list = json_object_get(root, "tensors");
    const char *config = json_string_value(json_object_get(root, "config"));
    const char *state = json_string_value(json_object_get(root, "state"));
    if (!json_is_array(list) || !config || !state)
        return bad(path, "the manifest lacks its tensors, configuration or state");
    m->head.step = json_integer_value(json_object_get(root, "step"));
    m->head.stage = json_integer_value(json_object_get(root, "stage"));
    m->head.ranks = (int)json_integer_value(json_object_get(root, "ranks"));
    m->bytes = json_integer_value(json_object_get(root, "bytes"));
    m->crc = (uint32_t)json_integer_value(json_object_get(root, "crc32"));
    m->n = (int64_t)json_array_size(list);
    m->tensors = calloc((size_t)m->n + 1, sizeof *m->tensors);
    m->config = strdup(config);
    m->state = strdup(state);
    if (!m->tensors || !m->config || !m->state)
        return fail(STATUS_MEMORY, "%s: no memory for the manifest; free some", path);
    m->head.config = m->config;
    m->head.state = m->state;
    for (int64_t i = 0; i < m->n; i++)
        TRY(tensor_parse(path, json_array_get(list, (size_t)i), &m->tensors[i]));
    return STATUS_OK;
}

status manifest_read(const char *path, manifest *m)
{
    memset(m, 0, sizeof *m);
    struct stat info;
    if (stat(path, &info) != 0)
        return fail(STATUS_DATA,
                    "%s: %s; a checkpoint without its manifest is not finished: use another one",
                    path, strerror(errno));
    if (!S_ISREG(info.st_mode) || info.st_size > MANIFEST_LIMIT)
        return bad(path, "not a manifest of crocuta");
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return fail(STATUS_DATA,
                    "%s:%d: the manifest is damaged (%s); use another checkpoint of the run", path,
                    error.line, error.text);
    status st = json_is_object(root) ? manifest_fill(path, root, m)
                                     : bad(path, "not a manifest of crocuta");
    json_decref(root);
    if (st != STATUS_OK)
        manifest_free(m);
    return st;
}

void manifest_free(manifest *m)
{
    free(m->tensors);
    free(m->config);
    free(m->state);
    memset(m, 0, sizeof *m);
}
