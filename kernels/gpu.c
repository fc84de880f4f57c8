/* Finding the CUDA backend: see gpu.h. */
#include "kernels/gpu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* Every entry behind the name is a function; an operation that is missing would be called at NULL.
 */
static bool table_complete(const ops_table *ops)
{
    void *const *entry = (void *const *)(const void *)ops;
    for (size_t i = 0; i < sizeof *ops / sizeof *entry; i++)
        if (!entry[i])
            return false;
    return true;
}

#if defined(CROCUTA_GPU_LINKED)

static const gpu_backend *find(char *why, size_t size)
{
    (void)why;
    (void)size;
    return &GPU_BACKEND;
}

#elif defined(CROCUTA_GPU_MODULE)

#define TEXT_OF(x) #x
#define NAME_OF(x) TEXT_OF(x)

/* Found beside the program (its run path says so). A module once loaded stays. */
static const gpu_backend *find(char *why, size_t size)
{
    void *module = dlopen(CROCUTA_GPU_MODULE, RTLD_NOW | RTLD_GLOBAL);
    const gpu_backend *found = module ? dlsym(module, NAME_OF(GPU_BACKEND)) : NULL;
    if (!found)
        snprintf(why, size,
                 "the CUDA backend does not load (%s); install the CUDA libraries that "
                 "it was built with, or use --device cpu",
                 dlerror());
    return found;
}

#else

static const gpu_backend *find(char *why, size_t size)
{
    snprintf(why, size,
             "this program was built without CUDA; build it where nvcc is, or use "
             "--device cpu");
    return NULL;
}

#endif

bool device_built(void)
{
#if defined(CROCUTA_GPU_LINKED) || defined(CROCUTA_GPU_MODULE)
    return true;
#else
    return false;
#endif
}

const gpu_backend *gpu_backend_find(char *why, size_t size)
{
    static const gpu_backend *found;
    char text[512] = "";
    if (!found) {
        found = find(text, sizeof text);
        if (found && !table_complete(found->ops)) {
            found = NULL;
            snprintf(text, sizeof text,
                     "this version's CUDA backend has not every operation yet; "
                     "use --device cpu");
        }
    }
    if (why && size)
        snprintf(why, size, "%s", text);
    return found;
}
