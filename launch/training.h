/* What pretrain and finetune share on the command line: the configuration with its overrides, the
 * run directory, threads of those who train, and the refusal of ranks that do not know of each
 * other. */
#ifndef CROCUTA_LAUNCH_TRAINING_H
#define CROCUTA_LAUNCH_TRAINING_H

#include "launch/cli.h"

typedef struct {
    bool finetune;
    const char *usage, *about;
} training_command;

status training_run(const cli *c, const training_command *what);

#endif
