/* What every file of the CUDA backend stands on: calls of the CUDA runtime that become statuses,
 * what an open CUDA device holds, and the backend's operations under the names of kernels/ops.h
 * with `_cuda` behind them. Plain C but for the kernels, which kernels/cuda/launch.cuh serves. */
#ifndef CROCUTA_KERNELS_CUDA_CUDA_H
#define CROCUTA_KERNELS_CUDA_CUDA_H

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/ops.h"

/* cudaSuccess -> STATUS_OK; anything else is recorded as "CALL: what CUDA says; what to do", with
 * the source line beside it. `call` is the text of the call: what stands before its parenthesis is
 * shown. Out of memory is STATUS_MEMORY, the rest STATUS_DEVICE. */
status cuda_status(cudaError_t error, const char *call, const char *source, int line);

/* What to do about an error. */
const char *cuda_advice(cudaError_t error);

#define CUDA(call) cuda_status((call), #call, __FILE__, __LINE__)
#define TRY_CUDA(call) TRY(CUDA(call))

/* The status of the launch that the calling thread has just made: configuration errors come here,
 * errors inside the kernel at the next wait. */
status cuda_launched(const char *kernel, const char *source, int line);

/* More than 48 KB of dynamic shared memory must be asked for once a kernel (compute capability 8.0
 * gives up to 163 KB, 9.0 up to 227 KB a block). */
status cuda_allow_shared(const void *kernel, const char *name, size_t bytes);
#define ALLOW_SHARED(kernel, bytes) cuda_allow_shared((const void *)(kernel), #kernel, (bytes))

#define CUDA_SCRATCH ((size_t)1 << 16) /* bytes */

/* A small result on its way to the host. */
#define CUDA_NOTES 64
#define CUDA_NOTE_BYTES 48
typedef struct cuda_note {
    void *to; /* host */
    size_t bytes;
    unsigned char value[CUDA_NOTE_BYTES];
} cuda_note;

/* Memory that was taken, for the account. */
typedef struct {
    void *at;
    size_t bytes;
} cuda_block;

/* device->state of a CUDA device. All work of a step is queued on `stream`; nothing in an operation
 * waits for it: numbers for the host are notes. */
typedef struct {
    int ordinal;
    cudaStream_t stream;
    void *scratch;           /* device memory, CUDA_SCRATCH bytes: partial sums of one operation */
    cudaEvent_t uploaded;    /* recorded behind every upload */
    struct cuda_note *notes; /* pinned, CUDA_NOTES of them: results that wait for device_wait */
    int n_notes;
    int32_t refused_row;         /* a note of rows_adam: a row that had its step already, or -1 */
    void *gemm, *gemm_workspace; /* gemm.cu */
    void *fft;                   /* fft.cu */
    cuda_block *blocks;
    int n_blocks, room_blocks;
    int64_t taken, peak;     /* bytes */
    cudaError_t late;        /* came with a drain: the next wait tells it */
    device_graph *recording; /* graph.c: NULL: what is queued runs */
    int64_t plans_gone;      /* plans of transforms that were thrown out */
} cuda_state;

/* `bytes` (at most CUDA_NOTE_BYTES) of device memory reach host address `to` at the next
 * device_wait: how an operation hands out its loss without waiting for the GPU. */
status cuda_note_take(cuda_state *c, void *to, const void *from, size_t bytes);

/* graph.c: the same while a graph is recorded. */
status graph_note_cuda(cuda_state *c, void *to, const void *from, size_t bytes);

static inline cuda_state *cuda_of(const device *dev)
{
    return (cuda_state *)dev->state;
}

/* Opens GPU `ordinal`; `threads`: as for a CPU device, for what stays on the host. */
status device_open_cuda(int ordinal, int threads, device **out);

/* The table's own entries (kernels/ops.h). */
void device_close_cuda(device *dev);
status memory_take_cuda(device *dev, size_t bytes, void **out);
void memory_give_cuda(device *dev, void *memory);
status host_take_cuda(device *dev, size_t bytes, void **out);
void host_give_cuda(device *dev, void *memory);
void drain_cuda(device *dev, bool abandon);
status room_cuda(device *dev, device_room *out);
void mark_cuda(const char *name);
status measure_cuda(device *dev, int64_t d, bool mixed, double *gemm_flops_per_s,
                    double *copy_bytes_per_s);
status upload_cuda(device *dev, void *to, const void *from, size_t bytes);
status upload_wait_cuda(device *dev);
status download_cuda(device *dev, void *to, const void *from, size_t bytes);
status device_wait_cuda(device *dev);
status graph_begin_cuda(device *dev);
status graph_end_cuda(device *dev, device_graph **out);
status graph_run_cuda(device *dev, device_graph *g, const void *recorded, void *loss);
bool graph_gone_cuda(const device *dev, const device_graph *g);
void graph_free_cuda(device *dev, device_graph *g);
status clear_cuda(device *dev, void *at, size_t bytes);
status copy_cuda(device *dev, void *to, const void *from, size_t bytes);
size_t embed_workspace_cuda(const device *dev, const embed_args *a);
size_t mixin_workspace_cuda(const device *dev, const mixin_args *a, bool kept);
size_t filter_workspace_cuda(const device *dev, const filter_args *a);
size_t conv_workspace_cuda(const device *dev, const conv_args *a);
size_t mixout_workspace_cuda(const device *dev, const mixout_args *a);
size_t mlp_workspace_cuda(const device *dev, const mlp_args *a, bool kept);
size_t head_workspace_cuda(const device *dev, const head_args *a);
size_t classify_workspace_cuda(const device *dev, const classify_args *a);
size_t sites_workspace_cuda(const device *dev, const sites_args *a);
size_t rows_reduce_workspace_cuda(const device *dev, int64_t n, int64_t k);
int64_t conv_points_cuda(int64_t L);
status embed_forward_cuda(device *dev, const embed_args *a, float *residual, arena *ws);
status embed_backward_cuda(device *dev, const embed_args *a, const float *dresidual, float *dE,
                           float *const *dA, float *const *dBm, arena *ws);
status mixin_forward_cuda(device *dev, const mixin_args *a, const float *residual, void *u,
                          void *gates, void *g, arena *ws);
status mixin_regate_cuda(device *dev, const mixin_args *a, const void *u, void *gates, void *g,
                         arena *ws);
status mixin_backward_cuda(device *dev, const mixin_args *a, const float *residual, const void *u,
                           const void *dgates, const void *dg, float *dresidual, float *dhalo,
                           const mixin_grads *grads, arena *ws);
status filter_forward_cuda(device *dev, const filter_args *a, float *k, int64_t k_stride,
                           arena *ws);
status filter_backward_cuda(device *dev, const filter_args *a, const float *dk, int64_t k_stride,
                            const filter_grads *grads, arena *ws);
status conv_forward_cuda(device *dev, const conv_args *a, const float *k, const float *D,
                         const void *g, const void *gate, void *y, arena *ws);
status conv_backward_cuda(device *dev, const conv_args *a, const float *k, const float *D,
                          const void *g, const void *gate, const void *dy, void *dg, void *dgate,
                          float *dk, float *dD, arena *ws);
status mixout_forward_cuda(device *dev, const mixout_args *a, const void *gate, const void *y,
                           const float *residual, float *out, arena *ws);
status mixout_backward_cuda(device *dev, const mixout_args *a, const void *gate, const void *y,
                            const float *dout, void *dgate, void *dy, float *dW, float *db,
                            arena *ws);
status mlp_forward_cuda(device *dev, const mlp_args *a, const float *x, void *h, float *out,
                        arena *ws);
status mlp_backward_cuda(device *dev, const mlp_args *a, const float *x, const void *h,
                         float *dresidual, const mlp_grads *grads, arena *ws);
status head_forward_cuda(device *dev, const head_args *a, const float *residual, float *hidden,
                         float *logits, float *token_loss, loss_sum *loss, arena *ws);
status head_backward_cuda(device *dev, const head_args *a, const float *residual, loss_sum *loss,
                          float *dresidual, float *dln_w, float *dln_b, float *dE, arena *ws);
status classify_forward_cuda(device *dev, const classify_args *a, const float *residual,
                             float *pooled, float *logits, loss_sum *loss, arena *ws);
status classify_backward_cuda(device *dev, const classify_args *a, const float *residual,
                              loss_sum *loss, float *dresidual, const classify_grads *grads,
                              arena *ws);
status ranges_forward_cuda(device *dev, const ranges_args *a, float *out, arena *ws);
status sites_forward_cuda(device *dev, const sites_args *a, const float *residual,
                          float *class_logits, float *site_logits, double *sequence_nll,
                          loss_sum *loss, arena *ws);
status sites_backward_cuda(device *dev, const sites_args *a, const float *residual, loss_sum *loss,
                           float *dresidual, const sites_grads *grads, float *drows, arena *ws);
status norm_squares_cuda(device *dev, const float *x, int64_t n, double *sum, arena *ws);
status adamw_update_cuda(device *dev, const adamw_args *a, int64_t n, float *p, const float *g,
                         float *m, float *v);
status rows_reduce_cuda(device *dev, int64_t n, int64_t slots, int64_t k, const int32_t *slot,
                        const int32_t *of, const float *grad, const int32_t *place, float *total,
                        arena *ws);
status rows_gather_cuda(device *dev, int64_t count, int64_t k, const int32_t *index,
                        const float *from, float *out);
status rows_adam_cuda(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                      const int32_t *unique, const float *sum, float *p, float *m, float *v,
                      int64_t *last);
status rows_catch_up_cuda(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                          const int32_t *unique, const float *p, const float *m, const float *v,
                          const int64_t *last, float *out);
status pieces_copy_cuda(device *dev, const pieces_args *a, const void *from, void *to);
status pieces_add_cuda(device *dev, const pieces_args *a, const float *from, float *to);

extern const ops_table ops_cuda;

#ifdef __cplusplus
}
#endif

#endif
