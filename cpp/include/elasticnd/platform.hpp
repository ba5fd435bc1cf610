// Macros and types shared by all headers of this folder. Device code includes nothing from outside, because NVRTC ships
// no headers; the host's compiler compiles the same text.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define ELASTICND_CUDA
#define ELASTICND_INLINE __host__ __device__ inline
#define ELASTICND_MEMCPY memcpy
#else
#define ELASTICND_INLINE inline
#if defined(_MSC_VER)
#include <string.h>
#define ELASTICND_MEMCPY memcpy
#else
#define ELASTICND_MEMCPY __builtin_memcpy
#endif
#endif

// For loop bodies that a compiler might otherwise not inline because of their length.
#if defined(__GNUC__)
#define ELASTICND_FLAT ELASTICND_INLINE __attribute__((always_inline))
#define ELASTICND_FLAT_LAMBDA __attribute__((always_inline))
#else
#define ELASTICND_FLAT ELASTICND_INLINE
#define ELASTICND_FLAT_LAMBDA
#endif

// For CUDA kernels: loops that must not, or must, be unrolled, and functions that must not be inlined.
#if defined(ELASTICND_CUDA)
#define ELASTICND_ROLLED _Pragma("unroll 1")
#define ELASTICND_UNROLLED _Pragma("unroll")
#define ELASTICND_APART __noinline__
#else
#define ELASTICND_ROLLED
#define ELASTICND_UNROLLED
#define ELASTICND_APART
#endif

// Code that is compiled once per instruction set has a namespace for each; otherwise, the linker would merge the
// copies, and AVX2 instructions could run on a processor without them.
#ifndef ELASTICND_ISA
#define ELASTICND_ISA common
#endif
#define ELASTICND_BEGIN namespace elasticnd { namespace ELASTICND_ISA {
#define ELASTICND_END } }

namespace elasticnd {
using int8 = signed char;
using uint8 = unsigned char;
using int16 = short;
using uint16 = unsigned short;
using int32 = int;
using uint32 = unsigned int;
using int64 = long long;
using uint64 = unsigned long long;
constexpr int max_axes = 8;  // deformed axes
constexpr int max_order = 5;
constexpr int max_taps = max_order + 1;
}  // namespace elasticnd

ELASTICND_BEGIN

ELASTICND_INLINE int64 floor_to_integer(double x) {
    const int64 truncated = static_cast<int64>(x);
    return truncated - (static_cast<double>(truncated) > x);
}

// Uses neither branches nor integers, so that loops can be vectorised for any instruction set.
ELASTICND_INLINE double floor_of(double x) {
#if defined(ELASTICND_CUDA)
    return floor(x);
#elif defined(__SSE4_1__) || defined(__aarch64__)
    return __builtin_floor(x);
#else
    const double shift = 4503599627370496.0;  // 2^52: from here on, doubles have no fraction
    const double magnitude = x < 0 ? -x : x;
    const double nearest = (magnitude + shift) - shift;
    const double rounded = x < 0 ? -nearest : nearest;
    return magnitude < shift ? rounded - (rounded > x ? 1.0 : 0.0) : x;
#endif
}

// The same for |x| < 2^51, in fewer steps.
ELASTICND_INLINE double floor_of_small(double x) {
#if defined(ELASTICND_CUDA) || defined(__SSE4_1__) || defined(__aarch64__)
    return floor_of(x);
#else
    const double shift = 6755399441055744.0;  // 3 * 2^51
    const double nearest = (x + shift) - shift;
    return nearest - (nearest > x ? 1.0 : 0.0);
#endif
}

template <class T>
ELASTICND_INLINE T minimum(T a, T b) {
    return b < a ? b : a;
}

template <class T>
ELASTICND_INLINE T maximum(T a, T b) {
    return a < b ? b : a;
}

ELASTICND_END
