/* HDF5 out for `score`: see score_file.h. Written by one process, in chunks, so that places that no
 * row has take no room. */
#include "io/score_file.h"

#include "io/h5.h"
#include "io/replace.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_FLOATS ((int64_t)1 << 16)
#define NAME_ROOM 128 /* bytes of a name that are kept */

struct score_file {
    char path[REPLACE_PATH], temporary[REPLACE_PATH + 32];
    hid_t file, set, space;
    int64_t n, L, C, rows;
    char *names; /* (n, NAME_ROOM) */
    int64_t *starts, *lengths;
};

static status set_create(score_file *f, const char *name)
{
    const int ndim = f->L ? 3 : 2;
    const hsize_t dims[3] = {(hsize_t)f->n, (hsize_t)(f->L ? f->L : f->C), (hsize_t)f->C};
    int64_t places = CHUNK_FLOATS / f->C > 1 ? CHUNK_FLOATS / f->C : 1;
    if (f->L && places > f->L)
        places = f->L;
    const hsize_t chunk[3] = {1, (hsize_t)(f->L ? places : f->C), (hsize_t)f->C};
    const float nothing = NAN;
    hid_t how = H5_NONE;
    status st = STATUS_OK;
    TRY_H5_GOTO(done, STATUS_RESOURCE, f->path, how = H5Pcreate(H5P_DATASET_CREATE));
    TRY_H5_GOTO(done, STATUS_RESOURCE, f->path, H5Pset_chunk(how, ndim, chunk));
    TRY_H5_GOTO(done, STATUS_RESOURCE, f->path, H5Pset_fill_value(how, H5T_NATIVE_FLOAT, &nothing));
    TRY_H5_GOTO(done, STATUS_RESOURCE, f->path, f->space = H5Screate_simple(ndim, dims, NULL));
    TRY_H5_GOTO(done, STATUS_RESOURCE, f->path,
                f->set = H5Dcreate2(f->file, name, H5T_IEEE_F32LE, f->space, H5P_DEFAULT, how,
                                    H5P_DEFAULT));
done:
    h5_close(&how);
    return st;
}

status score_file_open(const char *path, const char *set, int64_t n, int64_t L, int64_t C,
                       score_file **out)
{
    score_file *f = *out = calloc(1, sizeof *f);
    if (!f)
        return fail(STATUS_MEMORY, "%s: no memory to write it; free some", path);
    h5_quiet();
    f->file = f->set = f->space = H5_NONE;
    f->n = n;
    f->L = L;
    f->C = C;
    snprintf(f->path, sizeof f->path, "%s", path);
    snprintf(f->temporary, sizeof f->temporary, "%s.tmp-%ld", f->path, (long)getpid());
    f->names = calloc((size_t)n, NAME_ROOM);
    f->starts = calloc((size_t)n, sizeof *f->starts);
    f->lengths = calloc((size_t)n, sizeof *f->lengths);
    status st = STATUS_OK;
    if (!f->names || !f->starts || !f->lengths)
        st = fail(STATUS_MEMORY, "%s: no memory for %lld names; score fewer sequences", path,
                  (long long)n);
    if (st == STATUS_OK) {
        f->file = H5Fcreate(f->temporary, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        st = f->file < 0 ? h5_fail_at(__FILE__, __LINE__, STATUS_RESOURCE, path, "H5Fcreate")
                         : set_create(f, set);
    }
    return st == STATUS_OK ? st : score_file_close(out, st);
}

status score_file_row(score_file *f, const char *name, int64_t start, int64_t length,
                      const float *x)
{
    if (f->rows == f->n || (f->L && length > f->L))
        return fail(STATUS_DATA, "%s: the sequences changed while they were read; run it again",
                    f->path);
    const int ndim = f->L ? 3 : 2;
    const hsize_t at[3] = {(hsize_t)f->rows, 0, 0};
    const hsize_t count[3] = {1, (hsize_t)(f->L ? length : f->C), (hsize_t)f->C};
    hid_t memory = H5_NONE;
    status st = STATUS_OK;
    TRY_H5_GOTO(done, STATUS_RESOURCE, f->path, memory = H5Screate_simple(ndim, count, NULL));
    TRY_H5_GOTO(done, STATUS_RESOURCE, f->path,
                H5Sselect_hyperslab(f->space, H5S_SELECT_SET, at, NULL, count, NULL));
    TRY_H5_GOTO(done, STATUS_RESOURCE, f->path,
                H5Dwrite(f->set, H5T_NATIVE_FLOAT, memory, f->space, H5P_DEFAULT, x));
    snprintf(f->names + f->rows * NAME_ROOM, NAME_ROOM, "%s", name);
    f->starts[f->rows] = start + 1;
    f->lengths[f->rows++] = length;
done:
    h5_close(&memory);
    return st;
}

static status write_column(const score_file *f, const char *name, hid_t stored, hid_t type,
                           const void *x)
{
    const hsize_t n = (hsize_t)f->n;
    hid_t space = H5_NONE, set = H5_NONE;
    status st = STATUS_OK;
    TRY_H5_GOTO(done, STATUS_RESOURCE, f->path, space = H5Screate_simple(1, &n, NULL));
    TRY_H5_GOTO(
        done, STATUS_RESOURCE, f->path,
        set = H5Dcreate2(f->file, name, stored, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    TRY_H5_GOTO(done, STATUS_RESOURCE, f->path,
                H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, x));
done:
    h5_close(&set);
    h5_close(&space);
    return st;
}

static status write_columns(const score_file *f)
{
    hid_t text = H5_NONE;
    TRY(h5_text_type(f->path, NAME_ROOM, &text));
    status st = write_column(f, "name", text, text, f->names);
    h5_close(&text);
    TRY(st);
    TRY(write_column(f, "start", H5T_STD_I64LE, H5T_NATIVE_INT64, f->starts));
    return write_column(f, "length", H5T_STD_I64LE, H5T_NATIVE_INT64, f->lengths);
}

status score_file_close(score_file **out, status so_far)
{
    score_file *f = *out;
    if (!f)
        return so_far;
    if (so_far == STATUS_OK)
        so_far = write_columns(f);
    h5_close(&f->set);
    h5_close(&f->space);
    if (f->file >= 0 && H5Fclose(f->file) < 0 && so_far == STATUS_OK)
        so_far = h5_fail_at(__FILE__, __LINE__, STATUS_RESOURCE, f->path, "H5Fclose");
    if (so_far == STATUS_OK && rename(f->temporary, f->path) != 0)
        so_far = fail(STATUS_RESOURCE, "%s: cannot take its name: %s; choose another place",
                      f->path, strerror(errno));
    if (so_far != STATUS_OK)
        unlink(f->temporary);
    free(f->names);
    free(f->starts);
    free(f->lengths);
    free(f);
    *out = NULL;
    return so_far;
}
