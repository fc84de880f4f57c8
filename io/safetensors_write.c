/* Writing safetensors: header and data go to a temporary name beside the target, are synced and
 * renamed, so that a reader never sees half of a file. */
#include "io/safetensors.h"

#include "io/replace.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *header_of(const safetensor_out *tensors, int64_t n, const char *const *meta_key,
                         const char *const *meta_value, int64_t n_meta)
{
    json_t *root = json_object();
    if (n_meta > 0) {
        json_t *meta = json_object();
        for (int64_t i = 0; i < n_meta; i++)
            json_object_set_new(meta, meta_key[i], json_string(meta_value[i]));
        json_object_set_new(root, "__metadata__", meta);
    }
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        json_t *shape = json_array();
        int64_t count = 1;
        for (int j = 0; j < tensors[i].ndim; j++) {
            json_array_append_new(shape, json_integer(tensors[i].shape[j]));
            count *= tensors[i].shape[j];
        }
        const int64_t end = at + count * tensors[i].width;
        json_object_set_new(root, tensors[i].name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensors[i].dtype, "shape",
                                      shape, "data_offsets", (json_int_t)at, (json_int_t)end));
        at = end;
    }
    return root;
}

status safetensors_write(const char *path, const safetensor_out *tensors, int64_t n,
                         const char *const *meta_key, const char *const *meta_value, int64_t n_meta)
{
    json_t *root = header_of(tensors, n, meta_key, meta_value, n_meta);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text)
        return fail(STATUS_INTERNAL,
                    "%s: its header cannot be written (a name that is no UTF-8?); rename it", path);
    replacement r;
    status st = replace_begin(path, &r);
    if (st == STATUS_OK) {
        const size_t length = strlen(text),
                     padded = (length + 7) / 8 * 8; /* data aligned to 8 bytes */
        unsigned char le[8];
        for (int i = 0; i < 8; i++)
            le[i] = (unsigned char)((uint64_t)padded >> 8 * i);
        static const char blanks[8] = "       ";
        st = replace_write(&r, le, sizeof le);
        if (st == STATUS_OK)
            st = replace_write(&r, text, length);
        if (st == STATUS_OK)
            st = replace_write(&r, blanks, padded - length);
        for (int64_t i = 0; i < n && st == STATUS_OK; i++) {
            int64_t count = 1;
            for (int j = 0; j < tensors[i].ndim; j++)
                count *= tensors[i].shape[j];
            st = replace_write(&r, tensors[i].data, (size_t)(count * tensors[i].width));
        }
        st = replace_end(&r, st);
    }
    free(text);
    return st;
}
