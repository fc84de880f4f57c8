/* The device of tests of what is above operations: the CPU, or, where TEST_DEVICE=cuda says so, a
 * GPU (which may be hostcuda's). Such a test says `on: device` in its first comment. */
#ifndef CROCUTA_TESTS_TEST_DEVICE_H
#define CROCUTA_TESTS_TEST_DEVICE_H

#include "kernels/device.h"

#include <stdlib.h>
#include <string.h>

#define TEST_SKIPPED 77 /* to ctest */

static inline device_kind test_device(void)
{
    const char *name = getenv("TEST_DEVICE");
    return name && strcmp(name, "cuda") == 0 ? DEVICE_CUDA : DEVICE_CPU;
}

/* Asked for a GPU where none can be used? */
static inline bool test_device_missing(void)
{
    return test_device() == DEVICE_CUDA && device_count(NULL, 0) == 0;
}

#endif
