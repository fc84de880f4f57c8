/* Writing a checkpoint: whole tensors into one HDF5 file under a temporary name, a manifest with
 * sizes and checksums beside it, both synced and renamed, the manifest last. A checkpoint is
 * committed when its manifest is there. */
#include "io/checkpoint.h"
#include "io/checkpoint_manifest.h"
#include "io/h5.h"
#include "io/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void checkpoint_path(const char *dir, int64_t step, char path[1024])
{
    snprintf(path, 1024, "%s/step-%07lld.h5", dir, (long long)step);
}

static status file_sync(const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fsync(fd) != 0) {
        int why = errno;
        if (fd >= 0)
            close(fd);
        return fail(STATUS_RESOURCE, "%s: fsync: %s; look at free space and quota", path,
                    strerror(why));
    }
    close(fd);
    return STATUS_OK;
}

static hid_t element_type(element_kind kind)
{
    return kind == ELEMENT_F32   ? H5T_IEEE_F32LE
           : kind == ELEMENT_I64 ? H5T_STD_I64LE
           : kind == ELEMENT_I32 ? H5T_STD_I32LE
                                 : H5T_STD_U8LE;
}

/* One contiguous data set, laid out at once, groups on its way made. */
static status tensor_put(hid_t file, const char *path, hid_t link, hid_t create,
                         const checkpoint_tensor *t)
{
    status st = STATUS_OK;
    hsize_t dims[3] = {1, 1, 1};
    int64_t count = 1;
    for (int i = 0; i < t->ndim; i++) {
        dims[i] = (hsize_t)t->shape[i];
        count *= t->shape[i];
    }
    hid_t space = H5_NONE, set = H5_NONE;
    TRY_H5_GOTO(done, STATUS_RESOURCE, path, space = H5Screate_simple(t->ndim, dims, NULL));
    TRY_H5_GOTO(
        done, STATUS_RESOURCE, path,
        set = H5Dcreate2(file, t->name, element_type(t->kind), space, link, create, H5P_DEFAULT));
    if (count > 0)
        TRY_H5_GOTO(done, STATUS_RESOURCE, path,
                    H5Dwrite(set, element_type(t->kind), H5S_ALL, H5S_ALL, H5P_DEFAULT, t->data));
done:
    h5_close(&set);
    h5_close(&space);
    return st;
}

static status file_put(const char *path, const checkpoint_header *h,
                       const checkpoint_tensor *tensors, int64_t n)
{
    status st = STATUS_OK;
    hid_t file = H5_NONE, link = H5_NONE, create = H5_NONE;
    h5_quiet();
    TRY_H5_GOTO(done, STATUS_RESOURCE, path,
                file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    TRY_H5_GOTO(done, STATUS_RESOURCE, path, link = H5Pcreate(H5P_LINK_CREATE));
    TRY_H5_GOTO(done, STATUS_RESOURCE, path, H5Pset_create_intermediate_group(link, 1));
    TRY_H5_GOTO(done, STATUS_RESOURCE, path, create = H5Pcreate(H5P_DATASET_CREATE));
    TRY_H5_GOTO(done, STATUS_RESOURCE, path, H5Pset_layout(create, H5D_CONTIGUOUS));
    TRY_H5_GOTO(done, STATUS_RESOURCE, path, H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY));
    TRY_H5_GOTO(done, STATUS_RESOURCE, path, H5Pset_fill_time(create, H5D_FILL_TIME_NEVER));
    TRY_GOTO(done, h5_put_text(file, path, "program", "crocuta"));
    TRY_GOTO(done, h5_put_text(file, path, "kind", "checkpoint"));
    TRY_GOTO(done, h5_put_i64(file, path, "version", CHECKPOINT_VERSION));
    TRY_GOTO(done, h5_put_i64(file, path, "step", h->step));
    for (int64_t i = 0; i < n; i++)
        TRY_GOTO(done, tensor_put(file, path, link, create, &tensors[i]));
    TRY_H5_GOTO(done, STATUS_RESOURCE, path, H5Fflush(file, H5F_SCOPE_GLOBAL));
done:
    h5_close(&create);
    h5_close(&link);
    if (file >= 0) {
        /* Closing writes too: a full disk may show only here. */
        if (H5Fclose(file) < 0 && st == STATUS_OK)
            st = h5_fail_at(__FILE__, __LINE__, STATUS_RESOURCE, path, "H5Fclose");
        H5Eclear2(H5E_DEFAULT);
    }
    return st;
}

status checkpoint_write(const char *dir, const checkpoint_header *h,
                        const checkpoint_tensor *tensors, int64_t n)
{
    char path[1024], part[1100], beside[1100];
    checkpoint_path(dir, h->step, path);
    snprintf(part, sizeof part, "%s.tmp", path);
    checkpoint_manifest_path(path, beside);

    char *text = NULL;
    status st;
    TRY_GOTO(failed, file_put(part, h, tensors, n));
    TRY_GOTO(failed, file_sync(part));
    TRY_GOTO(failed, manifest_make(part, h, tensors, n, &text));
    /* An older checkpoint of this very step (a run that was resumed from before it) stops being one
     * first. */
    unlink(beside);
    if (rename(part, path) != 0) {
        st = fail(STATUS_RESOURCE, "%s: %s; look at the folder's permissions", path,
                  strerror(errno));
        goto failed;
    }
    st = replace_text(beside, text);
    if (st != STATUS_OK) {
        unlink(beside); /* one without the other is no checkpoint: it only fills the disk */
        unlink(path);
        goto failed;
    }
    free(text);
    return STATUS_OK;

failed:
    unlink(part);
    free(text);
    return st;
}

status checkpoint_point(const char *dir, const char *which, int64_t step)
{
    char path[1024], line[64];
    snprintf(path, sizeof path, "%s/%s", dir, which);
    snprintf(line, sizeof line, "step-%07lld.h5\n", (long long)step);
    return replace_text(path, line);
}

status checkpoint_prune(const char *dir, int64_t keep, int64_t *removed)
{
    *removed = 0;
    int64_t *steps = NULL, n = 0;
    TRY(checkpoint_list(dir, &steps, &n));
    int64_t latest = checkpoint_pointed(dir, "latest"), best = checkpoint_pointed(dir, "best");
    if (keep < 2)
        keep = 2;
    status st = STATUS_OK;
    for (int64_t i = keep; i < n; i++) {
        if (steps[i] == latest || steps[i] == best)
            continue;
        char path[1024], beside[1100];
        checkpoint_path(dir, steps[i], path);
        checkpoint_manifest_path(path, beside);
        if (unlink(beside) != 0 || unlink(path) != 0) {
            st = fail(STATUS_RESOURCE,
                      "%s: cannot be removed (%s); look at the folder's permissions", path,
                      strerror(errno));
            break;
        }
        ++*removed;
    }
    free(steps);
    return st;
}
