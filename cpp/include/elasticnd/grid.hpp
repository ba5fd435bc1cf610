// The control grid: which of its coefficients reach a voxel, and with which weights.
#pragma once
#include "spline.hpp"

ELASTICND_BEGIN

// One control point moves all voxels alike, and by its value exactly. Sets every `stride`-th weight.
ELASTICND_INLINE void single_point_weights(double* weight, int64 stride) {
    for (int tap = 0; tap < 4; ++tap) weight[tap * stride] = tap == 1 ? 1.0 : 0.0;
}

// The cell of the control grid that full-frame index f lies in, and the weights of its four coefficients: that of the
// cell is the second of them.
ELASTICND_INLINE int64 grid_weights(int64 f, int64 extent, int64 points, double* weight) {
    if (points == 1) {
        single_point_weights(weight, 1);
        return 0;
    }
    double g = 0;
    if (extent > 1) g = static_cast<double>(f) * static_cast<double>(points - 1) / static_cast<double>(extent - 1);
    const int64 cell = maximum(minimum(floor_to_integer(g), points - 2), int64(0));
    spline_weights<3, 0>(g - static_cast<double>(cell), weight);
    return cell;
}

ELASTICND_END
