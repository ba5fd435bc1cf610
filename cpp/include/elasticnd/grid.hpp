// The control grid: which of its coefficients reach a voxel, and with which weights.
#pragma once
#include "spline.hpp"

ELASTICND_BEGIN

// The cell of the control grid that full-frame index f lies in, and the weights of its four coefficients: that of the
// cell is the second of them.
ELASTICND_INLINE int64 grid_weights(int64 f, int64 extent, int64 points, double* weight) {
    double g = 0;
    if (extent > 1 && points > 1)
        g = static_cast<double>(f) * static_cast<double>(points - 1) / static_cast<double>(extent - 1);
    const int64 cell = maximum(minimum(floor_to_integer(g), points - 2), int64(0));
    spline_weights<3, 0>(g - static_cast<double>(cell), weight);
    return cell;
}

ELASTICND_END
