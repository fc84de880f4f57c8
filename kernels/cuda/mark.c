/* Ranges that a profiler shows around the kernels of an operation (NVTX, header only: without a
 * profiler a call costs nanoseconds). */
#include "kernels/cuda/cuda.h"

#include <nvtx3/nvToolsExt.h>

void mark_cuda(const char *name)
{
    if (name)
        nvtxRangePushA(name);
    else
        nvtxRangePop();
}
