// The map of one item of a deformation, in the form that the kernels for single positions need.
#pragma once
#include <vector>

#include "core/control_grid.hpp"

namespace elasticnd {

// The number of cells of the control grid per voxel along an axis; 0 where the field is constant.
double cells_per_voxel(const Geometry& geometry, int axis);

// The layout of interleaved coefficients, for derivatives of some order.
EvaluationJob evaluation_job(const Geometry& geometry, int order);

// The coefficients with the components of each control point side by side, as the kernels need them; and the inverse.
std::vector<double> interleaved(const GridCoefficients& grid, int axes);
std::vector<double> separated(const std::vector<double>& together, int axes);

// The map of one item; `inverse_map` is null for the identity. Throws std::invalid_argument if the map has no inverse.
MapJob map_job(const Geometry& geometry, const double* inverse_map);

}  // namespace elasticnd
