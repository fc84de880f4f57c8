/* The CUDA backend as the rest of the program meets it: part of the program where a test build
 * links it, a module beside the program otherwise, loaded when somebody asks for a GPU. So the
 * program starts, and starts fast, where no driver and no CUDA library is installed. */
#ifndef CROCUTA_KERNELS_GPU_H
#define CROCUTA_KERNELS_GPU_H

#include "kernels/ops.h"

#include <stddef.h>

typedef struct {
    const ops_table *ops;
    int (*count)(char *why, size_t size); /* as device_count */
    status (*open)(int ordinal, int threads, device **out);
} gpu_backend;

/* The module's one symbol (kernels/cuda/backend.c; a test build may name another). */
#ifndef GPU_BACKEND
#define GPU_BACKEND crocuta_gpu_backend
#endif
extern const gpu_backend GPU_BACKEND;

/* NULL: there is none; `why` (may be NULL) says what is missing. */
const gpu_backend *gpu_backend_find(char *why, size_t size);

#endif
