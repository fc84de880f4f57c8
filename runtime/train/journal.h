/* A journal: a file of JSON lines that only grows and has one writer. Lines are whole or, after a
 * crash, at most the last one is cut; opening it again closes such a line first. */
#ifndef CROCUTA_TRAIN_JOURNAL_H
#define CROCUTA_TRAIN_JOURNAL_H

#include "runtime/core/status.h"

#include <jansson.h>

typedef struct {
    char path[1100];
    int fd; /* -1: closed */
    int unsynced;
} journal;

status journal_open(journal *j, const char *dir, const char *name);
/* One line, handed to the system in one write; takes over the object. */
status journal_write(journal *j, json_t *object);
/* Returns when everything written so far is on the disk. */
status journal_sync(journal *j);
void journal_close(journal *j);

#endif
