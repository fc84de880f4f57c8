/* Opening a GPU, its memory, and what CUDA's errors mean to the person who reads them. */
#include "kernels/cuda/fft.h"
#include "kernels/cuda/gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPABILITY_LEAST 8 /* Ampere: bf16 products, 163 KB of shared memory */

const char *cuda_advice(cudaError_t error)
{
    switch (error) {
    case cudaErrorMemoryAllocation:
        return "lower train.micro_batch, set train.recompute: all or use more GPUs";
    case cudaErrorNoDevice:
        return "no GPU is visible here; check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device "
               "cpu";
    case cudaErrorInsufficientDriver:
        return "there is no driver, or the driver is older than this program's CUDA; update it or "
               "use "
               "--device cpu";
    case cudaErrorInvalidDevice:
        return "start no more workers on a node than it has GPUs";
    case cudaErrorNoKernelImageForDevice:
        return "this program was not built for this GPU; build it there";
    default:
        return "run it again; where it stays, run it under compute-sanitizer and report it";
    }
}

status cuda_status(cudaError_t error, const char *call, const char *source, int line)
{
    if (error == cudaSuccess)
        return STATUS_OK;
    cudaGetLastError(); /* told here: the next launch must not tell it again */
    const status code = error == cudaErrorMemoryAllocation ? STATUS_MEMORY : STATUS_DEVICE;
    return fail_at(source, line, code, "%.*s: %s (%s); %s", (int)strcspn(call, "("), call,
                   cudaGetErrorString(error), cudaGetErrorName(error), cuda_advice(error));
}

status cuda_launched(const char *kernel, const char *source, int line)
{
    return cuda_status(cudaGetLastError(), kernel, source, line);
}

status cuda_allow_shared(const void *kernel, const char *name, size_t bytes)
{
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    return cuda_status(error, name, __FILE__, __LINE__);
}

static status check_capability(int ordinal)
{
    int major = 0, minor = 0;
    TRY_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal));
    TRY_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal));
    if (major < CAPABILITY_LEAST)
        return fail(STATUS_DEVICE,
                    "GPU %d: compute capability %d.%d, %d.0 is needed; use a newer GPU or --device "
                    "cpu",
                    ordinal, major, minor, CAPABILITY_LEAST);
    return STATUS_OK;
}

static status state_open(cuda_state *c)
{
    int count = 0;
    TRY_CUDA(cudaGetDeviceCount(&count));
    if (c->ordinal < 0 || c->ordinal >= count)
        return fail(STATUS_DEVICE,
                    "GPU %d: there are %d GPUs here; start no more workers on a node than it has "
                    "GPUs",
                    c->ordinal, count);
    TRY_CUDA(cudaSetDevice(c->ordinal));
    TRY(check_capability(c->ordinal));
    /* A non-blocking stream: nothing waits for the default stream, on which nothing runs. */
    TRY_CUDA(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking));
    TRY_CUDA(cudaMalloc(&c->scratch, CUDA_SCRATCH));
    TRY_CUDA(cudaEventCreateWithFlags(&c->uploaded, cudaEventDisableTiming));
    TRY_CUDA(cudaMallocHost((void **)&c->notes, CUDA_NOTES * sizeof *c->notes));
    return gemm_open_cuda(c);
}

/* Its name, and an identity that two processes find equal where they see one GPU. */
static status name_device(device *dev, int ordinal)
{
    struct cudaDeviceProp p;
    TRY_CUDA(cudaGetDeviceProperties(&p, ordinal));
    snprintf(dev->name, sizeof dev->name, "%.120s", p.name);
    for (size_t i = 0; i < sizeof p.uuid.bytes; i++)
        snprintf(dev->id + 2 * i, 3, "%02x", (unsigned char)p.uuid.bytes[i]);
    return STATUS_OK;
}

status device_open_cuda(int ordinal, int threads, device **out)
{
    status st = STATUS_OK;
    *out = NULL;
    device *dev = calloc(1, sizeof *dev);
    cuda_state *c = calloc(1, sizeof *c);
    if (!dev || !c) {
        st = fail(STATUS_MEMORY, "--device: no memory for a device; free some memory");
        goto failed;
    }
    c->ordinal = ordinal;
    *dev = (device){
        .kind = DEVICE_CUDA, .ops = &ops_cuda, .threads = threads, .state = c, .mark = mark_cuda};
    TRY_GOTO(failed, state_open(c));
    TRY_GOTO(failed, name_device(dev, ordinal));
    dev->ordinal = ordinal;
    dev->stream = c->stream;
    *out = dev;
    return STATUS_OK;

failed:
    if (dev && dev->state)
        device_close_cuda(dev);
    else
        free(c);
    free(dev);
    return st;
}

/* Errors while closing change nothing: an earlier one was reported already. */
void device_close_cuda(device *dev)
{
    cuda_state *c = cuda_of(dev);
    fft_close_cuda(c);
    gemm_close_cuda(c);
    if (c->stream)
        cudaStreamDestroy(c->stream);
    if (c->scratch)
        cudaFree(c->scratch);
    if (c->uploaded)
        cudaEventDestroy(c->uploaded);
    if (c->notes)
        cudaFreeHost(c->notes);
    free(c->blocks);
    free(c);
    dev->state = NULL;
}

status memory_take_cuda(device *dev, size_t bytes, void **out)
{
    cuda_state *c = cuda_of(dev);
    *out = NULL;
    if (c->n_blocks == c->room_blocks) {
        const int room = c->room_blocks ? 2 * c->room_blocks : 64;
        cuda_block *more = realloc(c->blocks, (size_t)room * sizeof *more);
        if (!more)
            return fail(STATUS_MEMORY, "--device: no memory for a list; free some memory");
        c->blocks = more;
        c->room_blocks = room;
    }
    TRY_CUDA(cudaMalloc(out, bytes ? bytes : 1));
    c->blocks[c->n_blocks++] = (cuda_block){*out, bytes};
    c->taken += (int64_t)bytes;
    c->peak = c->taken > c->peak ? c->taken : c->peak;
    return STATUS_OK;
}

/* cudaFree waits for the whole GPU: never inside a step. */
void memory_give_cuda(device *dev, void *memory)
{
    cuda_state *c = cuda_of(dev);
    for (int i = 0; memory && i < c->n_blocks; i++)
        if (c->blocks[i].at == memory) {
            c->taken -= (int64_t)c->blocks[i].bytes;
            c->blocks[i] = c->blocks[--c->n_blocks];
            break;
        }
    if (memory)
        cudaFree(memory);
}

status host_take_cuda(device *dev, size_t bytes, void **out)
{
    (void)dev;
    *out = NULL;
    return CUDA(cudaMallocHost(out, bytes ? bytes : 1));
}

void host_give_cuda(device *dev, void *memory)
{
    (void)dev;
    if (memory)
        cudaFreeHost(memory);
}

status room_cuda(device *dev, device_room *out)
{
    size_t available = 0, total = 0;
    TRY_CUDA(cudaMemGetInfo(&available, &total));
    *out = (device_room){.available = (int64_t)available, .peak = cuda_of(dev)->peak};
    return STATUS_OK;
}

status upload_cuda(device *dev, void *to, const void *from, size_t bytes)
{
    const cuda_state *c = cuda_of(dev);
    if (c->recording)
        return fail(STATUS_INTERNAL, "graph: an upload inside; report this");
    TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, c->stream));
    return CUDA(cudaEventRecord(c->uploaded, c->stream));
}

status upload_wait_cuda(device *dev)
{
    return CUDA(cudaEventSynchronize(cuda_of(dev)->uploaded));
}

void drain_cuda(device *dev, bool abandon)
{
    cuda_state *c = cuda_of(dev);
    if (abandon)
        c->n_notes = 0;
    const cudaError_t error = cudaStreamSynchronize(c->stream);
    if (error != cudaSuccess)
        c->late = error;
    cudaGetLastError();
}

status download_cuda(device *dev, void *to, const void *from, size_t bytes)
{
    TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, cuda_of(dev)->stream));
    const status st = device_wait_cuda(dev);
    if (st != STATUS_OK)
        drain_cuda(dev, true); /* the caller will give `to` back */
    return st;
}

static status notes_deliver(cuda_state *c)
{
    const int n = c->n_notes;
    int32_t refused = -1;
    c->n_notes = 0;
    const cudaError_t late = c->late;
    c->late = cudaSuccess;
    TRY(cuda_status(late, "cudaStreamSynchronize", __FILE__, __LINE__));
    TRY_CUDA(cudaStreamSynchronize(c->stream));
    for (int i = 0; i < n; i++) {
        memcpy(c->notes[i].to, c->notes[i].value, c->notes[i].bytes);
        if (c->notes[i].to == &c->refused_row && refused < 0)
            refused = c->refused_row;
    }
    if (refused >= 0)
        return fail(STATUS_INTERNAL,
                    "rows: row %d had this step, or a later one, already; resume from a checkpoint",
                    (int)refused);
    return STATUS_OK;
}

status cuda_note_take(cuda_state *c, void *to, const void *from, size_t bytes)
{
    if (c->recording)
        return graph_note_cuda(c, to, from, bytes);
    if (c->n_notes == CUDA_NOTES)
        TRY(notes_deliver(c));
    cuda_note *note = &c->notes[c->n_notes];
    TRY_CUDA(cudaMemcpyAsync(note->value, from, bytes, cudaMemcpyDeviceToHost, c->stream));
    note->to = to;
    note->bytes = bytes;
    c->n_notes++;
    return STATUS_OK;
}

status device_wait_cuda(device *dev)
{
    return notes_deliver(cuda_of(dev));
}

status clear_cuda(device *dev, void *at, size_t bytes)
{
    return bytes ? CUDA(cudaMemsetAsync(at, 0, bytes, cuda_of(dev)->stream)) : STATUS_OK;
}

status copy_cuda(device *dev, void *to, const void *from, size_t bytes)
{
    return bytes && to != from ? CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice,
                                                      cuda_of(dev)->stream))
                               : STATUS_OK;
}
