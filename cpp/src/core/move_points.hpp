// Where points of the image go in the output: the inverse at points of a deformation's map, from output to image.
#pragma once
#include "core/core.hpp"

namespace elasticnd {

struct Movement {
    Geometry geometry;  // only axes, extents of the frame and control points are used
    int64 items;
    int64 count;                   // points of each item
    const double* control_points;  // their displacements, (items, axes, points ...)
    const double* inverse_map;  // (items or 1, axes, axes + 1): from output to image, without the field; null for none
    int64 inverse_map_item_size;
    const double* targets;  // points of the image, (items, count, axes), in voxels
    double tolerance;       // of the residual and of the remaining step, in voxels
};

struct MovedPoints {
    double* positions;  // in the output, (items, count, axes): the best ones found
    double* residuals;  // how far from the points these look, (items, count); NaN without a position
    double* ratios;     // det J / det L there, (items, count): zero or negative in folds
};

// Inverts the map at points. Throws std::invalid_argument if an affine map has no inverse.
void move_points(const Movement& movement, const MovedPoints& moved, Executor& executor);

}  // namespace elasticnd
