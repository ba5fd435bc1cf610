// Element types of images: their numbers, the compute type of each, and the conversions between them.
#pragma once
#include "platform.hpp"

namespace elasticnd {

// elasticnd/_dtypes.py has the same numbers.
enum DType {
    dtype_bool = 0,
    dtype_int8 = 1,
    dtype_uint8 = 2,
    dtype_int16 = 3,
    dtype_uint16 = 4,
    dtype_int32 = 5,
    dtype_uint32 = 6,
    dtype_int64 = 7,
    dtype_uint64 = 8,
    dtype_float16 = 9,
    dtype_bfloat16 = 10,
    dtype_float32 = 11,
    dtype_float64 = 12
};
constexpr int dtype_count = dtype_float64 + 1;
constexpr int element_size[dtype_count] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8};  // in bytes

}  // namespace elasticnd

ELASTICND_BEGIN

template <class To, class From>
ELASTICND_INLINE To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "only the type changes, not the bits");
    To to;
    ELASTICND_MEMCPY(&to, &from, sizeof to);
    return to;
}

ELASTICND_INLINE float float_from_half(uint16 half) {
    const uint32 sign = (half & 0x8000u) << 16;
    const uint32 exponent = (half >> 10) & 0x1fu;
    const uint32 fraction = half & 0x3ffu;
    if (exponent == 0x1f) return bits_as<float>(sign | 0x7f800000u | (fraction << 13));
    if (exponent) return bits_as<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
    const float tiny = static_cast<float>(fraction) * 5.9604644775390625e-8f;  // 2^-24
    return sign ? -tiny : tiny;
}

// Rounds to nearest, with ties to even.
ELASTICND_INLINE uint16 half_from_float(float value) {
    const uint32 bits = bits_as<uint32>(value);
    const uint32 sign = (bits >> 16) & 0x8000u;
    const uint32 magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<uint16>(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return static_cast<uint16>(sign | 0x7c00u);
    if (magnitude < 0x38800000u) {
        // Below the smallest normal number, adding 1/2 shifts and rounds the fraction.
        const float shifted = bits_as<float>(magnitude) + 0.5f;
        return static_cast<uint16>(sign | (bits_as<uint32>(shifted) - 0x3f000000u));
    }
    const uint32 odd = (magnitude >> 13) & 1u;
    return static_cast<uint16>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

ELASTICND_INLINE uint16 bfloat_from_float(float value) {
    const uint32 bits = bits_as<uint32>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16>((bits >> 16) | 0x40u);
    return static_cast<uint16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Rounds to nearest, with halves away from zero, and saturates; NaN becomes 0. `lowest` and `highest` are the limits of
// Integer; `highest` is rounded up if Real cannot hold it. Has no branches if a wider integer is available.
template <class Integer, class Real>
ELASTICND_INLINE Integer saturate(Real value, Real lowest, Real highest, Integer minimum, Integer maximum) {
    if constexpr (sizeof(Integer) < sizeof(int32)) {
        const Real kept = value > lowest ? (value < highest ? value : highest) : (value == value ? lowest : Real(0));
        // The largest number below 1/2: adding 1/2 itself would turn this number into 1.
        constexpr Real half = sizeof(Real) == sizeof(float) ? Real(0.49999997f) : Real(0.49999999999999994);
        return static_cast<Integer>(static_cast<int32>(kept < 0 ? kept - half : kept + half));
    } else {
        if (!(value > lowest)) return value == value ? minimum : Integer(0);
        if (!(value < highest)) return maximum;
        const Real whole = static_cast<Real>(static_cast<int64>(value));
        const Real rest = value - whole;
        const int64 rounded = static_cast<int64>(value) + (rest >= Real(0.5)) - (rest <= Real(-0.5));
        return static_cast<Integer>(rounded);
    }
}

// Storage is the type in memory, and Real the compute type; load and store convert between them.
template <int DTYPE>
struct Element;

#define ELASTICND_INTEGER(DTYPE, STORAGE, REAL, LOWEST, HIGHEST)                                              \
    template <>                                                                                               \
    struct Element<DTYPE> {                                                                                   \
        using Storage = STORAGE;                                                                              \
        using Real = REAL;                                                                                    \
        ELASTICND_INLINE static Real load(Storage value) { return static_cast<Real>(value); }                                 \
        ELASTICND_INLINE static Storage store(Real value) {                                                                    \
            return saturate<Storage, Real>(value, REAL(LOWEST), REAL(HIGHEST), Storage(LOWEST), Storage(HIGHEST)); \
        }                                                                                                     \
    }
ELASTICND_INTEGER(dtype_int8, int8, float, -128, 127);
ELASTICND_INTEGER(dtype_uint8, uint8, float, 0, 255);
ELASTICND_INTEGER(dtype_int16, int16, float, -32768, 32767);
ELASTICND_INTEGER(dtype_uint16, uint16, float, 0, 65535);
ELASTICND_INTEGER(dtype_int32, int32, double, -2147483648LL, 2147483647);
ELASTICND_INTEGER(dtype_uint32, uint32, double, 0, 4294967295U);
ELASTICND_INTEGER(dtype_int64, int64, double, -0x7fffffffffffffffLL - 1, 0x7fffffffffffffffLL);
#undef ELASTICND_INTEGER

template <>
struct Element<dtype_uint64> {
    using Storage = uint64;
    using Real = double;
    ELASTICND_INLINE static Real load(Storage value) { return static_cast<Real>(value); }
    ELASTICND_INLINE static Storage store(Real value) {
        if (!(value > 0)) return 0;
        if (!(value < 18446744073709551616.0)) return ~Storage(0);
        const Storage whole = static_cast<Storage>(value);
        return whole + (value - static_cast<Real>(whole) >= 0.5);
    }
};
template <>
struct Element<dtype_bool> {
    using Storage = uint8;
    using Real = float;
    ELASTICND_INLINE static Real load(Storage value) { return value ? 1.0f : 0.0f; }
    ELASTICND_INLINE static Storage store(Real value) { return value >= 0.5f; }
};
template <>
struct Element<dtype_float16> {
    using Storage = uint16;
    using Real = float;
    ELASTICND_INLINE static Real load(Storage value) { return float_from_half(value); }
    ELASTICND_INLINE static Storage store(Real value) { return half_from_float(value); }
};
template <>
struct Element<dtype_bfloat16> {
    using Storage = uint16;
    using Real = float;
    ELASTICND_INLINE static Real load(Storage value) { return bits_as<float>(static_cast<uint32>(value) << 16); }
    ELASTICND_INLINE static Storage store(Real value) { return bfloat_from_float(value); }
};
template <>
struct Element<dtype_float32> {
    using Storage = float;
    using Real = float;
    ELASTICND_INLINE static Real load(Storage value) { return value; }
    ELASTICND_INLINE static Storage store(Real value) { return value; }
};
template <>
struct Element<dtype_float64> {
    using Storage = double;
    using Real = double;
    ELASTICND_INLINE static Real load(Storage value) { return value; }
    ELASTICND_INLINE static Storage store(Real value) { return value; }
};

// Uses memcpy, because an image may lie at any address.
template <int DTYPE>
ELASTICND_INLINE typename Element<DTYPE>::Real load_element(const char* from) {
    typename Element<DTYPE>::Storage storage;
    ELASTICND_MEMCPY(&storage, from, sizeof storage);
    return Element<DTYPE>::load(storage);
}

template <int DTYPE>
ELASTICND_INLINE void store_element(char* to, typename Element<DTYPE>::Real value) {
    const typename Element<DTYPE>::Storage storage = Element<DTYPE>::store(value);
    ELASTICND_MEMCPY(to, &storage, sizeof storage);
}

ELASTICND_END
