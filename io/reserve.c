/* Reserving disk space: see reserve.h. */
#include "io/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static status full(const char *path, int64_t bytes, int error)
{
    return fail(STATUS_RESOURCE, "%s: %.1f MB are needed (%s); free some disk space", path,
                (double)bytes / 1e6, strerror(error));
}

status reserve_room(const char *path, int64_t least, int64_t best)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(STATUS_RESOURCE, "%s: %s; choose a folder that can be written", path,
                    strerror(errno));
    status st = STATUS_OK;
    struct rlimit limit; /* which a reservation behind the file's end does not meet */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        (double)limit.rlim_cur < (double)least)
        st = full(path, least, EFBIG);
    else if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)best) != 0 &&
             fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)least) != 0) {
        int error = errno;
        struct statvfs disk;
        if (error == ENOSPC || error == EDQUOT || error == EFBIG)
            st = full(path, least, error);
        else if (fstatvfs(fd, &disk) == 0 &&
                 (double)disk.f_bavail * (double)disk.f_frsize < (double)least)
            st = full(path, least, ENOSPC);
    }
    close(fd);
    return st;
}

status reserve_end(const char *path)
{
    struct stat s;
    /* one byte more and back: some file systems keep reserved blocks where the length stays */
    if (stat(path, &s) == 0 && truncate(path, s.st_size + 1) == 0 && truncate(path, s.st_size) == 0)
        return STATUS_OK;
    return fail(STATUS_RESOURCE, "%s: %s; free some disk space", path, strerror(errno));
}
