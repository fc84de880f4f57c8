/* What is left of the runtime: devices, memory calls, launches, errors, injected failures, and the
 * account at the end. */
#include "tests/hostcuda/core.h"
#include "tests/hostcuda/device.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace hostcuda
{

int64_t plans_left = 0, handles_left = 0;
int device_now = 0;
/* Never destroyed: looked at when the process ends. */
std::set<std::string> &communicators = *new std::set<std::string>;

namespace
{

const int SHARED_PLAIN = 48 << 10, SHARED_MOST = 227 << 10; /* bytes a block */

struct injection {
    int64_t calls = 0, at = -1;
    int code = 0;
};
injection injections[HOSTCUDA_KINDS];
cudaError_t last_error = cudaSuccess;
int devices = 1, major = 9, minor = 0;
std::map<const void *, int> &shared_allowed = *new std::map<const void *, int>;
std::set<void *> &pinned = *new std::set<void *>;

const char *const KIND[HOSTCUDA_KINDS] = {"malloc", "launch", "copy",   "wait",
                                          "stream", "event",  "device", "graph",
                                          "cufft",  "cublas", "nccl",   "ncclasync"};

void injections_from_environment(void)
{
    const char *text = getenv("HOSTCUDA_FAIL");
    while (text && *text) {
        char kind[16];
        long long nth;
        int code, length = 0, found = -1;
        if (sscanf(text, "%15[a-z]:%lld:%d%n", kind, &nth, &code, &length) != 3)
            fault("HOSTCUDA_FAIL: %s is not KIND:N:CODE", text);
        for (int i = 0; i < HOSTCUDA_KINDS; i++)
            if (strcmp(kind, KIND[i]) == 0)
                found = i;
        if (found < 0)
            fault("HOSTCUDA_FAIL: %s is no kind of call", kind);
        hostcuda_fail((hostcuda_kind)found, nth, code);
        text += length;
        text += *text == ',';
    }
}

std::string account(int64_t *left)
{
    std::string list;
    int64_t bytes = 0;
    *left = streams_left(&list);
    const int64_t memory = memory_left(&bytes);
    *left +=
        memory + (int64_t)pinned.size() + plans_left + handles_left + (int64_t)communicators.size();
    std::string names;
    for (const std::string &each : communicators)
        names += ", communicator " + each;
    return std::to_string(memory) + " device allocations (" + std::to_string(bytes) + " bytes), " +
           std::to_string(pinned.size()) + " pinned ones, " + list + ", " +
           std::to_string(plans_left) + " plans, " + std::to_string(handles_left) + " handles" +
           names;
}

void at_exit(void)
{
    int64_t left;
    const std::string what = account(&left);
    if (!left)
        return;
    fflush(nullptr);
    fprintf(stderr, "hostcuda: left behind at exit: %s\n", what.c_str());
    _exit(70);
}

/* A report of ASan gets the kernel's name under it. */
void on_death(void)
{
    const std::string now = where();
    if (!now.empty())
        fprintf(stderr, "hostcuda: the report above is of %s\n", now.c_str());
}

struct started {
    started()
    {
        order_from_environment();
        schedule_from_environment();
        injections_from_environment();
        if (const char *text = getenv("HOSTCUDA_DEVICES"))
            devices = atoi(text);
        if (const char *text = getenv("HOSTCUDA_MEMORY"))
            memory_limit = atoll(text);
        if (const char *text = getenv("HOSTCUDA_CAPABILITY"))
            sscanf(text, "%d.%d", &major, &minor);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_set_death_callback(on_death);
#endif
        atexit(at_exit);
    }
};

/* The settings are read before main. */
const started now;

} // namespace

void fault(const char *format, ...)
{
    char text[1500];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fflush(stdout);
    fprintf(stderr, "hostcuda: %s%s\n", where().c_str(), text);
    abort();
}

std::string where(void)
{
    return fiber_where();
}

int injected(hostcuda_kind kind)
{
    injection &i = injections[kind];
    return ++i.calls == i.at ? i.code : 0;
}

cudaError_t result(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

int choice(const char *variable, const char *const *names, int count, uint64_t *seed)
{
    const char *text = getenv(variable);
    if (!text)
        return -1;
    const size_t length = strcspn(text, ":");
    if (text[length])
        *seed = strtoull(text + length + 1, nullptr, 10);
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == length && strncmp(names[i], text, length) == 0)
            return i;
    fault("%s: %s is no choice", variable, text);
}

} // namespace hostcuda

using namespace hostcuda;

void hostcuda_fail(hostcuda_kind kind, int64_t nth, int code)
{
    injections[kind].at = injections[kind].calls + nth;
    injections[kind].code = code;
}

int64_t hostcuda_calls(hostcuda_kind kind)
{
    return injections[kind].calls;
}

void hostcuda_set_devices(int count, int64_t memory, int new_major, int new_minor)
{
    devices = count;
    memory_limit = memory;
    major = new_major;
    minor = new_minor;
}

int64_t hostcuda_left(void)
{
    int64_t left;
    account(&left);
    return left;
}

/* ASan's shadow holds addresses that small numbers look like; they are no pointers of a program. */
static bool is_host_memory(uint64_t word)
{
    if (word < 0x10000 || word >= (uint64_t)1 << 47 ||
        (word >= 0x7fff8000 && word < 0x10007fff8000))
        return false;
    unsigned char resident;
    return mincore((void *)(word & ~(uint64_t)4095), 1, &resident) == 0;
}

void hostcuda_argument(const char *kernel, int number, uint64_t word, bool pointer)
{
    if (word == 0 || memory_is_device((const void *)word))
        return;
    if (pointer || is_host_memory(word))
        fault("kernel %s: argument %d is or holds %p, a pointer that is not to device memory",
              kernel, number, (void *)word);
}

/* What real hardware of capability 8.0 and above refuses; the limits stand in the CUDA programming
 * guide, "Compute Capabilities". */
static cudaError_t launch_limits(const void *kernel, dim3 grid, dim3 block, size_t shared)
{
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0)
        return cudaErrorInvalidConfiguration;
    if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return cudaErrorInvalidConfiguration;
    if (block.x > 1024 || block.y > 1024 || block.z > 64 || threads > 1024)
        return cudaErrorInvalidConfiguration;
    const auto allowed = shared_allowed.find(kernel);
    const int most = allowed == shared_allowed.end() ? SHARED_PLAIN : allowed->second;
    return shared > (size_t)most ? cudaErrorInvalidValue : cudaSuccess;
}

void hostcuda_enqueue(const void *kernel, const char *name, dim3 grid, dim3 block, size_t shared,
                      cudaStream_t stream, std::function<void()> thread)
{
    int error = injected(HOSTCUDA_LAUNCH);
    if (!error)
        error = launch_limits(kernel, grid, block, shared);
    if (error) {
        result((cudaError_t)error);
        return;
    }
    const launch what = {name, grid, block, shared, std::move(thread)};
    enqueue(stream, name, [what] { run_kernel(what); });
}

extern "C" {

cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
        return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver:
        return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
        return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
        return "cudaErrorInvalidDevice";
    case cudaErrorNoKernelImageForDevice:
        return "cudaErrorNoKernelImageForDevice";
    case cudaErrorInvalidResourceHandle:
        return "cudaErrorInvalidResourceHandle";
    case cudaErrorIllegalAddress:
        return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    case cudaErrorNotReady:
        return "cudaErrorNotReady";
    default:
        return "an error of CUDA";
    }
}

/* CUDA's sentences are its own; the name says enough. */
const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? "out of memory" : cudaGetErrorName(error);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    if (const int error = injected(HOSTCUDA_DEVICE))
        return result((cudaError_t)error);
    *count = devices;
    return devices ? cudaSuccess : result(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    if (const int error = injected(HOSTCUDA_DEVICE))
        return result((cudaError_t)error);
    if (device < 0 || device >= devices)
        return result(cudaErrorInvalidDevice);
    device_now = device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int bytes, int device)
{
    if (const int error = injected(HOSTCUDA_DEVICE))
        return result((cudaError_t)error);
    if (device < 0 || device >= devices)
        return result(cudaErrorInvalidDevice);
    snprintf(id, (size_t)bytes, "0000:%02x:00.0", device);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    if (const int error = injected(HOSTCUDA_DEVICE))
        return result((cudaError_t)error);
    if (device < 0 || device >= devices)
        return result(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = minor;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = 4;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = SHARED_MOST;
        return cudaSuccess;
    default:
        fault("cudaDeviceGetAttribute: attribute %d is not known here", (int)attribute);
    }
}

/* The name and the identity; the second device's last byte is 1. */
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device)
{
    if (const int error = injected(HOSTCUDA_DEVICE))
        return result((cudaError_t)error);
    if (device < 0 || device >= devices)
        return result(cudaErrorInvalidDevice);
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "hostcuda");
    out->uuid.bytes[sizeof out->uuid.bytes - 1] = (char)device;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    if (const int error = injected(HOSTCUDA_DEVICE))
        return result((cudaError_t)error);
    *total = (size_t)memory_limit;
    *free_bytes = (size_t)(memory_limit - memory_used());
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        fault("cudaFuncSetAttribute: attribute %d is not known here", (int)attribute);
    if (value < 0 || value > SHARED_MOST)
        return result(cudaErrorInvalidValue);
    shared_allowed[kernel] = value;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    if (recording_broken())
        return result(cudaErrorStreamCaptureUnsupported);
    if (const int error = injected(HOSTCUDA_MALLOC))
        return result((cudaError_t)error);
    return result(memory_new(memory, bytes));
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    if (recording_broken())
        return result(cudaErrorStreamCaptureUnsupported);
    if (const int error = injected(HOSTCUDA_MALLOC))
        return result((cudaError_t)error);
    *memory = malloc(bytes);
    if (!*memory)
        return result(cudaErrorMemoryAllocation);
    memset(*memory, 0xFF, bytes);
    pinned.insert(*memory);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory)
{
    if (recording_broken())
        return result(cudaErrorStreamCaptureUnsupported);
    run_all();
    if (memory && !pinned.erase(memory))
        fault("cudaFreeHost of what is no pinned memory, or of one twice");
    free(memory);
    return cudaSuccess;
}

/* Both sides are looked at when the copy is queued and read when it runs. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (const int error = injected(HOSTCUDA_COPY))
        return result((cudaError_t)error);
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (!to_device && !from_device)
        fault("cudaMemcpyAsync: a kind of copy that is not known here");
    if (to_device)
        memory_inside(to, bytes, "destination of a copy");
    else if (memory_is_device(to))
        fault("destination of a copy: device memory where the kind says host");
    if (from_device)
        memory_inside(from, bytes, "source of a copy");
    else if (memory_is_device(from))
        fault("source of a copy: device memory where the kind says host");
    if (records(stream) && !(to_device && from_device))
        fault("a copy between host and device is recorded in a graph: whatever stands there then");
    enqueue(stream, "copy", [=] { memmove(to, from, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream)
{
    if (const int error = injected(HOSTCUDA_COPY))
        return result((cudaError_t)error);
    memory_inside(at, bytes, "cudaMemsetAsync");
    enqueue(stream, "set", [=] { memset(at, value, bytes); });
    return cudaSuccess;
}
}
