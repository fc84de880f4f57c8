/* HDF5 in and out for `trace`. The batch comes from other programs: type, shape and every value are
 * checked. */
#include "io/trace_file.h"

#include "io/h5.h"
#include "io/replace.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TARGET_NOTHING 255
#define COLUMNS_MOST ((int64_t)1 << 30)

static status shape_of(const char *path, hid_t set, const char *name, int ndim, int64_t *dims)
{
    hid_t space = H5_NONE, type = H5_NONE;
    status st = STATUS_OK;
    hsize_t have[2] = {0, 1};
    TRY_H5_GOTO(done, STATUS_DATA, path, space = H5Dget_space(set));
    TRY_H5_GOTO(done, STATUS_DATA, path, type = H5Dget_type(set));
    if (H5Tget_class(type) != H5T_INTEGER || H5Sget_simple_extent_ndims(space) != ndim ||
        H5Sget_simple_extent_dims(space, have, NULL) != ndim) {
        st = fail(STATUS_DATA,
                  "%s: /%s is no table of whole numbers with %d dimensions; write it as (B, L)",
                  path, name, ndim);
        goto done;
    }
    if (have[0] < 1 || have[1] < 1 || have[0] > (hsize_t)COLUMNS_MOST ||
        have[1] > (hsize_t)COLUMNS_MOST / have[0]) {
        st = fail(STATUS_DATA,
                  "%s: /%s has %llu x %llu values, 1 to 2^30 are possible; cut the batch", path,
                  name, (unsigned long long)have[0], (unsigned long long)have[1]);
        goto done;
    }
    for (int i = 0; i < ndim; i++)
        dims[i] = (int64_t)have[i];
done:
    h5_close(&type);
    h5_close(&space);
    return st;
}

/* A table of whole numbers as int64; dims: in, what it must be, or zeros: out, what it is. */
static status read_numbers(const char *path, hid_t file, const char *name, int ndim, int64_t *dims,
                           int64_t **out)
{
    hid_t set = H5_NONE;
    int64_t have[2] = {0, 1};
    int64_t *values = NULL;
    TRY_H5(STATUS_DATA, path, set = H5Dopen2(file, name, H5P_DEFAULT));
    status st = shape_of(path, set, name, ndim, have);
    if (st == STATUS_OK && dims[0] && (have[0] != dims[0] || (ndim > 1 && have[1] != dims[1])))
        st = fail(STATUS_DATA, "%s: /%s and /input_ids differ in shape; write both as (B, L)", path,
                  name);
    if (st == STATUS_OK) {
        memcpy(dims, have, (size_t)ndim * sizeof *have);
        values = malloc((size_t)(have[0] * have[1]) * sizeof *values);
        if (!values)
            st = fail(STATUS_MEMORY, "%s: no memory for /%s; cut the batch", path, name);
        else if (H5Dread(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
            st = h5_fail_at(__FILE__, __LINE__, STATUS_DATA, path, "H5Dread");
    }
    h5_close(&set);
    if (st != STATUS_OK)
        free(values);
    else
        *out = values;
    return st;
}

static status read_tokens(const char *path, hid_t file, const char *name, int vocabulary, bool none,
                          int64_t *dims, uint8_t **out)
{
    int64_t *values = NULL;
    TRY(read_numbers(path, file, name, 2, dims, &values));
    const int64_t n = dims[0] * dims[1];
    uint8_t *tokens = malloc((size_t)n);
    status st = tokens ? STATUS_OK
                       : fail(STATUS_MEMORY, "%s: no memory for /%s; cut the batch", path, name);
    for (int64_t i = 0; i < n && st == STATUS_OK; i++) {
        if (values[i] < 0 || (values[i] >= vocabulary && !(none && values[i] == TARGET_NOTHING)))
            st = fail(STATUS_DATA,
                      "%s: /%s holds %lld at (%lld, %lld), tokens are 0 to %d; correct it", path,
                      name, (long long)values[i], (long long)(i / dims[1]),
                      (long long)(i % dims[1]), vocabulary - 1);
        else
            tokens[i] = (uint8_t)values[i];
    }
    free(values);
    *out = tokens;
    return st;
}

static status read_positions(const char *path, hid_t file, trace_batch *b)
{
    if (H5Lexists(file, "position", H5P_DEFAULT) > 0) {
        int64_t dims[2] = {b->B, b->L};
        TRY(read_numbers(path, file, "position", 2, dims, &b->position));
    }
    if (H5Lexists(file, "chromosome", H5P_DEFAULT) > 0) {
        int64_t dims[2] = {b->B, 1}, *values = NULL;
        TRY(read_numbers(path, file, "chromosome", 1, dims, &values));
        b->chromosome = malloc((size_t)b->B * sizeof *b->chromosome);
        for (int64_t i = 0; b->chromosome && i < b->B; i++)
            b->chromosome[i] = values[i] < 0 || values[i] > INT32_MAX ? -1 : (int32_t)values[i];
        free(values);
        if (!b->chromosome)
            return fail(STATUS_MEMORY, "%s: no memory for /chromosome; cut the batch", path);
    }
    return STATUS_OK;
}

status trace_batch_read(const char *path, int vocabulary, bool targets, trace_batch *b)
{
    memset(b, 0, sizeof *b);
    if (access(path, R_OK) != 0)
        return fail(STATUS_DATA, "%s: %s; check the path", path, strerror(errno));
    hid_t file = H5_NONE;
    TRY(h5_open_read(path, &file));
    int64_t dims[2] = {0, 0};
    status st = STATUS_OK;
    if (H5Lexists(file, "input_ids", H5P_DEFAULT) <= 0)
        st = fail(STATUS_DATA, "%s: has no /input_ids; give a file of tokens (B, L)", path);
    if (st == STATUS_OK)
        st = read_tokens(path, file, "input_ids", vocabulary, false, dims, &b->ids);
    b->B = dims[0];
    b->L = dims[1];
    if (st == STATUS_OK && (targets || H5Lexists(file, "target_ids", H5P_DEFAULT) > 0))
        st = read_tokens(path, file, "target_ids", vocabulary, true, dims, &b->targets);
    if (st == STATUS_OK)
        st = read_positions(path, file, b);
    h5_close(&file);
    if (st != STATUS_OK)
        trace_batch_free(b);
    return st;
}

void trace_batch_free(trace_batch *b)
{
    free(b->ids);
    free(b->targets);
    free(b->position);
    free(b->chromosome);
    memset(b, 0, sizeof *b);
}

struct trace_writer {
    char path[REPLACE_PATH], temporary[REPLACE_PATH + 32];
    hid_t file, link;
};

status trace_writer_open(const char *path, trace_writer **out)
{
    *out = NULL;
    trace_writer *w = calloc(1, sizeof *w);
    if (!w)
        return fail(STATUS_MEMORY, "%s: no memory to write it; free some", path);
    h5_quiet();
    w->file = w->link = H5_NONE;
    snprintf(w->path, sizeof w->path, "%s", path);
    snprintf(w->temporary, sizeof w->temporary, "%s.tmp-%ld", w->path, (long)getpid());
    status st = STATUS_OK;
    TRY_H5_GOTO(failed, STATUS_RESOURCE, w->path,
                w->file = H5Fcreate(w->temporary, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    TRY_H5_GOTO(failed, STATUS_RESOURCE, w->path, w->link = H5Pcreate(H5P_LINK_CREATE));
    TRY_H5_GOTO(failed, STATUS_RESOURCE, w->path, H5Pset_create_intermediate_group(w->link, 1));
    *out = w;
    return STATUS_OK;
failed:
    return trace_writer_close(&w, st);
}

status trace_write(trace_writer *w, const char *name, trace_kind kind, int ndim,
                   const int64_t *dims, const void *data)
{
    hsize_t extent[4] = {1, 1, 1, 1};
    for (int i = 0; i < ndim; i++)
        extent[i] = (hsize_t)dims[i];
    const hid_t type = kind == TRACE_F32   ? H5T_IEEE_F32LE
                       : kind == TRACE_F64 ? H5T_IEEE_F64LE
                                           : H5T_STD_I64LE;
    hid_t space = H5_NONE, set = H5_NONE;
    status st = STATUS_OK;
    TRY_H5_GOTO(done, STATUS_RESOURCE, w->path,
                space = ndim ? H5Screate_simple(ndim, extent, NULL) : H5Screate(H5S_SCALAR));
    TRY_H5_GOTO(done, STATUS_RESOURCE, w->path,
                set = H5Dcreate2(w->file, name, type, space, w->link, H5P_DEFAULT, H5P_DEFAULT));
    if (H5Sget_simple_extent_npoints(space) > 0)
        TRY_H5_GOTO(done, STATUS_RESOURCE, w->path,
                    H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data));
done:
    h5_close(&set);
    h5_close(&space);
    return st;
}

status trace_writer_close(trace_writer **w, status so_far)
{
    if (!*w)
        return so_far;
    h5_close(&(*w)->link);
    if ((*w)->file >= 0 && H5Fclose((*w)->file) < 0 && so_far == STATUS_OK)
        so_far = h5_fail_at(__FILE__, __LINE__, STATUS_RESOURCE, (*w)->path, "H5Fclose");
    if (so_far == STATUS_OK && rename((*w)->temporary, (*w)->path) != 0)
        so_far = fail(STATUS_RESOURCE, "%s: cannot take its name: %s; choose another place",
                      (*w)->path, strerror(errno));
    if (so_far != STATUS_OK)
        unlink((*w)->temporary);
    free(*w);
    *w = NULL;
    return so_far;
}
