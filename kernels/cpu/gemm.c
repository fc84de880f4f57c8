/* One file for every product. Measured on tiles of the model's shapes (M 512..1024, K 128..256, N
 * 256, one core of a Sapphire Rapids): oneDNN 2.6 165-190 GF/s, OpenBLAS 0.3.21 132-158 GF/s; hence
 * oneDNN where it was found at build time, any CBLAS otherwise. Both take the transposed forms
 * without copies of ours. */
#include "kernels/cpu/gemm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef CROCUTA_DNNL
#include <dnnl.h>

void gemm_f32(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, const float *A,
              int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc)
{
    /* Only impossible arguments make it fail; gemm_open has seen every form succeed. */
    (void)dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', M, N, K, 1.0f, A, lda, B, ldb, beta,
                     C, ldc);
}

void gemm_library(char *text, int size)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, (size_t)size, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}

static void gemm_threads(void)
{
    /* Inside a parallel region oneDNN runs on the calling thread alone. */
}
#else
#include <cblas.h>

/* OpenBLAS only; absent from other CBLAS libraries. */
extern void openblas_set_num_threads(int) __attribute__((weak));
extern char *openblas_get_config(void) __attribute__((weak));

void gemm_f32(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, const float *A,
              int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc)
{
    cblas_sgemm(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans,
                trans_b ? CblasTrans : CblasNoTrans, (int)M, (int)N, (int)K, 1.0f, A, (int)lda, B,
                (int)ldb, beta, C, (int)ldc);
}

void gemm_library(char *text, int size)
{
    snprintf(text, (size_t)size, "%s", openblas_get_config ? openblas_get_config() : "CBLAS");
}

static void gemm_threads(void)
{
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
}
#endif

/* Largest error of one product, relative to the largest element of the plain loop's result. */
static double product_error(bool ta, bool tb, int64_t M, int64_t N, int64_t K, float *block)
{
    float *A = block, *B = A + M * K, *C = B + K * N;
    for (int64_t i = 0; i < M * K + K * N; i++)
        A[i] = (float)((i * 7919 + 13) % 257 - 128) / 128.0f;
    for (int64_t i = 0; i < M * N; i++)
        C[i] = NAN; /* beta 0 must not read it */
    gemm_f32(ta, tb, M, N, K, A, ta ? M : K, B, tb ? K : N, 0.0f, C, N);
    double worst = 0, scale = 1;
    for (int64_t m = 0; m < M; m++) {
        for (int64_t n = 0; n < N; n++) {
            double sum = 0;
            for (int64_t k = 0; k < K; k++)
                sum +=
                    (double)A[ta ? k * M + m : m * K + k] * (double)B[tb ? n * K + k : k * N + n];
            double e = fabs(sum - (double)C[m * N + n]);
            if (!(e <= worst)) /* a NaN counts as the worst */
                worst = isnan(e) ? INFINITY : e;
            scale = fmax(scale, fabs(sum));
        }
    }
    return worst / scale;
}

status gemm_open(void)
{
    const int64_t M = 70, N = 261, K = 67; /* odd: edge kernels run too */
    gemm_threads();
    float *block = malloc((size_t)(M * K + K * N + M * N) * sizeof *block);
    if (!block)
        return fail(STATUS_MEMORY,
                    "gemm: no memory for the check of the product library; free some memory");
    double worst = 0;
    for (int form = 0; form < 4; form++)
        worst = fmax(worst, product_error(form & 1, form & 2, M, N, K, block));
    free(block);
    if (worst < 1e-5)
        return STATUS_OK;
    char name[128];
    gemm_library(name, sizeof name);
    return fail(STATUS_RANK,
                "gemm: %s computes wrong products on this processor (error %.1e); set "
                "OPENBLAS_CORETYPE=Haswell or build with oneDNN (libdnnl-dev)",
                name, worst);
}
