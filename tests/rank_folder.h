/* A folder of a test's own below the working directory, of one name on every rank, and its removal.
 */
#ifndef CROCUTA_TESTS_RANK_FOLDER_H
#define CROCUTA_TESTS_RANK_FOLDER_H

#include "comm/comm.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Collective; whoever needs the folder makes it. */
static inline void rank_folder_name(comm *world, const char *test, char folder[64])
{
    int64_t pid = getpid();
    comm_bcast(world, &pid, sizeof pid, 0);
    snprintf(folder, 64, "%s.%d.tmp", test, (int)pid);
}

/* Collective. */
static inline bool rank_folder_remove(comm *world, const char *folder)
{
    char command[128];
    comm_barrier(world);
    if (comm_rank(world) != 0)
        return true;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0;
}

#endif
