/* From --device and --threads to a device. */
#include "launch/device_option.h"

#include "runtime/train/worker_device.h"

#include <stdlib.h>
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

status memory_of_option(const char *command, const char *text, int64_t *bytes)
{
    if (strcmp(text, "h100") == 0 || strcmp(text, "a100") == 0) {
        *bytes = (int64_t)78 << 30; /* of 80 GB, what a process can take */
        return STATUS_OK;
    }
    char *end;
    double x = strtod(text, &end);
    const char *units = "kMGT", *unit = *end ? strchr(units, *end) : NULL;
    for (long i = 0; unit && i <= unit - units; i++)
        x *= 1024;
    if (end == text || !(x >= 1) || x > 1e18 || (*end && !unit) ||
        (unit && end[1] && strcmp(end + 1, "iB") != 0))
        return fail(STATUS_USAGE,
                    "%s: --device-memory %s is not an amount; use bytes, 24GiB, h100 or a100",
                    command, text);
    *bytes = (int64_t)x;
    return STATUS_OK;
}
