/* Writing a checkpoint: an HDF5 file of whole tensors is laid out under a temporary name, filled by
 * plain writes, synced, and renamed, and a manifest with sizes and checksums beside it, the
 * manifest last. A checkpoint is committed when its manifest is there. */
#include "io/checkpoint.h"
#include "io/checkpoint_manifest.h"
#include "io/h5.h"
#include "io/replace.h"
#include "io/reserve.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define PART ".h5.tmp"
#define HEAD_BYTES 65536 /* more than the metadata of a file and of a tensor take */
#define TENSOR_BYTES 1024

void checkpoint_path(const char *dir, int64_t step, char path[1024])
{
    snprintf(path, 1024, "%s/step-%07lld.h5", dir, (long long)step);
}

void checkpoint_part_path(const char *dir, int64_t step, char path[1100])
{
    snprintf(path, 1100, "%.1000s/step-%07lld" PART, dir, (long long)step);
}

int64_t checkpoint_element_bytes(element_kind kind)
{
    return kind == ELEMENT_I64 ? 8 : kind == ELEMENT_U8 ? 1 : 4;
}

int64_t checkpoint_tensor_bytes(const checkpoint_tensor *t)
{
    int64_t bytes = checkpoint_element_bytes(t->kind);
    for (int i = 0; i < t->ndim; i++)
        bytes *= t->shape[i];
    return bytes;
}

static hid_t element_type(element_kind kind)
{
    return kind == ELEMENT_F32   ? H5T_IEEE_F32LE
           : kind == ELEMENT_I64 ? H5T_STD_I64LE
           : kind == ELEMENT_I32 ? H5T_STD_I32LE
                                 : H5T_STD_U8LE;
}

/* ---- layout ---- */

/* One contiguous data set, allocated at once, groups on its way made. */
static status tensor_place(hid_t file, const char *path, hid_t link, hid_t create,
                           const checkpoint_tensor *t, int64_t *offset)
{
    status st = STATUS_OK;
    hsize_t dims[3] = {1, 1, 1};
    for (int i = 0; i < t->ndim; i++)
        dims[i] = (hsize_t)t->shape[i];
    hid_t space = H5_NONE, set = H5_NONE;
    TRY_H5_GOTO(done, STATUS_RESOURCE, path, space = H5Screate_simple(t->ndim, dims, NULL));
    TRY_H5_GOTO(
        done, STATUS_RESOURCE, path,
        set = H5Dcreate2(file, t->name, element_type(t->kind), space, link, create, H5P_DEFAULT));
    *offset = 0;
    if (checkpoint_tensor_bytes(t) > 0) {
        const haddr_t at = H5Dget_offset(set);
        if (at == HADDR_UNDEF)
            st = h5_fail_at(__FILE__, __LINE__, STATUS_RESOURCE, path, "H5Dget_offset");
        *offset = (int64_t)at;
    }
done:
    h5_close(&set);
    h5_close(&space);
    return st;
}

static status file_lay_out(const char *path, const checkpoint_header *h,
                           const checkpoint_tensor *tensors, int64_t n, int64_t *offset)
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
        TRY_GOTO(done, tensor_place(file, path, link, create, &tensors[i], &offset[i]));
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

status checkpoint_lay_out(const char *dir, const checkpoint_header *h,
                          const checkpoint_tensor *tensors, int64_t n, int64_t *offset)
{
    char part[1100];
    struct stat info;
    checkpoint_part_path(dir, h->step, part);
    /* HDF5's own message on a folder that refuses is a number: the system's is asked for first. */
    const int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return fail(STATUS_RESOURCE, "%s: %s; look at the folder's permissions and free space",
                    part, strerror(errno));
    close(fd);
    int64_t wanted = HEAD_BYTES + n * TENSOR_BYTES;
    for (int64_t i = 0; i < n; i++)
        wanted += checkpoint_tensor_bytes(&tensors[i]);
    /* HDF5 does not get over a disk that fills up under it: it is asked beforehand. */
    status st = reserve_room(part, wanted, wanted);
    if (st == STATUS_OK)
        st = file_lay_out(part, h, tensors, n, offset);
    if (st == STATUS_OK && stat(part, &info) != 0)
        st = fail(STATUS_RESOURCE, "%s: %s; look at the folder", part, strerror(errno));
    if (st == STATUS_OK)
        st = reserve_room(part, (int64_t)info.st_size, (int64_t)info.st_size);
    if (st != STATUS_OK)
        unlink(part);
    return st;
}

void checkpoint_discard(const char *dir, int64_t step)
{
    char part[1100];
    checkpoint_part_path(dir, step, part);
    unlink(part);
}

void checkpoint_sweep(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        const bool ours = strncmp(e->d_name, "step-", 5) == 0 ||
                          strncmp(e->d_name, "latest.", 7) == 0 ||
                          strncmp(e->d_name, "best.", 5) == 0;
        if (ours && strstr(e->d_name, ".tmp")) {
            char path[1400];
            snprintf(path, sizeof path, "%.1000s/%s", dir, e->d_name);
            unlink(path);
        }
    }
    if (d)
        closedir(d);
}

/* ---- commit ---- */

static int by_offset(const void *a, const void *b)
{
    const int64_t x = ((const checkpoint_piece *)a)->offset,
                  y = ((const checkpoint_piece *)b)->offset;
    return x < y ? -1 : x > y;
}

/* Adds the bytes [from, to) of the file to a checksum. */
static status sum_between(int fd, const char *path, int64_t from, int64_t to, uLong *sum)
{
    unsigned char block[4096];
    while (from < to) {
        const size_t want = to - from < (int64_t)sizeof block ? (size_t)(to - from) : sizeof block;
        const ssize_t n = pread(fd, block, want, (off_t)from);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(STATUS_RESOURCE, "%s: %s; look at the disk", path,
                        n < 0 ? strerror(errno) : "the file is shorter than it was written");
        *sum = crc32(*sum, block, (uInt)n);
        from += n;
    }
    return STATUS_OK;
}

/* Syncs the file, and makes its checksum of the pieces' and of what lies between them. */
static status sum_of_pieces(const char *path, int64_t wanted, checkpoint_piece *pieces, int64_t n,
                            int64_t *bytes, uint32_t *crc)
{
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || fsync(fd) != 0) {
        const int why = errno;
        if (fd >= 0)
            close(fd);
        return fail(STATUS_RESOURCE, "%s: %s; look at free space and quota", path, strerror(why));
    }
    if (n > 1)
        qsort(pieces, (size_t)n, sizeof *pieces, by_offset);
    uLong sum = crc32(0, NULL, 0);
    int64_t at = 0, covered = 0;
    status st = STATUS_OK;
    for (int64_t i = 0; i < n && st == STATUS_OK; i++) {
        if (pieces[i].offset < at || pieces[i].offset + pieces[i].bytes > info.st_size)
            st = fail(STATUS_INTERNAL, "%s: pieces overlap or leave the file; report this", path);
        if (st == STATUS_OK)
            st = sum_between(fd, path, at, pieces[i].offset, &sum);
        sum = crc32_combine(sum, pieces[i].crc, (z_off_t)pieces[i].bytes);
        at = pieces[i].offset + pieces[i].bytes;
        covered += pieces[i].bytes;
    }
    if (st == STATUS_OK && covered != wanted)
        st = fail(STATUS_INTERNAL, "%s: %lld bytes of %lld were written; report this", path,
                  (long long)covered, (long long)wanted);
    if (st == STATUS_OK)
        st = sum_between(fd, path, at, (int64_t)info.st_size, &sum);
    close(fd);
    *bytes = (int64_t)info.st_size;
    *crc = (uint32_t)sum;
    return st;
}

status checkpoint_commit(const char *dir, const checkpoint_header *h,
                         const checkpoint_tensor *tensors, int64_t n, checkpoint_piece *pieces,
                         int64_t n_pieces)
{
    char path[1024], part[1100], beside[1100], *text = NULL;
    int64_t bytes = 0, wanted = 0;
    uint32_t crc = 0;
    status st;
    checkpoint_path(dir, h->step, path);
    checkpoint_part_path(dir, h->step, part);
    checkpoint_manifest_path(path, beside);
    for (int64_t i = 0; i < n; i++)
        wanted += checkpoint_tensor_bytes(&tensors[i]);
    TRY_GOTO(failed, sum_of_pieces(part, wanted, pieces, n_pieces, &bytes, &crc));
    TRY_GOTO(failed, manifest_make(part, bytes, crc, h, tensors, n, &text));
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

/* ---- by one rank ---- */

static status put_all(int fd, const char *path, const void *data, int64_t bytes, int64_t at)
{
    for (const char *p = data; bytes > 0;) {
        const ssize_t n = pwrite(fd, p, (size_t)bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(STATUS_RESOURCE, "%s: %s; look at free space and quota", path,
                        strerror(errno));
        p += n;
        at += n;
        bytes -= n;
    }
    return STATUS_OK;
}

static uint32_t sum_of(const void *data, int64_t bytes)
{
    return (uint32_t)crc32_z(crc32(0, NULL, 0), data, (size_t)bytes);
}

static status fill(const char *path, const checkpoint_tensor *tensors, int64_t n,
                   const int64_t *offset, checkpoint_piece *pieces)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(STATUS_RESOURCE, "%s: %s; look at the folder", path, strerror(errno));
    status st = STATUS_OK;
    for (int64_t i = 0; i < n && st == STATUS_OK; i++) {
        const int64_t bytes = checkpoint_tensor_bytes(&tensors[i]);
        st = put_all(fd, path, tensors[i].data, bytes, offset[i]);
        pieces[i] = (checkpoint_piece){offset[i], bytes, 0};
        if (st == STATUS_OK && bytes > 0)
            pieces[i].crc = sum_of(tensors[i].data, bytes);
    }
    if (close(fd) != 0 && st == STATUS_OK)
        st = fail(STATUS_RESOURCE, "%s: %s; look at free space and quota", path, strerror(errno));
    return st;
}

status checkpoint_write(const char *dir, const checkpoint_header *h,
                        const checkpoint_tensor *tensors, int64_t n)
{
    char part[1100];
    int64_t *offset = calloc((size_t)n + 1, sizeof *offset), filled = 0;
    checkpoint_piece *pieces = calloc((size_t)n + 1, sizeof *pieces);
    checkpoint_part_path(dir, h->step, part);
    status st =
        offset && pieces ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more memory", part);
    if (st == STATUS_OK)
        st = checkpoint_lay_out(dir, h, tensors, n, offset);
    if (st == STATUS_OK) {
        st = fill(part, tensors, n, offset, pieces);
        for (int64_t i = 0; i < n; i++) /* empty ones have no place */
            if (pieces[i].bytes > 0)
                pieces[filled++] = pieces[i];
        if (st != STATUS_OK)
            checkpoint_discard(dir, h->step);
    }
    if (st == STATUS_OK)
        st = checkpoint_commit(dir, h, tensors, n, pieces, filled);
    free(offset);
    free(pieces);
    return st;
}

/* ---- pointers and pruning ---- */

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
