/* From --device and --threads to a device. */
#include "launch/device_option.h"

#include "runtime/train/worker_device.h"

#include <string.h>

device_kind device_of_option(const cli_common *common)
{
    const char *name = common->device ? common->device : "auto";
    return !strcmp(name, "cuda") ? DEVICE_CUDA : !strcmp(name, "cpu") ? DEVICE_CPU : DEVICE_AUTO;
}

status device_open_option(const cli *c, const cli_common *common, device **out)
{
    return worker_device_open(c->world, device_of_option(common), cli_threads(c, common), out);
}
