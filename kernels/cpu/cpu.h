/* The CPU's side of the table of operations: every operation of kernels/ops.h under its name with
 * `_cpu` behind it, and what their workspace takes. Formulas, shapes and sources stand in
 * kernels/ops.h. */
#ifndef CROCUTA_KERNELS_CPU_CPU_H
#define CROCUTA_KERNELS_CPU_CPU_H

#include "kernels/ops.h"

void device_close_cpu(device *dev);
status memory_take_cpu(device *dev, size_t bytes, void **out);
void memory_give_cpu(device *dev, void *memory);
status copy_cpu(device *dev, void *to, const void *from, size_t bytes);
void drain_cpu(device *dev, bool abandon);
status room_cpu(device *dev, device_room *out);
status measure_cpu(device *dev, int64_t d, bool mixed, double *gemm_flops_per_s,
                   double *copy_bytes_per_s);
status clear_cpu(device *dev, void *at, size_t bytes);
status device_wait_cpu(device *dev);
status embed_forward_cpu(device *dev, const embed_args *a, float *residual, arena *ws);
status embed_backward_cpu(device *dev, const embed_args *a, const float *dresidual, float *dE,
                          float *const *dA, float *const *dBm, arena *ws);
status mixin_forward_cpu(device *dev, const mixin_args *a, const float *residual, void *u,
                         void *gates, void *g, arena *ws);
status mixin_regate_cpu(device *dev, const mixin_args *a, const void *u, void *gates, void *g,
                        arena *ws);
status mixin_backward_cpu(device *dev, const mixin_args *a, const float *residual, const void *u,
                          const void *dgates, const void *dg, float *dresidual, float *dhalo,
                          const mixin_grads *grads, arena *ws);
status filter_forward_cpu(device *dev, const filter_args *a, float *k, int64_t k_stride, arena *ws);
status filter_backward_cpu(device *dev, const filter_args *a, const float *dk, int64_t k_stride,
                           const filter_grads *grads, arena *ws);
status conv_forward_cpu(device *dev, const conv_args *a, const float *k, const float *D,
                        const void *g, const void *gate, void *y, arena *ws);
status conv_backward_cpu(device *dev, const conv_args *a, const float *k, const float *D,
                         const void *g, const void *gate, const void *dy, void *dg, void *dgate,
                         float *dk, float *dD, arena *ws);
status mixout_forward_cpu(device *dev, const mixout_args *a, const void *gate, const void *y,
                          const float *residual, float *out, arena *ws);
status mixout_backward_cpu(device *dev, const mixout_args *a, const void *gate, const void *y,
                           const float *dout, void *dgate, void *dy, float *dW, float *db,
                           arena *ws);
status mlp_forward_cpu(device *dev, const mlp_args *a, const float *x, void *h, float *out,
                       arena *ws);
status mlp_backward_cpu(device *dev, const mlp_args *a, const float *x, const void *h,
                        float *dresidual, const mlp_grads *grads, arena *ws);
status head_forward_cpu(device *dev, const head_args *a, const float *residual, float *hidden,
                        float *logits, float *token_loss, loss_sum *loss, arena *ws);
status head_backward_cpu(device *dev, const head_args *a, const float *residual, loss_sum *loss,
                         float *dresidual, float *dln_w, float *dln_b, float *dE, arena *ws);
status classify_forward_cpu(device *dev, const classify_args *a, const float *residual,
                            float *pooled, float *logits, loss_sum *loss, arena *ws);
status classify_backward_cpu(device *dev, const classify_args *a, const float *residual,
                             loss_sum *loss, float *dresidual, const classify_grads *grads,
                             arena *ws);
status ranges_forward_cpu(device *dev, const ranges_args *a, float *out, arena *ws);
status sites_forward_cpu(device *dev, const sites_args *a, const float *residual,
                         float *class_logits, float *site_logits, double *sequence_nll,
                         loss_sum *loss, arena *ws);
status sites_backward_cpu(device *dev, const sites_args *a, const float *residual, loss_sum *loss,
                          float *dresidual, const sites_grads *grads, float *drows, arena *ws);
status norm_squares_cpu(device *dev, const float *x, int64_t n, double *sum, arena *ws);
status adamw_update_cpu(device *dev, const adamw_args *a, int64_t n, float *p, const float *g,
                        float *m, float *v);
status rows_reduce_cpu(device *dev, int64_t n, int64_t slots, int64_t k, const int32_t *slot,
                       const int32_t *of, const float *grad, const int32_t *place, float *total,
                       arena *ws);
status rows_gather_cpu(device *dev, int64_t count, int64_t k, const int32_t *index,
                       const float *from, float *out);
status rows_adam_cpu(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                     const int32_t *unique, const float *sum, float *p, float *m, float *v,
                     int64_t *last);
status rows_catch_up_cpu(device *dev, const rows_adam_args *a, int64_t count, int64_t k,
                         const int32_t *unique, const float *p, const float *m, const float *v,
                         const int64_t *last, float *out);
status pieces_copy_cpu(device *dev, const pieces_args *a, const void *from, void *to);
status pieces_add_cpu(device *dev, const pieces_args *a, const float *from, float *to);

/* The table's queries: bytes of workspace (kernels/ops.h). */
size_t embed_workspace_cpu(const device *dev, const embed_args *a);
size_t filter_workspace_cpu(const device *dev, const filter_args *a);
size_t conv_workspace_cpu(const device *dev, const conv_args *a);
size_t mixout_workspace_cpu(const device *dev, const mixout_args *a);
size_t head_workspace_cpu(const device *dev, const head_args *a);
size_t classify_workspace_cpu(const device *dev, const classify_args *a);
size_t sites_workspace_cpu(const device *dev, const sites_args *a);
size_t mixin_workspace_cpu(const device *dev, const mixin_args *a, bool kept);
size_t mlp_workspace_cpu(const device *dev, const mlp_args *a, bool kept);
size_t rows_reduce_workspace_cpu(const device *dev, int64_t n, int64_t k);
int64_t conv_points_cpu(int64_t L);

#endif
