/* `crocuta data info|verify|export` of a set of sequences. */
#ifndef CROCUTA_LAUNCH_DATA_SEQUENCES_H
#define CROCUTA_LAUNCH_DATA_SEQUENCES_H

#include "io/sequences.h"
#include "launch/cli.h"

/* action: info, verify or export. Collective. */
status data_sequences(const cli *c, const cli_common *common, const char *action,
                      const sequences *s);

#endif
