/* Opening a data set of sequences, and what it says: see sequences.h. The seal is held before HDF5
 * sees a byte; every rank reads the tables, the ranks of a node share the reading of the bases. */
#include "io/sequences.h"

#include "io/dataset_format.h"
#include "io/h5.h"
#include "io/node_memory.h"
#include "io/seal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_SEQUENCES ((int64_t)1 << 26)
#define MOST_BYTES ((int64_t)1 << 42)

struct sequences_memory {
    char *name, *description, *label_names;
    sequence *list;
    const char **labels;
    other_letter *other;
    node_memory packed;
};

static status wrong(const char *path, const char *what)
{
    return fail(STATUS_DATA, "%s: %s; import it again", path, what);
}

void sequences_close(sequences **s)
{
    if (!*s)
        return;
    struct sequences_memory *m = (*s)->memory;
    if (m) {
        node_memory_close(&m->packed);
        free(m->name);
        free(m->description);
        free(m->label_names);
        free(m->list);
        free(m->labels);
        free(m->other);
        free(m);
    }
    free(*s);
    *s = NULL;
}

static status head_read(hid_t file, sequences *s)
{
    int64_t version = 0, seed = 0;
    char program[32];
    TRY(h5_get_text(file, s->path, "program", program, sizeof program));
    TRY(h5_get_i64(file, s->path, "version", &version));
    if (strcmp(program, DATASET_PROGRAM) != 0 || version != DATASET_VERSION)
        return wrong(s->path, "of another program or version");
    TRY(h5_get_text(file, s->path, "assembly", s->assembly, sizeof s->assembly));
    TRY(h5_get_text(file, s->path, "split_hash", s->split_hash, sizeof s->split_hash));
    TRY(h5_get_i64(file, s->path, "seed", &seed));
    TRY(h5_get_i64(file, s->path, "sequences", &s->n));
    TRY(h5_get_i64(file, s->path, "labels", &s->n_labels));
    TRY(h5_get_i64(file, s->path, "bytes", &s->n_bytes));
    TRY(h5_get_i64(file, s->path, "others", &s->n_other));
    s->seed = (uint64_t)seed;
    if (s->n < 1 || s->n > MOST_SEQUENCES || s->n_labels < 0 || s->n_labels > s->n ||
        s->n_bytes < 1 || s->n_bytes > MOST_BYTES || s->n_other < 0 || s->n_other > 2 * s->n_bytes)
        return wrong(s->path, "impossible counts in its head");
    return STATUS_OK;
}

/* One sequence of the table, held against the one before it. */
static status sequence_check(const sequences *s, const sequence *x, int64_t next, unsigned split)
{
    const base_counts *b = &x->count;
    if (x->length < 0 || x->first != next || x->length > 2 * s->n_bytes - next)
        return wrong(s->path, "a sequence with an impossible length or place");
    if (split > SPLIT_TEST || x->label < -1 || x->label >= s->n_labels)
        return wrong(s->path, "a sequence with an impossible split or label");
    if (b->a < 0 || b->c < 0 || b->g < 0 || b->t < 0 || b->n < 0 || b->other < 0 || b->masked < 0 ||
        b->masked > x->length || b->a + b->c + b->g + b->t + b->n + b->other != x->length)
        return wrong(s->path, "a sequence whose bases are not as many as it is long");
    return STATUS_OK;
}

static status list_read(hid_t file, sequences *s)
{
    struct sequences_memory *m = s->memory;
    const int64_t n = s->n, shape[2] = {n, 7};
    int64_t *wide = malloc((size_t)n * 9 * sizeof *wide), next = 0;
    int32_t *label = malloc((size_t)n * sizeof *label);
    uint8_t *split = malloc((size_t)n);
    size_t stride, label_stride, description_stride;
    status st = STATUS_OK;
    m->list = calloc((size_t)n, sizeof *m->list);
    m->labels = calloc((size_t)s->n_labels + 1, sizeof *m->labels);
    if (!wide || !label || !split || !m->list || !m->labels) {
        st = fail(STATUS_MEMORY, "%s: no memory for its tables; use more memory", s->path);
        goto done;
    }
    TRY_GOTO(done, h5_read_texts(file, s->path, "/sequence/name", n, &m->name, &stride));
    TRY_GOTO(done, h5_read_texts(file, s->path, "/sequence/description", n, &m->description,
                                 &description_stride));
    TRY_GOTO(done, h5_read_texts(file, s->path, "/label/name", s->n_labels, &m->label_names,
                                 &label_stride));
    TRY_GOTO(done, h5_read_column(file, s->path, "/sequence/length", H5T_STD_I64LE, 1, &n, wide));
    TRY_GOTO(done,
             h5_read_column(file, s->path, "/sequence/first", H5T_STD_I64LE, 1, &n, wide + n));
    TRY_GOTO(done, h5_read_column(file, s->path, "/sequence/count", H5T_STD_I64LE, 2, shape,
                                  wide + 2 * n));
    TRY_GOTO(done, h5_read_column(file, s->path, "/sequence/label", H5T_STD_I32LE, 1, &n, label));
    TRY_GOTO(done, h5_read_column(file, s->path, "/sequence/split", H5T_STD_U8LE, 1, &n, split));
    for (int64_t i = 0; i < s->n_labels; i++)
        m->labels[i] = m->label_names + (size_t)i * label_stride;
    for (int64_t i = 0; i < n; i++) {
        const int64_t *b = wide + 2 * n + 7 * i;
        m->list[i] = (sequence){.name = m->name + (size_t)i * stride,
                                .description = m->description + (size_t)i * description_stride,
                                .length = wide[i],
                                .first = wide[n + i],
                                .label = label[i],
                                .split = (split_kind)split[i],
                                .count = {b[0], b[1], b[2], b[3], b[4], b[5], b[6]}};
        TRY_GOTO(done, sequence_check(s, &m->list[i], next, split[i]));
        next += (wide[i] + 1) / 2 * 2;
    }
    if (next != 2 * s->n_bytes)
        st = wrong(s->path, "bases that belong to no sequence");
    s->list = m->list;
    s->labels = m->labels;
done:
    free(wide);
    free(label);
    free(split);
    return st;
}

static status others_read(hid_t file, sequences *s)
{
    const int64_t n = s->n_other;
    int64_t *at = malloc(((size_t)n + 1) * sizeof *at), before = -1;
    uint8_t *letter = malloc((size_t)n + 1);
    other_letter *list = s->memory->other = malloc(((size_t)n + 1) * sizeof *list);
    status st = STATUS_OK;
    if (!at || !letter || !list) {
        st = fail(STATUS_MEMORY, "%s: no memory for its letters; use more memory", s->path);
        goto done;
    }
    TRY_GOTO(done, h5_read_column(file, s->path, "/other/at", H5T_STD_I64LE, 1, &n, at));
    TRY_GOTO(done, h5_read_column(file, s->path, "/other/letter", H5T_STD_U8LE, 1, &n, letter));
    for (int64_t i = 0; i < n; i++) {
        if (at[i] <= before || at[i] >= 2 * s->n_bytes ||
            fasta_base((char)letter[i]) != BASE_OTHER) {
            st = wrong(s->path, "a letter at an impossible place");
            goto done;
        }
        before = at[i];
        list[i] = (other_letter){at[i], (char)letter[i]};
    }
    s->other = list;
done:
    free(at);
    free(letter);
    return st;
}

/* Chunks first, first + step, ... of the bases; HDF5 checks each chunk's fletcher32. */
static status bases_read(hid_t file, const sequences *s, int64_t first, int64_t step, char *to)
{
    hid_t set = H5_NONE, space = H5_NONE, memory = H5_NONE;
    status st = STATUS_OK;
    TRY_GOTO(done,
             h5_open_column(file, s->path, "/base", H5T_STD_U8LE, 1, &s->n_bytes, &set, NULL));
    TRY_H5_GOTO(done, STATUS_DATA, s->path, space = H5Dget_space(set));
    for (int64_t at = first * DATASET_CHUNK; at < s->n_bytes; at += step * DATASET_CHUNK) {
        const int64_t left = s->n_bytes - at;
        const hsize_t from = (hsize_t)at,
                      n = (hsize_t)(left < DATASET_CHUNK ? left : DATASET_CHUNK);
        TRY_H5_GOTO(done, STATUS_DATA, s->path,
                    H5Sselect_hyperslab(space, H5S_SELECT_SET, &from, NULL, &n, NULL));
        TRY_H5_GOTO(done, STATUS_DATA, s->path, memory = H5Screate_simple(1, &n, NULL));
        TRY_H5_GOTO(done, STATUS_DATA, s->path,
                    H5Dread(set, H5T_STD_U8LE, memory, space, H5P_DEFAULT, to + at));
        h5_close(&memory);
    }
done:
    h5_close(&memory);
    h5_close(&space);
    h5_close(&set);
    return st;
}

/* *is: does a sealed file hold sequences? Its tables, if so. */
static status tables_read(sequences *s, hid_t *file, bool *is)
{
    char kind[64] = "";
    TRY(h5_open_read(s->path, file));
    *is = h5_has_attribute(*file, "kind") &&
          h5_get_text(*file, s->path, "kind", kind, sizeof kind) == STATUS_OK &&
          strcmp(kind, SEQUENCES_KIND) == 0;
    if (!*is)
        return STATUS_OK;
    TRY(head_read(*file, s));
    TRY(list_read(*file, s));
    return others_read(*file, s);
}

status sequences_open(const char *path, comm *c, sequences **out)
{
    *out = NULL;
    comm *node = NULL;
    hid_t file = H5_NONE;
    bool is = false;
    sequences *s = calloc(1, sizeof *s);
    if (s)
        s->memory = calloc(1, sizeof *s->memory);
    status st = s && s->memory ? STATUS_OK
                               : fail(STATUS_MEMORY, "%s: no memory for the index; use more", path);
    TRY_GOTO(done, comm_agree(c, st));
    snprintf(s->path, sizeof s->path, "%s", path);
    TRY_GOTO(done, seal_verify(path, c, DATASET_VERSION));
    TRY_GOTO(done, comm_agree(c, tables_read(s, &file, &is)));
    if (!is)
        goto done;
    TRY_GOTO(done, comm_split_node(c, &node));
    TRY_GOTO(done, comm_agree(c, node_memory_open(node, (size_t)s->n_bytes, &s->memory->packed)));
    const bool shared = s->memory->packed.shared;
    st = bases_read(file, s, shared ? comm_rank(node) : 0, shared ? comm_size(node) : 1,
                    s->memory->packed.base);
    TRY_GOTO(done, comm_agree(c, st)); /* nobody looks before all have written */
    node_memory_freeze(&s->memory->packed);
    s->packed = (const uint8_t *)s->memory->packed.base;
    *out = s;
    s = NULL;
done:
    h5_close(&file);
    comm_free(&node);
    sequences_close(&s);
    return st;
}

status sequences_identity(const sequences *s, dataset **out)
{
    char **labels = calloc((size_t)s->n_labels + 1, sizeof *labels);
    dataset view = {.seed = s->seed, .n_labels = s->n_labels, .n_shards = 1, .phased = true};
    size_t bytes = 0, at = 0;
    for (int64_t i = 0; i < s->n_labels; i++)
        bytes += strlen(s->labels[i]) + 1;
    char *text = malloc(bytes + 1);
    int64_t *none = calloc(2, sizeof *none); /* runs of nobody */
    if (!labels || !text || !none) {
        free(labels);
        free(text);
        free(none);
        return fail(STATUS_MEMORY, "%s: no memory for its labels; use more memory", s->path);
    }
    for (int64_t i = 0; i < s->n_labels; i++) {
        labels[i] = strcpy(text + at, s->labels[i]);
        at += strlen(labels[i]) + 1;
    }
    memcpy(view.path, s->path, sizeof view.path);
    memcpy(view.assembly, s->assembly, sizeof view.assembly);
    memcpy(view.split_hash, s->split_hash, sizeof view.split_hash);
    view.labels = (const char *const *)labels;
    view.run = view.missing_run_of = none;
    return dataset_make(&view, (void *const[]){labels, text, none}, 3, out);
}
