/* --device cpu | cuda | auto, and --device-memory. */
#ifndef CROCUTA_LAUNCH_DEVICE_OPTION_H
#define CROCUTA_LAUNCH_DEVICE_OPTION_H

#include "kernels/device.h"
#include "launch/cli.h"

/* What was asked for (cli_parse has looked at the word). */
device_kind device_of_option(const cli_common *common);

/* --device-memory of a command: bytes, 24GiB, h100 or a100. */
status memory_of_option(const char *command, const char *text, int64_t *bytes);

/* This rank's device for a command in which all ranks compute. Collective; all get one status. */
status device_open_option(const cli *c, const cli_common *common, device **out);

#endif
