/* From --device and --threads to a device. */
#ifndef CROCUTA_LAUNCH_DEVICE_OPTION_H
#define CROCUTA_LAUNCH_DEVICE_OPTION_H

#include "kernels/device.h"
#include "launch/cli.h"

status device_of_option(const cli *c, const cli_common *common, device **out);

#endif
