/* Version, commit, backends, libraries: one line each. */
#include "launch/versions.h"

#include "io/libraries.h"
#include "kernels/device.h"
#include "runtime/core/version.h"

#include <jansson.h>
#include <mpi.h>
#include <stdlib.h>
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

char *versions_json(void)
{
    char *text = NULL, *json = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (!f)
        return NULL;
    versions_print(f);
    fclose(f);
    json_t *lines = json_array();
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        json_array_append_new(lines, json_string(line));
    json_t *o = json_pack("{s:s, s:s, s:o}", "version", version_number(), "commit",
                          version_commit(), "lines", lines);
    json = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    free(text);
    return json;
}
