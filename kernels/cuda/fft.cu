/* cuFFT's plans: made once for a number of points, a batch and a direction, without memory of their
 * own beside tables, on the device's stream. A shape needs two to four of them; a run whose lengths
 * grow needs a few more; the one that was not used for longest makes room. */
#include "kernels/cuda/fft.h"

#include <cufft.h>
#include <stdlib.h>

#define PLANS 64

typedef struct {
    int64_t points, batch; /* batch 0: free */
    int64_t asked;         /* the batch that did not fit and led to this one; else `batch` */
    fft_direction direction;
    cufftHandle handle;
    size_t bytes; /* of work area */
    int64_t used; /* when: the cache's clock */
} fft_plan;

typedef struct {
    fft_plan plan[PLANS];
    int64_t clock;
} fft_cache;

static const char *fft_error(cufftResult error)
{
    switch (error) {
    case CUFFT_INVALID_PLAN:
        return "CUFFT_INVALID_PLAN";
    case CUFFT_ALLOC_FAILED:
        return "CUFFT_ALLOC_FAILED";
    case CUFFT_INVALID_VALUE:
        return "CUFFT_INVALID_VALUE";
    case CUFFT_INTERNAL_ERROR:
        return "CUFFT_INTERNAL_ERROR";
    case CUFFT_EXEC_FAILED:
        return "CUFFT_EXEC_FAILED";
    case CUFFT_SETUP_FAILED:
        return "CUFFT_SETUP_FAILED";
    case CUFFT_INVALID_SIZE:
        return "CUFFT_INVALID_SIZE";
    default:
        return "an error";
    }
}

static status fft_status(cufftResult error, const char *call, const char *source, int line)
{
    if (error == CUFFT_SUCCESS)
        return STATUS_OK;
    const bool memory = error == CUFFT_ALLOC_FAILED;
    return fail_at(source, line, memory ? STATUS_MEMORY : STATUS_DEVICE,
                   "%.*s: cuFFT says %s (%d); %s", (int)strcspn(call, "("), call, fft_error(error),
                   (int)error,
                   memory ? "lower train.micro_batch or use more GPUs"
                          : "see whether nvidia-smi shows a healthy GPU, run it again");
}

#define CUFFT(call) fft_status((call), #call, __FILE__, __LINE__)

/* One plan, which must not allocate a work area: the step's memory is the arenas'. */
static status plan_shape(fft_plan *p)
{
    TRY(CUFFT(cufftSetAutoAllocation(p->handle, 0)));
    int n = (int)p->points, real = n, bins = (int)fft_spectrum(p->points);
    const bool forward = p->direction == FFT_FORWARD;
    int *in = forward ? &real : &bins, *out = forward ? &bins : &real;
    return CUFFT(cufftMakePlanMany(p->handle, 1, &n, in, 1, *in, out, 1, *out,
                                   forward ? CUFFT_R2C : CUFFT_C2R, (int)p->batch, &p->bytes));
}

static status plan_make(const cuda_state *c, fft_plan *p)
{
    TRY(CUFFT(cufftCreate(&p->handle)));
    status st = plan_shape(p);
    if (st == STATUS_OK)
        st = CUFFT(cufftSetStream(p->handle, c->stream));
    if (st != STATUS_OK)
        cufftDestroy(p->handle);
    return st;
}

/* A place for a new plan; transforms of the plan that stood there may be queued still. */
static status place_take(cuda_state *c, fft_cache *cache, fft_plan **out)
{
    fft_plan *place = cache->plan;
    for (fft_plan *p = cache->plan; p < cache->plan + PLANS; p++)
        if (p->used < place->used)
            place = p;
    if (place->batch) {
        TRY_CUDA(cudaStreamSynchronize(c->stream));
        cufftDestroy(place->handle);
        place->batch = place->used = 0;
        c->plans_gone++;
    }
    *out = place;
    return STATUS_OK;
}

/* A plan for as many of `batch` transforms as `bytes` of work area are enough for. */
static status plan_fit(const cuda_state *c, fft_plan wanted, size_t bytes, fft_plan *out)
{
    for (;;) {
        TRY(plan_make(c, &wanted));
        if (wanted.bytes <= bytes)
            break;
        cufftDestroy(wanted.handle);
        if (wanted.batch == 1)
            return fail(STATUS_MEMORY,
                        "conv: cuFFT wants %zu bytes of work area for one transform of %lld "
                        "points, %zu are planned; use a shorter sequence and report it",
                        wanted.bytes, (long long)wanted.points, bytes);
        wanted.batch = (wanted.batch + 1) / 2;
    }
    *out = wanted;
    return STATUS_OK;
}

static status plan_get(cuda_state *c, fft_direction direction, int64_t points, int64_t batch,
                       size_t bytes, fft_plan **out)
{
    if (!c->fft)
        c->fft = calloc(1, sizeof(fft_cache));
    if (!c->fft)
        return fail(STATUS_MEMORY, "conv: no memory for plans of transforms; free some memory");
    fft_cache *cache = (fft_cache *)c->fft;
    fft_plan *found = NULL;
    for (fft_plan *p = cache->plan; p < cache->plan + PLANS && !found; p++)
        if (p->batch && p->points == points && p->direction == direction &&
            (p->batch == batch || p->asked == batch) && p->bytes <= bytes)
            found = p;
    if (!found) {
        fft_plan wanted = {};
        wanted.points = points;
        wanted.batch = wanted.asked = batch;
        wanted.direction = direction;
        TRY(place_take(c, cache, &found));
        TRY(plan_fit(c, wanted, bytes, found));
    }
    found->used = ++cache->clock;
    *out = found;
    return STATUS_OK;
}

extern "C" status fft_run_cuda(device *dev, fft_direction direction, int64_t points, int64_t batch,
                               float *real, float *spectrum, void *work, size_t work_bytes)
{
    if (points < 2 || points % 2 || points > INT32_MAX)
        return fail(STATUS_USAGE, "conv: transforms of %lld points; an even number below 2^31",
                    (long long)points);
    const int64_t most = INT32_MAX / points; /* cuFFT counts the elements of a plan in 32 bits */
    for (int64_t done = 0; done < batch;) {
        const int64_t left = batch - done;
        fft_plan *p = NULL;
        TRY(plan_get(cuda_of(dev), direction, points, left < most ? left : most, work_bytes, &p));
        float *rows = real + done * points;
        cufftComplex *spectra = (cufftComplex *)spectrum + done * fft_spectrum(points);
        TRY(CUFFT(cufftSetWorkArea(p->handle, work)));
        if (direction == FFT_FORWARD)
            TRY(CUFFT(cufftExecR2C(p->handle, rows, spectra)));
        else
            TRY(CUFFT(cufftExecC2R(p->handle, spectra, rows)));
        done += p->batch;
    }
    return STATUS_OK;
}

extern "C" void fft_close_cuda(cuda_state *c)
{
    fft_cache *cache = (fft_cache *)c->fft;
    for (int i = 0; cache && i < PLANS; i++)
        if (cache->plan[i].batch)
            cufftDestroy(cache->plan[i].handle);
    free(cache);
    c->fft = NULL;
}
