/* The end of a stream's errors: a full disk is one, a pipe whose reader left is not. */
#include "runtime/core/stream.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

static bool reader_left(FILE *to)
{
    struct pollfd out = {.fd = fileno(to), .events = POLLOUT};
    return out.fd >= 0 && poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
}

status stream_written(FILE *to, const char *what)
{
    errno = 0;
    if (fflush(to) == 0 && !ferror(to))
        return STATUS_OK;
    const char *why = errno ? strerror(errno) : "not everything could be written";
    if (reader_left(to))
        return STATUS_OK;
    return fail(STATUS_RESOURCE, "%s: %s; make room or write it elsewhere", what, why);
}
