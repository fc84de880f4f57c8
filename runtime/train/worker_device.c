/* A worker's device: see worker_device.h. */
#include "runtime/train/worker_device.h"
#include "kernels/check.h"
#include "runtime/core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char host[64], id[64];
} whose;

/* How many of the workers, this one aside and of a lower rank, have the same GPU. */
static status count_others(comm *workers, const device *dev, int64_t *others)
{
    const int n = comm_size(workers), me = comm_rank(workers);
    whose mine = {"", ""};
    *others = 0;
    snprintf(mine.host, sizeof mine.host, "%s", comm_host(workers));
    snprintf(mine.id, sizeof mine.id, "%s", dev ? dev->id : "");
    whose *all = calloc((size_t)n, sizeof *all);
    TRY(comm_agree(workers,
                   all ? STATUS_OK : fail(STATUS_MEMORY, "--device: no memory; use more memory")));
    const status st = comm_allgather(workers, &mine, sizeof mine, all);
    for (int i = 0; st == STATUS_OK && mine.id[0] && i < me; i++)
        *others += strcmp(all[i].id, mine.id) == 0 && strcmp(all[i].host, mine.host) == 0;
    free(all);
    return st;
}

/* A GPU of this worker's own; *shared: another worker has it as well. The same on all workers. */
static status open_gpu(comm *workers, int threads, device **out, bool *shared)
{
    const int count = device_count(NULL, 0), place = comm_place(workers);
    int64_t others = 0;
    *shared = false;
    status st =
        comm_agree(workers, device_open_nth(DEVICE_CUDA, count ? place % count : 0, threads, out));
    if (st == STATUS_OK)
        st = count_others(workers, *out, &others);
    if (st == STATUS_OK)
        st = comm_max_i64(workers, &others, 1);
    const char *may = getenv("CROCUTA_SHARE_GPU");
    *shared = others > 0 && !(may && strcmp(may, "1") == 0);
    if (st != STATUS_OK || *shared)
        device_close(out);
    return st;
}

static status choose(comm *workers, device_kind asked, int threads, device **out)
{
    *out = NULL;
    int64_t without = asked == DEVICE_AUTO && device_count(NULL, 0) == 0;
    bool shared = false;
    if (asked == DEVICE_AUTO)
        TRY(comm_max_i64(workers, &without, 1));
    if (asked == DEVICE_CPU || without)
        return comm_agree(workers, device_open(DEVICE_CPU, threads, out));
    TRY(open_gpu(workers, threads, out, &shared));
    if (!shared)
        return STATUS_OK;
    if (asked == DEVICE_CUDA)
        return comm_agree(workers,
                          fail(STATUS_RESOURCE,
                               "--device: two workers have one GPU; start no more workers on a "
                               "node than it has GPUs, or set CROCUTA_SHARE_GPU=1"));
    if (comm_rank(workers) == 0)
        log_warning("--device: fewer GPUs than workers, so that all use the CPU; start one worker "
                    "a GPU");
    return comm_agree(workers, device_open(DEVICE_CPU, threads, out));
}

status worker_device_open(comm *workers, device_kind asked, int threads, device **out)
{
    TRY(choose(workers, asked, threads, out));
    (*out)->worker = comm_rank(workers);
    return comm_agree(workers,
                      device_check(*out, getenv("CROCUTA_CHECK_DEVICE"), comm_size(workers)));
}

status worker_gpus_open(comm *group, const device *dev, const config *c, comm_device **out)
{
    static const comm_backend BACKEND[] = {
        [BACKEND_AUTO] = COMM_AUTO, [BACKEND_MPI] = COMM_MPI, [BACKEND_NCCL] = COMM_NCCL};
    return comm_device_open(group, dev->ordinal, dev->stream,
                            &(comm_device_options){.backend = BACKEND[c->comm.backend],
                                                   .deterministic = c->comm.deterministic},
                            out);
}
