/* The libraries that io/ stands on, by version. */
#ifndef CROCUTA_IO_LIBRARIES_H
#define CROCUTA_IO_LIBRARIES_H

#include <stdbool.h>
#include <stddef.h>

/* "HDF5 1.10.8, htslib 1.16" */
void io_libraries(char *text, size_t size);

/* Was HDF5 built with MPI? */
bool io_hdf5_parallel(void);

#endif
