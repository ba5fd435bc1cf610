// The stencil of one voxel: the sum of its weighted coefficients, the sums that make its gradient, and the transpose.
//
// A stencil is a table of tap offsets per axis and a kind of lines along the innermost axis: straight ones inside the
// image, folded ones at its border. The innermost axes are unrolled; where an image has more of them, the outer ones
// are a loop around these.
#pragma once
#include "lanes.hpp"
#include "rows.hpp"

ELASTICND_BEGIN

constexpr int tap_step = row_length;              // from a weight to that of the next tap
constexpr int axis_step = max_taps * row_length;  // ... of the next axis

template <class T>
constexpr int own_dtype = sizeof(T) == sizeof(float) ? dtype_float32 : dtype_float64;

// Lines of samples that lie one stride apart. Coefficients, in the type of the arithmetic, lie side by side.
template <class T, int TAPS, int DTYPE>
struct StraightLines {
    int64 stride;

    static const char* step(const char* at, int64 offset) { return at + offset; }
    Taps<T, TAPS> load(const char* at) const {
        if constexpr (DTYPE == own_dtype<T> && TAPS > 2) {
            return Taps<T, TAPS>::load(at);
        } else {
            T taps[TAPS];
            for (int tap = 0; tap < TAPS; ++tap) taps[tap] = load_element<DTYPE>(at + tap * stride);
            return Taps<T, TAPS>::gather(taps, 1);
        }
    }
    static void add(char* at, const Taps<T, TAPS>& line) {
        Taps<T, TAPS> sum = Taps<T, TAPS>::load(at);
        sum.add(line);
        sum.store(at);
    }
};

// Lines whose taps are folded at the border. A null pointer stands for a line in the constant beyond the border.
template <class T, int TAPS, int DTYPE>
struct FoldedLines {
    const int64* offset;
    T beyond;

    static const char* step(const char* at, int64 offset) {
        return at && offset != beyond_border ? at + offset : nullptr;
    }
    Taps<T, TAPS> load(const char* at) const {
        T taps[TAPS];
        for (int tap = 0; tap < TAPS; ++tap) {
            const char* from = step(at, offset[tap]);
            taps[tap] = from ? load_element<DTYPE>(from) : beyond;
        }
        return Taps<T, TAPS>::gather(taps, 1);
    }
    void add(char* at, const Taps<T, TAPS>& line) const {
        T taps[TAPS];
        line.store(reinterpret_cast<char*>(taps));
        for (int tap = 0; tap < TAPS; ++tap) {
            if (offset[tap] == beyond_border) continue;
            T sum;
            std::memcpy(&sum, at + offset[tap], sizeof sum);
            sum += taps[tap];
            std::memcpy(at + offset[tap], &sum, sizeof sum);
        }
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

// ---- sums ------------------------------------------------------------------------------------------------------

// Contracts all but the innermost of AXES axes.
template <class T, int TAPS, int AXES, class Lines>
ELASTICND_FLAT Taps<T, TAPS> contract_stencil(const char* at, const int64 (*offset)[max_taps], const T* weight,
                                              const Lines& lines) {
    if constexpr (AXES > 1) {
        Taps<T, TAPS> sum;
        for (int tap = 0; tap < TAPS; ++tap) {
            const Taps<T, TAPS> line = contract_stencil<T, TAPS, AXES - 1>(Lines::step(at, offset[0][tap]), offset + 1,
                                                                           weight + axis_step, lines);
            if (tap == 0)
                sum = line.scaled(weight[0]);
            else
                sum.add(line.scaled(weight[tap * tap_step]));
        }
        return sum;
    } else {
        return lines.load(at);
    }
}

// `weight` points at the weights of the first axis, for this voxel; `outer` axes are not unrolled.
template <class T, int TAPS, int AXES, class Lines>
ELASTICND_FLAT T stencil_sum(const char* at, const int64 (*offset)[max_taps], const T* weight, const Lines& lines,
                             int outer) {
    const T* unrolled = weight + outer * axis_step;
    const Taps<T, TAPS> inner = Taps<T, TAPS>::gather(unrolled + (AXES - 1) * axis_step, tap_step);
    if (AXES < max_unrolled_axes || outer == 0)
        return contract_stencil<T, TAPS, AXES>(at, offset, unrolled, lines).dot(inner);
    T sum = T(0);
    for_each_outer_tap<TAPS>(outer, [&](const int* tap) {
        const char* place = at;
        T factor = T(1);
        for (int k = 0; k < outer; ++k) {
            place = Lines::step(place, offset[k][tap[k]]);
            factor *= weight[k * axis_step + tap[k] * tap_step];
        }
        sum += factor * contract_stencil<T, TAPS, AXES>(place, offset + outer, unrolled, lines).dot(inner);
    });
    return sum;
}

// ---- gradients: the derivative of the sum along each of the axes ------------------------------------------------

// line[0] is contracted with the weights, line[1 + k] with the slopes along axis k instead.
template <class T, int TAPS, int AXES>
struct GradientLines {
    Taps<T, TAPS> line[AXES];
};

template <class T, int TAPS, int AXES, class Lines>
ELASTICND_FLAT GradientLines<T, TAPS, AXES> contract_gradient(const char* at, const int64 (*offset)[max_taps],
                                                              const T* weight, const T* slope, const Lines& lines) {
    GradientLines<T, TAPS, AXES> sum;
    if constexpr (AXES == 1) {
        sum.line[0] = lines.load(at);
    } else {
        for (int tap = 0; tap < TAPS; ++tap) {
            const GradientLines<T, TAPS, AXES - 1> inner = contract_gradient<T, TAPS, AXES - 1>(
                Lines::step(at, offset[0][tap]), offset + 1, weight + axis_step, slope + axis_step, lines);
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

// For images without outer axes.
template <class T, int TAPS, int AXES, class Lines>
ELASTICND_FLAT void stencil_gradient(const char* at, const int64 (*offset)[max_taps], const T* weight, const T* slope,
                                     const Lines& lines, T* gradient) {
    const Taps<T, TAPS> w = Taps<T, TAPS>::gather(weight + (AXES - 1) * axis_step, tap_step);
    const Taps<T, TAPS> dw = Taps<T, TAPS>::gather(slope + (AXES - 1) * axis_step, tap_step);
    const auto contracted = contract_gradient<T, TAPS, AXES>(at, offset, weight, slope, lines);
    for (int k = 0; k + 1 < AXES; ++k) gradient[k] = contracted.line[k + 1].dot(w);
    gradient[AXES - 1] = contracted.line[0].dot(dw);
}

// ---- the transpose: spreads a value over the coefficients under the stencil -------------------------------------

template <class T, int TAPS, int AXES, class Lines>
ELASTICND_FLAT void spread_unrolled(char* at, const int64 (*offset)[max_taps], const T* weight, const Lines& lines,
                                    const Taps<T, TAPS>& inner, T value) {
    if constexpr (AXES > 1) {
        for (int tap = 0; tap < TAPS; ++tap) {
            if (offset[0][tap] == beyond_border) continue;
            spread_unrolled<T, TAPS, AXES - 1>(at + offset[0][tap], offset + 1, weight + axis_step, lines, inner,
                                               value * weight[tap * tap_step]);
        }
    } else {
        lines.add(at, inner.scaled(value));
    }
}

template <class T, int TAPS, int AXES, class Lines>
ELASTICND_FLAT void spread_stencil(char* at, const int64 (*offset)[max_taps], const T* weight, const Lines& lines,
                                   int outer, T value) {
    const T* unrolled = weight + outer * axis_step;
    const Taps<T, TAPS> inner = Taps<T, TAPS>::gather(unrolled + (AXES - 1) * axis_step, tap_step);
    if (AXES < max_unrolled_axes || outer == 0) {
        spread_unrolled<T, TAPS, AXES>(at, offset, unrolled, lines, inner, value);
        return;
    }
    for_each_outer_tap<TAPS>(outer, [&](const int* tap) {
        char* place = at;
        T share = value;
        for (int k = 0; k < outer; ++k) {
            if (offset[k][tap[k]] == beyond_border) return;
            place += offset[k][tap[k]];
            share *= weight[k * axis_step + tap[k] * tap_step];
        }
        spread_unrolled<T, TAPS, AXES>(place, offset + outer, unrolled, lines, inner, share);
    });
}

ELASTICND_END
