/* Journals: see journal.h. */
#include "runtime/train/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static status write_all(journal *j, const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(j->fd, text, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(STATUS_RESOURCE, "%s: %s; make room on the disk and resume", j->path,
                        strerror(errno));
        text += n;
        bytes -= (size_t)n;
    }
    j->unsynced = 1;
    return STATUS_OK;
}

status journal_open(journal *j, const char *dir, const char *name)
{
    snprintf(j->path, sizeof j->path, "%s/%s", dir, name);
    j->unsynced = 0;
    j->fd = open(j->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (j->fd < 0)
        return fail(STATUS_RESOURCE, "%s: %s; look at the folder's permissions", j->path,
                    strerror(errno));
    char last = '\n';
    off_t end = lseek(j->fd, 0, SEEK_END);
    if (end > 0 && pread(j->fd, &last, 1, end - 1) == 1 && last != '\n')
        return write_all(j, "\n", 1); /* the writer was killed inside a line */
    return STATUS_OK;
}

status journal_write(journal *j, json_t *object)
{
    if (!object)
        return fail(STATUS_MEMORY, "%s: no memory for a line; use more memory", j->path);
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    if (!text)
        return fail(STATUS_MEMORY, "%s: no memory for a line; use more memory", j->path);
    size_t n = strlen(text);
    text[n] = '\n'; /* in place of the terminating zero: one write, whole lines */
    status st = write_all(j, text, n + 1);
    free(text);
    return st;
}

status journal_sync(journal *j)
{
    if (j->fd < 0 || !j->unsynced)
        return STATUS_OK;
    if (fsync(j->fd) != 0 && errno != EINVAL)
        return fail(STATUS_RESOURCE, "%s: fsync: %s; look at the disk and resume", j->path,
                    strerror(errno));
    j->unsynced = 0;
    return STATUS_OK;
}

void journal_close(journal *j)
{
    if (j->fd >= 0)
        close(j->fd);
    j->fd = -1;
}
