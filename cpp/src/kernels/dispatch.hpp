// Turns run-time numbers into template arguments. Orders, element types and numbers of axes are looked up only here.
#pragma once
#include "elasticnd/dtypes.hpp"
#include "kernels/table.hpp"

ELASTICND_BEGIN

template <int VALUE>
struct Constant {
    static constexpr int value = VALUE;
};

template <class Body>
inline auto with_dtype(int dtype, Body body) {
    switch (static_cast<DType>(dtype)) {
        case dtype_bool: return body(Constant<dtype_bool>());
        case dtype_int8: return body(Constant<dtype_int8>());
        case dtype_uint8: return body(Constant<dtype_uint8>());
        case dtype_int16: return body(Constant<dtype_int16>());
        case dtype_uint16: return body(Constant<dtype_uint16>());
        case dtype_int32: return body(Constant<dtype_int32>());
        case dtype_uint32: return body(Constant<dtype_uint32>());
        case dtype_int64: return body(Constant<dtype_int64>());
        case dtype_uint64: return body(Constant<dtype_uint64>());
        case dtype_float16: return body(Constant<dtype_float16>());
        case dtype_bfloat16: return body(Constant<dtype_bfloat16>());
        case dtype_float32: return body(Constant<dtype_float32>());
        case dtype_float64: break;
    }
    return body(Constant<dtype_float64>());
}

template <class Body>
inline auto with_order(int order, Body body) {
    static_assert(max_order == 5, "each order needs a case here");
    switch (order) {
        case 0: return body(Constant<0>());
        case 1: return body(Constant<1>());
        case 2: return body(Constant<2>());
        case 3: return body(Constant<3>());
        case 4: return body(Constant<4>());
        default: return body(Constant<5>());
    }
}

// The element type of a compute type.
template <class T>
constexpr int own_dtype = sizeof(T) == sizeof(float) ? dtype_float32 : dtype_float64;

// Up to four of the innermost axes of a stencil are unrolled; the other axes are a loop around them.
constexpr int max_unrolled_axes = 4;

template <class Body>
inline auto with_unrolled_axes(int axes, Body body) {
    switch (axes) {
        case 1: return body(Constant<1>());
        case 2: return body(Constant<2>());
        case 3: return body(Constant<3>());
        default: return body(Constant<4>());
    }
}

// ---- pixels: channels that lie side by side -------------------------------------------------------------------------

template <class Body>
inline auto with_channels(int channels, Body body) {
    static_assert(pixel_lanes == 4, "each number of channels needs a case here");
    switch (channels) {
        case 1: return body(Constant<1>());
        case 2: return body(Constant<2>());
        case 3: return body(Constant<3>());
        default: return body(Constant<4>());
    }
}

// Pixels have up to four channels, of one to eight bytes each.
template <class Body>
inline auto with_pixel_bytes(int bytes, Body body) {
    static_assert(pixel_lanes == 4, "each size needs a case here");
    switch (bytes) {
        case 1: return body(Constant<1>());
        case 2: return body(Constant<2>());
        case 3: return body(Constant<3>());
        case 4: return body(Constant<4>());
        case 6: return body(Constant<6>());
        case 8: return body(Constant<8>());
        case 12: return body(Constant<12>());
        case 16: return body(Constant<16>());
        case 24: return body(Constant<24>());
        default: return body(Constant<32>());
    }
}

// Stencils of pixels have no loop around the unrolled axes.
template <class Body>
inline auto with_pixel_axes(int axes, Body body) {
    static_assert(min_pixel_axes == 2 && max_pixel_axes == 3, "each number of axes needs a case here");
    return axes == 2 ? body(Constant<2>()) : body(Constant<3>());
}

ELASTICND_END
