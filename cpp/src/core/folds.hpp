// Whether the map of a deformation folds: guaranteed bounds of det J / det L, not at voxels alone but everywhere in a
// window.
#pragma once
#include "core/core.hpp"

namespace elasticnd {

struct FoldQuery {
    Geometry geometry;  // of axes, extents, control points and the window, which must not be empty
    int64 items;
    const double* control_points;  // their displacements, (items, axes, points ...)
    const double* forward;         // linear parts of the affine maps, (items or 1, axes, axes); null for the identity
    int64 forward_item_size;
    double tolerance;
};

// The least ratio lies between `lower` and `upper`. They differ by more than the tolerance if that took too long, or
// with more than three axes, where `upper` is infinite; then `converged` is false.
struct FoldBounds {
    double lower;
    double upper;
    bool converged;
};

void bound_folds(const FoldQuery& query, FoldBounds* bounds, Executor& executor);

// The largest factor up to 1, or somewhat less, by whose every part from 0 on the field can be multiplied so that the
// ratio is nowhere less than `margin`, which is below 1.
void find_largest_scales(const FoldQuery& query, double margin, double* scales, Executor& executor);

}  // namespace elasticnd
