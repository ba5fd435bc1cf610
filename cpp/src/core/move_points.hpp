// Where points of the image go in the output: the map of a deformation, which leads the other way, inverted at points.
#pragma once
#include "core/core.hpp"

namespace elasticnd {

struct Movement {
    Geometry geometry;  // axes, extents of the frame and control points alone are used
    int64 items;
    int64 count;                   // points of each item
    const double* control_points;  // their displacements, (items, axes, points ...)
    const double* inverse_map;  // (items or 1, axes, axes + 1): from output to image, but for the field; null for none
    int64 inverse_map_item_size;
    const double* targets;  // points of the image, (items, count, axes), in voxels
    double tolerance;       // how far from a point, in voxels, its position may look, and what is left of its step
};

struct MovedPoints {
    double* positions;  // in the output, (items, count, axes): the best that were met
    double* residuals;  // how far from the points these look, (items, count); NaN without a position
    double* ratios;     // det J / det L there, (items, count): not positive in folds
};

// Inverts the map at points. Throws std::invalid_argument if an affine map has no inverse.
void move_points(const Movement& movement, const MovedPoints& moved, Executor& executor);

}  // namespace elasticnd
