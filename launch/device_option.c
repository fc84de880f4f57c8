/* --device cpu | cuda | auto. */
#include "launch/device_option.h"

#include <string.h>

status device_of_option(const cli *c, const cli_common *common, device **out)
{
    const char *name = common->device ? common->device : "auto";
    if (!strcmp(name, "cuda"))
        return device_open(DEVICE_CUDA, cli_threads(c, common), out);
    if (strcmp(name, "cpu") != 0 && strcmp(name, "auto") != 0)
        return fail(STATUS_USAGE, "--device: %s is no device; write cpu, cuda or auto", name);
    return device_open(DEVICE_CPU, cli_threads(c, common), out);
}
