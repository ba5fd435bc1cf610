// The determinant of the Jacobian at every voxel of a window.
#pragma once
#include "core/core.hpp"

namespace elasticnd {

constexpr int most_axes_of_determinants = 3;

struct DeterminantQuery {
    Geometry geometry;  // only its axes, extents, control points and window are used
    int64 items;
    const double* control_points;  // displacements of the control points, (items, axes, points ...)
    const double* linear;  // linear parts of inverse affine maps, (items or 1, axes, axes); null for the identity
    int64 linear_item_size;
};

// Fills `determinants`, (items, extents of the window ...).
void compute_determinants(const DeterminantQuery& query, double* determinants, Executor& executor);

}  // namespace elasticnd
