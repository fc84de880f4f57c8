/* What `crocuta doctor` found, and its look at the file system. */
#ifndef CROCUTA_LAUNCH_DOCTOR_H
#define CROCUTA_LAUNCH_DOCTOR_H

#include "comm/comm.h"

#include <stdbool.h>

typedef struct {
    const char *name;
    bool ok;
    char detail[512];
    const char *action; /* what to do, where not ok */
} finding;

#define FINDINGS 24

typedef struct {
    finding found[FINDINGS];
    int n;
} doctor;

void doctor_ok(doctor *d, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_advise(doctor *d, const char *name, const char *action, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* NCCL's version, and what it would use within a node and between nodes (launch/doctor_nccl.c). */
void doctor_nccl(doctor *d, bool several_nodes);

/* Collective: a file of the working folder that all ranks write with parallel HDF5 and read back,
 * as a data set is written; the finding is rank 0's. */
void doctor_hdf5(doctor *d, comm *world);

/* Type and room of the working folder's file system, and a file that is written, synced, renamed,
 * synced with its folder, read back and removed: what a checkpoint needs. */
void doctor_file_system(doctor *d);

#endif
