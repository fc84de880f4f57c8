/* Temporary name, write, fsync, rename, fsync of the folder. */
#include "io/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

status replace_begin(const char *path, replacement *r)
{
    /* A file-size limit must come back as an error (EFBIG), not end the process. */
    signal(SIGXFSZ, SIG_IGN);
    r->fd = -1;
    int n = snprintf(r->path, sizeof r->path, "%s", path);
    int m = snprintf(r->temporary, sizeof r->temporary, "%s.tmp-%ld", path, (long)getpid());
    if (n >= (int)sizeof r->path || m >= (int)sizeof r->temporary)
        return fail(STATUS_USAGE, "%.200s: the name is too long; choose a shorter one", path);
    r->fd = open(r->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (r->fd < 0)
        return fail(STATUS_RESOURCE, "%s: cannot be written: %s; choose another place", path,
                    strerror(errno));
    return STATUS_OK;
}

status replace_write(replacement *r, const void *data, size_t bytes)
{
    const char *p = data;
    while (bytes > 0) {
        ssize_t n = write(r->fd, p, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(STATUS_RESOURCE,
                        "%s: cannot be written: %s; free space or choose another place", r->path,
                        strerror(errno));
        p += n;
        bytes -= (size_t)n;
    }
    return STATUS_OK;
}

status sync_folder_of(const char *path)
{
    char folder[REPLACE_PATH];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash)
        snprintf(folder, sizeof folder, ".");
    else
        slash[slash == folder ? 1 : 0] = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail(STATUS_RESOURCE, "%s: %s; check the folder", folder, strerror(errno));
    int bad = fsync(fd);
    int reason = errno;
    close(fd);
    /* Some file systems cannot sync a folder; the file itself is safe. */
    if (bad && reason != EINVAL)
        return fail(STATUS_RESOURCE, "%s: %s; check the disk", folder, strerror(reason));
    return STATUS_OK;
}

status replace_end(replacement *r, status so_far)
{
    if (r->fd < 0)
        return so_far;
    if (so_far == STATUS_OK && fsync(r->fd) != 0)
        so_far = fail(STATUS_RESOURCE, "%s: cannot be synced: %s; check the disk", r->path,
                      strerror(errno));
    if (close(r->fd) != 0 && so_far == STATUS_OK)
        so_far = fail(STATUS_RESOURCE, "%s: cannot be closed: %s; check the disk", r->path,
                      strerror(errno));
    r->fd = -1;
    if (so_far == STATUS_OK && rename(r->temporary, r->path) != 0)
        so_far = fail(STATUS_RESOURCE, "%s: cannot take its name: %s; choose another place",
                      r->path, strerror(errno));
    if (so_far != STATUS_OK) {
        unlink(r->temporary);
        return so_far;
    }
    return sync_folder_of(r->path);
}

status replace_text(const char *path, const char *text)
{
    replacement r;
    TRY(replace_begin(path, &r));
    return replace_end(&r, replace_write(&r, text, strlen(text)));
}
