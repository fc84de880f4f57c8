/* safetensors files: published weights in and out. Every length, range, product, type and name of
 * such a file is hostile until checked. */
#ifndef CROCUTA_IO_SAFETENSORS_H
#define CROCUTA_IO_SAFETENSORS_H

#include "runtime/core/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *name;
    char dtype[8]; /* "F32", "F16", "BF16", "F64", "I64", ... */
    int64_t shape[8];
    int ndim;
    int64_t count;
    uint64_t begin, end; /* bytes in the data section */
} safetensor;

typedef struct {
    char *path;
    safetensor *tensors; /* in file order */
    int64_t n;
    char **meta_key, **meta_value;
    int64_t n_meta;
    uint64_t data_at; /* offset of the data section in the file */
    int fd;
} safetensors;

status safetensors_open(const char *path, safetensors **out);
void safetensors_close(safetensors **s);
const safetensor *safetensors_find(const safetensors *s, const char *name);
const char *safetensors_meta(const safetensors *s, const char *key); /* NULL where absent */
/* Reads a floating-point tensor of any width as fp32. */
status safetensors_read_f32(const safetensors *s, const safetensor *t, float *out);

/* Reads a tensor of integers of exactly this type ("I64", "I32", "U8"). */
status safetensors_read_integers(const safetensors *s, const safetensor *t, const char *dtype,
                                 void *out);

/* How many values of a floating-point tensor are not finite, and one warning that names up to three
 * such tensors of the file. */
status safetensors_not_finite(const safetensors *s, const safetensor *t, int64_t *nan,
                              int64_t *inf);
status safetensors_say_not_finite(const safetensors *s);

/* Writes tensors under a temporary name, then renames. */
typedef struct {
    const char *name;
    int64_t shape[4];
    int ndim;
    const char *dtype; /* "F32", "I64", "I32", "U8" */
    int64_t width;     /* bytes of an element */
    const void *data;
} safetensor_out;
status safetensors_write(const char *path, const safetensor_out *tensors, int64_t n,
                         const char *const *meta_key, const char *const *meta_value,
                         int64_t n_meta);

#endif
