/* Seals: see seal.h. CRC-32 is zlib's, so that anybody can compute it; the ranks' shares are joined
 * by crc32_combine to the value of one pass. */
#include "io/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define SEAL_FORMAT "\ncrocuta dataset version %d bytes %020lld crc32 %08lx"
#define READ_BYTES ((size_t)4 << 20)

typedef struct {
    uint64_t crc;
    int64_t bytes;
} share;

static void seal_text(char text[SEAL_BYTES + 1], int version, int64_t bytes, uint64_t crc)
{
    int n =
        snprintf(text, SEAL_BYTES + 1, SEAL_FORMAT, version, (long long)bytes, (unsigned long)crc);
    memset(text + n, ' ', (size_t)(SEAL_BYTES - n));
    text[SEAL_BYTES - 1] = '\n';
    text[SEAL_BYTES] = 0;
}

/* CRC of bytes [from, from + bytes) of an open file. */
static status sum_range(const char *path, int fd, int64_t from, int64_t bytes, uint64_t *crc)
{
    unsigned char *buffer = malloc(READ_BYTES);
    if (!buffer)
        return fail(STATUS_MEMORY, "%s: no memory for a buffer; use more memory", path);
    uLong sum = crc32(0L, Z_NULL, 0);
    status st = STATUS_OK;
    while (bytes > 0) {
        size_t want = bytes < (int64_t)READ_BYTES ? (size_t)bytes : READ_BYTES;
        ssize_t got = pread(fd, buffer, want, (off_t)from);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            st = fail(STATUS_DATA, "%s: %s while reading; look at the disk and the file's owner",
                      path, got < 0 ? strerror(errno) : "the file became shorter");
            break;
        }
        sum = crc32(sum, buffer, (uInt)got);
        from += got;
        bytes -= got;
    }
    free(buffer);
    *crc = sum;
    return st;
}

/* CRC of the first `bytes` bytes; every rank reads its share and all get the value. */
static status sum_together(const char *path, comm *c, int fd, int64_t bytes, uint64_t *crc)
{
    int size = comm_size(c), rank = comm_rank(c);
    share mine = {0, bytes * (rank + 1) / size - bytes * rank / size};
    share *all = calloc((size_t)size, sizeof *all);
    status st = all ? sum_range(path, fd, bytes * rank / size, mine.bytes, &mine.crc)
                    : fail(STATUS_MEMORY, "%s: no memory; use more memory", path);
    st = comm_agree(c, st);
    if (st == STATUS_OK)
        st = comm_allgather(c, &mine, sizeof mine, all);
    if (st == STATUS_OK) {
        uLong sum = crc32(0L, Z_NULL, 0);
        for (int i = 0; i < size; i++)
            sum = crc32_combine(sum, (uLong)all[i].crc, (z_off_t)all[i].bytes);
        *crc = sum;
    }
    free(all);
    return st;
}

static status append(const char *path, const char *text, int64_t at)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(STATUS_RESOURCE, "%s: %s; look at the folder's permissions", path,
                    strerror(errno));
    status st = STATUS_OK;
    if (pwrite(fd, text, SEAL_BYTES, (off_t)at) != SEAL_BYTES || fsync(fd) != 0)
        st = fail(STATUS_RESOURCE, "%s: %s; free some disk space", path,
                  errno ? strerror(errno) : "short write");
    if (close(fd) != 0 && st == STATUS_OK)
        st = fail(STATUS_RESOURCE, "%s: %s; free some disk space", path, strerror(errno));
    return st;
}

static status open_sized(const char *path, int *fd, int64_t *bytes)
{
    struct stat s;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block */
    if (*fd < 0 || fstat(*fd, &s) != 0)
        return fail(STATUS_DATA, "%s: %s; give the path of a data set that `crocuta import` wrote",
                    path, strerror(errno));
    if (!S_ISREG(s.st_mode))
        return fail(STATUS_DATA,
                    "%s: not a plain file; give a data set that `crocuta import` wrote", path);
    *bytes = (int64_t)s.st_size;
    return STATUS_OK;
}

status seal_write(const char *path, comm *c, int version)
{
    int fd = -1;
    int64_t bytes = 0;
    uint64_t crc = 0;
    char text[SEAL_BYTES + 1];
    status st = comm_agree(c, open_sized(path, &fd, &bytes));
    if (st == STATUS_OK)
        st = sum_together(path, c, fd, bytes, &crc);
    if (st == STATUS_OK) {
        seal_text(text, version, bytes, crc);
        st = comm_agree(c, comm_rank(c) == 0 ? append(path, text, bytes) : STATUS_OK);
    }
    if (fd >= 0)
        close(fd);
    return st;
}

/* Reads and judges the seal itself; the sum is compared later. */
static status seal_read(const char *path, int fd, int64_t size, int version, uint64_t *crc)
{
    static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    char text[SEAL_BYTES + 1] = "", again[SEAL_BYTES + 1];
    unsigned char head[8] = {0};
    if (size == 0)
        return fail(STATUS_DATA, "%s: empty file; make it again with `crocuta import`", path);
    if (pread(fd, head, sizeof head, 0) != sizeof head || memcmp(head, signature, sizeof head))
        return fail(STATUS_DATA,
                    "%s: not an HDF5 file; give a data set that `crocuta import` wrote", path);
    if (size <= SEAL_BYTES ||
        pread(fd, text, SEAL_BYTES, (off_t)(size - SEAL_BYTES)) != SEAL_BYTES ||
        strncmp(text, "\ncrocuta dataset version ", 25))
        return fail(
            STATUS_DATA,
            "%s: HDF5, but not a finished Crocuta data set (of another program, cut, or left "
            "open by its writer); make it again with `crocuta import`",
            path);
    int found = 0;
    long long bytes = 0;
    unsigned long sum = 0;
    if (sscanf(text, SEAL_FORMAT, &found, &bytes, &sum) == 3 && found != version) {
        seal_text(again, found, bytes, sum);
        if (!memcmp(text, again, SEAL_BYTES))
            return fail(STATUS_DATA,
                        "%s: data set version %d, this program reads version %d; import it again",
                        path, found, version);
    }
    seal_text(again, version, size - SEAL_BYTES, sum);
    if (memcmp(text, again, SEAL_BYTES))
        return fail(STATUS_DATA, "%s: damaged (its seal does not fit the file); import it again",
                    path);
    *crc = sum;
    return STATUS_OK;
}

status seal_verify(const char *path, comm *c, int version)
{
    int fd = -1;
    int64_t bytes = 0;
    uint64_t crc = 0, want = 0;
    status st = open_sized(path, &fd, &bytes);
    if (st == STATUS_OK)
        st = seal_read(path, fd, bytes, version, &want);
    st = comm_agree(c, st);
    if (st == STATUS_OK)
        st = sum_together(path, c, fd, bytes - SEAL_BYTES, &crc);
    if (st == STATUS_OK && crc != want) /* the same on every rank */
        st = fail(
            STATUS_DATA,
            "%s: damaged (checksum %08lx, its seal says %08lx); restore a copy or import it again",
            path, (unsigned long)crc, (unsigned long)want);
    if (fd >= 0)
        close(fd);
    return comm_agree(c, st);
}
