/* What an operation wrote, looked through: for NaN, or against what another run of the same
 * training wrote, so that the first operation in which a GPU and a CPU part has a name. For
 * debugging (CROCUTA_CHECK_DEVICE, docs/gpu.md): every operation is waited for. */
#ifndef CROCUTA_KERNELS_CHECK_H
#define CROCUTA_KERNELS_CHECK_H

#include "kernels/device.h"

/* What an operation wrote, all of it: n numbers of fp32 or bf16; at NULL: none that are looked at.
 */
typedef struct {
    const void *at;
    int64_t n;
    bool bf16;
} written;

/* `how`: "1" looks for numbers that are not finite; "record:FILE" also writes a line an operation
 * to FILE (its name, how often it ran, n, root mean square, eight of the numbers), "compare:FILE"
 * holds every operation against the line of that name and number. Several workers have FILE.0,
 * FILE.1 ... (dev->worker). STATUS_USAGE for another `how`; NULL: nothing is checked. */
status device_check(device *dev, const char *how, int workers);

/* The check of one operation; STATUS_INTERNAL names it, the worker and the first number that is not
 * finite or differs. */
status check_written(device *dev, op_kind kind, const char *name, written w);

/* Of device_close. */
void check_close(device *dev);

#endif
