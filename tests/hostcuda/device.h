/* Device code as plain C++: compiled in front of every .cu file (-include). The qualifiers vanish
 * or are NVIDIA's own empty ones, a thread is a fiber (fiber.cpp), barriers and shuffles switch
 * fibers. What a kernel may use is what stands here and in <math.h>; anything else does not
 * compile. */
#ifndef CROCUTA_TESTS_HOSTCUDA_DEVICE_H
#define CROCUTA_TESTS_HOSTCUDA_DEVICE_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

extern "C" {
/* Of the fiber that runs. */
extern uint3 hostcuda_thread, hostcuda_block;
extern dim3 hostcuda_block_size, hostcuda_grid_size;
void *hostcuda_shared(void);
void hostcuda_barrier(const char *file, int line);
enum hostcuda_meeting { HOSTCUDA_SYNC, HOSTCUDA_SHUFFLE, HOSTCUDA_BALLOT };
/* Lanes in `mask` meet at one line; each gives `value` and gets what lane `from` gave (SHUFFLE) or
 * the lanes that gave something other than 0 (BALLOT). */
uint64_t hostcuda_meet(hostcuda_meeting what, unsigned mask, uint64_t value, int from,
                       const char *file, int line);
int hostcuda_lane(void);
}
/* One word of a kernel's arguments: a pointer to host memory is a fault. */
void hostcuda_argument(const char *kernel, int number, uint64_t word, bool pointer);
void hostcuda_enqueue(const void *kernel, const char *name, dim3 grid, dim3 block, size_t shared,
                      cudaStream_t stream, std::function<void()> thread);

#define threadIdx hostcuda_thread
#define blockIdx hostcuda_block
#define blockDim hostcuda_block_size
#define gridDim hostcuda_grid_size
#define warpSize 32

#undef __launch_bounds__
#define __launch_bounds__(...) /* registers: there are none here */

#undef __shared__
#define __shared__ shared_memory_goes_through_the_SHARED_macro

/* ---- launches */

#define HOSTCUDA_SHARED() hostcuda_shared()
#define HOSTCUDA_LAUNCH(kernel, name, grid, block, shared, stream, ...)                            \
    hostcuda_launch(kernel, name, dim3(grid), dim3(block), shared, stream, __VA_ARGS__)

template <typename T> void hostcuda_check_argument(const char *kernel, int number, const T &value)
{
    static_assert(std::is_trivially_copyable_v<T>, "kernels take plain data");
    for (size_t at = 0; at + sizeof(uint64_t) <= sizeof(T); at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, reinterpret_cast<const char *>(&value) + at, sizeof word);
        hostcuda_argument(kernel, number, word, std::is_pointer_v<T>);
    }
}

template <typename... P, typename... A>
void hostcuda_launch(void (*kernel)(P...), const char *name, dim3 grid, dim3 block, size_t shared,
                     cudaStream_t stream, A &&...given)
{
    static_assert((!std::is_reference_v<P> && ...), "arguments are copied");
    std::tuple<P...> arguments(static_cast<A &&>(given)...);
    int number = 0;
    std::apply([&](const P &...each) { (hostcuda_check_argument(name, ++number, each), ...); },
               arguments);
    hostcuda_enqueue(reinterpret_cast<const void *>(kernel), name, grid, block, shared, stream,
                     [kernel, arguments] { std::apply(kernel, arguments); });
}

/* ---- barriers, shuffles, votes: default arguments name the line of the caller */

#define HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(HERE)
{
    hostcuda_barrier(file, line);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, HERE)
{
    hostcuda_meet(HOSTCUDA_SYNC, mask, 0, 0, file, line);
}

template <typename T>
T hostcuda_shuffle(unsigned mask, T value, int from, const char *file, int line)
{
    static_assert(std::is_arithmetic_v<T> && sizeof(T) <= sizeof(uint64_t));
    uint64_t word = 0;
    memcpy(&word, &value, sizeof value);
    word = hostcuda_meet(HOSTCUDA_SHUFFLE, mask, word, from, file, line);
    memcpy(&value, &word, sizeof value);
    return value;
}

template <typename T> T __shfl_sync(unsigned mask, T value, int from, int width = 32, HERE)
{
    const int group = hostcuda_lane() & ~(width - 1);
    return hostcuda_shuffle(mask, value, group | (from & (width - 1)), file, line);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned step, int width = 32, HERE)
{
    const int lane = hostcuda_lane(), from = lane + (int)step;
    const bool inside = (from & ~(width - 1)) == (lane & ~(width - 1));
    return hostcuda_shuffle(mask, value, inside ? from : lane, file, line);
}

template <typename T> T __shfl_up_sync(unsigned mask, T value, unsigned step, int width = 32, HERE)
{
    const int lane = hostcuda_lane(), from = lane - (int)step;
    const bool inside = from >= (lane & ~(width - 1));
    return hostcuda_shuffle(mask, value, inside ? from : lane, file, line);
}

template <typename T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, HERE)
{
    const int lane = hostcuda_lane(), from = lane ^ bits;
    const bool inside = (from & ~(width - 1)) == (lane & ~(width - 1));
    return hostcuda_shuffle(mask, value, inside ? from : lane, file, line);
}

inline unsigned __ballot_sync(unsigned mask, int yes, HERE)
{
    return (unsigned)hostcuda_meet(HOSTCUDA_BALLOT, mask, yes != 0, 0, file, line);
}

inline int __any_sync(unsigned mask, int yes, HERE)
{
    return hostcuda_meet(HOSTCUDA_BALLOT, mask, yes != 0, 0, file, line) != 0;
}

inline int __all_sync(unsigned mask, int yes, HERE)
{
    return hostcuda_meet(HOSTCUDA_BALLOT, mask, yes != 0, 0, file, line) == mask;
}

#undef HERE

/* ---- atomics: fibers never interrupt one another */

template <typename T> T atomicAdd(T *at, T value)
{
    static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned> ||
                  std::is_same_v<T, unsigned long long> || std::is_same_v<T, float> ||
                  std::is_same_v<T, double>);
    const T before = *at;
    *at = before + value;
    return before;
}

template <typename T> T atomicMax(T *at, T value)
{
    static_assert(std::is_integral_v<T>);
    const T before = *at;
    *at = before < value ? value : before;
    return before;
}

template <typename T> T atomicCAS(T *at, T compare, T value)
{
    static_assert(std::is_integral_v<T>);
    const T before = *at;
    if (before == compare)
        *at = value;
    return before;
}

/* ---- arithmetic that C++ lacks */

template <typename T> T min(T a, T b)
{
    return b < a ? b : a;
}

template <typename T> T max(T a, T b)
{
    return a < b ? b : a;
}

inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}

inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

inline int __float_as_int(float x)
{
    int bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float __int_as_float(int bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif
