/* Which device a worker computes on: the CPU, or a GPU of its own by its place among the workers of
 * its node. */
#ifndef CROCUTA_TRAIN_WORKER_DEVICE_H
#define CROCUTA_TRAIN_WORKER_DEVICE_H

#include "comm/comm_device.h"
#include "kernels/device.h"
#include "runtime/core/config.h"

/* CUDA: GPU number local rank, or, where a worker sees fewer GPUs than its node has workers (a
 * scheduler gave each its own), local rank modulo their number. Two workers on one GPU are refused
 * (STATUS_RESOURCE) unless CROCUTA_SHARE_GPU=1 is in the environment. AUTO: GPUs where every
 * worker gets one that way, the CPU otherwise, with a warning where there are GPUs. With
 * CROCUTA_CHECK_DEVICE every operation is waited for and what it wrote looked through, to find the
 * one that fails, makes a NaN or differs from another run's (kernels/check.h). Collective: the
 * status is that of all workers. */
status worker_device_open(comm *workers, device_kind asked, int threads, device **out);

/* Connects the GPUs of a group of workers, as comm.backend and comm.deterministic say; `dev` is
 * this worker's. Collective, as comm_device_open. */
status worker_gpus_open(comm *group, const device *dev, const config *c, comm_device **out);

#endif
