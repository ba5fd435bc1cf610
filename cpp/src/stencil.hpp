// The stencil of one voxel: the sum of its weighted coefficients, the sums that make its gradient, and the transpose.
// The innermost axes are unrolled; where an image has more of them, the outer ones are a loop around these.
#pragma once
#include "lanes.hpp"
#include "rows.hpp"

ELASTICND_BEGIN

constexpr int tap_step = row_length;              // from a weight to that of the next tap
constexpr int axis_step = max_taps * row_length;  // ... of the next axis

template <class T>
constexpr int own_dtype = sizeof(T) == sizeof(float) ? dtype_float32 : dtype_float64;

// Calls body(tap of each axis) for every combination of taps along the first `outer` axes.
template <int TAPS, class Body>
inline void for_each_outer_tap(int outer, Body body) {
    int tap[max_axes] = {};
    for (;;) {
        body(tap);
        int k = outer - 1;
        while (k >= 0 && ++tap[k] == TAPS) tap[k--] = 0;
        if (k < 0) return;
    }
}

// ---- sums ------------------------------------------------------------------------------------------------------

// Contracts all but the innermost of AXES axes.
template <class T, int TAPS, int DTYPE, int AXES>
inline Taps<T, TAPS> contract_stencil(const char* at, const int64* stride, const T* weight) {
    if constexpr (AXES > 1) {
        Taps<T, TAPS> sum =
            contract_stencil<T, TAPS, DTYPE, AXES - 1>(at, stride + 1, weight + axis_step).scaled(weight[0]);
        for (int tap = 1; tap < TAPS; ++tap)
            sum.add(contract_stencil<T, TAPS, DTYPE, AXES - 1>(at + tap * stride[0], stride + 1, weight + axis_step)
                        .scaled(weight[tap * tap_step]));
        return sum;
    } else if constexpr (DTYPE == own_dtype<T> && TAPS > 2) {
        return Taps<T, TAPS>::load(at);  // coefficients lie side by side
    } else {
        T taps[TAPS];
        for (int tap = 0; tap < TAPS; ++tap) taps[tap] = load_element<DTYPE>(at + tap * stride[0]);
        return Taps<T, TAPS>::gather(taps, 1);
    }
}

template <class T, int TAPS, int DTYPE, int AXES>
inline T unrolled_sum(const char* at, const int64* stride, const T* weight) {
    const Taps<T, TAPS> inner = Taps<T, TAPS>::gather(weight + (AXES - 1) * axis_step, tap_step);
    return contract_stencil<T, TAPS, DTYPE, AXES>(at, stride, weight).dot(inner);
}

// `weight` points at the weights of the first axis, for this voxel; `outer` axes are not unrolled.
template <class T, int TAPS, int DTYPE, int AXES>
inline T stencil_sum(const char* at, const int64* stride, const T* weight, int outer) {
    if (outer == 0) return unrolled_sum<T, TAPS, DTYPE, AXES>(at, stride, weight);
    T sum = T(0);
    for_each_outer_tap<TAPS>(outer, [&](const int* tap) {
        const char* place = at;
        T factor = T(1);
        for (int k = 0; k < outer; ++k) {
            place += tap[k] * stride[k];
            factor *= weight[k * axis_step + tap[k] * tap_step];
        }
        sum += factor * unrolled_sum<T, TAPS, DTYPE, AXES>(place, stride + outer, weight + outer * axis_step);
    });
    return sum;
}

// The same where taps are folded at the border: `offset` holds those of each axis. Once a tap is not `inside`, every
// coefficient under it is `beyond`.
template <class T, int TAPS, int DTYPE, int AXES>
inline T unrolled_border_sum(const char* at, const int64 (*offset)[max_taps], const T* weight, T beyond, bool inside) {
    T sum = T(0);
    for (int tap = 0; tap < TAPS; ++tap) {
        const bool held = inside && offset[0][tap] != beyond_border;
        const char* place = held ? at + offset[0][tap] : at;
        T value = beyond;
        if constexpr (AXES > 1)
            value = unrolled_border_sum<T, TAPS, DTYPE, AXES - 1>(place, offset + 1, weight + axis_step, beyond, held);
        else if (held)
            value = load_element<DTYPE>(place);
        sum += weight[tap * tap_step] * value;
    }
    return sum;
}

template <class T, int TAPS, int DTYPE, int AXES>
inline T border_sum(const char* source, const BorderTaps& taps, const T* weight, T beyond, int outer) {
    T sum = T(0);
    for_each_outer_tap<TAPS>(outer, [&](const int* tap) {
        const char* place = source;
        bool inside = true;
        T factor = T(1);
        for (int k = 0; k < outer; ++k) {
            const int64 offset = taps.offset[k][tap[k]];
            inside &= offset != beyond_border;
            if (inside) place += offset;
            factor *= weight[k * axis_step + tap[k] * tap_step];
        }
        sum += factor * unrolled_border_sum<T, TAPS, DTYPE, AXES>(place, taps.offset + outer,
                                                                  weight + outer * axis_step, beyond, inside);
    });
    return sum;
}

// ---- gradients: the derivative of the sum along each of the axes ------------------------------------------------

// lines[0] is contracted with the weights, lines[1 + k] with the slopes along axis k instead.
template <class T, int TAPS, int AXES>
struct GradientLines {
    Taps<T, TAPS> line[AXES];
};

template <class T, int TAPS, int AXES>
inline GradientLines<T, TAPS, AXES> contract_gradient(const char* at, const int64* stride, const T* weight,
                                                      const T* slope) {
    GradientLines<T, TAPS, AXES> sum;
    if constexpr (AXES == 1) {
        sum.line[0] = Taps<T, TAPS>::load(at);
    } else {
        for (int tap = 0; tap < TAPS; ++tap) {
            const GradientLines<T, TAPS, AXES - 1> inner = contract_gradient<T, TAPS, AXES - 1>(
                at + tap * stride[0], stride + 1, weight + axis_step, slope + axis_step);
            const T w = weight[tap * tap_step];
            const T dw = slope[tap * tap_step];
            if (tap == 0) {
                sum.line[0] = inner.line[0].scaled(w);
                sum.line[1] = inner.line[0].scaled(dw);
                for (int k = 1; k < AXES - 1; ++k) sum.line[k + 1] = inner.line[k].scaled(w);
            } else {
                sum.line[0].add(inner.line[0].scaled(w));
                sum.line[1].add(inner.line[0].scaled(dw));
                for (int k = 1; k < AXES - 1; ++k) sum.line[k + 1].add(inner.line[k].scaled(w));
            }
        }
    }
    return sum;
}

template <class T, int TAPS, int AXES>
inline void unrolled_gradient(const char* at, const int64* stride, const T* weight, const T* slope, T* gradient) {
    const Taps<T, TAPS> w = Taps<T, TAPS>::gather(weight + (AXES - 1) * axis_step, tap_step);
    const Taps<T, TAPS> dw = Taps<T, TAPS>::gather(slope + (AXES - 1) * axis_step, tap_step);
    const GradientLines<T, TAPS, AXES> lines = contract_gradient<T, TAPS, AXES>(at, stride, weight, slope);
    for (int k = 0; k + 1 < AXES; ++k) gradient[k] = lines.line[k + 1].dot(w);
    gradient[AXES - 1] = lines.line[0].dot(dw);
}

// ---- the transpose: spreads a value over the coefficients under the stencil -------------------------------------

template <class T, int TAPS, int AXES>
inline void spread_stencil(char* at, const int64* stride, const T* weight, const Taps<T, TAPS>& inner, T value) {
    if constexpr (AXES > 1) {
        for (int tap = 0; tap < TAPS; ++tap)
            spread_stencil<T, TAPS, AXES - 1>(at + tap * stride[0], stride + 1, weight + axis_step, inner,
                                              value * weight[tap * tap_step]);
    } else {
        Taps<T, TAPS> sum = Taps<T, TAPS>::load(at);
        sum.add(inner.scaled(value));
        sum.store(at);
    }
}

template <class T, int TAPS, int AXES>
inline void border_spread(char* at, const int64 (*offset)[max_taps], const T* weight, T value) {
    for (int tap = 0; tap < TAPS; ++tap) {
        if (offset[0][tap] == beyond_border) continue;
        char* place = at + offset[0][tap];
        const T share = value * weight[tap * tap_step];
        if constexpr (AXES > 1) {
            border_spread<T, TAPS, AXES - 1>(place, offset + 1, weight + axis_step, share);
        } else {
            T sum;
            std::memcpy(&sum, place, sizeof sum);
            sum += share;
            std::memcpy(place, &sum, sizeof sum);
        }
    }
}

ELASTICND_END
