// Whether the map of a deformation folds: guaranteed bounds of det J / det L everywhere in a window, not only at
// voxels.
#pragma once
#include "core/core.hpp"

namespace elasticnd {

struct FoldQuery {
    Geometry geometry;  // axes, extents, control points and the window, which must not be empty
    int64 items;
    const double* control_points;  // displacements of the control points, (items, axes, points ...)
    const double* forward;         // linear parts of the affine maps, (items or 1, axes, axes); null for the identity
    int64 forward_item_size;
    double tolerance;
};

// The smallest ratio lies between `lower` and `upper`. `converged` is false if they differ by more than the tolerance:
// if the search took too long, or with more than three axes, for which `upper` is infinite.
struct FoldBounds {
    double lower;
    double upper;
    bool converged;
};

void bound_folds(const FoldQuery& query, FoldBounds* bounds, Executor& executor);

// Finds the largest factor, up to 1, such that the field times this or any smaller factor keeps the ratio at or above
// `margin`, which is less than 1. The result may be slightly smaller.
void find_largest_scales(const FoldQuery& query, double margin, double* scales, Executor& executor);

}  // namespace elasticnd
