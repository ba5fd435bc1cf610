// The recursive filter that turns samples into B-spline coefficients, in blocks that can be computed independently.
//
// Each pole z acts as a causal and an anticausal first-order recursion whose memory fades as |z|^k. A recursion that
// starts `warm_up` samples before a block has forgotten its start there, down to the rounding error of the type. So
// every block of `block_length` coefficients, aligned to the axis, depends only on its own neighbourhood: a crop, a
// thread or a chunk of a larger image computes the same bits as the whole.
#pragma once
#include "boundary.hpp"
#include "spline.hpp"

ELASTICND_BEGIN

template <class T>
struct Blocking;
template <>
struct Blocking<float> {
    static constexpr int block_length = 64;
    static constexpr double forgotten = 1e-8;
};
template <>
struct Blocking<double> {
    static constexpr int block_length = 128;
    static constexpr double forgotten = 1e-17;
};

template <class T>
ELASTICND_INLINE constexpr int warm_up(double pole) {
    int steps = 0;
    for (double left = 1; left > Blocking<T>::forgotten; ++steps) left *= pole < 0 ? -pole : pole;
    return steps;
}

// The number of samples that a block needs on either side, beyond its own.
template <class T>
ELASTICND_INLINE constexpr int block_margin(int order) {
    const Poles poles = spline_poles(order);
    int margin = 0;
    for (int p = 0; p < poles.count; ++p) margin += warm_up<T>(poles.pole[p]);
    return margin;
}

constexpr int max_margin = 64;  // the widest margin of any order and type is 60, for doubles at order 5
static_assert(max_order == 5, "a higher order has a wider margin");

// The product of (1 - z)(1 - 1/z) over the poles; with this gain, the filter preserves constants.
ELASTICND_INLINE constexpr double prefilter_gain(int order) {
    const Poles poles = spline_poles(order);
    double gain = 1;
    for (int p = 0; p < poles.count; ++p) gain *= (1 - poles.pole[p]) * (1 - 1 / poles.pole[p]);
    return gain;
}

// Filters adjacent signals in place. A row of WIDTH vectors V holds one sample of each signal, and rows are `stride`
// vectors apart. There are `margin` rows, then `length` rows whose coefficients are computed, and then another `margin`
// rows. Each recursion starts as if the signal had been constant before. T is the type of a number in V; V may be T
// itself.
template <class T, class V, int WIDTH>
ELASTICND_INLINE void filter_block(V* signal, int length, int margin, int order, int stride = WIDTH) {
    const Poles poles = spline_poles(order);
    int first = 0;
    int last = margin + length + margin - 1;
    for (int p = 0; p < poles.count; ++p) {
        const T z = static_cast<T>(poles.pole[p]);
        const T gain = p == 0 ? static_cast<T>(prefilter_gain(order)) : T(1);
        const T steady = static_cast<T>(1 / (1 - poles.pole[p]));
        const T turn = static_cast<T>(-poles.pole[p] / (1 - poles.pole[p]));
        V carried[WIDTH];
        for (int v = 0; v < WIDTH; ++v) {
            carried[v] = signal[first * stride + v] * gain * steady;
            signal[first * stride + v] = carried[v];
        }
        for (int r = first + 1; r <= last; ++r)
            for (int v = 0; v < WIDTH; ++v) {
                carried[v] = signal[r * stride + v] * gain + carried[v] * z;
                signal[r * stride + v] = carried[v];
            }
        for (int v = 0; v < WIDTH; ++v) carried[v] = carried[v] * turn;
        first += warm_up<T>(poles.pole[p]);
        for (int r = last - 1; r >= first; --r)
            for (int v = 0; v < WIDTH; ++v) {
                carried[v] = (carried[v] - signal[r * stride + v]) * z;
                signal[r * stride + v] = carried[v];
            }
        last -= warm_up<T>(poles.pole[p]);
    }
}

ELASTICND_END
