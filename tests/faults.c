/* Faults of a system, for tests of whole programs: loaded before the C library (LD_PRELOAD), it
 * makes one kind of call fail, or ends the process there. FAULT is CALL:PATH:WHAT[:RANK]: rename or
 * pwrite or read; a part of the path that the call must name; an error number, or `kill`; and the
 * rank to which it happens (any). Nothing of it is part of the product. */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    int read; /* FAULT was looked at */
    char call[16], path[128], what[16];
    int here;
} fault;

static int due(const char *call, const char *path)
{
    if (!fault.read) {
        const char *text = getenv("FAULT"), *rank = getenv("OMPI_COMM_WORLD_RANK");
        int wanted = -1;
        fault.read = 1;
        if (text && sscanf(text, "%15[^:]:%127[^:]:%15[^:]:%d", fault.call, fault.path, fault.what,
                           &wanted) >= 3)
            fault.here = wanted < 0 || wanted == (rank ? atoi(rank) : 0);
    }
    if (!fault.here || strcmp(call, fault.call) != 0 || !path || !strstr(path, fault.path))
        return 0;
    if (strcmp(fault.what, "kill") == 0)
        kill(getpid(), SIGKILL);
    errno = atoi(fault.what);
    return 1;
}

static const char *path_of(int fd, char name[512])
{
    char link[64];
    const int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, name, 511);
    name[n > 0 ? n : 0] = '\0';
    errno = before;
    return name;
}

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) = (int (*)(const char *, const char *))next("rename");
    return due("rename", to) ? -1 : real(from, to);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    char name[512];
    ssize_t (*real)(int, const void *, size_t, off_t) =
        (ssize_t(*)(int, const void *, size_t, off_t))next("pwrite");
    return due("pwrite", path_of(fd, name)) ? -1 : real(fd, data, bytes, at);
}

ssize_t read(int fd, void *data, size_t bytes)
{
    char name[512];
    ssize_t (*real)(int, void *, size_t) = (ssize_t(*)(int, void *, size_t))next("read");
    return due("read", path_of(fd, name)) ? -1 : real(fd, data, bytes);
}

ssize_t pread(int fd, void *data, size_t bytes, off_t at)
{
    char name[512];
    ssize_t (*real)(int, void *, size_t, off_t) =
        (ssize_t(*)(int, void *, size_t, off_t))next("pread");
    return due("read", path_of(fd, name)) ? -1 : real(fd, data, bytes, at);
}
