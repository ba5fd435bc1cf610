// The stencil of one voxel: the sum of its weighted coefficients, the sums that make its gradient, and the transpose.
//
// The innermost axes are unrolled. If an image has more axes, a loop runs over the outer ones.
#pragma once
#include "kernels/lanes.hpp"
#include "kernels/walk.hpp"

ELASTICND_BEGIN

constexpr int tap_step = row_length;              // distance between the weights of two taps
constexpr int axis_step = max_taps * row_length;  // ... and of two axes

// A line of taps along the innermost axis of an image, of any type and stride.
template <class T, int TAPS, int DTYPE>
struct ImageLines {
    using Line = Taps<T, TAPS>;
    int64 stride;
    ELASTICND_FLAT Line operator()(const char* at) const {
        T taps[TAPS];
        for (int tap = 0; tap < TAPS; ++tap) taps[tap] = static_cast<T>(load_element<DTYPE>(at + tap * stride));
        return Taps<T, TAPS>::gather(taps, 1);
    }
};

// A line of adjacent coefficients, with readable memory after them.
template <class T, int TAPS>
struct CoefficientLines {
    using Line = Taps<T, TAPS>;
    ELASTICND_FLAT Line operator()(const char* at) const { return Line::load(at); }
    // The line times `first`, and the line times `second`.
    ELASTICND_FLAT TapPairs<T, TAPS> pair(const char* at, T first, T second) const {
#if defined(__AVX__) && defined(__GNUC__) && !defined(__clang__)
        // GCC would load the line, and then copy it to the other half of the vector, which takes longer.
        if constexpr (pairs_fit<T, TAPS>) {
            using Lanes = typename Line::Lanes;
            const auto factors = TapPairs<T, TAPS>::of(Line{Lanes{1, 1, 1, 1}}, first, second);
            return {__builtin_ia32_vbroadcastf128_ps256(reinterpret_cast<const Lanes*>(at)) * factors.both};
        }
#endif
        return TapPairs<T, TAPS>::of(Line::load(at), first, second);
    }
};

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

// The address as a single value. Otherwise, compilers keep each of its summands in a register for every line of a
// stencil, and run out of registers.
template <class Address>
ELASTICND_FLAT Address summed(Address at) {
#if defined(__GNUC__)
    asm("" : "+r"(at));
#endif
    return at;
}

// The next row needs one line of every slice that this row does not. Every fourth voxel prefetches these lines.
template <int TAPS, int AXES>
ELASTICND_FLAT void fetch_next_lines(const char* at, const int64* stride, int voxel) {
    if constexpr (AXES == 3)
        if (voxel % 4 == 0)
            for (int tap = 0; tap < TAPS; ++tap) prefetch(at + tap * stride[0] + TAPS * stride[1]);
}

// ---- sums ----------------------------------------------------------------------------------------------------------

// Contracts all but the innermost of AXES axes.
template <class T, int TAPS, int AXES, class Lines>
ELASTICND_FLAT typename Lines::Line contract_stencil(const char* at, const int64* stride, const T* weight,
                                                     const Lines& load) {
    using Line = typename Lines::Line;
    if constexpr (AXES > 1) {
        Line sum;
        for (int tap = 0; tap < TAPS; ++tap) {
            const Line line =
                contract_stencil<T, TAPS, AXES - 1>(at + tap * stride[0], stride + 1, weight + axis_step, load);
            if (tap == 0)
                sum = line.scaled(weight[0]);
            else
                sum.add(line.scaled(weight[tap * tap_step]));
        }
        return sum;
    } else {
        return load(at);
    }
}

// `weight` points to this voxel's weights along the first axis.
template <class T, int TAPS, int AXES, class Lines>
ELASTICND_FLAT auto stencil_sum(const char* at, const int64* stride, const T* weight, const Lines& load) {
    const auto inner = Lines::Line::gather(weight + (AXES - 1) * axis_step, tap_step);
    return contract_stencil<T, TAPS, AXES>(at, stride, weight, load).dot(inner);
}

// The same, with `outer` further axes, which are not unrolled.
template <class T, int TAPS, int AXES, class Lines>
inline T looped_sum(const char* at, const int64* stride, const T* weight, const Lines& load, int outer) {
    T sum = T(0);
    for_each_outer_tap<TAPS>(outer, [&](const int* tap) {
        const char* place = at;
        T factor = T(1);
        for (int k = 0; k < outer; ++k) {
            place += tap[k] * stride[k];
            factor *= weight[k * axis_step + tap[k] * tap_step];
        }
        sum += factor * stencil_sum<T, TAPS, AXES>(place, stride + outer, weight + outer * axis_step, load);
    });
    return sum;
}

// ---- gradients: the derivative of the sum along each of the axes ---------------------------------------------------

// The stencil, contracted along all axes but the innermost: in `pair`, with weights only, and with slopes along the
// axis before the innermost; in `steep[k]`, with slopes along axis k, which is before both.
template <class T, int TAPS, int AXES>
struct GradientLines {
    TapPairs<T, TAPS> pair;
    Taps<T, TAPS> steep[AXES > 2 ? AXES - 2 : 1];
};

template <class T, int TAPS, int AXES, class Lines>
ELASTICND_FLAT GradientLines<T, TAPS, AXES> contract_gradient(const char* at, const int64* stride, const T* weight,
                                                              const T* slope, const Lines& load) {
    using Pair = TapPairs<T, TAPS>;
    GradientLines<T, TAPS, AXES> sum;
    for (int tap = 0; tap < TAPS; ++tap) {
        const char* place = AXES == 2 ? at + tap * stride[0] : summed(at + tap * stride[0]);
        const T w = weight[tap * tap_step];
        const T dw = slope[tap * tap_step];
        if constexpr (AXES == 2) {
            const Pair pair = load.pair(place, w, dw);
            if (tap == 0)
                sum.pair = pair;
            else
                sum.pair.add(pair);
        } else {
            const auto inner =
                contract_gradient<T, TAPS, AXES - 1>(place, stride + 1, weight + axis_step, slope + axis_step, load);
            const auto steep = inner.pair.first().scaled(dw);
            if (tap == 0) {
                sum.pair = inner.pair.scaled(w);
                sum.steep[0] = steep;
                for (int k = 1; k < AXES - 2; ++k) sum.steep[k] = inner.steep[k - 1].scaled(w);
            } else {
                sum.pair.add(inner.pair.scaled(w));
                sum.steep[0].add(steep);
                for (int k = 1; k < AXES - 2; ++k) sum.steep[k].add(inner.steep[k - 1].scaled(w));
            }
        }
    }
    return sum;
}

// For images without outer axes.
template <class T, int TAPS, int AXES, class Lines>
ELASTICND_FLAT void stencil_gradient(const char* at, const int64* stride, const T* weight, const T* slope,
                                     const Lines& load, T* gradient) {
    const Taps<T, TAPS> dw = Taps<T, TAPS>::gather(slope + (AXES - 1) * axis_step, tap_step);
    if constexpr (AXES == 1) {
        gradient[0] = load(at).dot(dw);
    } else {
        const Taps<T, TAPS> w = Taps<T, TAPS>::gather(weight + (AXES - 1) * axis_step, tap_step);
        const auto contracted = contract_gradient<T, TAPS, AXES>(at, stride, weight, slope, load);
        for (int k = 0; k < AXES - 2; ++k) gradient[k] = contracted.steep[k].dot(w);
        gradient[AXES - 2] = contracted.pair.second().dot(w);
        gradient[AXES - 1] = contracted.pair.first().dot(dw);
    }
}

// ---- the transpose: spreads a value over the coefficients under the stencil ----------------------------------------

// Lanes beyond the taps write back what they read.
template <class T, int TAPS>
ELASTICND_FLAT void add_line(char* at, const Taps<T, TAPS>& line, T value) {
    Taps<T, TAPS> sum = Taps<T, TAPS>::load(at);
    sum.add(line.scaled(value).only_taps());
    sum.store(at);
}

// `line` has the products of the weights along the two innermost axes; with one axis, its weights.
template <class T, int TAPS, int AXES>
ELASTICND_FLAT void spread_unrolled(char* at, const int64* stride, const T* weight, const Taps<T, TAPS>* line,
                                    T value) {
    if constexpr (AXES > 2) {
        for (int tap = 0; tap < TAPS; ++tap)
            spread_unrolled<T, TAPS, AXES - 1>(summed(at + tap * stride[0]), stride + 1, weight + axis_step, line,
                                               value * weight[tap * tap_step]);
    } else if constexpr (AXES == 2) {
        for (int tap = 0; tap < TAPS; ++tap) add_line<T, TAPS>(at + tap * stride[0], line[tap], value);
    } else {
        add_line<T, TAPS>(at, *line, value);
    }
}

template <class T, int TAPS, int AXES>
ELASTICND_FLAT void spread_stencil(char* at, const int64* stride, const T* weight, int outer, T value) {
    const T* unrolled = weight + outer * axis_step;
    const Taps<T, TAPS> inner = Taps<T, TAPS>::gather(unrolled + (AXES - 1) * axis_step, tap_step);
    Taps<T, TAPS> line[TAPS];
    if constexpr (AXES == 1)
        line[0] = inner;
    else
        for (int tap = 0; tap < TAPS; ++tap)
            line[tap] = inner.scaled(unrolled[(AXES - 2) * axis_step + tap * tap_step]);
    if (AXES < max_unrolled_axes || outer == 0) {
        spread_unrolled<T, TAPS, AXES>(at, stride, unrolled, line, value);
        return;
    }
    for_each_outer_tap<TAPS>(outer, [&](const int* tap) {
        char* place = at;
        T share = value;
        for (int k = 0; k < outer; ++k) {
            place += tap[k] * stride[k];
            share *= weight[k * axis_step + tap[k] * tap_step];
        }
        spread_unrolled<T, TAPS, AXES>(place, stride + outer, unrolled, line, share);
    });
}

ELASTICND_END
