/* cuFFT's batched real transforms behind FFTW: one dimension, layout given, work area given by the
 * caller. The work area is overwritten at every transform, and the input of a C2R is lost, as FFTW
 * loses it: who counts on either learns it here. */
#include "tests/hostcuda/core.h"

#include <cufft.h>
#include <fftw3.h>

#include <cstring>
#include <map>
#include <memory>

namespace
{

struct plan {
    bool made = false, automatic = true;
    cufftType type;
    int n, batch, real_stride, real_dist, complex_stride, complex_dist;
    void *work = nullptr;
    size_t work_bytes = 0;
    cudaStream_t stream = nullptr;
    fftwf_plan fftw[2] = {nullptr, nullptr}; /* out of place, in place */
    ~plan()
    {
        for (fftwf_plan each : fftw)
            if (each)
                fftwf_destroy_plan(each);
    }
    size_t real_bytes() const
    {
        return ((size_t)(n - 1) * real_stride + (size_t)(batch - 1) * real_dist + 1) *
               sizeof(float);
    }
    size_t complex_bytes() const
    {
        return ((size_t)(n / 2) * complex_stride + (size_t)(batch - 1) * complex_dist + 1) *
               sizeof(cufftComplex);
    }
};

std::map<cufftHandle, std::shared_ptr<plan>> &plans =
    *new std::map<cufftHandle, std::shared_ptr<plan>>;
cufftHandle next_handle = 1;
double work_spectra = 1;

std::shared_ptr<plan> find(cufftHandle handle)
{
    const auto it = plans.find(handle);
    if (it == plans.end())
        hostcuda::fault("cuFFT: a plan that is not there");
    return it->second;
}

/* Runs on the stream, in the work area that the plan had when it was called. */
void transform(plan &p, void *work, float *real, cufftComplex *spectrum)
{
    memset(work, 0xFF, p.work_bytes);
    fftwf_complex *complex = (fftwf_complex *)spectrum;
    const bool in_place = (void *)real == (void *)spectrum;
    fftwf_plan &f = p.fftw[in_place];
    const unsigned flags = FFTW_ESTIMATE | FFTW_UNALIGNED;
    if (!f && p.type == CUFFT_R2C)
        f = fftwf_plan_many_dft_r2c(1, &p.n, p.batch, real, nullptr, p.real_stride, p.real_dist,
                                    complex, nullptr, p.complex_stride, p.complex_dist, flags);
    else if (!f)
        f = fftwf_plan_many_dft_c2r(1, &p.n, p.batch, complex, nullptr, p.complex_stride,
                                    p.complex_dist, real, nullptr, p.real_stride, p.real_dist,
                                    flags | FFTW_DESTROY_INPUT);
    if (!f)
        hostcuda::fault("cuFFT: FFTW makes no plan of %d points, %d times", p.n, p.batch);
    if (p.type == CUFFT_R2C)
        fftwf_execute_dft_r2c(f, real, complex);
    else
        fftwf_execute_dft_c2r(f, complex, real);
}

cufftResult run(cufftHandle handle, cufftType type, float *real, cufftComplex *spectrum)
{
    if (const int error = hostcuda::injected(HOSTCUDA_CUFFT))
        return (cufftResult)error;
    const std::shared_ptr<plan> p = find(handle);
    if (!p->made || p->type != type)
        return CUFFT_INVALID_PLAN;
    if (!p->work)
        hostcuda::fault("cuFFT: a transform without its work area");
    hostcuda::memory_inside(real, p->real_bytes(), "cuFFT: the real side");
    hostcuda::memory_inside(spectrum, p->complex_bytes(), "cuFFT: the spectrum");
    hostcuda::enqueue(p->stream, "cuFFT",
                      [p, work = p->work, real, spectrum] { transform(*p, work, real, spectrum); });
    return CUFFT_SUCCESS;
}

} // namespace

void hostcuda_set_fft_work(double spectra)
{
    work_spectra = spectra;
}

extern "C" {

cufftResult cufftCreate(cufftHandle *handle)
{
    if (const int error = hostcuda::injected(HOSTCUDA_CUFFT))
        return (cufftResult)error;
    *handle = next_handle++;
    plans[*handle] = std::make_shared<plan>();
    hostcuda::plans_left++;
    return CUFFT_SUCCESS;
}

cufftResult cufftDestroy(cufftHandle handle)
{
    find(handle);
    plans.erase(handle);
    hostcuda::plans_left--;
    return CUFFT_SUCCESS;
}

cufftResult cufftSetAutoAllocation(cufftHandle handle, int automatic)
{
    find(handle)->automatic = automatic != 0;
    return CUFFT_SUCCESS;
}

cufftResult cufftMakePlanMany(cufftHandle handle, int rank, int *n, int *inembed, int istride,
                              int idist, int *onembed, int ostride, int odist, cufftType type,
                              int batch, size_t *bytes)
{
    if (const int error = hostcuda::injected(HOSTCUDA_CUFFT))
        return (cufftResult)error;
    if (hostcuda::recording_broken())
        return CUFFT_INTERNAL_ERROR;
    const std::shared_ptr<plan> p = find(handle);
    if (p->automatic)
        hostcuda::fault("cuFFT: a plan that allocates by itself; cufftSetAutoAllocation(plan, 0)");
    if (rank != 1 || !inembed || !onembed || (type != CUFFT_R2C && type != CUFFT_C2R))
        hostcuda::fault("cuFFT: only R2C and C2R of one dimension with a given layout are known");
    if (n[0] < 1 || batch < 1 || p->made)
        return CUFFT_INVALID_VALUE;
    const bool forward = type == CUFFT_R2C;
    p->made = true;
    p->type = type;
    p->n = n[0];
    p->batch = batch;
    p->real_stride = forward ? istride : ostride;
    p->real_dist = forward ? idist : odist;
    p->complex_stride = forward ? ostride : istride;
    p->complex_dist = forward ? odist : idist;
    const size_t spectrum = (size_t)(n[0] / 2 + 1) * sizeof(cufftComplex);
    p->work_bytes = (size_t)(work_spectra * (double)(spectrum * (size_t)batch));
    *bytes = p->work_bytes;
    return CUFFT_SUCCESS;
}

cufftResult cufftSetWorkArea(cufftHandle handle, void *work)
{
    const std::shared_ptr<plan> p = find(handle);
    if (!p->made)
        return CUFFT_INVALID_PLAN;
    hostcuda::memory_inside(work, p->work_bytes, "cuFFT: the work area");
    p->work = work;
    return CUFFT_SUCCESS;
}

cufftResult cufftSetStream(cufftHandle handle, cudaStream_t stream)
{
    find(handle)->stream = stream;
    return CUFFT_SUCCESS;
}

cufftResult cufftExecR2C(cufftHandle handle, cufftReal *in, cufftComplex *out)
{
    return run(handle, CUFFT_R2C, in, out);
}

cufftResult cufftExecC2R(cufftHandle handle, cufftComplex *in, cufftReal *out)
{
    return run(handle, CUFFT_C2R, out, in);
}
}
