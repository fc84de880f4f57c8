/* Checked HDF5: see h5.h. Kept apart from what the files mean, so that data set and checkpoint
 * share it. */
#include "io/h5.h"

#include "io/dataset_format.h"

#include <stdlib.h>
#include <string.h>

void h5_quiet(void)
{
    /* A file whose last flush failed (disk full) stays open in the library, whose exit handler then
     * crashes on it; we close what we open, so the handler has nothing to do. It counts only before
     * the library's first use. */
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* Keeps the description of the innermost error: the first that H5E_WALK_UPWARD visits. */
static herr_t innermost(unsigned n, const H5E_error2_t *error, void *to)
{
    if (n == 0 && error->desc)
        snprintf(to, 160, "%s", error->desc);
    return 0;
}

status h5_fail_at(const char *source, int line, status code, const char *path, const char *call)
{
    char reason[160] = "no reason given", name[64] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, reason);
    H5Eclear2(H5E_DEFAULT);
    const char *begin = strstr(call, "H5"); /* "id = H5Dopen2(...)": only the name */
    size_t n = begin ? strcspn(begin, "( ") : 0;
    snprintf(name, sizeof name, "%.*s", (int)(n < 60 ? n : 60), begin ? begin : "");
    const char *advice = code == STATUS_DATA ? "the file is damaged or not ours: make it again"
                         : code == STATUS_RESOURCE
                             ? "look at free space and permissions of the folder"
                             : "this should not happen: run `crocuta doctor` and report it";
    return fail_at(source, line, code, "%s: HDF5 failed in %s (%s); %s", path, name, reason,
                   advice);
}

void h5_close(hid_t *id)
{
    if (*id >= 0)
        H5Idec_ref(*id);
    *id = H5_NONE;
}

status h5_open_read(const char *path, hid_t *file)
{
    h5_quiet();
    TRY_H5(STATUS_DATA, path, *file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT));
    return STATUS_OK;
}

status h5_text_type(const char *path, size_t size, hid_t *type)
{
    TRY_H5(STATUS_INTERNAL, path, *type = H5Tcopy(H5T_C_S1));
    if (H5Tset_size(*type, size ? size : 1) < 0 || H5Tset_strpad(*type, H5T_STR_NULLPAD) < 0) {
        h5_close(type);
        return h5_fail_at(__FILE__, __LINE__, STATUS_INTERNAL, path, "H5Tset_size");
    }
    return STATUS_OK;
}

static status put(hid_t at, const char *path, const char *name, hid_t type, const void *value)
{
    status st = STATUS_OK;
    hid_t space = H5_NONE, attribute = H5_NONE;
    TRY_H5_GOTO(done, STATUS_RESOURCE, path, space = H5Screate(H5S_SCALAR));
    TRY_H5_GOTO(done, STATUS_RESOURCE, path,
                attribute = H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT));
    TRY_H5_GOTO(done, STATUS_RESOURCE, path, H5Awrite(attribute, type, value));
done:
    h5_close(&attribute);
    h5_close(&space);
    return st;
}

status h5_put_text(hid_t at, const char *path, const char *name, const char *value)
{
    hid_t type = H5_NONE;
    TRY(h5_text_type(path, strlen(value), &type));
    status st = put(at, path, name, type, value);
    h5_close(&type);
    return st;
}

status h5_put_i64(hid_t at, const char *path, const char *name, int64_t value)
{
    return put(at, path, name, H5T_STD_I64LE, &value);
}

bool h5_has_attribute(hid_t at, const char *name)
{
    h5_quiet();
    return H5Aexists(at, name) > 0;
}

/* Opens a scalar attribute and its type. */
static status attribute_open(hid_t at, const char *path, const char *name, hid_t *attribute,
                             hid_t *type)
{
    status st = STATUS_OK;
    hid_t space = H5_NONE;
    *attribute = *type = H5_NONE;
    if (H5Aexists(at, name) <= 0)
        return fail(STATUS_DATA,
                    "%s: no attribute `%s`; not a file of this program or damaged: make it again",
                    path, name);
    TRY_H5_GOTO(done, STATUS_DATA, path, *attribute = H5Aopen(at, name, H5P_DEFAULT));
    TRY_H5_GOTO(done, STATUS_DATA, path, space = H5Aget_space(*attribute));
    TRY_H5_GOTO(done, STATUS_DATA, path, *type = H5Aget_type(*attribute));
    if (H5Sget_simple_extent_type(space) != H5S_SCALAR)
        st = fail(STATUS_DATA, "%s: attribute `%s` is not a single value; make the file again",
                  path, name);
done:
    h5_close(&space);
    if (st != STATUS_OK) {
        h5_close(attribute);
        h5_close(type);
    }
    return st;
}

status h5_get_text(hid_t at, const char *path, const char *name, char *to, size_t size)
{
    hid_t attribute, type;
    TRY(attribute_open(at, path, name, &attribute, &type));
    status st = STATUS_OK;
    size_t length = H5Tget_size(type);
    char *text = NULL;
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 || length == 0 ||
        length > size) {
        st = fail(STATUS_DATA,
                  "%s: attribute `%s` is no text of at most %zu bytes; make the file again", path,
                  name, size);
        goto done;
    }
    text = calloc(1, length + 1);
    if (!text) {
        st = fail(STATUS_MEMORY, "%s: no memory for attribute `%s`; use more memory", path, name);
        goto done;
    }
    TRY_H5_GOTO(done, STATUS_DATA, path, H5Aread(attribute, type, text));
    if (strlen(text) >= size)
        st = fail(STATUS_DATA, "%s: attribute `%s` is longer than %zu bytes; make the file again",
                  path, name, size - 1);
    else
        strcpy(to, text);
done:
    free(text);
    h5_close(&type);
    h5_close(&attribute);
    return st;
}

status h5_get_i64(hid_t at, const char *path, const char *name, int64_t *to)
{
    hid_t attribute, type;
    TRY(attribute_open(at, path, name, &attribute, &type));
    status st = STATUS_OK;
    if (H5Tequal(type, H5T_STD_I64LE) <= 0)
        st = fail(STATUS_DATA, "%s: attribute `%s` is no 64-bit integer; make the file again", path,
                  name);
    else if (H5Aread(attribute, H5T_NATIVE_INT64, to) < 0)
        st = h5_fail_at(__FILE__, __LINE__, STATUS_DATA, path, "H5Aread");
    h5_close(&type);
    h5_close(&attribute);
    return st;
}

/* Each component of /a/b must be a hard link: an external or soft one would read another file or
 * loop. */
static status links_are_hard(hid_t file, const char *path, const char *name)
{
    char prefix[256];
    if (strlen(name) >= sizeof prefix)
        return fail(STATUS_INTERNAL, "%s: name %.40s... is too long; shorten it", path, name);
    strcpy(prefix, name);
    for (char *cut = strchr(prefix + 1, '/');; cut = strchr(cut + 1, '/')) {
        if (cut)
            *cut = 0;
        H5L_info_t info;
        if (H5Lexists(file, prefix, H5P_DEFAULT) <= 0)
            return fail(STATUS_DATA,
                        "%s: no %s in it; damaged or of another version: make it again", path,
                        prefix);
        if (H5Lget_info(file, prefix, &info, H5P_DEFAULT) < 0 || info.type != H5L_TYPE_HARD)
            return fail(STATUS_DATA, "%s: %s is a link to elsewhere; make the file again", path,
                        prefix);
        if (!cut)
            return STATUS_OK;
        *cut = '/';
    }
}

status h5_open_column(hid_t file, const char *path, const char *name, hid_t type, int ndim,
                      const int64_t *dims, hid_t *set, int64_t *length)
{
    *set = H5_NONE;
    TRY(links_are_hard(file, path, name));
    status st = STATUS_OK;
    hid_t space = H5_NONE, stored = H5_NONE;
    H5O_info_t info;
    hsize_t have[2] = {0, 0};
    TRY_H5_GOTO(done, STATUS_DATA, path,
                H5Oget_info_by_name2(file, name, &info, H5O_INFO_BASIC, H5P_DEFAULT));
    if (info.type != H5O_TYPE_DATASET) {
        st = fail(STATUS_DATA, "%s: %s is no data set; make the file again", path, name);
        goto done;
    }
    TRY_H5_GOTO(done, STATUS_DATA, path, *set = H5Dopen2(file, name, H5P_DEFAULT));
    TRY_H5_GOTO(done, STATUS_DATA, path, stored = H5Dget_type(*set));
    TRY_H5_GOTO(done, STATUS_DATA, path, space = H5Dget_space(*set));
    if (type != H5_NONE && H5Tequal(stored, type) <= 0) {
        st = fail(STATUS_DATA, "%s: %s has another type than this program writes; make it again",
                  path, name);
        goto done;
    }
    if (H5Sget_simple_extent_ndims(space) != ndim || ndim > 2 ||
        H5Sget_simple_extent_dims(space, have, NULL) < 0) {
        st = fail(STATUS_DATA, "%s: %s must have %d dimension(s); make the file again", path, name,
                  ndim);
        goto done;
    }
    for (int i = 0; dims && i < ndim; i++)
        if (have[i] != (hsize_t)dims[i]) {
            st = fail(STATUS_DATA, "%s: %s has length %llu, must be %lld; make the file again",
                      path, name, (unsigned long long)have[i], (long long)dims[i]);
            goto done;
        }
    if (length)
        *length = (int64_t)have[0];
done:
    h5_close(&stored);
    h5_close(&space);
    if (st != STATUS_OK)
        h5_close(set);
    return st;
}

status h5_read_column(hid_t file, const char *path, const char *name, hid_t type, int ndim,
                      const int64_t *dims, void *to)
{
    hid_t set;
    TRY(h5_open_column(file, path, name, type, ndim, dims, &set, NULL));
    status st = STATUS_OK;
    TRY_H5_GOTO(done, STATUS_DATA, path, H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to));
done:
    h5_close(&set);
    return st;
}

status h5_read_texts(hid_t file, const char *path, const char *name, int64_t count, char **texts,
                     size_t *stride)
{
    *texts = NULL;
    hid_t set = H5_NONE, type = H5_NONE, memory = H5_NONE;
    TRY(h5_open_column(file, path, name, H5_NONE, 1, &count, &set, NULL));
    status st = STATUS_OK;
    TRY_H5_GOTO(done, STATUS_DATA, path, type = H5Dget_type(set));
    size_t size = H5Tget_size(type);
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 || size == 0 ||
        size > DATASET_TEXT_MOST + 1) {
        st = fail(STATUS_DATA, "%s: %s holds no texts of fixed length; make the file again", path,
                  name);
        goto done;
    }
    *stride = size + 1;
    *texts = calloc((size_t)count + 1, *stride);
    if (!*texts) {
        st = fail(STATUS_MEMORY, "%s: no memory for %s; use more memory", path, name);
        goto done;
    }
    /* one byte more than stored, null-terminated: the library fills each text up with zeros */
    TRY_H5_GOTO(done, STATUS_DATA, path, memory = H5Tcopy(type));
    TRY_H5_GOTO(done, STATUS_DATA, path, H5Tset_size(memory, *stride));
    TRY_H5_GOTO(done, STATUS_DATA, path, H5Tset_strpad(memory, H5T_STR_NULLTERM));
    TRY_H5_GOTO(done, STATUS_DATA, path,
                H5Dread(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, *texts));
done:
    h5_close(&memory);
    h5_close(&type);
    h5_close(&set);
    if (st != STATUS_OK) {
        free(*texts);
        *texts = NULL;
    }
    return st;
}
