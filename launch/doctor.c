/* Findings, and the probe of the working folder: does a file that was synced and renamed hold what
 * was written? */
#include "launch/doctor.h"

#include "io/h5_probe.h"
#include "runtime/core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PROBE_BYTES (1 << 20) /* of a rank */

static finding *add(doctor *d, const char *name, bool ok, const char *action, const char *format,
                    va_list args)
{
    finding *f = &d->found[d->n < FINDINGS - 1 ? d->n++ : FINDINGS - 1];
    f->name = name;
    f->ok = ok;
    f->action = action;
    vsnprintf(f->detail, sizeof f->detail, format, args);
    return f;
}

void doctor_ok(doctor *d, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(d, name, true, NULL, format, args);
    va_end(args);
}

void doctor_advise(doctor *d, const char *name, const char *action, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(d, name, false, action, format, args);
    va_end(args);
}

/* Names of the file systems that people train on (statfs(2)). */
static const char *type_name(long type)
{
    static const struct {
        long type;
        const char *name;
    } known[] = {
        {0xEF53, "ext4"},        {0x58465342, "xfs"},    {0x9123683E, "btrfs"},
        {0x794C7630, "overlay"}, {0x01021994, "tmpfs"},  {0x6969, "NFS"},
        {0x0BD00BD0, "Lustre"},  {0x19830326, "BeeGFS"}, {0x47504653, "GPFS"},
        {0x00C36400, "Ceph"},    {0xFF534D42, "CIFS"},   {0xFE534D42, "SMB"},
        {0x65735546, "FUSE"},    {0x2FC12FC1, "ZFS"},    {0x6A656A63, "9p"},
        {0x01021997, "9p"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].type == type)
            return known[i].name;
    return "unknown";
}

/* The step that failed, or NULL. */
static const char *probe(const char *before, const char *after, double *seconds)
{
    char block[4096], back[4096];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 131 + 7);
    const double start_s = clock_monotonic_s();
    int fd = open(before, O_CREAT | O_EXCL | O_RDWR, 0600);
    if (fd < 0)
        return "open";
    const char *failed = NULL;
    if (pwrite(fd, block, sizeof block, 0) != (ssize_t)sizeof block)
        failed = "write";
    else if (fsync(fd) != 0)
        failed = "fsync";
    else if (rename(before, after) != 0)
        failed = "rename";
    close(fd);
    if (failed)
        return failed;
    int folder = open(".", O_RDONLY | O_DIRECTORY);
    if (folder < 0 || fsync(folder) != 0)
        failed = "fsync of the folder";
    if (folder >= 0)
        close(folder);
    *seconds = clock_monotonic_s() - start_s;
    fd = open(after, O_RDONLY);
    if (!failed && (fd < 0 || read(fd, back, sizeof back) != (ssize_t)sizeof back ||
                    memcmp(block, back, sizeof block) != 0))
        failed = "reading back";
    if (fd >= 0)
        close(fd);
    return failed;
}

void doctor_hdf5(doctor *d, comm *world)
{
    struct statfs type;
    char path[64];
    double seconds = 0;
    int64_t id = comm_rank(world) == 0 ? getpid() : 0; /* one name on all ranks */
    const int ranks = comm_size(world);
    if (comm_max_i64(world, &id, 1) != STATUS_OK)
        return;
    snprintf(path, sizeof path, ".crocuta-doctor-%lld.h5", (long long)id);
    const char *name = statfs(".", &type) == 0 ? type_name((long)type.f_type) : "unknown";
    if (h5_probe(path, world, PROBE_BYTES, &seconds) == STATUS_OK)
        doctor_ok(d, "HDF5 write", "%d rank%s on %s, synced and read back, in %.0f ms", ranks,
                  ranks > 1 ? "s together" : "", name, 1e3 * seconds);
    else
        doctor_advise(d, "HDF5 write",
                      failure_last()->code == STATUS_DATA
                          ? "unset your own OMPI_MCA_ settings, or use another file system"
                          : "work in a folder that you may write to",
                      "%s: %s", name, failure_last()->text);
}

void doctor_file_system(doctor *d)
{
    struct statfs type;
    struct statvfs room;
    char before[64], after[64];
    if (statfs(".", &type) != 0 || statvfs(".", &room) != 0) {
        doctor_advise(d, "file system", "change to a folder that exists", "%s", strerror(errno));
        return;
    }
    const char *name = type_name((long)type.f_type);
    const double gib = (double)room.f_bavail * (double)room.f_frsize / (1024.0 * 1024.0 * 1024.0);
    snprintf(before, sizeof before, ".crocuta-doctor-%ld.tmp", (long)getpid());
    snprintf(after, sizeof after, ".crocuta-doctor-%ld", (long)getpid());
    double seconds = 0;
    errno = 0;
    const char *failed = probe(before, after, &seconds);
    const int reason = errno;
    unlink(before);
    unlink(after);
    if (failed)
        doctor_advise(
            d, "file system", "work in a folder that you may write to; checkpoints need all of it",
            "%s: %s failed%s%s", name, failed, reason ? ", " : "", reason ? strerror(reason) : "");
    else
        doctor_ok(d, "file system", "%s, write, fsync and rename in %.1f ms", name, 1e3 * seconds);
    if (gib < 1)
        doctor_advise(d, "disk", "make room: checkpoints and data sets are written here",
                      "%.2f GiB free", gib);
    else
        doctor_ok(d, "disk", "%.1f GiB free", gib);
    if (strcmp(name, "tmpfs") == 0)
        doctor_advise(d, "persistence", "keep runs on a disk",
                      "this folder is in memory and ends with the machine");
}
