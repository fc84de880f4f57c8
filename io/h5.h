/* HDF5 with every return checked: the library's own error stack stays silent, its innermost reason
 * goes into our one line, and every object is closed on every path. Whatever is read is held
 * against its type, rank and length first; only hard links are followed. */
#ifndef CROCUTA_IO_H5_H
#define CROCUTA_IO_H5_H

#include "runtime/core/status.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define H5_NONE ((hid_t)-1) /* an object that is not open */

/* The library never prints. Call before the first HDF5 call of a thread of work; cheap. */
void h5_quiet(void);

/* The failure of a call: "PATH: HDF5 failed in CALL (its reason); ADVICE by the code". */
status h5_fail_at(const char *source, int line, status code, const char *path, const char *call);

/* HDF5 says failure by a negative number, whatever the type. */
#define TRY_H5(code, path, call)                                                                   \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            return h5_fail_at(__FILE__, __LINE__, (code), (path), #call);                          \
    } while (0)

/* The same with one clean-up label; `st` is the function's status variable. */
#define TRY_H5_GOTO(label, code, path, call)                                                       \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            st = h5_fail_at(__FILE__, __LINE__, (code), (path), #call);                            \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)

/* Closes an object of any kind (file, group, data set, type, space, property list) and marks it
 * closed. */
void h5_close(hid_t *id);

/* Opens a file for reading by this process alone. STATUS_DATA where it cannot be. */
status h5_open_read(const char *path, hid_t *file);

/* A text type of exactly `size` bytes, padded with zeros: names are bytes, no character set is
 * claimed. */
status h5_text_type(const char *path, size_t size, hid_t *type);

/* Attributes of an object. Texts are stored with their own length; numbers as 64-bit integers. */
status h5_put_text(hid_t at, const char *path, const char *name, const char *value);
status h5_put_i64(hid_t at, const char *path, const char *name, int64_t value);
status h5_get_text(hid_t at, const char *path, const char *name, char *to, size_t size);
status h5_get_i64(hid_t at, const char *path, const char *name, int64_t *to);
bool h5_has_attribute(hid_t at, const char *name);

/* Opens a data set by its absolute name after every link on the way was found to be hard; it must
 * have the file type `type` (H5_NONE: any) and exactly the shape dims[ndim] (dims NULL: one
 * dimension of any length, returned in *length). */
status h5_open_column(hid_t file, const char *path, const char *name, hid_t type, int ndim,
                      const int64_t *dims, hid_t *set, int64_t *length);

/* A whole one- or two-dimensional data set, checked as above, into memory of the same type. */
status h5_read_column(hid_t file, const char *path, const char *name, hid_t type, int ndim,
                      const int64_t *dims, void *to);

/* Names of fixed length, as one block of `count` texts that each end in a zero byte: *stride bytes
 * each; the caller frees *texts. */
status h5_read_texts(hid_t file, const char *path, const char *name, int64_t count, char **texts,
                     size_t *stride);

#endif
