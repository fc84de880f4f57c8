/* Start and end of MPI, and the guards that must stand before it starts: for known faults of Open
 * MPI, and for jobs that were started in a way in which the ranks would not find each other. */
#include "comm/mpi/group.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* Did something that MPI understands start this process? */
static bool launched(void)
{
    static const char *const marks[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMIX_NAMESPACE",
                                        "PMI_RANK", NULL};
    for (int i = 0; marks[i]; i++)
        if (getenv(marks[i]))
            return true;
    return false;
}

/* Tasks of the Slurm step that this process belongs to; 1 outside a step (a batch script's own
 * shell). */
static long step_tasks(void)
{
    if (!getenv("SLURM_STEP_ID") && !getenv("SLURM_STEPID"))
        return 1;
    const char *n = getenv("SLURM_STEP_NUM_TASKS");
    if (!n)
        n = getenv("SLURM_NTASKS");
    return n ? strtol(n, NULL, 10) : 1;
}

static status refuse_alone(long tasks)
{
    return fail(
        STATUS_USAGE,
        "srun: Slurm started %ld tasks but MPI sees one rank in each, so they would run the same "
        "job %ld times; start it with srun --mpi=pmix",
        tasks, tasks);
}

/* Containers often forbid reading another process's memory, and Open MPI then fails at the first
 * large message between ranks of a node instead of copying through shared memory. */
static bool single_copy_forbidden(void)
{
    char from = 1, to = 0;
    struct iovec here = {&to, 1}, there = {&from, 1};
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) != 1 &&
           (errno == EPERM || errno == ENOSYS);
}

/* Settings of Open MPI, each unless the user has set it. */
static void set_guards(bool alone)
{
    /* 4.1.4 corrupts collective writes with several aggregators unless whole ranges are locked. */
    setenv("OMPI_MCA_fs_ufs_lock_algorithm", "3", 0);
    setenv("OMPI_MCA_btl_base_warn_component_unused", "0", 0);
    if (single_copy_forbidden())
        setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
    if (alone) {
        /* One process needs no daemon of Open MPI and no search for networks (a quarter of a
         * second). */
        setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
        setenv("OMPI_MCA_pml", "ob1", 0);
        setenv("OMPI_MCA_btl", "self", 0);
        /* Nor a folder in /tmp, whose parent another job that ends at this moment may remove. */
        setenv("OMPI_MCA_orte_create_session_dirs", "0", 0);
    }
}

/* MPI_Init_thread; `alone` inside a Slurm job, Open MPI would take the job's list of nodes for a
 * sign that srun started it, and abort where it was built without Slurm's own interface. */
static int init(int *argc, char ***argv, bool alone, int *provided)
{
    static const char name[] = "SLURM_NODELIST";
    const char *nodes = alone ? getenv(name) : NULL;
    char *kept = nodes ? strdup(nodes) : NULL;
    if (kept)
        unsetenv(name);
    int error = MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, provided);
    if (kept)
        setenv(name, kept, 1);
    free(kept);
    return error;
}

status comm_start(int *argc, char ***argv, comm **world)
{
    *world = NULL;
    const bool alone = !launched();
    const long tasks = step_tasks();
    if (alone && tasks > 1) /* before MPI_Init: it would print a page and abort */
        return refuse_alone(tasks);
    set_guards(alone);

    int provided = 0, size = 0;
    int error = init(argc, argv, alone, &provided);
    if (error != MPI_SUCCESS)
        return mpi_failed(__FILE__, __LINE__, "MPI_Init_thread", error);
    TRY_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    if (provided < MPI_THREAD_SERIALIZED)
        return fail(STATUS_RANK,
                    "MPI: it was built without thread support; use an Open MPI built with it");
    TRY_MPI(MPI_Comm_size(MPI_COMM_WORLD, &size));
    if (size == 1 && tasks > 1 && !getenv("OMPI_COMM_WORLD_SIZE")) {
        MPI_Finalize();
        return refuse_alone(tasks);
    }
    /* A group of our own: libraries that use MPI_COMM_WORLD never meet our messages. */
    MPI_Comm own;
    TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &own));
    return group_wrap(own, world);
}

void comm_end(comm **world)
{
    int started = 0, ended = 0;
    MPI_Initialized(&started);
    MPI_Finalized(&ended);
    if (!started || ended)
        return;
    comm_free(world);
    MPI_Finalize();
}

void comm_abort(comm *c, int code)
{
    fflush(NULL);
    int started = 0, ended = 0;
    MPI_Initialized(&started);
    MPI_Finalized(&ended);
    /* Alone there is nobody to end, and MPI_Abort prints a page. */
    if (started && !ended && c && c->size > 1)
        MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}
