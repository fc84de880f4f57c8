/* The shipped configurations, experiments/NAME.yaml: where they are and what they are called. They
 * are looked for in $CROCUTA_HOME/experiments, beside the program (up to four folders above it),
 * and where it was built. */
#ifndef CROCUTA_LAUNCH_SHIPPED_H
#define CROCUTA_LAUNCH_SHIPPED_H

#include "runtime/core/config.h"

#define SHIPPED_NAME 128

/* NAME, or a file as it is, to a path that exists. */
bool shipped_find(const char *name, char path[CONFIG_TEXT]);

/* An override of data.path, which is typed as it is seen from here, for a configuration that lies
 * elsewhere; what it becomes is kept to the end of the program. Others stay. */
status shipped_from_here(const char **override);

/* Reads a file, or a shipped configuration by name, and key=value overrides over the defaults;
 * `command` stands in the failure for an argument that is none. */
status shipped_read(const char *command, const char **args, int n, config *c);

/* The failure for a name that is neither, with the nearest known. */
status shipped_unknown(const char *name);

typedef struct {
    char folder[CONFIG_TEXT];
    void *entries; /* struct dirent **, sorted */
    int n, at;
} shipped_list;
status shipped_open(shipped_list *list);
/* The next name, and the first line of its opening comment. */
bool shipped_next(shipped_list *list, char name[SHIPPED_NAME], char comment[256]);
void shipped_close(shipped_list *list);

#endif
