/* Groups of workers that share sequences: see sharing.h. */
#include "runtime/train/sharing.h"

#include "runtime/train/worker_device.h"

status sharing_open(comm *workers, int64_t size, const device *dev, const config *c, sharing *out)
{
    *out = (sharing){.group.size = 1};
    if (size <= 1)
        return STATUS_OK;
    const int rank = comm_rank(workers);
    TRY(comm_split(workers, rank / (int)size, rank, &out->members));
    if (!device_is_host(dev))
        TRY(comm_agree(workers, worker_gpus_open(out->members, dev, c, &out->gpus)));
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

status sharing_prepare(sharing *s, batch_shape whole)
{
    const batch_shape part = context_shape(&s->group, whole);
    if (s->cut.columns >= part.B * part.Lp)
        return STATUS_OK;
    shared_batch_close(&s->cut);
    return shared_batch_open(&s->group, whole, &s->cut);
}

batch sharing_cut(sharing *s, const batch *whole)
{
    return shared_batch_cut(&s->cut, &s->group, whole);
}
