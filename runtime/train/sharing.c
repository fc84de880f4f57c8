/* Groups of workers that share sequences: see sharing.h. */
#include "runtime/train/sharing.h"

static status connect(const device *dev, const config *c, sharing *s)
{
    static const comm_backend BACKEND[] = {
        [BACKEND_AUTO] = COMM_AUTO, [BACKEND_MPI] = COMM_MPI, [BACKEND_NCCL] = COMM_NCCL};
    if (device_is_host(dev))
        return STATUS_OK;
    return comm_device_open(s->members, dev->ordinal, dev->stream,
                            &(comm_device_options){.backend = BACKEND[c->comm.backend],
                                                   .deterministic = c->comm.deterministic},
                            &s->gpus);
}

status sharing_open(comm *workers, int64_t size, const device *dev, const config *c, sharing *out)
{
    *out = (sharing){.group.size = 1};
    if (size <= 1)
        return STATUS_OK;
    const int rank = comm_rank(workers);
    TRY(comm_split(workers, rank / (int)size, rank, &out->members));
    TRY(comm_agree(workers, connect(dev, c, out)));
    out->group = (context_group){out->members, out->gpus, (int)size};
    return STATUS_OK;
}

void sharing_abort(sharing *s)
{
    comm_device_abort(s->gpus);
}

void sharing_close(sharing *s)
{
    comm_device_close(&s->gpus);
    comm_free(&s->members);
    shared_batch_close(&s->cut);
    *s = (sharing){.group.size = 1};
}

status sharing_wait(const sharing *s)
{
    return s->gpus ? comm_device_wait(s->gpus, "context") : STATUS_OK;
}

status sharing_prepare(sharing *s, batch_shape whole)
{
    shared_batch_close(&s->cut);
    return shared_batch_open(&s->group, whole, &s->cut);
}

batch sharing_cut(sharing *s, const batch *whole)
{
    return shared_batch_cut(&s->cut, &s->group, whole);
}
