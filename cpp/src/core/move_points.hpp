// Where points of the image go in the output: the map of a deformation, from output to image, inverted at these points.
#pragma once
#include "core/core.hpp"

namespace elasticnd {

struct Movement {
    Geometry geometry;  // only axes, extents of the frame and control points are used
    int64 items;
    int64 count;                   // number of points of each item
    const double* control_points;  // displacements of the control points, (items, axes, points ...)
    const double* inverse_map;     // (items or 1, axes, axes + 1): from output to image, without the field; may be null
    int64 inverse_map_item_size;
    const double* targets;  // points of the image, (items, count, axes), in voxels
    double tolerance;       // tolerance of the residual and of the remaining step, in voxels
};

struct MovedPoints {
    double* positions;  // the best positions found in the output, (items, count, axes)
    double* residuals;  // distances from the points to the source positions, (items, count); NaN without a position
    double* ratios;     // det J / det L there, (items, count): zero or negative in folds
};

// Inverts the map at points. Throws std::invalid_argument if an affine map has no inverse.
void move_points(const Movement& movement, const MovedPoints& moved, Executor& executor);

}  // namespace elasticnd
