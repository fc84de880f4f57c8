/* What this build and the libraries under it are, for --version and doctor. */
#ifndef CROCUTA_LAUNCH_VERSIONS_H
#define CROCUTA_LAUNCH_VERSIONS_H

#include <stdio.h>

void versions_print(FILE *to);
/* The same for versions.json; to be freed by the caller, NULL without memory. */
char *versions_json(void);

#endif
