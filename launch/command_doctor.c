/* `crocuta doctor`: is this machine fit to train on? One line a check: ok and what was found, or
 * what to do. */
#include "io/libraries.h"
#include "kernels/device.h"
#include "launch/cli.h"
#include "launch/doctor.h"
#include "runtime/core/memory.h"
#include "runtime/core/version.h"
#include "runtime/train/plan.h"

#include <errno.h>
#include <jansson.h>
#include <mpi.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char about[] =
    "Checks cores and binding, the product library, MPI, HDF5, GPUs, NCCL, memory and the file "
    "system of the working folder,\nwhere the ranks write a file together and read it back.\n"
    "Each line says ok, or what to do.\n\nExample:\n  mpirun -q -n 3 crocuta doctor";

/* ---- checks ---- */

static void check_cores(doctor *d, const cli *c, const cli_common *common)
{
    cpu_set_t mine;
    int64_t least = 1, online = sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof mine, &mine) == 0)
        least = CPU_COUNT(&mine);
    least = -least;
    if (comm_max_i64(c->world, &least, 1) != STATUS_OK)
        return;
    least = -least;
    const int ranks = comm_local_size(c->world), threads = cli_threads(c, common);
    if (least * ranks < online && ranks > 1)
        doctor_advise(d, "cores",
                      "start the ranks with mpirun --bind-to none, or give each its share (srun "
                      "--cpus-per-task)",
                      "a rank may use %lld of %lld cores, and there are %d ranks", (long long)least,
                      (long long)online, ranks);
    else
        doctor_ok(d, "cores", "%lld of %lld usable, %d rank%s on this node, %d thread%s each",
                  (long long)least, (long long)online, ranks, ranks > 1 ? "s" : "", threads,
                  threads > 1 ? "s" : "");
}

static void check_memory(doctor *d)
{
    const double gib = 1024.0 * 1024.0 * 1024.0;
    double free_gib = (double)memory_available() / gib;
    if (free_gib < 1)
        doctor_advise(d, "memory", "close other programs or ask the scheduler for more (--mem)",
                      "%.2f GiB available", free_gib);
    else
        doctor_ok(d, "memory", "%.1f GiB available", free_gib);
    struct statvfs s;
    if (statvfs("/dev/shm", &s) != 0)
        doctor_advise(d, "shared memory",
                      "mount a tmpfs at /dev/shm: ranks of a node share the data set there",
                      "/dev/shm: %s", strerror(errno));
    else if ((double)s.f_bavail * (double)s.f_frsize / gib < 0.25)
        doctor_advise(d, "shared memory",
                      "enlarge it (docker run --shm-size 2g): ranks share the data set there",
                      "/dev/shm has %.0f MiB free",
                      (double)s.f_bavail * (double)s.f_frsize / 1048576.0);
    else
        doctor_ok(d, "shared memory", "/dev/shm has %.1f GiB free",
                  (double)s.f_bavail * (double)s.f_frsize / gib);
}

/* device_open sets the product library's threads and holds one product against a plain loop. */
static void check_products(doctor *d, const cli *c, const cli_common *common)
{
    device *dev = NULL;
    const int threads = cli_threads(c, common);
    if (device_open(DEVICE_CPU, threads, &dev) != STATUS_OK) {
        doctor_advise(d, "products",
                      "try OPENBLAS_CORETYPE=Haswell in the environment, or another BLAS", "%s",
                      failure_last()->text);
        return;
    }
    doctor_ok(d, "products", "BLAS on %d thread%s agrees with a plain loop", threads,
              threads > 1 ? "s" : "");
    device_close(&dev);
}

static void check_mpi(doctor *d, const cli *c)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0, major = 0, minor = 0, release = 0, level = 0;
    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = '\0';
    MPI_Query_thread(&level);
    const char *lock = getenv("OMPI_MCA_fs_ufs_lock_algorithm");
    const bool open_mpi = sscanf(text, "Open MPI v%d.%d.%d", &major, &minor, &release) == 3;
    if (open_mpi && major == 4 && minor <= 1 && (!lock || strcmp(lock, "3") != 0))
        doctor_advise(d, "MPI", "unset OMPI_MCA_fs_ufs_lock_algorithm, or set it to 3",
                      "%s can damage files that several ranks write together", text);
    else if (level < MPI_THREAD_SERIALIZED)
        doctor_advise(d, "MPI", "use an MPI that was built with thread support",
                      "%s without threads", text);
    else
        doctor_ok(d, "MPI", "%s, %d rank%s%s", text, comm_size(c->world),
                  comm_size(c->world) > 1 ? "s" : "",
                  open_mpi && major == 4 && minor <= 1
                      ? " (collective writes guarded: fs_ufs_lock_algorithm 3)"
                      : "");
    if (getenv("SLURM_JOB_ID") && comm_size(c->world) == 1)
        doctor_advise(d, "Slurm",
                      "start programs of several ranks with srun --mpi=pmix -n N crocuta ...",
                      "in job %s, one rank", getenv("SLURM_JOB_ID"));
}

static void check_libraries(doctor *d)
{
    char text[256];
    int major = 0, minor = 0;
    io_libraries(text, sizeof text);
    sscanf(text, "HDF5 %d.%d", &major, &minor);
    if (!io_hdf5_parallel())
        doctor_advise(d, "HDF5",
                      "install the MPI flavour (Debian: libhdf5-openmpi-dev) and build again",
                      "%s, serial", text);
    else
        doctor_ok(d, "HDF5", "%s, parallel%s", text,
                  major == 1 && minor < 12
                      ? " (1.10: tables are read by one rank, which crocuta does)"
                      : "");
}

/* GPUs that the system shows, whether or not this process may use them. */
static int gpus_of_system(void)
{
    char path[64];
    int n = 0;
    for (int i = 0; i < 64; i++) {
        snprintf(path, sizeof path, "/dev/nvidia%d", i);
        n += access(path, F_OK) == 0;
    }
    return n;
}

static void check_gpus(doctor *d, const cli *c, const cli_common *common)
{
    char why[512];
    const int there = gpus_of_system(), usable = device_count(why, sizeof why);
    const int ranks = comm_local_size(c->world);
    device *dev = NULL;
    if (usable == 0 && there == 0)
        doctor_ok(d, "GPUs", "none here; the CPU is used");
    else if (usable == 0)
        doctor_advise(d, "GPUs", "the CPU is used until that is mended", "%d, but %s", there, why);
    else if (device_open(DEVICE_CUDA, cli_threads(c, common), &dev) != STATUS_OK)
        doctor_advise(d, "GPUs", "see the message, or use --device cpu", "%s",
                      failure_last()->text);
    else if (usable < ranks)
        doctor_advise(d, "GPUs", "start one worker a GPU, or use --device cpu",
                      "%d (%s) for %d ranks on this node", usable, dev->name, ranks);
    else
        doctor_ok(d, "GPUs", "%d (%s); --device auto uses %s", usable, dev->name,
                  ranks > 1 ? "one a worker" : "one");
    device_close(&dev);
}

/* ---- the report ---- */

static void print_text(const doctor *d)
{
    for (int i = 0; i < d->n; i++) {
        const finding *f = &d->found[i];
        if (f->ok)
            printf("ok    %-14s %s\n", f->name, f->detail);
        else
            printf("do    %-14s %s: %s\n", f->name, f->detail, f->action);
    }
}

static void print_json(const doctor *d)
{
    json_t *list = json_array();
    for (int i = 0; i < d->n; i++) {
        const finding *f = &d->found[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:b, s:s, s:s?}", "name", f->name, "ok", (int)f->ok,
                                        "detail", f->detail, "action", f->ok ? NULL : f->action));
    }
    json_t *root = json_pack("{s:s, s:s, s:s, s:o}", "schema", "crocuta/doctor/1", "version",
                             version_number(), "commit", version_commit(), "checks", list);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    if (text)
        puts(text);
    free(text);
    json_decref(root);
}

status command_doctor(const cli *c)
{
    cli_common common;
    const char **args;
    int n;
    bool done;
    TRY(cli_parse(c, "", about, NULL, &common, &args, &n, &done));
    if (done)
        return STATUS_OK;
    if (n > 0)
        return fail(STATUS_USAGE, "doctor: it takes no arguments; see crocuta doctor --help");
    doctor *d = calloc(1, sizeof *d);
    if (!d)
        return fail(STATUS_MEMORY, "doctor: no memory; close other programs");
    doctor_ok(d, "crocuta", "%s, commit %s", version_number(), version_commit());
    check_cores(d, c, &common);
    check_memory(d);
    check_products(d, c, &common);
    check_mpi(d, c);
    check_libraries(d);
    check_gpus(d, c, &common);
    doctor_nccl(d, comm_local_size(c->world) < comm_size(c->world));
    doctor_hdf5(d, c->world);
    if (comm_rank(c->world) == 0) {
        doctor_file_system(d);
        if (common.json)
            print_json(d);
        else
            print_text(d);
    }
    free(d);
    return STATUS_OK;
}
