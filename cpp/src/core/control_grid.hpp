// The control grid in memory: from the displacements of its points to the coefficients of their spline, and back.
#pragma once
#include <vector>

#include "core/coefficients.hpp"
#include "kernels/table.hpp"

namespace elasticnd {

// The coefficients of one item: cubic, mirrored at the ends, one more on every side.
class ControlGrid {
   public:
    ControlGrid(const Geometry& geometry, const double* points, Executor& executor);
    const GridCoefficients& coefficients() const { return grid_coefficients_; }

   private:
    Coefficients coefficients_;
    GridCoefficients grid_coefficients_;
};

// Adds the transpose of ControlGrid, applied to a sum of gradients of its coefficients, to the gradient of the points.
// The sums, each shaped like the coefficients, are added in their order.
void add_points_gradient(const Geometry& geometry, const std::vector<double>& sums, double* points, Executor& executor);

}  // namespace elasticnd
