/* Shared memory of a node: one rank makes an anonymous file in memory (memfd), the others open it
 * through /proc while its owner waits. */
#include "io/node_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void *map(size_t bytes, int fd)
{
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    return base == MAP_FAILED ? NULL : base;
}

/* The owner's descriptor as others can open it; -1 where the system has no such memory. */
static int create(size_t bytes, int64_t identity[2])
{
    int fd = memfd_create("crocuta", MFD_CLOEXEC);
    struct stat s;
    if (fd >= 0 && (ftruncate(fd, (off_t)bytes) != 0 || fstat(fd, &s) != 0)) {
        close(fd);
        return -1;
    }
    if (fd >= 0) {
        identity[0] = (int64_t)s.st_dev;
        identity[1] = (int64_t)s.st_ino;
    }
    return fd;
}

/* The owner's memory, or -1: in another process namespace that number may be any other file. */
static int open_owners(const int64_t owner[4])
{
    char name[64];
    struct stat s;
    snprintf(name, sizeof name, "/proc/%lld/fd/%lld", (long long)owner[0], (long long)owner[1]);
    if (stat(name, &s) != 0 || (int64_t)s.st_dev != owner[2] || (int64_t)s.st_ino != owner[3])
        return -1;
    return open(name, O_RDWR | O_CLOEXEC);
}

status node_memory_open(comm *node, size_t bytes, node_memory *m)
{
    int64_t owner[4] = {-1, -1, 0, 0}; /* process, descriptor, device and inode behind it */
    int fd = -1;
    memset(m, 0, sizeof *m);
    m->bytes = bytes ? bytes : 1;
    bool alone = comm_size(node) == 1;
    if (!alone && comm_rank(node) == 0) {
        fd = create(m->bytes, &owner[2]);
        owner[0] = (int64_t)getpid();
        owner[1] = fd;
    }
    status st = alone ? STATUS_OK : comm_bcast(node, owner, sizeof owner, 0);
    if (st == STATUS_OK && !alone && comm_rank(node) > 0 && owner[1] >= 0)
        fd = open_owners(owner);
    if (st == STATUS_OK && !alone) {
        m->base = fd >= 0 ? map(m->bytes, fd) : NULL;
        int64_t without = m->base == NULL;
        st = comm_sum_i64(node, &without, 1);
        m->shared = without == 0;
        if (!m->shared && m->base) {
            munmap(m->base, m->bytes);
            m->base = NULL;
        }
    }
    if (fd >= 0)
        close(fd);
    if (st == STATUS_OK && !m->base)
        m->base = map(m->bytes, -1);
    if (st == STATUS_OK && !m->base)
        st = fail(STATUS_MEMORY, "data set: %zu bytes of memory refused (%s); use a larger node",
                  m->bytes, strerror(errno));
    return comm_agree(node, st);
}

void node_memory_close(node_memory *m)
{
    if (m->base)
        munmap(m->base, m->bytes);
    memset(m, 0, sizeof *m);
}

void node_memory_freeze(node_memory *m)
{
    if (m->base)
        mprotect(m->base, m->bytes, PROT_READ);
}
