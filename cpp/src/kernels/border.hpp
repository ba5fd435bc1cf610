// Stencils of orders 0 and 1 that leave the image. At these orders, no coefficients are held beyond the border.
#pragma once
#include <cstring>

#include "kernels/kernels.hpp"
#include "kernels/stencil.hpp"

ELASTICND_BEGIN

// The offset of tap `tap` along an axis from the start of the source, in bytes; no_index if the mode leaves it out.
inline int64 tap_offset(const SampleJob& job, const Row& row, int i, int axis, int tap) {
    const Geometry& geometry = job.geometry;
    const int64 first = static_cast<int64>(row.first[axis][i] + floor_of_small(row.place[axis][i]));
    const int64 index = fold_index(first + tap, geometry.image[axis], geometry.mode);
    if (index == no_index) return no_index;
    // Even if the box were wrong, nothing outside it would be read.
    const int64 held = index - geometry.box_start[axis];
    return held < 0 || held >= geometry.box_extent[axis] ? no_index : held * job.source.stride[axis];
}

// The address of the single voxel of an order-0 stencil, or `fill` if there is none.
inline const char* at_border(const SampleJob& job, const Row& row, int i, const char* source, const char* fill) {
    for (int k = 0; k < job.geometry.axes; ++k) {
        const int64 offset = tap_offset(job, row, i, k, 0);
        if (offset == no_index) return fill;
        source += offset;
    }
    return source;
}

template <class T>
inline T sum_at_border(const SampleJob& job, const Row& row, int i, const char* source, T border_value) {
    constexpr int taps = 2;
    const int axes = job.geometry.axes;
    int64 offset[max_axes][taps];
    T weight[max_axes][taps];
    for (int k = 0; k < axes; ++k) {
        const double place = row.place[k][i];
        spline_weights<1, 0>(static_cast<T>(place - floor_of_small(place)), weight[k]);
        for (int tap = 0; tap < taps; ++tap) offset[k][tap] = tap_offset(job, row, i, k, tap);
    }
    T sum = T(0);
    for_each_outer_tap<taps>(axes, [&](const int* tap) {
        const char* at = source;
        bool inside = true;
        T factor = T(1);
        for (int k = 0; k < axes; ++k) {
            inside &= offset[k][tap[k]] != no_index;
            if (inside) at += offset[k][tap[k]];
            factor *= weight[k][tap[k]];
        }
        T value = border_value;
        if (inside) load_row(job.source.dtype, at, 0, 1, own_dtype<T>, reinterpret_cast<char*>(&value));
        sum += factor * value;
    });
    return sum;
}

ELASTICND_END
