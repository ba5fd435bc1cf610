// The control grid: which of its coefficients reach a voxel, and their weights.
#pragma once
#include "boundary.hpp"
#include "spline.hpp"

ELASTICND_BEGIN

// The weights of a single control point, which moves all voxels by exactly its own displacement. Sets every `stride`-th
// weight.
ELASTICND_INLINE void single_point_weights(double* weight, int64 stride) {
    for (int tap = 0; tap < 4; ++tap) weight[tap * stride] = tap == 1 ? 1.0 : 0.0;
}

// The cell of the control grid that contains position f of the frame, and the weights of the four coefficients around
// it, those of control points cell - 1 to cell + 2. Only rounding may put the position outside the frame.
ELASTICND_INLINE int64 grid_weights(double f, int64 extent, int64 points, double* weight) {
    if (points == 1) {
        single_point_weights(weight, 1);
        return 0;
    }
    double g = 0;
    if (extent > 1) g = f * static_cast<double>(points - 1) / static_cast<double>(extent - 1);
    const int64 cell = maximum(minimum(floor_to_integer(g), points - 2), int64(0));
    spline_weights<3, 0>(g - static_cast<double>(cell), weight);
    return cell;
}

constexpr int grid_derivatives = 4;  // derivatives of a cubic, counting the value; all higher ones are zero

// Where a position of the frame, on or between voxels, lies along an axis of the control grid, which is mirrored beyond
// its ends.
struct GridPosition {
    int64 cell;
    double place;  // within the cell
    double slope;  // derivative of the place with respect to the position
    bool exists;   // false for NaN and for numbers without a fraction
};

ELASTICND_INLINE GridPosition find_on_grid(double f, int64 extent, int64 points) {
    const double last = static_cast<double>(points - 1);
    const bool varies = extent > 1 && points > 1;
    const double scale = varies ? last / static_cast<double>(extent - 1) : 0;
    const Folded g = fold_coordinate(varies ? f * last / static_cast<double>(extent - 1) : f * 0, last, 0, mode_mirror);
    const int64 cell = maximum(minimum(floor_to_integer(g.x), points - 2), int64(0));
    return {cell, g.x - static_cast<double>(cell), scale * g.slope, g.exists && is_position(f)};
}

// The weights there, differentiated `derivative` times with respect to the position.
ELASTICND_INLINE void grid_weights_at(const GridPosition& position, int64 points, int derivative, double* weight) {
    if (points == 1 && derivative == 0) return single_point_weights(weight, 1);
    double factor = 1;
    for (int i = 0; i < derivative; ++i) factor *= position.slope;
    switch (derivative) {
        case 0: spline_weights<3, 0>(position.place, weight); return;
        case 1: spline_weights<3, 1>(position.place, weight); break;
        case 2: spline_weights<3, 2>(position.place, weight); break;
        case 3: spline_weights<3, 3>(position.place, weight); break;
        default: factor = 0;
    }
    for (int tap = 0; tap < 4; ++tap) weight[tap] = derivative < grid_derivatives ? weight[tap] * factor : 0.0;
}

ELASTICND_END
