/* Versions of HDF5 and htslib, as linked (not as compiled against). */
#include "io/libraries.h"

#include <hdf5.h>
#include <htslib/hts.h>
#include <stdio.h>

void io_libraries(char *text, size_t size)
{
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(text, size, "HDF5 %u.%u.%u, htslib %s", major, minor, release, hts_version());
}

bool io_hdf5_parallel(void)
{
#ifdef H5_HAVE_PARALLEL
    return true;
#else
    return false;
#endif
}
