/* Version, commit, backends, libraries: one line each. */
#include "launch/versions.h"

#include "io/libraries.h"
#include "kernels/device.h"
#include "runtime/core/version.h"

#include <mpi.h>
#include <string.h>

void versions_print(FILE *to)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    fprintf(to, "crocuta %s\ncommit %s\nbackends cpu%s mpi\n", version_number(), version_commit(),
            device_built() ? " cuda" : "");
    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = '\0';
    fprintf(to, "libraries %s", text);
    io_libraries(text, sizeof text);
    fprintf(to, ", %s\n", text);
}
