/* Reading checkpoints: one file held against its manifest before HDF5 sees a byte of it, and the
 * search for the newest sound one of a folder. */
#include "io/checkpoint.h"
#include "io/checkpoint_manifest.h"
#include "io/h5.h"
#include "runtime/core/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct checkpoint {
    char path[1024];
    manifest m;
    hid_t file;
};

status checkpoint_open(const char *file, checkpoint **out)
{
    *out = NULL;
    checkpoint *c = calloc(1, sizeof *c);
    if (!c)
        return fail(STATUS_MEMORY, "%s: no memory to open it; free some", file);
    c->file = H5_NONE;
    snprintf(c->path, sizeof c->path, "%s", file);

    char path[1100];
    int64_t bytes;
    uint32_t crc;
    status st;
    checkpoint_manifest_path(file, path);
    TRY_GOTO(failed, manifest_read(path, &c->m));
    TRY_GOTO(failed, file_sum(file, &bytes, &crc));
    if (bytes != c->m.bytes) {
        st = fail(STATUS_DATA,
                  "%s: %lld bytes, its manifest says %lld: cut or padded; use another checkpoint "
                  "of the run",
                  file, (long long)bytes, (long long)c->m.bytes);
        goto failed;
    }
    if (crc != c->m.crc) {
        st = fail(STATUS_DATA,
                  "%s: its checksum differs from the manifest's: damaged; use another checkpoint "
                  "of the run",
                  file);
        goto failed;
    }
    TRY_GOTO(failed, h5_open_read(file, &c->file));
    *out = c;
    return STATUS_OK;

failed:
    checkpoint_close(&c);
    return st;
}

void checkpoint_close(checkpoint **c)
{
    if (!*c)
        return;
    h5_close(&(*c)->file);
    manifest_free(&(*c)->m);
    free(*c);
    *c = NULL;
}

const checkpoint_header *checkpoint_head(const checkpoint *c)
{
    return &c->m.head;
}

int64_t checkpoint_tensors(const checkpoint *c, const checkpoint_tensor **list)
{
    *list = c->m.tensors;
    return c->m.n;
}

status checkpoint_read(checkpoint *c, const char *name, void *to, int64_t count)
{
    const checkpoint_tensor *t = NULL;
    for (int64_t i = 0; i < c->m.n && !t; i++)
        if (strcmp(c->m.tensors[i].name, name) == 0)
            t = &c->m.tensors[i];
    if (!t)
        return fail(STATUS_DATA, "%s: no tensor %s; the checkpoint is of another kind of run",
                    c->path, name);
    int64_t have = 1;
    for (int i = 0; i < t->ndim; i++)
        have *= t->shape[i];
    if (have != count)
        return fail(STATUS_DATA,
                    "%s: tensor %s has %lld elements, the model needs %lld; use the run's own "
                    "configuration",
                    c->path, name, (long long)have, (long long)count);
    if (count == 0)
        return STATUS_OK;
    hid_t type = t->kind == ELEMENT_F32   ? H5T_IEEE_F32LE
                 : t->kind == ELEMENT_I64 ? H5T_STD_I64LE
                 : t->kind == ELEMENT_I32 ? H5T_STD_I32LE
                                          : H5T_STD_U8LE;
    hid_t set = H5_NONE;
    TRY_H5(STATUS_DATA, c->path, set = H5Dopen2(c->file, name, H5P_DEFAULT));
    status st = STATUS_OK;
    hid_t space = H5Dget_space(set);
    if (space < 0 || H5Sget_simple_extent_npoints(space) != (hssize_t)count)
        st = fail(STATUS_DATA,
                  "%s: tensor %s has another size than its manifest says; use another checkpoint",
                  c->path, name);
    else if (H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) < 0)
        st = h5_fail_at(__FILE__, __LINE__, STATUS_DATA, c->path, "H5Dread");
    h5_close(&space);
    h5_close(&set);
    return st;
}

/* step-0000123.json -> 123, anything else -1. */
static int64_t step_of(const char *name, const char *end)
{
    long long step = -1;
    int n = 0;
    if (sscanf(name, "step-%lld%n", &step, &n) != 1 || step < 0 || strcmp(name + n, end) != 0)
        return -1;
    return step;
}

static int descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

status checkpoint_list(const char *dir, int64_t **steps, int64_t *n)
{
    *steps = NULL;
    *n = 0;
    DIR *d = opendir(dir);
    if (!d) {
        if (errno == ENOENT)
            return STATUS_OK;
        return fail(STATUS_DATA, "%s: %s; look at the folder's permissions", dir, strerror(errno));
    }
    int64_t room = 0;
    status st = STATUS_OK;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        int64_t step = step_of(e->d_name, ".json");
        if (step < 0)
            continue;
        if (*n == room) {
            room = room ? 2 * room : 16;
            int64_t *more = realloc(*steps, (size_t)room * sizeof **steps);
            if (!more) {
                st = fail(STATUS_MEMORY, "%s: no memory for the list of checkpoints; free some",
                          dir);
                break;
            }
            *steps = more;
        }
        (*steps)[(*n)++] = step;
    }
    closedir(d);
    if (st != STATUS_OK) {
        free(*steps);
        *steps = NULL;
        *n = 0;
        return st;
    }
    if (*n > 1)
        qsort(*steps, (size_t)*n, sizeof **steps, descending);
    return STATUS_OK;
}

int64_t checkpoint_pointed(const char *dir, const char *which)
{
    char path[1024], line[64] = "";
    snprintf(path, sizeof path, "%s/%s", dir, which);
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    if (!fgets(line, sizeof line, f))
        line[0] = '\0';
    fclose(f);
    line[strcspn(line, "\r\n")] = '\0';
    return step_of(line, ".h5");
}

/* What "latest" names, but without a manifest: said where an older one is left, else refused. */
static status pointed_is_listed(const char *dir, const int64_t *steps, int64_t n)
{
    int64_t pointed = checkpoint_pointed(dir, "latest");
    if (pointed < 0 || (n > 0 && steps[0] >= pointed))
        return STATUS_OK;
    char path[1024];
    checkpoint_path(dir, pointed, path);
    if (n == 0)
        return fail(
            STATUS_DATA,
            "%s: \"latest\" names it, but no checkpoint has its manifest (.json); bring the "
            "files back, or begin a new run",
            path);
    log_warning(
        "%s: \"latest\" names it, but its manifest (.json) is missing: passed over, an older "
        "checkpoint is tried",
        path);
    return STATUS_OK;
}

status checkpoint_newest(const char *dir, checkpoint **out)
{
    return checkpoint_newest_before(dir, INT64_MAX, out);
}

status checkpoint_newest_before(const char *dir, int64_t before, checkpoint **out)
{
    *out = NULL;
    int64_t *steps, n;
    TRY(checkpoint_list(dir, &steps, &n));
    status st = pointed_is_listed(dir, steps, n);
    for (int64_t i = 0; i < n; i++) {
        char path[1024];
        if (steps[i] >= before)
            continue;
        checkpoint_path(dir, steps[i], path);
        st = checkpoint_open(path, out);
        if (st == STATUS_OK && (*out)->m.head.step != steps[i]) {
            st = fail(STATUS_DATA, "%s: holds step %lld, so it is a copy; use another checkpoint",
                      path, (long long)(*out)->m.head.step);
            checkpoint_close(out);
        }
        if (st == STATUS_OK)
            break;
        if (i + 1 < n)
            log_warning("%s: passed over, an older checkpoint is tried", failure_last()->text);
    }
    free(steps);
    return st;
}

status checkpoint_named(const char *dir, const char *which, checkpoint **out)
{
    *out = NULL;
    int64_t step = checkpoint_pointed(dir, which);
    if (step < 0)
        return checkpoint_newest(dir, out);
    char path[1024];
    checkpoint_path(dir, step, path);
    status st = checkpoint_open(path, out);
    if (st == STATUS_OK)
        return STATUS_OK;
    log_warning("%s: passed over, the newest sound checkpoint is tried", failure_last()->text);
    st = checkpoint_newest(dir, out);
    if (st == STATUS_OK && !*out)
        return fail(STATUS_DATA, "%s: no sound checkpoint is left; start the run again", dir);
    return st;
}
